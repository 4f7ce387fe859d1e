"""Removal on request: published caches, and leftovers of dead builders.

Everything is renamed or unlinked, nothing truncated: what a reader has mapped keeps its values. A directory is renamed
to ``.retired-*``, durably, and only then loses its files: nothing half-removed counts as a cache or as a build to
resume, and a kill in between leaves what `find_leftovers` finds. A worker that opens the path later finds nothing.
"""

import contextlib
import errno
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memxlnet.errors import BuildError, CacheDirectoryError, CacheError, CacheNotFoundError
from memxlnet.format.manifest import FORMAT, decode_manifest, manifest_bytes
from memxlnet.format.paths import (
    MANIFEST,
    LeftoverKind,
    as_directory,
    kind_and_cache,
    retired_path,
    slug,
    sync,
)
from memxlnet.maintain.directory_swap import delete
from memxlnet.maintain.lock import builder_lock, is_held, lock_path
from memxlnet.maintain.shard_files import num_readers
from memxlnet.system_errors import cache_errors

logger = logging.getLogger(__name__)

_FILE_OF_A_CACHE = r"manifest\.json|tokenizer\.json|dropped\.jsonl|.+\.arrow"


@dataclass(frozen=True)
class Leftover:
    """What a builder or a removal that ended too early left in a cache directory.

    Attributes:
        path: A real directory or file, never a symbolic link.
        kind: ``build``: the chunks of an interrupted build; ``arrival``: the files of an interrupted transfer;
            ``retired``: what is out of sight but not deleted; ``lock``: a lock file without its build.
        num_bytes: Size of its files, as far as they can be seen.
        in_use: Whether a live process holds the builder lock of that cache, or the lock file cannot be read.
    """

    path: Path
    kind: LeftoverKind
    num_bytes: int
    in_use: bool


def find_leftovers(cache_dir: str | os.PathLike[str]) -> list[Leftover]:
    """Find what dead builders and interrupted removals left; changes nothing and needs no permission to write.

    Only names that memxlnet itself gives count. A build whose builder does not hold the lock looks dead.

    Raises:
        CacheDirectoryError: The directory cannot be read. One that does not exist has no leftovers.
    """
    directory = as_directory("cache_dir", cache_dir)
    paths = entries(directory)
    found = []
    for path in paths:
        kind, cache = kind_and_cache(path)
        stray = kind != "lock" or path.with_suffix("") not in paths
        if kind is not None and stray and is_real(path, stat.S_ISREG if kind == "lock" else stat.S_ISDIR):
            in_use = cache is not None and (is_held(lock_path(directory, cache)) or _is_read(path))
            found.append(Leftover(path, kind, num_bytes(path), in_use))
    return found


def remove_leftovers(cache_dir: str | os.PathLike[str]) -> list[Leftover]:
    """Remove the leftovers that no live process uses, each under its builder lock, and return what this call removed.

    A build that starts meanwhile waits. An interrupted one loses its chunks, and will begin from the first.

    Raises:
        CacheDirectoryError: The directory cannot be read, or some leftovers cannot be removed; the others are.
    """
    return remove_each([each for each in find_leftovers(cache_dir) if not each.in_use], _remove_leftover)


def remove_cache(directory: str | os.PathLike[str]) -> int:
    """Remove one published cache, whole or damaged, under its builder lock.

    It is removed only where its manifest is in the format of memxlnet, of any version and even with a failing
    checksum, and the directory holds only files of a cache. A symbolic link is refused: removing the link would free
    nothing, and following it would remove what lies elsewhere.

    Returns:
        The bytes that it took; 0 where another process removed it meanwhile. They are free once no process maps them.

    Raises:
        CacheNotFoundError: There is no such directory, it is not a cache of memxlnet, or it holds other things too.
        CacheDirectoryError: There is no permission to remove it.
        BuildError: A builder works on this cache.
    """
    path = as_directory("directory", directory)
    if os.path.islink(path):  # noqa: PTH114 - Path.is_symlink raises where a name is too long
        raise CacheNotFoundError(f"{path}: expected the directory of a cache itself, found a symbolic link; unlink it")
    path = Path(os.path.realpath(path))
    own_manifest(path)
    size = num_bytes(path)
    return size if remove_directory(path) else 0


def remove_each(found: Sequence[Any], remove: Callable[[Path], bool]) -> list[Any]:
    """Remove one after the other; one that cannot be removed does not stop the others; raise at the end."""
    removed: list[Any] = []
    failures: list[str] = []
    for each in found:
        try:
            if remove(each.path):
                removed.append(each)
        except BuildError as error:
            logger.info("passed over: %s", error)
        except CacheError as error:
            failures.append(str(error))
    if failures:
        raise CacheDirectoryError(f"removed {len(removed)} of {len(found)}: {'; '.join(failures)}")
    return removed


def _remove_leftover(path: Path) -> bool:
    kind, cache = kind_and_cache(path)
    if kind != "lock" or cache is None:
        return remove_directory(path, lambda: not _is_read(path))
    with cache_errors(path, "removed"), contextlib.suppress(FileNotFoundError):
        path.lstat()  # raises where it is gone
        with _lock(path.parent, cache):
            return True  # its end unlinks its file
    return False


def _is_read(path: Path) -> bool:
    """Return whether a process reads a lazy cache: it needs more than what it has mapped."""
    return kind_and_cache(path)[0] == "lazy" and num_readers(path) > 0


def remove_directory(path: Path, is_due: Callable[[], bool] = lambda: True) -> bool:
    """Move a directory out of sight, then delete it, under its builder lock; False where it is gone or not due."""
    _, cache = kind_and_cache(path)
    retired = retired_path(path.parent, cache or slug(path.name))
    with cache_errors(path, "removed"), contextlib.suppress(FileNotFoundError):
        for each in (path, path.parent):
            if not os.access(each, os.R_OK | os.W_OK | os.X_OK):  # raised before, so that it stays where it is
                each.lstat()  # raises where it is gone, which looks the same
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(each))
        # Builders publish under names of one form only: any other name has no lock.
        with _lock(path.parent, cache) if cache else contextlib.nullcontext():
            if is_due():
                path.rename(retired)
                # Before the first file goes: a crash of the machine must not bring the old name back without it.
                sync(path.parent)
                delete(retired)
                logger.info("%s: removed", path)
                return True
    return False


def _lock(cache_dir: Path, cache: str) -> contextlib.AbstractContextManager[None]:
    path = lock_path(cache_dir, cache)
    looked = False

    def refuse() -> None:
        nonlocal looked
        if looked:  # once may not be a builder: another process may hold the lock for a moment, only to look
            raise BuildError(f"{cache_dir / cache}: expected no running builder, found {path.name} held; wait for it")
        looked = True

    return builder_lock(path, refuse)


def entries(directory: Path) -> list[Path]:
    """Return what lies in a directory, sorted; nothing where it is gone."""
    with cache_errors(directory, "read"), contextlib.suppress(FileNotFoundError):
        return sorted(directory.iterdir())
    return []


def is_real(path: Path, kind: Callable[[int], bool]) -> bool:
    """Return whether a path itself is of a kind, symbolic links not followed; False where it is gone.

    Raises:
        CacheOSError: It cannot be looked at.
    """
    with cache_errors(path, "looked at"), contextlib.suppress(FileNotFoundError):
        return kind(path.lstat().st_mode)
    return False


def num_bytes(path: Path) -> int:
    """Sum the sizes of all files below a directory; 0 for a file such as a lock.

    What disappears meanwhile or cannot be seen does not count.
    """
    total = 0
    for file in (Path(folder, name) for folder, _, names in os.walk(path) for name in names):
        with contextlib.suppress(OSError):
            total += file.lstat().st_size
    return total


def own_manifest(directory: Path) -> tuple[dict[str, Any], bool]:
    """Return the manifest of a cache, as JSON of any version and state, and whether this version can read it.

    Raises:
        CacheNotFoundError: It is not a cache of memxlnet, or holds other things too.
        CacheOSError: It cannot be read.
    """
    if kind_and_cache(directory)[0] == "lazy":
        raise CacheNotFoundError(
            f"{directory}: expected a cache whose files are all here, found one that was pulled with lazy=True; "
            "'memxlnet rm --leftovers' (remove_leftovers) removes it once no process reads it"
        )
    raw = manifest_bytes(directory)
    return decode_own(raw, str(directory), (path.name for path in entries(directory)))


def decode_own(raw: bytes, place: str, names: Iterable[str]) -> tuple[dict[str, Any], bool]:
    """Return a manifest as JSON of any version and state, and whether this version can read it.

    Args:
        raw: The bytes of the manifest.
        place: Where the cache lies, for messages.
        names: What lies there.

    Raises:
        CacheNotFoundError: The manifest is not one of memxlnet, or other things lie there too.
    """
    content, readable = None, False
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(raw)
    with contextlib.suppress(ValueError):  # a mismatch of versions, or damage
        readable = bool(decode_manifest(raw, f"{place}/{MANIFEST}"))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CacheNotFoundError(f"{place}: expected a {FORMAT}, found another {MANIFEST}; delete it by hand")
    foreign = [name for name in names if not re.fullmatch(_FILE_OF_A_CACHE, name)]
    if foreign:
        raise CacheNotFoundError(f"{place}: expected files of a cache only, found {', '.join(foreign[:3])}")
    return content, readable
