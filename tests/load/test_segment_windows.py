from collections import Counter
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from memxlnet.load.option_literals import Window
from memxlnet.load.seeded_random import Ints
from memxlnet.load.segment_windows import Documents, DocumentWindows

SEEDS = st.integers(-(2**70), 2**70)
EPOCHS = st.integers(0, 2**40)

# The starts of epochs 0 to 2, with windows of 3 segments and seed 11.
GOLDEN_LENGTHS = [8, 2, 30, 3, 4, 100, 12]
GOLDEN_HOLDERS = [[2], [0], [0, 29], [], [3], [], [5, 6]]
GOLDEN = {
    "first": [[0] * 7] * 3,
    "random": [[1, 0, 1, 0, 1, 79, 0], [5, 0, 0, 0, 1, 44, 0], [5, 0, 17, 0, 1, 33, 4]],
    "answer": [[0, 0, 27, 0, 1, 79, 3], [2, 0, 27, 0, 1, 44, 4], [2, 0, 27, 0, 1, 33, 5]],
}


ROW_TOKENS = 16
"""Tokens in a row of these documents."""


class Corpus:
    """Documents, the segments of each that hold the answer, and what was asked about them."""

    def __init__(self, lengths: Sequence[int], holders: Sequence[Sequence[int]] | None = None):
        # They lie in reverse with gaps between them, so that no number can stand for another.
        first = [100 + sum(lengths[document + 1 :]) + 3 * (len(lengths) - document) for document in range(len(lengths))]
        self.lengths = list(lengths)
        self.holders = [list(segments) for segments in holders or [()] * len(lengths)]
        self.documents = Documents(np.array(first, np.int64), np.array(lengths, np.int32))
        self.last_tokens = [1 + (number * 7 + 4) % ROW_TOKENS for number in range(len(lengths))]
        self.asked: list[int] = []
        pairs = zip(first, self.holders, strict=True)
        self._flagged = {begin + segment for begin, segments in pairs for segment in segments}

    def flags(self, rows: Ints) -> NDArray[np.int8]:
        assert rows.dtype == np.int64
        self.asked += rows.tolist()
        return np.array([row in self._flagged for row in rows.tolist()], np.int8)

    def rows_of(self, chosen: Sequence[int]) -> set[int]:
        begins = self.documents.first_segment.tolist()
        return {begins[document] + segment for document in chosen for segment in range(self.lengths[document])}

    def tokens(self, document: int, segment: int) -> int:
        """Real tokens of a segment: only the last one of a document is not full."""
        return self.last_tokens[document] if segment == self.lengths[document] - 1 else ROW_TOKENS

    def windows(self, most: int | None, window: str, seed: int = 0, epoch: int = 0) -> DocumentWindows:
        last_tokens = np.array(self.last_tokens, np.int32)
        return DocumentWindows(self.documents, most, window, seed, epoch, self.flags, lambda: last_tokens, ROW_TOKENS)

    def starts(
        self, most: int | None, window: str, seed: int = 0, epoch: int = 0, chosen: Sequence[int] | None = None
    ) -> list[int]:
        documents = np.arange(len(self.lengths)) if chosen is None else np.array(chosen, np.int64)
        found = self.windows(most, window, seed, epoch).starts(documents)
        assert found.dtype == np.int64
        starts: list[int] = found.tolist()
        return starts

    def allowed(self, document: int, most: int | None, window: str) -> set[int]:
        """All starts that the window of a document may have."""
        length, holders = self.lengths[document], self.holders[document]
        if most is None or length <= most or window == "first":
            return {0}
        starts = range(length - most + 1)
        if window == "random" or not holders:
            return set(starts)
        return {start for start in starts if any(start <= segment < start + most for segment in holders)}


@st.composite
def corpora(draw: st.DrawFn) -> Corpus:
    lengths = draw(st.lists(st.integers(1, 14), min_size=1, max_size=8))
    return Corpus(lengths, [draw(st.lists(st.integers(0, length - 1), unique=True)) for length in lengths])


MOST = st.none() | st.integers(1, 16)
KINDS = st.sampled_from(get_args(Window))


@given(corpora(), MOST, KINDS, SEEDS, EPOCHS)
def test_windows_are_among_those_allowed(corpus: Corpus, most: int | None, window: str, seed: int, epoch: int) -> None:
    windows = corpus.windows(most, window, seed, epoch)
    assert windows.documents is corpus.documents
    assert windows.counts.dtype == np.int32
    assert windows.counts.tolist() == [length if most is None else min(length, most) for length in corpus.lengths]
    for document, start in enumerate(corpus.starts(most, window, seed, epoch)):
        assert start in corpus.allowed(document, most, window)


@given(corpora(), MOST, KINDS, SEEDS, EPOCHS)
def test_the_last_segment_that_is_read_decides_its_tokens(
    corpus: Corpus, most: int | None, window: str, seed: int, epoch: int
) -> None:
    windows = corpus.windows(most, window, seed, epoch)
    starts = corpus.starts(most, window, seed, epoch)
    ends = [start + count - 1 for start, count in zip(starts, windows.counts.tolist(), strict=True)]
    assert windows.last_tokens.dtype == np.int32
    assert windows.last_tokens.tolist() == [corpus.tokens(document, end) for document, end in enumerate(ends)]


@given(corpora(), MOST, KINDS, SEEDS, EPOCHS, st.data())
def test_a_window_does_not_depend_on_what_is_asked_with_it(
    corpus: Corpus, most: int | None, window: str, seed: int, epoch: int, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(range(len(corpus.lengths))), max_size=12))
    alone = [corpus.starts(most, window, seed, epoch, [document])[0] for document in range(len(corpus.lengths))]
    assert corpus.starts(most, window, seed, epoch, chosen) == [alone[document] for document in chosen]
    narrow = corpus.windows(most, window, seed, epoch).starts(np.array(chosen, np.int32))
    assert narrow.tolist() == [alone[document] for document in chosen]


@given(corpora(), MOST, KINDS, st.data())
def test_flags_are_asked_of_the_chosen_documents_alone(
    corpus: Corpus, most: int | None, window: str, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(range(len(corpus.lengths))), unique=True))
    corpus.starts(most, window, 0, 0, chosen)
    assert len(set(corpus.asked)) == len(corpus.asked)
    if window == "answer" and most is not None:
        assert set(corpus.asked) == corpus.rows_of([one for one in chosen if corpus.lengths[one] > most])
    else:
        assert not corpus.asked


@given(corpora(), MOST, SEEDS, EPOCHS)
def test_documents_without_the_answer_have_random_windows(
    corpus: Corpus, most: int | None, seed: int, epoch: int
) -> None:
    random, answer = (corpus.starts(most, window, seed, epoch) for window in ("random", "answer"))
    for document, holders in enumerate(corpus.holders):
        if not holders:
            assert answer[document] == random[document]


@pytest.mark.parametrize("window", get_args(Window))
@pytest.mark.parametrize("most", [5, 6, 2**31 - 1, 2**31, 2**40, None])
def test_short_documents_are_read_whole(window: str, most: int | None) -> None:
    corpus = Corpus([5, 1, 3, 5], [[4], [0], [], [0, 2]])
    assert corpus.windows(most, window).counts.tolist() == [5, 1, 3, 5]
    assert corpus.starts(most, window, 3, 4) == [0, 0, 0, 0]
    assert not corpus.asked


@pytest.mark.parametrize("window", get_args(Window))
def test_no_document_has_no_window(window: str) -> None:
    assert Corpus([]).starts(3, window) == []
    assert Corpus([9]).starts(3, window, chosen=[]) == []


@pytest.mark.parametrize("window", get_args(Window))
def test_windows_stay_what_they_were(window: str) -> None:
    corpus = Corpus(GOLDEN_LENGTHS, GOLDEN_HOLDERS)
    assert [corpus.starts(3, window, 11, epoch) for epoch in range(3)] == GOLDEN[window]


def test_windows_of_the_largest_documents_do_not_overflow() -> None:
    documents = Documents(np.zeros(100, np.int64), np.full(100, 2**31 - 1, np.int32))
    last_tokens = np.ones(100, np.int32)
    windows = DocumentWindows(documents, 1, "random", 0, 0, Corpus([]).flags, lambda: last_tokens, ROW_TOKENS)
    starts = windows.starts(np.arange(100))
    assert starts.min() >= 0
    assert starts.max() < 2**31 - 1
    assert starts.max() > 2**30


class TestRandom:
    def test_every_start_is_about_as_likely_over_epochs(self) -> None:
        corpus = Corpus([3, 9])
        found = Counter(corpus.starts(4, "random", 5, epoch)[1] for epoch in range(3000))
        assert sorted(found) == list(range(6))
        assert all(400 < times < 600 for times in found.values())  # 500 expected, with a deviation of 20

    def test_every_start_is_about_as_likely_over_documents(self) -> None:
        found = Counter(Corpus([9] * 3000).starts(4, "random", 5, 0))
        assert sorted(found) == list(range(6))
        assert all(400 < times < 600 for times in found.values())

    def test_seeds_and_epochs_have_windows_of_their_own(self) -> None:
        corpus = Corpus([50] * 20)
        found = {tuple(corpus.starts(4, "random", seed, epoch)) for seed in range(8) for epoch in range(8)}
        assert len(found) == 64


class TestAnswer:
    @pytest.mark.parametrize(
        ("length", "holders"),
        [(9, [0]), (9, [8]), (9, [4]), (9, [2, 3]), (9, [0, 8]), (9, [1, 4, 7]), (5, [0]), (5, [4]), (9, [*range(9)])],
    )
    @pytest.mark.parametrize("most", [1, 2, 4])
    def test_every_window_with_the_answer_occurs(self, length: int, holders: list[int], most: int) -> None:
        corpus = Corpus([length], [holders])
        starts = {corpus.starts(most, "answer", 1, epoch)[0] for epoch in range(400)}
        assert starts == corpus.allowed(0, most, "answer")

    def test_the_answer_is_at_every_place_of_the_window_about_as_often(self) -> None:
        corpus = Corpus([100] * 2500, [[40 + document % 20] for document in range(2500)])
        starts = corpus.starts(5, "answer", 0, 3)
        found = Counter(40 + document % 20 - start for document, start in enumerate(starts))
        assert sorted(found) == list(range(5))
        assert all(400 < times < 600 for times in found.values())

    def test_the_place_of_the_answer_does_not_hang_on_which_segment_holds_it(self) -> None:
        corpus = Corpus([100] * 4000, [[10, 80]] * 4000)
        found = Counter((start > 45, start) for start in corpus.starts(4, "answer", 0, 0))
        assert sorted(start for _, start in found) == [7, 8, 9, 10, 77, 78, 79, 80]
        assert all(400 < times < 600 for times in found.values())

    def test_a_corpus_without_any_answer_is_read_at_random(self) -> None:
        corpus = Corpus([30] * 50)
        assert corpus.starts(7, "answer", 2, 3) == corpus.starts(7, "random", 2, 3)
