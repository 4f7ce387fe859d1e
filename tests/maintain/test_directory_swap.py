"""A cache takes the place of another: a whole one is there at every moment, and what a kill left goes with the next."""

import ctypes
import errno
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.errors import BuildOSError, CacheNotFoundError
from memxlnet.format.paths import directory_name
from memxlnet.format.published import PublishedCache, while_it_stays
from memxlnet.maintain import directory_swap
from memxlnet.maintain.directory_swap import exchange
from memxlnet.maintain.incoming_cache import Arrival
from memxlnet.maintain.lock import lock_path
from tests.format.content import chunks, files_of, make_content, publish, read_tables, settings, tables_of

OLD = make_content(1, 4, ["a", "b"], [(0, 3), (1, 2)])
NEW = make_content(2, 4, ["c"], [(0, 5)])
NAME = settings(4).directory_name
OTHER = settings(4, split="other").directory_name


def is_able(folder: Path) -> bool:
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    able = exchange(folder / "one", folder / "two")
    (folder / "one").rmdir()
    (folder / "two").rmdir()
    return able


@pytest.fixture(params=["in one step", "in two steps"])
def way(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which a name is given to another directory."""
    if request.param == "in two steps":
        monkeypatch.setattr(directory_swap, "exchange", lambda *_: False)
    elif not is_able(tmp_path):
        pytest.skip("this system cannot exchange two names")
    return str(request.param)


# --- two names exchanged


def test_whatever_has_the_names_changes_places(tmp_path: Path) -> None:
    if not is_able(tmp_path):
        pytest.skip("this system cannot exchange two names")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_bytes(b"")
    (tmp_path / "\udcff").write_bytes(b"file")
    assert exchange(tmp_path / "folder", tmp_path / "\udcff")
    assert (tmp_path / "folder").read_bytes() == b"file"
    assert (tmp_path / "\udcff" / "inside").exists()
    with pytest.raises(FileNotFoundError) as caught:
        exchange(tmp_path / "folder", tmp_path / "missing")
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "folder"), str(tmp_path / "missing"))


class Library:
    """The C library of a system whose call answers with an error."""

    def __init__(self, name: str, number: int):
        def call(*arguments: Any) -> int:
            self.arguments = [argument.value for argument in arguments]
            ctypes.set_errno(number)
            return -1 if number else 0

        setattr(self, name, call)


@pytest.mark.parametrize(
    ("platform", "name", "arguments"),
    [
        ("linux", "renameat2", [-100, b"/one", -100, b"/two", 2]),
        ("darwin", "renamex_np", [b"/one", b"/two", 2]),
    ],
)
def test_the_call_of_each_system(
    monkeypatch: pytest.MonkeyPatch, platform: str, name: str, arguments: list[Any]
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for number in (0, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
        library = Library(name, number)
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, found=library, **__: found)
        assert exchange(Path("/one"), Path("/two")) == (number == 0)
        assert library.arguments == arguments
    for number in (errno.EXDEV, errno.EACCES, errno.EIO, errno.ENOENT):
        library = Library(name, number)
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, found=library, **__: found)
        with pytest.raises(OSError, match="/one") as caught:
            exchange(Path("/one"), Path("/two"))
        assert caught.value.errno == number
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Library("other", 0))
    assert not exchange(Path("/one"), Path("/two"))


# --- a kill before each step


class KilledError(BaseException):
    pass


class Steps:
    """Looks at the cache before each step of a replacement, and may end it there.

    Args:
        final: Where readers look.
        last: The step before which it ends.
        monkeypatch: Patches the steps.
    """

    def __init__(self, final: Path, last: int, monkeypatch: pytest.MonkeyPatch):
        self.seen: list[str] = []
        self._final = final
        self._last = last
        for holder, name in (
            (Path, "rename"),
            (directory_swap, "exchange"),
            (directory_swap, "sync"),
            (shutil, "rmtree"),
        ):
            monkeypatch.setattr(holder, name, self._watched(getattr(holder, name)))

    def look(self) -> None:
        """Open and read the cache, as a reader does at this moment."""
        try:
            found = read_tables(PublishedCache(self._final))
        except CacheNotFoundError:
            self.seen.append("none")
            return
        assert found in (tables_of(OLD), tables_of(NEW))
        self.seen.append("old" if found == tables_of(OLD) else "new")

    def _watched(self, step: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self.look()
            if len(self.seen) - 1 == self._last:
                raise KilledError
            return step(*arguments, **options)

        return watched


def arrive(near: Path, far: Path) -> Path:
    """Fetch a cache in the place of what is there."""
    arrival = Arrival(near, (far / "manifest.json").read_bytes(), "far://away")

    def fetch() -> None:
        for record in arrival.missing():
            shutil.copy(far / record.file, arrival.part(record))
            arrival.accept(record, arrival.part(record))

    return arrival.obtain(fetch, replace=True)


def rebuild(near: Path, far: Path) -> Path:
    """Build it, after the chunks that are there."""
    writer = CacheWriter(near)
    with writer.lock(settings(4)):
        finished = writer.begin(settings(4))
        made = enumerate(chunks(NEW, [2]))
        return writer.finish([finished.get(i) or writer.write_chunk(i, tables) for i, tables in made]).directory


@pytest.mark.parametrize("replace", [rebuild, arrive])
def test_a_kill_before_any_step_leaves_a_whole_cache_and_nothing_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, replace: Callable[[Path, Path], Path]
) -> None:
    far = publish(NEW, tmp_path / "far", [2]).directory
    seen: set[str] = set()
    last = 0
    while True:
        near = tmp_path / f"near{last}"
        publish(OLD, near, [2])
        with monkeypatch.context() as patched:
            steps = Steps(near / NAME, last, patched)
            try:
                replace(near, far)
            except KilledError:
                pass
            else:
                break
            finally:
                seen.update(steps.seen)
            steps.look()
        seen.update(steps.seen)
        # The next one removes what was left, and the bytes are those of an undisturbed one.
        assert files_of(replace(near, far)) == files_of(far)
        assert [path.name for path in near.iterdir()] == [NAME], last
        last += 1
    assert last >= 6
    assert seen == ({"old", "new"} if way == "in one step" else {"old", "none", "new"})


def test_a_failed_second_rename_puts_the_old_cache_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = publish(OLD, tmp_path, [2]).directory
    plain = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if target == directory and "retired" in self.name and not (self / "manifest.json").read_bytes() == former:
            raise OSError(errno.EIO, "Input/output error", str(self))
        return plain(self, target)

    former = (directory / "manifest.json").read_bytes()
    monkeypatch.setattr(directory_swap, "exchange", lambda *_: False)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", fail)
        with pytest.raises(
            BuildOSError, match=r"cannot be written: Input/output error at .*; what is finished is kept"
        ):
            publish(NEW, tmp_path, [2])
    assert read_tables(PublishedCache(directory)) == tables_of(OLD)
    rebuild(tmp_path, tmp_path)
    assert read_tables(PublishedCache(directory)) == tables_of(NEW)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


# --- what a killed process left out of sight


LEFT = [f".retired-{NAME}.1-0123abcd", f".retired-.build-{NAME}.1-0123abcd", f".retired-.arriving-{NAME}.1-0123abcd"]
KEPT = [f".retired-{OTHER}.1-0123abcd", ".retired-mine.1-0123abcd", ".retired-photos", f".build-{OTHER}", "lost+found"]


def leave(cache_dir: Path) -> None:
    for name in [*LEFT, *KEPT]:
        (cache_dir / name / "chunks").mkdir(parents=True)
        (cache_dir / name / "chunks" / "file").write_bytes(b"x")


def discard(cache_dir: Path) -> None:
    CacheWriter(cache_dir).discard_leftovers(settings(4))


def find(cache_dir: Path) -> None:
    directory = cache_dir / NAME
    arrival = Arrival(cache_dir, (directory / "manifest.json").read_bytes(), "far://away")
    assert arrival.obtain(lambda: None) == directory


@pytest.mark.parametrize(
    "call", [lambda near: rebuild(near, near), lambda near: arrive(near, near / NAME), discard, find]
)
def test_the_next_one_removes_what_is_left_of_its_cache_alone(tmp_path: Path, call: Callable[[Path], object]) -> None:
    publish(OLD, tmp_path, [2])
    leave(tmp_path)
    call(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([NAME, *KEPT])


@pytest.mark.parametrize("call", [discard, find])
def test_nothing_is_removed_while_another_one_is_at_work(tmp_path: Path, call: Callable[[Path], object]) -> None:
    publish(OLD, tmp_path, [2])
    leave(tmp_path)
    with CacheWriter(tmp_path).lock(settings(4)):
        (tmp_path / LEFT[0]).mkdir()
        call(tmp_path)
        assert (tmp_path / LEFT[0]).exists()
        assert lock_path(tmp_path, NAME).exists()
    call(tmp_path)
    assert not (tmp_path / LEFT[0]).exists()


def test_what_arrived_only_in_part_stays_where_the_cache_is_there(tmp_path: Path) -> None:
    publish(OLD, tmp_path, [2])
    staging = tmp_path / f".arriving-{NAME}"
    staging.mkdir()
    (staging / "features-00000.arrow.part").write_bytes(b"x")
    find(tmp_path)
    assert (staging / "features-00000.arrow.part").exists()
    (staging / "manifest.json").write_bytes(b"of the one that was replaced")
    find(tmp_path)
    assert not staging.exists()


def test_what_cannot_be_deleted_stays_and_keeps_nobody_from_building(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish(OLD, tmp_path, [2])
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda path, **_: None)  # a deletion that changes nothing must not be endless
        directory = publish(NEW, tmp_path, [2]).directory
    assert "cannot be removed" in caplog.text
    assert read_tables(PublishedCache(directory)) == tables_of(NEW)
    assert len(list(tmp_path.glob(".retired-*"))) == 2
    discard(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [directory_name("made up", "test", settings(4).fingerprint)]


# --- readers


def test_what_is_read_is_of_one_cache(tmp_path: Path) -> None:
    """Replaced within the reading, although nothing that was read is damaged."""
    directory = publish(OLD, tmp_path, [2]).directory
    read: list[object] = []

    def reading() -> object:
        read.append(files_of(directory))
        if len(read) == 1:
            publish(NEW, tmp_path, [2])
        return read[-1]

    assert while_it_stays(directory, reading) == files_of(directory)
    assert len(read) == 2


def test_what_was_read_before_a_removal_is_given(tmp_path: Path) -> None:
    directory = publish(OLD, tmp_path, [2]).directory

    def reading() -> PublishedCache:
        cache = PublishedCache(directory)
        directory.rename(tmp_path / "elsewhere")
        return cache

    assert read_tables(while_it_stays(directory, reading)) == tables_of(OLD)
