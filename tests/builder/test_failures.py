"""What ends in a worker: the builder fails at once, leaves no process and loses no finished chunk."""

import re
from pathlib import Path
from typing import Any

import pytest

from memxlnet import errors
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.errors import BuildError, ExampleError, MemoryLimitError, MemxlnetError, SettingsError
from tests.builder.processes import build, published, rows
from tests.builder.scripts.injected import Injection, children, chunk_files
from tests.format.content import files_of
from tests.golden.make_golden import golden_tokenizer
from tests.support import example, long_examples, slow_but

FAULTS: dict[str, tuple[str, type[MemxlnetError], str]] = {
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL)", BuildError, r"\b9\b.*SIGKILL"),
    "SIGSEGV": ("os.kill(os.getpid(), signal.SIGSEGV)", BuildError, r"\b11\b.*SIGSEGV"),
    "SIGABRT": ("os.abort()", BuildError, r"\b6\b.*SIGABRT"),
    "real-time signal": ("os.kill(os.getpid(), 40)", BuildError, r"\bsignal 40\b"),
    "exit 3": ("os._exit(3)", BuildError, r"\bexit code 3\b"),
    "exit 0": ("os._exit(0)", BuildError, r"\bexit code 0\b"),
    "pipes closed": ("os.closerange(3, 64)\ntime.sleep(600)", BuildError, r"\bpipe\b"),
    "BaseException": ("class Gone(BaseException): pass\nraise Gone('away')", BuildError, r"\bGone: away\b"),
    "panic": (
        "class PanicException(BaseException): pass\nraise PanicException('index out of bounds')",
        BuildError,
        r"\bPanicException: index out of bounds\b",
    ),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", BuildError, r"\bKeyboardInterrupt\b"),
    "SystemExit": ("sys.exit(3)", BuildError, r"\bSystemExit: 3\b"),
    "GeneratorExit": ("raise GeneratorExit", BuildError, r"\bGeneratorExit\b"),
    "StopIteration": ("raise StopIteration(7)", BuildError, r"\bStopIteration: 7\b"),
    "no text": (
        "class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute",
        BuildError,
        r"\bMute: \(",
    ),
    "no pickle": (
        "import threading\nerror = ValueError('held')\nerror.lock = threading.Lock()\nraise error",
        BuildError,
        r"\bValueError: held\b",
    ),
    "no unicode": ("raise ValueError('half \\ud800 of it')", BuildError, "ValueError: half \ud800 of it"),
    "MemoryError": ("raise MemoryError", MemoryLimitError, "num_workers"),
    "memory of NumPy": ("import numpy\nnumpy.empty(2**60, numpy.int8)", MemoryLimitError, "num_workers"),
    "memory of Arrow": ("import pyarrow\npyarrow.allocate_buffer(2**60)", MemoryLimitError, "num_workers"),
    # What is held while the error is reported may make the report fail too: then the process ends.
    "RLIMIT_AS": (
        "resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))\nheld = []\nwhile True: held.append(bytearray(2**16))",
        BuildError,
        "num_workers|worker process",
    ),
    "disk full": ("raise OSError(28, 'No space left on device')", BuildError, r"\bOSError:.*No space left"),
}


def fault(code: str) -> str:
    """Code that fails in the third chunk, once the first two are finished."""
    body = "\n".join("        " + line for line in code.splitlines())
    return f"def at_work(ids):\n    if ids[0] == 'id-6':\n        wait_for_chunks(2)\n{body}"


@pytest.mark.parametrize("name", slow_but(["SIGKILL", "no unicode"], FAULTS))
def test_a_failure_in_a_worker_is_reported_and_the_next_build_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes], name: str
) -> None:
    code, kind, pattern = FAULTS[name]
    cache_dir = tmp_path / "cache"
    before = children()
    with monkeypatch.context() as patched:
        Injection(tmp_path / "failing", cache_dir, fault(code)).use(patched)
        with pytest.raises(kind) as caught:
            build(cache_dir, num_workers=2)
    assert children() <= before
    message = str(caught.value)
    assert message.startswith("chunk 2 (examples 'id-6', 'id-7', 'id-8'): ")
    assert re.search(pattern, message), message
    assert not list(published(cache_dir))
    finished = {int(path.name[:8]) for path in chunk_files(cache_dir)}
    assert {0, 1} <= finished <= {0, 1, 3}
    # The next build makes what is missing, and nothing else.
    seen = Injection(tmp_path / "seen", cache_dir).use(monkeypatch)
    build(cache_dir, num_workers=1)
    assert seen.notes("encoded") == [f"id-{3 * index}" for index in range(4) if index not in finished]
    (directory,) = published(cache_dir)
    assert files_of(directory) == undisturbed


def test_the_chunks_in_work_besides_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
def at_work(ids):
    if ids[0] == "id-0":
        while not (FOLDER / "encoded").read_text().count("id-3"):
            time.sleep(0.01)
        time.sleep(0.2)
        os._exit(4)
    time.sleep(600)
"""
    Injection(tmp_path / "failing", tmp_path / "cache", code).use(monkeypatch)
    with pytest.raises(BuildError) as caught:
        build(tmp_path / "cache", num_workers=2)
    assert str(caught.value).startswith(
        "chunk 0 (examples 'id-0', 'id-1', 'id-2'): its worker process ended with exit code 4; in work besides: "
        "chunk 1 (examples 'id-3', 'id-4', 'id-5'), chunk 2 (examples 'id-6', 'id-7', 'id-8'); finished chunks are kept"
    )


@pytest.mark.slow
def test_all_workers_may_die_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    before = children()
    with monkeypatch.context() as patched:
        code = "def at_work(ids):\n    os.kill(os.getpid(), signal.SIGKILL)"
        Injection(tmp_path / "failing", tmp_path / "cache", code).use(patched)
        for _ in range(2):
            with pytest.raises(BuildError, match="SIGKILL"):
                build(tmp_path / "cache", num_workers=2)
    assert children() <= before
    build(tmp_path / "cache", num_workers=2)
    (directory,) = published(tmp_path / "cache")
    assert files_of(directory) == undisturbed


def test_the_traceback_of_the_worker_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Injection(tmp_path / "failing", tmp_path / "cache", fault("raise LookupError('deep')")).use(monkeypatch)
    with pytest.raises(BuildError) as caught:
        build(tmp_path / "cache", num_workers=2)
    (note,) = caught.value.__notes__
    assert note.startswith("in a worker, chunk 2 (examples 'id-6', 'id-7', 'id-8'):\nTraceback ")
    assert "in at_work" in note
    assert "LookupError: deep" in note


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MemxlnetError)]


@pytest.mark.parametrize("kind", slow_but([SettingsError], KINDS))
def test_an_error_of_memxlnet_keeps_its_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[MemxlnetError]
) -> None:
    code = f"from memxlnet import errors\nraise errors.{kind.__name__}('from the worker')"
    Injection(tmp_path / "failing", tmp_path / "cache", fault(code)).use(monkeypatch)
    with pytest.raises(MemxlnetError) as caught:
        build(tmp_path / "cache", num_workers=1)
    assert type(caught.value) is kind
    assert str(caught.value) == "from the worker"


def test_a_bad_example_is_the_same_error_from_a_worker(tmp_path: Path) -> None:
    rows = long_examples(9, words=20)
    raw = [*rows[:7], example("the lamp", "who " * 60, id="wordy"), *rows[7:]]
    arguments: dict[str, Any] = {"tokenizer": golden_tokenizer(), "max_seq_length": 32, "doc_stride": 8}
    messages = []
    for number in (0, 2):
        with pytest.raises(ExampleError, match="'wordy'") as caught:
            process_and_cache_dataset(
                raw, "test", tmp_path / str(number), num_workers=number, streaming_chunk_size=3, **arguments
            )
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_broken_build_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from memxlnet.builder.build_directory import BuildDirectory\nBuildDirectory.state = lambda self: None"
    Injection(tmp_path / "failing", tmp_path / "cache", code).use(monkeypatch)
    with pytest.raises(BuildError, match=r"build\.json"):
        build(tmp_path / "cache", num_workers=1)


def test_an_error_of_the_source_ends_the_workers(tmp_path: Path) -> None:
    before = children()

    def failing() -> Any:
        yield from rows()
        raise LookupError("torn")

    with pytest.raises(LookupError, match=r"^torn$"):
        process_and_cache_dataset(
            failing(),
            "test",
            tmp_path,
            tokenizer=golden_tokenizer(),
            identity="failing",
            max_seq_length=32,
            doc_stride=8,
            streaming_chunk_size=3,
            num_workers=2,
        )
    assert children() <= before
