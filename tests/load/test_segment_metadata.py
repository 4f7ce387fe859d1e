"""What steps and batches hold beside the model's tensors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.errors import SettingsError
from memxlnet.load.cache_dataset import BATCH_COLUMNS, CacheDataset
from memxlnet.load.collate import Collate
from memxlnet.load.create import create_dataloader
from memxlnet.load.segment_metadata import METADATA, METADATA_NAMES
from memxlnet.load.steps import StepMaker
from tests.load.helpers import (
    LENGTH,
    MEMORY,
    OVERLAP,
    STEP_KEYS,
    Built,
    assert_same_steps,
    bert_tokenizer,
    plain,
    plain_row,
    sample_tokenizer,
    steps_of,
    time_major,
)
from tests.support import build, example, in_quarters

BATCH_KEYS = {*BATCH_COLUMNS, "rows"}


def regular(dataset: CacheDataset, batch_size: int, **options: Any) -> "DataLoader[Any]":
    loader = create_dataloader(dataset, batch_size, use_time_step_major=False, **options)
    assert isinstance(loader, DataLoader)
    return loader


def context_by_oracle(tokenizer: Any, examples: Sequence[Any], length: int, overlap: int) -> list[list[bool]]:
    """For each row the tokens of the context, as transformers' own pair call gives its sequences."""
    masks: list[list[bool]] = []
    left = tokenizer.padding_side == "left"
    for one in examples:
        texts = (one["context"], one["question"]) if left else (one["question"], one["context"])
        encoded = tokenizer(
            *texts,
            max_length=length,
            stride=overlap,
            truncation="only_first" if left else "only_second",
            padding="max_length",
            return_overflowing_tokens=True,
        )
        side = 0 if left else 1
        masks += [[found == side for found in encoded.sequence_ids(row)] for row in range(len(encoded["input_ids"]))]
    return masks


@pytest.fixture(scope="module")
def masks(built: Built) -> torch.Tensor:
    return torch.tensor(context_by_oracle(sample_tokenizer(), built.examples, LENGTH, OVERLAP))


def assert_metadata(dataset: CacheDataset, found: Any, names: Sequence[str]) -> None:
    """Each list has one entry for each lane: that of the dataset's row, or None."""
    rows = found["rows"].tolist()
    for name in names:
        assert type(found[name]) is list
        assert [plain(value) for value in found[name]] == [
            None if row < 0 else plain(dataset[row][name]) for row in rows
        ], name


class TestSteps:
    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    @pytest.mark.parametrize("kind", ["plain", "sharded", "memory"])
    def test_hold_everything_there_is(self, built: Built, kind: str, lanes: str) -> None:
        dataset = CacheDataset(getattr(built, kind))
        steps = steps_of(time_major(dataset, 5, metadata=True, lanes=lanes))
        assert any(step["num_active"] < 5 for step in steps)
        for step in steps:
            assert step.keys() == {*STEP_KEYS, *METADATA_NAMES}
            assert_metadata(dataset, step, METADATA)
            assert step["context_mask"].dtype == torch.bool
            assert step["context_mask"].shape == step["input_ids"].shape
            found = dataset.metadata(step["rows"])
            for name in METADATA:
                assert [one and plain(one[name]) for one in found] == [plain(value) for value in step[name]]

    @in_quarters
    @given(
        names=st.lists(st.sampled_from(METADATA_NAMES), max_size=4),
        lanes=st.sampled_from(["aligned", "refilled"]),
        batch_size=st.integers(1, 7),
        num_workers=st.integers(0, 1),
        shuffle=st.booleans(),
        block_rows=st.integers(1, 50),
        dtype=st.sampled_from(["int64", "stored"]),
    )
    def test_hold_what_is_named_beside_the_same_tensors(
        self, built: Built, quarter: int, names: list[str], batch_size: int, block_rows: int, **options: Any
    ) -> None:
        dataset = CacheDataset(built.plain)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StepMaker, "block_rows", block_rows)
            steps = steps_of(time_major(dataset, batch_size, metadata=iter(names), **options))
        bare = steps_of(time_major(dataset, batch_size, **options))
        for step in steps:
            assert step.keys() == {*STEP_KEYS, *names}
        assert_same_steps([{name: step[name] for name in bare[0]} for step in steps], bare)
        for step in steps[:: max(len(steps) // 5, 1)]:
            assert_metadata(dataset, step, [name for name in set(names) if name != "context_mask"])

    def test_none_is_the_default(self, lazy: CacheDataset) -> None:
        for options in ({}, {"metadata": False}, {"metadata": ()}):
            assert set(steps_of(time_major(lazy, 8, **options))[0]) == STEP_KEYS

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_each_group_that_is_read_again_has_them(self, lazy: CacheDataset, num_workers: int) -> None:
        for group in time_major(lazy, 4, num_workers=num_workers, metadata=["question"]):
            for index in (-1, 0):
                assert_metadata(lazy, group[index], ["question"])


class TestContextMask:
    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    @pytest.mark.parametrize("kind", ["plain", "sharded"])
    def test_is_the_sequence_of_the_context(self, built: Built, masks: torch.Tensor, kind: str, lanes: str) -> None:
        dataset = CacheDataset(getattr(built, kind))
        assert masks.shape == (len(dataset), LENGTH)
        assert 0 < int(masks.sum()) < masks.numel()
        ended = 0
        for step in steps_of(time_major(dataset, 5, metadata=["context_mask"], lanes=lanes)):
            active = step["document_mask"]
            assert torch.equal(step["context_mask"][active], masks[step["rows"][active]])
            assert not step["context_mask"][~active].any()
            ended += int((~active).sum())
        assert ended > 10

    def test_covers_the_tokens_with_offsets_of_the_context(self, lazy: CacheDataset) -> None:
        """The question has offsets too, but the places of a context's tokens are those of its text."""
        for step in steps_of(time_major(lazy, 5, metadata=True, max_segments=2)):
            for mask, offsets, context, ids in zip(
                step["context_mask"], step["offset_mapping"], step["context"], step["input_ids"], strict=True
            ):
                if context is None:
                    assert not mask.any()
                    continue
                places = mask.nonzero().flatten().tolist()
                assert places == list(range(places[0], places[-1] + 1))
                assert all(0 <= start <= stop <= len(context) for start, stop in offsets[places].tolist())
                assert offsets[places][:, 1].max() > 0
                assert sample_tokenizer_ids().isdisjoint(ids[mask].tolist())

    def test_memory_tokens_are_no_context(self, built: Built, masks: torch.Tensor) -> None:
        dataset = CacheDataset(built.memory)
        memory = {token for ids in built.memory_ids.values() for token in ids}
        tokenizer = sample_tokenizer()
        configure_memory_tokens(tokenizer, MEMORY)
        wanted = torch.tensor(context_by_oracle(tokenizer, built.examples, LENGTH - 2 * MEMORY, OVERLAP))
        for step in steps_of(time_major(dataset, 5, metadata=["context_mask"])):
            active = step["document_mask"]
            assert memory.isdisjoint(step["input_ids"][active][step["context_mask"][active]].tolist())
            assert torch.equal(step["context_mask"][active].sum(1), wanted[step["rows"][active]].sum(1))
            assert not step["context_mask"][~active].any()

    def test_question_first_layout(self, tmp_path: Path) -> None:
        examples = [example("a b c d " * count, "what e", id=str(count)) for count in (1, 9, 30)]
        dataset = build(examples, bert_tokenizer(), tmp_path, max_seq_length=32, doc_stride=5)
        wanted = torch.tensor(context_by_oracle(bert_tokenizer(), examples, 32, 5))
        for step in steps_of(time_major(dataset, 3, metadata=["context_mask"])):
            active = step["document_mask"]
            assert torch.equal(step["context_mask"][active], wanted[step["rows"][active]])
            assert not step["context_mask"][~active].any()


def sample_tokenizer_ids() -> set[int]:
    return set(sample_tokenizer().all_special_ids) - {sample_tokenizer().unk_token_id}


class TestBatches:
    @pytest.mark.parametrize("kind", ["plain", "sharded", "memory"])
    def test_hold_everything_there_is(self, built: Built, kind: str) -> None:
        dataset = CacheDataset(getattr(built, kind))
        for batch in regular(dataset, 50, metadata=True, shuffle=True):
            assert batch.keys() == {*BATCH_KEYS, *METADATA_NAMES}
            assert_metadata(dataset, batch, METADATA)
            places = dataset.gather(batch["rows"], ["context_row_start", "context_token_count"])
            begin, count = (column[:, None] for column in places.values())
            token = torch.arange(LENGTH)
            assert torch.equal(batch["context_mask"], (token >= begin) & (token < begin + count))

    def test_the_mask_is_the_sequence_of_the_context(self, lazy: CacheDataset, masks: torch.Tensor) -> None:
        for batch in regular(lazy, 50, metadata=["context_mask"], dtype="stored"):
            assert batch.keys() == {*BATCH_KEYS, "context_mask"}
            assert batch["context_mask"].dtype == torch.bool
            assert torch.equal(batch["context_mask"], masks[batch["rows"]])

    @pytest.mark.parametrize("names", [["context"], ("has_answer", "total_segments"), {"offset_mapping"}])
    def test_hold_what_is_named(self, lazy: CacheDataset, names: Any) -> None:
        bare = list(regular(lazy, 100))
        for batch, wanted in zip(regular(lazy, 100, metadata=names), bare, strict=True):
            assert batch.keys() == {*BATCH_KEYS, *names}
            assert_metadata(lazy, batch, list(names))
            assert all(torch.equal(batch[name], wanted[name]) for name in wanted)

    def test_none_is_the_default(self, lazy: CacheDataset) -> None:
        assert set(next(iter(regular(lazy, 8)))) == BATCH_KEYS

    @pytest.mark.slow
    def test_spawned_worker_processes_carry_them(self, lazy: CacheDataset) -> None:
        expected = list(regular(lazy, 120, metadata=True, shuffle=True, seed=1))
        loader = regular(lazy, 120, metadata=True, shuffle=True, seed=1, num_workers=2, multiprocessing_context="spawn")
        assert_same_steps(loader, expected)
        assert len(expected) == 3

    def test_rows_that_were_collated_elsewhere_need_their_numbers(self, lazy: CacheDataset) -> None:
        collate = Collate("int64", lazy, ["context"])
        rows = list(lazy.__getitems__([3, 40]))
        assert collate(rows)["context"] == [lazy[3]["context"], lazy[40]["context"]]
        without = [{name: row[name] for name in row if name != "rows"} for row in rows]
        with pytest.raises(SettingsError, match=r"^metadata:.*'rows'.*\binput_ids\b"):
            collate(without)


class TestNames:
    @pytest.mark.parametrize("time_step_major", [True, False])
    @pytest.mark.parametrize("name", ["labels", "example_id", "input_ids", "", None, 3])
    def test_others_are_refused_with_a_list_of_all(self, lazy: CacheDataset, time_step_major: bool, name: Any) -> None:
        with pytest.raises(SettingsError, match=f"^metadata:.*{name!r}$") as caught:
            create_dataloader(lazy, metadata=["context", name], use_time_step_major=time_step_major)
        assert all(known in str(caught.value) for known in METADATA_NAMES)

    def test_are_those_of_the_items(self, lazy: CacheDataset) -> None:
        assert set(METADATA) <= lazy[0].keys()
        assert set(METADATA).isdisjoint(STEP_KEYS)
        assert plain_row(lazy[0]).keys() - {*METADATA, *STEP_KEYS} == {"example_id"}
