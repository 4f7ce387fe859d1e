"""Objects in memory as origins: `datasets` objects, tables, and iterables of mappings."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from memxlnet.errors import MemxlnetError, SourceError
from memxlnet.sources.arrow_files import check_names
from memxlnet.sources.origin import Part

_BATCH_ROWS = 1000


def is_datasets_object(value: object, kind: str) -> bool:
    """Return whether a value is a `datasets.{kind}`; never imports datasets: a value of it proves that it is loaded."""
    module = sys.modules.get("datasets")
    return module is not None and isinstance(value, getattr(module, kind))


class InMemory:
    """What all objects in memory have in common: nothing is recorded of their place."""

    kind = "iterable"
    columnar = False

    def __init__(self, name: str):
        self.name = name

    @property
    def total(self) -> int | None:
        """Number of rows where it is known."""
        return None

    def identity(self) -> dict[str, Any] | None:
        """Return None: not known without reading."""
        return None

    def provenance(self) -> dict[str, Any]:
        """Return no place: the object lies in memory."""
        return {}

    def count(self) -> int | None:
        """Return None: not known without reading."""
        return None

    def check_unchanged(self) -> None:
        """Do nothing: an object is compared by what is read."""


class DatasetOrigin(InMemory):
    """A `datasets.Dataset`, identified by its own fingerprint; its format and transform are honoured."""

    columnar = True

    def __init__(self, dataset: Any, name: str):
        super().__init__(name)
        self._dataset = dataset

    @property
    def total(self) -> int | None:
        """Number of rows; a transform gives as many as it takes."""
        return len(self._dataset)

    def identity(self) -> dict[str, Any] | None:
        """Return the fingerprint that `datasets` keeps over content, format and transforms."""
        return {"kind": "datasets.Dataset", "fingerprint": self._dataset._fingerprint}

    def parts(self, columns: Sequence[str] | None) -> Iterator[Part]:
        """Yield the rows: through the transform where one is set, else through Arrow without the hidden columns."""
        yield Part(self.name, self._transformed() if self._dataset.format["type"] == "custom" else self._rows(columns))

    def _transformed(self) -> Iterator[Any]:
        try:
            yield from self._dataset
        except MemoryError:
            raise
        except Exception as error:
            raise SourceError(
                f"{self.name}: the transform of the dataset raised {type(error).__name__}: {error}"
            ) from error

    def _rows(self, columns: Sequence[str] | None) -> Iterator[Any]:
        form = self._dataset.format
        visible = self._dataset.column_names if form["output_all_columns"] else form["columns"]
        chosen = [name for name in visible if columns is None or name in columns]
        for table in self._dataset.with_format("arrow", columns=chosen).iter(batch_size=_BATCH_ROWS):
            yield from table.to_pylist()


class TableOrigin(InMemory):
    """A table in memory: any stream of Arrow (``__arrow_c_stream__``), as pyarrow, pandas and polars do.

    Args:
        table: The table.
        name: Short name.
        is_stream: Whether it can be read once only.

    Raises:
        SourceError: Two of its columns have the same name.
    """

    def __init__(self, table: Any, name: str, is_stream: bool = False):
        super().__init__(name)
        self._table = table
        self.columnar = not is_stream
        if self.columnar:
            try:
                names = pa.RecordBatchReader.from_stream(table).schema.names
            except Exception as error:  # each library has errors of its own
                raise SourceError(f"{name}: cannot be read as a table of Arrow: {error}") from error
            check_names(name, names)

    @property
    def total(self) -> int | None:
        """Number of rows where the table has a length."""
        try:
            return len(self._table)
        except TypeError:
            return None

    def parts(self, columns: Sequence[str] | None) -> Iterator[Part]:
        """Yield the rows, batch by batch."""
        yield Part(self.name, self._rows(columns))

    def _rows(self, columns: Sequence[str] | None) -> Iterator[Any]:
        try:
            for batch in pa.RecordBatchReader.from_stream(self._table):
                check_names(self.name, batch.schema.names)
                chosen = [name for name in batch.schema.names if columns is None or name in columns]
                for start in range(0, batch.num_rows, _BATCH_ROWS):
                    yield from batch.select(chosen).slice(start, _BATCH_ROWS).to_pylist()
        except (MemxlnetError, MemoryError):
            raise
        except Exception as error:  # each library has errors of its own, and each value that Python cannot hold
            raise SourceError(f"{self.name}: cannot be read as a table of Arrow: {error}") from error


def is_one_shot(value: object) -> bool:
    """Return whether an object is gone once it was read: a stream of Arrow, or an iterator."""
    return isinstance(value, pa.RecordBatchReader | Iterator)


class IterableOrigin(InMemory):
    """Any iterable of records, `datasets.IterableDataset` included."""

    def __init__(self, items: Iterable[Any], name: str):
        super().__init__(name)
        self._items = items

    @property
    def total(self) -> int | None:
        """Number of records where the iterable has a length."""
        try:
            return len(self._items)  # type: ignore[arg-type]
        except TypeError:
            return None

    def parts(self, columns: Sequence[str] | None) -> Iterator[Part]:
        """Yield the records as the iterable gives them."""
        yield Part(self.name, iter(self._items))
