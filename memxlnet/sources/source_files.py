"""Files as the readers see them: a name, bytes in order, and what shows that they are still the same."""

import hashlib
import os
import stat
import time
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from memxlnet.errors import SourceError, SourceNotFoundError
from memxlnet.format.manifest import FindKnown, KnownFile

_READ_BYTES = 1 << 20


class SourceFile(Protocol):
    """One file of a source, wherever it lies."""

    @property
    def path(self) -> Path:
        """Its path or the path of its URL: name and suffixes."""

    @property
    def place(self) -> str:
        """Where it lies: two files of one place are one. It may hold credentials."""

    def __str__(self) -> str:
        """Return the file in messages."""

    def open(self) -> BinaryIO:
        """Open it to read its bytes; the caller closes it.

        Raises:
            OSError: It cannot be opened.
        """

    def mark(self) -> str:
        """Return what stands for its bytes: equal marks, equal bytes.

        Raises:
            SourceError: It is missing or cannot be read.
        """

    def provenance(self) -> dict[str, Any]:
        """Return where it was found, as JSON values."""

    def check_unchanged(self) -> None:
        """Raise `SourceError` where its bytes are no longer those that `mark` stands for."""


class HashedFile:
    """A file's content digest, taken once and kept honest by its size and times."""

    def __init__(self, path: Path, find_known: FindKnown | None = None):
        self.path = path
        self._find_known = find_known
        self._known: KnownFile | None = None

    def __str__(self) -> str:
        return str(self.path)

    @property
    def place(self) -> str:
        """The path without links."""
        return os.path.realpath(self.path)

    def open(self) -> BinaryIO:
        """Open the file to read its bytes."""
        return self.path.open("rb")

    def mark(self) -> str:
        """Return the digest of its bytes."""
        return self.known().sha256

    def provenance(self) -> dict[str, Any]:
        """Return path, size and times."""
        known = self.known()
        return {"path": known.path, "size": known.size, "mtime_ns": known.mtime_ns, "ctime_ns": known.ctime_ns}

    def known(self) -> KnownFile:
        """Return the file's size, times and digest; hashes unless an earlier build recorded them unchanged.

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
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{self.path}: expected a file, found a directory or device")
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns
