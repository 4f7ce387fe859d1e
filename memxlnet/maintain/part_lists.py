"""Lists of parts, published, pruned and removed: each under its lock; a reader keeps the list that it read."""

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from memxlnet.errors import BuildError, CacheNotFoundError
from memxlnet.format.part_list import PartList, find_part_lists, listed_caches, read_part_list
from memxlnet.format.paths import MANIFEST, PART_LIST, PARTS_SUFFIX, as_directory, make_directory, sync, write_durably
from memxlnet.maintain.directory_swap import take_away
from memxlnet.maintain.lock import sole_builder
from memxlnet.maintain.removal import remove_cache
from memxlnet.system_errors import cache_errors

logger = logging.getLogger(__name__)


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


def publish_list(cache_dir: Path, parts: PartList, former: PartList | None) -> PartList:
    """Put a list in the place of the former one, in one step, unless it is the same. Needs the lock.

    Args:
        cache_dir: Directory of the caches.
        parts: The list; its caches are published.
        former: The list that it replaces.

    Returns:
        The list as it was written: with the caches that are no longer listed and still on the disk.

    Raises:
        CacheOSError: The disk is full or cannot be written; the former list stays.
    """
    listed = {part.cache for part in parts.parts}
    left = () if former is None else (*former.former, *(part.cache for part in former.parts))
    kept = sorted({name for name in left if name not in listed and (cache_dir / name / MANIFEST).exists()})
    parts = replace(parts, former=tuple(kept))
    if parts != former:
        directory = make_directory(cache_dir / parts.directory_name)
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
        listed = listed_caches(path.parent)
        due = [path.parent / name for name in parts.former if name not in listed]
        removed = [cache for cache in due if _removed(cache)]
        publish_list(path.parent, parts, parts)
    return removed


def remove_part_list(directory: str | os.PathLike[str], *, caches: bool = True) -> int:
    """Remove a list of parts.

    Args:
        directory: The directory of the list.
        caches: Also remove the caches that it names or named, unless another list in the same directory names them;
            False keeps them.

    Returns:
        The number of caches that were removed.

    Raises:
        CacheError: There is no such list, it is damaged, or its directory cannot be written.
    """
    path = as_directory("directory", directory)
    read_part_list(path)
    with sole_lister(path):
        due = unshared_caches(path, read_part_list(path)) if caches else []
        with cache_errors(path, "removed"):
            take_away(path)
        return sum(map(_removed, due))


def unshared_caches(directory: Path, parts: PartList) -> list[Path]:
    """Return the caches that go with their list: those that it names or named, and no other list in the directory."""
    others = {
        part.cache for other, found in find_part_lists(directory.parent) if other != directory for part in found.parts
    }
    names = {*parts.former, *(part.cache for part in parts.parts)} - others
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
