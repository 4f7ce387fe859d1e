"""Spark as an executor: each call is a job of one task.

A job over an RDD takes about half the time of one with `mapInArrow`, and Spark serializes what it is given either way.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from memxlnet.errors import MissingLibraryError, SettingsError


class SparkExecutor(ThreadPoolExecutor):
    """Runs each call as a job of one task of a Spark application.

    Spark runs a task again where its Python worker or its executor is lost, up to ``spark.task.maxFailures`` times.
    Workers need memxlnet. Threads of this process wait for the jobs. The session stays the caller's.

    Args:
        spark: A `pyspark.sql.SparkSession`; one of Spark Connect has no RDDs.
        max_jobs: Jobs at once; None is the number of cores that the application has now.

    Attributes:
        max_jobs: Jobs at once.

    Raises:
        MissingLibraryError: PySpark is not installed.
        SettingsError: An argument is wrong, or the session is stopped.
    """

    def __init__(self, spark: Any, max_jobs: int | None = None):
        try:
            from py4j.protocol import Py4JError
            from pyspark.sql import SparkSession
        except ImportError as error:
            message = "SparkExecutor: expected PySpark, found none; pip install 'memxlnet[spark]'"
            raise MissingLibraryError(message) from error
        if not isinstance(spark, SparkSession):
            raise SettingsError(
                f"SparkExecutor: expected a pyspark.sql.SparkSession (of Spark Connect: a classic one instead), found "
                f"{type(spark).__module__}.{type(spark).__name__}"
            )
        if max_jobs is not None and (isinstance(max_jobs, bool) or not isinstance(max_jobs, int) or max_jobs < 1):
            raise SettingsError(f"max_jobs: expected None or an integer of at least 1, found {max_jobs!r}")
        try:
            self._context = spark.sparkContext
            cores = self._context.defaultParallelism
        except (AttributeError, OSError, Py4JError) as error:
            raise SettingsError("SparkExecutor: expected a running session, found one that is stopped") from error
        self._failures = Py4JError
        self.max_jobs: int = max_jobs or cores
        super().__init__(self.max_jobs, "memxlnet-spark")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run a call as a job; function, arguments and result are serialized by Spark.

        Raises:
            RuntimeError: The executor is shut down.
        """
        return super().submit(self._run, partial(_outcome, fn, args, kwargs))

    def _run(self, task: Callable[[Any], Any]) -> Any:
        try:
            ((is_error, outcome),) = self._context.parallelize([None], 1).map(task).collect()
        except self._failures as error:
            # The text of the whole has pages of frames of the JVM.
            found = getattr(error, "java_exception", None)
            reason = str(found.getMessage() if found is not None else error)
            raise RuntimeError(f"the job of Spark failed: {reason.partition(chr(10))[0]}") from error
        if is_error:
            raise outcome
        return outcome


def _outcome(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> tuple[bool, Any]:
    """Return whether a call raised, and its result or error: Spark would run it again, and turn the error into text."""
    try:
        return False, fn(*args, **kwargs)
    except Exception as error:
        return True, error
