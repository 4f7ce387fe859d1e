"""Executors that the user brings: processes of every kind, threads, and a Dask cluster."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from memxlnet.data.cache_manager import ChunkedCacheManager
from memxlnet.data.process import StreamingSquadProcessor
from memxlnet.errors import BuildError, MemxlnetError, SettingsError
from tests.builder.hiding import blind, has_entries
from tests.builder.processes import SETTINGS, build, content, rows, server
from tests.builder.scripts.injected import children, chunk_files, environment, wait_until
from tests.golden.make_golden import golden_tokenizer
from tests.support import slow_but

# Python 3.12 and later warn of every fork of a process with threads.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "spawn": lambda: ProcessPoolExecutor(2, multiprocessing.get_context("spawn")),
    "forkserver": lambda: ProcessPoolExecutor(2, server()),
    "fork": lambda: ProcessPoolExecutor(2, multiprocessing.get_context("fork")),
    "threads": lambda: ThreadPoolExecutor(3),
}


@pytest.mark.parametrize("kind", slow_but(["threads"], EXECUTORS))
def test_an_executor_changes_no_byte_and_stays_the_users(
    tmp_path: Path, undisturbed: dict[str, bytes], kind: str
) -> None:
    with EXECUTORS[kind]() as executor:
        build(tmp_path / "one", executor=executor)
        build(tmp_path / "two", executor=executor, num_workers=1, streaming_chunk_size=1)
        with pytest.raises(MemxlnetError):  # nor does an error take it away
            build(tmp_path / "three", executor=executor, max_memory_gb=1e-6)
        assert executor.submit(os.getpid).result(30) > 0
    assert content(tmp_path / "one") == content(tmp_path / "two") == undisturbed


def test_the_processor_takes_an_executor(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("max_seq_length", "doc_stride", "streaming_chunk_size", "progress")
    with ThreadPoolExecutor(2) as executor:
        processor = StreamingSquadProcessor(
            golden_tokenizer(), executor=executor, **{name: SETTINGS[name] for name in names}
        )
        manager = ChunkedCacheManager(tmp_path, max_shard_rows=SETTINGS["max_shard_rows"])
        processor.process_dataset_streaming(rows(), "test", cache_manager=manager)
    assert content(tmp_path) == undisturbed


class Counting(ThreadPoolExecutor):
    """Counts what is in its hands at once."""

    most = 0
    now = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self.now += 1
        self.most = max(self.most, self.now)
        future.add_done_callback(self._less)
        return future

    def _less(self, _: object) -> None:
        self.now -= 1


@pytest.mark.parametrize("number", [1, 2])
def test_num_workers_bounds_the_chunks_in_an_executor(tmp_path: Path, number: int) -> None:
    with Counting(4) as executor:
        build(tmp_path, executor=executor, num_workers=number, streaming_chunk_size=1)
    assert 1 <= executor.most <= number


# --- executors that fail


def test_an_executor_that_is_shut_down_is_an_error(tmp_path: Path) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.raises(BuildError, match="RuntimeError"):
        build(tmp_path, executor=executor)


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(104, "reset"), LookupError("mine")], ids=repr)
def test_an_executor_that_refuses_work_is_an_error(tmp_path: Path, error: Exception) -> None:
    class Refusing(Executor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            raise error

    with pytest.raises(BuildError, match=type(error).__name__) as caught:
        build(tmp_path, executor=Refusing())
    # A fork server that cannot load a main script without a guard ends, and that is all that is seen of it.
    assert ("`if __name__ == '__main__':`" in str(caught.value)) == (not isinstance(error, LookupError))


class Unfit:
    """Has the methods of an executor but is not one."""

    def submit(self, *_: Any) -> None: ...

    def map(self, *_: Any) -> None: ...


@pytest.mark.parametrize(
    ("value", "kind"), [(Unfit(), "Unfit"), (ThreadPoolExecutor, "type"), (4, "int"), ("threads", "str")]
)
def test_another_object_than_an_executor_is_refused_before_any_work(tmp_path: Path, value: Any, kind: str) -> None:
    with pytest.raises(SettingsError, match=rf"^executor:.*\b{kind}$"):
        build(tmp_path, executor=value)
    assert not list(tmp_path.iterdir())


def test_no_worker_for_an_executor_is_refused(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(SettingsError, match=r"^num_workers:.*0$"):
        build(tmp_path, executor=executor, num_workers=0)


def _die(cache_dir: Path) -> None:
    """In a process of an executor: end in the third chunk, once two are finished."""
    from memxlnet.builder import chunk_encoding as tasks

    plain = tasks.encode_in_parts

    def encode_in_parts(encoder: Any, settings: Any, examples: Any, part_cost: int) -> Any:
        if examples[0].id == "id-6":
            wait_until(lambda: len(chunk_files(cache_dir)) >= 2, "two chunks are finished")
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(encoder, settings, examples, part_cost)

    tasks.encode_in_parts = encode_in_parts


def test_a_killed_process_of_an_executor_is_an_error_and_the_next_build_resumes(
    tmp_path: Path, undisturbed: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    before = children()
    context = multiprocessing.get_context("fork")
    with (
        ProcessPoolExecutor(2, context, initializer=_die, initargs=(tmp_path,)) as executor,
        pytest.raises(BuildError, match="BrokenProcessPool"),
    ):
        build(tmp_path, executor=executor)
    finished = len(chunk_files(tmp_path))
    assert 2 <= finished <= 3
    assert children() <= before
    with caplog.at_level("INFO", "memxlnet"), ProcessPoolExecutor(2, context) as executor:
        build(tmp_path, executor=executor)
    assert f"resuming with {finished} finished chunks" in caplog.text
    assert content(tmp_path) == undisturbed


def test_an_error_cancels_what_has_not_begun(tmp_path: Path) -> None:
    raw = [*rows(), {**rows()[0], "id": "wordy", "question": "who " * 60}]
    submitted: list[Future[Any]] = []

    class Recording(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            submitted.append(super().submit(fn, *args, **kwargs))
            return submitted[-1]

    processor = StreamingSquadProcessor(golden_tokenizer(), 32, 8, 1, progress=False, executor=(one := Recording(1)))
    with one, pytest.raises(MemxlnetError, match="wordy"):
        processor.process_dataset_streaming(raw, "test", cache_manager=ChunkedCacheManager(tmp_path))
    assert all(future.done() for future in submitted)


# --- Dask


class Cluster:
    """A scheduler and workers of Dask, each a process of its own, on loopback."""

    def __init__(self, folder: Path, client: Any, workers: list["subprocess.Popen[bytes]"]):
        self.folder = folder
        self.client = client
        self.workers = workers


@contextmanager
def cluster(folder: Path, num_workers: int, hidden: Path | None = None) -> Iterator[Cluster]:
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install 'memxlnet[distributed]'")
    address = folder / "scheduler.json"
    common = ["--scheduler-file", str(address), "--host", "127.0.0.1", "--no-dashboard"]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "dask.log").open("wb"))

        def start(name: str, *options: str) -> "subprocess.Popen[bytes]":
            command = [sys.executable, "-m", f"distributed.cli.{name}", *common, *options]
            if hidden is not None and name == "dask_worker":
                command = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs none {hidden} && exec "$@"', "sh", *command]
            process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        start("dask_scheduler", "--port", "0")
        workers = [
            start("dask_worker", "--nthreads", "1", "--no-nanny", "--local-directory", str(folder / f"local-{number}"))
            for number in range(num_workers)
        ]
        wait_until(lambda: address.exists() and address.read_text().endswith("}"), "the scheduler starts")
        client = stack.enter_context(distributed.Client(json.loads(address.read_text())["address"]))
        client.wait_for_workers(num_workers, timeout=60)
        yield Cluster(folder, client, workers)


def _patch(name: str, cache_dir: str) -> None:
    """In a worker of Dask: let the work of some chunks fail or wait."""
    from memxlnet.builder import chunk_encoding as tasks

    plain = getattr(tasks, "_plain", None) or vars(tasks)["write_chunk"]
    tasks._plain = plain  # type: ignore[attr-defined]

    def write_chunk(directory: Path, index: int, tables: Any) -> Any:
        if index >= 2 and name == "full":
            wait_until(lambda: len(chunk_files(Path(cache_dir))) == 2, "the two before are finished")
            raise OSError(28, "No space left on device")
        if index >= 2 and name == "wait":
            wait_until(lambda: Path(cache_dir, "go").exists(), "the test lets go")
        return plain(directory, index, tables)

    vars(tasks)["write_chunk"] = write_chunk


@pytest.mark.slow
def test_a_dask_cluster_changes_no_byte_and_stays_the_users(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    with cluster(tmp_path, 2) as found:
        executor = found.client.get_executor()
        build(tmp_path / "cache", executor=executor)
        assert content(tmp_path / "cache") == undisturbed
        build(tmp_path / "cache", executor=executor, rebuild=True)
        assert content(tmp_path / "cache") == undisturbed
        with pytest.raises(SettingsError, match=r"^executor:.*get_executor.*Client$"):
            build(tmp_path / "cache", executor=found.client)
        # A failure is not reported again when its cause has gone, though the error is still held.
        found.client.run(_patch, "full", str(tmp_path / "other"))
        with pytest.raises(BuildError, match="No space left") as held:
            build(tmp_path / "other", executor=executor)
        assert len(chunk_files(tmp_path / "other")) == 2
        found.client.run(_patch, "none", "")
        build(tmp_path / "other", executor=executor)
        assert held.value.__traceback__ is not None
        assert content(tmp_path / "other") == undisturbed
        assert executor.submit(os.getpid).result(30) in {worker.pid for worker in found.workers}
    with pytest.raises(BuildError, match=r"[Cc]lient"):
        build(tmp_path / "late", executor=executor)


@pytest.mark.slow
@pytest.mark.parametrize("has_scratch", [False, True])
def test_a_dask_cluster_without_the_directory_changes_no_byte(
    tmp_path: Path, undisturbed: dict[str, bytes], has_scratch: bool
) -> None:
    hidden = tmp_path / "cache"
    with blind(hidden):  # skips where nothing can be hidden
        options = {"scratch": (tmp_path / "scratch").as_uri()} if has_scratch else {}
    with cluster(tmp_path, 2, hidden) as found:
        build(hidden, executor=found.client.get_executor(), **options)
        assert found.client.run(has_entries, str(hidden)).values()
        assert not any(found.client.run(has_entries, str(hidden)).values())
    assert content(hidden) == undisturbed


@pytest.mark.slow
def test_a_lost_worker_of_dask_without_the_directory_loses_nothing(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    hidden = tmp_path / "cache"
    with blind(hidden):
        pass
    with cluster(tmp_path, 2, hidden) as found, ThreadPoolExecutor(1) as background:
        executor = found.client.get_executor()
        running = background.submit(build, hidden, executor=executor, streaming_chunk_size=1)
        wait_until(lambda: len(chunk_files(hidden)) >= 2, "two chunks are finished")
        found.workers[0].kill()
        running.result(60)
    assert content(hidden) == undisturbed


@pytest.mark.slow
def test_a_lost_worker_of_dask_loses_no_finished_chunk(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    cache_dir = tmp_path / "cache"
    with cluster(tmp_path, 2) as found, ThreadPoolExecutor(1) as background:
        found.client.run(_patch, "wait", str(tmp_path))
        building = background.submit(build, cache_dir, executor=found.client.get_executor(), streaming_chunk_size=2)
        wait_until(lambda: len(chunk_files(cache_dir)) == 2, "two chunks are finished")
        before = [(path.name, path.stat().st_ino) for path in chunk_files(cache_dir)]
        wait_until(lambda: len(found.client.processing()) == 2 and all(found.client.processing().values()), "both work")
        found.workers[0].kill()
        found.workers[0].wait()
        time.sleep(0.2)
        assert [(path.name, path.stat().st_ino) for path in chunk_files(cache_dir)] == before
        (tmp_path / "go").touch()
        building.result(60)
    assert content(cache_dir) == undisturbed


@pytest.mark.slow
def test_the_scheduler_of_dask_may_be_lost(tmp_path: Path) -> None:
    with cluster(tmp_path, 1) as found, closing(found.client):
        found.client.shutdown()
        with pytest.raises(BuildError):
            build(tmp_path / "cache", executor=found.client.get_executor())


class Cancelling(Executor):
    """Holds what it is given, and cancels it without a word."""

    def submit(self, *_: Any, **__: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        future.cancel()
        return future


def test_chunks_that_an_executor_cancels_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="CancelledError"):
        build(tmp_path, executor=Cancelling())


class Odd(Executor):
    """Gives what no executor gives."""

    def __init__(self, given: Any):
        self._given = given

    def submit(self, *_: Any, **__: Any) -> Any:
        return self._given


def test_an_executor_that_returns_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"concurrent\.futures\.Future.*\bint\b"):
        build(tmp_path, executor=Odd(5))
    answered: Future[Any] = Future()
    answered.set_result({"other": 1})
    with pytest.raises(BuildError, match="'other'"):
        build(tmp_path, executor=Odd(answered))
