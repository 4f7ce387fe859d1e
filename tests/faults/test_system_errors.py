"""The system fails at any call: each border raises an error of memxlnet that is an OSError, and does no harm."""

import errno
import fcntl
import io
import mmap
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from memxlnet.errors import CacheNotFoundError, MemxlnetError
from memxlnet.format.manifest import find_caches
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.old_caches import find_old_caches
from memxlnet.maintain.removal import find_leftovers, remove_cache, remove_leftovers
from memxlnet.maintain.verify import verify
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from tests.faults.processes import build, names
from tests.format.content import files_of
from tests.support import slow

OPENING = (errno.EMFILE, errno.EACCES, errno.EIO, errno.ENFILE)
READING = (errno.EIO, errno.EACCES)
WRITING = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT)

CALLS: list[tuple[Any, str, tuple[int, ...]]] = [
    (os, "open", OPENING),
    (io, "open", OPENING),
    (os, "scandir", OPENING),
    (os, "listdir", OPENING),
    (os, "stat", READING),
    (os, "lstat", READING),
    (os, "mkdir", WRITING),
    (os, "rename", WRITING),
    (os, "replace", WRITING),
    (os, "unlink", WRITING),
    (os, "rmdir", WRITING),
    (os, "fsync", (errno.EIO, errno.ENOSPC, errno.EDQUOT)),
    (os, "pwrite", (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG)),
    (os, "ftruncate", (errno.EIO, errno.EFBIG)),
    (os, "posix_fallocate", (errno.ENOSPC, errno.EIO)),
    (mmap, "mmap", (errno.ENOMEM, errno.ENODEV)),
    (pa, "memory_map", OPENING),
    (fcntl, "flock", (errno.ENOLCK, errno.EIO)),
]
"""The calls by which files are reached, and what each may answer."""

NEVER = -1


class Faults:
    """Counts the calls at files below a directory, and lets one of them fail."""

    def __init__(self, root: Path, number: int, monkeypatch: pytest.MonkeyPatch):
        self.calls = 0
        self.failed = ""
        self._root = str(root)
        self._number = number
        for module, name, numbers in CALLS:
            if hasattr(module, name):
                call = getattr(module, name)
                monkeypatch.setattr(module, name, self._failing(call, f"{module.__name__}.{name}", numbers))

    def _failing(self, call: Callable[..., Any], name: str, numbers: tuple[int, ...]) -> Callable[..., Any]:
        def failing(*arguments: Any, **options: Any) -> Any:
            if not self._concerns(arguments[0] if arguments else None):
                return call(*arguments, **options)
            self.calls += 1
            if self.calls - 1 != self._number:
                return call(*arguments, **options)
            code = numbers[self.calls % len(numbers)]
            file = None if isinstance(arguments[0], int) else os.fspath(arguments[0])
            self.failed = f"{name}({arguments[0]}): {errno.errorcode[code]}"
            raise OSError(code, os.strerror(code), *([file] if file else []))

        return failing

    def _concerns(self, target: Any) -> bool:
        if isinstance(target, int):
            return target > 2
        return isinstance(target, str | os.PathLike) and os.fspath(target).startswith(self._root)


class Place(NamedTuple):
    """Where a call works: a directory of caches, one of them, and a store."""

    cache_dir: Path
    directory: Path
    store: Path

    @property
    def url(self) -> str:
        return f"file://{self.store}"


SETTINGS = {"streaming_chunk_size": 40, "max_examples": 6, "max_shard_rows": 20}


def build_first(place: Place) -> None:
    build(place.cache_dir / "first", **SETTINGS)


def build_into_store(place: Place) -> None:
    build(f"{place.url}-built", **SETTINGS, work_dir=place.cache_dir / "first")


def fetch(place: Place) -> None:
    pull(place.url, place.cache_dir / "fetched", progress=False)


def fetch_again(place: Place) -> None:
    pull(place.url, place.cache_dir, replace=True, progress=False)


def send(place: Place) -> None:
    push(place.directory, f"{place.url}-sent", progress=False)


def remove(place: Place) -> None:
    # A second call after a failure that came too late finds none.
    try:
        remove_cache(place.directory)
    except CacheNotFoundError:
        assert not place.directory.exists()


BORDERS: dict[str, Callable[[Place], Any]] = {
    "building": build_first,
    "building what is there": lambda place: build(place.cache_dir, **SETTINGS),
    "building into a store": build_into_store,
    "rebuilding": lambda place: build(place.cache_dir, **SETTINGS, rebuild=True),
    "opening": lambda place: PublishedCache(place.directory),
    "opening in memory": lambda place: PublishedCache(place.directory, in_memory=True),
    "verifying": lambda place: verify(place.directory),
    "sending": send,
    "fetching": fetch,
    "fetching again": fetch_again,
    "listing caches": lambda place: [path.name for path, _ in find_caches(place.cache_dir)],
    "listing old caches": lambda place: [old.path.name for old in find_old_caches(place.cache_dir)],
    "listing leftovers": lambda place: [left.path.name for left in find_leftovers(place.cache_dir)],
    "removing": remove,
    "removing leftovers": lambda place: [left.path.name for left in remove_leftovers(place.cache_dir)],
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache, the one that it supersedes, what was left of others, and the same cache in a store."""
    root = tmp_path_factory.mktemp("template")
    build(root / "caches", **SETTINGS)
    (name,) = names(root / "caches")
    push(root / "caches" / name, f"file://{root / 'store'}", progress=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("memxlnet.encode.cache_settings.ALGORITHM_VERSION", 0)
        build(root / "caches", **SETTINGS)
    (superseded,) = set(names(root / "caches")) - {name}
    os.utime(root / "caches" / superseded / "manifest.json", (1, 1))
    for prefix in (".build-", ".arriving-", ".retired-"):
        (root / "caches" / f"{prefix}other--test--0123456789abcdef").mkdir()
    return root


def laid_out(template: Path, root: Path) -> Place:
    shutil.copytree(template, root)
    raw = (root / "store" / "manifest.json").read_bytes()
    (directory,) = (path.parent for path in root.glob("caches/*/manifest.json") if path.read_bytes() == raw)
    return Place(root / "caches", directory, root / "store")


def check(place: Place, expected: dict[str, bytes], act: Callable[[Place], Any], error: Any) -> str:
    """What is wrong after a call that was disturbed; empty where nothing is."""
    if isinstance(error, BaseException):
        if not isinstance(error, MemxlnetError) or not isinstance(error, OSError):
            return f"{type(error).__name__}: {error}"
        if str(place.cache_dir.parent) not in str(error) or "; " not in str(error) + error.__class__.__name__:
            return f"says too little: {error}"
        copied = pickle.loads(pickle.dumps(error))
        if (str(copied), copied.errno) != (str(error), error.errno):
            return f"is another one after pickling: {error}"
    for directory in (place.directory, *(path.parent for path in place.cache_dir.glob("f*/*--*/manifest.json"))):
        if directory.exists() and files_of(directory) != expected:
            return f"{directory.name} is not whole"
    if act is not remove and not place.directory.exists():
        return "the cache is gone"
    return ""


def outcome(act: Callable[[Place], Any], place: Place) -> Any:
    """What a call gives, or the error that it raises."""
    try:
        return act(place)
    except Exception as error:
        return error


@pytest.mark.parametrize("step", [97, slow(1)])
@pytest.mark.parametrize("border", BORDERS)
def test_a_call_that_fails_is_an_error_of_memxlnet_and_does_no_harm(
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    border: str,
    step: int,
) -> None:
    act = BORDERS[border]
    place = laid_out(template, tmp_path / "counted")
    expected = files_of(place.directory)
    with monkeypatch.context() as patched:
        counting = Faults(tmp_path, NEVER, patched)
        undisturbed = act(place)
    assert counting.calls > 2
    wrong: dict[str, str] = {}
    for number in range(len(border) % step, counting.calls, step):
        place = laid_out(template, tmp_path / str(number))
        with monkeypatch.context() as patched:
            faults = Faults(tmp_path, number, patched)
            error = outcome(act, place)
        if not faults.failed:
            continue
        found = check(place, expected, act, error)
        if isinstance(undisturbed, list) and isinstance(error, list):
            is_same = error == undisturbed or "passed over" in caplog.text
            found = "" if is_same else f"gives {error} and no warning"
        caplog.clear()
        # Undisturbed it succeeds.
        again = outcome(act, place)
        if not found and isinstance(again, BaseException):
            found = f"not the second time: {again!r}"
        if found:
            wrong[f"{number}, {faults.failed}"] = found
        shutil.rmtree(place.cache_dir.parent)
    assert not wrong, "\n".join(f"{where} -> {what}" for where, what in wrong.items())
