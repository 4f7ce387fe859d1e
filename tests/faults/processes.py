"""A build of many small chunks in processes of their own: long enough to be hit anywhere, by any user.

Light on purpose: the fork server of `tests.builder.processes` or each forked process imports it.
"""

import codecs
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.builder.worker_pool import WorkerPool
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.errors import MemxlnetError
from tests.builder.processes import start
from tests.golden.make_golden import golden_tokenizer
from tests.support import WAIT_SECONDS, long_examples, write_json_lines

CHUNKS = 40

SETTINGS: dict[str, Any] = {
    "max_seq_length": 32,
    "doc_stride": 8,
    "streaming_chunk_size": 1,
    "max_shard_rows": 20,
    "num_workers": 0,
    "on_bad_example": "drop",
    "progress": False,
}


def rows() -> list[dict[str, Any]]:
    """Forty examples; some share a context, two are dropped."""
    made = long_examples(CHUNKS, words=40)
    for number in (4, 7, 18):
        made[number]["context"], made[number]["answers"] = made[1]["context"], made[1]["answers"]
    for number in (9, 30):
        made[number]["context"] = None
    return made


def build(cache_dir: Path | str, **changes: Any) -> int:
    """The one build of these tests."""
    return process_and_cache_dataset(rows(), "test", cache_dir, tokenizer=golden_tokenizer(), **{**SETTINGS, **changes})


def names(directory: Path) -> list[str]:
    """The names in a directory, hidden ones included."""
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def chunk_files(cache_dir: Path) -> set[str]:
    """The names of the finished chunks of an interrupted build."""
    return {path.name for path in cache_dir.glob(".build-*/chunks/*.chunk")}


@contextmanager
def counted() -> Iterator[list[int]]:
    """The numbers of the chunks that are encoded within, whoever encodes them."""
    made: list[int] = []
    write, submit = CacheWriter.write_chunk, WorkerPool.submit

    def count_write(self: CacheWriter, index: int, tables: Any) -> Any:
        made.append(index)
        return write(self, index, tables)

    def count_submit(self: WorkerPool, directory: str, index: int, packed: bytes, part_cost: int) -> Any:
        made.append(index)
        return submit(self, directory, index, packed, part_cost)

    CacheWriter.write_chunk = count_write  # type: ignore[method-assign]
    WorkerPool.submit = count_submit  # type: ignore[method-assign]
    try:
        yield made
    finally:
        CacheWriter.write_chunk = write  # type: ignore[method-assign]
        WorkerPool.submit = submit  # type: ignore[method-assign]


def outcome_of(call: Callable[[], Any]) -> tuple[str, str, bool]:
    """What a call came to: the name of the error and its text, and whether the error is one of memxlnet."""
    try:
        return "done", str(call()), True
    except MemxlnetError as error:
        return type(error).__name__, str(error), True
    except BaseException as error:
        return type(error).__name__, repr(error), False


def build_and_report(cache_dir: Path, report: Any, settings: dict[str, Any]) -> None:
    """Build, and report what came of it."""
    report.send(outcome_of(lambda: build(cache_dir, **settings)))


def _write_reports(path: Path, act: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    warnings.simplefilter("error")
    # What is logged is of no interest, and there is a lot of it.
    with path.open("w") as file, redirect_stdout(file), Path(os.devnull).open("w") as null, redirect_stderr(null):
        act(*arguments)


def reports_of(folder: Path, act: Callable[..., Any], *arguments: Any, seconds: float = 1800) -> list[dict[str, Any]]:
    """Call a function in a process of its own that must end well, warnings as errors; gives the JSON that it prints."""
    path = folder / "reports.jsonl"
    process = start(_write_reports, path, act, arguments)
    process.join(seconds)
    reports = [json.loads(line) for line in path.read_text().splitlines()]
    assert process.exitcode == 0, reports[-1:]
    return reports


def workers_of(builder: int) -> list[psutil.Process]:
    """The living worker processes of a builder, also of one that is gone."""
    found = []
    for process in psutil.process_iter():
        try:
            line = process.cmdline()
            if "memxlnet.builder.worker" in line and line[-1] == str(builder) and process.status() != "zombie":
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> bool:
    """Wait until something holds; False where it did not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def kill(process: ForkServerProcess) -> None:
    """Kill a process, and it alone; it may have ended by itself."""
    process.kill()
    process.join(WAIT_SECONDS)


NOBODY = 65534


def be_user(uid: int, gid: int, umask: int) -> None:
    """Give up the rights of root for good, in this process."""
    # Modules that are loaded on use only may lie where no other user can read.
    with TemporaryDirectory() as folder:
        source = write_json_lines(Path(folder, "source.jsonl"), rows()[:1])
        process_and_cache_dataset(source, "test", folder, tokenizer=golden_tokenizer(), num_workers=0, progress=False)
        for name in ("utf-32-le", "utf-16", "idna"):
            codecs.lookup(name)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    os.umask(umask)


def _act(report: Any, user: tuple[int, int, int] | None, act: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    if user is not None:
        be_user(*user)
    result: list[Any] = []
    outcome = outcome_of(lambda: result.append(act(*arguments)))
    report.send((outcome, result[0] if result else None))


def acting(
    context: Any, user: tuple[int, int, int] | None, act: Callable[..., Any], *arguments: Any
) -> tuple[tuple[str, str, bool], Any]:
    """Call a function in a process of its own, as another user where one is given.

    Args:
        context: The fork server.
        user: User, group and umask.
        act: The function.
        arguments: Its arguments.

    Returns:
        What came of it, as `outcome_of` gives it, and what the function gave.
    """
    receiver, sender = context.Pipe(duplex=False)
    process = start(_act, sender, user, act, arguments)
    process.join(WAIT_SECONDS)
    assert process.exitcode == 0, f"ended with {process.exitcode}"
    outcome, result = receiver.recv()
    return outcome, result
