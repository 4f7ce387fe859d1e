"""Rows of a published table, checked as arrays; the error names the file, row and column of the first wrong value."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from arrow_schemas import KEPT
from memxlnet.errors import CacheDamagedError
from memxlnet.format.file_layout import column_values
from memxlnet.format.manifest import REBUILD
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints
from memxlnet.format.text_table import BatchTable

Flags = NDArray[np.bool_]


class TextBlock(NamedTuple):
    """Rows of documents or contexts that lie in one record batch, which is checked in full.

    Attributes:
        path: Their file.
        first_row: Row of the table that comes first.
        batch: The rows.
    """

    path: Path
    first_row: int
    batch: pa.RecordBatch

    def integers(self, name: str) -> Ints:
        """Return a number column as int64[rows]."""
        return column_values(self.batch[name]).astype(np.int64)

    def lists(self, name: str) -> tuple[Ints, pa.Array]:
        """Return a list column as int64[rows + 1] bounds and the values that lie within them."""
        bounds: Ints = self.batch[name].offsets.to_numpy()
        return bounds - bounds[0], self.batch[name].flatten()

    def demand(
        self, name: str, right: Flags, expected: Callable[[int], object], found: Callable[[int], object] | None = None
    ) -> None:
        """Check a column.

        Args:
            name: Its name.
            right: bool[rows], whether each value is right.
            expected: Returns what a row was expected to hold.
            found: Returns what it holds; None for the value itself.

        Raises:
            CacheDamagedError: A value is wrong; the message names the first one.
        """
        if right.all():
            return
        at = int(np.argmin(right))
        value = self.batch[name][at].as_py() if found is None else found(at)
        identity = f" (id {self.batch['id'][at].as_py()!r:.120})" if "id" in self.batch.schema.names else ""
        raise CacheDamagedError(
            f"{self.path}, row {self.first_row + at}{identity}, {name}: expected {expected(at)}, found {value!r:.200}",
            hint=REBUILD,
        )


def read_blocks(cache: PublishedCache, name: str) -> Iterator[TextBlock]:
    """Yield the rows of documents, contexts or kept columns, batch by batch; none is kept.

    Raises:
        CacheDamagedError: A batch is damaged.
    """
    record = cache.manifest.tables[name]
    for number, batch in enumerate(text_table(cache, name).batches()):
        yield TextBlock(file_of(cache, name, 0), number * record.batch_rows, batch)


def take_rows(cache: PublishedCache, name: str, rows: Ints) -> pa.RecordBatch:
    """Return rows of documents, contexts or kept columns in the requested order, as copies.

    Raises:
        CacheDamagedError: A batch that holds one of them is damaged.
    """
    table = text_table(cache, name)
    number, place = np.divmod(rows, cache.manifest.tables[name].batch_rows)
    batches = np.unique(number)
    parts = [table.batch(int(batch)).take(pa.array(place[number == batch])) for batch in batches]
    taken = pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
    # The parts lie in the order of their batches.
    order = np.argsort(number, kind="stable")
    back = np.empty(len(rows), np.int64)
    back[order] = np.arange(len(rows))
    return taken.take(pa.array(back))


def file_of(cache: PublishedCache, name: str, row: int) -> Path:
    """Return the file that holds a row of a table."""
    table = cache.manifest.tables[name]
    return cache.directory / table.shards[table.shard_of(row)[0]].file


class FeatureBlock(NamedTuple):
    """Rows of features.

    Attributes:
        cache: Their cache.
        rows: int64[rows], their rows of the table.
        identify: Returns the id of a row's document by its place in `rows`.
    """

    cache: PublishedCache
    rows: Ints
    identify: Callable[[int], str]

    def demand_equal(self, name: str, found: NDArray[Any], expected: NDArray[Any]) -> None:
        """Check that a column holds the expected values; both are [rows] or [rows, max_seq_length].

        Raises:
            CacheDamagedError: A value differs; the message names the first one.
        """
        self._demand(name, found, found == expected, lambda place: expected[place])

    def demand_within(
        self, name: str, found: NDArray[Any], least: int | NDArray[Any], most: int | NDArray[Any]
    ) -> None:
        """Check that each value of a column lies within limits, which are numbers or [rows].

        Raises:
            CacheDamagedError: A value lies outside; the message names the first one.
        """

        def shown(place: tuple[int, ...]) -> str:
            low, high = (int(np.broadcast_to(limit, len(self.rows))[place[0]]) for limit in (least, most))
            return str(low) if low == high else f"{low} to {high}"

        self._demand(name, found, (found >= least) & (found <= most), shown)

    def _demand(
        self, name: str, found: NDArray[Any], right: Flags, expected: Callable[[tuple[int, ...]], object]
    ) -> None:
        if right.all():
            return
        place = tuple(int(index) for index in np.argwhere(~right)[0])
        row = int(self.rows[place[0]])
        position = f", position {place[1]}" if len(place) > 1 else ""
        identity = f"{self.identify(place[0])!r:.120}"
        raise CacheDamagedError(
            f"{file_of(self.cache, 'features', row)}, row {row} (id {identity}), {name}{position}: expected "
            f"{expected(place)}, found {found[place]}",
            hint=REBUILD,
        )


def text_table(cache: PublishedCache, name: str) -> BatchTable:
    """Return a table other than features."""
    tables = {"documents": cache.documents, "contexts": cache.contexts, KEPT: cache.kept}
    return cast(BatchTable, tables[name])
