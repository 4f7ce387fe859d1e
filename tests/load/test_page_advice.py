"""Pages are asked for where a shuffled cache does not fit in memory, and nowhere else; the steps stay the same."""

import mmap
from typing import Any

import pytest
import torch

from memxlnet.data.qa_datasets import SquadLikeQADataset
from memxlnet.format.mapping import MappedFile
from memxlnet.load import page_advice
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.page_advice import available_memory
from tests.load.helpers import assert_same_steps, steps_of, time_major

TOKENS = ("input_ids", "attention_mask", "token_type_ids")

Asked = list[tuple[int, int, int, str]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The advice that the system was given, while it has less memory than any cache takes."""
    calls: Asked = []
    real = MappedFile.advise

    def noted(mapped: MappedFile, option: int, offset: int, size: int) -> None:
        calls.append((option, offset, size, mapped.path.name))
        real(mapped, option, offset, size)

    monkeypatch.setattr(MappedFile, "advise", noted)
    monkeypatch.setattr(page_advice, "available_memory", lambda: 1000)
    return calls


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("lanes", ["aligned", "refilled"])
def test_the_pages_of_every_row_are_asked_for_before(
    any_dataset: CacheDataset, monkeypatch: pytest.MonkeyPatch, asked: Asked, lanes: str, num_workers: int
) -> None:
    found = list(steps_of(time_major(any_dataset, 3, shuffle=True, lanes=lanes, num_workers=num_workers)))
    columns = [shard.columns[name] for shard in any_dataset.cache.features for name in TOKENS]
    if any_dataset.cache.in_memory or any_dataset.device is not None:
        assert asked == []
    else:
        assert [option for option, *_ in asked[: len(columns)]] == [mmap.MADV_RANDOM] * len(columns)
        assert [size for _, _, size, _ in asked[: len(columns)]] == [column.nbytes for column in columns]
        assert [option for option, *_ in asked[-len(columns) :]] == [mmap.MADV_NORMAL] * len(columns)
        needed = asked[len(columns) : -len(columns)]
        assert {option for option, *_ in needed} == {mmap.MADV_WILLNEED}
        assert len(set(needed)) >= len(TOKENS) * len(any_dataset)
    monkeypatch.setattr(page_advice, "available_memory", lambda: 2**60)
    assert_same_steps(found, list(steps_of(time_major(any_dataset, 3, shuffle=True, lanes=lanes))))


def test_a_cache_in_order_or_one_that_fits_needs_none(
    lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch, asked: Asked
) -> None:
    list(steps_of(time_major(lazy, 3)))
    assert asked == []
    monkeypatch.setattr(page_advice, "available_memory", lambda: lazy.tensors.token_bytes)
    list(steps_of(time_major(lazy, 3, shuffle=True)))
    assert asked == []


def test_leaving_the_loop_takes_the_advice_back(lazy: CacheDataset, asked: Asked) -> None:
    steps: Any = iter(time_major(lazy, 3, shuffle=True, lanes="refilled", num_workers=1))
    next(steps)
    steps.close()
    assert [option for option, *_ in asked[-3:]] == [mmap.MADV_NORMAL] * 3


def test_eager_datasets_have_no_pages(built: Any, asked: Asked) -> None:
    list(steps_of(time_major(SquadLikeQADataset.open(built.plain), 3, shuffle=True)))
    assert asked == []


def test_token_bytes_are_those_of_all_shards(any_dataset: CacheDataset) -> None:
    rows = any_dataset.gather(range(len(any_dataset)))
    assert any_dataset.tensors.token_bytes == sum(rows[name].nbytes for name in TOKENS)


def test_available_memory_is_bounded_by_the_control_group(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < available_memory() < 2**50
    monkeypatch.setattr(page_advice, "_limits", lambda: [2**63, 12345])
    assert available_memory() == 12345


def test_rows_at_the_end_of_a_file_are_within_it(lazy: CacheDataset) -> None:
    lazy.tensors.advise_rows(mmap.MADV_WILLNEED, torch.tensor([0, len(lazy) - 1, len(lazy) - 1]))
