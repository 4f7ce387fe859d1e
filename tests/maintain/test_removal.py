"""Removal: what is gone is gone whole, what is in use or not ours stays, and readers keep what they have mapped."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.encode.cache_settings import CacheSettings
from memxlnet.encode.tokenizer_content import TokenizerContent
from memxlnet.errors import BuildError, CacheDirectoryError, CacheNotFoundError, SettingsError
from memxlnet.format.checksums import file_digest
from memxlnet.format.published import PublishedCache
from memxlnet.maintain import lock as builder_lock
from memxlnet.maintain import removal
from memxlnet.maintain.lock import is_held, lock_path
from memxlnet.maintain.old_caches import find_old_caches, remove_old_caches
from memxlnet.maintain.removal import Leftover, find_leftovers, remove_cache, remove_leftovers
from memxlnet.settings import EncodeSettings
from tests.format.content import LAYOUT, chunks, files_of, make_content, read_tables, settings, tables_of
from tests.support import interruptible

ROOT = Path(__file__).parent.parent.parent
CONTENT = make_content(1, 4, ["a", "b"], [(0, 3), (1, 2), (0, 1), None])
OTHER = make_content(2, 4, ["c"], [(0, 5)])
NAME = settings(4).directory_name


def begin(cache_dir: Path, content: Any = CONTENT, made: CacheSettings | None = None) -> tuple[CacheWriter, list[Any]]:
    writer = CacheWriter(cache_dir)
    writer.begin(made or settings(4))
    return writer, [writer.write_chunk(index, tables) for index, tables in enumerate(chunks(content, [2]))]


def publish(cache_dir: Path, content: Any = CONTENT, **changes: Any) -> Path:
    made = settings(4, **changes)
    with CacheWriter(cache_dir).lock(made):
        writer, receipts = begin(cache_dir, content, made)
        return writer.finish(receipts).directory


def check_whole(directory: Path) -> None:
    """Every file is there and has its checksum."""
    for record in PublishedCache(directory).manifest.all_files():
        assert file_digest(directory / record.file) == record.xxh3_128, record


def names(cache_dir: Path) -> list[str]:
    return sorted(path.name for path in cache_dir.iterdir())


def found(cache_dir: Path) -> list[tuple[str, str, bool]]:
    return [(each.path.name, each.kind, each.in_use) for each in find_leftovers(cache_dir)]


@contextlib.contextmanager
def running(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process that has printed its first line, and is killed at the end."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


HOLDER = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("ready", flush=True)
    time.sleep(600)
"""


def interrupt(_: Path) -> None:
    with interruptible():
        signal.raise_signal(signal.SIGINT)


# --- leftovers


def test_an_interrupted_build_is_found_and_removed(tmp_path: Path) -> None:
    with CacheWriter(tmp_path).lock(settings(4)):
        begin(tmp_path)
        assert found(tmp_path) == [(f".build-{NAME}", "build", True)]
        assert remove_leftovers(tmp_path) == []
    sizes = [path.stat().st_size for path in (tmp_path / f".build-{NAME}").rglob("*") if path.is_file()]
    expected = [Leftover(tmp_path / f".build-{NAME}", "build", sum(sizes), False)]
    assert len(sizes) >= 3
    assert find_leftovers(tmp_path) == expected
    assert remove_leftovers(str(tmp_path)) == expected
    assert names(tmp_path) == []
    assert find_leftovers(tmp_path) == remove_leftovers(tmp_path) == []


def test_a_published_cache_leaves_its_lock_file_alone(tmp_path: Path) -> None:
    directory = publish(tmp_path)
    (tmp_path / f".build-{NAME}.lock").touch()
    before = files_of(directory)
    assert found(tmp_path) == [(f".build-{NAME}.lock", "lock", False)]
    assert [each.kind for each in remove_leftovers(tmp_path)] == ["lock"]
    assert names(tmp_path) == [NAME]
    assert files_of(directory) == before


@pytest.mark.parametrize("name", [NAME, f"{NAME}.{'0f' * 8}", f".build-{NAME}.{'0f' * 8}", f"{NAME}.123-0123abcd"])
def test_all_names_of_retired_directories_are_known(tmp_path: Path, name: str) -> None:
    publish(tmp_path).rename(tmp_path / f".retired-{name}")
    (tmp_path / f".build-{NAME}.lock").unlink(missing_ok=True)
    with builder_lock.builder_lock(lock_path(tmp_path, NAME), lambda: None):
        assert found(tmp_path)[-1] == (f".retired-{name}", "retired", True)
    (tmp_path / f".build-{NAME}.lock").unlink(missing_ok=True)
    assert found(tmp_path) == [(f".retired-{name}", "retired", False)]
    assert [each.path.name for each in remove_leftovers(tmp_path)] == [f".retired-{name}"]
    assert names(tmp_path) == []


def test_what_a_killed_writer_leaves_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)  # killed before
        publish(tmp_path)
        publish(tmp_path)
        begin(tmp_path)
        CacheWriter(tmp_path).discard(settings(4))
    left = [path for path in sorted(tmp_path.iterdir()) if path.name.startswith(".retired-")]
    assert len(left) >= 2
    assert [each.path for each in remove_leftovers(tmp_path) if each.kind == "retired"] == left
    assert names(tmp_path) == [NAME]
    check_whole(tmp_path / NAME)


def test_looking_changes_nothing(tmp_path: Path) -> None:
    begin(tmp_path)
    before = [(str(path), path.lstat()) for path in sorted(tmp_path.rglob("*"))]
    find_leftovers(tmp_path)
    assert [(str(path), path.lstat()) for path in sorted(tmp_path.rglob("*"))] == before


def test_a_lock_of_another_live_process_keeps_everything_of_that_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder_lock, "WAIT_SECONDS", 0.1)
    publish(tmp_path)
    begin(tmp_path)
    (tmp_path / f".retired-{NAME}").mkdir()
    other = settings(4, split="other").directory_name
    (tmp_path / f".build-{other}.lock").touch()
    with running(HOLDER, tmp_path / f".build-{NAME}.lock"):
        assert found(tmp_path) == [
            (f".build-{other}.lock", "lock", False),
            (f".build-{NAME}", "build", True),
            (f".retired-{NAME}", "retired", True),
        ]
        assert [each.path.name for each in remove_leftovers(tmp_path)] == [f".build-{other}.lock"]
        with pytest.raises(BuildError, match=rf"{NAME}: expected no running builder, found .build-{NAME}.lock held"):
            remove_cache(tmp_path / NAME)
        check_whole(tmp_path / NAME)
        assert names(tmp_path) == [f".build-{NAME}", f".build-{NAME}.lock", f".retired-{NAME}", NAME]
    assert [each.kind for each in remove_leftovers(tmp_path)] == ["build", "retired"]
    assert names(tmp_path) == [NAME]


def test_a_builder_that_takes_the_lock_meanwhile_keeps_its_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path)
    monkeypatch.setattr(removal, "is_held", lambda *_: False)  # it came after the look
    monkeypatch.setattr(builder_lock, "WAIT_SECONDS", 0.05)
    with CacheWriter(tmp_path).lock(settings(4)):
        assert remove_leftovers(tmp_path) == []
    assert len(remove_leftovers(tmp_path)) == 1


def test_a_lock_file_that_another_process_unlinked_guards_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path)
    lock_file = tmp_path / f".build-{NAME}.lock"
    plain = fcntl.flock
    pending = ["unlinked", "replaced"]

    def late(descriptor: int, how: int) -> None:
        if how & fcntl.LOCK_EX and pending:
            lock_file.unlink()  # by the holder, between our opening and our locking
            if pending.pop() == "replaced":
                lock_file.touch()
        plain(descriptor, how)

    def check(path: Path) -> None:
        assert not pending
        assert is_held(lock_path(tmp_path, NAME))
        path.rename(tmp_path / "deleted")

    monkeypatch.setattr(fcntl, "flock", late)
    monkeypatch.setattr(shutil, "rmtree", check)
    assert len(remove_leftovers(tmp_path)) == 1
    assert names(tmp_path) == ["deleted"]


def test_what_another_process_removed_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path).rename(tmp_path / f".retired-{NAME}")
    begin(tmp_path, made=settings(4, split="other"))
    (tmp_path / f".build-{NAME}.lock").touch()
    seen = find_leftovers(tmp_path)
    assert {each.kind for each in seen} == {"build", "lock", "retired"}
    assert remove_leftovers(tmp_path) == seen
    monkeypatch.setattr(removal, "find_leftovers", lambda _: seen)
    assert remove_leftovers(tmp_path) == []
    assert names(tmp_path) == []
    monkeypatch.setattr(removal, "own_manifest", lambda _: ({}, True))
    assert remove_cache(tmp_path / NAME) == 0


def test_a_moment_of_looking_is_waited_for(tmp_path: Path) -> None:
    directory = publish(tmp_path)
    looker = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_SH)
print("ready", flush=True)
time.sleep(0.3)
"""
    with running(looker, tmp_path / f".build-{NAME}.lock"):
        # What looks holds the lock shared, so that it is not taken for a builder.
        assert not any(each.in_use for each in find_leftovers(tmp_path))
        assert remove_cache(directory)


@pytest.mark.parametrize(
    "name",
    [
        ".build-",
        ".build-tools",
        ".build-tools.lock",
        f".build-{NAME}x",
        f".build-{NAME}.tmp",
        f".build-{NAME[:-1]}",
        f".buildx-{NAME}",
        f"x.build-{NAME}",
        ".retired-",
        ".retired-photos",
        ".retired-photos.old",
        f".retired-{NAME}.bak",
        f".retired-{NAME}\n",
        "lost+found",
        NAME,
    ],
)
def test_names_that_memxlnet_does_not_give_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").write_bytes(b"kept")
    (tmp_path / f"{name}.lock").write_bytes(b"kept")
    before = sorted(tmp_path.rglob("*"))
    assert find_leftovers(tmp_path) == remove_leftovers(tmp_path) == []
    assert sorted(tmp_path.rglob("*")) == before


def test_links_and_files_of_the_wrong_kind_are_left_alone(tmp_path: Path) -> None:
    outside, cache_dir = tmp_path / "outside", tmp_path / "caches"
    outside.mkdir()
    cache_dir.mkdir()
    (outside / "precious").write_bytes(b"kept")
    (cache_dir / f".build-{NAME}").symlink_to(outside)
    (cache_dir / f".retired-{NAME}").symlink_to(outside)
    (cache_dir / f".retired-{NAME}.1-0123abcd").write_bytes(b"a file")
    other = settings(4, split="other").directory_name
    (cache_dir / f".build-{other}.lock").symlink_to(outside / "precious")
    (cache_dir / f".build-{settings(4, split='third').directory_name}.lock").mkdir()
    before = names(cache_dir)
    assert find_leftovers(cache_dir) == remove_leftovers(cache_dir) == []
    assert names(cache_dir) == before
    # Links within a leftover are unlinked, what they lead to stays.
    (cache_dir / f".build-{NAME}").unlink()
    begin(cache_dir)
    (cache_dir / f".build-{NAME}" / "link").symlink_to(outside)
    assert [each.kind for each in remove_leftovers(cache_dir)] == ["build"]
    assert (outside / "precious").read_bytes() == b"kept"


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    begin(tmp_path / "caches")
    (tmp_path / "precious").write_bytes(b"kept")
    (tmp_path / "caches" / f".build-{NAME}.lock").symlink_to(tmp_path / "precious")
    assert found(tmp_path / "caches") == [(f".build-{NAME}", "build", True)]
    assert remove_leftovers(tmp_path / "caches") == []
    assert (tmp_path / "precious").read_bytes() == b"kept"


def test_a_cache_directory_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    for call in (find_leftovers, remove_leftovers, find_old_caches, remove_old_caches):
        assert call(tmp_path / "none") == []
        with pytest.raises(SettingsError, match="cache_dir: expected a local directory"):
            call("")
    (tmp_path / "file").write_bytes(b"")
    for call in (find_leftovers, remove_leftovers, find_old_caches, remove_old_caches):
        with pytest.raises(CacheDirectoryError, match="file: cannot be read: Not a directory"):
            call(tmp_path / "file")
    assert names(tmp_path) == ["file"]


def test_one_that_cannot_be_removed_does_not_keep_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = shutil.rmtree
    splits = ["a", "b", "c"]
    for split in splits:
        begin(tmp_path, made=settings(4, split=split))

    def fail(path: Path) -> None:
        if "--b--" in path.name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path / "chunks"))
        plain(path)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", fail)
        with pytest.raises(CacheDirectoryError, match=r"removed 2 of 3: .*--b--.*: cannot be removed: Permission den"):
            remove_leftovers(tmp_path)
    (left,) = find_leftovers(tmp_path)
    assert left.kind == "retired"
    assert "--b--" in left.path.name
    assert remove_leftovers(tmp_path) == [left]
    assert names(tmp_path) == []


# --- one published cache


def test_a_cache_is_removed_whole(tmp_path: Path) -> None:
    directory, other = publish(tmp_path), publish(tmp_path, OTHER, split="other")
    size = sum(map(len, files_of(directory).values()))
    assert remove_cache(directory) == size
    assert f".build-{NAME}.lock" not in names(tmp_path)
    assert [path.name for path in tmp_path.glob("[!.]*")] == [other.name]
    check_whole(other)
    with pytest.raises(CacheNotFoundError, match="expected the directory of a cache, found none"):
        remove_cache(directory)
    assert f".build-{NAME}.lock" not in names(tmp_path)


def test_an_interrupted_build_of_the_same_cache_stays(tmp_path: Path) -> None:
    directory = publish(tmp_path)
    begin(tmp_path)
    remove_cache(str(directory) + "/")
    assert names(tmp_path) == [f".build-{NAME}"]
    assert set(CacheWriter(tmp_path).begin(settings(4))) == {0, 1}


def change(directory: Path, **fields: Any) -> None:
    content = json.loads((directory / "manifest.json").read_bytes())
    (directory / "manifest.json").write_text(json.dumps({**content, **fields}))


@pytest.mark.parametrize("fields", [{"schema_version": 99}, {"checksum": "x"}, {"tables": None, "name": 3}])
def test_a_damaged_cache_or_one_of_another_version_is_ours_to_remove(tmp_path: Path, fields: dict[str, Any]) -> None:
    directory = publish(tmp_path)
    change(directory, **fields)
    (directory / "features-00000.arrow").unlink()
    assert remove_cache(directory)
    assert not directory.exists()


@pytest.mark.parametrize("manifest", [None, b"", b"{", b"null", b"[]", b'{"format": "other"}', b"[" * 100_000])
def test_a_directory_without_our_manifest_is_refused(tmp_path: Path, manifest: bytes | None) -> None:
    directory = publish(tmp_path)
    (directory / "manifest.json").unlink()
    if manifest is not None:
        (directory / "manifest.json").write_bytes(manifest)
    (tmp_path / f".build-{NAME}.lock").unlink(missing_ok=True)
    before = files_of(directory)
    with pytest.raises(CacheNotFoundError, match=r"expected a .*cache, found (no|another) manifest\.json"):
        remove_cache(directory)
    assert files_of(directory) == before
    assert names(tmp_path) == [NAME]


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch])
def test_a_directory_that_holds_other_things_is_refused(tmp_path: Path, make: Any) -> None:
    directory = publish(tmp_path)
    make(directory / "my results")
    with pytest.raises(CacheNotFoundError, match=f"{NAME}: expected files of a cache only, found my results"):
        remove_cache(directory)
    check_whole(directory)


@pytest.mark.parametrize("name", ["none", "file", "x" * 5000, "file/below"])
def test_what_is_no_directory_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CacheNotFoundError, match="expected the directory of a cache, found none"):
        remove_cache(tmp_path / name)
    assert names(tmp_path) == ["file"]


def test_a_link_to_a_cache_is_refused(tmp_path: Path) -> None:
    directory = publish(tmp_path / "caches")
    (tmp_path / "link").symlink_to(directory)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("link", "link/", "loop"):
        with pytest.raises(CacheNotFoundError, match="found a symbolic link; unlink it"):
            remove_cache(f"{tmp_path}/{name}")
    check_whole(directory)
    # A link further up is none of its business.
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "caches")
    assert remove_cache(tmp_path / "link" / NAME)
    assert not directory.exists()


def test_a_cache_is_removed_by_a_roundabout_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = publish(tmp_path)
    monkeypatch.chdir(directory)
    assert remove_cache(".")
    directory = publish(tmp_path)
    (directory / "below").mkdir()
    monkeypatch.chdir(directory / "below")
    with pytest.raises(CacheNotFoundError, match="found below"):
        remove_cache("..")
    check_whole(directory)


@pytest.mark.parametrize("name", ["mine", "\u4e2d\u6587", "x" * 255, ".build-mine", "a b--c"])
def test_a_cache_that_was_renamed_by_hand_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    directory = publish(tmp_path / "caches").rename(tmp_path / name)
    assert find_leftovers(tmp_path) == []
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            remove_cache(directory)
    # Ended behind the rename: what it left is known as such.
    (left,) = find_leftovers(tmp_path)
    assert (left.kind, left.in_use) == ("retired", False)
    left.path.rename(directory)
    assert remove_cache(directory)
    assert names(tmp_path) == ["caches"]


# --- kills, and several at once


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from memxlnet.maintain.removal import find_leftovers, remove_cache, remove_leftovers
from tests.maintain.test_removal import check_whole

cache_dir, copy, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
EVENTS = {"open", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree", "fcntl.flock"}

def run(event, work):
    seen = -1
    def hook(called, _):
        nonlocal seen
        if called in EVENTS:
            seen += 1
            if seen == event:
                os.kill(os.getpid(), signal.SIGKILL)
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.addaudithook(hook)
    work()
    os._exit(0)

for work in (lambda: remove_cache(cache_dir / name), lambda: remove_leftovers(cache_dir)):
    outcomes = set()
    for event in range(500):
        shutil.rmtree(cache_dir, ignore_errors=True)
        shutil.copytree(copy, cache_dir)
        code = run(event, work)
        if (cache_dir / name).exists():
            check_whole(cache_dir / name)
        leftovers = find_leftovers(cache_dir)
        assert not any(each.in_use for each in leftovers)
        assert {path.name for path in cache_dir.iterdir()} - {name} - {each.path.name for each in leftovers} <= {
            f".build-{name}.lock"
        }, list(cache_dir.iterdir())
        # A build is there whole or not at all, so that nobody goes on with a part of it.
        build = cache_dir / f".build-{name}"
        assert not build.exists() or len(list(build.rglob("*"))) == len(list((copy / build.name).rglob("*")))
        outcomes.add(((cache_dir / name).exists(), sum(each.kind == "retired" for each in leftovers)))
        assert remove_leftovers(cache_dir) == leftovers
        assert {path.name for path in cache_dir.iterdir()} <= {name}
        if code == 0:
            break
        assert code == -signal.SIGKILL, code
    assert code == 0
    print(event, sorted(outcomes), file=sys.stderr)
    assert len(outcomes) > 1, outcomes
print("ready")
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_cache_or_leftovers(tmp_path: Path) -> None:
    publish(tmp_path / "copy")
    begin(tmp_path / "copy")
    with running(KILLED, tmp_path / "caches", tmp_path / "copy", NAME):
        pass


REMOVER = """
import sys
from pathlib import Path
from memxlnet.maintain.old_caches import remove_old_caches
from memxlnet.maintain.removal import find_leftovers, remove_cache, remove_leftovers
cache_dir, directory = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(5):
    find_leftovers(cache_dir)
    print(*(each.path.name for each in remove_leftovers(cache_dir) + remove_old_caches(cache_dir)), flush=True)
if directory.exists():
    try:
        print("removed" if remove_cache(directory) else "gone", flush=True)
    except FileNotFoundError as error:
        assert "found no" in str(error), error
"""


def test_several_processes_remove_at_once(tmp_path: Path) -> None:
    expected = []
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(10):
        (tree / f"{number}").touch()
    for number in range(20):
        split = f"s{number}"
        name = settings(4, split=split).directory_name
        if number % 2:
            begin(tmp_path, made=settings(4, split=split))
            expected.append(f".build-{name}")
        for suffix in ("", ".1-0123abcd", ".2-0123abcd"):
            shutil.copytree(tree, tmp_path / f".retired-{name}{suffix}")
            expected.append(f".retired-{name}{suffix}")
        if not number % 2:
            (tmp_path / f".build-{name}.lock").touch()
    shutil.rmtree(tree)
    old = publish(tmp_path, source={"kind": "file", "sha256": "old"})
    directory = publish(tmp_path)
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(running(REMOVER, tmp_path, directory)) for _ in range(4)]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        told = [process.communicate(timeout=60)[0].split() for process in processes]
        assert [process.returncode for process in processes] == [0] * 4
    every = [name for names in told for name in names if not name.endswith(".lock")]
    assert sorted(name for name in every if name != "gone") == sorted([*expected, old.name, "removed"])
    assert [name for name in names(tmp_path) if not name.endswith(".lock")] == []


BUILDER = """
import os, sys, time
from pathlib import Path
from filelock import FileLock
build = Path(sys.argv[1])
print("ready", flush=True)
rounds = 0
while not (build.parent / "stop").exists():
    with FileLock(f"{build}.lock", poll_interval=0.001):
        build.mkdir()  # raises where another builder is at work
        (build / "chunk").touch()
        time.sleep(0.001)
        (build / "chunk").unlink()
        build.rmdir()
    time.sleep(0.003)
    rounds += 1
print(rounds)
"""


@pytest.mark.slow
def test_unlinked_lock_files_still_let_one_builder_in_at_a_time(tmp_path: Path) -> None:
    build = tmp_path / f".build-{NAME}"
    removed = 0
    with contextlib.ExitStack() as stack:
        builders = [stack.enter_context(running(BUILDER, build)) for _ in range(3)]
        deadline = time.monotonic() + 30
        while removed < 20 and time.monotonic() < deadline:
            removed += sum(each.kind == "lock" for each in remove_leftovers(tmp_path))
        (tmp_path / "stop").touch()
        rounds = [int(builder.communicate()[0]) for builder in builders]
        assert [builder.returncode for builder in builders] == [0] * 3
    assert removed >= 20
    assert min(rounds) > 0


@pytest.mark.slow
def test_a_build_that_starts_meanwhile_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = publish(tmp_path)
    plain = shutil.rmtree
    build = """
import sys
from pathlib import Path
from tests.maintain.test_removal import OTHER, publish
print("ready", flush=True)
publish(Path(sys.argv[1]), OTHER)
"""
    with contextlib.ExitStack() as stack:

        def slow(path: Path) -> None:
            process = stack.enter_context(running(build, tmp_path))
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.3)
            assert not directory.exists()
            plain(path)

        with monkeypatch.context() as patched:
            patched.setattr(shutil, "rmtree", slow)
            assert remove_cache(directory)
        deadline = time.monotonic() + 20
        while not (directory / "manifest.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert read_tables(PublishedCache(directory)) == tables_of(OTHER)


READER = """
import sys
from pathlib import Path
from memxlnet.format.published import PublishedCache
from tests.format.content import read_tables, tables_of
from tests.maintain.test_removal import CONTENT
cache = PublishedCache(Path(sys.argv[1]))
expected = tables_of(CONTENT)
assert read_tables(cache) == expected
print("ready", flush=True)
rounds = 0
import select
while not select.select([sys.stdin], [], [], 0)[0] or rounds < 3:
    assert read_tables(cache) == expected
    rounds += 1
assert read_tables(cache) == expected
print("same")
"""


@pytest.mark.slow
def test_a_reader_keeps_its_values_while_the_cache_is_removed_and_rebuilt(tmp_path: Path) -> None:
    directory = publish(tmp_path)
    here = PublishedCache(directory)
    with running(READER, directory) as reader:
        for content in (OTHER, CONTENT, OTHER):
            assert remove_cache(directory)
            assert reader.poll() is None
            assert publish(tmp_path, content) == directory
            assert read_tables(PublishedCache(directory)) == tables_of(content)
        remove_cache(directory)
        assert read_tables(here) == tables_of(CONTENT)
        assert reader.communicate("\n", timeout=30)[0] == "same\n"
        assert reader.returncode == 0


# --- permissions


DENIED = """
import os, sys, tempfile
from pathlib import Path
from memxlnet.errors import CacheDirectoryError
from memxlnet.maintain.old_caches import *
from memxlnet.maintain.removal import *
from tests.maintain.test_removal import begin, check_whole, names, publish

with tempfile.TemporaryDirectory() as root:
    cache_dir = Path(root)
    old = publish(cache_dir, source={"kind": "file", "sha256": "old"})
    directory = publish(cache_dir)
    begin(cache_dir)
    for path in cache_dir.glob("*.lock"):
        path.unlink()
    if os.geteuid() == 0:
        for path in [cache_dir, *cache_dir.rglob("*")]:
            os.chown(path, 65534, 65534)
        if os.fork():  # the parent removes the directory
            sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

    def refused(call, *arguments):
        before = names(cache_dir)
        try:
            call(*arguments)
        except CacheDirectoryError as error:
            assert "cannot be removed: Permission denied" in str(error), error
            assert names(cache_dir) == before
            return str(error)
        raise AssertionError(call)

    calls = [(remove_cache, directory), (remove_leftovers, cache_dir), (remove_old_caches, cache_dir)]
    cache_dir.chmod(0o555)
    assert [each.kind for each in find_leftovers(cache_dir)] == ["build"]
    assert [each.path for each in find_old_caches(cache_dir)] == [old]
    for call, argument in calls:
        assert str(cache_dir) in refused(call, argument)
    cache_dir.chmod(0o755)
    # A cache that was made read-only is not taken out of sight either.
    for path in (directory, old, cache_dir / f".build-{directory.name}"):
        path.chmod(0o555)
    for call, argument in calls:
        refused(call, argument)
    check_whole(directory)
    for path in (directory, old, cache_dir / f".build-{directory.name}"):
        path.chmod(0o755)
    cache_dir.chmod(0o000)
    for call in (find_leftovers, remove_leftovers, find_old_caches, remove_old_caches):
        try:
            call(cache_dir)
        except CacheDirectoryError as error:
            assert "cannot be read: Permission denied" in str(error), error
        else:
            raise AssertionError(call)
    cache_dir.chmod(0o755)
    # A lock file that cannot be read may be held.
    (cache_dir / f".build-{directory.name}.lock").touch(0o000)
    assert [each.in_use for each in find_leftovers(cache_dir)] == [True]
    refused(remove_cache, directory)
    (cache_dir / f".build-{directory.name}.lock").chmod(0o600)
    assert remove_cache(directory)
    assert len(remove_leftovers(cache_dir)) == 1
    assert names(cache_dir) == [old.name]
    print("ready")
    sys.stdout.flush()
    os._exit(0) if os.geteuid() == 65534 else None
"""


def test_missing_permissions_are_told_and_nothing_is_touched() -> None:
    # Root may do everything, so its rights are dropped.
    done = subprocess.run([sys.executable, "-c", DENIED], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr


# --- old caches


def aged(cache_dir: Path, seconds: int, **changes: Any) -> Path:
    """A cache whose manifest was written so many seconds after the epoch."""
    directory = publish(cache_dir, **changes)
    os.utime(directory / "manifest.json", (seconds, seconds))
    (cache_dir / f".build-{directory.name}.lock").unlink(missing_ok=True)
    return directory


FILE = {"kind": "file", "format": "json", "sha256": "1"}
EDITED = {"kind": "file", "format": "json", "sha256": "2"}
OTHER_TOKENIZER = TokenizerContent('{"model":0}', LAYOUT, 7)


def old(cache_dir: Path, **options: Any) -> list[tuple[str, str]]:
    return [(each.path.name, each.superseded_by.name) for each in find_old_caches(cache_dir, **options)]


def test_other_content_of_the_same_place_supersedes(tmp_path: Path) -> None:
    first, third = aged(tmp_path, 1, source=FILE), aged(tmp_path, 3, source=EDITED)
    second = aged(tmp_path, 2, source={**FILE, "sha256": "3"})
    assert old(tmp_path) == [(first.name, third.name), (second.name, third.name)]
    (oldest, _) = find_old_caches(tmp_path)
    assert oldest.differences == ("source.sha256: expected '2', found '1'",)
    assert oldest.num_bytes == sum(map(len, files_of(first).values()))
    assert [each.path for each in remove_old_caches(tmp_path)] == [first, second]
    assert names(tmp_path) == [third.name]
    check_whole(third)
    assert remove_old_caches(tmp_path) == []


def test_the_time_of_the_manifest_tells_what_is_newer(tmp_path: Path) -> None:
    second, first = aged(tmp_path, 2, source=FILE), aged(tmp_path, 1, source=EDITED)
    assert old(tmp_path) == [(first.name, second.name)]
    # Equal times: one of them stays, always the same.
    os.utime(first / "manifest.json", (2, 2))
    (pair,) = old(tmp_path)
    assert sorted(pair) == list(pair) == sorted([first.name, second.name])


def test_another_tokenizer_supersedes_unless_it_shall_not(tmp_path: Path) -> None:
    first, second = aged(tmp_path, 1), aged(tmp_path, 2, tokenizer=OTHER_TOKENIZER)
    assert old(tmp_path, same_tokenizer=False) == [(first.name, second.name)]
    assert find_old_caches(tmp_path) == remove_old_caches(tmp_path) == []
    third = aged(tmp_path, 3, source=FILE, tokenizer=OTHER_TOKENIZER)
    assert old(tmp_path) == [(second.name, third.name)]
    assert [each.path for each in remove_old_caches(tmp_path)] == [second]
    assert names(tmp_path) == sorted([first.name, third.name])


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"split": "another"},
        {"encode": EncodeSettings(max_seq_length=4, doc_stride=1, max_examples=9)},
        {"encode": EncodeSettings(max_seq_length=4, doc_stride=1, insert_memory_tokens=False)},
        {"source": EDITED, "provenance": {"path": "/elsewhere"}},
        {"source": EDITED, "provenance": {}},
    ],
)
def test_other_names_splits_settings_and_places_do_not_supersede(tmp_path: Path, changes: dict[str, Any]) -> None:
    aged(tmp_path, 1, source=FILE)
    aged(tmp_path, 2, **{"source": FILE, **changes})
    assert find_old_caches(tmp_path) == remove_old_caches(tmp_path) == []


def test_data_in_memory_has_no_place(tmp_path: Path) -> None:
    for second, digest in enumerate("abc"):
        aged(tmp_path, second, source={"kind": "iterable", "sha256": digest}, provenance={})
    assert old(tmp_path) == []
    newer = aged(tmp_path, 9, source={"kind": "iterable", "sha256": "a"}, provenance={}, tokenizer=OTHER_TOKENIZER)
    assert [name for _, name in old(tmp_path, same_tokenizer=False)] == [newer.name]


def test_configurations_of_a_hub_dataset_are_data_sets_of_their_own(tmp_path: Path) -> None:
    hub = {"kind": "hub", "builder": "Parquet", "hash": "1", "name": "xquad"}
    first = aged(tmp_path, 1, source={**hub, "config": "xquad.de"}, provenance={"name": "xquad"})
    aged(tmp_path, 2, source={**hub, "config": "xquad.en"}, provenance={"name": "xquad"})
    assert old(tmp_path) == []
    third = aged(tmp_path, 3, source={**hub, "config": "xquad.de", "hash": "2"}, provenance={"name": "xquad"})
    assert old(tmp_path) == [(first.name, third.name)]


def test_older_versions_are_superseded_and_never_supersede(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("memxlnet.encode.cache_settings.ALGORITHM_VERSION", 0)
        algorithm = aged(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr("memxlnet.encode.cache_settings.SCHEMA_VERSION", 0)
        patched.setattr("memxlnet.format.manifest.SCHEMA_VERSION", 0)
        schema = aged(tmp_path, 2, source=FILE)
    assert old(tmp_path) == []  # the newest one cannot be read here
    now = aged(tmp_path, 3)
    assert old(tmp_path) == [(algorithm.name, now.name), (schema.name, now.name)]
    os.utime(now / "manifest.json", (0, 0))
    assert old(tmp_path) == []
    # What a later version wrote before is not for this one to remove.
    change(schema, schema_version=99)
    os.utime(now / "manifest.json", (9, 9))
    os.utime(schema / "manifest.json", (2, 2))
    assert old(tmp_path) == [(algorithm.name, now.name)]


@pytest.mark.parametrize(
    "fields",
    [
        {"schema_version": None},
        {"schema_version": "1"},
        {"fields": None},
        {"fields": {}},
        {"fields": []},
        {"name": 3},
        {"split": "\ud800"},
        {"provenance": None},
        {"format": "other"},
    ],
)
def test_manifests_that_say_too_little_are_neither_old_nor_new(tmp_path: Path, fields: dict[str, Any]) -> None:
    first, second = aged(tmp_path, 1, source=FILE), aged(tmp_path, 2, source=EDITED)
    change(first, **fields)
    os.utime(first / "manifest.json", (1, 1))
    assert old(tmp_path) == []
    change(second, **fields)
    assert old(tmp_path) == []


def test_a_damaged_cache_supersedes_nothing(tmp_path: Path) -> None:
    aged(tmp_path, 1, source=FILE)
    change(aged(tmp_path, 2, source=EDITED), dropped_examples=77)
    assert old(tmp_path) == []


def test_caches_that_were_renamed_linked_or_filled_by_hand_stay(tmp_path: Path) -> None:
    now = aged(tmp_path / "caches", 9)
    filled = aged(tmp_path / "caches", 1, source=FILE)
    assert old(tmp_path / "caches") == [(filled.name, now.name)]
    (filled / "notes.txt").touch()
    aged(tmp_path / "caches", 2, source=EDITED).rename(tmp_path / "caches" / "kept")
    linked = aged(tmp_path, 3, source={**FILE, "sha256": "9"})
    (tmp_path / "caches" / linked.name).symlink_to(linked)
    assert find_old_caches(tmp_path / "caches") == remove_old_caches(tmp_path / "caches") == []


def test_an_old_cache_that_a_builder_holds_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder_lock, "WAIT_SECONDS", 0.05)
    first, _ = aged(tmp_path, 1, source=FILE), aged(tmp_path, 2, source=EDITED)
    with CacheWriter(tmp_path).lock(settings(4, source=FILE)):
        assert remove_old_caches(tmp_path) == []
    assert [each.path for each in remove_old_caches(tmp_path)] == [first]


def test_an_old_cache_that_is_rebuilt_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = aged(tmp_path, 1, source=FILE), aged(tmp_path, 2, source=EDITED)
    plain = builder_lock.builder_lock

    @contextlib.contextmanager
    def late(path: Path, wait: Callable[[], None]) -> Iterator[None]:
        publish(tmp_path, source=FILE)
        with plain(path, wait):
            yield

    monkeypatch.setattr(removal, "builder_lock", late)
    assert remove_old_caches(tmp_path) == []
    check_whole(first)


def test_a_signal_does_not_leave_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = publish(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            remove_cache(directory)
    assert [each.kind for each in remove_leftovers(tmp_path)] == ["retired"]
    assert names(tmp_path) == []
