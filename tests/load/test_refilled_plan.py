import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from memxlnet.load.epoch_plan import EpochSize, Ranks
from memxlnet.load.refilled_plan import RefilledPlan
from memxlnet.load.seeded_random import shuffled
from tests.load.test_aligned_plan import (
    PADDING,
    WIDTHS,
    Case,
    Step,
    as_steps,
    blocks_of,
    cases,
    check_every_lane,
    check_sizes,
    read_epoch,
)
from tests.load.test_segment_windows import Corpus
from tests.support import slow, slow_but


def refilled(case: Case, rank: Ranks) -> RefilledPlan:
    return RefilledPlan(case.windows(), case.order_array(), case.batch_size, rank, case.drop_last)


def _lanes_needed(lengths: list[int], longest: int) -> float:
    """Lanes that stretches of at most `longest` segments take, each as full as it can be."""
    lanes, room = 0, 0
    for length in lengths:
        if length > longest:
            return float("inf")
        lanes, room = (lanes, room - length) if length <= room else (lanes + 1, longest - length)
    return lanes


def _stretches(case: Case) -> list[list[int]]:
    """The documents of each lane of all ranks.

    No stretch is longer than the longest must be; each border is the nearest to equal stretches, of two the later, that
    leaves room for the rest.
    """
    order, lanes = case.in_order(), case.batch_size * case.world_size
    lengths = [len(case.read(document)) for document in order]
    longest = next(size for size in range(sum(lengths) + 1) if _lanes_needed(lengths, size) <= lanes)
    borders = [0]
    for lane in range(1, lanes + 1):
        ideal = sum(lengths) * lane // lanes
        places = [
            place
            for place in range(borders[-1], len(order) + 1)
            if sum(lengths[borders[-1] : place]) <= longest and _lanes_needed(lengths[place:], longest) <= lanes - lane
        ]
        borders.append(min(places, key=lambda place: (abs(sum(lengths[:place]) - ideal), -place)))
    return [order[begin:end] for begin, end in itertools.pairwise(borders)]


def _oracle(case: Case) -> list[list[Step]]:
    """The steps of each rank, in plain Python."""
    read = [[lane for document in stretch for lane in case.read(document)] for stretch in _stretches(case)]
    steps = (min if case.drop_last else max)(map(len, read))
    together = [[lanes[step] if step < len(lanes) else PADDING for lanes in read] for step in range(steps)]
    size = case.batch_size
    return [[step[rank * size : (rank + 1) * size] for step in together] for rank in range(case.world_size)]


EDGES = {
    "no document": Case([]),
    "no document of many ranks": Case([], world_size=3, drop_last=True),
    "one document": Case([4], batch_size=1),
    "one document in many lanes": Case([4], batch_size=8),
    "one document on many ranks": Case([3], batch_size=2, world_size=4),
    "one document in many lanes, drop_last": Case([4], batch_size=8, drop_last=True),
    "more lanes than documents": Case([1, 3, 2], [2, 0, 1], 5),
    "more lanes than segments": Case([1, 1], batch_size=3, world_size=3),
    "one lane": Case([2, 1, 3], [1, 2, 0], 1),
    "one lane, drop_last": Case([2, 1, 3], [1, 2, 0], 1, drop_last=True),
    "one lane of each rank": Case([2, 1, 3, 2, 2], batch_size=1, world_size=3),
    "one giant document": Case([2, 500, 1, 1, 3], batch_size=2, world_size=2),
    "a giant document first": Case([500, 1, 1, 2, 3], batch_size=2),
    "a giant document last, drop_last": Case([1, 1, 2, 3, 500], batch_size=2, drop_last=True),
    "all documents of one segment": Case([1] * 7, batch_size=3),
    "equal documents that fit": Case([3] * 8, batch_size=4),
    "borders half way": Case([2, 2, 2], batch_size=2),
    "windows of one segment": Case([3, 1, 9, 2], most=1, window="answer"),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("max_rows", [1, 7, 2**40])
def test_edge_cases_match_plain_python(edge: str, max_rows: int) -> None:
    case = EDGES[edge]
    found = [read_epoch(refilled(case, rank), max_rows) for rank in case.ranks()]
    assert found == _oracle(case)


@given(cases(), st.integers(0, 60))
def test_steps_match_plain_python(case: Case, max_rows: int) -> None:
    expected = _oracle(case)
    for rank in case.ranks():
        assert read_epoch(refilled(case, rank), max_rows) == expected[rank.rank]


# What follows holds wherever the stretches are cut.


def _epochs() -> Iterator[Case]:
    """Epochs larger than those that hypothesis draws."""
    for seed in range(6):
        lengths = _LENGTHS["geometric"](np.random.default_rng(seed), 150)
        order = shuffled(150, seed, 0).tolist()
        yield Case(lengths.tolist(), order, 1 + seed, 1 + seed % 4, seed == 5, 20 if seed % 2 else None, "random")


def _check_epoch(case: Case) -> None:
    plans = [refilled(case, rank) for rank in case.ranks()]
    ranks = [read_epoch(plan, 64) for plan in plans]
    check_sizes(case, plans, ranks)
    assert all(len(step) == case.batch_size for steps in ranks for step in steps)
    for steps in ranks:
        for lanes in zip(*steps, strict=True):
            held = [lane for lane in lanes if lane.row >= 0]
            assert list(lanes) == held + [PADDING] * (len(lanes) - len(held))
    if not case.drop_last:
        times: Counter[int] = Counter()
        for steps in ranks:
            times += check_every_lane(steps, case.read)
        assert times == Counter(case.in_order())


@given(cases())
def test_every_document_is_read_once_and_padding_ends_a_lane(case: Case) -> None:
    _check_epoch(case)


def test_larger_epochs_keep_to_the_same() -> None:
    for case in _epochs():
        _check_epoch(case)


@given(cases())
def test_drop_last_leaves_no_padding_and_cuts_the_same_stream(case: Case) -> None:
    for rank in case.ranks():
        whole, cut = (refilled(case._replace(drop_last=drop_last), rank) for drop_last in (False, True))
        steps = read_epoch(cut)
        assert cut.size(WIDTHS["longest"]).padding == 0
        assert all(lane.row >= 0 for step in steps for lane in step)
        assert steps == read_epoch(whole)[: len(steps)]
        # It ends no earlier than it must.
        later = [read_epoch(refilled(case._replace(drop_last=False), one)) for one in case.ranks()]
        assert len(later[0]) == len(steps) or any(PADDING in one[len(steps)] for one in later)


@given(cases(), st.sampled_from([1, 2, 4, 6, 12]))
def test_the_lanes_of_all_ranks_together_do_not_depend_on_the_world_size(case: Case, lanes: int) -> None:
    streams, sizes = [], []
    for world_size in range(1, lanes + 1):
        if lanes % world_size == 0:
            split = case._replace(batch_size=lanes // world_size, world_size=world_size)
            ranks = [read_epoch(refilled(split, rank)) for rank in split.ranks()]
            streams.append([[lane for own in step for lane in own] for step in zip(*ranks, strict=True)])
            sizes += [refilled(split, rank).size(WIDTHS["max_length"]) for rank in split.ranks()]
    assert all(stream == streams[0] for stream in streams)
    assert set(sizes) == {sizes[0]}


@given(cases(), st.data())
def test_one_run_of_steps_equals_smaller_ones(case: Case, data: st.DataObject) -> None:
    plan = refilled(case, Ranks(data.draw(st.integers(0, case.world_size - 1)), case.world_size))
    blocks = list(blocks_of(plan, 2**40))
    assert len(blocks) == bool(plan.num_steps)  # all steps have equal lanes
    for block, found in blocks:
        whole = as_steps(found)
        assert [step for place in block for step in as_steps(plan.step_rows(range(place, place + 1)))] == whole
        start = data.draw(st.integers(0, len(block) - 1))
        stop = data.draw(st.integers(start + 1, len(block)))
        assert as_steps(plan.step_rows(range(start, stop))) == whole[start:stop]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_an_order_may_be_of_any_integer_type(dtype: type[np.int32 | np.int64]) -> None:
    case = Case([3, 1, 4, 1, 5, 2, 6], [6, 2, 0, 5, 1, 4, 3], 2, 2)
    for rank in case.ranks():
        plan = RefilledPlan(case.windows(), np.array(case.order, dtype), 2, rank)
        assert plan.step_rows(range(1)).documents.dtype == np.int64
        assert read_epoch(plan) == _oracle(case)[rank.rank]


def test_a_small_epoch_by_hand() -> None:
    corpus = Corpus([1, 3, 2, 1])
    plan = RefilledPlan(corpus.windows(None, "first"), np.array([2, 0, 1, 3]), 2, Ranks(0, 1))
    begins = corpus.documents.first_segment.tolist()
    found = plan.step_rows(range(4))
    assert found.documents.tolist() == [[2, 1], [2, 1], [0, 1], [-1, 3]]
    assert found.segments.tolist() == [[0, 0], [1, 1], [0, 2], [-1, 0]]
    assert found.rows.tolist() == [
        [begins[2], begins[1]],
        [begins[2] + 1, begins[1] + 1],
        [begins[0], begins[1] + 2],
        [-1, begins[3]],
    ]
    assert found.reset.tolist() == [[True, True], [False, False], [True, False], [False, True]]
    assert found.is_last.tolist() == [[False, False], [True, False], [True, True], [False, True]]
    # The last rows hold 5, 12, 3 and 10 tokens.
    size = EpochSize(4, 7, 1, 4, 2 * (16 + 16 + 12 + 10), 16 + 16 + 3 + 16 + 5 + 12 + 10)
    assert plan.size(WIDTHS["longest"]) == size
    assert plan.size(WIDTHS["max_length"]) == size._replace(tokens=8 * 16)
    assert plan.size(WIDTHS["multiples"]) == size._replace(tokens=2 * (16 + 16 + 15 + 10))
    assert [plan.block(step, 5) for step in range(4)] == [*[range(2)] * 2, *[range(2, 4)] * 2]
    cut = RefilledPlan(corpus.windows(None, "first"), np.array([2, 0, 1, 3]), 2, Ranks(0, 1), drop_last=True)
    assert cut.size(WIDTHS["longest"]) == EpochSize(3, 6, 0, 3, 2 * (16 + 16 + 12), 16 + 16 + 3 + 16 + 5 + 12)


def test_an_unfinished_document_counts_as_begun_and_has_no_last_segment() -> None:
    plan = RefilledPlan(Corpus([2, 9]).windows(None, "first"), None, 2, Ranks(0, 1), drop_last=True)
    # The last row of the first document holds 5 tokens.
    assert plan.size(WIDTHS["longest"]) == EpochSize(2, 4, 0, 2, 4 * 16, 3 * 16 + 5)
    assert plan.step_rows(range(2)).is_last.tolist() == [[False, False], [True, False]]


def test_sizes_beyond_int32_are_exact() -> None:
    corpus = Corpus([2**31 - 1] * 4)
    plan = RefilledPlan(corpus.windows(None, "first"), None, 2, Ranks(0, 1))
    # The last rows hold 5, 12, 3 and 10 tokens.
    size = EpochSize(4, 4 * (2**31 - 1), 0, 2**32 - 2, 16 * (2**33 - 4), 16 * (2**33 - 8) + 5 + 12 + 3 + 10)
    assert plan.size(WIDTHS["max_length"]) == size
    last = plan.step_rows(plan.block(2**32 - 3, 8))
    assert last.documents[-1].tolist() == [1, 3]
    assert last.segments[-1].tolist() == [2**31 - 2] * 2
    assert last.is_last[-1].all()


_LENGTHS: dict[str, Callable[[np.random.Generator, int], NDArray[np.integer]]] = {
    "geometric": lambda rng, number: np.minimum(rng.geometric(0.12, number), 60),
    "lognormal": lambda rng, number: np.clip(rng.lognormal(1.8, 0.9, number), 1, 60).astype(np.int64),
    "heavy tail": lambda rng, number: np.minimum(rng.zipf(1.6, number), 60),
    "uniform": lambda rng, number: rng.integers(1, 61, number),
}


@cache
def _more_padding_than_greedy(lengths: str, lanes: int, seed: int) -> float:
    """How much more of an epoch of 2,000 documents is padding than where a free lane takes the next document."""
    counts = _LENGTHS[lengths](np.random.default_rng(seed), 2000)
    order = shuffled(2000, seed, 0)
    plan = RefilledPlan(Corpus(counts.tolist()).windows(None, "first"), order, lanes, Ranks(0, 1))
    ends = [0] * lanes
    for count in counts[order].tolist():
        heapq.heapreplace(ends, ends[0] + count)
    return plan.size(WIDTHS["max_length"]).padding_share - (1 - int(counts.sum()) / (max(ends) * lanes))


@pytest.mark.parametrize("lengths", slow_but(["geometric", "heavy tail"], _LENGTHS))
def test_an_epoch_of_long_lanes_ends_with_little_more_padding_than_a_greedy_one(lengths: str) -> None:
    assert max(_more_padding_than_greedy(lengths, 8, seed) for seed in range(20)) <= 0.02


@pytest.mark.parametrize("lengths", slow_but(["geometric"], _LENGTHS))
@pytest.mark.parametrize("lanes", [32, slow(128)])
def test_epochs_of_short_lanes_end_with_little_more_padding_than_greedy_ones_on_average(
    lengths: str, lanes: int
) -> None:
    assert np.mean([_more_padding_than_greedy(lengths, lanes, seed) for seed in range(20)]) <= 0.02


@pytest.mark.parametrize("lengths", slow_but(["geometric"], _LENGTHS))
@pytest.mark.parametrize("lanes", [32, slow(128)])
def test_no_epoch_of_short_lanes_ends_with_much_more_padding_than_a_greedy_one(lengths: str, lanes: int) -> None:
    assert max(_more_padding_than_greedy(lengths, lanes, seed) for seed in range(60)) <= 0.02
