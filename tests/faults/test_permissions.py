"""Directories that are not ours to write, and users who share one: clear errors, and files that follow the umask."""

import contextlib
import grp
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.maintain.removal import find_leftovers, remove_cache
from memxlnet.maintain.verify import verify
from tests.builder.processes import published, server, start
from tests.faults.acts import (
    build_as,
    build_counted,
    build_from_file,
    build_with,
    digest_of,
    look_about,
    open_dataset,
    open_from,
    read_everything,
)
from tests.faults.processes import NOBODY, acting, chunk_files, kill, names, outcome_of, rows, wait_until
from tests.format.content import files_of
from tests.support import slow, write_json_lines

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
PLAIN = (NOBODY, NOBODY, 0o022) if IS_ROOT else None
"""A user without the rights of root: ourselves, unless we are root."""

ALICE, BOB, GROUP = 61_001, 61_002, 61_000


def need_interpreter(user: tuple[int, int, int] | None) -> None:
    """Skip where a user may not start this Python, as where it lies in root's home."""
    if not acting(server(), user, os.access, sys.executable, os.X_OK)[1]:
        pytest.skip(f"needs an interpreter that other users may start, which {sys.executable} is not")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that every user can reach: pytest's own are for us alone."""
    folder = Path(tempfile.mkdtemp(prefix="memxlnet-faults-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for root, directories, _ in os.walk(folder):
            for name in directories:
                with contextlib.suppress(OSError):
                    Path(root, name).chmod(0o755)
        shutil.rmtree(folder)


def prepare(cache_dir: Path, cache: Path | None) -> Path:
    """Make a directory of caches that the plain user owns, with a copy of a cache or empty; gives the copy's place."""
    cache_dir.mkdir()
    if cache is not None:
        shutil.copytree(cache, cache_dir / cache.name)
    if PLAIN is not None:
        for path in (cache_dir, *cache_dir.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    return cache_dir / cache.name if cache is not None else cache_dir


# --- directories that cannot be written


@pytest.mark.parametrize(
    ("mode", "workers"), [(0o555, 0), slow(0o555, 2), slow(0o444, 0), slow(0o111, 0), slow(0o000, 0)]
)
@pytest.mark.parametrize("with_cache", [slow(False), True])
def test_building_where_nothing_can_be_written(
    shared: Path, whole_cache: Path, mode: int, with_cache: bool, workers: int
) -> None:
    cache_dir = shared / "caches"
    prepare(cache_dir, whole_cache if with_cache else None)
    before = names(cache_dir)
    cache_dir.chmod(mode)
    (kind, message, _), _ = acting(
        server(), PLAIN, build_with, cache_dir, {"doc_stride": 4, "num_workers": workers, "rebuild": True}
    )
    assert (kind, str(cache_dir) in message) == ("CacheDirectoryError", True), message
    (kind, message, _), _ = acting(server(), PLAIN, build_with, cache_dir, {"doc_stride": 4, "num_workers": workers})
    assert (kind, str(cache_dir) in message) == ("CacheDirectoryError", True), message
    assert names(cache_dir) == before


@pytest.mark.parametrize("place", ["caches", "caches/more", "file", "file/more"])
def test_building_where_nothing_can_be_created(shared: Path, place: str) -> None:
    (shared / "file").write_bytes(b"")
    shared.chmod(0o555)
    (kind, message, _), _ = acting(server(), PLAIN, build_with, shared / place, {})
    assert (kind, str(shared / place) in message) == ("CacheDirectoryError", True), message


@pytest.mark.parametrize("place", ["work", "work/more", "file", "file/more"])
@pytest.mark.parametrize("is_there", [False, True])
def test_a_work_dir_that_cannot_be_written(shared: Path, place: str, is_there: bool) -> None:
    store, work = prepare(shared / "store", None), prepare(shared / "work", None)
    (shared / "file").write_bytes(b"")
    if is_there:  # found, and to be opened: a copy is fetched
        assert acting(server(), PLAIN, open_from, store.as_uri(), shared / "work")[0][0] == "done"
        shutil.rmtree(work)
        work.mkdir()
    work.chmod(0o555)
    (kind, message, _), _ = acting(server(), PLAIN, open_from, store.as_uri(), shared / place)
    assert (kind, f"{shared / place}: expected a" in message) == ("CacheDirectoryError", True), message
    assert message.endswith("choose another work_dir")
    assert bool(names(store)) == is_there


def test_building_in_a_directory_that_can_be_written_but_not_listed(shared: Path) -> None:
    """A rename is durable only after its directory was opened and synced, which is refused there."""
    cache_dir = shared / "caches"
    prepare(cache_dir, None)
    cache_dir.chmod(0o333)
    (kind, message, is_ours), _ = acting(server(), PLAIN, build_with, cache_dir, {})
    assert is_ours, (kind, message)
    assert kind == "done" or str(cache_dir) in message
    cache_dir.chmod(0o755)
    assert len(list(published(cache_dir))) <= 1


@pytest.mark.parametrize("mode", [0o555, slow(0o111), slow(0o000)])
def test_building_from_a_file_where_nothing_can_be_written(shared: Path, whole_cache: Path, mode: int) -> None:
    """A source file is looked up in the caches that are there, before anything is written."""
    source = write_json_lines(shared / "source.jsonl", rows())
    cache_dir = shared / "caches"
    prepare(cache_dir, whole_cache)
    cache_dir.chmod(mode)
    (kind, message, _), _ = acting(server(), PLAIN, build_from_file, cache_dir, source, {})
    assert (kind, str(cache_dir) in message) == ("CacheDirectoryError", True), message


def test_reading_where_nothing_can_be_written(shared: Path, whole_cache: Path) -> None:
    if not Path("/proc/locks").exists():
        pytest.skip("needs /proc/locks")
    cache_dir = shared / "caches"
    directory = prepare(cache_dir, whole_cache)
    expected = digest_of(CacheDataset(directory))
    for path in (*directory.iterdir(), directory, cache_dir):
        path.chmod(0o555 if path.is_dir() else 0o444)
    times = {path: path.stat().st_mtime_ns for path in (*directory.iterdir(), directory, cache_dir)}
    outcome, found = acting(server(), PLAIN, read_everything, directory)
    assert outcome[0] == "done", outcome
    assert (found["digest"], found["eager"]) == (expected, expected)
    assert found["found"]
    assert found["unchanged"]
    assert found["built"] == found["again"] == found["rows"]
    assert not found["locks"]
    assert not found["leftovers"] + found["old"]
    assert {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.parametrize(
    "name", ["manifest.json", slow("features-00001.arrow"), slow("contexts-00000.arrow"), slow("tokenizer.json")]
)
def test_a_file_that_may_not_be_read_is_named(shared: Path, whole_cache: Path, name: str) -> None:
    """By opening, or by `verify` at the latest; and looking a source up passes over what it may not read."""
    directory = prepare(shared / "caches", whole_cache)
    (directory / name).chmod(0)
    found = []
    for act in (open_dataset, verify):
        outcome, _ = acting(server(), PLAIN, act, directory)
        found.append(outcome)
        assert outcome[0] in ("done", "CacheNotFoundError", "CacheDamagedError", "CacheDirectoryError"), outcome
        assert outcome[0] == "done" or name in outcome[1]
    assert found[1][0] != "done"
    source = write_json_lines(shared / "source.jsonl", rows())
    (kind, message, _), _ = acting(server(), PLAIN, build_from_file, shared / "caches", source, {})
    assert kind == "done", message


@pytest.mark.parametrize("from_file", [True, slow(False)])
def test_a_cache_that_may_not_be_entered_is_passed_over_by_other_builds(
    shared: Path, whole_cache: Path, from_file: bool
) -> None:
    directory = prepare(shared / "caches", whole_cache)
    directory.chmod(0)
    source = write_json_lines(shared / "source.jsonl", rows())
    act, arguments = (build_from_file, (source, {})) if from_file else (build_with, ({"doc_stride": 4},))
    (kind, message, _), _ = acting(server(), PLAIN, act, shared / "caches", *arguments)
    assert kind == "done", message


# --- two users

two_users = pytest.mark.skipif(not IS_ROOT, reason="needs root, to act as two users")


@pytest.fixture
def common(shared: Path) -> Path:
    """A directory of caches for a group: new entries belong to the group."""
    if any(entry.gr_gid == GROUP for entry in grp.getgrall()):
        pytest.skip(f"the group {GROUP} is in use here")
    cache_dir = shared / "caches"
    cache_dir.mkdir()
    os.chown(cache_dir, 0, GROUP)
    cache_dir.chmod(0o2775)
    return cache_dir


def user(uid: int, umask: int) -> tuple[int, int, int]:
    return uid, GROUP, umask


def act_as(uid: int, umask: int, act: Any, *arguments: Any) -> tuple[tuple[str, str, bool], Any]:
    return acting(server(), user(uid, umask), act, *arguments)


def published_by(cache_dir: Path, uid: int, umask: int, **settings: Any) -> Path:
    before = set(names(cache_dir))
    outcome, _ = act_as(uid, umask, build_with, cache_dir, settings)
    assert outcome[0] == "done", outcome
    (name,) = set(names(cache_dir)) - before
    return cache_dir / name


UMASKS = [(umask, workers) for umask in (0o002, 0o022, 0o027, 0o077) for workers in (0, 2)]
QUICK = [(0o002, 2), (0o077, 0)]


@two_users
@pytest.mark.parametrize(("umask", "workers"), [case if case in QUICK else slow(*case) for case in UMASKS])
def test_files_follow_the_umask(common: Path, umask: int, workers: int) -> None:
    if workers:
        need_interpreter(user(ALICE, umask))
    directory = published_by(common, ALICE, umask, num_workers=workers)
    found = directory.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (ALICE, GROUP, 0o777 & ~umask)
    for path in directory.iterdir():
        found = path.stat()
        assert stat.S_ISREG(found.st_mode)
        shown = (path.name, found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))
        assert shown == (path.name, ALICE, GROUP, 0o666 & ~umask)


@two_users
def test_the_group_reads_and_rebuilds_what_it_may(common: Path) -> None:
    directory = published_by(common, ALICE, 0o002)
    before = files_of(directory)
    outcome, found = act_as(BOB, 0o002, read_everything, directory)
    assert outcome[0] == "done", outcome
    assert found["built"] == found["rows"]
    assert found["digest"] == digest_of(CacheDataset(directory))
    assert found["unchanged"]
    outcome, _ = act_as(BOB, 0o002, build_with, common, {"rebuild": True})
    assert outcome[0] == "done", outcome
    assert directory.stat().st_uid == BOB
    assert files_of(directory) == before
    assert names(common) == [directory.name]
    outcome, _ = act_as(ALICE, 0o002, remove_cache, directory)
    assert outcome[0] == "done", outcome
    assert names(common) == []


@pytest.mark.slow
@two_users
def test_another_user_resumes_an_interrupted_build(common: Path, undisturbed: dict[str, bytes]) -> None:
    _, sender = server().Pipe(duplex=False)
    process = start(build_as, user(ALICE, 0o002), common, sender)
    assert wait_until(lambda: len(chunk_files(common)) >= 5 or process.exitcode is not None)
    kill(process)
    finished = len(chunk_files(common))
    outcome, made = act_as(BOB, 0o002, build_counted, common)
    assert outcome[0] == "done", outcome
    assert made == 40 - finished
    (name,) = names(common)
    assert files_of(common / name) == undisturbed


@pytest.mark.slow
@two_users
def test_another_user_waits_for_a_build(common: Path) -> None:
    """The lock of one user is another's to wait for."""
    receiver, sender = server().Pipe(duplex=False)
    first = start(build_as, user(ALICE, 0o002), common, sender)
    assert wait_until(lambda: chunk_files(common) or first.exitcode is not None)
    outcome, made = act_as(BOB, 0o002, build_counted, common)
    first.join(60)
    assert receiver.recv()[0] == "done"
    assert (outcome[0], made) == ("done", 0), outcome


@two_users
@pytest.mark.parametrize("umask", [0o077, slow(0o027)])
def test_what_another_user_keeps_private_is_named(common: Path, umask: int) -> None:
    """A clear error for every call, by the path that may not be read, and other caches are built beside it."""
    directory = published_by(common, ALICE, umask)
    stranger = (BOB, BOB, 0o022)
    if umask == 0o077:
        stranger = user(BOB, 0o022)
    else:
        common.chmod(0o2777)
    before = {path.name: path.stat().st_ino for path in common.iterdir()}
    for act, arguments in (
        (build_with, (common, {})),
        (open_dataset, (directory,)),
        (verify, (directory,)),
    ):
        (kind, message, is_ours), _ = acting(server(), stranger, act, *arguments)
        assert is_ours, (act.__name__, kind, message)
        assert kind != "done"
        assert str(directory) in message
        assert "ermission" in message, message
    assert {path.name: path.stat().st_ino for path in common.iterdir()} == before


@pytest.mark.slow
@two_users
def test_a_private_cache_does_not_keep_others_from_building_theirs(common: Path) -> None:
    published_by(common, ALICE, 0o077)
    source = write_json_lines(common.parent / "source.jsonl", rows())
    for act, arguments in ((build_with, ({"doc_stride": 4},)), (build_from_file, (source, {}))):
        outcome, _ = act_as(BOB, 0o002, act, common, *arguments)
        assert outcome[0] == "done", outcome
    outcome, _ = act_as(BOB, 0o002, look_about, common)
    assert outcome[0] == "done", outcome


@pytest.mark.slow
@two_users
def test_a_rebuild_of_what_another_user_keeps_private(common: Path) -> None:
    """It replaces the cache or is refused; either way nothing is left that nobody knows of."""
    directory = published_by(common, ALICE, 0o077)
    before = files_of(directory)
    (kind, message, is_ours), _ = act_as(BOB, 0o002, build_with, common, {"rebuild": True})
    assert is_ours, (kind, message)
    if kind == "done":
        assert directory.stat().st_uid == BOB
    else:
        assert directory.stat().st_uid == ALICE
        assert str(common) in message
    assert files_of(directory) == before
    left = [name for name in names(common) if name != directory.name]
    known = [leftover.path.name for leftover in find_leftovers(common)]
    assert [name for name in left if name not in known] == []


@pytest.mark.slow
@two_users
def test_a_private_build_that_was_interrupted_is_named(common: Path) -> None:
    """What Alice left may be neither read nor removed by Bob: he gets an error, and nothing of it is lost."""
    _, sender = server().Pipe(duplex=False)
    process = start(build_as, user(ALICE, 0o077), common, sender)
    assert wait_until(lambda: len(chunk_files(common)) >= 5 or process.exitcode is not None)
    kill(process)
    finished = chunk_files(common)
    (kind, message, is_ours), _ = act_as(BOB, 0o077, build_with, common, {})
    assert is_ours, (kind, message)
    if kind != "done":
        assert str(common) in message
        assert "ermission" in message
        assert chunk_files(common) == finished
    outcome = outcome_of(lambda: verify(common / "nothing"))
    assert outcome[0] == "CacheNotFoundError"
