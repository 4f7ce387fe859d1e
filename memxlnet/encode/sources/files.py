"""Local files as sources."""

from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from memxlnet.encode.known_file import FindKnown
from memxlnet.encode.sources.base import HashedFile
from memxlnet.encode.sources.compressed import COMPRESSIONS, opened, seekable, uncompressed_name
from memxlnet.encode.sources.json_files import read_json, read_json_lines
from memxlnet.errors import SourceError

FIELDS = ("id", "question", "context", "answers")
_BATCH_ROWS = 1000
_COUNT_BYTES = 1 << 22
_KEY = b'"question"'


def read_parquet(path: Path) -> Iterator[Any]:
    """The rows of a Parquet file, the columns of an example only."""
    try:
        with seekable(path) as plain:
            file = pq.ParquetFile(plain, memory_map=True)
            columns = [name for name in FIELDS if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read as Parquet: {error}") from error


def read_arrow(path: Path) -> Iterator[Any]:
    """The rows of an Arrow file in the IPC file format or the IPC stream format (which `datasets` writes)."""
    try:
        with seekable(path) as plain, pa.memory_map(str(plain)) as mapped:
            yield from _arrow_rows(mapped)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: cannot be read as Arrow IPC: {error}") from error


def _batches(mapped: pa.MemoryMappedFile) -> Iterator[pa.RecordBatch]:
    try:
        reader = pa.ipc.open_file(mapped)
    except pa.ArrowInvalid:
        mapped.seek(0)
        return _stream_batches(mapped)
    return (reader.get_batch(i) for i in range(reader.num_record_batches))


def _arrow_rows(mapped: pa.MemoryMappedFile) -> Iterator[Any]:
    for batch in _batches(mapped):
        # Damaged offsets can end the process when text is read: everything is checked before.
        batch.validate(full=True)
        columns = batch.select([name for name in FIELDS if name in batch.schema.names])
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            yield from columns.slice(start, _BATCH_ROWS).to_pylist()


def _stream_batches(mapped: pa.MemoryMappedFile) -> Iterator[pa.RecordBatch]:
    reader = pa.ipc.open_stream(mapped)
    while True:
        before = mapped.tell()
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            break
        yield batch
    # Cut off between two batches, a stream reads like a whole one; only its end marker tells them apart.
    if mapped.tell() == before:
        raise pa.ArrowInvalid("the stream has no end marker: it was cut off, or its writer was never closed")


def count_json(path: Path) -> int:
    """Number of examples of a JSON or JSON Lines file, told from their key ``"question"`` without parsing.

    Within a text quotes are escaped, so that no text holds these bytes; a whole text ``question`` counts as one more.
    """
    count, tail = 0, b""
    with opened(path) as file:
        while block := file.read(_COUNT_BYTES):
            text = tail + block
            count += text.count(_KEY)
            tail = text[-len(_KEY) + 1 :]
    return count


def count_parquet(path: Path) -> int:
    """Number of rows of a Parquet file, from its footer."""
    with seekable(path) as plain:
        return int(pq.read_metadata(plain).num_rows)


def count_arrow(path: Path) -> int:
    """Number of rows of an Arrow file or stream, from the headers of its batches."""
    with seekable(path) as plain, pa.memory_map(str(plain)) as mapped:
        return sum(batch.num_rows for batch in _batches(mapped))


READERS: dict[str, Callable[[Path], Iterator[Any]]] = {
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".feather": read_arrow,
}
"""The reader of each suffix, which may be followed by that of a compression."""

_MAGIC = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"[": ".json", b"{": ".json"}
"""What the files of a reader begin with, for files whose suffix says nothing."""

_COUNTERS: dict[str, Callable[[Path], int]] = {
    ".json": count_json,
    ".jsonl": count_json,
    ".ndjson": count_json,
    ".parquet": count_parquet,
    ".arrow": count_arrow,
    ".feather": count_arrow,
}


def has_known_suffix(path: Path) -> bool:
    """Whether a name is one of a file that can be read."""
    return uncompressed_name(path).suffix.lower() in READERS


def file_stem(path: Path) -> str:
    """The name of a file without its suffix and that of a compression."""
    return uncompressed_name(path).stem


def _kind(path: Path) -> str:
    """The suffix of the reader of a file: its own, or that of its first bytes.

    Raises:
        SourceError: Both are unknown, or the file cannot be read.
    """
    suffix = uncompressed_name(path).suffix.lower()
    if suffix in READERS:
        return suffix
    try:
        with opened(path) as file:
            begin = file.read(_COUNT_BYTES).removeprefix(BOM_UTF8).lstrip()[:16]
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error
    for magic, kind in _MAGIC.items():
        if begin.startswith(magic):
            return kind
    raise SourceError(
        f"{path}: expected a file that ends in {', '.join(READERS)} (or one of these and {', '.join(COMPRESSIONS)}), "
        f"or begins as such a file does, found {path.suffix!r} and {begin!r}"
    )


class FileSource:
    """A local file of examples; `total` is known once they were counted.

    Args:
        path: The file.
        find_known: Looks up what an earlier build recorded of it.

    Raises:
        SourceNotFoundError: There is no such file.
        SourceError: Neither suffix nor content are those of a reader, or the file cannot be read.
    """

    total: int | None = None

    def __init__(self, path: Path, find_known: FindKnown | None = None):
        self._file = HashedFile(path, find_known)
        self._file.known()
        self._kind = _kind(path)

    @property
    def name(self) -> str:
        """The file's name without its suffixes."""
        return file_stem(self._file.path)

    def count(self) -> int:
        """Count the examples without reading them, and keep the number as `total`.

        Raises:
            SourceError: The file cannot be read.
        """
        path = self._file.path
        try:
            self.total = _COUNTERS[self._kind](path)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{path}: cannot be read: {error}") from error
        return self.total

    def identity(self) -> dict[str, Any]:
        """The digest of the file's bytes and how they are read."""
        return {
            "kind": "file",
            "format": self._kind.lstrip("."),
            "sha256": self._file.known().sha256,
        }

    def provenance(self) -> dict[str, Any]:
        """The file's path, size and times."""
        known = self._file.known()
        return {"path": known.path, "size": known.size, "mtime_ns": known.mtime_ns, "ctime_ns": known.ctime_ns}

    def rows(self) -> Iterator[Any]:
        """The raw rows of the file."""
        return READERS[self._kind](self._file.path)

    def place(self, row: int) -> tuple[str, int]:
        """The source's name and the row."""
        return self.name, row

    def check_unchanged(self) -> None:
        """Raise where the file has other size or times than when it was hashed."""
        self._file.check_unchanged()
