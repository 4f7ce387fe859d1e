"""Examples in columns: Parquet, and Arrow in its file and its stream format."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from memxlnet.errors import SourceError
from memxlnet.sources.compressed import seekable
from memxlnet.sources.source_files import SourceFile

_BATCH_ROWS = 1000

_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError)
"""What reading raises: Arrow, the system, texts that are not UTF-8, dates that Python cannot hold."""


def read_parquet(file: SourceFile, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """Yield the rows of a Parquet file, with some of its columns or all."""
    try:
        with seekable(file) as plain:
            parquet = pq.ParquetFile(plain)
            names = _chosen(file, parquet.schema_arrow.names, columns)
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=names):
                yield from batch.to_pylist()
    except _ERRORS as error:
        raise SourceError(f"{file}: cannot be read as Parquet: {error}") from error


def read_arrow(file: SourceFile, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """Yield the rows of an Arrow file in the IPC file format or the IPC stream format (which `datasets` writes)."""
    try:
        with seekable(file) as plain:
            for batch in _batches(plain):
                # Damaged offsets can end the process when text is read: everything is checked before.
                batch.validate(full=True)
                chosen = batch.select(_chosen(file, batch.schema.names, columns))
                for start in range(0, batch.num_rows, _BATCH_ROWS):
                    yield from chosen.slice(start, _BATCH_ROWS).to_pylist()
    except _ERRORS as error:
        raise SourceError(f"{file}: cannot be read as Arrow IPC: {error}") from error


def _chosen(subject: object, names: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    """Return the names of the columns to read.

    Raises:
        SourceError: One of them stands twice.
    """
    chosen = [name for name in names if columns is None or name in columns]
    check_names(subject, chosen)
    return chosen


def check_names(subject: object, names: Sequence[str]) -> None:
    """Check that no column has the name of another one.

    Raises:
        SourceError: Some have.
    """
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SourceError(f"{subject}: expected columns of different names, found {repeated} more than once")


def _batches(plain: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    try:
        reader = pa.ipc.open_file(plain)
    except pa.ArrowInvalid:
        plain.seek(0)
        return _stream_batches(plain)
    return (reader.get_batch(i) for i in range(reader.num_record_batches))


def _stream_batches(plain: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    reader = pa.ipc.open_stream(plain)
    while True:
        before = plain.tell()
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            break
        yield batch
    # Cut off between two batches, a stream reads like a whole one; only its end marker distinguishes them.
    if plain.tell() == before:
        raise pa.ArrowInvalid("the stream has no end marker: it was cut off, or its writer was never closed")


def count_parquet(file: SourceFile) -> int:
    """Return the number of rows of a Parquet file, from its footer."""
    with seekable(file) as plain:
        return int(pq.read_metadata(plain).num_rows)


def count_arrow(file: SourceFile) -> int:
    """Return the number of rows of an Arrow file or stream, from the headers of its batches."""
    with seekable(file) as plain:
        return sum(batch.num_rows for batch in _batches(plain))
