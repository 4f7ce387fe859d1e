"""A finished directory put in place by renames, so that what a reader has mapped stays."""

import contextlib
import ctypes
import errno
import logging
import os
import shutil
import sys
from pathlib import Path

from memxlnet.format.paths import kind_and_cache, retired_path, sync
from memxlnet.format.published import PublishedCache

logger = logging.getLogger(__name__)

_ATTEMPTS = 100


def put_in_place(staging: Path, final: Path) -> None:
    """Rename a finished cache to its name, durably; one that was there is unlinked.

    Both lie in the same cache directory, and the caller holds the builder lock. Where the system can exchange two names
    in one step, there is no moment without a cache.

    Raises:
        CacheDamagedError: The files were not written whole; what was there stays.
        OSError: The system refuses a rename.
    """
    PublishedCache(staging).check_messages()
    if not os.path.lexists(final):
        staging.rename(final)
        sync(final.parent)
        return
    retired = retired_path(final.parent, final.name)
    is_beside = staging.parent == final.parent
    # Next to the other: exchanging names across directories takes the right to write into either cache.
    source = staging if is_beside else staging.rename(retired)
    if not exchange(source, final):
        retired = _replace(source, final)
    elif is_beside:
        source.rename(retired)
    sync(final.parent)
    _remove(retired)


def _replace(source: Path, final: Path) -> Path:
    """Give a name to another directory, in two steps; return where the former one is now."""
    former = retired_path(final.parent, final.name)
    final.rename(former)
    try:
        source.rename(final)
    except OSError:
        former.rename(final)
        raise
    return former


def take_away(directory: Path) -> None:
    """Remove a directory of work, if it exists; another process may still put a file into it."""
    retired = retired_path(directory.parent, directory.name)
    with contextlib.suppress(FileNotFoundError):
        directory.rename(retired)
        _remove(retired)


def remove_retired(cache_dir: Path, cache: str) -> None:
    """Remove what is out of sight of one cache: a killed process left it. The caller holds the builder lock."""
    for path in cache_dir.iterdir():
        if kind_and_cache(path) == ("retired", cache):
            _remove(path)


def delete(path: Path) -> None:
    """Delete a directory that is out of sight, or a file; other processes may delete or write in it.

    Raises:
        OSError: It cannot be deleted.
    """
    for _ in range(_ATTEMPTS):
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:  # what was in the way was not a directory
                path.unlink()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
                raise
        if not os.path.lexists(path):
            return
    raise OSError(errno.ENOTEMPTY, f"still there after it was deleted {_ATTEMPTS} times", str(path))


def _remove(retired: Path) -> None:
    """Delete what is out of sight. What cannot be deleted blocks no use of the cache, and stays to be found."""
    try:
        delete(retired)
    except OSError as error:
        logger.warning("%s: cannot be removed: %s; remove it with 'memxlnet rm --leftovers'", retired, error)


_AT_FDCWD = -100  # Linux: paths are relative to the working directory


_EXCHANGE = 2  # RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS


_UNABLE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}
"""What a kernel, a file system or a sandbox answers that has no such call."""


def exchange(one: Path, other: Path) -> bool:
    """Let two names of one file system change places, files or directories.

    Returns:
        False where the system cannot: nothing has changed then.

    Raises:
        OSError: One of them is missing, or they cannot be renamed.
    """
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        call, arguments = getattr(library, "renamex_np", None), (*map(ctypes.c_char_p, names),)
    else:
        call = getattr(library, "renameat2", None)  # glibc since 2.28, musl since 1.2.6
        at = ctypes.c_int(_AT_FDCWD)
        arguments = (at, ctypes.c_char_p(names[0]), at, ctypes.c_char_p(names[1]))
    if call is None:
        return False
    if call(*arguments, ctypes.c_uint(_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNABLE:
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))
