"""A table of results, for pandas, polars and Arrow."""

import importlib
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from memxlnet.errors import MissingLibraryError


class DataTable:
    """A table whose columns have names.

    Args:
        table: The table, kept as it is.
    """

    def __init__(self, table: pa.Table):
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} rows: {', '.join(self.column_names)})"

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return the table as a stream of Arrow, so that every library that reads one takes it; no copy."""
        return self._table.__arrow_c_stream__(requested_schema)

    @property
    def column_names(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self._table.column_names)

    def to_arrow(self) -> pa.Table:
        """Return the table itself, a `pyarrow.Table`: no copy."""
        return self._table

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame`: a copy; lists become arrays, integers with nulls become floats.

        Raises:
            MissingLibraryError: pandas is not installed.
        """
        _need("pandas")
        return self._table.to_pandas()

    def to_polars(self) -> Any:
        """Return a `polars.DataFrame`, over the same memory where polars can.

        Raises:
            MissingLibraryError: polars is not installed.
        """
        return _need("polars").from_arrow(self._table)

    def to_list(self) -> list[dict[str, Any]]:
        """Return a dictionary for each row, with Python values."""
        found: list[dict[str, Any]] = self._table.to_pylist()
        return found


def table_of(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> DataTable:
    """Return a table of record batches, of which there may be none."""
    return DataTable(pa.Table.from_batches(batches, schema))


def _need(library: str) -> Any:
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise MissingLibraryError(f"expected {library}, found it missing; pip install {library}") from error
