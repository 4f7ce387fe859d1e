"""Batches of rows of similar length, and what epochs of the regular loader cost."""

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import CacheDamagedError, SettingsError
from memxlnet.format.padding import RowWidths
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader
from memxlnet.load.epoch_plan import EpochSize
from memxlnet.load.row_lengths import row_lengths
from memxlnet.load.samplers import EpochSampler, GroupedRows, ShuffledRows
from memxlnet.load.segment_loader import RegularDataLoader
from tests.load.helpers import LENGTH, Built, Gathers
from tests.support import in_quarters

LENGTHS = [3, 9, 2, 2, 9, 5, 40, 41, 1, 7, 7]

# (batch_size, seed, epoch): the batches of rows of the lengths above.
GOLDEN = {
    (2, 0, 0): [[5, 9], [10, 4], [8, 3], [6, 7], [2, 0], [1]],
    (2, 0, 1): [[8, 3], [9, 4], [6, 7], [5, 10], [2, 0], [1]],
    (3, -1, 5): [[0, 5, 10], [9, 4, 7], [8, 2, 3], [1, 6]],
    (20, 0, 0): [[1, 6, 7, 8, 3, 2, 0, 5, 9, 10, 4]],
}


def regular(dataset: CacheDataset, batch_size: int, **options: Any) -> RegularDataLoader:
    loader = create_dataloader(dataset, batch_size, use_time_step_major=False, **options)
    assert isinstance(loader, RegularDataLoader)
    return loader


@pytest.mark.parametrize("arguments", GOLDEN)
def test_batches_stay_what_they_were(arguments: tuple[int, int, int]) -> None:
    size, seed, epoch = arguments
    assert list(GroupedRows(LENGTHS, size, seed).items(epoch)) == GOLDEN[arguments]


@given(st.lists(st.integers(0, 500), max_size=60), st.integers(1, 20), st.integers(0, 9), st.booleans(), st.booleans())
def test_every_row_is_in_one_batch(lengths: list[int], size: int, seed: int, drop_last: bool, shuffle: bool) -> None:
    sampler = GroupedRows(lengths, size, seed, drop_last, shuffle)
    for epoch in range(3):
        assert sampler.epoch == epoch
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert sampler.epoch == epoch + 1 or not batches
        full, rest = divmod(len(lengths), size)
        assert [len(batch) for batch in batches] == [size] * full + [rest] * bool(rest and not drop_last)
        rows = [row for batch in batches for row in batch]
        assert max(Counter(rows).values(), default=1) == 1
        assert drop_last or sorted(rows) == list(range(len(lengths)))
        if not shuffle:
            found = [lengths[row] for row in rows]
            assert found == sorted(found, reverse=True)
        if not batches:
            return


@given(st.integers(0, 60), st.integers(1, 9), st.booleans(), st.lists(st.integers(0, 90), max_size=5).map(sorted))
def test_any_chain_of_stops_equals_the_uninterrupted_stream(
    rows: int, size: int, by_length: bool, stops: list[int]
) -> None:
    def made() -> EpochSampler[Any]:
        return GroupedRows(list(range(rows)), size, 4) if by_length else ShuffledRows(rows, 4)

    def stream(sampler: EpochSampler[Any]) -> Any:
        while len(sampler):
            yield from sampler

    expected = list(itertools.islice(stream(made()), 90))
    found: list[Any] = []
    sampler, iterator = made(), None
    for stop in [*stops, 90]:
        while len(found) < min(stop, len(expected)):
            iterator = iterator or iter(sampler)
            item = next(iterator, None)
            if item is None:
                iterator = None
            else:
                found.append(item)
        state = (iterator or iter(sampler)).state_dict()
        sampler = made()
        iterator = iter(sampler)
        iterator.load_state_dict(state)
    assert found == expected


def test_equal_rows_share_batches_at_random() -> None:
    batches = [sorted(batch) for batch in GroupedRows([7] * 4000, 8)]
    assert sum(batch[-1] - batch[0] < 1000 for batch in batches) < 50


def test_most_of_what_is_computed_on_is_real() -> None:
    lengths = np.random.default_rng(0).normal(190, 60, 6400).clip(20, 384).astype(np.int64)
    batches = list(GroupedRows(lengths, 32))
    assert lengths.sum() / sum(len(batch) * lengths[batch].max() for batch in batches) > 0.97
    other = GroupedRows(lengths, 32)
    other.set_epoch(1)
    pairs = [
        {pair for batch in one for pair in itertools.combinations(sorted(batch), 2)} for one in (batches, list(other))
    ]
    assert len(pairs[0] & pairs[1]) < len(pairs[0]) / 3


@pytest.mark.parametrize("kind", ["plain", "sharded", "memory"])
def test_lengths_are_those_of_the_attention(built: Built, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = CacheDataset(getattr(built, kind))
    expected = dataset.gather(range(len(dataset)))["attention_mask"].sum(dim=1).tolist()
    gathers = Gathers(monkeypatch)
    sampler = GroupedRows(dataset, 4)
    last = dataset.document_map.last_tokens
    assert gathers.tokens == []
    assert sampler.lengths.tolist() == expected
    assert [last.dtype, sampler.lengths.dtype] == [np.int32, np.int32]
    assert last.tolist() == [expected[dataset.document_map[name][-1]] for name in dataset.get_all_documents()]
    # What the plans of epochs rest on: only the last row of a document is not full.
    full = {row for name in dataset.get_all_documents() for row in dataset.document_map[name][:-1]}
    assert len(full) > 100
    assert {expected[row] for row in full} == {LENGTH}
    # The given lengths, whatever holds them, give the same batches.
    for lengths in (expected, np.array(expected, np.uint8), torch.tensor(expected), tuple(expected)):
        assert list(GroupedRows(lengths, 4)) == list(GroupedRows(dataset, 4))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([1], 0), "batch_size"),
        (([1], 2.0), "batch_size"),
        (([1], 1, None), "seed"),
        (([1], 1, 0, 1), "drop_last"),
        (([1], 1, 0, False, "yes"), "shuffle"),
        ((None, 1), "rows"),
        (("abc", 1), "rows"),
        ((5, 1), "rows"),
        (([[1]], 1), "rows"),
        (([[1], [2, 3]], 1), "rows"),
        (([1.5], 1), "rows"),
        (([True], 1), "rows"),
        (([-1], 1), "rows"),
        (([2**31], 1), "rows"),
    ],
)
def test_bad_arguments_fail_at_once(arguments: Any, name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}:"):
        GroupedRows(*arguments)


def test_rows_that_cannot_be_so_long_are_damage(built: Built) -> None:
    dataset = CacheDataset(built.plain)
    column: Any = dataset.column("context_row_start")
    column[5] = LENGTH + 9
    with pytest.raises(CacheDamagedError, match=rf"\brow 5:.*\b{LENGTH}\b.*-"):
        row_lengths(dataset.cache)


@in_quarters
@given(
    batch_size=st.integers(1, 40),
    multiple=st.none() | st.integers(1, LENGTH),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    group_by_length=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_the_size_of_an_epoch_is_what_an_iteration_gives(
    built: Built, quarter: int, batch_size: int, multiple: int | None, epoch: int, **options: Any
) -> None:
    dataset = CacheDataset(built.sharded)
    loader = regular(dataset, batch_size, **options)
    loader.set_epoch(epoch)
    size = loader.epoch_size()
    batches = list(loader)
    rows = sum(len(batch["rows"]) for batch in batches)
    lengths = [batch["attention_mask"].sum(dim=1) for batch in batches]
    real = sum(int(one.sum()) for one in lengths)
    begun = sum(int((batch["segment_index"] == 0).sum()) for batch in batches)
    assert size == EpochSize(begun, rows, 0, len(batches), rows * LENGTH, real)
    assert loader.epoch_size(epoch) == size
    widths = RowWidths(dataset.manifest.layout, LENGTH, "longest", multiple)
    collate: Any = loader.collate_fn
    collate.widths = widths
    tokens = sum(len(one) * widths.width(int(one.max())) for one in lengths)
    assert loader.epoch_size(epoch) == size._replace(tokens=tokens)


def test_the_loader_reads_the_batches_of_the_sampler(lazy: CacheDataset) -> None:
    loader = regular(lazy, 40, shuffle=True, seed=3, group_by_length=True)
    for epoch in range(2):
        assert [batch["rows"].tolist() for batch in loader] == list(GroupedRows(lazy, 40, 3).items(epoch))
    loader.set_epoch(0)
    assert [batch["rows"].tolist() for batch in loader] == list(GroupedRows(lazy, 40, 3).items(0))
