"""A Spark application with executors of its own on this machine as the executor of a build."""

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from memxlnet.engines import SparkExecutor, spark_executor
from memxlnet.errors import BuildError, MissingLibraryError, SettingsError
from tests.builder.processes import build, content
from tests.builder.scripts.injected import wait_until
from tests.engines.killing import Noting


def test_without_spark_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'memxlnet\[spark\]'"):
        SparkExecutor(None)


def _start(master: str) -> Any:
    pyspark = pytest.importorskip("pyspark.sql", reason="needs Spark: pip install 'memxlnet[spark]'")
    if shutil.which("java") is None:
        pytest.skip("needs Java for Spark")
    builder = pyspark.SparkSession.builder.master(master)
    settings = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        session = _start("local-cluster[2,1,1024]")
        yield session
        session.stop()
    with pytest.raises(SettingsError, match="stopped"):
        SparkExecutor(session)


pytestmark = [
    # Of the sockets between Python and the JVM, and of pandas 3.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:pyspark"),
]


@pytest.mark.slow
def test_a_spark_cluster_changes_no_byte_and_stays_the_users(
    spark: Any, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    with SparkExecutor(spark, 2) as executor:
        noting = Noting(executor, tmp_path / "notes", tmp_path / "cache")
        build(tmp_path / "cache", executor=noting)
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(60)
        assert executor.submit(os.getpid).result(60) > 0
    assert content(tmp_path / "cache") == undisturbed
    assert noting.runs() == [0, 1, 2, 3]
    assert os.getpid() not in noting.processes()
    with pytest.raises(BuildError, match="shutdown"):
        build(tmp_path / "late", executor=executor)
    assert spark.sparkContext.defaultParallelism >= 2


@pytest.mark.slow
@pytest.mark.parametrize("generation", [0, 2], ids=["its Python worker", "its executor"])
def test_a_killed_worker_of_spark_loses_nothing(
    spark: Any, tmp_path: Path, undisturbed: dict[str, bytes], generation: int
) -> None:
    with SparkExecutor(spark, 2) as executor:
        noting = Noting(executor, tmp_path / "notes", tmp_path / "cache", killed=1, generation=generation)
        build(tmp_path / "cache", executor=noting)
    assert content(tmp_path / "cache") == undisturbed
    assert noting.runs() == [0, 1, 1, 2, 3]  # only the killed one twice


@pytest.mark.slow
def test_a_job_that_fails_for_good_is_an_error_and_the_next_build_resumes(
    spark: Any, tmp_path: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with SparkExecutor(spark, 2) as executor:
        noting = Noting(executor, tmp_path / "notes", tmp_path / "cache", killed=1, always=True)
        with pytest.raises(BuildError, match=r"Spark failed: Job aborted.* failed 4 times"):
            build(tmp_path / "cache", executor=noting)
        with caplog.at_level("INFO", "memxlnet"):
            build(tmp_path / "cache", executor=executor)
    assert "resuming with" in caplog.text
    assert content(tmp_path / "cache") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [0, -1, True, "2", 1.5], ids=repr)
def test_another_number_of_tasks_is_refused(spark: Any, tasks: Any) -> None:
    with pytest.raises(SettingsError, match=r"^max_tasks:"):
        SparkExecutor(spark, tasks)


@pytest.mark.slow
def test_calls_that_wait_share_a_job_and_each_has_its_own_outcome(spark: Any, tmp_path: Path) -> None:
    tracker = spark.sparkContext.statusTracker()
    before = len(tracker.getJobIdsForGroup())
    with SparkExecutor(spark, 4) as executor:
        begun = _begin_two_jobs(executor, tmp_path / "go")
        calls = [executor.submit(divmod, 9, number) for number in range(6)]
        cancelled = executor.submit(divmod, 9, 9)
        assert cancelled.cancel()
        (tmp_path / "go").touch()
        assert [call.result(60) for call in begun] == [None, None]
        assert [call.result(60) for call in calls[1:]] == [divmod(9, number) for number in range(1, 6)]
        assert isinstance(calls[0].exception(60), ZeroDivisionError)
    assert len(tracker.getJobIdsForGroup()) == before + 4  # 7 calls that waited, of which 4 and 3 were taken


class _TwoArgumentsError(Exception):
    def __init__(self, one: int, two: int):
        super().__init__(f"{one} and {two}")


def _raise_of_two_arguments() -> None:
    raise _TwoArgumentsError(1, 2)


def _raise_with_lock() -> None:
    error = ValueError("holds a lock")
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    raise error


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (_raise_of_two_arguments, r"_TwoArgumentsError\('1 and 2'\): TypeError: .*'two'"),
        (_raise_with_lock, r"ValueError\('holds a lock'\): PicklingError: .*cannot pickle"),
        (threading.Lock, r"<unlocked _thread.lock object .*: PicklingError: .*cannot pickle"),
    ],
    ids=["not read", "not written", "result"],
)
def test_an_outcome_that_cannot_be_sent_is_an_error_of_its_call_alone(call: Any, text: str) -> None:
    serializer = pytest.importorskip("pyspark.serializers").CloudPickleSerializer()
    packed = pa.array([serializer.dumps(partial(each)) for each in (call, partial(divmod, 9, 2))], pa.binary())
    (batch,) = spark_executor._run_calls(iter([pa.record_batch({"call": packed})]))
    failed, fine = [serializer.loads(outcome) for outcome in batch["outcome"].to_pylist()]
    assert fine == (False, (4, 1))
    assert failed[0]
    with pytest.raises(RuntimeError, match=f"^the outcome of a call cannot be sent: {text}"):
        raise failed[1]


def _begin_two_jobs(executor: SparkExecutor, go: Path) -> list[Any]:
    begun = []
    for _ in range(2):
        begun.append(executor.submit(_wait_for, go))
        wait_until(lambda: not executor._waiting, "a job has taken the call")  # else one job may take both
    return begun


def _wait_for(go: Path) -> None:
    wait_until(go.exists, "the test lets go")


@pytest.mark.slow
def test_each_call_of_a_job_has_a_task(spark: Any) -> None:
    settings = dict(spark.conf.getAll)
    with SparkExecutor(spark, 5) as executor:
        outcomes = executor._run_job([executor._serializer.dumps(_task)] * 5)
    assert len({outcome for _, outcome in outcomes}) == 5  # also where there are fewer cores
    assert dict(spark.conf.getAll) == settings


def _task() -> Any:
    context = pytest.importorskip("pyspark").TaskContext.get()
    return context.taskAttemptId()


@pytest.mark.slow
def test_calls_that_no_job_has_taken_are_cancelled_at_shutdown(spark: Any, tmp_path: Path) -> None:
    executor = SparkExecutor(spark, 1)
    begun = _begin_two_jobs(executor, tmp_path / "go")
    waiting = executor.submit((tmp_path / "late").touch)
    executor.shutdown(wait=False, cancel_futures=True)
    assert waiting.cancelled()
    (tmp_path / "go").touch()
    executor.shutdown()
    assert [call.result(0) for call in begun] == [None, None]
    assert not (tmp_path / "late").exists()


@pytest.mark.slow
def test_another_object_than_a_session_is_refused(spark: Any) -> None:
    with pytest.raises(SettingsError, match=r"SparkSession.*SparkContext$"):
        SparkExecutor(spark.sparkContext)
