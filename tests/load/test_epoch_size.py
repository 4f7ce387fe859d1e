"""What epochs read of the documents and cost: windows, schedules, groups by length, ranks."""

import itertools
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.format.padding import RowWidths
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.epoch_plan import EpochSize
from memxlnet.load.option_literals import Window
from tests.load.helpers import (
    LENGTH,
    Built,
    Gathers,
    Reading,
    assert_rows_of_dataset,
    assert_same_steps,
    has_answers,
    readings,
    steps_of,
    time_major,
)
from tests.support import in_quarters


@st.composite
def options_of_epochs(draw: st.DrawFn) -> dict[str, Any]:
    """Options that choose what is read, all that may stand together."""
    most = draw(st.none() | st.integers(1, 12) | st.lists(st.integers(1, 12), min_size=1, max_size=3))
    lanes = draw(st.sampled_from(["aligned", "refilled"]))
    window = "first" if most is None else draw(st.sampled_from(get_args(Window)))
    drop_last = draw(st.booleans())
    return {
        "lanes": lanes,
        "shuffle": draw(st.booleans()),
        "seed": draw(st.integers(0, 9)),
        "drop_last": drop_last,
        "align": draw(st.sampled_from(["start", "end"])) if lanes == "aligned" else "start",
        "group_by_length": draw(st.booleans()),
        "max_segments": most,
        "window": window,
        "evaluation": not drop_last and window != "answer" and draw(st.booleans()),
    }


def counted(
    dataset: CacheDataset, batch_size: int, world_size: int, epoch: int, options: Any, widths: RowWidths | None = None
) -> EpochSize:
    """The size of an epoch, counted from the steps of all ranks; rows as they are stored, or of the given widths."""
    widths = widths or widths_of(dataset)
    sizes, found = set(), []
    documents = segments = rows = tokens = real = 0
    for rank in range(world_size):
        loader = time_major(dataset, batch_size, rank=rank, world_size=world_size, **options)
        loader.set_epoch(epoch)
        steps = steps_of(loader)
        sizes.add(len(steps))
        found += readings(steps)
        documents += sum(int(step["reset"].sum()) for step in steps)
        segments += sum(step["num_active"] for step in steps)
        rows += sum(len(step["rows"]) for step in steps)
        for step in steps:
            lengths = step["attention_mask"].sum(dim=1)[step["document_mask"]].tolist()
            tokens += len(step["rows"]) * widths.width(max(lengths, default=0))
            real += sum(lengths)
    names = [one.example_id for one in found]
    assert len(names) == len(set(names)) == documents
    if not options["drop_last"]:
        assert set(names) == set(dataset.get_all_documents())
        assert all(one.whole for one in found)
    assert len(sizes) == 1
    return EpochSize(documents, segments, rows - segments, sizes.pop(), tokens, real)


def widths_of(dataset: CacheDataset, *padding: Any) -> RowWidths:
    return RowWidths(dataset.manifest.layout, dataset.manifest.max_seq_length, *padding)


class TestSize:
    @in_quarters
    @given(
        batch_size=st.integers(1, 9),
        world_size=st.integers(1, 4),
        epoch=st.integers(0, 3),
        options=options_of_epochs(),
    )
    def test_is_what_an_iteration_gives(
        self, built: Built, quarter: int, batch_size: int, world_size: int, epoch: int, options: dict[str, Any]
    ) -> None:
        dataset = CacheDataset(built.plain)
        found = counted(dataset, batch_size, world_size, epoch, options)
        for rank in range(world_size):
            loader = time_major(dataset, batch_size, rank=rank, world_size=world_size, **options)
            assert loader.epoch_size(epoch) == found
            loader.set_epoch(epoch)
            assert loader.epoch_size() == found
            share = found.padding / (found.padding + found.segments) if found.steps else 0
            assert loader.epoch_size().padding_share == share

    @in_quarters
    @given(
        kind=st.sampled_from(["plain", "sharded", "memory"]),
        batch_size=st.integers(1, 9),
        world_size=st.integers(1, 4),
        multiple=st.none() | st.integers(1, LENGTH),
        options=options_of_epochs(),
    )
    def test_tokens_are_those_of_steps_as_wide_as_their_longest_row(
        self,
        built: Built,
        quarter: int,
        kind: str,
        batch_size: int,
        world_size: int,
        multiple: int | None,
        options: dict[str, Any],
    ) -> None:
        dataset = CacheDataset(getattr(built, kind))
        widths = widths_of(dataset, "longest", multiple)
        found = counted(dataset, batch_size, world_size, 1, options, widths)
        for rank in range(world_size):
            loader = time_major(dataset, batch_size, rank=rank, world_size=world_size, **options)
            assert loader._plan(1).size(widths) == found

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_is_read_from_number_columns_alone(
        self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch, lanes: str
    ) -> None:
        gathers = Gathers(monkeypatch)
        loader = time_major(lazy, 4, shuffle=True, lanes=lanes, max_segments=5, window="answer")
        assert len(loader) > 0
        assert gathers.small == []
        assert loader.epoch_size(0).segments == sum(min(5, int(count)) for count in lazy.documents.num_segments)
        assert gathers.tokens == []

    def test_asking_for_another_epoch_changes_nothing(self, lazy: CacheDataset) -> None:
        expected = steps_of(time_major(lazy, 4, shuffle=True, lanes="refilled"))
        loader = time_major(lazy, 4, shuffle=True, lanes="refilled")
        sizes = [loader.epoch_size(epoch) for epoch in range(3)]
        found = []
        for number, step in enumerate(loader):
            assert loader.epoch_size(number % 3) == sizes[number % 3]
            found.append(step)
        assert_same_steps(found, expected)
        assert loader.epoch == 1

    def test_more_ranks_than_documents(self, lazy: CacheDataset) -> None:
        for lanes in ("aligned", "refilled"):
            options = {"lanes": lanes, "drop_last": False}
            size = counted(lazy, 1, 20, 0, options)
            assert size == time_major(lazy, 1, rank=19, world_size=20, **options).epoch_size()
            assert (size.documents, size.steps) == (13, int(lazy.documents.num_segments.max()))


class TestSchedule:
    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_each_epoch_has_its_entry_and_the_last_one_stays(self, lazy: CacheDataset, lanes: str) -> None:
        loader = time_major(lazy, 4, lanes=lanes, max_segments=[2, 4, 6], shuffle=True)
        counts = lazy.documents.num_segments
        for epoch, most in enumerate([2, 4, 6, 6, 6]):
            assert loader.epoch == epoch
            expected = sum(min(int(count), most) for count in counts)
            assert loader.epoch_size().segments == loader.epoch_size(epoch).segments == expected
            found = readings(steps_of(loader))
            assert {one.example_id: one.length for one in found} == {
                name: min(int(count), most) for name, count in zip(lazy.get_all_documents(), counts, strict=True)
            }

    def test_set_epoch_chooses_the_entry(self, lazy: CacheDataset) -> None:
        loader = time_major(lazy, 4, max_segments=(1, 3))
        for epoch, most in ((9, 3), (0, 1), (1, 3)):
            loader.set_epoch(epoch)
            assert max(one.length for one in readings(steps_of(loader))) == most

    def test_a_number_is_a_schedule_of_one_entry(self, lazy: CacheDataset) -> None:
        one, two = time_major(lazy, 4, max_segments=3), time_major(lazy, 4, max_segments=[3])
        assert one.state_dict() == two.state_dict()
        assert_same_steps(steps_of(one), steps_of(two))

    def test_more_than_there_are_reads_all(self, lazy: CacheDataset) -> None:
        expected = steps_of(time_major(lazy, 4))
        for window in get_args(Window):
            assert_same_steps(steps_of(time_major(lazy, 4, max_segments=10**12, window=window)), expected)


def read_windows(loader: Any) -> dict[str, Reading]:
    return {one.example_id: one for one in readings(steps_of(loader))}


class TestWindows:
    @in_quarters
    @given(
        lanes=st.sampled_from(["aligned", "refilled"]),
        window=st.sampled_from(get_args(Window)),
        most=st.integers(1, 20),
        seed=st.integers(0, 2**64 - 1),
        epoch=st.integers(0, 9),
        shuffle=st.booleans(),
        batch_size=st.integers(1, 9),
    )
    def test_are_contiguous_and_hold_the_answer_where_they_must(
        self, built: Built, quarter: int, window: str, most: int, epoch: int, batch_size: int, **options: Any
    ) -> None:
        dataset = CacheDataset(built.sharded)
        loader = time_major(dataset, batch_size, window=window, max_segments=most, **options)
        loader.set_epoch(epoch)
        steps = steps_of(loader)
        assert_rows_of_dataset(dataset, steps)
        found = readings(steps)
        assert len(found) == 13
        holders = has_answers(dataset)
        for one in found:
            rows = dataset.document_map[one.example_id]
            # Segments are counted in the document, not in the window.
            assert one.row == rows[one.segment]
            assert one.length == min(most, len(rows))
            assert one.whole
            if window == "first":
                assert one.segment == 0
            if window == "answer" and any(holders[row] for row in rows):
                assert any(holders[one.row : one.row + one.length])

    def test_without_looking_for_it_the_answer_is_missed(self, lazy: CacheDataset) -> None:
        """The answers lie so that the test above tests something."""
        holders = has_answers(lazy)
        rows = [lazy.document_map[name] for name in lazy.get_all_documents()]
        documents = [
            name
            for name, span in zip(lazy.get_all_documents(), rows, strict=True)
            if any(holders[span.start : span.stop])
        ]
        for window in ("first", "random"):
            found = read_windows(time_major(lazy, 4, window=window, max_segments=2))
            missed = [
                name for name in documents if not any(holders[found[name].row : found[name].row + found[name].length])
            ]
            assert len(missed) > 2

    def test_metadata_shows_which_segment_holds_it(self, lazy: CacheDataset) -> None:
        loader = time_major(lazy, 13, window="answer", max_segments=3, metadata=["has_answer_in_segment"])
        held: set[str] = set()
        for step in steps_of(loader):
            held |= {
                name for name, flag in zip(step["example_ids"], step["has_answer_in_segment"], strict=True) if flag
            }
        answered = {lazy[row]["example_id"] for row, flag in enumerate(has_answers(lazy)) if flag}
        assert held == answered
        assert len(answered) > 5

    @pytest.mark.parametrize("window", ["random", "answer"])
    def test_differ_between_epochs_and_not_between_lanes_or_ranks(self, lazy: CacheDataset, window: str) -> None:
        options: dict[str, Any] = {"window": window, "max_segments": 3, "seed": 5}
        loader = time_major(lazy, 4, **options)
        epochs = [read_windows(loader) for _ in range(3)]
        long = [name for name in lazy.get_all_documents() if len(lazy.document_map[name]) > 10]
        for one, other in itertools.combinations(epochs, 2):
            assert any(one[name] != other[name] for name in long)
        others: list[dict[str, Any]] = [{"lanes": "refilled"}, {"shuffle": True}, {"group_by_length": True}]
        for other_options in others:
            assert read_windows(time_major(lazy, 3, **options, **other_options)) == epochs[0]
        ranks = [read_windows(time_major(lazy, 2, rank=rank, world_size=3, **options)) for rank in range(3)]
        assert ranks[0] | ranks[1] | ranks[2] == epochs[0]


class TestGroupsByLength:
    @pytest.mark.parametrize("shuffle", [False, True])
    @pytest.mark.parametrize("batch_size", [2, 3, 4])
    def test_hold_less_padding(self, lazy: CacheDataset, shuffle: bool, batch_size: int) -> None:
        def padding(**options: Any) -> list[int]:
            loader = time_major(lazy, batch_size, shuffle=shuffle, **options)
            return [loader.epoch_size(epoch).padding for epoch in range(20)]

        grouped, plain = padding(group_by_length=True), padding()
        assert sum(grouped) < 0.6 * sum(plain)
        assert shuffle or len(set(grouped)) == 1

    def test_begin_with_the_longest_where_nothing_is_shuffled(self, lazy: CacheDataset) -> None:
        loader = time_major(lazy, 4, group_by_length=True, evaluation=True)
        counts = [len(lazy.document_map[name]) for group in loader for name in group.example_ids]
        assert counts == sorted(counts, reverse=True)

    def test_stay_random_where_they_are_shuffled(self, lazy: CacheDataset) -> None:
        loader = time_major(lazy, 4, group_by_length=True, shuffle=True)
        orders = {tuple(name for group in loader for name in group.example_ids) for _ in range(5)}
        assert len(orders) == 5

    def test_go_by_the_windows_that_are_read(self, lazy: CacheDataset) -> None:
        loader = time_major(lazy, 4, group_by_length=True, max_segments=1)
        assert loader.epoch_size().padding == 0
        lengths = [int(lazy[lazy.document_map[name][0]]["attention_mask"].sum()) for name in lazy.get_all_documents()]
        names = [
            name for _, name in sorted(zip(lengths, lazy.get_all_documents(), strict=True), key=lambda one: -one[0])
        ]
        assert [name for group in loader for name in group.example_ids] == names

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_waste_fewer_tokens_whichever_the_lanes(self, lazy: CacheDataset, lanes: str) -> None:
        widths = widths_of(lazy, "longest")

        def shares(**options: Any) -> list[float]:
            loader = time_major(lazy, 3, shuffle=True, lanes=lanes, **options)
            return [loader._plan(epoch).size(widths).useful_share for epoch in range(20)]

        assert sum(shares(group_by_length=True)) > sum(shares()) + 0.5
