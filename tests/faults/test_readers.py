"""Readers at work while their cache is rebuilt, again and again, and finally removed."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.maintain.removal import remove_cache
from tests.builder.processes import server, start
from tests.faults.acts import (
    digest_of,
    keep_asking,
    keep_building,
    keep_opening,
    keep_reading,
    keep_verifying,
    rebuild_slowly,
)
from tests.faults.processes import build, names, wait_until
from tests.support import WAIT_SECONDS, slow


class Readers:
    """Processes that read until they are asked to stop."""

    def __init__(self, *jobs: tuple[Callable[..., None], *tuple[Any, ...]]):
        self._stop = server().Event()
        self._pipes = [server().Pipe(duplex=False) for _ in jobs]
        self._processes = [
            start(target, *arguments, sender, self._stop)
            for (target, *arguments), (_, sender) in zip(jobs, self._pipes, strict=True)
        ]
        for receiver, _ in self._pipes:
            assert receiver.poll(WAIT_SECONDS)
            assert receiver.recv() == "ready"

    def stop(self) -> list[Any]:
        """What each of them reported; none may have crashed."""
        self._stop.set()
        reports = []
        for process, (receiver, _) in zip(self._processes, self._pipes, strict=True):
            assert receiver.poll(WAIT_SECONDS), process.exitcode
            reports.append(receiver.recv())
            process.join(WAIT_SECONDS)
            assert process.exitcode == 0
        return reports


@pytest.fixture
def cache(tmp_path: Path, whole_cache: Path) -> Path:
    return Path(shutil.copytree(whole_cache, tmp_path / whole_cache.name))


@pytest.mark.parametrize("times", [2, slow(100)])
def test_a_reader_keeps_its_values(tmp_path: Path, cache: Path, times: int) -> None:
    expected = digest_of(CacheDataset(cache))
    readers = Readers((keep_reading, cache, expected), (keep_opening, cache, expected))
    for _ in range(times):
        build(tmp_path, rebuild=True, streaming_chunk_size=9)
        time.sleep(0.05)
    remove_cache(cache)
    time.sleep(0.2)
    passes, kinds = readers.stop()
    assert passes >= 1
    assert names(tmp_path) == []
    assert set(kinds) == {"whole", "none"}, kinds


@pytest.mark.slow
def test_a_reader_keeps_its_values_when_the_directory_is_deleted_by_hand(tmp_path: Path, cache: Path) -> None:
    expected = digest_of(CacheDataset(cache))
    readers = Readers((keep_reading, cache, expected), (keep_opening, cache, expected))
    time.sleep(0.1)
    shutil.rmtree(cache)
    time.sleep(0.3)
    passes, kinds = readers.stop()
    assert passes >= 1
    # Files go one by one, the manifest not first: an opener may see a part of it, which it must report as damage.
    assert {kind for kind in kinds if kind not in ("whole", "none") and "CacheDamagedError" not in kind} == set(), kinds


@pytest.mark.parametrize("times", [2, slow(60)])
def test_whoever_opens_meets_a_whole_cache_or_none(tmp_path: Path, cache: Path, times: int) -> None:
    expected = digest_of(CacheDataset(cache))
    readers = Readers((keep_opening, cache, expected))
    process = start(rebuild_slowly, tmp_path, times)
    assert wait_until(lambda: process.exitcode is not None)
    assert process.exitcode == 0
    (kinds,) = readers.stop()
    assert set(kinds) <= {"whole", "none"}, kinds
    assert kinds["whole"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, slow(60)])
def test_whoever_looks_about_meets_no_error(tmp_path: Path, cache: Path, times: int) -> None:
    readers = Readers((keep_asking, tmp_path))
    process = start(rebuild_slowly, tmp_path, times)
    assert wait_until(lambda: process.exitcode is not None)
    assert process.exitcode == 0
    (kinds,) = readers.stop()
    assert set(kinds.pop("find_cache")) <= {"whole", "none"}
    assert [way for way, found in kinds.items() if set(found) != {"whole"}] == [], kinds
    assert names(tmp_path) == [cache.name]


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, slow(100)])
def test_whoever_builds_while_it_is_rebuilt_is_served(tmp_path: Path, cache: Path, times: int) -> None:
    """A call that builds waits for the builder while there is no cache for a moment: it never reports it missing."""
    readers = Readers(*[(keep_building, tmp_path)] * 3)
    process = start(rebuild_slowly, tmp_path, times)
    assert wait_until(lambda: process.exitcode is not None)
    assert process.exitcode == 0
    reports = readers.stop()
    assert [kinds for kinds in reports if set(kinds) != {"whole"}] == [], reports
    assert names(tmp_path) == [cache.name]


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, slow(100)])
def test_whoever_verifies_while_it_is_rebuilt_meets_no_damage(tmp_path: Path, cache: Path, times: int) -> None:
    readers = Readers(*[(keep_verifying, cache)] * 2)
    process = start(rebuild_slowly, tmp_path, times)
    assert wait_until(lambda: process.exitcode is not None)
    assert process.exitcode == 0
    reports = readers.stop()
    assert [kinds for kinds in reports if not set(kinds) <= {"whole", "none"}] == [], reports
