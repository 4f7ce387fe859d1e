"""Errors of the operating system at files of ours, as errors that name the file and say what to do."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from memxlnet.errors import CacheDirectoryError, CacheOSError, MemxlnetError, with_fields_of

NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
"""The process or the machine is out of file descriptors, whatever the file."""

_IN_THE_WAY = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENOTEMPTY)
_HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room"),
    **dict.fromkeys(NO_ACCESS, "restore access"),
    **dict.fromkeys(_IN_THE_WAY, "remove what is in the way"),
    **dict.fromkeys(OUT_OF_FILES, "close files or raise the limit of open files (ulimit -n)"),
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    **dict.fromkeys((errno.ENOMEM, errno.EAGAIN), "free memory or end processes"),
    errno.ENAMETOOLONG: "choose a shorter path",
}
_CHECK_DISK = "check the disk"


def system_hint(error: BaseException) -> str | None:
    """What to do about an error of the operating system; None where it may be another error."""
    # Classes of other modules, such as those of ssl and socket, have numbers of their own.
    if not isinstance(error, OSError) or type(error).__module__ != "builtins":
        return None
    return _HINTS.get(error.errno or 0)


def described(error: OSError, path: Path) -> str:
    """What the system says, and the file where that is another one than `path`."""
    text = error.strerror or str(error)
    if error.filename is None or isinstance(error.filename, int):  # a descriptor
        return text
    file = os.fsdecode(error.filename)
    return text if file == str(path) else f"{text} at {file}"


def hint_for(error: OSError) -> str:
    """What to do about an error of the disk, whatever it is."""
    return system_hint(error) or _CHECK_DISK


def cache_error(error: OSError, message: str) -> CacheOSError:
    """The error for a file of a cache; `CacheDirectoryError` where access or another kind of file stops it."""
    kind = CacheDirectoryError if error.errno in (*NO_ACCESS, *_IN_THE_WAY) else CacheOSError
    return with_fields_of(kind(message), error)


@contextlib.contextmanager
def cache_errors(path: Path, what: str, hint: str | None = None) -> Iterator[None]:
    """Turn errors of the system into `cache_error`; errors of ours pass.

    Args:
        path: The subject of the message.
        what: What is done with it, such as ``read``.
        hint: What to do; None takes it from the number of the error.

    Raises:
        CacheOSError: The system failed; a `CacheDirectoryError` where access or another kind of file stops it.
    """
    try:
        yield
    except MemxlnetError:
        raise
    except OSError as error:
        message = f"{path}: cannot be {what}: {described(error, path)}; {hint or hint_for(error)}"
        raise cache_error(error, message) from error
