"""Which of its segments an epoch reads of each document. NumPy only."""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memxlnet.format.ragged import ragged_arange
from memxlnet.load.seeded_random import ANSWER_SEGMENT, WINDOW_START, Ints, below, drawn

_FLAGS_AT_ONCE = 1 << 16
"""Segments that are searched for answers at once."""

_DOCUMENTS_AT_ONCE = 1 << 16


class Documents(NamedTuple):
    """Where the segments of each document lie.

    Attributes:
        first_segment: int64[documents], their first rows.
        num_segments: int32[documents], the number of their rows.
        chosen: int64[documents], which documents of the cache they are; None for all, in order.
    """

    first_segment: Ints
    num_segments: NDArray[np.int32]
    chosen: Ints | None = None

    def of_cache(self, places: Ints) -> Ints:
        """Return the documents of the cache at some places, -1 for -1."""
        return places if self.chosen is None else np.where(places >= 0, self.chosen[places], -1)


def rows_of(documents: Documents) -> Ints:
    """Return int64[rows], the rows of documents, one after the other."""
    counts = documents.num_segments.astype(np.int64)
    rows: Ints = ragged_arange(counts) + np.repeat(documents.first_segment, counts)
    return rows


class DocumentWindows:
    """The window of segments that one epoch reads of each document: a pure function of (seed, epoch, document).

    Args:
        documents: Where the segments lie.
        most: Segments of a window at most; None reads all.
        window: ``"first"`` begins with the document, ``"random"`` anywhere; ``"answer"`` holds a segment with the whole
            answer at a random place in it, and is random for documents without one.
        seed: Any integer.
        epoch: Number of the epoch.
        flags: Reads int8[rows] of int64[rows]: whether a row holds the whole answer. For ``"answer"``.
        last_tokens: Reads int32[documents]: the real tokens of the last segment of each. For `last_tokens`.
        row_tokens: Those of any other segment, which is full.

    Attributes:
        documents: Where the segments lie.
        counts: int32[documents], the segments of each window.
        row_tokens: Real tokens of every segment of a document but its last.
    """

    def __init__(
        self,
        documents: Documents,
        most: int | None,
        window: str,
        seed: int,
        epoch: int,
        flags: Callable[[Ints], NDArray[np.int8]],
        last_tokens: Callable[[], NDArray[np.int32]],
        row_tokens: int,
    ):
        self.documents = documents
        self.row_tokens = row_tokens
        self._last_tokens = last_tokens
        self._most = most
        self._window = window
        self._draw = (seed, epoch)
        self._flags = flags
        self.counts: NDArray[np.int32] = documents.num_segments
        if most is not None:
            self.counts = np.minimum(documents.num_segments, np.int32(min(most, 2**31 - 1)))

    @cached_property
    def last_tokens(self) -> NDArray[np.int32]:
        """int32[documents], the real tokens of the last segment of each window: 4 bytes a document at most."""
        whole = self._last_tokens()
        most = self._most
        if most is None:
            return whole
        found = whole.copy()
        cut = np.flatnonzero(self.documents.num_segments > most)
        for begin in range(0, len(cut), _DOCUMENTS_AT_ONCE):
            part = cut[begin : begin + _DOCUMENTS_AT_ONCE]
            found[part[self.starts(part) + most < self.documents.num_segments[part]]] = self.row_tokens
        return found

    def starts(self, chosen: Ints) -> Ints:
        """Return the segment with which the window of each document begins.

        Args:
            chosen: int64[n], documents.
        """
        starts = np.zeros(len(chosen), np.int64)
        if self._most is None or self._window == "first":
            return starts
        cut = np.flatnonzero(self.documents.num_segments[chosen] > self._most)
        documents = chosen[cut]
        first = np.zeros(len(cut), np.int64)
        last = self.documents.num_segments[documents].astype(np.int64) - self._most
        if self._window == "answer":
            self._narrow(self._most, documents, first, last)
        starts[cut] = first + below(drawn(documents, *self._draw, WINDOW_START), last - first + 1)
        return starts

    def _narrow(self, most: int, documents: Ints, first: Ints, last: Ints) -> None:
        """Keep the starts from which a window reaches one segment that holds the answer, chosen at random; in place."""
        ends = np.cumsum(self.documents.num_segments[documents], dtype=np.int64)
        begin = 0
        while begin < len(documents):
            # As many documents as have this number of segments, or one.
            before = ends[begin - 1] if begin else 0
            stop = max(int(np.searchsorted(ends, before + _FLAGS_AT_ONCE, side="right")), begin + 1)
            part = slice(begin, stop)
            self._narrow_part(most, documents[part], ends[part] - before, first[part], last[part])
            begin = stop

    def _narrow_part(self, most: int, documents: Ints, ends: Ints, first: Ints, last: Ints) -> None:
        counts = self.documents.num_segments[documents]
        begins = ends - counts
        inside = np.arange(ends[-1]) - np.repeat(begins, counts)
        holders = np.flatnonzero(self._flags(np.repeat(self.documents.first_segment[documents], counts) + inside))
        from_ = np.searchsorted(holders, begins)
        number = np.searchsorted(holders, ends) - from_
        has = np.flatnonzero(number)
        place = below(drawn(documents[has], *self._draw, ANSWER_SEGMENT), number[has])
        segment = inside[holders[from_[has] + place]]
        first[has] = np.maximum(segment - most + 1, 0)
        last[has] = np.minimum(segment, last[has])
