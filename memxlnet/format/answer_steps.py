"""At which time step the answer of each document stands: the first of its segments that hold it whole."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints

_ROWS_AT_ONCE = 1 << 20


def first_answer_steps(cache: PublishedCache) -> Iterator[tuple[Ints, NDArray[np.int32]]]:
    """Yield documents whose answer a segment holds whole, each once and in order, and the time steps of the first.

    Yields:
        int64[n], documents, and int32[n], from 0; those of a block of rows at a time.
    """
    before = -1
    for shard in cache.features:
        columns = shard.columns
        for begin in range(0, shard.row_stop - shard.row_start, _ROWS_AT_ONCE):
            part = slice(begin, begin + _ROWS_AT_ONCE)
            holders = np.flatnonzero(columns["has_answer_in_segment"][part])
            document = shard.take("document", part)[holders]
            # Rows lie in order: a document's first holder is the one before which another document's lies.
            first = np.flatnonzero(np.diff(document, prepend=before))
            yield document[first], columns["segment_index"][part][holders[first]]
            before = int(document[-1]) if len(document) else before


def answer_steps(cache: PublishedCache) -> NDArray[np.int32]:
    """Return int32[documents], the time step of each document's answer; -1 where no segment holds one whole."""
    steps = np.full(cache.num_documents, -1, np.int32)
    for documents, found in first_answer_steps(cache):
        steps[documents] = found
    return steps
