import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.load.plan import Documents, group_rows, pieces, shuffled

GOLDEN = {
    (10, 0, 0): [0, 7, 8, 2, 5, 9, 4, 6, 3, 1],
    (10, 0, 1): [9, 0, 6, 7, 4, 3, 2, 1, 8, 5],
    (10, 1, 0): [9, 8, 7, 4, 2, 0, 3, 6, 5, 1],
    (7, -1, 3): [2, 1, 4, 0, 3, 6, 5],
    (16, 2**63, 10**6): [14, 8, 7, 1, 9, 11, 3, 13, 10, 4, 12, 15, 2, 0, 6, 5],
}


def _splitmix(state: int) -> int:
    """The published SplitMix64 (Steele, Lea and Flood 2014; Vigna's C), one output."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    mixed = state
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
    return mixed ^ (mixed >> 31)


class TestShuffled:
    @pytest.mark.parametrize("arguments", GOLDEN)
    def test_stays_what_it_was(self, arguments: tuple[int, int, int]) -> None:
        assert shuffled(*arguments).tolist() == GOLDEN[arguments]

    def test_the_generator_is_splitmix64(self) -> None:
        assert _splitmix(0) == 0xE220A8397B1DCDAF  # the first output of the published code for seed 0
        for count, seed, epoch in [(100, 5, 2), (33, -4, 0)]:
            start = _splitmix(_splitmix(seed % 2**64) ^ epoch)
            keys = [_splitmix((start + place * 0x9E3779B97F4A7C15) % 2**64) for place in range(count)]
            assert shuffled(count, seed, epoch).tolist() == sorted(range(count), key=keys.__getitem__)

    @given(st.integers(0, 300), st.integers(-(2**70), 2**70), st.integers(0, 2**40))
    def test_is_a_permutation_and_a_pure_function(self, count: int, seed: int, epoch: int) -> None:
        order = shuffled(count, seed, epoch)
        assert order.dtype == np.int64
        assert sorted(order.tolist()) == list(range(count))
        assert np.array_equal(shuffled(count, seed, epoch), order)

    def test_orders_differ_by_seed_and_epoch(self) -> None:
        orders = {tuple(shuffled(20, seed, epoch).tolist()) for seed in range(-5, 20) for epoch in range(20)}
        assert len(orders) == 25 * 20

    def test_every_place_is_about_as_likely(self) -> None:
        seen = np.zeros((8, 8), np.int64)
        for epoch in range(2000):
            seen[np.arange(8), shuffled(8, 3, epoch)] += 1
        assert seen.min() > 190  # 250 expected, with a deviation of 15
        assert seen.max() < 310

    def test_leaves_all_global_generators_alone(self) -> None:
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
        shuffled(1000, 1, 1)
        assert random.getstate() == states[0]
        assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[index]
        assert torch.equal(torch.get_rng_state(), states[2])


def _documents(counts: list[int]) -> Documents:
    return Documents(np.cumsum([0, *counts[:-1]]), np.array(counts, np.int32))


class TestGroupRows:
    @given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.data())
    def test_lane_i_is_document_i_at_every_step(self, counts: list[int], data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(range(len(counts))), unique=True, min_size=1))
        plan = group_rows(_documents(counts), np.array(chosen))
        assert plan.documents.tolist() == chosen
        assert plan.rows.shape == (max(counts[document] for document in chosen), len(chosen))
        assert plan.rows.dtype == np.int64
        for lane, document in enumerate(chosen):
            first = sum(counts[:document])
            ended = [-1] * (len(plan.rows) - counts[document])
            assert plan.rows[:, lane].tolist() == [*range(first, first + counts[document]), *ended]

    def test_the_first_document_may_be_the_shortest(self) -> None:
        plan = group_rows(_documents([1, 3, 2]), np.arange(3))
        assert plan.rows.tolist() == [[0, 1, 4], [-1, 2, 5], [-1, 3, -1]]

    def test_no_document_gives_no_step(self) -> None:
        assert group_rows(_documents([2]), np.empty(0, np.int64)).rows.shape == (0, 0)


class TestPieces:
    @given(st.integers(0, 200), st.integers(0, 40), st.integers(1, 60))
    def test_cover_all_steps_within_the_bound(self, num_steps: int, lanes: int, max_rows: int) -> None:
        cut = pieces(num_steps, lanes, max_rows)
        assert [step for piece in cut for step in piece] == list(range(num_steps))
        assert all(len(piece) * lanes <= max_rows or len(piece) == 1 for piece in cut)
        assert all(len(piece) == len(cut[0]) for piece in cut[:-1])

    def test_are_as_large_as_the_bound_allows(self) -> None:
        assert [len(piece) for piece in pieces(10, 3, 12)] == [4, 4, 2]
        assert [len(piece) for piece in pieces(3, 5, 4)] == [1, 1, 1]
