"""Eight processes that ask for one cache, and the one that builds it killed: another continues within seconds."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.load.cache_dataset import CacheDataset
from tests.builder.processes import published, server, start
from tests.faults.processes import CHUNKS, build, chunk_files, counted, names, wait_until, workers_of
from tests.format.content import files_of
from tests.support import WAIT_SECONDS, slow

RACERS = 8


def race(cache_dir: Path, barrier: Any, report: Any, begun: Any, settings: dict[str, Any]) -> None:
    """Build when all are ready; report who builds, and in the end the features and the chunks that were made here."""
    begin, write = CacheWriter.begin, CacheWriter.write_chunk

    def report_begin(self: CacheWriter, made_from: Any) -> Any:
        begun.send(os.getpid())
        return begin(self, made_from)

    def write_slowly(self: CacheWriter, index: int, tables: Any) -> Any:
        time.sleep(0.02)
        return write(self, index, tables)

    CacheWriter.begin = report_begin  # type: ignore[method-assign,assignment]
    CacheWriter.write_chunk = write_slowly  # type: ignore[method-assign]
    barrier.wait(WAIT_SECONDS)
    with counted() as made:
        features = build(cache_dir, **settings)
    (directory,) = (path for path in cache_dir.iterdir() if not path.name.startswith("."))
    report.send((features, made, len(CacheDataset(directory))))


@pytest.mark.parametrize(
    ("kills", "workers"),
    [slow(1, 2), *(slow(kills, 0) for kills in (1, 3, 5, 7, 7, 7))],
)
def test_another_process_takes_over(tmp_path: Path, undisturbed: dict[str, bytes], kills: int, workers: int) -> None:
    context = server()
    barrier = context.Barrier(RACERS)
    # A message this small is written at once: a kill cannot tear it, and there is no lock to die with.
    begun, begin = context.Pipe(duplex=False)
    pipes = [context.Pipe(duplex=False) for _ in range(RACERS)]
    racers = {}
    for _, sender in pipes:
        process = start(race, tmp_path, barrier, sender, begin, {"num_workers": workers})
        racers[process.pid] = process
    assert begun.poll(WAIT_SECONDS)
    winner = begun.recv()
    seen: set[str] = set()
    for kill in range(kills):
        assert wait_until(lambda wanted=4 * (kill + 1): len(chunk_files(tmp_path)) >= wanted)  # type: ignore[misc]
        os.kill(winner, signal.SIGKILL)
        racers.pop(winner).join(WAIT_SECONDS)
        # The work of one that lost its builder may still be put into its place.
        assert wait_until(lambda dead=winner: not workers_of(dead))  # type: ignore[misc]
        assert seen <= chunk_files(tmp_path)
        seen = chunk_files(tmp_path)
        assert begun.poll(WAIT_SECONDS)
        winner = begun.recv()
        assert winner in racers
    for process in racers.values():
        process.join(WAIT_SECONDS)
        assert process.exitcode == 0
    assert not begun.poll()
    reports = [receiver.recv() for receiver, _ in pipes if receiver.poll()]
    assert len(reports) == RACERS - kills
    # One of them made all that was not finished, and no more but what a worker of the dead put into its place after it
    # had looked.
    (made,) = (set(numbers) for _, numbers, _ in reports if numbers)
    missing = set(range(CHUNKS)) - {int(name.split(".")[0]) for name in seen}
    assert missing <= made
    assert len(made - missing) <= workers
    assert len({features for features, _, _ in reports}) == 1
    assert {rows for _, _, rows in reports} == {reports[0][0]}
    (directory,) = published(tmp_path)
    assert files_of(directory) == undisturbed
    assert names(tmp_path) == [directory.name]
    assert not workers_of(winner)


def rebuild_often(cache_dir: Path, barrier: Any, report: Any, number: int, times: int) -> None:
    """Rebuild or ask, in turn, and report the counts."""
    barrier.wait(WAIT_SECONDS)
    report.send([build(cache_dir, rebuild=(turn + number) % 3 == 0, streaming_chunk_size=9) for turn in range(times)])


@pytest.mark.slow
@pytest.mark.parametrize("times", [60])
def test_rebuilds_and_questions_at_once_all_end(tmp_path: Path, undisturbed: dict[str, bytes], times: int) -> None:
    context = server()
    barrier = context.Barrier(RACERS)
    pipes = [context.Pipe(duplex=False) for _ in range(RACERS)]
    processes = [
        start(rebuild_often, tmp_path, barrier, sender, number, times) for number, (_, sender) in enumerate(pipes)
    ]
    for process in processes:
        process.join(WAIT_SECONDS)
        assert process.exitcode == 0
    (directory,) = published(tmp_path)
    assert files_of(directory) == undisturbed
    assert names(tmp_path) == [directory.name]
    assert len({features for receiver, _ in pipes for features in receiver.recv()}) == 1
