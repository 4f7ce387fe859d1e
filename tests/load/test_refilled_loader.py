"""Refilled lanes through the loader: one stream of steps of constant shape."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.document_group import Group
from memxlnet.load.seeded_random import shuffled
from memxlnet.load.steps import StepMaker
from tests.load.helpers import (
    DTYPES,
    LENGTH,
    MODEL_KEYS,
    STEP_KEYS,
    Built,
    assert_rows_of_dataset,
    assert_same_steps,
    assert_same_tensors,
    readings,
    steps_of,
    time_major,
)
from tests.support import in_quarters


def refilled(dataset: CacheDataset, *arguments: Any, **options: Any) -> Any:
    return time_major(dataset, *arguments, lanes="refilled", **options)


class TestSteps:
    @in_quarters
    @given(
        kind=st.sampled_from(["plain", "sharded", "memory"]),
        batch_size=st.integers(1, 16),
        shuffle=st.booleans(),
        seed=st.integers(0, 2**64),
        epoch=st.integers(0, 5),
        num_workers=st.integers(0, 1),
    )
    def test_read_every_document_once_from_its_begin_to_its_end(
        self, built: Built, quarter: int, kind: str, batch_size: int, epoch: int, **options: Any
    ) -> None:
        dataset = CacheDataset(getattr(built, kind))
        loader = refilled(dataset, batch_size, **options)
        loader.set_epoch(epoch)
        count = len(loader)
        steps = list(loader)
        assert len(steps) == count == loader.epoch_size(epoch).steps
        found = readings(steps)
        assert sorted(one.example_id for one in found) == sorted(dataset.get_all_documents())
        for one in found:
            assert range(one.row, one.row + one.length) == dataset.document_map[one.example_id]
            assert one.whole
        assert_rows_of_dataset(dataset, steps)
        for step in steps:
            assert step["input_ids"].shape == (batch_size, LENGTH)
            assert [bool(name) for name in step["example_ids"]] == step["document_mask"].tolist()

    def test_every_lane_reads_a_stretch_of_the_order(self, lazy: CacheDataset) -> None:
        order = shuffled(13, 4, 0).tolist()
        ids = list(lazy.get_all_documents())
        steps = list(refilled(lazy, 3, shuffle=True, seed=4))
        lanes = [[step["example_ids"][lane] for step in steps] for lane in range(3)]
        seen = [name for lane in lanes for name, _ in itertools.groupby(lane) if name]
        assert seen == [ids[document] for document in order]

    @pytest.mark.parametrize("dtype", ["int64", "stored"])
    @pytest.mark.parametrize("ended_label", ["ignore", "cls"])
    def test_ended_lanes_look_like_those_of_groups(self, lazy: CacheDataset, dtype: str, ended_label: str) -> None:
        options = {"dtype": dtype, "ended_label": ended_label}
        ended = list(refilled(lazy, 4, **options))[-1]
        group = next(iter(time_major(lazy, 4, **options)))[-1]
        assert set(ended) == set(group) == STEP_KEYS
        one, other = (int((~step["document_mask"]).nonzero()[0]) for step in (ended, group))
        for name in STEP_KEYS - {"example_ids", "num_active"}:
            assert ended[name].dtype == group[name].dtype
            assert torch.equal(ended[name][one], group[name][other]), name
        if dtype == "stored":
            assert {name: ended[name].dtype for name in MODEL_KEYS} == DTYPES

    def test_only_the_end_of_an_epoch_holds_padding(self, lazy: CacheDataset) -> None:
        for lanes in (2, 3, 5):
            masks = torch.stack([step["document_mask"] for step in refilled(lazy, lanes, shuffle=True)])
            assert not masks.all()
            assert bool((masks[1:] <= masks[:-1]).all())

    def test_more_lanes_than_documents(self, lazy: CacheDataset) -> None:
        steps = list(refilled(lazy, 40))
        assert len(steps) == int(lazy.documents.num_segments.max())
        assert len(readings(steps)) == 13
        assert steps[0]["num_active"] == 13
        assert steps[-1]["num_active"] == 1

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_iterating_works_as_for_any_generator(self, lazy: CacheDataset, num_workers: int) -> None:
        loader = refilled(lazy, 3, num_workers=num_workers)
        pairs = list(zip(loader, loader, strict=True))
        assert len(pairs) == loader.epoch_size(0).steps
        for one, other in pairs:
            assert_same_tensors(one, other)

    def test_steps_can_be_changed_as_they_come(self, lazy: CacheDataset) -> None:
        expected = list(refilled(lazy, 3))
        for step, wanted in zip(refilled(lazy, 3), expected, strict=True):
            assert_same_tensors(step, wanted)
            for value in step.values():
                if isinstance(value, torch.Tensor):
                    value.zero_()


class TestDropLast:
    @in_quarters
    @given(batch_size=st.integers(1, 6), shuffle=st.booleans(), seed=st.integers(0, 99))
    def test_ends_where_the_first_lane_is_done(
        self, built: Built, quarter: int, batch_size: int, **options: Any
    ) -> None:
        dataset = CacheDataset(built.plain)
        full = list(refilled(dataset, batch_size, **options))
        cut = refilled(dataset, batch_size, drop_last=True, **options)
        steps = list(cut)
        assert len(steps) == sum(step["num_active"] == batch_size for step in full)
        assert_same_steps(steps, full[: len(steps)])
        size = cut.epoch_size(0)
        found = readings(steps)
        assert (size.steps, size.padding, size.segments) == (len(steps), 0, len(steps) * batch_size)
        assert size.documents == len(found)
        if batch_size == 1:
            assert all(one.whole for one in found)


class TestEpochs:
    def test_the_thread_makes_no_difference(self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(StepMaker, "block_rows", 10)
        loaders = [refilled(lazy, 4, shuffle=True, seed=3, num_workers=count) for count in (0, 1, 2)]
        for _ in range(2):
            expected, *others = [list(loader) for loader in loaders]
            for other in others:
                assert_same_steps(other, expected)

    def test_an_epoch_to_its_end_moves_on(self, lazy: CacheDataset) -> None:
        loader, other = refilled(lazy, 4, shuffle=True), refilled(lazy, 4, shuffle=True)
        first, second = list(loader), list(loader)
        assert loader.epoch == 2
        assert [one.example_id for one in readings(first)] != [one.example_id for one in readings(second)]
        other.set_epoch(1)
        assert_same_steps(list(other), second)
        other.set_epoch(0)
        next(iter(other))
        assert other.epoch == 0
        assert_same_steps(list(other), first)

    def test_the_number_of_steps_is_that_of_the_epoch_that_comes_next(self, lazy: CacheDataset) -> None:
        loader = refilled(lazy, 3, shuffle=True, max_segments=[2, 30])
        for epoch in (0, 1, 2):
            assert len(loader) == loader.epoch_size().steps == loader.epoch_size(epoch).steps
            assert len(list(loader)) == loader.epoch_size(epoch).steps
        assert loader.epoch_size(0).steps < loader.epoch_size(1).steps


OPTIONS = [
    {"shuffle": True, "seed": 3},
    {"shuffle": True, "max_segments": [1, 4, 2], "window": "random", "num_workers": 1},
    {"drop_last": True, "shuffle": True},
]


class TestEndless:
    @pytest.mark.parametrize("options", OPTIONS)
    def test_refilled_gives_the_epochs_one_after_the_other(self, lazy: CacheDataset, options: dict[str, Any]) -> None:
        loader = refilled(lazy, 4, **options)
        expected = [step for _ in range(3) for step in loader]
        endless = refilled(lazy, 4, **options)
        assert_same_steps(itertools.islice(endless.endless(), len(expected)), expected)

    @pytest.mark.parametrize("options", OPTIONS)
    def test_aligned_gives_groups(self, lazy: CacheDataset, options: dict[str, Any]) -> None:
        loader = time_major(lazy, 4, **options)
        expected = [(group.number, list(group)) for _ in range(3) for group in loader]
        found = itertools.islice(time_major(lazy, 4, **options).endless(), len(expected))
        for group, (number, steps) in zip(found, expected, strict=True):
            assert isinstance(group, Group)
            assert (group.number, group.first_step) == (number, 0)
            assert_same_steps(group, steps)

    def test_begins_with_the_epoch_that_is_set(self, lazy: CacheDataset) -> None:
        loader, other = refilled(lazy, 2, shuffle=True), refilled(lazy, 2, shuffle=True)
        for one in (loader, other):
            one.set_epoch(3)
        expected = list(other)
        assert_same_steps(itertools.islice(loader.endless(), len(expected)), expected)

    def test_continues_after_a_state(self, lazy: CacheDataset) -> None:
        loader, other = refilled(lazy, 2, shuffle=True), refilled(lazy, 2, shuffle=True)
        expected = list(itertools.islice(loader.endless(), 2 * len(loader) + 20))
        other.set_epoch(1)
        for _ in itertools.islice(other.endless(), 9):
            pass
        again = refilled(lazy, 2, shuffle=True)
        again.load_state_dict(other.state_dict())
        rest = expected[loader.epoch_size(0).steps + 9 :]
        assert_same_steps(itertools.islice(again.endless(), len(rest)), rest)

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_an_epoch_without_steps_is_an_error(self, lazy: CacheDataset, lanes: str) -> None:
        loader = time_major(lazy, 40, drop_last=True, lanes=lanes)
        assert len(loader) == 0
        assert list(loader) == []
        assert loader.epoch == 1
        with pytest.raises(SettingsError, match=r"^drop_last:.*\b336 rows\b"):
            next(loader.endless())


def test_a_short_epoch_is_one_step(lazy: CacheDataset) -> None:
    steps = steps_of(refilled(lazy, 13, max_segments=1))
    assert len(steps) == 1
    assert steps[0]["reset"].all()
    assert steps[0]["is_last"].all()
    assert list(steps[0]["example_ids"]) == list(lazy.get_all_documents())
