"""A build whose examples are a DataFrame of Spark, and whose chunks its workers encode into a scratch store."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from memxlnet.cache import Cache
from memxlnet.engines.spark_executor import SparkExecutor
from memxlnet.errors import SettingsError
from memxlnet.settings import DEFAULT_CACHE_DIR


class _Rows:
    """The rows of a DataFrame as mappings, read partition by partition each time."""

    def __init__(self, frame: Any):
        self._frame = frame

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self._frame.toLocalIterator(prefetchPartitions=True):
            yield row.asDict(recursive=True)


def build_dataframe(
    examples: Any,
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
        examples: A `pyspark.sql.DataFrame`: rows with ``id``, ``question``, ``context`` and ``answers``, or of a form
            that `Cache.build` knows.
        tokenizer: A transformers fast tokenizer.
        scratch: URL of a place in a store that the driver and all workers reach.
        scratch_options: Options of its file system, such as credentials; never stored or shown.
        cache_dir: Directory of all caches, on the driver.
        jobs: Jobs of Spark at once, one for each chunk; None is the number of cores that the application has now.
        **settings: Further arguments of `Cache.build`.

    Raises:
        SettingsError: An argument is wrong.
        MemxlnetError: As `Cache.build`.
    """
    if not hasattr(examples, "sparkSession") or not hasattr(examples, "toLocalIterator"):
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
            # More than there are jobs: some chunks wait, or are fetched.
            num_workers=executor.max_jobs * 5 // 4 + 1,
            **settings,
        )
