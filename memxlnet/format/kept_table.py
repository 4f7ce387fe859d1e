"""The kept columns: an optional table of any types, read row by row or in runs of documents."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from memxlnet.errors import CacheDamagedError
from memxlnet.format.manifest import REBUILD, TableRecord
from memxlnet.format.mapping import MappedFile
from memxlnet.format.ragged import Ints
from memxlnet.format.text_table import BatchTable

_NAN = float("nan")


class KeptTable(BatchTable):
    """Further fields of the examples: one row per document, in order; every column may hold nulls.

    A record batch is validated in full before its first value is read, and stays mapped.

    Args:
        mapped: The file.
        reader: Its reader.
        table: What the manifest says of it.
        schema: Its columns.

    Attributes:
        schema: Names and types of the columns, sorted by name.
    """

    def __init__(self, mapped: MappedFile, reader: Any, table: TableRecord, schema: pa.Schema):
        super().__init__(mapped, reader, table)
        self.schema = schema
        self._checked: dict[int, dict[str, pa.Array]] = {}

    @property
    def names(self) -> list[str]:
        """The names of the columns, sorted."""
        return list(self.schema.names)

    def values(self, row: int, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Return the values of a document by name, as Python values; None for a null.

        Args:
            row: The document.
            names: Columns; None for all.

        Raises:
            CacheDamagedError: The record batch is damaged.
        """
        number, at = divmod(row, self._batch_rows)
        columns = self._columns(number)
        try:
            return {name: columns[name][at].as_py() for name in (columns if names is None else names)}
        except (UnicodeDecodeError, ValueError, OverflowError) as error:
            raise CacheDamagedError(
                f"{self._mapped.path}, row {row}: expected values that Python can hold, found {error}", hint=REBUILD
            ) from error

    def groups(self, name: str) -> tuple[Ints, list[Any]]:
        """Return which value of a column each document has, read batch by batch: 8 bytes a document.

        Args:
            name: A column of single values.

        Returns:
            int64[documents], the number of each value, and the distinct values in order of first use; a null is a value
            of its own, None.
        """
        numbers: dict[Any, int] = {}
        found = [
            np.array([numbers.setdefault(_key(value), len(numbers)) for value in batch[name].to_pylist()], np.int64)
            for batch in self.batches()
        ]
        return np.concatenate(found), list(numbers)

    def rows(self, start: int, stop: int) -> pa.Table:
        """Return the rows of some documents that follow each other: views of the map.

        Args:
            start: The first document.
            stop: The one after the last; above `start`.
        """
        first, last = start // self._batch_rows, (stop - 1) // self._batch_rows
        table = pa.Table.from_batches([self.batch(number) for number in range(first, last + 1)])
        return table.slice(start - first * self._batch_rows, stop - start).replace_schema_metadata()

    def joined(self, documents: pa.RecordBatch, start: int) -> pa.RecordBatch:
        """Return rows of documents, from row `start` on, with the kept columns after their own."""
        table = self.rows(start, start + documents.num_rows).combine_chunks()
        (kept,) = table.to_batches()
        names = [*documents.schema.names, *kept.schema.names]
        return pa.RecordBatch.from_arrays([*documents.columns, *kept.columns], names=names)

    def _columns(self, number: int) -> dict[str, pa.Array]:
        if number not in self._checked:
            batch = self.batch(number)
            self._checked[number] = dict(zip(batch.schema.names, batch.columns, strict=True))
        return self._checked[number]


def _key(value: Any) -> Any:
    """Return what equal values have in common: NaN does not equal itself."""
    return _NAN if isinstance(value, float) and value != value else value
