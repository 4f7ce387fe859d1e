"""The parts of a list as one cache that has each context once, as a build from all files has it."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from memxlnet.builder.context_numbering import number_contexts, text_digests
from memxlnet.format.joined import JoinedCache, JoinedTable
from memxlnet.format.ragged import Ints
from memxlnet.format.text_table import TextTable


class DistinctContexts(JoinedCache):
    """Joined caches with each context once, in order of first use; RAM is some 30 bytes a context.

    Args:
        cache: The caches.

    Raises:
        CacheDamagedError: A record batch of contexts is damaged.
    """

    def __init__(self, cache: JoinedCache):
        vars(self).update(vars(cache))
        total = cache.contexts.num_rows
        # In each cache they are in order of first use, and so they are in all: no document is read.
        numbers = number_contexts((text_digests(batch["text"]) for batch in cache.contexts.batches()), total)
        self.contexts = _FirstContexts(cache.contexts, np.unique(numbers, return_index=True)[1])
        self.documents = _Documents(cache.documents, numbers)


class _FirstContexts(JoinedTable):
    """Some rows of a table, in order."""

    def __init__(self, table: TextTable, rows: Ints):
        super().__init__([table], {})
        self._kept_rows = rows

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
                yield batch.take(pa.array(self._kept_rows[start:stop] - first))
            first += batch.num_rows


class _Documents(JoinedTable):
    """Documents with other numbers of their contexts."""

    def __init__(self, table: TextTable, numbers: Ints):
        super().__init__([table], {})
        self._contexts = numbers

    def batch(self, number: int) -> pa.RecordBatch:
        batch = super().batch(number)
        index = batch.schema.get_field_index("context")
        contexts = pa.array(self._contexts[batch["context"].to_numpy()])
        return batch.set_column(index, batch.schema.field(index), contexts)
