"""A loader that is given a state resumes with the next step, bit for bit."""

import itertools
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from memxlnet.data.qa_datasets import SquadLikeQADataset
from memxlnet.load import step_stream
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.document_group import Group
from memxlnet.load.option_literals import Window
from memxlnet.load.steps import Step, StepMaker
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from tests.load.helpers import (
    LENGTH,
    OVERLAP,
    Gathers,
    assert_same_steps,
    assert_same_tensors,
    sample_tokenizer,
    steps_of,
    time_major,
    varied_examples,
)
from tests.support import build, in_quarters

Openers = list[Callable[[], CacheDataset]]


@pytest.fixture(scope="module")
def openers(tmp_path_factory: pytest.TempPathFactory) -> Openers:
    """Ways to open the same cache: mapped, in shards, and read into RAM; documents of 1 to 20 segments."""
    root = tmp_path_factory.mktemp("resume")
    examples = varied_examples((12, 30, 60, 3, 20, 1, 40, 33, 14, 7, 2))
    settings = {"max_seq_length": LENGTH, "doc_stride": OVERLAP}
    plain = build(examples, sample_tokenizer(), root / "plain", **settings).directory
    sharded = build(examples, sample_tokenizer(), root / "sharded", max_shard_rows=17, **settings).directory
    return [lambda: CacheDataset(plain), lambda: CacheDataset(sharded), lambda: SquadLikeQADataset.open(plain)]


@st.composite
def stream_options(draw: st.DrawFn) -> dict[str, Any]:
    """Everything that a state is bound to, but the batch size."""
    most = draw(st.none() | st.integers(1, 9) | st.lists(st.integers(1, 9), min_size=1, max_size=3))
    lanes = draw(st.sampled_from(["aligned", "refilled"]))
    return {
        "lanes": lanes,
        "shuffle": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**64 - 1)),
        "drop_last": draw(st.booleans()),
        "align": draw(st.sampled_from(["start", "end"])) if lanes == "aligned" else "start",
        "group_by_length": draw(st.booleans()),
        "max_segments": most,
        "window": "first" if most is None else draw(st.sampled_from(get_args(Window))),
        "dtype": draw(st.sampled_from(["int64", "stored"])),
        "ended_label": draw(st.sampled_from(["ignore", "cls"])),
    }


@st.composite
def small_blocks(draw: st.DrawFn) -> tuple[int, int]:
    return draw(st.integers(1, 40)), draw(st.sampled_from([1, 9, 64, 4096]))


def cut_small(patch: pytest.MonkeyPatch, blocks: tuple[int, int]) -> None:
    patch.setattr(StepMaker, "block_rows", blocks[0])
    patch.setattr(step_stream, "RUN_ROWS", blocks[1])


class Received(NamedTuple):
    """A step, where it stands, and whether the group or epoch ends with it."""

    epoch: int
    number: int
    step: Step
    ends: bool


def epochs_of(loader: TimeStepMajorDataLoader, count: int) -> list[Received]:
    """The steps of the next epochs, uninterrupted."""
    received: list[Received] = []
    for _ in range(count):
        epoch, number = loader.epoch, 0
        for found in loader:
            group = list(found) if isinstance(found, Group) else [found]
            for place, step in enumerate(group, 1):
                received.append(Received(epoch, number, step, isinstance(found, Group) and place == len(group)))
                number += 1
        if received:
            received[-1] = received[-1]._replace(ends=True)
    return received


def events(loader: TimeStepMajorDataLoader) -> Generator[Step | None, None, None]:
    """The steps as a training loop receives them; None where it was given a group, or an epoch is over."""
    while True:
        for found in loader:
            if isinstance(found, Group):
                yield None
                yield from found
            else:
                yield found
        yield None


def expected_place(reference: list[Received], stop: int) -> tuple[int, int]:
    """Epoch and step of a state after `stop` steps."""
    if stop < len(reference):
        return reference[stop].epoch, reference[stop].number
    return reference[-1].epoch + 1, 0


def take(found: Iterator[Step | None], count: int) -> list[Step]:
    """`count` steps, and nothing that comes after the last of them."""
    return list(itertools.islice((step for step in found if step is not None), count)) if count else []


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(state)
    assert len(text) <= 1024
    again: dict[str, Any] = json.loads(text)
    assert again == state
    return again


class TestAnyStops:
    @in_quarters
    @given(batch_size=st.integers(1, 6), options=stream_options(), blocks=small_blocks(), data=st.data())
    def test_the_stream_continues_as_if_it_had_not_been_stopped(
        self,
        openers: Openers,
        quarter: int,
        batch_size: int,
        options: dict[str, Any],
        blocks: tuple[int, int],
        data: st.DataObject,
    ) -> None:
        with_mask = data.draw(st.sampled_from([(), ("context_mask", "has_answer")]))

        def fresh() -> TimeStepMajorDataLoader:
            dataset = data.draw(st.sampled_from(openers))()
            workers = data.draw(st.integers(0, 1))
            return time_major(dataset, batch_size, num_workers=workers, metadata=with_mask, **options)

        with pytest.MonkeyPatch.context() as patch:
            cut_small(patch, blocks)
            assume(all(fresh().epoch_size(epoch).steps for epoch in range(4)))
            reference = epochs_of(fresh(), data.draw(st.integers(2, 3)))
            ends = [0, *(number for number, one in enumerate(reference, 1) if one.ends)]
            stops = data.draw(st.lists(st.sampled_from(ends) | st.integers(0, len(reference)), max_size=6).map(sorted))
            loader, received, at = fresh(), [], 0
            for stop in stops:
                with closing(events(loader)) as found:
                    received += take(found, stop - at)
                    # A loop that asks for what comes after the end of a group or epoch is given no step by it.
                    asks = stop in ends and (options["lanes"] == "aligned" or stop > at)
                    if asks and data.draw(st.booleans()):
                        assert next(found) is None
                    at = stop
                    state = through_json(loader.state_dict())
                assert (state["epoch"], state["step"]) == expected_place(reference, at)
                loader = fresh()
                loader.load_state_dict(state)
                assert loader.state_dict() == state
            with closing(events(loader)) as found:
                received += take(found, len(reference) - at)
            assert_same_steps(received, [one.step for one in reference])

    @in_quarters
    @given(options=stream_options(), blocks=small_blocks(), data=st.data())
    def test_other_numbers_of_ranks_continue_with_the_same_lanes(
        self, openers: Openers, quarter: int, options: dict[str, Any], blocks: tuple[int, int], data: st.DataObject
    ) -> None:
        lanes = data.draw(st.sampled_from([4, 8]))

        def ranks(world_size: int) -> list[TimeStepMajorDataLoader]:
            return [
                time_major(openers[0](), lanes // world_size, rank=rank, world_size=world_size, **options)
                for rank in range(world_size)
            ]

        with pytest.MonkeyPatch.context() as patch:
            cut_small(patch, blocks)
            alone = ranks(1)[0]
            assume(all(alone.epoch_size(epoch).steps for epoch in range(3)))
            reference = epochs_of(alone, 2)
            stops = data.draw(st.lists(st.integers(0, len(reference)), min_size=1, max_size=4).map(sorted))
            state, at = ranks(2)[1].state_dict(), 0
            for stop in [*stops, len(reference)]:
                loaders = ranks(data.draw(st.sampled_from([1, 2, 4])))
                for loader in loaders:
                    loader.load_state_dict(state)
                steps = [take(events(loader), stop - at) for loader in loaders]
                for number, parts in enumerate(zip(*steps, strict=True), at):
                    assert_union(parts, reference[number].step)
                states = [through_json(loader.state_dict()) for loader in loaders]
                assert all(one == states[0] for one in states)
                state, at = states[-1], stop


def assert_union(parts: tuple[Any, ...], expected: Any) -> None:
    """The lanes of all ranks are those of one; a last group that is rounded up holds padding after them."""
    lanes = len(expected["rows"])
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(torch.cat([part[name] for part in parts])[:lanes], value), name
    assert sum(part["num_active"] for part in parts) == expected["num_active"]
    ids = [name for part in parts for name in part["example_ids"]]
    assert ids == [*expected["example_ids"], *[""] * (len(ids) - lanes)]


class TestPlaces:
    """What the property above covers too, one by one."""

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_state_counts_what_was_received(
        self, openers: Openers, monkeypatch: pytest.MonkeyPatch, num_workers: int
    ) -> None:
        cut_small(monkeypatch, (50, 50))
        loader = time_major(openers[0](), 3, num_workers=num_workers)
        places = []
        for group in loader:
            places.append(loader.state_dict()["step"])
            places.extend(loader.state_dict()["step"] for _ in group)
        sizes = [len(group) for group in time_major(openers[0](), 3)]
        begins = [sum(sizes[:number]) for number in range(len(sizes))]
        expected = [step for begin, size in zip(begins, sizes, strict=True) for step in range(begin, begin + size + 1)]
        assert places == [*expected[:-1], 0]
        assert loader.state_dict() == {**time_major(openers[0](), 3).state_dict(), "epoch": 1}

    def test_a_single_step_of_a_group_counts_as_received(self, openers: Openers) -> None:
        loader = time_major(openers[0](), 3)
        group = next(iter(loader))
        for index in (2, 0, len(group) - 1, 1):
            _ = group[index]
            assert loader.state_dict()["step"] == index + 1
        _ = group[1:4]
        assert loader.state_dict()["step"] == 4

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_a_state_is_no_view(self, openers: Openers, lanes: str) -> None:
        loader = time_major(openers[0](), 3, lanes=lanes, max_segments=[2, 3])
        state = loader.state_dict()
        before = json.dumps(state)
        steps_of(loader)
        assert json.dumps(state) == before
        state["max_segments"].append(9)
        assert loader.state_dict()["max_segments"] == [2, 3]

    def test_a_resumed_group_begins_within(self, openers: Openers) -> None:
        dataset = openers[0]()
        first, second = list(itertools.islice(time_major(dataset, 3), 2))
        steps, others = list(first), list(second)
        loader, resumed = time_major(dataset, 3), time_major(dataset, 3)
        _ = next(iter(loader))[4]
        resumed.load_state_dict(loader.state_dict())
        groups = iter(resumed)
        group = next(groups)
        assert (group.number, group.first_step, len(group)) == (0, 5, len(steps) - 5)
        assert list(group.example_ids) == list(first.example_ids)
        assert_same_steps(group, steps[5:])
        assert_same_tensors(group[-1], steps[-1])
        group = next(groups)
        assert (group.number, group.first_step) == (1, 0)
        assert_same_steps(group, others)

    def test_a_resumed_group_that_was_read_whole_is_not_given_again(self, openers: Openers) -> None:
        loader, resumed = time_major(openers[0](), 3), time_major(openers[0](), 3)
        list(next(iter(loader)))
        resumed.load_state_dict(loader.state_dict())
        group = next(iter(resumed))
        assert (group.number, group.first_step) == (1, 0)

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_an_iteration_without_a_state_begins_the_epoch_again(self, openers: Openers, lanes: str) -> None:
        loader = time_major(openers[0](), 3, lanes=lanes)
        expected = steps_of(loader)
        loader.set_epoch(0)
        loader.load_state_dict({**loader.state_dict(), "step": 5})
        assert_same_steps(take(events(loader), 4), expected[5:9])
        assert loader.state_dict()["step"] == 9
        assert_same_steps(take(events(loader), 3), expected[:3])
        assert loader.state_dict()["step"] == 3

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_a_state_may_go_back(self, openers: Openers, lanes: str) -> None:
        loader = time_major(openers[0](), 3, lanes=lanes, shuffle=True)
        expected = epochs_of(time_major(openers[0](), 3, lanes=lanes, shuffle=True), 2)
        state = loader.state_dict()
        for _ in range(2):
            assert_same_steps(take(events(loader), len(expected)), [one.step for one in expected])
            loader.load_state_dict(state)
            assert loader.epoch == 0

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_set_epoch_keeps_the_place_within_the_same_epoch_only(self, openers: Openers, lanes: str) -> None:
        options: dict[str, Any] = {"shuffle": True, "lanes": lanes}
        expected = [one.step for one in epochs_of(time_major(openers[0](), 3, **options), 3)]
        steps = time_major(openers[0](), 3, **options).epoch_size(0).steps
        state = {**time_major(openers[0](), 3, **options).state_dict(), "epoch": 1, "step": 7}
        loader = time_major(openers[0](), 3, **options)
        loader.load_state_dict(state)
        loader.set_epoch(1)
        assert loader.state_dict() == state
        assert_same_tensors(take(events(loader), 1)[0], expected[steps + 7])
        loader.load_state_dict(state)
        for epoch in (2, 1):
            loader.set_epoch(epoch)
            assert loader.state_dict() == {**state, "epoch": epoch, "step": 0}
        assert_same_tensors(take(events(loader), 1)[0], expected[steps])

    @pytest.mark.parametrize("num_workers", [0, 1])
    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_no_row_before_the_place_is_read(
        self, openers: Openers, monkeypatch: pytest.MonkeyPatch, lanes: str, num_workers: int
    ) -> None:
        cut_small(monkeypatch, (12, 24))
        options: dict[str, Any] = {"lanes": lanes, "num_workers": num_workers, "shuffle": True}
        steps = steps_of(time_major(openers[0](), 4, **options))
        gathers = Gathers(monkeypatch)
        for place in (*range(0, len(steps), 5), len(steps) - 1):
            gathers.tokens.clear()
            gathers.small.clear()
            loader = time_major(openers[0](), 4, **options)
            loader.load_state_dict({**loader.state_dict(), "step": place})
            assert_same_steps(steps_of(loader), steps[place:])
            allowed = {row for step in steps[place:] for row in step["rows"].tolist()} - {-1}
            # Padding is gathered too, from a row that is read anyway.
            for gathered in (gathers.tokens, gathers.small):
                assert {row for rows in gathered for row in rows} == allowed
                assert sum(map(len, gathered)) == sum(len(step["rows"]) for step in steps[place:])

    def test_a_state_fits_every_way_to_store_the_cache(self, openers: Openers) -> None:
        assert len({time_major(opener(), 3).state_dict()["fingerprint"] for opener in openers}) == 1

    def test_the_largest_state_stays_small(self, tmp_path: Path) -> None:
        dataset = build(varied_examples((3,)), sample_tokenizer(), tmp_path)
        options: dict[str, Any] = {"seed": -1, "max_segments": [2**40] * 50, "window": "random", "lanes": "refilled"}
        loader = time_major(dataset, 1_048, ended_label="ignore", dtype="stored", rank=0, world_size=1000, **options)
        loader.set_epoch(2**63)
        through_json(loader.state_dict())
