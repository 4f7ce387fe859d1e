"""The best spans of every document so far: appended in any order, compacted so that RAM follows the documents."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memxlnet.evaluate.array_inputs import Floats
from memxlnet.format.ragged import Ints

COMPACT_ABOVE = 1 << 16
"""Candidates that may wait at least (2 MiB) before they are compacted."""

_DOCUMENTS_IN_BLOCK = 1 << 11


class Candidates(NamedTuple):
    """Spans of documents, 24 bytes each; 32 in a cache of 2^31 rows or more.

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


def number_type(num_rows: int) -> type[np.signedinteger]:
    """Return the type of the numbers of rows and documents of a cache with this number of rows."""
    return np.int32 if num_rows < 2**31 else np.int64


def no_candidates() -> Candidates:
    """Return candidates that hold no span."""
    kinds = (np.int64, np.int32, np.int32, np.float64, np.int64)
    return Candidates._make(np.empty(0, kind) for kind in kinds)


class CandidateBuffer:
    """The best spans of every document; the result does not depend on the order in which they were added.

    Spans are kept and sorted in blocks of documents, so that sorting takes little room. RAM is that of 1.25 times
    ``documents x n_best`` spans, and of `COMPACT_ABOVE` spans.

    Args:
        n_best: Spans kept of a document.
        best: Compacted ones to begin with.
    """

    def __init__(self, n_best: int, best: Candidates | None = None):
        self._n_best = n_best
        self._whole: Candidates | None = no_candidates() if best is None else best
        self._blocks: dict[int, Candidates] = _blocks(self._whole)
        self._waiting: dict[int, list[Candidates]] = {}
        self._num_waiting = 0

    def add(self, found: Candidates) -> None:
        """Append spans, which the buffer keeps: the caller must not write to them."""
        numbers = found.document // _DOCUMENTS_IN_BLOCK
        for number in np.unique(numbers).tolist():
            here = numbers == number
            self._waiting.setdefault(number, []).append(found if here.all() else found.take(here))
        self._num_waiting += len(found.row)
        if self._num_waiting > max(COMPACT_ABOVE, sum(len(block.row) for block in self._blocks.values()) // 4):
            self._compact()

    def _compact(self) -> None:
        while self._waiting:
            number, waiting = self._waiting.popitem()
            if number in self._blocks:
                waiting.append(self._blocks[number])
            parts = zip(*waiting, strict=True)
            self._blocks[number] = compacted(Candidates._make(map(np.concatenate, parts)), self._n_best)
            self._whole = None
        self._num_waiting = 0

    def best(self) -> Candidates:
        """Return the best of each document, document by document, best first; arrays that no later call writes to."""
        self._compact()
        if self._whole is None:
            parts = [list(block) for _, block in sorted(self._blocks.items())]
            self._blocks = {}
            # Column by column, each released as soon as it is joined: RAM for one of them.
            columns = [np.concatenate([part.pop(0) for part in parts]) for _ in Candidates._fields]
            self._whole = Candidates._make(columns)
            self._blocks = _blocks(self._whole)
        return self._whole


def _blocks(best: Candidates) -> dict[int, Candidates]:
    """Cut compacted spans into blocks of documents: views."""
    numbers, first = np.unique(best.document // _DOCUMENTS_IN_BLOCK, return_index=True)
    edges = [*first.tolist(), len(best.document)]
    parts = (slice(*edge) for edge in pairwise(edges))
    return {
        number: Candidates._make(values[part] for values in best)
        for number, part in zip(numbers.tolist(), parts, strict=True)
    }


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
