"""Parts under kills, full disks and races: the list is the former one or the new one, and nothing finished is lost."""

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memxlnet.builder.compaction import compact_parts
from memxlnet.errors import CacheNotFoundError
from memxlnet.format.part_list import PartList, read_part_list
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.removal import remove_leftovers
from tests.builder.parts import at_once, in_parts, rows_of, write_files
from tests.builder.processes import EVENTS, run, server, start
from tests.faults.processes import acting, counted, names, outcome_of
from tests.format.content import files_of
from tests.support import WAIT_SECONDS, slow

Act = Callable[[Path, Path], Any]


def build(source: Path, cache_dir: Path) -> PartList:
    return in_parts(source, cache_dir).parts


def compact(source: Path, cache_dir: Path) -> Any:
    parts = in_parts(source, cache_dir)
    return compact_parts(cache_dir, parts.parts, cache_dir).directory


def act_until(act: Act, source: Path, cache_dir: Path, event: int, report: Any) -> None:
    """Act, and kill this process just before the given file operation in the cache directory; else report how many."""
    seen = 0
    folder = os.fsencode(cache_dir)

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        values = [os.fsencode(value) for value in arguments if isinstance(value, str | bytes | os.PathLike)]
        if name in EVENTS and any(value.startswith(folder) for value in values):
            if seen == event:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(hook)
    act(source, cache_dir)
    report.send(seen)


class Grown:
    """Two parts, and the files of a day later: one changed, one new, one gone."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.source = write_files(folder / "data", {name: rows_of(name) for name in "abc"})
        self.before = in_parts(self.source, folder / "before")
        write_files(folder / "data", {"b": rows_of("b", 3), "d": rows_of("d")})
        (folder / "data" / "c.jsonl").unlink()
        shutil.copytree(folder / "before", folder / "after")
        self.after = in_parts(self.source, folder / "after")

    def copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.folder / "before", self.folder / name))

    def check(self, cache_dir: Path) -> None:
        """The list is one of both, all that it names is whole, and another build makes what is missing."""
        directory = cache_dir / self.after.directory.name
        found = read_part_list(directory)
        assert found in (self.before.parts, self.after.parts)
        there = {path.name for path in cache_dir.iterdir() if (path / "manifest.json").exists()}
        for name in there:
            PublishedCache(cache_dir / name)
        assert {part.cache for part in found.parts} <= there
        with counted() as made:
            again = in_parts(self.source, cache_dir)
        assert again.parts == self.after.parts
        assert len(made) <= len({part.cache for part in again.parts.parts} - there)
        remove_leftovers(cache_dir)
        assert names(cache_dir) == names(self.folder / "after")
        for part in again.parts.parts:
            assert files_of(cache_dir / part.cache) == files_of(self.folder / "after" / part.cache)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    return Grown(tmp_path_factory.mktemp("grown"))


def count(grown: Grown, act: Act, name: str) -> int:
    receiver, sender = server().Pipe(duplex=False)
    assert run(act_until, act, grown.source, grown.copy(name), sys.maxsize, sender) == 0
    return int(receiver.recv())


@pytest.mark.parametrize("points", [6, slow(1000)])
def test_a_kill_at_any_file_operation_leaves_the_former_list_or_the_new_one(grown: Grown, points: int) -> None:
    total = count(grown, build, f"counted-{points}")
    assert total > 30
    for event in sorted({total - 1, total - 3, *range(0, total, max(total // points, 1))}):
        cache_dir = grown.copy(f"killed-{points}-{event}")
        _, sender = server().Pipe(duplex=False)
        assert run(act_until, build, grown.source, cache_dir, event, sender) == -signal.SIGKILL
        grown.check(cache_dir)
        shutil.rmtree(cache_dir)


@pytest.mark.parametrize("points", [4, slow(1000)])
def test_a_kill_of_a_compaction_leaves_no_cache_or_a_whole_one(grown: Grown, points: int) -> None:
    one = at_once(grown.source, grown.folder / f"one-{points}")
    total = count(grown, compact, f"compacted-{points}")
    for event in range(0, total, max(total // points, 1)):
        cache_dir = grown.copy(f"cut-{points}-{event}")
        _, sender = server().Pipe(duplex=False)
        assert run(act_until, compact, grown.source, cache_dir, event, sender) == -signal.SIGKILL
        directory = cache_dir / one[""].decode()
        if directory.exists():
            assert {"": one[""], **files_of(directory)} == one
        assert compact(grown.source, cache_dir) == directory
        assert {"": one[""], **files_of(directory)} == one
        remove_leftovers(cache_dir)
        assert names(cache_dir) == sorted([*names(grown.folder / "after"), directory.name])
        shutil.rmtree(cache_dir)


def build_within(source: Path, cache_dir: Path, most: int) -> Any:
    """Build while no file may grow beyond some bytes, then without that limit."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    first = outcome_of(lambda: build(source, cache_dir))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return first


@pytest.mark.parametrize("most", [100, 1_000, 2_500])
def test_a_file_that_may_not_grow(grown: Grown, most: int) -> None:
    """At the caches, and at the list, which is smaller than any of them."""
    cache_dir = grown.copy(f"limited-{most}")
    outcome, first = acting(server(), None, build_within, grown.source, cache_dir, most)
    assert outcome[0] == "done", outcome
    kind, message, is_ours = first
    assert is_ours
    assert kind in ("BuildOSError", "CacheOSError")
    assert os.strerror(errno.EFBIG) in message
    assert str(cache_dir) in message
    assert read_part_list(cache_dir / grown.before.directory.name) == grown.before.parts
    grown.check(cache_dir)


def test_a_list_that_cannot_be_written_leaves_the_former_one(grown: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_dir = grown.copy("full")

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched:
        patched.setattr("memxlnet.maintain.part_lists.write_durably", full)
        kind, message, _ = outcome_of(lambda: build(grown.source, cache_dir))
    assert (kind, "make room" in message) == ("CacheOSError", True)
    with counted() as made:
        grown.check(cache_dir)
    assert made == []


def race(source: Path, cache_dir: Path, barrier: Any, report: Any) -> None:
    barrier.wait(WAIT_SECONDS)
    with counted() as made:
        found = build(source, cache_dir)
    report.send((len(made), found))


def test_of_several_builders_each_part_is_made_by_one(grown: Grown) -> None:
    cache_dir = grown.copy("raced")
    barrier = server().Barrier(3)
    pipes = [server().Pipe(duplex=False) for _ in range(3)]
    processes = [start(race, grown.source, cache_dir, barrier, sender) for _, sender in pipes]
    for process in processes:
        process.join(WAIT_SECONDS)
        assert process.exitcode == 0
    reports = [receiver.recv() for receiver, _ in pipes]
    assert sorted(made for made, _ in reports) == [0, 0, 2]
    assert [found for _, found in reports] == [grown.after.parts] * 3
    grown.check(cache_dir)


def keep_opening(directory: Path, lists: tuple[PartList, PartList], report: Any, stop: Any) -> None:
    """Read the list, and open all that it names, again and again; it must be one of both."""
    found: list[int] = []

    def read() -> None:
        parts = read_part_list(directory)
        found.append(lists.index(parts))
        for part in parts.parts:
            assert PublishedCache(directory.parent / part.cache).manifest.fingerprint == part.fingerprint

    read()
    report.send("ready")
    while not stop.is_set():
        read()
    read()
    report.send(found)


def test_readers_find_a_whole_list_at_every_moment(grown: Grown) -> None:
    cache_dir = grown.copy("read")
    receiver, sender = server().Pipe(duplex=False)
    stop = server().Event()
    directory = cache_dir / grown.before.directory.name
    reader = start(keep_opening, directory, (grown.before.parts, grown.after.parts), sender, stop)
    assert receiver.recv() == "ready"
    build(grown.source, cache_dir)
    stop.set()
    reader.join(WAIT_SECONDS)
    assert reader.exitcode == 0
    found = receiver.recv()
    assert (found[0], found[-1], found) == (0, 1, sorted(found))


def test_a_list_without_its_caches_is_found_out(grown: Grown) -> None:
    cache_dir = Path(shutil.copytree(grown.folder / "after", grown.folder / "robbed"))
    shutil.rmtree(cache_dir / grown.after.parts.parts[0].cache)
    with pytest.raises(CacheNotFoundError, match=grown.after.parts.parts[0].cache):
        compact_parts(cache_dir, grown.after.parts, cache_dir)
