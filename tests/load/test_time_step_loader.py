import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import RowIndexError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.document_group import Group
from memxlnet.load.seeded_random import shuffled
from memxlnet.load.steps import StepMaker
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from tests.load.helpers import (
    DTYPES,
    LENGTH,
    MODEL_KEYS,
    STEP_KEYS,
    Built,
    assert_same_steps,
    assert_same_tensors,
    bert_tokenizer,
    readings,
    sample_tokenizer,
    time_major,
)
from tests.support import build, example, in_quarters
from tests.test_background import threads


def all_groups(loader: TimeStepMajorDataLoader) -> list[list[dict[str, Any]]]:
    return [list(group) for group in loader]


def document_order(loader: TimeStepMajorDataLoader) -> list[str]:
    return [name for group in loader for name in group.example_ids]


class TestLanes:
    @in_quarters
    @given(
        kind=st.sampled_from(["plain", "sharded", "memory"]),
        batch_size=st.integers(1, 16),
        shuffle=st.booleans(),
        seed=st.integers(-(2**64), 2**64),
        epoch=st.integers(0, 5),
        drop_last=st.booleans(),
        num_workers=st.integers(0, 2),
    )
    def test_reproduce_each_document_in_order_and_once(
        self, built: Built, quarter: int, kind: str, batch_size: int, seed: int, epoch: int, **options: Any
    ) -> None:
        dataset = CacheDataset(getattr(built, kind))
        loader = time_major(dataset, batch_size, seed=seed, **options)
        loader.set_epoch(epoch)
        ids = [one["id"] for one in built.examples]
        order = shuffled(len(ids), seed, epoch).tolist() if options["shuffle"] else range(len(ids))
        wanted = [ids[document] for document in order]
        if options["drop_last"]:
            wanted = wanted[: len(wanted) // batch_size * batch_size]
        seen: list[str] = []
        groups = list(loader)
        assert len(groups) == len(loader)
        for group in groups:
            lanes = list(group.example_ids)
            assert len(lanes) == min(batch_size, len(wanted) - len(seen))
            rows = torch.stack([step["rows"] for step in group]).T.tolist()
            for name, lane in zip(lanes, rows, strict=True):
                expected = dataset.get_document_segments(name)
                assert lane == expected + [-1] * (len(group) - len(expected))
            assert all(step["example_ids"] == lanes for step in group)
            assert len(group) == max(len(dataset.document_map[name]) for name in lanes)
            assert all(one.whole and one.segment == 0 for one in readings(group))
            seen += lanes
        assert seen == wanted

    def test_the_shortest_document_may_stand_anywhere(self, lazy: CacheDataset) -> None:
        """The earlier loader moved the rows of a batch up when its first document ended first."""
        group = next(iter(time_major(lazy, 4)))
        counts = [len(lazy.document_map[name]) for name in group.example_ids]
        assert counts[0] < min(counts[1:3])
        assert [step["document_mask"].tolist() for step in group] == [
            [index < count for count in counts] for index in range(max(counts))
        ]
        last = group[-1]
        alive = counts.index(max(counts))
        expected = lazy[lazy.get_document_segments(group.example_ids[alive])[-1]]
        assert torch.equal(last["input_ids"][alive], expected["input_ids"].long())


class TestSteps:
    @pytest.mark.parametrize("dtype", ["int64", "stored"])
    @pytest.mark.parametrize("kind", ["plain", "sharded", "memory"])
    @pytest.mark.parametrize("ended_label", ["ignore", "cls"])
    def test_content(self, built: Built, kind: str, dtype: str, ended_label: str) -> None:
        dataset = CacheDataset(getattr(built, kind))
        pad = sample_tokenizer()
        ended = {
            "input_ids": [pad.pad_token_id] * LENGTH,
            "attention_mask": [0] * (LENGTH - 1) + [1],
            "token_type_ids": [pad.pad_token_type_id] * LENGTH,
            "start_positions": LENGTH if ended_label == "ignore" else LENGTH - 1,
            "end_positions": LENGTH if ended_label == "ignore" else LENGTH - 1,
            "cls_index": LENGTH - 1,
            "mem_read_start": -1,
            "mem_write_start": -1,
            "segment_index": -1,
            "rows": -1,
            "document_mask": False,
            "reset": False,
            "is_last": False,
        }
        flags = {"document_mask", "reset", "is_last"}
        lane_keys = STEP_KEYS - {"example_ids", "num_active"}
        seen_ended = 0
        for group in time_major(dataset, 5, dtype=dtype, ended_label=ended_label):
            for place, step in enumerate(group):
                assert set(step) == STEP_KEYS
                for name in MODEL_KEYS:
                    assert step[name].dtype == (DTYPES[name] if dtype == "stored" else torch.int64)
                for name in lane_keys - {*MODEL_KEYS, *flags}:
                    assert step[name].dtype == torch.int64
                assert {step[name].dtype for name in flags} == {torch.bool}
                assert type(step["num_active"]) is int
                assert step["num_active"] == int(step["document_mask"].sum())
                for lane, name in enumerate(step["example_ids"]):
                    found = {key: step[key][lane].tolist() for key in lane_keys}
                    if not found["document_mask"]:
                        seen_ended += 1
                        assert found == ended
                        continue
                    item = dataset[found["rows"]]
                    assert (item["example_id"], item["segment_index"]) == (name, place)
                    assert found["reset"] == (place == 0)
                    assert found["is_last"] == (place == item["total_segments"] - 1)
                    for key in lane_keys - {"rows", *flags}:
                        wanted = item[key].tolist() if isinstance(item[key], torch.Tensor) else item[key]
                        assert found[key] == wanted, key
        assert seen_ended > 20

    def test_question_first_layout_ends_on_its_first_token(self, tmp_path: Path) -> None:
        examples = [example("a b c " * count, "what", id=str(count)) for count in (1, 30)]
        dataset = build(examples, bert_tokenizer(), tmp_path, max_seq_length=24, doc_stride=4)
        step = next(iter(time_major(dataset, 2, ended_label="cls")))[-1]
        assert step["document_mask"].tolist() == [False, True]
        assert step["input_ids"][0].tolist() == [0] * 24
        assert step["attention_mask"][0].tolist() == [1] + [0] * 23
        assert [int(step[name][0]) for name in ("cls_index", "start_positions", "end_positions")] == [0, 0, 0]
        assert int(step["cls_index"][1]) == 0

    def test_are_fresh_tensors(self, lazy: CacheDataset) -> None:
        before = lazy[0]["input_ids"].clone()
        for dtype in ("int64", "stored"):
            for step in next(iter(time_major(lazy, 3, dtype=dtype))):
                for name in MODEL_KEYS:
                    step[name].zero_()
        assert torch.equal(lazy[0]["input_ids"], before)

    def test_are_dictionaries_of_their_own(self, lazy: CacheDataset) -> None:
        group = next(iter(time_major(lazy, 3)))
        first = group[0]
        rows = first.pop("rows")
        first["loss"] = 0.5
        assert set(group[0]) == STEP_KEYS
        assert torch.equal(group[0]["rows"], rows)

    def test_reading_leaves_the_dataset_as_it_was(self, lazy: CacheDataset) -> None:
        before = lazy.gather(slice(None))
        all_groups(time_major(lazy, 4, dtype="stored", ended_label="cls"))
        assert_same_tensors(lazy.gather(slice(None)), before)


class TestSizes:
    @pytest.mark.parametrize(
        ("batch_size", "drop_last", "sizes"),
        [
            (1, False, [1] * 13),
            (5, False, [5, 5, 3]),
            (5, True, [5, 5]),
            (13, True, [13]),
            (14, False, [13]),
            (1000, False, [13]),
            (14, True, []),
        ],
    )
    def test_groups(self, lazy: CacheDataset, batch_size: int, drop_last: bool, sizes: list[int]) -> None:
        loader = time_major(lazy, batch_size, drop_last=drop_last)
        assert len(loader) == len(sizes)
        for num_workers in (0, 1):
            loader = time_major(lazy, batch_size, drop_last=drop_last, num_workers=num_workers)
            groups = list(loader)
            assert [len(group.example_ids) for group in groups] == sizes
            assert all(len(step["rows"]) == size for group, size in zip(groups, sizes, strict=True) for step in group)


class TestGroup:
    def test_is_a_sequence_of_steps(self, lazy: CacheDataset) -> None:
        group = next(iter(time_major(lazy, 5)))
        steps = list(group)
        assert isinstance(group, Group)
        assert len(group) == len(steps)
        for index in (0, 3, -1, -len(steps)):
            assert_same_tensors(group[index], steps[index])
        assert [step["rows"].tolist() for step in group[1:7:2]] == [step["rows"].tolist() for step in steps[1:7:2]]
        for index in (len(steps), -len(steps) - 1):
            with pytest.raises(RowIndexError, match=rf"^step {index}:.*\b{len(steps) - 1}$"):
                group[index]

    @in_quarters
    @given(data=st.data())
    def test_steps_in_any_order_are_equal_with_and_without_the_thread(
        self, built: Built, quarter: int, data: st.DataObject
    ) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StepMaker, "block_rows", 8)
            dataset = CacheDataset(built.plain)
            expected = all_groups(time_major(dataset, 3))
            for number, group in enumerate(time_major(dataset, 3, num_workers=1)):
                for index in data.draw(st.lists(st.integers(-len(group), len(group) - 1), max_size=6)):
                    assert_same_tensors(group[index], expected[number][index])

    def test_groups_stay_usable_when_the_loop_is_over(self, lazy: CacheDataset) -> None:
        expected = all_groups(time_major(lazy, 4))
        groups = list(time_major(lazy, 4, num_workers=1))
        assert not threads()
        for group, steps in reversed(list(zip(groups, expected, strict=True))):
            for index in reversed(range(len(steps))):
                assert_same_tensors(group[index], steps[index])

    def test_skipped_groups_and_steps_are_no_hindrance(
        self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(StepMaker, "block_rows", 6)
        expected = all_groups(time_major(lazy, 2))
        for number, group in enumerate(time_major(lazy, 2, num_workers=1)):
            if number % 3 == 1:
                assert_same_tensors(group[-1], expected[number][-1])
                assert_same_tensors(group[0], expected[number][0])


class TestEpochs:
    def test_workers_make_no_difference(self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(StepMaker, "block_rows", 10)
        loaders = [time_major(lazy, 4, shuffle=True, seed=3, num_workers=count) for count in (0, 1, 2)]
        for _ in range(2):
            expected, *others = [all_groups(loader) for loader in loaders]
            for other in others:
                assert list(map(len, other)) == list(map(len, expected))
                assert_same_steps(itertools.chain(*other), itertools.chain(*expected))

    def test_an_epoch_to_its_end_moves_on(self, lazy: CacheDataset) -> None:
        loader = time_major(lazy, 4, shuffle=True, seed=9)
        orders = [document_order(loader) for _ in range(3)]
        assert loader.epoch == 3
        ids = list(lazy.get_all_documents())
        assert orders == [[ids[place] for place in shuffled(13, 9, epoch)] for epoch in range(3)]
        assert len({tuple(order) for order in orders}) == 3

    def test_a_broken_epoch_is_read_again(self, lazy: CacheDataset) -> None:
        loader = time_major(lazy, 4, shuffle=True)
        first = list(next(iter(loader)).example_ids)
        assert loader.epoch == 0
        assert document_order(loader)[:4] == first

    def test_set_epoch(self, lazy: CacheDataset) -> None:
        loader, other = (time_major(lazy, 4, shuffle=True, seed=2) for _ in range(2))
        document_order(other)
        loader.set_epoch(1)
        assert document_order(loader) == document_order(other)
        loader.set_epoch(0)
        assert document_order(loader) == document_order(time_major(lazy, 4, shuffle=True, seed=2))

    def test_set_epoch_during_an_epoch_is_kept(self, lazy: CacheDataset) -> None:
        loader = time_major(lazy, 4, shuffle=True)
        for _ in loader:
            loader.set_epoch(7)
        assert loader.epoch == 7

    def test_seeds_differ(self, lazy: CacheDataset) -> None:
        orders = {tuple(document_order(time_major(lazy, 4, shuffle=True, seed=seed))) for seed in range(10)}
        assert len(orders) == 10

    def test_without_shuffle_every_epoch_is_the_order_of_the_source(self, lazy: CacheDataset) -> None:
        loader = time_major(lazy, 4)
        assert document_order(loader) == document_order(loader) == list(lazy.get_all_documents())

    def test_two_iterations_at_once(self, lazy: CacheDataset) -> None:
        loader = time_major(lazy, 4, shuffle=True, num_workers=1)
        pairs = list(zip(loader, loader, strict=True))
        assert len(pairs) == len(loader)
        for one, other in pairs:
            assert_same_steps(one, other)
        assert not threads()

    def test_global_generators_are_left_alone(self, lazy: CacheDataset) -> None:
        def states() -> tuple[Any, list[int], list[int]]:
            numpy_state: Any = np.random.get_state()
            return random.getstate(), numpy_state[1].tolist(), torch.get_rng_state().tolist()

        before = states()
        all_groups(time_major(lazy, 4, shuffle=True, num_workers=1))
        assert states() == before
