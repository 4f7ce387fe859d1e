"""What the build asks of a source, and the identity of files."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from memxlnet.encode.known_file import FindKnown, KnownFile
from memxlnet.errors import SourceError, SourceNotFoundError

_READ_BYTES = 1 << 20


class Source(Protocol):
    """A stream of raw examples.

    A source is read once for the build and may be read again after an interruption; every reading must give the same
    rows in the same order, which `identity` stands for.
    """

    @property
    def name(self) -> str:
        """Short name, for the cache directory and messages."""

    @property
    def total(self) -> int | None:
        """Number of rows where that is known without reading, for progress; else None."""

    def identity(self) -> dict[str, Any]:
        """What the content is, as JSON values; equal content has an equal identity, wherever it lies."""

    def provenance(self) -> dict[str, Any]:
        """Where the content was found, as JSON values: recorded for people, no part of any identity."""

    def rows(self) -> Iterator[Any]:
        """The raw rows, from the first."""

    def place(self, row: int) -> tuple[str, int]:
        """Where a row that was read stands: the name of its part, and its number there."""

    def check_unchanged(self) -> None:
        """Raise `SourceError` where the content is no longer what `identity` said."""


class HashedFile:
    """A file's content digest, taken once and kept honest by its size and times."""

    def __init__(self, path: Path, find_known: FindKnown | None = None):
        self.path = path
        self._find_known = find_known
        self._known: KnownFile | None = None

    def known(self) -> KnownFile:
        """The file's size, times and digest; hashes unless an earlier build recorded them unchanged.

        Raises:
            SourceNotFoundError: There is no such file.
            SourceError: It cannot be read, or changes while it is read.
        """
        if self._known is None:
            path = os.path.realpath(self.path)
            before = self._stat()
            recorded = self._find_known(path) if self._find_known else None
            if recorded is not None and before == (recorded.size, recorded.mtime_ns, recorded.ctime_ns):
                self._known = recorded
            else:
                self._known = self._hash(path)
        return self._known

    def check_unchanged(self) -> None:
        """Raise `SourceError` where the file is no longer what was hashed."""
        known = self.known()
        if self._stat() != (known.size, known.mtime_ns, known.ctime_ns):
            raise SourceError(
                f"{self.path}: expected the file to stay as it is while it is read, found other size or times; "
                "start again when nothing writes to it"
            )

    def _hash(self, path: str) -> KnownFile:
        # A write within the same tick of the file system's clock would leave no trace in the times: wait it out.
        size, mtime_ns, ctime_ns = self._stat()
        tick = 2.0 if mtime_ns % 1_000_000_000 == 0 else 0.02
        age = time.time() - max(mtime_ns, ctime_ns) / 1e9
        if 0 <= age < tick:
            time.sleep(tick - age)
            size, mtime_ns, ctime_ns = self._stat()
        digest = hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                while block := file.read(_READ_BYTES):
                    digest.update(block)
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read: {error}") from error
        known = KnownFile(path, size, mtime_ns, ctime_ns, digest.hexdigest())
        if self._stat() != (size, mtime_ns, ctime_ns):
            raise SourceError(f"{self.path}: changed while it was read; start again when nothing writes to it")
        return known

    def _stat(self) -> tuple[int, int, int]:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise SourceNotFoundError(
                f"{self.path}: no such file (a string that looks like a path is a local file; a name on the Hub is "
                "'name' or 'owner/name')"
            ) from None
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read: {error}") from error
        if not self.path.is_file():
            raise SourceError(f"{self.path}: expected a file, found a directory or device")
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns
