"""A build whose examples are a DataFrame of Spark, and whose chunks its workers encode into a scratch store."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from memxlnet.cache import Cache
from memxlnet.engines.spark_executor import SparkExecutor, first_line, spark_failures
from memxlnet.errors import SettingsError, SourceError
from memxlnet.settings import DEFAULT_CACHE_DIR

_ROWS = 256
"""Rows that travel to the driver in one message."""


class _Rows:
    """The rows of a DataFrame as mappings, read partition by partition each time."""

    def __init__(self, frame: Any):
        self._frame = frame

    def __iter__(self) -> Iterator[dict[str, Any]]:
        names = self._frame.columns
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise SourceError(f"examples: expected columns of different names, found {repeated} more than once")
        try:
            # By number: `mapInArrow` looks columns up by name, and cannot find one with a dot in it.
            numbered = self._frame.toDF(*map(str, range(len(names))))
            # As Arrow, rows cost the driver a fifth of what rows of Spark do.
            packed = numbered.mapInArrow(_pack_rows, "rows binary")
            for message in packed.toLocalIterator(prefetchPartitions=True):
                with pa.ipc.open_stream(message.rows) as reader:
                    yield from reader.read_all().rename_columns(names).to_pylist(maps_as_pydicts="strict")
        except spark_failures() as error:
            raise SourceError(f"examples: the DataFrame of Spark cannot be read: {first_line(error)}") from error


def _pack_rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Pack rows for the driver. Runs in a worker."""
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch.slice(start, _ROWS))
            yield pa.record_batch({"rows": pa.array([sink.getvalue().to_pybytes()], pa.binary())})


def build_dataframe(
    examples: Any,
    tokenizer: Any,
    *,
    scratch: str,
    scratch_options: Mapping[str, Any] | None = None,
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    max_tasks: int | None = None,
    **settings: Any,
) -> Cache:
    """Build the cache of a DataFrame of examples with its Spark cluster, and open it.

    The driver reads the rows in their order, partition by partition, numbers and checks them, and holds a few chunks
    at a time. They go back to the workers as the rows of DataFrames, one chunk each; `mapInArrow` encodes them there
    into the scratch store, from which the driver fetches and publishes them.

    The order of the rows is that of the documents: sort a DataFrame whose order is not fixed. Rows are read twice, the
    first time for the digest that identifies them; once with ``identity=``, a text that changes whenever they do.

    Args:
        examples: A `pyspark.sql.DataFrame`: rows with ``id``, ``question``, ``context`` and ``answers``, or of a form
            that `Cache.build` knows.
        tokenizer: A transformers fast tokenizer.
        scratch: URL of a place in a store that the driver and all workers reach.
        scratch_options: Options of its file system, such as credentials; never stored or shown.
        cache_dir: Directory of all caches, on the driver.
        max_tasks: Chunks of a job of Spark at most; see `SparkExecutor`.
        **settings: Further arguments of `Cache.build`.

    Raises:
        SettingsError: An argument is wrong.
        SourceError: The rows cannot be read.
        MemxlnetError: As `Cache.build`.
    """
    if not hasattr(examples, "sparkSession") or not hasattr(examples, "toLocalIterator"):
        raise SettingsError(f"examples: expected a DataFrame of Spark, found a {type(examples).__name__}")
    if not isinstance(scratch, str):
        raise SettingsError(f"scratch: expected the URL of a place in a store, found {scratch!r}")
    with SparkExecutor(examples.sparkSession, max_tasks) as executor:
        return Cache.build(
            _Rows(examples),
            tokenizer,
            cache_dir=cache_dir,
            scratch=scratch,
            scratch_options=scratch_options,
            executor=executor,
            # Those of two jobs, and those of the next one, which wait or are fetched.
            num_workers=3 * executor.max_tasks,
            **settings,
        )
