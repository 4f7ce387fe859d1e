"""Names on disk. No name that a user gives reaches the file system: a directory is a slug plus the fingerprint."""

import errno
import os
import re
import secrets
from pathlib import Path
from typing import Any, Literal

from memxlnet.errors import CacheDirectoryError, SettingsError
from memxlnet.settings import check_text
from memxlnet.system_errors import cache_error, described, hint_for

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
DROPPED_REPORT = "dropped.jsonl"
PART_LIST = "parts.json"
PARTS_SUFFIX = ".parts"
IDS_SUFFIX = ".ids"

BUILD_PREFIX = ".build-"
RETIRED_PREFIX = ".retired-"
ARRIVAL_PREFIX = ".arriving-"
LEASE_PREFIX = ".lease-"
LAZY_PREFIX = ".lazy-"

LeftoverKind = Literal["build", "arrival", "lazy", "retired", "lock"]

_FINGERPRINT_DIGITS = 16
_SLUG_LENGTH = 64
_MOST_BYTES = 1 << 30  # of one write: macOS refuses 2 GiB and more, Linux writes less than it was asked to

# A relative path of any scheme, and those of stores anywhere: `absolute` puts the current directory before it.
_URL_AS_PATH = re.compile(
    r"^\s*([A-Za-z][A-Za-z0-9+.-]+):(?:/|$)"
    r"|/(abfss?|adl|az|file|ftp|gcs|gs|hdfs|hf|https?|local|memory|oss|s3a?|sftp|ssh|webhdfs):(?:/|$)"
)

_CACHE = r"([A-Za-z0-9][A-Za-z0-9._-]*--[A-Za-z0-9][A-Za-z0-9._-]*--[0-9a-f]{16})"
_SUFFIX = r"\.(?:[0-9]+-[0-9a-f]{8}|[0-9a-f]{16})"
_WORK = f"(?:{re.escape(BUILD_PREFIX)}|{re.escape(ARRIVAL_PREFIX)}|{re.escape(LAZY_PREFIX)})"
_NAMES: dict[LeftoverKind | None, str] = {
    None: _CACHE,
    "build": rf"{re.escape(BUILD_PREFIX)}{_CACHE}",
    "arrival": rf"{re.escape(ARRIVAL_PREFIX)}{_CACHE}",
    "lazy": rf"{re.escape(LAZY_PREFIX)}{_CACHE}",
    "lock": rf"{re.escape(BUILD_PREFIX)}{_CACHE}\.lock",
    # A cache that was renamed by hand is retired under that name, always with a suffix.
    "retired": rf"{re.escape(RETIRED_PREFIX)}(?:{_WORK}?{_CACHE}(?:{_SUFFIX})?|.+{_SUFFIX})",
}


def slug(text: str) -> str:
    """Return a text as part of a file name: ASCII letters, digits, dot, dash and underscore, never hidden or empty."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    plain = re.sub(r"\.{2,}", ".", plain).strip(".-_")
    return plain[:_SLUG_LENGTH].rstrip(".-_") or "dataset"


def directory_name(name: str, split: str, fingerprint: str) -> str:
    """Return the name of the cache of one set of settings within a cache directory."""
    return f"{slug(name)}--{slug(split)}--{fingerprint[:_FINGERPRINT_DIGITS]}"


def parts_directory_name(name: str, split: str, fingerprint: str) -> str:
    """Return the name of the directory of a list of parts within a cache directory."""
    return directory_name(name, split, fingerprint) + PARTS_SUFFIX


def shard_name(table: str, shard: int) -> str:
    """Return the name of one published file."""
    return f"{table}-{shard:05d}.arrow"


def retired_path(cache_dir: Path, name: str) -> Path:
    """Return a unique hidden name, for what is hidden before it is deleted."""
    return cache_dir / f"{RETIRED_PREFIX}{name}.{os.getpid()}-{secrets.token_hex(4)}"


def kind_and_cache(path: Path) -> tuple[LeftoverKind | None, str | None]:
    """Return what a name says: the kind of leftover, if any, and the cache whose builder lock guards it, if any."""
    matches = ((kind, re.fullmatch(pattern, path.name)) for kind, pattern in _NAMES.items())
    return next(((kind, match[1]) for kind, match in matches if match), (None, None))


def is_url(text: str) -> bool:
    """Return whether a text is the address of a store, and not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) is not None


def scheme_within(path: str) -> str | None:
    """Return the scheme of the URL that a path was made from, or None: ``Path("s3://bucket")`` is ``s3:/bucket``."""
    match = _URL_AS_PATH.search(path)
    return match and (match[1] or match[2])


def as_directory(name: str, value: object) -> Path:
    """Return a directory argument as a path.

    Raises:
        SettingsError: It is not a path, or the URL of a store.
    """
    return as_path(name, value, "a local directory", "; pull fetches a cache into one, and push sends it")


def as_path(name: str, value: object, expected: str, hint: str = "") -> Path:
    """Return an argument as an absolute path, ``~`` made whole.

    Args:
        name: The argument.
        value: What was given.
        expected: What the path is of, for messages.
        hint: What to do with the URL of a store, for messages.

    Raises:
        SettingsError: It is not a path, or the URL of a store, also as a `Path`.
    """
    if not isinstance(value, str | os.PathLike) or not os.fspath(value) or "\0" in str(value):
        raise SettingsError(f"{name}: expected {expected}, found {value!r}")
    scheme = scheme_within(check_text(name, os.fspath(value)))
    if scheme is not None:
        # The rest may hold credentials.
        raise SettingsError(f"{name}: expected {expected}, found the URL {scheme}://...{hint}")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:
        raise SettingsError(f"{name}: expected {expected}, found {value!r}: {error}") from None


def make_directory(path: Path, name: str = "cache_dir") -> Path:
    """Create a directory that must be writable.

    Args:
        path: The directory.
        name: The argument that chooses it, for messages.

    Raises:
        CacheDirectoryError: It cannot be created, is not a directory, or cannot be written.
        CacheOSError: The system failed, as where the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cache_error(
            error,
            f"{path}: expected a directory that can be created: {described(error, path)}; {hint_for(error)} or choose "
            f"another {name}",
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise CacheDirectoryError(
            f"{path}: expected a writable directory, found no permission to write; choose another {name}"
        )
    return path


def sync(path: Path) -> None:
    """Make a file's content durable, or the names in a directory: a rename is durable only after that (POSIX)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: Any, offset: int) -> None:
    """Write bytes at a place of a file, all of them; the system may take less at once than it is given.

    Args:
        descriptor: The file.
        content: Anything with the buffer protocol, contiguous.
        offset: Where its first byte goes.

    Raises:
        OSError: The system took nothing, or failed.
    """
    view = memoryview(content).cast("B")
    while view.nbytes:
        written = os.pwrite(descriptor, view[:_MOST_BYTES], offset)
        if not written:
            raise OSError(errno.EIO, f"expected {view.nbytes} bytes to be written, found none")
        view, offset = view[written:], offset + written


def write_file(path: Path, content: bytes) -> None:
    """Write a small file and make it durable; what stood there is lost where this fails.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o666)
    try:
        write_all(descriptor, content, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, where several may write it at once: temporary sibling, sync, rename.

    Raises:
        OSError: The disk is full or cannot be written; what was there stays.
    """
    temporary = path.with_name(f".memxlnet-{secrets.token_hex(8)}.tmp")
    try:
        write_file(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all: temporary sibling, sync, rename.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    write_file(temporary, content)
    temporary.replace(path)
