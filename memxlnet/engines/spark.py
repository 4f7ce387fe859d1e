"""Spark: a build whose examples are a DataFrame, and whose chunks its executors encode into a scratch store."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from memxlnet.cache import Cache
from memxlnet.errors import SettingsError
from memxlnet.settings import DEFAULT_CACHE_DIR


class SparkExecutor(Executor):
    """Runs each call as a Spark job of one task. Spark itself runs a task again whose worker died.

    Args:
        session: The session.
        jobs: Jobs at once; by default twice the cores that Spark has now.
    """

    def __init__(self, session: SparkSession, jobs: int | None = None):
        self.jobs = jobs or 2 * max(session.sparkContext.defaultParallelism, 1)
        self._session = session
        self._threads = ThreadPoolExecutor(self.jobs, "memxlnet-spark")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call whose result is JSON.

        Raises:
            RuntimeError: The executor is shut down.
        """
        return self._threads.submit(self._run, partial(fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; the session stays.

        Args:
            wait: Wait for those under way.
            cancel_futures: Cancel those that have not begun.
        """
        self._threads.shutdown(wait, cancel_futures=cancel_futures)

    def _run(self, call: Callable[[], Any]) -> Any:
        (row,) = self._session.range(0, 1, 1, 1).mapInArrow(partial(_answers, call), "answer string").collect()
        return json.loads(row["answer"])


def _answers(call: Callable[[], Any], batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Make the call for each row. Runs in a worker."""
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"answer": [json.dumps(call()) for _ in range(batch.num_rows)]})


class _Rows:
    """The rows of a DataFrame as mappings, read partition by partition each time."""

    def __init__(self, frame: DataFrame):
        self._frame = frame

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self._frame.toLocalIterator(prefetchPartitions=True):
            yield row.asDict(recursive=True)


def build(
    examples: DataFrame,
    tokenizer: Any,
    *,
    scratch: str,
    scratch_options: Mapping[str, Any] | None = None,
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    jobs: int | None = None,
    **settings: Any,
) -> Cache:
    """Build the cache of a DataFrame of examples with its Spark cluster, and open it.

    The driver reads the rows in their order, partition by partition, numbers and checks them, and holds a few chunks
    at a time. The workers encode them into the scratch store, from which the driver fetches and publishes them. The
    order of the rows is that of the documents: sort a DataFrame whose order is not fixed.

    Args:
        examples: Rows with ``id``, ``question``, ``context`` and ``answers``, or of a form that `Cache.build` knows.
        tokenizer: A transformers fast tokenizer.
        scratch: URL of a place in a store that the driver and all workers reach.
        scratch_options: Options of its file system, such as credentials; never stored or shown.
        cache_dir: Directory of all caches, on the driver.
        jobs: Chunks in work at once; by default twice the cores that Spark has now.
        **settings: Further arguments of `Cache.build`.

    Raises:
        SettingsError: An argument is wrong.
        MemxlnetError: As `Cache.build`.
    """
    if not isinstance(examples, DataFrame):
        raise SettingsError(f"examples: expected a DataFrame of Spark, found a {type(examples).__name__}")
    if not isinstance(scratch, str):
        raise SettingsError(f"scratch: expected the URL of a place in a store, found {scratch!r}")
    with SparkExecutor(examples.sparkSession, jobs) as executor:
        return Cache.build(
            _Rows(examples),
            tokenizer,
            cache_dir=cache_dir,
            scratch=scratch,
            scratch_options=scratch_options,
            executor=executor,
            num_workers=executor.jobs,
            **settings,
        )
