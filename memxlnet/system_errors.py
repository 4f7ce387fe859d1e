"""Errors of the operating system at the package's files, as errors that name the file and say what to do."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from memxlnet.errors import (
    CacheDirectoryError,
    CacheOSError,
    MemoryLimitError,
    MemxlnetError,
    SourceError,
    with_fields_of,
)

NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
"""The process or the machine is out of file descriptors."""

LIMITS = (*OUT_OF_FILES, errno.ENOMEM)
"""A limit of the process or the machine is reached."""

_IN_THE_WAY = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENOTEMPTY)
_HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room"),
    **dict.fromkeys(NO_ACCESS, "restore access"),
    **dict.fromkeys(_IN_THE_WAY, "remove what is in the way"),
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EAGAIN: "free memory or end processes",
    errno.ENAMETOOLONG: "choose a shorter path",
}
_CHECK_DISK = "check the disk"


def system_hint(error: BaseException) -> str | None:
    """Return what to do about an error of the operating system; None where it may be another error."""
    # Classes of other modules, such as those of ssl and socket, have numbers of their own.
    if not isinstance(error, OSError) or type(error).__module__ != "builtins":
        return None
    if error.errno in OUT_OF_FILES:
        return f"close files or raise the limit of open files (ulimit -n{_now(resource.RLIMIT_NOFILE)})"
    if error.errno == errno.ENOMEM:
        return _memory_hint()
    return _HINTS.get(error.errno or 0)


def _memory_hint() -> str:
    """Return what to do where memory or address space is out; names the limits that this process has."""
    limits = {"address space (ulimit -v": resource.RLIMIT_AS, "data (ulimit -d": resource.RLIMIT_DATA}
    set_ones = [f"{name}{now})" for name, limit in limits.items() if (now := _now(limit))]
    return "free memory or end processes" + "".join(f", or raise the limit of {shown}" for shown in set_ones)


def _now(limit: int) -> str:
    """Return a limit of this process in a message; empty where there is no limit."""
    found, _ = resource.getrlimit(limit)
    if found == resource.RLIM_INFINITY:
        return ""
    return f", now {found:,}" + ("" if limit == resource.RLIMIT_NOFILE else " bytes")


def out_of_memory(path: Path, what: str) -> CacheOSError:
    """Return the error for a file of a cache for which memory is short; see `cache_errors` for `what`."""
    error = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    return cache_error(error, f"{path}: cannot be {what}: {error.strerror}; {_memory_hint()}")


def described(error: OSError, path: Path) -> str:
    """Return what the system says, and the file where that is another one than `path`."""
    text = error.strerror or str(error)
    if error.filename is None or isinstance(error.filename, int):  # a descriptor
        return text
    file = os.fsdecode(error.filename)
    return text if file == str(path) else f"{text} at {file}"


def hint_for(error: OSError) -> str:
    """Return what to do about any error of the disk."""
    return system_hint(error) or _CHECK_DISK


def cache_error(error: OSError, message: str) -> CacheOSError:
    """Return the error for a file of a cache; `CacheDirectoryError` where access or another kind of file stops it."""
    kind = CacheDirectoryError if error.errno in (*NO_ACCESS, *_IN_THE_WAY) else CacheOSError
    return with_fields_of(kind(message), error)


@contextlib.contextmanager
def cache_errors(path: Path, what: str, hint: str | None = None) -> Iterator[None]:
    """Turn errors of the system into `cache_error`; each `MemxlnetError` passes.

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
    except MemoryError as error:
        raise out_of_memory(path, what) from error


@contextlib.contextmanager
def source_errors(name: str) -> Iterator[None]:
    """Add what to do where a limit of the system stops the reading of a source; errors of other kinds pass.

    Args:
        name: The source.

    Raises:
        SourceError: The process or the machine is out of files or of memory for a map.
        MemoryLimitError: Reading took more memory than there is.
    """
    try:
        yield
    except MemoryError as error:
        if isinstance(error, MemxlnetError):
            raise
        raise MemoryLimitError(f"{name}: cannot be read: out of memory; {_memory_hint()}") from error
    except (SourceError, OSError) as error:
        if isinstance(error, MemxlnetError) and not isinstance(error, SourceError):
            raise
        hint = _limit_hint(error.__cause__ if isinstance(error, MemxlnetError) else error)
        if hint is None:
            raise
        message = str(error) if isinstance(error, SourceError) else f"{name}: cannot be read: {error}"
        raise SourceError(f"{message}; {hint}") from (error.__cause__ or error)


_Read = TypeVar("_Read")


def read_from(name: str, items: Iterator[_Read]) -> Iterator[_Read]:
    """Yield what is read of a source, with `source_errors`."""
    with source_errors(name):
        yield from items


def _limit_hint(error: BaseException | None) -> str | None:
    """Return what to do where an error is one of a limit of the system, else None."""
    number = getattr(error, "errno", None)
    if number is None and error is not None:
        # Arrow passes on what the system says of a failed map or thread, without its number.
        number = next((code for code in (*LIMITS, errno.EAGAIN) if os.strerror(code) in str(error)), None)
    return system_hint(OSError(number, "")) if number in (*LIMITS, errno.EAGAIN) else None
