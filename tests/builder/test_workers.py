"""Worker processes: what they load and are sent, scripts without a main guard, signals, and one giant document."""

import importlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from memxlnet.builder import worker_messages
from memxlnet.builder import worker_pool as pool
from memxlnet.builder.chunk_encoding import unpack
from memxlnet.builder.chunking import Chunk
from memxlnet.builder.running_build import Run
from memxlnet.builder.worker_pool import WorkerDiedError, WorkerPool
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.encode.examples import Example
from memxlnet.errors import BuildError, MemxlnetError
from tests.builder.processes import build, build_interruptible, content, published, rows, start
from tests.builder.scripts import long_build
from tests.builder.scripts.injected import (
    Injection,
    children,
    chunk_files,
    environment,
    run_script,
    wait_until,
)
from tests.golden.make_golden import golden_tokenizer
from tests.support import ROOT, WAIT_SECONDS, long_examples, slow

SCRIPTS = Path(__file__).parent / "scripts"


# --- the result


@pytest.mark.parametrize(
    "changes",
    [
        slow({"num_workers": 1}),
        {"num_workers": 2},
        slow({"num_workers": 7}),  # more than chunks
        slow({"num_workers": 3, "streaming_chunk_size": 1}),
        slow({"num_workers": 2, "streaming_chunk_size": 100}),
        slow({"num_workers": 2, "max_memory_gb": 2.0}),
        slow({"num_workers": 2, "use_streaming": False}),
    ],
    ids=str,
)
def test_workers_change_no_byte(tmp_path: Path, undisturbed: dict[str, bytes], changes: dict[str, Any]) -> None:
    before = children()
    build(tmp_path, **changes)
    assert children() <= before
    assert content(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_build_resumes_with_another_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    code = "def at_work(ids):\n    if ids[0] == 'id-6':\n        wait_for_chunks(2)\n        raise ValueError('once')"
    cache_dir = tmp_path / "cache"
    with monkeypatch.context() as patched:
        Injection(tmp_path / "failing", cache_dir, code).use(patched)
        with pytest.raises(BuildError, match="once"):
            build(cache_dir, num_workers=2)
    finished = {int(path.name[:8]) for path in chunk_files(cache_dir)}
    assert finished >= {0, 1}
    seen = Injection(tmp_path / "seen", cache_dir).use(monkeypatch)
    build(cache_dir, num_workers=1)
    assert seen.notes("encoded") == [f"id-{3 * index}" for index in range(4) if index not in finished]
    assert content(cache_dir) == undisturbed


# --- light


NOTE_MODULES = """
def at_work(ids):
    note("modules", " ".join(sorted(sys.modules)))
    note("arguments", " ".join(sys.orig_argv))
"""


HEAVY = ("torch", "transformers", "datasets", "pandas", "multiprocessing", "psutil", "tqdm")


def test_workers_load_nothing_that_encoding_does_not_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    for name in HEAVY:
        importlib.import_module(name)
    injection = Injection(tmp_path / "injected", tmp_path / "cache", NOTE_MODULES).use(monkeypatch)
    build(tmp_path / "cache", num_workers=2)
    assert content(tmp_path / "cache") == undisturbed
    loaded = [set(line.split()) for line in injection.notes("modules")]
    assert len(loaded) == 4
    for modules in loaded:
        tops = {name.split(".")[0] for name in modules}
        assert tops.isdisjoint({*HEAVY, "pytest", "tests"})  # nor what the main script loads
        assert "memxlnet.builder.running_build" not in modules
        assert {"memxlnet", "tokenizers", "numpy", "pyarrow"} <= tops


# The library of tokenizers opens the file beyond Python, where no audit hook sees it.
NOTE_TOKENIZER = """
from memxlnet.builder import build_directory

class Noting:
    plain = build_directory.Tokenizer

    @classmethod
    def from_file(cls, path):
        note("tokenizer", path)
        return cls.plain.from_file(path)

build_directory.Tokenizer = Noting
"""


def test_workers_read_the_tokenizer_from_the_build_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    injection = Injection(tmp_path / "injected", tmp_path / "cache", NOTE_TOKENIZER).use(monkeypatch)
    build(tmp_path / "cache", num_workers=2)
    (directory,) = published(tmp_path / "cache")
    found = injection.notes("tokenizer")
    assert set(found) == {str(directory.with_name(f".build-{directory.name}") / "tokenizer.json")}
    assert len(found) <= 2  # once a worker


def test_little_else_than_the_packed_examples_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[Any, bytes]] = []
    plain = worker_messages.send

    def record(pipe: Any, fields: Any, content: bytes = b"") -> None:
        sent.append((fields, content))
        plain(pipe, fields, content)

    monkeypatch.setattr(pool, "send", record)
    build(tmp_path, num_workers=2)
    in_order = [message for message in sent if message[0]["task"] == "encode"]
    assert len(in_order) == 4
    in_order.sort(key=lambda message: message[0]["index"])
    examples = [example for _, packed in in_order for example in unpack(packed)]
    assert [(e.id, e.question, e.context) for e in examples if isinstance(e, Example)] == [
        (row["id"], row["question"], row["context"]) for row in rows()
    ]
    for number, (fields, packed) in enumerate(in_order):
        part = rows()[3 * number : 3 * number + 3]
        texts = sum(len(row["question"]) + len(row["id"]) + sum(map(len, row["answers"]["text"])) for row in part)
        texts += sum(map(len, {row["context"] for row in part}))  # a shared context once
        assert len(packed) < texts + 40 * len(part) + 100
        assert len(repr(fields)) < 200 + len(str(tmp_path))
    for fields, packed in sent:
        if fields["task"] == "fill":
            shards, pieces = fields["shards"], fields["pieces"]
            assert not packed
            assert len(repr(fields)) < 200 + len(str(tmp_path)) + 600 * len(shards) + 200 * len(pieces)


# --- where workers find what they load


def test_the_working_directory_does_not_get_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    (tmp_path / "json.py").write_text("raise ImportError('of the working directory')")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    build(tmp_path / "cache", num_workers=1)
    assert content(tmp_path / "cache") == undisturbed


@pytest.mark.slow
def test_entries_of_the_module_path_that_imports_ignore_are_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "path", ["", Path("/nowhere"), None, *sys.path])
    build(tmp_path / "cache", num_workers=1)
    assert content(tmp_path / "cache") == undisturbed


PRINT = """
def at_work(ids):
    assert sys.stdin.read() == ""
    print("printed", flush=True)
    os.write(1, b"written " * 1000)
"""


def test_what_libraries_print_in_a_worker_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    Injection(tmp_path / "injected", tmp_path / "cache", PRINT).use(monkeypatch)
    build(tmp_path / "cache", num_workers=2)
    assert content(tmp_path / "cache") == undisturbed
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("printed") == 4


def test_a_worker_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = children()
    Injection(tmp_path / "injected", tmp_path / "cache", "os._exit(7)").use(monkeypatch)
    with pytest.raises(BuildError, match="exit code 7"):
        build(tmp_path / "cache", num_workers=2)
    assert children() <= before


def test_processes_that_the_system_refuses_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    class Refusing(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            if started:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Refusing)
    with pytest.raises(BuildError, match="temporarily unavailable"):
        build(tmp_path, num_workers=2)
    assert started[0].returncode == -signal.SIGKILL


def test_an_interpreter_that_does_not_know_itself_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(BuildError, match="executor"):
        build(tmp_path, num_workers=2)


def test_a_chunk_that_waits_is_not_blamed_for_a_dead_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Injection(tmp_path, tmp_path, "os._exit(5)").use(monkeypatch)
    workers = WorkerPool(1)
    try:
        first, second = (workers.submit("nowhere", index, b"", 1) for index in range(2))
        with pytest.raises(WorkerDiedError, match=r"\b5\b"):
            first.result(WAIT_SECONDS)
        time.sleep(0.2)
        assert not second.done()
    finally:
        workers.close()
    with pytest.raises(WorkerDiedError, match=r"^[^5]*$"):
        second.result(0)


def test_a_worker_ends_with_its_pipe(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "memxlnet.builder.worker", str(os.getpid())]
    ours, theirs = socket.socketpair()
    with theirs, subprocess.Popen(command, env=environment(), stdin=theirs.fileno(), stderr=subprocess.PIPE) as process:
        ours.close()
        assert process.wait(WAIT_SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.slow
def test_what_a_process_prints_before_it_works_is_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("print('hello', flush=True)\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert build(tmp_path / "caches", num_workers=1) > 0


def test_a_worker_ends_where_its_builder_is_gone_already(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "memxlnet.builder.worker", "1234567"],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.wait(WAIT_SECONDS) == 1


# --- scripts without a main guard


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_need_no_main_guard(tmp_path: Path, undisturbed: dict[str, bytes], method: str) -> None:
    done = run_script(SCRIPTS / "unguarded.py", tmp_path, "workers", method)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 11  # it was built once, not once in each worker
    assert content(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_an_executor_in_a_script_without_a_main_guard_is_an_error(tmp_path: Path, method: str) -> None:
    command = [sys.executable, str(SCRIPTS / "unguarded.py"), str(tmp_path), "executor", method]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    last = error.strip().splitlines()[-1]
    assert "BuildError" in last
    assert "`if __name__ == '__main__':`" in last
    assert "expected the script's calls below `if __name__ == '__main__':`" in error  # and so do the children
    wait_until(lambda: not session(process.pid), "the processes of the executor end")


def session(leader: int) -> list[int]:
    """The processes of a session."""
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == leader and is_running(psutil.Process(pid)):
                found.append(pid)
        except (ProcessLookupError, psutil.Error):
            continue
    return found


# --- the environment


@pytest.mark.slow
def test_the_environment_stays_and_nothing_is_printed(tmp_path: Path) -> None:
    done = run_script(SCRIPTS / "parallelism.py", tmp_path, env=environment(TOKENIZERS_PARALLELISM=None))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- signals


# The last two chunks are in work for ever, each in another way.
STUCK = """
def at_work(ids):
    while ids[0] == "id-6":
        pass
    if ids[0] == "id-9":
        time.sleep(600)
"""

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


def test_ctrl_c_ends_the_workers_and_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    cache_dir = tmp_path / "cache"
    injection = Injection(tmp_path / "stuck", cache_dir, STUCK)
    process = start(build_interruptible, cache_dir, injection.folder)
    assert process.pid is not None
    wait_until(lambda: set(injection.notes("encoded")) >= {"id-6", "id-9"}, "the build is at work")
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) == 2
    os.kill(process.pid, signal.SIGINT)
    wait_until(lambda: not any(map(is_running, workers)), "the workers end")
    process.join(WAIT_SECONDS)
    assert process.exitcode == 130
    check_resumed(tmp_path, monkeypatch, undisturbed)


def check_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]) -> None:
    """Resume a build whose last two chunks were in work."""
    cache_dir = tmp_path / "cache"
    assert [path.name[:8] for path in chunk_files(cache_dir)] == ["00000000", "00000001"]
    seen = Injection(tmp_path / "seen", cache_dir).use(monkeypatch)
    build(cache_dir, num_workers=2)
    assert sorted(seen.notes("encoded")) == ["id-6", "id-9"]
    assert content(cache_dir) == undisturbed


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_builder_and_workers_and_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes], number: signal.Signals
) -> None:
    cache_dir = tmp_path / "cache"
    injection = Injection(tmp_path / "stuck", cache_dir, STUCK)
    env = environment(PYTHONPATH=os.pathsep.join([str(injection.folder), str(ROOT)]))
    command = [sys.executable, str(SCRIPTS / "unguarded.py"), str(cache_dir), "workers", "default"]
    expect_end(command, env, number, lambda: set(injection.notes("encoded")) >= {"id-6", "id-9"})
    check_resumed(tmp_path, monkeypatch, undisturbed)


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("after", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_within_giant_documents_ends_builder_and_workers(
    tmp_path: Path, number: signal.Signals, after: float
) -> None:
    def at_work() -> bool:
        return len(chunk_files(tmp_path)) == long_build.SMALL

    expect_end([sys.executable, str(SCRIPTS / "long_build.py"), str(tmp_path)], environment(), number, at_work, after)
    assert len(chunk_files(tmp_path)) == long_build.SMALL


def is_running(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended may wait long for its new parent to notice."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def expect_end(
    command: list[str], env: dict[str, str], number: signal.Signals, reached: Callable[[], bool], after: float = 0
) -> None:
    """Start a build, send it a signal some seconds after something is reached, and see all of it end."""
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            wait_until(reached, "the build is at work")
            workers = psutil.Process(process.pid).children(recursive=True)
            assert len(workers) == 2
            time.sleep(after)
            # As the terminal does it for Ctrl-C; as a service manager does it for the others.
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
            wait_until(lambda: not any(map(is_running, workers)), "the workers end")
            process.wait(WAIT_SECONDS)
        finally:
            process.kill()
        error = process.stderr.read() if process.stderr else ""
    assert process.returncode == -number
    assert error.strip().splitlines()[-1:] == (["KeyboardInterrupt"] if number == signal.SIGINT else [])


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
def test_workers_ignore_ctrl_c_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    code = "def at_work(ids):\n    os.kill(os.getpid(), signal.SIGINT)"
    Injection(tmp_path / "injected", tmp_path / "cache", code).use(monkeypatch)
    build(tmp_path / "cache", num_workers=2)
    assert content(tmp_path / "cache") == undisturbed


# --- one giant document


def test_a_giant_document_does_not_stall_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = long_examples(400, words=20)
    raw = [*small[:40], long_build.giant("giant", 250_000), *small[40:]]
    done: list[int] = []
    plain = Run._done

    def record(self: Run, chunk: Chunk, receipt: Any, counts: Any) -> None:
        done.append(chunk.index)
        plain(self, chunk, receipt, counts)

    monkeypatch.setattr(Run, "_done", record)
    settings: dict[str, Any] = {"streaming_chunk_size": 40, "max_seq_length": 64, "doc_stride": 8, "progress": False}
    process_and_cache_dataset(raw, "test", tmp_path, tokenizer=golden_tokenizer(), num_workers=2, **settings)
    assert sorted(done) == list(range(11))
    assert done[-1] == 1


@pytest.mark.slow
def test_a_manager_of_the_user_gets_chunks_in_order_after_a_giant(tmp_path: Path) -> None:
    raw = [long_build.giant("giant", 40_000), *long_examples(20, words=20)]
    written: list[int] = []

    class Manager:
        def begin(self, settings: Any) -> Sequence[int]:
            return ()

        def write_chunk(self, index: int, tables: Any) -> int:
            assert tables["documents"].num_rows == 1
            written.append(index)
            return index

        def finish(self, receipts: Sequence[int]) -> None:
            assert list(receipts) == written

    arguments: dict[str, Any] = {
        "tokenizer": golden_tokenizer(),
        "max_seq_length": 64,
        "doc_stride": 8,
        "progress": False,
    }
    features = process_and_cache_dataset(
        raw, "test", cache_manager=Manager(), num_workers=2, streaming_chunk_size=1, **arguments
    )
    assert written == list(range(21))
    assert features > 21


def test_workers_serve_a_build_within_a_daemonic_process(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    # multiprocessing refuses such a process children; a build has none of its kind.
    process = multiprocessing.get_context("fork").Process(target=_build_here, args=(tmp_path,), daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert content(tmp_path) == undisturbed


def _build_here(cache_dir: Path) -> None:
    try:
        build(cache_dir, num_workers=2)
    except MemxlnetError:
        os._exit(1)
    os._exit(0)
