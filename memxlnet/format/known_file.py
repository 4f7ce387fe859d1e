"""What an earlier build recorded of a source file, so that it need not be hashed again."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class KnownFile:
    """A file as an earlier build recorded it: while size and times are the same, so is its digest."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str


FindKnown = Callable[[str], KnownFile | None]
"""Looks up a file by its absolute path among those that earlier builds recorded."""
