"""Spark as an executor: calls are the rows of a DataFrame, and `mapInArrow` runs each in a separate task.

Jobs over an RDD take less of the JVM's time, which shows where chunks are small.
"""

import gc
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa

from memxlnet.errors import MissingLibraryError, SettingsError

_JOBS = 2
"""Jobs at once: the tasks of the next one take the cores that the slowest tasks of the one before leave."""

_FEWEST_TASKS = 4
"""Tasks of a job where there are fewer cores: a job costs about as much as a task."""

_Call = tuple["Future[Any]", bytes]

_frozen_modules = 0


class SparkExecutor(Executor):
    """Runs calls as tasks of a Spark application, in jobs of the calls that wait.

    Each call is a row of a DataFrame in a partition of its own; `mapInArrow` runs it. Spark runs a task again where its
    Python worker or its executor is lost, up to ``spark.task.maxFailures`` times; beyond that its job fails, which is
    an error of all calls of the job. Results arrive when their job is done. Workers need memxlnet. The session stays
    the caller's.

    Args:
        spark: A `pyspark.sql.SparkSession`, not one of Spark Connect.
        max_tasks: Calls of a job at most; two jobs run at once. None is the number of cores that the application has
            now, and at least 4.

    Attributes:
        max_tasks: Calls of a job at most.

    Raises:
        MissingLibraryError: PySpark or pandas, which `mapInArrow` needs, is not installed.
        SettingsError: An argument is wrong, or the session is stopped.
    """

    def __init__(self, spark: Any, max_tasks: int | None = None):
        try:
            import pandas  # noqa: F401
            from pyspark.serializers import CloudPickleSerializer
            from pyspark.sql import SparkSession
        except ImportError as error:
            message = "SparkExecutor: expected PySpark and pandas, found not both; pip install 'memxlnet[spark]'"
            raise MissingLibraryError(message) from error
        if not isinstance(spark, SparkSession):
            raise SettingsError(
                f"SparkExecutor: expected a pyspark.sql.SparkSession (of Spark Connect: a classic one instead), found "
                f"{type(spark).__module__}.{type(spark).__name__}"
            )
        if max_tasks is not None and (isinstance(max_tasks, bool) or not isinstance(max_tasks, int) or max_tasks < 1):
            raise SettingsError(f"max_tasks: expected None or an integer of at least 1, found {max_tasks!r}")
        try:
            cores = spark.sparkContext.defaultParallelism
        except spark_failures() as error:
            raise SettingsError("SparkExecutor: expected a running session, found one that is stopped") from error
        self.max_tasks: int = max_tasks or max(cores, _FEWEST_TASKS)
        # In a session with separate settings: a batch of any size becomes a partition, and a partition a task.
        self._spark = spark.newSession()
        self._spark.conf.set("spark.sql.execution.arrow.localRelationThreshold", "0b")
        self._serializer = CloudPickleSerializer()
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._jobs = ThreadPoolExecutor(_JOBS, "memxlnet-spark")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Run a call in one of the next jobs; function and arguments are serialized now.

        Raises:
            RuntimeError: The executor is shut down.
        """
        future: Future[Any] = Future()
        call = self._serializer.dumps(partial(fn, *args, **kwargs))
        with self._lock:
            self._jobs.submit(self._run_waiting)
            self._waiting.append((future, call))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; the session keeps running.

        Args:
            wait: Return when all calls are done.
            cancel_futures: Cancel the calls that no job has taken.
        """
        if cancel_futures:
            with self._lock:
                for future, _ in self._waiting:
                    future.cancel()
        self._jobs.shutdown(wait)

    def _run_waiting(self) -> None:
        """Run the calls that wait as one job; an earlier job may have taken them."""
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(self.max_tasks, len(self._waiting)))]
        calls = [call for call in taken if call[0].set_running_or_notify_cancel()]
        if not calls:
            return
        try:
            ended = list(zip(calls, self._run_job([packed for _, packed in calls]), strict=True))
        except BaseException as error:
            for future, _ in calls:
                future.set_exception(error)
            return
        for (future, _), (is_error, outcome) in ended:
            if is_error:
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

    def _run_job(self, calls: Sequence[bytes]) -> list[tuple[bool, Any]]:
        table = pa.Table.from_batches(pa.record_batch({"call": pa.array([call], pa.binary())}) for call in calls)
        try:
            rows = self._spark.createDataFrame(table).mapInArrow(_run_calls, "outcome binary").collect()
        except spark_failures() as error:
            raise RuntimeError(f"the job of Spark failed: {first_line(error)}") from error
        return [self._serializer.loads(row.outcome) for row in rows]


def spark_failures() -> tuple[type[Exception], ...]:
    """Return the errors that PySpark raises for what fails in Spark, and for what is asked of a stopped session."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    return Py4JError, PySparkException, AttributeError, OSError


def first_line(error: Exception) -> str:
    """Return the reason of an error of Spark; the whole text has pages of frames of the JVM."""
    found = getattr(error, "java_exception", None)
    while found is not None and found.getCause() is not None and "awaitResult" in str(found.getMessage()):
        found = found.getCause()  # of a thread of the JVM that waited for another one
    return str(error if found is None else found.getMessage()).partition("\n")[0]


def _run_calls(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Run the calls of a partition. Runs in a worker."""
    from pyspark.serializers import CloudPickleSerializer

    serializer = CloudPickleSerializer()
    for batch in batches:
        calls = [call.as_buffer() for call in batch.column("call")]
        outcomes = [_packed_outcome(serializer, call) for call in calls]
        yield pa.record_batch({"outcome": pa.array(outcomes, pa.binary())})


def _packed_outcome(serializer: Any, call: pa.Buffer) -> bytes:
    """Run a call; return its outcome packed, which the driver can unpack: else it would be an error of all calls."""
    is_error, outcome = _outcome(serializer.loads, call)
    try:
        packed: bytes = serializer.dumps((is_error, outcome))
        if is_error:
            serializer.loads(packed)
        return packed
    except Exception as error:
        message = f"the outcome of a call cannot be sent: {outcome!r:.500}: {type(error).__name__}: {error}"
        return bytes(serializer.dumps((True, RuntimeError(message))))


def _outcome(load: Callable[[pa.Buffer], Callable[[], Any]], call: pa.Buffer) -> tuple[bool, Any]:
    """Return whether a call raised, and its result or error: Spark would run it again, and turn the error into text."""
    try:
        return False, load(call)()
    except Exception as error:
        return True, error
    finally:
        _freeze_modules()


def _freeze_modules() -> None:
    """Take what the process has loaded out of garbage collection.

    A worker of Spark collects garbage after each task, and goes through all modules: longer than encoding a chunk.
    """
    global _frozen_modules
    if len(sys.modules) != _frozen_modules:
        _frozen_modules = len(sys.modules)
        gc.freeze()
