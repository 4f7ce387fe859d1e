"""Documents of similar length side by side: orders of groups, and documents dealt out to lanes that are refilled."""

import tracemalloc
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.load.aligned_plan import AlignedPlan
from memxlnet.load.epoch_plan import Ranks
from memxlnet.load.length_grouping import Deal, Lengths, dealt, grouped
from memxlnet.load.refilled_plan import RefilledPlan
from memxlnet.load.seeded_random import Order, shuffled
from tests.load.test_aligned_plan import PADDING, WIDTHS, Case, Step, check_sizes, read_epoch
from tests.load.test_segment_windows import ROW_TOKENS, Corpus
from tests.support import slow

SEEDS = st.integers(-(2**70), 2**70)
EPOCHS = st.integers(0, 2**40)

SEGMENTS = [3, 30, 1, 4, 28, 2, 1, 1, 31, 4, 3, 27, 1, 2]
LAST = [9, 2, 384, 7, 100, 50, 10, 11, 12, 200, 8, 1, 380, 51]

# (size, seed, epoch): the order of the documents above.
GOLDEN_GROUPED = {
    (2, 0, 0): [5, 13, 11, 4, 0, 10, 6, 7, 1, 8, 3, 9, 12, 2],
    (2, 0, 1): [7, 6, 10, 0, 3, 9, 5, 13, 1, 8, 12, 2, 11, 4],
    (3, -1, 5): [2, 13, 5, 9, 11, 8, 10, 0, 3, 7, 6, 12, 4, 1],
    (4, 7, 10**6): [13, 5, 0, 10, 6, 7, 12, 2, 3, 4, 1, 8, 9, 11],
    (20, 0, 0): [11, 4, 1, 8, 6, 7, 12, 2, 5, 13, 0, 10, 3, 9],
}

# (lanes, seed, epoch): the order, documents in even groups, and borders.
GOLDEN_DEALT = {
    (2, 0, 0): ([5, 13, 0, 10, 6, 7, 3, 9, 12, 2, 8, 11, 1, 4], 10, [10, 12, 14]),
    (2, 0, 1): ([7, 6, 10, 0, 3, 9, 5, 13, 12, 2, 8, 11, 1, 4], 10, [10, 12, 14]),
    (3, -1, 5): ([7, 6, 12, 5, 8, 0, 3, 13, 1, 2, 10, 9, 4, 11], 3, [3, 7, 12, 14]),
    (6, 0, 0): ([8, 1, 4, 11, 9, 0, 13, 6, 12, 3, 10, 5, 7, 2], 0, [0, 1, 2, 3, 4, 9, 14]),
}


def made(segments: Sequence[int], last_tokens: Sequence[int] | None = None, row_tokens: int = 384) -> Lengths:
    last = [1] * len(segments) if last_tokens is None else last_tokens
    return Lengths(np.array(segments, np.int32), np.array(last, np.int32), row_tokens)


def skewed(documents: int, seed: int = 0) -> Lengths:
    rng = np.random.default_rng(seed)
    return made(np.minimum(rng.geometric(0.12, documents), 60).tolist(), rng.integers(1, 385, documents).tolist())


def short(documents: int, seed: int = 0) -> Lengths:
    """Documents of one to four segments, as short questions have them."""
    rng = np.random.default_rng(seed)
    return made(
        rng.geometric(0.93, documents).tolist(), rng.normal(190, 50, documents).clip(20, 384).astype(int).tolist()
    )


def groups_of(order: Order, size: int) -> list[list[int]]:
    """The full groups."""
    full: list[list[int]] = order[: len(order) // size * size].reshape(-1, size).tolist()
    return full


@st.composite
def lengths_of_documents(draw: st.DrawFn, longest: int = 2**31 - 1) -> Lengths:
    row_tokens = draw(st.sampled_from([1, 16, 384, 4096, 2**31 - 1]))
    pairs = draw(
        st.lists(st.tuples(st.integers(1, longest) | st.integers(1, 4), st.integers(1, row_tokens)), max_size=40)
    )
    return made([segments for segments, _ in pairs], [last for _, last in pairs], row_tokens)


# How often each of 103 documents is one of three that are drawn: 12 and 58 times are expected.
DRAWN = pytest.mark.parametrize(("epochs", "least", "most"), [(400, 0, 30), slow(2000, 25, 100)])


class TestGrouped:
    @pytest.mark.parametrize("arguments", GOLDEN_GROUPED)
    def test_stays_what_it_was(self, arguments: tuple[int, int, int]) -> None:
        assert grouped(made(SEGMENTS, LAST), *arguments, True).tolist() == GOLDEN_GROUPED[arguments]

    @given(lengths_of_documents(), st.integers(1, 50), SEEDS, EPOCHS, st.booleans())
    def test_is_a_permutation_and_a_pure_function(
        self, lengths: Lengths, size: int, seed: int, epoch: int, shuffle: bool
    ) -> None:
        before = [column.tolist() for column in lengths[:2]]
        order = grouped(lengths, size, seed, epoch, shuffle)
        assert order.dtype == np.int32
        assert sorted(order.tolist()) == list(range(len(lengths.segments)))
        assert np.array_equal(grouped(lengths, size, seed, epoch, shuffle), order)
        assert [column.tolist() for column in lengths[:2]] == before

    @given(lengths_of_documents(6), st.integers(1, 50), SEEDS, EPOCHS)
    def test_unshuffled_the_longest_come_first_and_equals_keep_their_order(
        self, lengths: Lengths, size: int, seed: int, epoch: int
    ) -> None:
        segments, last, row = lengths
        order = grouped(lengths, size, seed, epoch, False).tolist()
        if row <= 4096:
            assert order == sorted(range(len(segments)), key=lambda one: (-segments[one], -last[one]))
        assert segments[order].tolist() == sorted(segments.tolist(), reverse=True)

    @given(lengths_of_documents(15), st.integers(1, 9), SEEDS, EPOCHS)
    def test_short_documents_are_sorted_by_segments_and_then_by_tokens_within_a_128th(
        self, lengths: Lengths, size: int, seed: int, epoch: int
    ) -> None:
        segments, last, row = lengths.segments.tolist(), lengths.last_tokens.tolist(), lengths.row_tokens
        groups = groups_of(grouped(lengths, size, seed, epoch, True), size)
        # In their order by length; which of two documents of almost equal length comes first is random.
        groups.sort(key=lambda group: (segments[group[0]], segments[group[-1]], sorted(last[one] for one in group)))
        for one, other in pairwise(one for group in groups for one in group):
            assert segments[one] <= segments[other]
            assert (
                segments[one] < segments[other]
                or 128 * (last[one] - last[other]) <= row * segments[one] + row / 64 + 128
            )

    @given(st.lists(st.integers(1, 200), max_size=60), st.integers(1, 9), SEEDS, EPOCHS)
    def test_segments_more_than_a_16th_apart_are_sorted(
        self, segments: list[int], size: int, seed: int, epoch: int
    ) -> None:
        for group in groups_of(grouped(made(segments), size, seed, epoch, True), size):
            counts = [segments[one] for one in group]
            assert all(16 * max(counts[: place + 1]) < 17 * count + 16 for place, count in enumerate(counts))

    def test_segments_less_than_a_16th_apart_mix(self) -> None:
        lengths = made([100] * 40 + [104] * 40)
        groups = groups_of(grouped(lengths, 8, 0, 0, True), 8)
        assert sum(len({one < 40 for one in group}) == 2 for group in groups) > 3

    @pytest.mark.parametrize("segments", [[2**31 - 1, 1] * 10, [2**31 - 1, 2**31 - 2**28] * 10])
    def test_lengths_as_large_as_int32_do_not_overflow(self, segments: list[int]) -> None:
        lengths = made(segments, [2**31 - 1] * 20, 2**31 - 1)
        for epoch in range(10):
            for group in groups_of(grouped(lengths, 5, 0, epoch, True), 5):
                assert len({segments[one] for one in group}) == 1

    @pytest.mark.parametrize("size", [4, 16, 64])
    @pytest.mark.parametrize("lengths", [skewed, short])
    def test_wastes_far_less_than_a_plain_shuffle(self, lengths: Callable[[int, int], Lengths], size: int) -> None:
        def waste(order: Order) -> int:
            counts, last = found.segments[order], found.last_tokens[order]
            groups = range(0, len(order), size)
            return sum(
                int((counts[at : at + size].max() - counts[at : at + size]).sum()) * 384
                + int((last[at : at + size].max() - last[at : at + size]).sum())
                for at in groups
            )

        for seed in range(3):
            found = lengths(3000, seed)
            plain = waste(shuffled(3000, seed, 0))
            assert waste(grouped(found, size, seed, 0, True)) < plain / 3
            assert waste(grouped(found, size, seed, 0, False)) < plain / 3

    @pytest.mark.parametrize("lengths", [skewed, short])
    def test_groups_have_other_members_each_epoch(self, lengths: Callable[[int], Lengths]) -> None:
        found = lengths(4000)
        pairs = [
            {
                pair
                for group in groups_of(grouped(found, 8, 0, epoch, True), 8)
                for pair in combinations(sorted(group), 2)
            }
            for epoch in range(3)
        ]
        for one, other in combinations(pairs, 2):
            assert len(one & other) < len(one) / 2

    def test_equal_rows_share_groups_at_random(self) -> None:
        groups = groups_of(grouped(made([1] * 4000, [7] * 4000), 8, 0, 0, True), 8)
        assert sum(max(group) - min(group) < 1000 for group in groups) < 50

    def test_seeds_and_epochs_give_orders_of_their_own(self) -> None:
        lengths = skewed(50)
        orders = {tuple(grouped(lengths, 8, seed, epoch, True).tolist()) for seed in range(10) for epoch in range(10)}
        assert len(orders) == 100

    def test_the_order_of_groups_is_random(self) -> None:
        segments = np.repeat([1, 10, 100, 1000], 5).tolist()
        firsts = [segments[grouped(made(segments), 5, 0, epoch, True)[0]] for epoch in range(400)]
        assert all(60 < firsts.count(length) < 140 for length in (1, 10, 100, 1000))

    @DRAWN
    def test_the_last_smaller_group_is_of_neighbours_from_anywhere(self, epochs: int, least: int, most: int) -> None:
        lengths = made(range(1, 104))
        last = [grouped(lengths, 10, 2, epoch, True)[100:] for epoch in range(epochs)]
        drawn_of = np.bincount(np.concatenate(last), minlength=103)
        assert least < drawn_of.min() < drawn_of.max() < most
        assert np.mean([max(group) - min(group) < 20 for group in last]) > 0.95

    @pytest.mark.parametrize("size", [8, 1000])
    def test_groups_larger_than_all_documents_are_one_small_group(self, size: int) -> None:
        orders = {tuple(grouped(skewed(7), size, 0, epoch, True).tolist()) for epoch in range(20)}
        assert len(orders) > 5
        assert all(sorted(order) == list(range(7)) for order in orders)


def check_deal(lengths: Lengths, lanes: int, found: Deal) -> None:
    order, even, borders = found
    segments = lengths.segments
    assert sorted(order.tolist()) == list(range(len(segments)))
    assert even % lanes == 0
    for group in order[:even].reshape(-1, lanes):
        assert len(set(segments[group].tolist())) == 1
    assert (borders[0], borders[-1], len(borders)) == (even, len(order), lanes + 1)
    assert np.diff(borders).min() >= 0
    left = np.unique(segments[order[even:]], return_counts=True)[1]
    assert left.max(initial=0) < lanes


class TestDealt:
    @pytest.mark.parametrize("arguments", GOLDEN_DEALT)
    def test_stays_what_it_was(self, arguments: tuple[int, int, int]) -> None:
        order, even, borders = dealt(made(SEGMENTS, LAST), *arguments, True)
        assert (order.tolist(), even, borders.tolist()) == GOLDEN_DEALT[arguments]

    @given(lengths_of_documents(), st.integers(1, 50), SEEDS, EPOCHS, st.booleans())
    def test_holds_all_documents_in_even_groups_and_stretches(
        self, lengths: Lengths, lanes: int, seed: int, epoch: int, shuffle: bool
    ) -> None:
        found = dealt(lengths, lanes, seed, epoch, shuffle)
        check_deal(lengths, lanes, found)
        again = dealt(lengths, lanes, seed, epoch, shuffle)
        assert (found.order.tolist(), found.even) == (again.order.tolist(), again.even)

    @given(lengths_of_documents(6), st.integers(1, 9), SEEDS, EPOCHS)
    def test_a_lane_is_no_longer_than_another_by_more_than_its_last_document(
        self, lengths: Lengths, lanes: int, seed: int, epoch: int
    ) -> None:
        order, _, borders = dealt(lengths, lanes, seed, epoch, True)
        stretches = [lengths.segments[order[begin:end]] for begin, end in pairwise(borders.tolist())]
        loads = [int(one.sum()) for one in stretches]
        for stretch, load in zip(stretches, loads, strict=True):
            assert load - stretch.min(initial=2**31 - 1) <= min(loads)

    @given(lengths_of_documents(6), st.integers(1, 9))
    def test_unshuffled_the_longest_come_first(self, lengths: Lengths, lanes: int) -> None:
        order, even, borders = dealt(lengths, lanes, 0, 0, False)
        counts = lengths.segments[order]
        for begin, end in [(0, even), *pairwise(borders.tolist())]:
            part = counts[begin:end].tolist()
            assert part == sorted(part, reverse=True)

    @DRAWN
    def test_the_documents_that_are_left_differ_between_epochs(self, epochs: int, least: int, most: int) -> None:
        lengths = made([1] * 103)
        left = [dealt(lengths, 10, 0, epoch, True) for epoch in range(epochs)]
        drawn_of = np.bincount(np.concatenate([found.order[found.even :] for found in left]), minlength=103)
        assert least < drawn_of.min() < drawn_of.max() < most

    def test_seeds_and_epochs_give_orders_of_their_own(self) -> None:
        lengths = skewed(50)
        orders = {
            tuple(dealt(lengths, 8, seed, epoch, True).order.tolist()) for seed in range(10) for epoch in range(10)
        }
        assert len(orders) == 100


@st.composite
def even_cases(draw: st.DrawFn) -> tuple[Case, Deal]:
    """Few lengths, so that there are even groups."""
    case = Case(
        draw(st.lists(st.sampled_from([1, 1, 2, 3, 7]), max_size=40)),
        None,
        draw(st.integers(1, 4)),
        draw(st.integers(1, 3)),
        draw(st.booleans()),
        draw(st.none() | st.integers(1, 4)),
        draw(st.sampled_from(["first", "random", "answer"])),
    )
    windows = case.windows()
    lengths = Lengths(windows.counts, windows.last_tokens, ROW_TOKENS)
    lanes = case.batch_size * case.world_size
    return case, dealt(lengths, lanes, draw(st.integers(0, 9)), draw(st.integers(0, 9)), draw(st.booleans()))


def oracle(case: Case, found: Deal) -> list[list[Step]]:
    """The steps of each rank, in plain Python: each lane reads its document of every even group, then its stretch."""
    lanes, order = case.batch_size * case.world_size, found.order.tolist()
    stretches = [order[begin:end] for begin, end in pairwise(found.borders.tolist())]
    read = [
        [one for document in [*order[lane : found.even : lanes], *stretches[lane]] for one in case.read(document)]
        for lane in range(lanes)
    ]
    steps = (min if case.drop_last else max)(map(len, read))
    together = [[lanes[step] if step < len(lanes) else PADDING for lanes in read] for step in range(steps)]
    size = case.batch_size
    return [[step[rank * size : (rank + 1) * size] for step in together] for rank in range(case.world_size)]


@given(even_cases(), st.integers(1, 60))
def test_refilled_steps_match_plain_python(dealt_case: tuple[Case, Deal], max_rows: int) -> None:
    case, found = dealt_case
    plans = [RefilledPlan(case.windows(), found, case.batch_size, rank, case.drop_last) for rank in case.ranks()]
    ranks = [read_epoch(plan, max_rows) for plan in plans]
    assert ranks == oracle(case, found)
    check_sizes(case, plans, ranks)
    for plan, steps in zip(plans, ranks, strict=True):
        for step in range(plan.num_steps):
            block = plan.block(step, max_rows)
            inside = plan.step_rows(range(step, block.stop))
            assert inside.rows.tolist() == [[lane.row for lane in one] for one in steps[step : block.stop]]


def useful_shares(lengths: Lengths, lanes: int) -> tuple[float, float]:
    """The useful shares of aligned groups and of refilled lanes."""
    corpus = Corpus(lengths.segments.tolist())
    corpus.last_tokens = lengths.last_tokens.tolist()
    windows = corpus.windows(None, "first")
    groups = AlignedPlan(windows, grouped(lengths, lanes, 0, 0, True), lanes, Ranks(0, 1))
    deal = RefilledPlan(windows, dealt(lengths, lanes, 0, 0, True), lanes, Ranks(0, 1))
    sizes = [plan.size(WIDTHS["longest"]) for plan in (groups, deal)]
    assert sizes[0].real_tokens == sizes[1].real_tokens
    return sizes[0].useful_share, sizes[1].useful_share


@pytest.mark.parametrize("lanes", [8, 32])
def test_most_of_what_is_computed_on_is_real(lanes: int) -> None:
    rng = np.random.default_rng(0)
    questions = made(rng.geometric(0.95, 6000).tolist(), rng.integers(1, ROW_TOKENS + 1, 6000).tolist(), ROW_TOKENS)
    long = made(rng.integers(15, 60, 2000).tolist(), rng.integers(1, ROW_TOKENS + 1, 2000).tolist(), ROW_TOKENS)
    assert min(useful_shares(questions, lanes)) > 0.95
    assert min(useful_shares(long, lanes)) > 0.95


@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_is_planned_in_8_bytes_a_row(shuffle: bool) -> None:
    count = 1 << 20
    lengths = Lengths.of_rows(np.random.default_rng(0).integers(1, 384, count).astype(np.int32))
    tracemalloc.start()
    try:
        order = grouped(lengths, 32, 1, 0, shuffle)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(order) == count
    assert peak < 8 * count + (8 << 20)  # and blocks of a fixed size
