"""Chunk files: one encoded chunk each, there whole or not at all.

A chunk file holds one Arrow IPC stream per table, end to end. Its name holds its number and the checksum of its bytes,
so that a restarted build knows without any other record which chunks are whole. Its first schema holds the digest of
the examples that it was made from, so that a chunk whose examples changed does not count as finished.
"""

import logging
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from arrow_schemas import DROPPED, KEPT, TABLES
from memxlnet.errors import BuildError, BuildOSError, with_fields_of
from memxlnet.format.checksums import digest, file_digest
from memxlnet.format.file_layout import FileSink, created
from memxlnet.format.paths import sync

logger = logging.getLogger(__name__)

CHUNK_TABLES = (*TABLES, DROPPED)
"""The tables of every chunk; that of the kept columns follows where something is kept."""

_EXAMPLES_KEY = b"memxlnet.examples"
_CODEC = "zstd"
_BLOCK_BYTES = 8 << 20
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
    """

    index: int
    file: str
    bytes: int
    rows: Mapping[str, int]
    examples: str = ""

    def check_types(self) -> None:
        """Check what came from elsewhere.

        Raises:
            TypeError: It is no receipt.
        """
        match = _NAME.fullmatch(self.file) if isinstance(self.file, str) else None
        numbers = [self.index, self.bytes, *(self.rows.values() if isinstance(self.rows, dict) else [None])]
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
    _write_streams(sink, tables)
    content = sink.getvalue()
    return _receipt(index, digest(content), len(content), tables), content


def compressed(content: "bytes | pa.Buffer") -> bytes:
    """Return the bytes of a chunk's file as they travel: padded rows take about an eighth."""
    found: bytes = pa.Codec(_CODEC, 1).compress(content, asbytes=True)
    return found


def compressed_file(directory: Path, receipt: ChunkReceipt) -> bytes:
    """Return the file of a chunk as `compressed` gives it.

    Raises:
        OSError: It cannot be read.
    """
    with pa.memory_map(str(directory / receipt.file)) as mapped:
        return compressed(mapped.read_buffer())


def _decompressed(receipt: ChunkReceipt, content: bytes) -> Iterator[bytes]:
    """Yield the bytes of a chunk's file, in order; at most one more than there should be."""
    left = receipt.bytes + 1
    with pa.CompressedInputStream(pa.BufferReader(content), _CODEC) as stream:
        while left:
            try:
                block = stream.read(min(left, _BLOCK_BYTES))
            except (pa.ArrowInvalid, OSError) as error:  # of damaged bytes: no file is read here
                raise BuildError(
                    f"chunk {receipt.index}: expected {receipt.bytes:,} bytes in {_CODEC}, found {len(content):,} that "
                    f"are damaged ({error}); build again to resume"
                ) from error
            if not block:
                return
            left -= len(block)
            yield block


def store_chunk(directory: Path, receipt: ChunkReceipt, content: bytes) -> None:
    """Write the file of a chunk that was encoded elsewhere: temporary file, check, sync, rename.

    Args:
        directory: Where the chunks of a build lie.
        receipt: Its receipt.
        content: What `compressed` gave.

    Raises:
        BuildError: They are not those of the receipt; no part is left.
        OSError: The disk is full or cannot be written; no part is left.
    """
    checksum = receipt.file.split(".")[1]
    with _put_in_place(directory, receipt.index) as (sink, name):
        for block in _decompressed(receipt, content):
            sink.write(block)
        if (sink.position, sink.state.hexdigest()) != (receipt.bytes, checksum):
            raise BuildError(
                f"chunk {receipt.index}: expected {receipt.bytes:,} bytes with the checksum {checksum}, found "
                f"{sink.position:,} with {sink.state.hexdigest()}; build again to resume"
            )
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
        _write_streams(sink, tables)
        receipt = _receipt(index, sink.state.hexdigest(), sink.position, tables)
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


def _write_streams(sink: Any, tables: Mapping[str, pa.RecordBatch]) -> None:
    for table in _tables_of(tables):
        with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), tables[table].schema) as writer:
            writer.write_batch(tables[table])


def _receipt(index: int, checksum: str, size: int, tables: Mapping[str, pa.RecordBatch]) -> ChunkReceipt:
    rows = {table: tables[table].num_rows for table in _tables_of(tables)}
    return ChunkReceipt(index, f"{index:08d}.{checksum}.chunk", size, rows, _examples_digest(tables))


def _tables_of(tables: Mapping[str, pa.RecordBatch]) -> tuple[str, ...]:
    return (*CHUNK_TABLES, KEPT) if KEPT in tables else CHUNK_TABLES


def read_chunk(directory: Path, receipt: ChunkReceipt) -> dict[str, pa.RecordBatch]:
    """Map one chunk; the batches are views of the map.

    Raises:
        BuildError: The file is damaged.
        BuildOSError: It is gone or cannot be read.
    """
    path = directory / receipt.file
    try:
        return _read_streams(path)
    except (pa.ArrowException, OSError, StopIteration) as error:
        message = f"{path}: expected a chunk of {receipt.bytes} bytes, found {error!r}; build again"
        if isinstance(error, OSError):
            raise with_fields_of(BuildOSError(message), error) from error
        raise BuildError(message) from error


def _read_streams(path: Path) -> dict[str, pa.RecordBatch]:
    tables = {}
    with pa.memory_map(str(path)) as mapped:
        for table in (*CHUNK_TABLES, KEPT):
            if table == KEPT and mapped.tell() == mapped.size():
                break
            with pa.ipc.open_stream(mapped) as reader:
                tables[table] = reader.read_next_batch()
                for _ in reader:
                    raise pa.ArrowInvalid(f"table {table}: expected one record batch, found more")
    return tables


def finished_chunks(directory: Path) -> dict[int, ChunkReceipt]:
    """Return the whole chunks of an interrupted build, by number; what is damaged or half-written is removed.

    Every file is read and compared with the checksum in its name. Where a chunk was made again from other examples,
    the latest file counts.
    """
    receipts: dict[int, ChunkReceipt] = {}
    for path in sorted(directory.iterdir(), key=_age):
        match = _NAME.fullmatch(path.name)
        index = int(match[1]) if match else -1
        if match is None or index in receipts or not _holds(path, match[2]):
            logger.info("%s: removed, no whole chunk of this build", path)
            path.unlink(missing_ok=True)
            continue
        tables = _read_streams(path)
        rows = {table: batch.num_rows for table, batch in tables.items()}
        receipts[index] = ChunkReceipt(index, path.name, path.stat().st_size, rows, _examples_digest(tables))
    return dict(sorted(receipts.items()))


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
