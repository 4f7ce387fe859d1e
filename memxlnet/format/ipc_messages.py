"""The messages of an Arrow IPC file, read in order as a stream reader does.

Readers of the file format start at its end and look at neither its first bytes nor at what lies between the messages.
Others do, such as those that read it as a stream.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa

from memxlnet.errors import CacheDamagedError, CacheError
from memxlnet.format.manifest import REBUILD
from memxlnet.system_errors import out_of_memory

READ_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError)
"""What pyarrow raises at damaged bytes, or where it is out of memory; `damaged` distinguishes them."""

_MAGIC = b"ARROW1"
_START = 8  # the magic and its padding
_LENGTH_BYTES = 4  # of the footer, before the magic at the end


def check_start(path: Path, buffer: pa.Buffer, schema: pa.Schema) -> None:
    """Check that a file starts with the magic and with the schema that its footer holds.

    Args:
        path: The file, for messages.
        buffer: Its bytes.
        schema: The schema of its footer.

    Raises:
        CacheDamagedError: It does not.
    """
    found = buffer.slice(0, _START).to_pybytes()
    if found != _MAGIC.ljust(_START, b"\0"):
        raise damaged(path, f"an Arrow IPC file, which starts with {_MAGIC!r}", found)
    try:
        first = pa.ipc.open_stream(buffer.slice(_START)).schema
        is_same = first.equals(schema, check_metadata=True)
    except READ_ERRORS as error:
        raise damaged(path, "a schema at its start", error) from error
    if not is_same:
        raise damaged(path, "the schema of its footer at its start", "another")


def check_messages(path: Path, buffer: pa.Buffer, reader: Any) -> None:
    """Check that a file read in order has the record batches that its footer names, where it names them, and no more.

    It costs the number of record batches, not their size.

    Args:
        path: The file, for messages.
        buffer: Its bytes.
        reader: A reader of the file format over them.

    Raises:
        CacheDamagedError: It has others.
    """
    source = pa.BufferReader(buffer)
    source.seek(_START)
    try:
        stream = pa.ipc.open_stream(source)
        for number in range(reader.num_record_batches):
            if _places(stream.read_next_batch()) != _places(reader.get_batch(number)):
                raise damaged(path, f"record batch {number} where its footer names it", "other bytes there")
        if next(stream, None) is not None:
            raise damaged(path, f"{reader.num_record_batches} record batches (footer)", "more")
    except (StopIteration, *READ_ERRORS) as error:
        if isinstance(error, CacheDamagedError):
            raise
        found = error if isinstance(error, MemoryError) else repr(error)
        raise damaged(path, "messages that can be read in order", found) from error
    end = buffer.size - len(_MAGIC) - _LENGTH_BYTES
    footer = end - int.from_bytes(buffer.slice(end, _LENGTH_BYTES).to_pybytes(), "little")
    if source.tell() != footer:
        raise damaged(path, f"its footer at byte {source.tell()}, after the last message", footer)


def damaged(path: Path, expected: object, found: object) -> CacheError:
    """Return the error for a file of another structure, or where it is the memory that was not enough to look at it."""
    if isinstance(found, MemoryError):
        return out_of_memory(path, "read")
    return CacheDamagedError(f"{path}: expected {expected}, found {found}", hint=REBUILD)


def _places(batch: pa.RecordBatch) -> tuple[int, list[tuple[int, int] | None]]:
    """Return its rows, and where each of its buffers lies."""
    buffers = [buffer for column in batch.columns for buffer in column.buffers()]
    return batch.num_rows, [None if buffer is None else (buffer.address, buffer.size) for buffer in buffers]
