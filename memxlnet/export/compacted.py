"""The parts of a list as the one cache of the documents that count: each context once, hidden documents left out."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from memxlnet.builder.context_numbering import number_contexts, text_digests
from memxlnet.format.joined import JoinedCache, JoinedTable
from memxlnet.format.kept_table import KeptTable
from memxlnet.format.ragged import Ints, ragged_arange
from memxlnet.format.text_table import TextTable

_ROWS_AT_ONCE = 4096


class Compacted(JoinedCache):
    """Joined caches as an export reads them; RAM is some 30 bytes a context, 24 a document and 8 a segment.

    Args:
        cache: The caches.
        chosen: int64[n], the documents that count, ascending; None for all.

    Raises:
        CacheDamagedError: A record batch is damaged.
    """

    def __init__(self, cache: JoinedCache, chosen: Ints | None = None):
        vars(self).update(vars(cache))
        every = np.arange(cache.num_documents)
        self._chosen = every if chosen is None else chosen
        first, counts, contexts = cache.documents.columns("first_segment", "num_segments", "context")
        counts = counts[self._chosen].astype(np.int64)
        self._rows = ragged_arange(counts) + np.repeat(first[self._chosen], counts)
        # In each cache they are in order of first use, and so they are in all, except where documents are left out.
        numbers = number_contexts(
            (text_digests(batch["text"]) for batch in cache.contexts.batches()), cache.contexts.num_rows
        )
        used, own = np.unique(numbers[contexts[self._chosen]], return_inverse=True)
        self.contexts = _SomeRows(cache.contexts, np.unique(numbers, return_index=True)[1][used])
        columns = {"context": own, "first_segment": np.cumsum(counts) - counts}
        self.documents = _SomeRows(cache.documents, self._chosen, columns)
        if cache.kept is not None:
            self.kept = _SomeKept(cache.kept, self._chosen)
        if chosen is not None:
            found = Counter(text for batch in self.documents.batches() for text in batch["alignment"].to_pylist())
            self.manifest = replace(cache.manifest, alignment={name: found[name] for name in cache.manifest.alignment})

    @property
    def num_rows(self) -> int:
        """Number of segments."""
        return len(self._rows)

    @property
    def num_documents(self) -> int:
        """Number of documents."""
        return len(self._chosen)

    def segments(self, start: int, stop: int) -> pa.RecordBatch:
        """Return rows of features that follow each other: views of the map where they do so there, else copies.

        Args:
            start: The first row.
            stop: The one after the last; above `start`.
        """
        rows = self._rows[start:stop]
        if rows[-1] - rows[0] == len(rows) - 1:
            return self._numbered(super().segments(int(rows[0]), int(rows[-1]) + 1))
        pieces = []
        while len(rows):
            some = rows[: np.searchsorted(rows, rows[0] + _ROWS_AT_ONCE)]
            pieces.append(super().segments(int(some[0]), int(some[-1]) + 1).take(pa.array(some - some[0])))
            rows = rows[len(some) :]
        (batch,) = pa.Table.from_batches(pieces).combine_chunks().to_batches()
        return self._numbered(batch)

    def _numbered(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return _with_column(batch, "document", np.searchsorted(self._chosen, batch["document"].to_numpy()))


class _SomeRows(JoinedTable):
    """Some rows of a table, in order, some columns of which have other values."""

    def __init__(self, table: TextTable, rows: Ints, columns: dict[str, Ints] | None = None):
        super().__init__([table], {})
        self._kept_rows = rows
        self._columns = columns or {}

    @property
    def num_rows(self) -> int:
        return len(self._kept_rows)

    def text(self, name: str, row: int) -> str:
        return super().text(name, int(self._kept_rows[row]))

    def batches(self) -> Iterator[pa.RecordBatch]:
        first = 0
        for batch in super().batches():
            start, stop = np.searchsorted(self._kept_rows, (first, first + batch.num_rows))
            if start < stop:
                found = batch.take(pa.array(self._kept_rows[start:stop] - first))
                for name, values in self._columns.items():
                    found = _with_column(found, name, values[start:stop])
                yield found
            first += batch.num_rows


class _SomeKept(KeptTable):
    """The kept columns of some documents."""

    def __init__(self, table: KeptTable, documents: Ints):
        self._table = table
        self._documents = documents

    def rows(self, start: int, stop: int) -> pa.Table:
        some = self._documents[start:stop]
        return self._table.rows(int(some[0]), int(some[-1]) + 1).take(pa.array(some - some[0]))


def _with_column(batch: pa.RecordBatch, name: str, values: Ints) -> pa.RecordBatch:
    index = batch.schema.get_field_index(name)
    field = batch.schema.field(index)
    return batch.set_column(index, field, pa.array(values, field.type))
