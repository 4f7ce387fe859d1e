from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from memxlnet.format.padding import RowWidths
from memxlnet.format.row_layout import RowLayout
from memxlnet.load.aligned_plan import AlignedPlan
from memxlnet.load.epoch_plan import EpochPlan, EpochSize, Ranks, StepRows, cut_block
from memxlnet.load.length_grouping import Lengths, grouped
from memxlnet.load.option_literals import Window
from memxlnet.load.segment_windows import DocumentWindows
from tests.load.test_segment_windows import ROW_TOKENS, Corpus

LAYOUT = RowLayout(True, (), (4,), (4, 3), (), (0,), (1, 2), 0, 1, True, 5, 3, 3)

WIDTHS = {
    "max_length": RowWidths(LAYOUT, ROW_TOKENS),
    "longest": RowWidths(LAYOUT, ROW_TOKENS, "longest"),
    "multiples": RowWidths(LAYOUT, ROW_TOKENS, "longest", 5),
}


class Lane(NamedTuple):
    """What one lane holds at one step."""

    document: int
    segment: int
    row: int
    reset: bool
    is_last: bool


Step = list[Lane]

PADDING = Lane(-1, -1, -1, False, False)


class Case(NamedTuple):
    """Documents and settings of a plan; every second segment of a third of the documents holds the answer."""

    lengths: list[int]
    order: list[int] | None = None
    batch_size: int = 2
    world_size: int = 1
    drop_last: bool = False
    most: int | None = None
    window: str = "first"
    align_end: bool = False

    def corpus(self) -> Corpus:
        holders = [range(1, length, 2) if number % 3 == 0 else () for number, length in enumerate(self.lengths)]
        return Corpus(self.lengths, holders)

    def windows(self) -> DocumentWindows:
        return self.corpus().windows(self.most, self.window, 4, 2)

    def order_array(self) -> NDArray[np.int32] | None:
        return None if self.order is None else np.array(self.order, np.int32)

    def ranks(self) -> list[Ranks]:
        return [Ranks(rank, self.world_size) for rank in range(self.world_size)]

    def in_order(self) -> list[int]:
        return list(range(len(self.lengths))) if self.order is None else self.order

    def read(self, document: int) -> list[Lane]:
        """What a lane holds that reads a document."""
        [start] = self.windows().starts(np.array([document])).tolist()
        count = int(self.windows().counts[document])
        begin = int(self.corpus().documents.first_segment[document]) + start
        return [Lane(document, start + place, begin + place, place == 0, place == count - 1) for place in range(count)]


@st.composite
def cases(draw: st.DrawFn, longest: int = 7) -> Case:
    lengths = draw(st.lists(st.integers(1, longest), max_size=14))
    return Case(
        lengths,
        draw(st.none() | st.permutations(range(len(lengths)))),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 4)),
        draw(st.booleans()),
        draw(st.none() | st.integers(1, longest + 1)),
        draw(st.sampled_from(get_args(Window))),
        draw(st.booleans()),
    )


def as_steps(found: StepRows) -> list[Step]:
    columns = [column.tolist() for column in found]
    return [[Lane(*lane) for lane in zip(*step, strict=True)] for step in zip(*columns, strict=True)]


def blocks_of(plan: EpochPlan, max_rows: int) -> Iterator[tuple[range, StepRows]]:
    """The blocks of an epoch, checked."""
    step = 0
    while step < plan.num_steps:
        block = plan.block(step, max_rows)
        assert block.start == step
        assert step < block.stop <= plan.num_steps
        assert all(plan.block(inside, max_rows) == block for inside in block)
        found = plan.step_rows(block)
        assert len({column.shape for column in found}) == 1
        assert len(found.rows) == len(block)
        assert found.rows.size <= max_rows or len(block) == 1
        assert [column.dtype for column in found[1:]] == [np.int64, np.int64, np.bool_, np.bool_]
        yield block, found
        step = block.stop


def read_epoch(plan: EpochPlan, max_rows: int = 2**30) -> list[Step]:
    return [step for _, found in blocks_of(plan, max_rows) for step in as_steps(found)]


def counted_size(case: Case, ranks: Sequence[list[Step]], widths: RowWidths) -> EpochSize:
    """What an epoch costs, counted by hand over the steps of all ranks."""
    lanes = [lane for steps in ranks for step in steps for lane in step]
    steps = {len(steps) for steps in ranks}
    assert len(steps) == 1
    corpus = case.corpus()
    lengths = [
        [[corpus.tokens(lane.document, lane.segment) for lane in step if lane.row >= 0] for step in steps]
        for steps in ranks
    ]
    computed = sum(
        len(step) * widths.width(max(tokens, default=0))
        for own, of_rank in zip(ranks, lengths, strict=True)
        for step, tokens in zip(own, of_rank, strict=True)
    )
    segments = sum(lane.row >= 0 for lane in lanes)
    real = sum(sum(tokens) for of_rank in lengths for tokens in of_rank)
    begun = sum(lane.reset for lane in lanes)
    return EpochSize(begun, segments, len(lanes) - segments, steps.pop(), computed, real)


def check_sizes(case: Case, plans: Sequence[EpochPlan], ranks: Sequence[list[Step]]) -> None:
    """Check that the plans of all ranks give the size that is counted by hand."""
    for widths in WIDTHS.values():
        expected = counted_size(case, ranks, widths)
        assert all(plan.size(widths) == expected for plan in plans)


def check_every_lane(steps: Sequence[Step], read: Callable[[int], list[Lane]]) -> Counter[int]:
    """Check that lanes hold documents from their first segment to the last in a row; how often each was read."""
    times: Counter[int] = Counter()
    for number in range(max(map(len, steps), default=0)):
        held = [step[number] for step in steps if number < len(step) and step[number].row >= 0]
        while held:
            document = held[0].document
            expected = read(document)
            assert held[: len(expected)] == expected
            times[document] += 1
            held = held[len(expected) :]
    return times


def aligned(case: Case, rank: Ranks) -> AlignedPlan:
    return AlignedPlan(
        case.windows(), case.order_array(), case.batch_size, rank, case.drop_last, align_end=case.align_end
    )


def _oracle(case: Case) -> list[list[Step]]:
    """The steps of each rank, in plain Python."""
    ranks: list[list[Step]] = [[] for _ in range(case.world_size)]
    order = case.in_order()
    size = case.batch_size * case.world_size
    for begin in range(0, len(order), size):
        group = order[begin : begin + size]
        if len(group) < size and case.drop_last:
            continue
        lanes = -(-len(group) // case.world_size)
        read = [case.read(document) for document in group]
        longest = max(map(len, read))
        for document, segments in zip(group, read, strict=True):
            idle = [Lane(document, -1, -1, False, False)] * (longest - len(segments))
            segments[:] = [*idle, *segments] if case.align_end else [*segments, *idle]
        for place in range(longest):
            step = [segments[place] for segments in read]
            step += [Lane(-1, -1, -1, False, False)] * (lanes * case.world_size - len(group))
            for rank, steps in enumerate(ranks):
                steps.append(step[rank * lanes : (rank + 1) * lanes])
    return ranks


EDGES = {
    "no document": Case([]),
    "no document of many ranks": Case([], world_size=3, drop_last=True),
    "all documents are left out": Case([3, 1], batch_size=3, drop_last=True),
    "one document": Case([4]),
    "one document in many lanes": Case([4], batch_size=8),
    "one document on many ranks": Case([3], batch_size=2, world_size=4),
    "fewer documents than ranks": Case([3, 1, 2], [2, 0, 1], 1, 4),
    "lanes for all documents": Case([1, 3, 2], batch_size=3),
    "more lanes than documents": Case([1, 3, 2], batch_size=5),
    "one lane": Case([2, 1, 3], [1, 2, 0], 1),
    "one lane, nothing left to drop": Case([2, 1, 3], batch_size=1, drop_last=True),
    "all documents of one segment": Case([1] * 7, batch_size=3),
    "one giant document": Case([2, 500, 1, 1, 3], batch_size=2, world_size=2),
    "only whole groups": Case([3, 1, 2, 2], batch_size=1, world_size=2),
    "windows of one segment": Case([3, 1, 9, 2], most=1, window="answer"),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("max_rows", [1, 7, 2**40])
def test_edge_cases_match_plain_python(edge: str, max_rows: int) -> None:
    case = EDGES[edge]
    found = [read_epoch(aligned(case, rank), max_rows) for rank in case.ranks()]
    assert found == _oracle(case)
    check_sizes(case, [aligned(case, rank) for rank in case.ranks()], found)


@given(cases(), st.integers(0, 60))
def test_steps_match_plain_python(case: Case, max_rows: int) -> None:
    expected = _oracle(case)
    plans = [aligned(case, rank) for rank in case.ranks()]
    assert [read_epoch(plan, max_rows) for plan in plans] == expected
    check_sizes(case, plans, expected)


@given(cases())
def test_every_document_is_read_once_over_all_ranks(case: Case) -> None:
    order = case.in_order()
    if case.drop_last:
        size = case.batch_size * case.world_size
        order = order[: len(order) // size * size]
    times: Counter[int] = Counter()
    for rank in case.ranks():
        plan = aligned(case, rank)
        steps = read_epoch(plan)
        for _, group in plan.groups(0):
            times += check_every_lane(steps[group.start : group.stop], case.read)
    assert times == Counter(order)


@given(cases(), st.integers(1, 40))
def test_a_lane_is_one_document_at_every_step_of_a_group(case: Case, max_rows: int) -> None:
    for rank in case.ranks():
        plan = aligned(case, rank)
        steps = read_epoch(plan, max_rows)
        groups = list(plan.groups(0))
        assert [number for number, _ in groups] == list(range(plan.num_groups))
        assert [step for _, group in groups for step in group] == list(range(len(steps)))
        for number, group in groups:
            documents = plan.documents_of(number).tolist()
            assert all([lane.document for lane in steps[step]] == documents for step in group)
            assert all(plan.group_of(step) == number for step in group)
        for first in range(plan.num_groups + 2):
            assert list(plan.groups(first)) == groups[first:]


@given(cases())
def test_only_the_last_group_is_smaller_and_its_lanes_are_shared_out(case: Case) -> None:
    size = case.batch_size * case.world_size
    plans = [aligned(case, rank) for rank in case.ranks()]
    groups = [[plan.documents_of(group).tolist() for plan in plans] for group in range(plans[0].num_groups)]
    rest = len(case.lengths) % size
    numbers = [size] * (len(case.lengths) // size) + [rest] * bool(rest and not case.drop_last)
    for number, lanes in zip(numbers, groups, strict=True):
        assert {len(own) for own in lanes} == {-(-number // case.world_size)}
        together = [document for own in lanes for document in own]
        assert -1 not in together[:number]
        assert all(document == -1 for document in together[number:])


@given(cases(), st.sampled_from([1, 2, 4, 6, 12]))
def test_the_lanes_of_all_ranks_together_do_not_depend_on_the_world_size(case: Case, lanes: int) -> None:
    streams, sizes = [], []
    for world_size in range(1, lanes + 1):
        if lanes % world_size:
            continue
        split = case._replace(batch_size=lanes // world_size, world_size=world_size)
        ranks = [read_epoch(aligned(split, rank)) for rank in split.ranks()]
        together = ([lane for own in step for lane in own] for step in zip(*ranks, strict=True))
        streams.append([[lane for lane in step if lane.document >= 0] for step in together])
        sizes.append(aligned(split, Ranks(0, world_size)).size(WIDTHS["longest"]))
    assert all(stream == streams[0] for stream in streams)
    assert all(size._replace(padding=0, tokens=0) == sizes[0]._replace(padding=0, tokens=0) for size in sizes)


@given(cases(), st.data())
def test_one_run_of_steps_equals_smaller_ones(case: Case, data: st.DataObject) -> None:
    plan = aligned(case, Ranks(data.draw(st.integers(0, case.world_size - 1)), case.world_size))
    for block, found in blocks_of(plan, 2**40):
        whole = as_steps(found)
        assert [step for place in block for step in as_steps(plan.step_rows(range(place, place + 1)))] == whole
        start = data.draw(st.integers(block.start, block.stop - 1))
        stop = data.draw(st.integers(start + 1, block.stop))
        part = as_steps(plan.step_rows(range(start, stop)))
        assert part == whole[start - block.start : stop - block.start]


@given(cases())
def test_there_are_at_most_two_runs_of_equal_lanes(case: Case) -> None:
    plan = aligned(case, Ranks(0, case.world_size))
    lanes = [found.rows.shape[1] for _, found in blocks_of(plan, 2**40)]
    assert len(lanes) <= 2
    assert lanes == sorted(lanes, reverse=True)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_an_order_may_be_of_any_integer_type(dtype: type[np.integer[Any]]) -> None:
    case = Case([3, 1, 4, 1, 5, 2, 6], [6, 2, 0, 5, 1, 4, 3], 2, 2)
    for rank in case.ranks():
        plan = AlignedPlan(case.windows(), np.array(case.order, dtype), 2, rank)
        assert read_epoch(plan) == _oracle(case)[rank.rank]


@pytest.mark.parametrize(
    "order",
    [None, np.array([1, 0, 2], np.int64), np.array([1, 0, 2], np.int32)],
)
def test_documents_are_int64(order: NDArray[np.signedinteger[Any]] | None) -> None:
    plan = AlignedPlan(Case([2, 1, 1]).windows(), order, 2, Ranks(0, 1))
    assert plan.documents_of(0).dtype == np.int64
    assert plan.step_rows(range(1)).documents.dtype == np.int64


def test_a_small_epoch_by_hand() -> None:
    corpus = Corpus([1, 3, 2])
    plan = AlignedPlan(corpus.windows(None, "first"), None, 2, Ranks(0, 1))
    begins = corpus.documents.first_segment.tolist()
    full = plan.step_rows(range(3))
    assert full.documents.tolist() == [[0, 1], [0, 1], [0, 1]]
    assert full.segments.tolist() == [[0, 0], [-1, 1], [-1, 2]]
    assert full.rows.tolist() == [[begins[0], begins[1]], [-1, begins[1] + 1], [-1, begins[1] + 2]]
    assert full.reset.tolist() == [[True, True], [False, False], [False, False]]
    assert full.is_last.tolist() == [[True, False], [False, False], [False, True]]
    assert plan.step_rows(range(3, 5)).segments.tolist() == [[0], [1]]
    size = plan.size(WIDTHS["longest"])
    # The last rows hold 5, 12 and 3 tokens.
    assert size == EpochSize(3, 6, 2, 5, tokens=2 * (16 + 16 + 12) + 16 + 3, real_tokens=5 + 16 + 16 + 12 + 16 + 3)
    assert (size.padding_share, size.useful_share) == (0.25, 68 / 107)
    assert plan.size(WIDTHS["max_length"]) == size._replace(tokens=8 * 16)
    assert plan.size(WIDTHS["multiples"]) == size._replace(tokens=2 * (16 + 16 + 15) + 16 + 5)
    assert [plan.block(step, 4) for step in range(5)] == [
        *[range(2)] * 2,
        range(2, 3),
        *[range(3, 5)] * 2,
    ]


def test_ranks_share_the_last_group_by_hand() -> None:
    case = Case([1, 2, 1, 2, 1, 3, 1], batch_size=2, world_size=2)
    plans = [aligned(case, rank) for rank in case.ranks()]
    assert [plan.documents_of(0).tolist() for plan in plans] == [[0, 1], [2, 3]]
    assert [plan.documents_of(1).tolist() for plan in plans] == [[4, 5], [6, -1]]
    assert all(plan.size(WIDTHS["max_length"])[:4] == (7, 11, 2 + 7, 5) for plan in plans)


def test_windows_shorten_the_steps_and_keep_segment_numbers() -> None:
    case = Case([9, 2, 30], batch_size=3, most=4, window="random")
    plan = aligned(case, Ranks(0, 1))
    starts = case.windows().starts(np.arange(3)).tolist()
    assert starts[2] > 0
    assert plan.size(WIDTHS["max_length"])[:4] == (3, 10, 2, 4)
    assert plan.step_rows(range(4)).segments[:, 2].tolist() == list(range(starts[2], starts[2] + 4))


def test_nothing_is_padding_where_nothing_is_read() -> None:
    nothing = EpochSize(0, 0, 0, 0, 0, 0)
    assert (nothing.padding_share, nothing.useful_share) == (0, 0)
    plan = aligned(Case([3, 1], batch_size=3, drop_last=True), Ranks(0, 1))
    assert all(plan.size(widths) == nothing for widths in WIDTHS.values())
    assert plan.num_groups == 0
    assert list(plan.groups(plan.group_of(0))) == []


def test_many_groups_are_walked_from_anywhere() -> None:
    lengths = np.random.default_rng(0).integers(1, 5, 2500)
    plan = aligned(Case(lengths.tolist(), batch_size=1), Ranks(0, 1))
    ends = np.cumsum(lengths)
    expected = [(group, range(int(end - lengths[group]), int(end))) for group, end in enumerate(ends)]
    for first in (0, 1, 1023, 1024, 1025, 2048, 2499, 2500):
        assert list(plan.groups(first)) == expected[first:]
    steps = [0, int(ends[1022]) - 1, int(ends[1023]), int(ends[-1]) - 1]
    assert [plan.group_of(step) for step in steps] == [0, 1022, 1024, 2499]


def test_sizes_beyond_int32_are_exact() -> None:
    corpus = Corpus([2**31 - 1, 2**31 - 1, 2**31 - 2])
    plan = AlignedPlan(corpus.windows(None, "first"), None, 2, Ranks(0, 1))
    # The last rows hold 5, 12 and 3 tokens.
    size = EpochSize(3, 3 * 2**31 - 4, 0, 2**32 - 3, 16 * (3 * 2**31 - 7) + 12 + 12 + 3, 16 * (3 * 2**31 - 7) + 20)
    assert plan.size(WIDTHS["longest"]) == size
    last = plan.step_rows(plan.block(2**32 - 4, 8))
    assert last.segments[-1].tolist() == [2**31 - 3]
    assert last.is_last[-1].tolist() == [True]


def test_groups_of_similar_lengths_hold_less_padding() -> None:
    lengths = np.minimum(np.random.default_rng(1).geometric(0.12, 2003), 60).tolist()
    windows, widths = Case(lengths).windows(), WIDTHS["longest"]
    plain = aligned(Case(lengths, batch_size=16), Ranks(0, 1)).size(widths)
    order = grouped(Lengths(windows.counts, windows.last_tokens, ROW_TOKENS), 16, 0, 0, True)
    found = AlignedPlan(windows, order, 16, Ranks(0, 1)).size(widths)
    assert (found.documents, found.segments, found.real_tokens) == (plain.documents, plain.segments, plain.real_tokens)
    assert found.padding_share < plain.padding_share / 4
    assert found.useful_share > 0.95


def test_groups_that_end_together_by_hand() -> None:
    case = Case([1, 3, 2, 1], batch_size=3, align_end=True)
    begins = case.corpus().documents.first_segment.tolist()
    plan = aligned(case, Ranks(0, 1))
    found = plan.step_rows(range(3))
    assert found.documents.tolist() == [[0, 1, 2]] * 3
    assert found.segments.tolist() == [[-1, 0, -1], [-1, 1, 0], [0, 2, 1]]
    assert found.rows[2].tolist() == [begins[0], begins[1] + 2, begins[2] + 1]
    assert found.reset.tolist() == [[False, True, False], [False, False, True], [True, False, False]]
    assert found.is_last.tolist() == [[False] * 3, [False] * 3, [True] * 3]
    # The last rows hold 5, 12, 3 and 10 tokens.
    assert plan.size(WIDTHS["longest"]) == EpochSize(4, 7, 3, 4, 3 * (16 + 16 + 12) + 10, 3 * 16 + 5 + 12 + 3 + 10)


class TestCutBlock:
    @given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 60))
    def test_blocks_cover_all_steps_and_all_but_the_last_are_of_one_length(
        self, begin: int, number: int, length: int
    ) -> None:
        blocks = [cut_block(step, begin, begin + number, length) for step in range(begin, begin + number)]
        assert all(step in block for step, block in enumerate(blocks, begin))
        once = sorted({(block.start, block.stop) for block in blocks})
        assert [step for start, stop in once for step in range(start, stop)] == list(range(begin, begin + number))
        assert all(stop - start == length for start, stop in once[:-1])

    def test_by_hand(self) -> None:
        assert cut_block(7, 5, 12, 3) == range(5, 8)
        assert cut_block(8, 5, 12, 3) == range(8, 11)
        assert cut_block(11, 5, 12, 3) == range(11, 12)
