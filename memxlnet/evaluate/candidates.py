"""The best spans of every document so far: appended in any order, compacted so that RAM follows the documents."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memxlnet.evaluate.array_inputs import Floats
from memxlnet.format.ragged import Ints

COMPACT_ABOVE = 1 << 16
"""Candidates that may wait at least (2 MiB) before they are compacted."""

_DOCUMENTS_IN_BLOCK = 1 << 11


class Candidates(NamedTuple):
    """Spans of documents, 24 bytes each; 32 in a cache of 2^31 rows or more, and where they were unpacked.

    Attributes:
        document: int32[spans] or int64[spans].
        start: int32[spans], the first token, counted from the context's first.
        stop: int32[spans], one after the last.
        score: float64[spans].
        row: int32[spans] or int64[spans], the row whose logits gave the score.
    """

    document: NDArray[np.signedinteger]
    start: NDArray[np.int32]
    stop: NDArray[np.int32]
    score: Floats
    row: NDArray[np.signedinteger]

    def take(self, which: NDArray[np.bool_] | Ints) -> "Candidates":
        """Return some of them: copies."""
        return Candidates._make(values[which] for values in self)


class PackedCandidates(NamedTuple):
    """The spans of a block of documents in the narrowest types that hold them: some 15 bytes each.

    Attributes:
        first_document: What `document` counts from.
        first_row: What `row` counts from.
        document: Unsigned integers[spans].
        start: Unsigned integers[spans], as in `Candidates`.
        length: Unsigned integers[spans], tokens.
        score: float64[spans].
        row: Unsigned integers[spans].
    """

    first_document: int
    first_row: int
    document: NDArray[np.unsignedinteger]
    start: NDArray[np.unsignedinteger]
    length: NDArray[np.unsignedinteger]
    score: Floats
    row: NDArray[np.unsignedinteger]

    def unpacked(self) -> Candidates:
        """Return the spans as they were, in new arrays except the scores, with 64 bits for documents and rows."""
        start = self.start.astype(np.int32)
        document = self.document.astype(np.int64) + self.first_document
        row = self.row.astype(np.int64) + self.first_row
        return Candidates(document, start, start + self.length.astype(np.int32), self.score, row)


def packed(found: Candidates) -> PackedCandidates:
    """Pack spans, of which there is at least one."""
    first_document, first_row = int(found.document.min()), int(found.row.min())
    return PackedCandidates(
        first_document,
        first_row,
        _narrow(found.document - first_document),
        _narrow(found.start),
        _narrow(found.stop - found.start),
        found.score,
        _narrow(found.row - first_row),
    )


def _narrow(values: NDArray[np.signedinteger]) -> NDArray[np.unsignedinteger]:
    narrow: NDArray[np.unsignedinteger] = values.astype(np.min_scalar_type(int(values.max())))
    return narrow


def number_type(num_rows: int) -> type[np.signedinteger]:
    """Return the type of the numbers of rows and documents of a cache with this number of rows."""
    return np.int32 if num_rows < 2**31 else np.int64


def no_candidates() -> Candidates:
    """Return candidates that hold no span."""
    kinds = (np.int64, np.int32, np.int32, np.float64, np.int64)
    return Candidates._make(np.empty(0, kind) for kind in kinds)


class CandidateBuffer:
    """The best spans of every document; the result does not depend on the order in which they were added.

    Spans are kept, sorted and packed in blocks of documents, so that sorting takes little room. RAM is some 15 bytes
    for each of ``documents x n_best`` spans, and that of `COMPACT_ABOVE` spans, or an eighth of those kept, that wait.

    Args:
        n_best: Spans kept of a document.
        best: Those of another buffer to begin with.
    """

    def __init__(self, n_best: int, best: Iterable[PackedCandidates] = ()):
        self._n_best = n_best
        self._blocks = {block.first_document // _DOCUMENTS_IN_BLOCK: block for block in best}
        self._waiting: dict[int, list[Candidates]] = {}
        self._num_waiting = 0

    def add(self, found: Candidates) -> None:
        """Append spans, which the buffer keeps: the caller must not write to them."""
        numbers = found.document // _DOCUMENTS_IN_BLOCK
        for number in np.unique(numbers).tolist():
            here = numbers == number
            self._waiting.setdefault(number, []).append(found if here.all() else found.take(here))
        self._num_waiting += len(found.row)
        if self._num_waiting > max(COMPACT_ABOVE, sum(len(block.row) for block in self._blocks.values()) // 8):
            self._compact()

    def _compact(self) -> None:
        while self._waiting:
            number, waiting = self._waiting.popitem()
            if number in self._blocks:
                waiting.append(self._blocks[number].unpacked())
            parts = zip(*waiting, strict=True)
            self._blocks[number] = packed(compacted(Candidates._make(map(np.concatenate, parts)), self._n_best))
        self._num_waiting = 0

    def best(self) -> list[PackedCandidates]:
        """Return the best of each document, document by document, best first; no later call writes to the arrays."""
        self._compact()
        return [block for _, block in sorted(self._blocks.items())]


def compacted(candidates: Candidates, n_best: int) -> Candidates:
    """Keep each span of a document once, with its best score, and of a document the `n_best` best.

    Of equal scores the earlier start wins, then the earlier end; a span is kept with the smallest of the rows that gave
    its best score. What is left out could not come in again: the spans before it only get better.
    """
    spans = candidates.take(
        np.lexsort((candidates.row, -candidates.score, candidates.stop, candidates.start, candidates.document))
    )
    again = (np.diff(spans.document) == 0) & (np.diff(spans.start) == 0) & (np.diff(spans.stop) == 0)
    spans = spans.take(np.concatenate([np.ones(min(len(spans.row), 1), np.bool_), ~again]))
    spans = spans.take(np.lexsort((spans.stop, spans.start, -spans.score, spans.document)))
    # A sorted column: the first place of each document is found by search.
    rank = np.arange(len(spans.row)) - np.searchsorted(spans.document, spans.document, side="left")
    return spans.take(rank < n_best)
