"""Several processes that ask for one cache: one builds, the others wait for it."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from memxlnet.encode.encoder import Encoder
from tests.builder.processes import build, build_and_report, build_until, published, server, start, stop
from tests.format.content import files_of
from tests.support import slow_but


def race(cache_dir: Path, settings: list[dict[str, Any]]) -> list[tuple[int, int]]:
    barrier = server().Barrier(len(settings))
    pipes = [server().Pipe(duplex=False) for _ in settings]
    processes = [
        start(build_and_report, cache_dir, barrier, sender, changes)
        for (_, sender), changes in zip(pipes, settings, strict=True)
    ]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [receiver.recv() for receiver, _ in pipes]


@pytest.mark.parametrize("attempt", slow_but([0], range(3)))
def test_exactly_one_builds(tmp_path: Path, undisturbed: dict[str, bytes], attempt: int) -> None:
    reports = race(tmp_path / "raced", [{}] * 3)
    assert len({features for features, _ in reports}) == 1
    encoded = sorted(count for _, count in reports)
    assert encoded[:2] == [0, 0]
    assert encoded[2] >= 4
    (raced,) = published(tmp_path / "raced")
    assert files_of(raced) == undisturbed


def test_different_caches_are_built_at_once(tmp_path: Path) -> None:
    reports = race(tmp_path, [{}, {"doc_stride": 4}])
    assert all(count >= 4 for _, count in reports)
    assert len(list(published(tmp_path))) == 2


@pytest.mark.slow
def test_two_rebuilds_at_once_both_end(tmp_path: Path) -> None:
    build(tmp_path)
    (directory,) = published(tmp_path)
    before = files_of(directory)
    reports = race(tmp_path, [{"rebuild": True}] * 2)
    assert len({features for features, _ in reports}) == 1
    assert all(count >= 4 for _, count in reports)
    (directory,) = published(tmp_path)
    assert files_of(directory) == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [directory.name]


def test_a_waiting_process_takes_over_from_a_killed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    """The first builder is stopped within its build, another waits for it, then the first one is killed."""
    cache_dir = tmp_path / "raced"
    _, sender = server().Pipe(duplex=False)
    first = start(build_until, cache_dir, -1, sender)
    assert first.pid is not None
    deadline = time.monotonic() + 60
    while not list(cache_dir.glob(".build-*/")) and time.monotonic() < deadline:
        time.sleep(0.0005)
    stop(first.pid)
    if first.exitcode is not None or list(cache_dir.glob("[!.]*")):
        pytest.skip("the first build was too fast to be stopped")
    encoded: list[int] = []
    plain = Encoder.tokenize

    def count(self: Encoder, chunk: Any) -> Any:
        encoded.append(len(chunk))
        return plain(self, chunk)

    monkeypatch.setattr(Encoder, "tokenize", count)
    monkeypatch.setattr("memxlnet.maintain.lock.WAIT_SECONDS", 0.05)
    killed = threading.Event()

    def kill() -> None:
        killed.set()
        first.kill()

    killer = threading.Timer(0.5, kill)
    killer.start()
    build(cache_dir)
    assert killed.is_set()
    killer.join()
    first.join(60)
    assert first.exitcode == -signal.SIGKILL
    assert encoded
    (raced,) = published(cache_dir)
    assert files_of(raced) == undisturbed
