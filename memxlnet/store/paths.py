"""Names on disk. No name that a user gives reaches the file system: a directory is a slug plus the fingerprint."""

import os
import re
import secrets
from pathlib import Path

from memxlnet.errors import CacheDirectoryError, SettingsError
from memxlnet.settings import check_text

MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"
DROPPED_REPORT = "dropped.jsonl"

BUILD_PREFIX = ".build-"
RETIRED_PREFIX = ".retired-"
ARRIVAL_PREFIX = ".arriving-"

_FINGERPRINT_DIGITS = 16
_SLUG_LENGTH = 64


def slug(text: str) -> str:
    """Text as a part of a file name: ASCII letters, digits, dot, dash and underscore, never hidden, never empty."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text)
    plain = re.sub(r"\.{2,}", ".", plain).strip(".-_")
    return plain[:_SLUG_LENGTH].rstrip(".-_") or "dataset"


def directory_name(name: str, split: str, fingerprint: str) -> str:
    """Name of the cache of one set of settings within a cache directory."""
    return f"{slug(name)}--{slug(split)}--{fingerprint[:_FINGERPRINT_DIGITS]}"


def shard_name(table: str, shard: int) -> str:
    """Name of one published file."""
    return f"{table}-{shard:05d}.arrow"


def retired_path(cache_dir: Path, name: str) -> Path:
    """A hidden name that nothing else has, for what is taken out of sight before it is deleted."""
    return cache_dir / f"{RETIRED_PREFIX}{name}.{os.getpid()}-{secrets.token_hex(4)}"


def as_directory(name: str, value: object) -> Path:
    """A directory argument as a path.

    Raises:
        SettingsError: It is no path.
    """
    return as_path(name, value, "a directory")


def as_path(name: str, value: object, expected: str) -> Path:
    """An argument as an absolute path, ``~`` made whole.

    Args:
        name: The argument.
        value: What was given.
        expected: What the path is of, for messages.

    Raises:
        SettingsError: It is no path.
    """
    if not isinstance(value, str | os.PathLike) or not os.fspath(value) or "\0" in str(value):
        raise SettingsError(f"{name}: expected {expected}, found {value!r}")
    check_text(name, os.fspath(value))
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:
        raise SettingsError(f"{name}: expected {expected}, found {value!r}: {error}") from None


def make_directory(path: Path) -> Path:
    """Create a directory that must be writable.

    Raises:
        CacheDirectoryError: It cannot be created, is no directory, or cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CacheDirectoryError(
            f"{path}: expected a directory that can be created: {error.strerror}; make room, restore access or choose "
            "another cache_dir"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise CacheDirectoryError(
            f"{path}: expected a writable directory, found no permission to write; choose another cache_dir"
        )
    return path


def sync(path: Path) -> None:
    """Make a file's content durable, or the names in a directory: a rename is durable only after that (POSIX)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all: temporary sibling, sync, rename."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
