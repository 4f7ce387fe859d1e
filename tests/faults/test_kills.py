"""A kill of the builder or of its workers at a random moment leaves no cache or a whole one and loses no chunk."""

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from memxlnet.maintain.removal import remove_leftovers
from tests.builder.processes import published, server, start, stop
from tests.faults.processes import (
    CHUNKS,
    build,
    build_and_report,
    chunk_files,
    counted,
    kill,
    names,
    wait_until,
    workers_of,
)
from tests.format.content import files_of
from tests.support import WAIT_SECONDS, slow, slow_but

VICTIMS = ("builder", "worker", "workers", "worker, then builder")


def wait_for_moment(source: random.Random, cache_dir: Path, process: Any) -> None:
    """Wait for a random moment of a build: by time alone most would lie within the start of its workers."""

    def is_past(condition: bool) -> bool:
        return condition or process.exitcode is not None

    stage = source.choice(["any", "chunks", "chunks", "chunks", "publishing"])
    if stage == "any":
        time.sleep(source.uniform(0, 0.6))
    elif stage == "chunks":
        wanted = len(chunk_files(cache_dir)) + source.randrange(CHUNKS)
        wait_until(lambda: is_past(len(chunk_files(cache_dir)) >= wanted), 5)
        time.sleep(source.uniform(0, 0.01))
    else:
        wait_until(lambda: is_past(any(cache_dir.glob(".build-*/cache"))), 5)
        time.sleep(source.uniform(0, 0.04))


def attack(source: random.Random, cache_dir: Path, workers: int, victim: str) -> tuple[str, str, bool] | None:
    """Build in a process, and kill it or its workers; what it reported, if it still could."""
    receiver, sender = server().Pipe(duplex=False)
    process = start(build_and_report, cache_dir, sender, {"num_workers": workers})
    pid = process.pid
    assert pid is not None
    wait_for_moment(source, cache_dir, process)
    if victim != "builder":
        found = workers_of(pid)
        source.shuffle(found)
        for worker in found if victim == "workers" else found[:1]:
            worker.kill()
    if "builder" in victim:
        if victim != "builder":
            time.sleep(source.uniform(0, 0.005))
        kill(process)
    process.join(WAIT_SECONDS)
    assert process.exitcode in (0, -signal.SIGKILL)
    assert wait_until(lambda: not workers_of(pid)), "a worker outlived its builder"
    return receiver.recv() if receiver.poll() else None


def check_report(report: tuple[str, str, bool] | None, victim: str) -> None:
    """The build of a killed worker fails with an error; that of a killed builder reports nothing."""
    if report is None:
        assert "builder" in victim
        return
    kind, message, _ = report
    if kind == "done":
        return
    assert victim != "builder", message
    assert kind == "BuildError", report
    assert "chunk" in message
    assert "killed by signal 9 (SIGKILL)" in message or "the workers were ended" in message, message
    assert "finished chunks are kept, build again to resume" in message


def check_completion(cache_dir: Path, undisturbed: dict[str, bytes], workers: int) -> None:
    """Build again: finished chunks are kept, the bytes are those of an undisturbed build, nothing else is left."""
    before = list(published(cache_dir))
    finished = chunk_files(cache_dir)
    with counted() as made:
        build(cache_dir, num_workers=workers)
    numbers = {int(name.split(".")[0]) for name in finished}
    assert sorted(made) == ([] if before else sorted(set(range(CHUNKS)) - numbers))
    (directory,) = published(cache_dir)
    assert files_of(directory) == undisturbed
    remove_leftovers(cache_dir)
    assert names(cache_dir) == [directory.name]


def survive(seed: int, cache_dir: Path, undisturbed: dict[str, bytes], workers: int, victim: str) -> None:
    source = random.Random(seed)
    report = attack(source, cache_dir, workers, victim)
    check_report(report, victim)
    check_completion(cache_dir, undisturbed, source.choice([0, 0, 2]))


CASES = [(0, "builder"), *((2, victim) for victim in VICTIMS)]
QUICK = [(2, "builder")]


@pytest.mark.parametrize(("workers", "victim"), [case if case in QUICK else slow(*case) for case in CASES])
def test_a_kill_is_survived(tmp_path: Path, undisturbed: dict[str, bytes], workers: int, victim: str) -> None:
    survive(VICTIMS.index(victim), tmp_path, undisturbed, workers, victim)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_any_kill_is_survived(tmp_path: Path, undisturbed: dict[str, bytes], seed: int) -> None:
    workers, victim = CASES[seed % len(CASES)]
    survive(100 + seed, tmp_path, undisturbed, workers, victim)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, *range(10, 16)])
def test_kill_upon_kill_loses_nothing(tmp_path: Path, undisturbed: dict[str, bytes], seed: int) -> None:
    source = random.Random(seed)
    seen: set[str] = set()
    for _ in range(4):
        victim = source.choice(VICTIMS)
        check_report(attack(source, tmp_path, 2, victim), victim)
        if list(published(tmp_path)):
            break
        assert seen <= chunk_files(tmp_path)
        seen = chunk_files(tmp_path)
    check_completion(tmp_path, undisturbed, 2)


@pytest.mark.parametrize("chunks", slow_but([3], [-1, 0, 3]))
def test_no_worker_survives_a_builder_that_is_stopped_and_killed(tmp_path: Path, chunks: int) -> None:
    """Workers that wait for work, are at work, or are still loading."""
    _, sender = server().Pipe(duplex=False)
    process: Any = start(build_and_report, tmp_path, sender, {"num_workers": 2})
    assert wait_until(lambda: workers_of(process.pid))
    wait_until(lambda: len(chunk_files(tmp_path)) >= chunks)
    stop(process.pid)
    assert workers_of(process.pid)
    kill(process)
    assert wait_until(lambda: not workers_of(process.pid))


@contextmanager
def not_orphaned(group: int) -> Iterator[None]:
    """Keep a child of this process in a group: the system wakes stopped processes of a group that is orphaned."""
    with subprocess.Popen(["sleep", "600"], process_group=group) as member:
        try:
            yield
        finally:
            member.kill()


def test_a_worker_that_outlives_its_builder_does_no_harm(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    """It is stopped within its work, its builder killed, the cache completed by another; then it continues."""
    _, sender = server().Pipe(duplex=False)
    process: Any = start(build_and_report, tmp_path, sender, {"num_workers": 2})
    assert wait_until(lambda: len(chunk_files(tmp_path)) >= 5)
    # One that starts only now would finish a chunk after the others were stopped.
    assert wait_until(lambda: len(workers_of(process.pid)) == 2)
    workers = workers_of(process.pid)
    for worker in workers:
        stop(worker.pid)
    with ExitStack() as stack:
        for worker in workers:
            stack.enter_context(not_orphaned(worker.pid))
        kill(process)
        check_completion(tmp_path, undisturbed, 0)
        for worker in workers:
            assert worker.status() == psutil.STATUS_STOPPED
            worker.resume()
        assert wait_until(lambda: not workers_of(process.pid))
    (directory,) = published(tmp_path)
    assert files_of(directory) == undisturbed
    assert names(tmp_path) == [directory.name]
