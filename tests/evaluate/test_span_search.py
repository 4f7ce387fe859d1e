import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from memxlnet.evaluate.shown_text import Shown
from memxlnet.evaluate.span_search import BLOCK_BYTES, best_spans, rows_at_once

Spans = list[list[tuple[float, int, int]]]

FEW = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0])
"""Values of which many pairs have the same sum."""

ANY = st.floats(-1e6, 1e6) | st.just(-np.inf)


def every_pair(
    starts: np.ndarray, ends: np.ndarray, n_best: int, max_answer_length: int | None, shown: Shown | None = None
) -> Spans:
    found: Spans = []
    shown = Shown(np.zeros(starts.shape, np.int32), np.ones(starts.shape, np.int32)) if shown is None else shown
    for start_row, end_row, opened, closed in zip(*(side.tolist() for side in (starts, ends, *shown)), strict=True):
        pairs = [
            (start + end, i, j + 1)
            for i, start in enumerate(start_row)
            for j, end in enumerate(end_row)
            if i <= j and (max_answer_length is None or j - i < max_answer_length) and start + end > -np.inf
            if closed[j] > opened[i]
        ]
        best = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:n_best]
        found.append(sorted(best, key=lambda pair: pair[1:]))
    return found


def searched(
    starts: np.ndarray, ends: np.ndarray, n_best: int, max_answer_length: int | None, shown: Shown | None = None
) -> Spans:
    found = best_spans(starts, ends, n_best, max_answer_length, shown)
    spans: Spans = [[] for _ in starts]
    for row, *span in zip(found.row, found.score.tolist(), found.start.tolist(), found.stop.tolist(), strict=True):
        spans[row].append((span[0], span[1], span[2]))
    return spans


@given(st.data(), st.sampled_from([FEW, ANY]), st.integers(1, 30), st.none() | st.integers(1, 15))
def test_equals_every_pair(
    data: st.DataObject, values: st.SearchStrategy[float], n_best: int, max_answer_length: int | None
) -> None:
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 12)))
    starts, ends = (data.draw(arrays.arrays(np.float64, shape, elements=values)) for _ in range(2))
    before = starts.copy(), ends.copy()
    assert searched(starts, ends, n_best, max_answer_length) == every_pair(starts, ends, n_best, max_answer_length)
    np.testing.assert_array_equal(before, (starts, ends))


@given(st.data(), st.sampled_from([FEW, ANY]), st.integers(1, 30), st.none() | st.integers(1, 15))
def test_spans_without_a_text_are_none(
    data: st.DataObject, values: st.SearchStrategy[float], n_best: int, max_answer_length: int | None
) -> None:
    """Whatever the tokens: also those that do not stand in the order of their characters."""
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 12)))
    starts, ends = (data.draw(arrays.arrays(np.float64, shape, elements=values)) for _ in range(2))
    shown = Shown(*(data.draw(arrays.arrays(np.int32, shape, elements=st.integers(0, 3))) for _ in range(2)))
    if data.draw(st.booleans()):
        for side in shown:
            side.sort(axis=1)
    expected = every_pair(starts, ends, n_best, max_answer_length, shown)
    assert searched(starts, ends, n_best, max_answer_length, shown) == expected


@pytest.mark.parametrize("max_answer_length", [1, 2, 7, 30, 64, 65, None])
@pytest.mark.parametrize("n_best", [1, 20, 64, 5000])
def test_wide_rows_equal_every_pair(n_best: int, max_answer_length: int | None) -> None:
    starts, ends = np.random.default_rng(n_best).normal(size=(2, 3, 64)).round(1)
    assert searched(starts, ends, n_best, max_answer_length) == every_pair(starts, ends, n_best, max_answer_length)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_nothing_gives_nothing(shape: tuple[int, int]) -> None:
    found = best_spans(np.zeros(shape), np.zeros(shape), 3, None)
    assert [len(values) for values in found] == [0, 0, 0, 0]


@pytest.mark.parametrize("blank", [None, 0.0, 0.2, 1.0])
@pytest.mark.parametrize(
    ("width", "n_best", "max_answer_length"), [(384, 20, 30), (384, 20, None), (4096, 20, None), (512, 100, None)]
)
def test_a_block_stays_within_its_memory(
    width: int, n_best: int, max_answer_length: int | None, blank: float | None
) -> None:
    rows = rows_at_once(width, n_best, max_answer_length)
    random = np.random.default_rng(0)
    starts, ends = random.normal(size=(2, rows, width))
    shown = None
    if blank is not None:
        closed = np.cumsum(random.random((rows, width)) >= blank, axis=1).astype(np.int32)
        opened = np.concatenate([np.zeros((rows, 1), np.int32), closed[:, :-1]], axis=1)
        shown = Shown(opened, closed)
    tracemalloc.start()
    try:
        best_spans(starts, ends, n_best, max_answer_length, shown)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert BLOCK_BYTES / 4 < peak < BLOCK_BYTES


def test_a_block_is_never_empty() -> None:
    assert rows_at_once(10**6, 10**6, None) == 1
    assert rows_at_once(0, 1, None) > 1
