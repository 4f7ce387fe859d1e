"""Documents and contexts: tables with text, read row by row without pyarrow objects in between."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from memxlnet.errors import CacheDamagedError
from memxlnet.format.file_layout import column_values, numpy_type
from memxlnet.format.manifest import REBUILD, TableRecord
from memxlnet.format.mapping import MappedFile

_Part = tuple[Any, ...]


class BatchTable:
    """One table in record batches of a fixed row count.

    A batch is validated in full before its first value is read, because damaged offsets could otherwise lead anywhere.
    Rows are not checked for their range: that is the caller's part.

    Args:
        mapped: The file.
        reader: Its reader.
        table: What the manifest says of it.
    """

    def __init__(self, mapped: MappedFile, reader: Any, table: TableRecord):
        self._mapped = mapped
        self._reader = reader
        self._rows = table.rows
        self._batch_rows = table.batch_rows

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self._rows

    @property
    def num_batches(self) -> int:
        """Number of record batches."""
        return int(self._reader.num_record_batches)

    def validate(self) -> None:
        """Check every record batch in full.

        Raises:
            CacheDamagedError: One is damaged.
        """
        for _ in self.batches():
            pass

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the record batches in order, each checked in full and none kept: RAM for one.

        Raises:
            CacheDamagedError: One is damaged.
        """
        for number in range(self.num_batches):
            yield self.batch(number)

    def batch(self, number: int) -> pa.RecordBatch:
        """Return one record batch, checked in full: views of the map.

        Raises:
            CacheDamagedError: It is damaged.
        """
        batch, place = self._unchecked(number)
        try:
            batch.validate(full=True)
        except pa.ArrowException as error:
            raise CacheDamagedError(f"{place}: damaged: {error}", hint=REBUILD) from error
        return batch

    def _unchecked(self, number: int) -> tuple[pa.RecordBatch, str]:
        """Return a record batch with the right number of rows, and its place for messages."""
        batch = self._reader.get_batch(number)
        rows = min(self._batch_rows, self._rows - number * self._batch_rows)
        place = f"{self._mapped.path}, record batch {number}"
        if batch.num_rows != rows:
            raise CacheDamagedError(f"{place}: expected {rows} rows, found {batch.num_rows}", hint=REBUILD)
        return batch, place


class TextTable(BatchTable):
    """Documents or contexts: a table without nulls.

    Args:
        mapped: The file.
        reader: Its reader.
        table: What the manifest says of it.
    """

    def __init__(self, mapped: MappedFile, reader: Any, table: TableRecord):
        super().__init__(mapped, reader, table)
        self._batches: dict[int, dict[str, _Part]] = {}

    def text(self, name: str, row: int) -> str:
        """Return a value of a text column."""
        (offsets, data), index = self._find(name, row)
        return str(data[offsets[index] : offsets[index + 1]], "utf-8")

    def texts(self, name: str, row: int) -> list[str]:
        """Return a value of a column of text lists."""
        (bounds, offsets, data), index = self._find(name, row)
        edges = offsets[bounds[index] : bounds[index + 1] + 1].tolist()
        return [str(data[start:stop], "utf-8") for start, stop in pairwise(edges)]

    def numbers(self, name: str, row: int) -> NDArray[np.int32]:
        """Return a value of a column of number lists: int32[items], a read-only view."""
        (bounds, values), index = self._find(name, row)
        found: NDArray[np.int32] = values[bounds[index] : bounds[index + 1]]
        return found

    def number(self, name: str, row: int) -> int:
        """Return a value of a number column."""
        (values,), index = self._find(name, row)
        return int(values[index])

    def column(self, name: str) -> NDArray[Any]:
        """Return a whole number column: a copy, of the column's own type.

        Raises:
            CacheDamagedError: A record batch is damaged.
        """
        return self.columns(name)[0]

    def columns(self, *names: str) -> list[NDArray[Any]]:
        """Return whole number columns, read in one pass: copies, of the columns' own types. No text is read.

        Raises:
            CacheDamagedError: A record batch is damaged.
        """
        parts = [self._numbers(number, names) for number in range(self.num_batches)]
        return [np.concatenate(values) for values in zip(*parts, strict=True)]

    def list_lengths(self, name: str) -> NDArray[np.int32]:
        """Return int32[rows], how many values each row of a column of lists has; the values are not read.

        Raises:
            CacheDamagedError: A record batch is damaged.
        """
        columns = (self._checked_column(*self._unchecked(number), name) for number in range(self.num_batches))
        return np.concatenate([pc.list_value_length(column).to_numpy().astype(np.int32) for column in columns])

    def _numbers(self, number: int, names: Sequence[str]) -> list[NDArray[Any]]:
        batch, place = self._unchecked(number)
        return [column_values(self._checked_column(batch, place, name)) for name in names]

    def _checked_column(self, batch: pa.RecordBatch, place: str, name: str) -> pa.Array:
        column = batch.column(name)
        try:
            column.validate(full=True)
        except pa.ArrowException as error:
            raise CacheDamagedError(f"{place}: damaged: {error}", hint=REBUILD) from error
        if column.null_count:
            raise CacheDamagedError(f"{place}: expected no nulls in column {name}, found some", hint=REBUILD)
        return column

    def batch(self, number: int) -> pa.RecordBatch:
        """Return one record batch, checked in full: views of the map.

        Raises:
            CacheDamagedError: It is damaged, or holds nulls.
        """
        batch = super().batch(number)
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if column.null_count or (pa.types.is_large_list(column.type) and column.values.null_count):
                place = f"{self._mapped.path}, record batch {number}"
                raise CacheDamagedError(f"{place}: expected no nulls in column {name}, found some", hint=REBUILD)
        return batch

    def _find(self, name: str, row: int) -> tuple[_Part, int]:
        batch, index = divmod(row, self._batch_rows)
        return (self._batches.get(batch) or self._batch(batch))[name], index

    def _batch(self, number: int) -> dict[str, _Part]:
        if number not in self._batches:
            batch = self.batch(number)
            try:
                self._batches[number] = {
                    name: _parts(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)
                }
            except ValueError as error:
                place = f"{self._mapped.path}, record batch {number}"
                raise CacheDamagedError(f"{place}: damaged: {error}", hint=REBUILD) from error
        return self._batches[number]


def text_hashes(table: BatchTable, name: str) -> NDArray[np.uint64]:
    """Return uint64[rows], a hash of each value of a text column; read batch by batch."""
    hashes = np.empty(table.num_rows, np.uint64)
    first = 0
    for batch in table.batches():
        texts = (xxhash.xxh3_64_intdigest(text.as_buffer()) for text in batch[name])
        hashes[first : first + batch.num_rows] = np.fromiter(texts, np.uint64, batch.num_rows)
        first += batch.num_rows
    return hashes


def _parts(column: pa.Array) -> _Part:
    """Return the buffers of a column as NumPy views: bounds of lists, offsets and bytes of text, numbers."""
    buffers = column.buffers()
    kind = column.type
    if pa.types.is_large_string(kind):
        return _array(buffers[1], np.int64), memoryview(buffers[2] or b"")
    if pa.types.is_large_list(kind):
        bounds = _array(buffers[1], np.int64)
        if pa.types.is_large_string(kind.value_type):
            return bounds, _array(buffers[3], np.int64), memoryview(buffers[4] or b"")
        return bounds, _array(buffers[3], numpy_type(kind.value_type))
    return (_array(buffers[1], numpy_type(kind)),)


def _array(buffer: pa.Buffer | None, dtype: Any) -> NDArray[Any]:
    return np.frombuffer(buffer if buffer is not None else b"", dtype)
