"""Lists of parts, published, pruned and removed: each under its lock; a reader keeps the list that it read."""

import contextlib
import logging
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from memxlnet.errors import BuildError, CacheNotFoundError
from memxlnet.format.part_list import PartList, listed_caches, read_part_list
from memxlnet.format.paths import (
    IDS_SUFFIX,
    MANIFEST,
    PART_LIST,
    PARTS_SUFFIX,
    as_directory,
    kind_and_cache,
    make_directory,
    sync,
    write_durably,
)
from memxlnet.maintain.directory_swap import take_away
from memxlnet.maintain.lock import sole_builder
from memxlnet.maintain.removal import entries, remove_cache
from memxlnet.system_errors import cache_errors

logger = logging.getLogger(__name__)

_FILE_OF_A_LIST = rf"(?:{re.escape(PART_LIST)}|.+{re.escape(IDS_SUFFIX)})(?:\.tmp)?"


@contextlib.contextmanager
def sole_lister(directory: Path) -> Iterator[None]:
    """Be the only process that builds, fetches or changes a list of parts; create the cache directory if missing.

    Args:
        directory: The directory of the list.

    Raises:
        CacheDirectoryError: The cache directory cannot be created or written.
        CacheOSError: The system failed.
    """
    is_logged = False

    def wait() -> None:
        nonlocal is_logged
        if not is_logged:
            logger.warning("%s: waiting for another process that builds or fetches it", directory)
        is_logged = True

    with sole_builder(directory.parent, directory.name.removesuffix(PARTS_SUFFIX), wait):
        yield


def publish_list(directory: Path, parts: PartList, former: PartList | None) -> PartList:
    """Put a list in the place of the former one, in one step, unless it is the same. Needs the lock.

    Args:
        directory: The directory of the list; the caches lie beside it.
        parts: The list; its caches are published.
        former: The list that it replaces.

    Returns:
        The list as it was written: with the caches that are no longer listed and still on the disk.

    Raises:
        CacheOSError: The disk is full or cannot be written; the former list stays.
    """
    cache_dir = directory.parent
    listed = {part.cache for part in parts.parts}
    left = () if former is None else (*former.former, *(part.cache for part in former.parts))
    kept = sorted({name for name in left if name not in listed and (cache_dir / name / MANIFEST).exists()})
    parts = replace(parts, former=tuple(kept))
    if parts != former:
        make_directory(directory)
        with cache_errors(directory, "written"):
            write_durably(directory / PART_LIST, parts.encode())
            sync(directory)
            sync(cache_dir)
    return parts


def former_list(directory: Path) -> PartList | None:
    """Return the list that lies in a directory; None where it is missing.

    Raises:
        CacheError: It is damaged or of another version.
    """
    try:
        return read_part_list(directory)
    except CacheNotFoundError:
        return None


def prune_parts(directory: str | os.PathLike[str]) -> list[Path]:
    """Remove the caches that a list of parts no longer names, unless another list in the same directory names them.

    Readers keep what they have mapped. One that a builder works on stays, and so does one that cannot be removed.

    Returns:
        The caches that were removed.

    Raises:
        CacheError: There is no such list, it is damaged, or its directory cannot be written.
    """
    path = as_directory("directory", directory)
    read_part_list(path)  # before a lock is made where there is no list
    with sole_lister(path):
        parts = read_part_list(path)
        removed = [cache for cache in unlisted_caches(path, parts) if _removed(cache)]
        publish_list(path, parts, parts)
    return removed


def unlisted_caches(directory: Path, parts: PartList) -> list[Path]:
    """Return the caches that a list named before, and that no list in the directory names now.

    Raises:
        CacheError: A list in the directory is damaged or cannot be read.
    """
    listed = listed_caches(directory.parent)
    return [directory.parent / name for name in parts.former if name not in listed]


def remove_part_list(directory: str | os.PathLike[str], *, caches: bool = True) -> int:
    """Remove a list of parts.

    Args:
        directory: The directory of the list.
        caches: Also remove the caches that it names or named, unless another list in the same directory names them;
            False keeps them.

    Returns:
        The number of caches that were removed.

    Raises:
        CacheNotFoundError: There is no such list, or its directory is a symbolic link or holds other things too.
        CacheError: A list in the cache directory is damaged, or the directory cannot be written.
        BuildError: The list was written meanwhile, where there were only digests before.
    """
    path = as_directory("directory", directory)
    before = removable_list(path)
    with sole_lister(path):
        parts = removable_list(path)
        if before is None and parts is not None:
            raise BuildError(f"{path}: expected what an unfinished build left, found parts that were built meanwhile")
        due = unshared_caches(path, parts) if caches else []
        with cache_errors(path, "removed"):
            take_away(path)
        return sum(map(_removed, due))


def removable_list(directory: Path) -> PartList | None:
    """Return the list of parts of a directory that may be removed; None where an unfinished first build left digests.

    Raises:
        CacheNotFoundError: There is no such list, or its directory is a symbolic link or holds other things too.
        CacheError: It is damaged, of another format version, or cannot be read.
    """
    if os.path.islink(directory):  # noqa: PTH114 - Path.is_symlink raises where a name is too long
        raise CacheNotFoundError(
            f"{directory}: expected the directory of a list itself, found a symbolic link; unlink it"
        )
    try:
        parts = read_part_list(directory)
    except CacheNotFoundError:
        cache = directory.name.removesuffix(PARTS_SUFFIX)
        if not directory.name.endswith(PARTS_SUFFIX) or kind_and_cache(Path(cache)) != (None, cache):
            raise
        if not os.path.isdir(directory):  # noqa: PTH112 - Path.is_dir raises where a name is too long
            raise
        parts = None
    foreign = [path.name for path in entries(directory) if not re.fullmatch(_FILE_OF_A_LIST, path.name)]
    if foreign:
        raise CacheNotFoundError(f"{directory}: expected files of a list only, found {', '.join(foreign[:3])}")
    return parts


def unshared_caches(directory: Path, parts: PartList | None, without: Collection[Path] = ()) -> list[Path]:
    """Return the caches that go with their list: those that it names or named, and no other list in the directory.

    Args:
        directory: The directory of the list.
        parts: The list; None has no caches.
        without: Other lists that do not count, such as those that are removed with it.

    Raises:
        CacheError: Another list is damaged or cannot be read.
    """
    if parts is None:
        return []
    names = {*parts.former, *(part.cache for part in parts.parts)}
    names -= listed_caches(directory.parent, {directory, *without})
    return [directory.parent / name for name in sorted(names)]


def _removed(cache: Path) -> bool:
    try:
        remove_cache(cache)
    except CacheNotFoundError:
        return False
    except BuildError as error:
        logger.info("passed over: %s", error)
        return False
    return True
