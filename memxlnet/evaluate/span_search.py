"""The best spans of rows, exactly: a band of start and end scores, in blocks of rows whose memory is bounded."""

from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from memxlnet.evaluate.array_inputs import Floats
from memxlnet.evaluate.shown_text import Shown
from memxlnet.format.ragged import Ints

BLOCK_BYTES = 1 << 24
"""About what the search works in, 16 MiB; a single row may need more where very many spans are wanted of long ones."""


class FoundSpans(NamedTuple):
    """Spans of a block of rows.

    Attributes:
        row: int64[spans], the row in the block.
        start: int64[spans], the first token, counted from the first of the row's window.
        stop: int64[spans], one after the last token.
        score: float64[spans], start score plus end score; finite.
    """

    row: Ints
    start: Ints
    stop: Ints
    score: Floats


def rows_at_once(width: int, n_best: int, max_answer_length: int | None) -> int:
    """Return rows of a block, at least one.

    Args:
        width: Tokens of a window at most.
        n_best: Spans wanted of a row.
        max_answer_length: Tokens of a span at most; None for any number.
    """
    band = min(n_best, width) * min(max_answer_length or width, width)
    # Scores, their partition, counts of ties and masks; then some fifteen arrays of the window's width.
    return max(BLOCK_BYTES // (40 * band + 110 * max(width, 1)), 1)


def best_spans(
    starts: Floats, ends: Floats, n_best: int, max_answer_length: int | None, shown: Shown | None = None
) -> FoundSpans:
    """Return the best spans of each row: the true best over all pairs of a start and an end that is not before it.

    Of equal scores the earlier start wins, then the earlier end. Only the `n_best` starts with the best span each
    can be among the best spans: any other has `n_best` spans before it. That leaves a band of at most
    `n_best` x `max_answer_length` pairs a row.

    Args:
        starts: float64[rows, width] start scores, -inf where no span may begin; below +inf and no NaN.
        ends: float64[rows, width] end scores, in the same way.
        n_best: Spans wanted of a row.
        max_answer_length: Tokens of a span at most; None for any number.
        shown: int32[rows, width], which spans have a text: others are not spans. None where all have one.

    Returns:
        At most `n_best` spans a row, row by row, within a row by their tokens; those of -inf are left out.
    """
    rows, width = starts.shape
    reach = min(max_answer_length or width, width)
    if not starts.size:
        nothing = np.empty(0, np.int64)
        return FoundSpans(nothing, nothing, nothing, np.empty(0))
    best_end = _window_maximum(ends, reach)
    ends_from = _windows_from(ends, reach, -np.inf)
    closed_from = None if shown is None else _windows_from(shown.closed, reach, 0)
    if shown is not None and closed_from is not None:
        # Ends that give some of the starts no text: those of blanks, and of tokens out of the order of characters.
        partial = np.argwhere(-_window_maximum(-shown.closed, reach) <= shown.opened)
        at_once = rows * min(n_best, width)
        for at in range(0, len(partial), at_once):
            row, start = partial[at : at + at_once].T
            with_text = closed_from[row, start] > shown.opened[row, start][:, None]
            best_end[row, start] = np.where(with_text, ends_from[row, start], -np.inf).max(axis=1)
    first = np.nonzero(_best(starts + best_end, n_best))[1].reshape(rows, -1)
    each = np.arange(rows)[:, None]
    band = ends_from[each, first]
    band += starts[each, first][:, :, None]
    if shown is not None and closed_from is not None:
        band[closed_from[each, first] <= shown.opened[each, first][:, :, None]] = -np.inf
    scores = band.reshape(rows, -1)
    row, place = np.nonzero(_best(scores, n_best) & (scores > -np.inf))
    start = first[row, place // reach]
    return FoundSpans(row, start, start + place % reach + 1, scores[row, place])


def _windows_from(values: NDArray[Any], reach: int, after: float) -> NDArray[Any]:
    """Return a view [rows, width, reach] of the `reach` values from each place on, `after` past the last one."""
    rows, width = values.shape
    padded = np.full((rows, width + reach - 1), after, values.dtype)
    padded[:, :width] = values
    return sliding_window_view(padded, reach, axis=1)


def _window_maximum(values: NDArray[Any], reach: int) -> NDArray[Any]:
    """Return [rows, width], the largest of the `reach` values from each place on."""
    largest = values.copy()
    length = 1
    while length < reach:
        step = min(length, reach - length)
        # NumPy copies where the two overlap.
        np.maximum(largest[:, :-step], largest[:, step:], out=largest[:, :-step])
        length += step
    return largest


def _best(values: Floats, count: int) -> NDArray[np.bool_]:
    """Return bool[rows, width]: the `count` largest of each row, of equal ones the first; all where there are fewer."""
    width = values.shape[1]
    if width <= count:
        return np.ones(values.shape, np.bool_)
    level = np.partition(values, width - count, axis=1)[:, width - count, None]
    above, equal = values > level, values == level
    room = count - np.count_nonzero(above, axis=1)[:, None]
    kept: NDArray[np.bool_] = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return kept
