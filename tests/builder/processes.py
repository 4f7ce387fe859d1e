"""Builds in processes of their own, which can be killed at any moment.

A fork server imports everything once, so that each process starts in milliseconds.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from tqdm import tqdm

from memxlnet.data.process import process_and_cache_dataset
from memxlnet.encode.encoder import Encoder
from memxlnet.maintain.verify import verify
from tests.format.content import files_of
from tests.golden.make_golden import golden_tokenizer
from tests.support import WAIT_SECONDS, long_examples

SETTINGS: dict[str, Any] = {
    "max_seq_length": 32,
    "doc_stride": 8,
    "streaming_chunk_size": 3,
    "max_shard_rows": 20,
    "progress": False,
}


# The default lock of the bar is a semaphore of the system, which a killed process leaves.
tqdm.set_lock(threading.RLock())

# The first array of pyarrow imports pandas where it is there.
pa.array(np.zeros(1))


def rows() -> list[dict[str, Any]]:
    """Eleven examples in four chunks; some share a context."""
    made = long_examples(11, words=40)
    for number in (4, 7, 8):
        made[number]["context"], made[number]["answers"] = made[1]["context"], made[1]["answers"]
    return made


def build(cache_dir: Path, **changes: Any) -> int:
    """The one build of these tests."""
    return process_and_cache_dataset(rows(), "test", cache_dir, tokenizer=golden_tokenizer(), **{**SETTINGS, **changes})


def server() -> ForkServerContext:
    """A fork server that has everything loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.builder.processes"])
    return context


_started: list[ForkServerProcess] = []


def start(target: Any, *arguments: Any) -> ForkServerProcess:
    """Start a process."""
    process = server().Process(target=target, args=arguments, daemon=True)
    process.start()
    _started.append(process)
    return process


def kill_started() -> None:
    """Kill what a test that failed left running: a process that goes round and round slows all tests after it."""
    while _started:
        process = _started.pop()
        if process.is_alive():
            process.kill()
            process.join()


def run(target: Any, *arguments: Any) -> int | None:
    """Run a process to its end; gives its exit code."""
    process = start(target, *arguments)
    process.join(WAIT_SECONDS)
    return process.exitcode


def stop(pid: int) -> None:
    """Stop a process, and wait until it stands: what it has begun within the system ends before."""
    os.kill(pid, signal.SIGSTOP)
    process = psutil.Process(pid)
    deadline = time.monotonic() + WAIT_SECONDS
    while process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
        assert time.monotonic() < deadline
        time.sleep(0.001)


EVENTS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.truncate"})


def build_until(cache_dir: Path, event: int, report: Any) -> None:
    """Build, and kill this process just before the given file operation in the cache directory.

    Args:
        cache_dir: Directory of the caches.
        event: Number of the file operation, from 0.
        report: A connection that gets, for each operation, the number of finished chunks before it, where the build
            ends before.
    """
    finished: list[int] = []
    chunks = 0
    folder = os.fsencode(cache_dir)

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal chunks
        if name in EVENTS and _within(folder, arguments):
            if len(finished) == event:
                os.kill(os.getpid(), signal.SIGKILL)
            finished.append(chunks)
            chunks += name == "os.rename" and str(arguments[1]).endswith(".chunk")

    sys.addaudithook(hook)
    build(cache_dir)
    report.send(finished)


def _within(folder: bytes, arguments: Iterable[Any]) -> bool:
    return any(
        os.fsencode(value).startswith(folder) for value in arguments if isinstance(value, str | bytes | os.PathLike)
    )


def build_and_report(cache_dir: Path, barrier: Any, report: Any, settings: dict[str, Any]) -> None:
    """Build when all are ready, and report the number of features and of chunks that were encoded here."""
    encoded = 0
    plain = Encoder.tokenize

    def count(self: Encoder, chunk: Any) -> Any:
        nonlocal encoded
        encoded += 1
        return plain(self, chunk)

    Encoder.tokenize = count  # type: ignore[method-assign]
    barrier.wait(60)
    features = build(cache_dir, **settings)
    report.send((features, encoded))


def build_interruptible(cache_dir: Path, modules: Path) -> None:
    """Build with two workers that find modules in a folder; SIGINT ends the process with exit code 130."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path.insert(0, str(modules))
    try:
        build(cache_dir, num_workers=2)
    except KeyboardInterrupt:
        sys.exit(130)


def content(cache_dir: Path) -> dict[str, bytes]:
    """The files of the one cache that is there, of a build that left nothing else."""
    (directory,) = published(cache_dir)
    assert not list(cache_dir.glob(".build-*/"))
    return files_of(directory)


def published(cache_dir: Path) -> Iterator[Path]:
    """The directories under a name that is no leftover; each must be a whole cache."""
    for path in sorted(cache_dir.iterdir()) if cache_dir.exists() else ():
        if not path.name.startswith("."):
            assert path.is_dir(), path
            assert (path / "manifest.json").exists(), f"{path}: published without a manifest"
            verify(path)
            yield path
