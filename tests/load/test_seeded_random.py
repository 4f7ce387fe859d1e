import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.load.seeded_random import (
    ANSWER_SEGMENT,
    GROUP_ORDER,
    LENGTH_NOISE,
    ORDER,
    REST,
    SEGMENT_NOISE,
    TURN_ORDER,
    WINDOW_START,
    below,
    drawn,
    shuffled,
)

GOLDEN = {
    (10, 0, 0): [0, 7, 8, 2, 5, 9, 4, 6, 3, 1],
    (10, 0, 1): [9, 0, 6, 7, 4, 3, 2, 1, 8, 5],
    (10, 1, 0): [9, 8, 7, 4, 2, 0, 3, 6, 5, 1],
    (7, -1, 3): [2, 1, 4, 0, 3, 6, 5],
    (16, 2**63, 10**6): [14, 8, 7, 1, 9, 11, 3, 13, 10, 4, 12, 15, 2, 0, 6, 5],
}

# (seed, epoch, purpose): the numbers of counters 0, 1 and 2^40.
GOLDEN_DRAWN = {
    (0, 0, ORDER): [2558736989570252433, 17913671590881668180, 14306203418483765707],
    (0, 0, WINDOW_START): [15703761562794949698, 3444090503425411409, 3047563846063410578],
    (0, 0, ANSWER_SEGMENT): [16428607682432143941, 13628942344652367913, 14214226716232069186],
    (0, 1, ORDER): [4964578127960768432, 12049418925942065841, 5837025589579102464],
    (-1, 3, LENGTH_NOISE): [5725864008661519169, 43605824379069629, 7853304399617441905],
    (2**63, 10**6, GROUP_ORDER): [10669032255827612840, 16008674882502635407, 17263225834129954208],
}

PURPOSES = (ORDER, WINDOW_START, ANSWER_SEGMENT, LENGTH_NOISE, GROUP_ORDER, SEGMENT_NOISE, TURN_ORDER, REST)

SEEDS = st.integers(-(2**70), 2**70)
EPOCHS = st.integers(0, 2**40)


def _splitmix(state: int) -> int:
    """The published SplitMix64 (Steele, Lea and Flood 2014; Vigna's C), one output."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    mixed = state
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
    return mixed ^ (mixed >> 31)


def _reference(counter: int, seed: int, epoch: int, purpose: int) -> int:
    start = _splitmix(_splitmix(seed % 2**64) ^ epoch)
    if purpose:
        start = _splitmix(start ^ purpose)
    return _splitmix((start + counter * 0x9E3779B97F4A7C15) % 2**64)


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

    @given(st.integers(0, 300), SEEDS, EPOCHS, st.sampled_from(PURPOSES))
    def test_is_a_permutation_and_a_pure_function(self, count: int, seed: int, epoch: int, purpose: int) -> None:
        order = shuffled(count, seed, epoch, purpose)
        assert order.dtype == np.int32
        assert sorted(order.tolist()) == list(range(count))
        assert np.array_equal(shuffled(count, seed, epoch, purpose), order)

    def test_orders_differ_by_seed_epoch_and_purpose(self) -> None:
        orders = {
            tuple(shuffled(20, seed, epoch, purpose).tolist())
            for seed in range(-5, 20)
            for epoch in range(20)
            for purpose in PURPOSES
        }
        assert len(orders) == 25 * 20 * len(PURPOSES)

    def test_every_place_is_about_as_likely(self) -> None:
        seen = np.zeros((8, 8), np.int64)
        for epoch in range(2000):
            seen[np.arange(8), shuffled(8, 3, epoch)] += 1
        assert seen.min() > 190  # 250 expected, with a deviation of 15
        assert seen.max() < 310


@pytest.mark.parametrize(
    "draw",
    [
        lambda: shuffled(1000, 1, 1),
        lambda: drawn(np.arange(1000), 1, 1, WINDOW_START),
    ],
)
def test_leaves_all_global_generators_alone(draw: Callable[[], object]) -> None:
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    draw()
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), states[2])


class TestDrawn:
    @pytest.mark.parametrize("arguments", GOLDEN_DRAWN)
    def test_stays_what_it_was(self, arguments: tuple[int, int, int]) -> None:
        assert drawn(np.array([0, 1, 2**40]), *arguments).tolist() == GOLDEN_DRAWN[arguments]

    @given(st.lists(st.integers(0, 2**62), max_size=8), SEEDS, EPOCHS, st.sampled_from(PURPOSES))
    def test_is_splitmix64_of_each_counter_alone(
        self, counters: list[int], seed: int, epoch: int, purpose: int
    ) -> None:
        found = drawn(np.array(counters, np.int64), seed, epoch, purpose)
        assert found.dtype == np.uint64
        assert found.tolist() == [_reference(counter, seed, epoch, purpose) for counter in counters]

    @pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint64])
    def test_takes_integers_of_any_type_and_shape_and_leaves_them(self, dtype: type[np.integer]) -> None:
        counters = np.arange(12, dtype=dtype).reshape(3, 1, 4)
        found = drawn(counters, 5, 6, ORDER)
        assert found.shape == (3, 1, 4)
        assert found.reshape(-1).tolist() == drawn(np.arange(12), 5, 6, ORDER).tolist()
        assert counters.reshape(-1).tolist() == list(range(12))

    def test_different_counters_give_different_numbers(self) -> None:
        for purpose in PURPOSES:
            assert len(np.unique(drawn(np.arange(200_000), 3, 1, purpose))) == 200_000

    def test_seeds_epochs_and_purposes_have_streams_of_their_own(self) -> None:
        streams = [
            drawn(np.arange(500), seed, epoch, purpose)
            for seed in (0, 1, -1)
            for epoch in range(6)
            for purpose in PURPOSES
        ]
        # Not one number in common: no stream is another one, or a part of it further on.
        assert len(np.unique(np.concatenate(streams))) == len(streams) * 500

    def test_the_seed_counts_modulo_two_to_the_64(self) -> None:
        counters = np.arange(5)
        assert np.array_equal(drawn(counters, -3, 2, ORDER), drawn(counters, 2**64 - 3, 2, ORDER))

    def test_every_bit_is_set_half_the_time(self) -> None:
        bits = drawn(np.arange(20_000), 0, 0, ORDER)[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)
        assert np.abs(bits.mean(0) - 0.5).max() < 0.02  # a deviation is 0.0035


class TestBelow:
    @given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 2**31)), min_size=1, max_size=20))
    def test_is_the_high_half_of_number_times_bound(self, pairs: list[tuple[int, int]]) -> None:
        numbers, bounds = zip(*pairs, strict=True)
        found = below(np.array(numbers, np.uint64), np.array(bounds, np.int64))
        assert found.dtype == np.int64
        assert found.tolist() == [(number >> 32) * bound >> 32 for number, bound in pairs]
        assert all(0 <= value < bound for value, (_, bound) in zip(found.tolist(), pairs, strict=True))

    @pytest.mark.parametrize("bound", [1, 2, 3, 2**16 + 1, 2**31 - 1, 2**31])
    def test_reaches_both_ends(self, bound: int) -> None:
        ends = np.array([0, 2**64 - 1], np.uint64)
        assert below(ends, np.array([bound, bound])).tolist() == [0, bound - 1]

    def test_stays_what_it_was(self) -> None:
        numbers = drawn(np.arange(6), 0, 0, WINDOW_START)
        assert below(numbers, np.array([1, 2, 10, 1000, 2**20, 2**31])).tolist() == [0, 0, 4, 997, 498130, 669406646]

    def test_takes_int32_bounds(self) -> None:
        numbers = drawn(np.arange(100), 0, 0, ORDER)
        bounds = np.full(100, 2**31 - 1)
        assert np.array_equal(below(numbers, bounds), below(numbers, bounds.astype(np.int32)))

    @pytest.mark.parametrize("bound", [2, 3, 7, 10, 48])
    def test_every_value_is_about_as_likely(self, bound: int) -> None:
        found = np.bincount(below(drawn(np.arange(1000 * bound), 9, 4, WINDOW_START), np.full(1000 * bound, bound)))
        assert len(found) == bound
        assert found.min() > 850  # 1000 expected, with a deviation of at most 32
        assert found.max() < 1150
