"""Chunk files: one encoded chunk each, there whole or not at all.

A chunk file holds Arrow IPC streams, end to end: a survey of the chunk, then one for each table. Its name holds its
number and the checksum of its bytes, so that a restarted build knows without any other record which chunks are whole.
The schema of its first table holds the digest of the examples that it was made from, so that a chunk whose examples
changed does not count as finished.
"""

import logging
import os
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from arrow_schemas import DROPPED, KEPT, TABLES
from memxlnet.builder.chunk_survey import ChunkSurvey
from memxlnet.errors import BuildError, BuildOSError, with_fields_of
from memxlnet.format.checksums import digest, file_digest
from memxlnet.format.file_layout import FileSink, created
from memxlnet.format.paths import sync

logger = logging.getLogger(__name__)

CHUNK_TABLES = (*TABLES, DROPPED)
"""The tables of every chunk; that of the kept columns follows where something is kept."""

_EXAMPLES_KEY = b"memxlnet.examples"
_READ = pa.ipc.IpcReadOptions(use_threads=False)
_PLAIN = pa.ipc.IpcWriteOptions()
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
"""For features: padded, they take a twentieth of their size, which is less work than to write and sync all of it."""

_NAME = re.compile(r"(\d{8})\.([0-9a-f]{32})\.chunk")


@dataclass(frozen=True)
class ChunkReceipt:
    """What is known of a finished chunk without reading it.

    Attributes:
        index: Number of the chunk, from 0.
        file: Name of its file.
        bytes: Size of its file.
        rows: Rows by table, the dropped examples included.
        examples: Digest of the raw examples that it was made from; empty where none was given.
        table_bytes: Bytes of its tables; the file holds features compressed.
    """

    index: int
    file: str
    bytes: int
    rows: Mapping[str, int]
    examples: str = ""
    table_bytes: int = 0

    @property
    def checksum(self) -> str:
        """The checksum of its file, from the name."""
        return self.file.split(".")[1]

    def check_types(self) -> None:
        """Check what came from elsewhere.

        Raises:
            TypeError: It is no receipt.
        """
        match = _NAME.fullmatch(self.file) if isinstance(self.file, str) else None
        numbers = [
            self.index,
            self.bytes,
            self.table_bytes,
            *(self.rows.values() if isinstance(self.rows, dict) else [None]),
        ]
        is_whole = all(isinstance(number, int) and number >= 0 for number in numbers)
        is_named = match is not None and int(match[1]) == self.index and set(CHUNK_TABLES) <= set(self.rows)
        if not is_whole or not is_named or not isinstance(self.examples, str):
            raise TypeError("expected the fields of a receipt")


def with_examples_digest(tables: Mapping[str, pa.RecordBatch], digest: str) -> dict[str, pa.RecordBatch]:
    """Return the tables of a chunk, marked with the digest of the raw examples that they were made from."""
    first = CHUNK_TABLES[0]
    return {**tables, first: tables[first].replace_schema_metadata({_EXAMPLES_KEY: digest.encode()})}


def _examples_digest(tables: Mapping[str, pa.RecordBatch]) -> str:
    return ((tables[CHUNK_TABLES[0]].schema.metadata or {}).get(_EXAMPLES_KEY) or b"").decode()


class _DigestingSink(FileSink):
    """A file that keeps the checksum of what is written to it."""

    def __init__(self, descriptor: int):
        super().__init__(descriptor)
        self.state = xxhash.xxh3_128()

    def _put(self, view: memoryview) -> None:
        self.state.update(view)
        super()._put(view)


def chunk_bytes(index: int, tables: Mapping[str, pa.RecordBatch]) -> tuple[ChunkReceipt, bytes]:
    """Return the receipt of a chunk and the bytes of its file, which `write_chunk` would write.

    Raises:
        BuildError: A table is missing.
    """
    _check_tables(index, tables)
    sink = BytesIO()
    survey = _write_streams(sink, tables)
    content = sink.getvalue()
    return _receipt(index, digest(content), len(content), tables, survey), content


def chunk_content(directory: Path, receipt: ChunkReceipt) -> bytes:
    """Return the bytes of the file of a chunk.

    Raises:
        OSError: It cannot be read.
    """
    return (directory / receipt.file).read_bytes()


def store_chunk(directory: Path, receipt: ChunkReceipt, content: bytes) -> None:
    """Write the file of a chunk that was encoded elsewhere: check, temporary file, sync, rename.

    Args:
        directory: Where the chunks of a build lie.
        receipt: Its receipt.
        content: What `chunk_bytes` gave.

    Raises:
        BuildError: They are not those of the receipt; nothing is written.
        OSError: The disk is full or cannot be written; no part is left.
    """
    expected, found = (receipt.bytes, receipt.checksum), (len(content), digest(content))
    if found != expected:
        raise BuildError(
            f"chunk {receipt.index}: expected {expected[0]:,} bytes with the checksum {expected[1]}, found "
            f"{found[0]:,} with {found[1]}; build again to resume"
        )
    with _put_in_place(directory, receipt.index) as (sink, name):
        sink.write(content)
        name.append(receipt.file)


def write_chunk(directory: Path, index: int, tables: Mapping[str, pa.RecordBatch]) -> ChunkReceipt:
    """Write one chunk: temporary file, sync, rename.

    Args:
        directory: Where the chunks of a build lie.
        index: Number of the chunk.
        tables: One record batch for each of `CHUNK_TABLES`, and for ``kept`` where something is kept.

    Raises:
        BuildError: A table is missing.
        OSError: The disk is full or cannot be written; no part is left.
    """
    _check_tables(index, tables)
    with _put_in_place(directory, index) as (sink, name):
        survey = _write_streams(sink, tables)
        receipt = _receipt(index, sink.state.hexdigest(), sink.position, tables, survey)
        name.append(receipt.file)
    return receipt


@contextmanager
def _put_in_place(directory: Path, index: int) -> Iterator[tuple[_DigestingSink, list[str]]]:
    """Write the file of a chunk; yields where to write it, and a list that gets its name, known only by then."""
    # Two processes may write the same chunk at once: one whose builder died, and the one that took its place.
    temporary = directory / f"{index:08d}.{secrets.token_hex(8)}.tmp"
    name: list[str] = []
    try:
        with created(temporary) as descriptor:
            yield _DigestingSink(descriptor), name
            os.fsync(descriptor)
        temporary.replace(directory / name[0])
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(directory)


def _check_tables(index: int, tables: Mapping[str, pa.RecordBatch]) -> None:
    missing = [table for table in CHUNK_TABLES if table not in tables]
    if missing:
        raise BuildError(f"chunk {index}: expected the tables {', '.join(CHUNK_TABLES)}, found none of {missing}")


def _write_streams(sink: Any, tables: Mapping[str, pa.RecordBatch]) -> ChunkSurvey:
    survey = ChunkSurvey.of(tables)
    _write_stream(sink, survey.to_batch(), _PLAIN)
    for table in _tables_of(tables):
        _write_stream(sink, tables[table], _COMPRESSED if table == "features" else _PLAIN)
    return survey


def _write_stream(sink: Any, batch: pa.RecordBatch, options: pa.ipc.IpcWriteOptions) -> None:
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), batch.schema, options=options) as writer:
        writer.write_batch(batch)


def _receipt(
    index: int, checksum: str, size: int, tables: Mapping[str, pa.RecordBatch], survey: ChunkSurvey
) -> ChunkReceipt:
    rows = {table: tables[table].num_rows for table in _tables_of(tables)}
    file = f"{index:08d}.{checksum}.chunk"
    return ChunkReceipt(index, file, size, rows, _examples_digest(tables), survey.num_bytes)


def _tables_of(tables: Mapping[str, pa.RecordBatch]) -> tuple[str, ...]:
    return (*CHUNK_TABLES, KEPT) if KEPT in tables else CHUNK_TABLES


def read_chunk(
    directory: Path, receipt: ChunkReceipt, only: Collection[str] | None = None
) -> dict[str, pa.RecordBatch]:
    """Read the tables of one chunk.

    Args:
        directory: Where the chunks of a build lie.
        receipt: Its receipt.
        only: The tables that are wanted; None reads all.

    Raises:
        BuildError: The file is damaged.
        BuildOSError: It is gone or cannot be read.
    """
    with _reading(directory, receipt) as mapped:
        _skip_stream(mapped)
        return _read_tables(mapped, only)


def read_survey(directory: Path, receipt: ChunkReceipt) -> ChunkSurvey:
    """Read the survey of one chunk, and nothing else of it.

    Raises:
        BuildError: As `read_chunk`.
    """
    with _reading(directory, receipt) as mapped:
        return _read_survey(mapped)


@contextmanager
def _reading(directory: Path, receipt: ChunkReceipt) -> Iterator[pa.MemoryMappedFile]:
    path = directory / receipt.file
    try:
        with pa.memory_map(str(path)) as mapped:
            # Arrow reads other rows from a damaged file, or beyond its buffers.
            if digest(memoryview(mapped.read_buffer())) != receipt.checksum:
                raise pa.ArrowInvalid("other bytes than were written")
            mapped.seek(0)
            yield mapped
    except (pa.ArrowException, OSError, StopIteration) as error:
        message = f"{path}: expected a chunk of {receipt.bytes} bytes, found {error!r}; build again"
        if isinstance(error, OSError):
            raise with_fields_of(BuildOSError(message), error) from error
        raise BuildError(message) from error


def _read_survey(mapped: pa.MemoryMappedFile) -> ChunkSurvey:
    return ChunkSurvey.from_batch(_read_stream(mapped))


def _read_tables(mapped: pa.MemoryMappedFile, only: Collection[str] | None = None) -> dict[str, pa.RecordBatch]:
    tables = {}
    left = set((*CHUNK_TABLES, KEPT) if only is None else only)
    for table in (*CHUNK_TABLES, KEPT):
        if not left or (table == KEPT and mapped.tell() == mapped.size()):
            break
        if table in left:
            left.remove(table)
            tables[table] = _read_stream(mapped)
        else:
            _skip_stream(mapped)
    return tables


def _read_stream(mapped: pa.MemoryMappedFile) -> pa.RecordBatch:
    with pa.ipc.open_stream(mapped, options=_READ) as reader:
        batch = reader.read_next_batch()
        for _ in reader:
            raise pa.ArrowInvalid("expected one record batch in a stream, found more")
        return batch


def _skip_stream(mapped: pa.MemoryMappedFile) -> None:
    for _ in pa.ipc.MessageReader.open_stream(mapped):
        pass


def finished_chunks(directory: Path) -> dict[int, ChunkReceipt]:
    """Return the whole chunks of an interrupted build, by number; what is damaged or half-written is removed.

    Every file is read and compared with the checksum in its name. Where a chunk was made again from other examples,
    the latest file counts.
    """
    receipts: dict[int, ChunkReceipt] = {}
    for path in sorted(directory.iterdir(), key=_age):
        match = _NAME.fullmatch(path.name)
        index = int(match[1]) if match else -1
        found = _found_receipt(path, index, match[2]) if match and index not in receipts else None
        if found is None:
            logger.info("%s: removed, no whole chunk of this build", path)
            path.unlink(missing_ok=True)
        else:
            receipts[index] = found
    return dict(sorted(receipts.items()))


def _found_receipt(path: Path, index: int, checksum: str) -> ChunkReceipt | None:
    """Return the receipt of a file; None where it is not whole, or of an earlier release."""
    if not _holds(path, checksum):
        return None
    try:
        with pa.memory_map(str(path)) as mapped:
            survey, tables = _read_survey(mapped), _read_tables(mapped)
            return _receipt(index, checksum, mapped.size(), tables, survey)
    except (pa.ArrowInvalid, StopIteration):
        return None


def _age(path: Path) -> tuple[int, str]:
    try:
        return -path.stat().st_mtime_ns, path.name
    except FileNotFoundError:
        return 0, path.name


def _holds(path: Path, digest: str) -> bool:
    try:
        return file_digest(path) == digest
    except FileNotFoundError:
        # Of a worker that outlived its builder: it is gone, or has its name by now.
        return False
