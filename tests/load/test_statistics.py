"""What recurrence finds in a cache, against counting its rows one by one."""

import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from memxlnet.load import statistics as module
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader
from memxlnet.load.statistics import GROUP_SIZES, CacheStatistics, PaddingShares, UsefulShares, read_statistics
from tests.load.helpers import Built, random_examples, sample_tokenizer, steps_of, time_major
from tests.support import SQUAD, build, example, long_examples, slow

FEW = (1, 3)
"""Sizes of groups where others would show nothing new."""


def counted(dataset: CacheDataset, group_sizes: Sequence[int] = GROUP_SIZES) -> CacheStatistics:
    """The same from the rows of the dataset and the sizes of its loaders."""
    items = dataset[:]
    segments = Counter(item["example_id"] for item in items)
    first: dict[str, int] = {}
    for item in items:
        if item["has_answer_in_segment"]:
            first.setdefault(item["example_id"], item["segment_index"])
    with_answer = {item["example_id"] for item in items if item["has_answer"]}
    masks = dataset.gather(slice(None), ["attention_mask", "context_token_count"])
    return CacheStatistics(
        documents=len(segments),
        segments=len(items),
        max_seq_length=len(items[0]["input_ids"]),
        segments_per_document=dict(sorted(Counter(segments.values()).items())),
        answer_time_steps=dict(sorted(Counter(first.values()).items())),
        without_answer_segment=len(with_answer - first.keys()),
        padding={size: padding(dataset, size) for size in group_sizes},
        useful={size: useful(dataset, size) for size in group_sizes},
        tokens=int(masks["attention_mask"].sum()),
        context_tokens=int(masks["context_token_count"].sum()),
    )


def padding(dataset: CacheDataset, size: int) -> PaddingShares:
    kinds: list[dict[str, Any]] = [{}, {"group_by_length": True}, {"lanes": "refilled"}]
    sizes = [time_major(dataset, size, shuffle=True, seed=0, **options).epoch_size(0) for options in kinds]
    assert {size.segments for size in sizes} == {len(dataset)}
    return PaddingShares(*(size.padding / (size.padding + size.segments) for size in sizes))


def useful(dataset: CacheDataset, size: int) -> UsefulShares:
    """The same, counted in the steps and batches themselves."""

    def share(way: str) -> float:
        kind, _, is_grouped = way.partition("_")
        lanes: dict[str, Any] = {"use_time_step_major": False} if kind == "regular" else {"lanes": kind}
        options = {**lanes, "group_by_length": bool(is_grouped), "padding": "longest", "pad_to_multiple_of": 8}
        steps = steps_of(create_dataloader(dataset, size, True, **options))
        real = sum(int(step["attention_mask"][step.get("document_mask", slice(None))].sum()) for step in steps)
        return real / sum(int(step["input_ids"].numel()) for step in steps)

    return UsefulShares(**{field.name: share(field.name) for field in fields(UsefulShares)})


@pytest.mark.parametrize("kind", ["sharded", slow("plain"), slow("memory")])
def test_it_is_what_the_rows_and_the_loaders_give(built: Built, kind: str) -> None:
    dataset = CacheDataset(getattr(built, kind))
    found = read_statistics(dataset.cache)
    assert found == counted(dataset)
    assert list(found.segments_per_document) == sorted(found.segments_per_document)
    assert found.without_answer_segment == 0
    assert len(found.answer_time_steps) > 3
    steps = steps_of(time_major(dataset, 3, metadata=["context_mask"]))
    assert found.context_tokens == sum(int(step["context_mask"].sum()) for step in steps)


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("kind", ["plain", "sharded"])
def test_it_does_not_depend_on_the_blocks_that_are_read(
    built: Built, monkeypatch: pytest.MonkeyPatch, kind: str, size: int
) -> None:
    dataset = CacheDataset(getattr(built, kind))
    expected = read_statistics(dataset.cache, [])
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", size)
    assert read_statistics(dataset.cache, []) == expected


@pytest.mark.slow
@given(random_examples())
@settings(max_examples=25)
def test_any_cache(examples: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = build(examples, sample_tokenizer(), Path(folder), max_seq_length=32, doc_stride=4)
        assert read_statistics(dataset.cache, FEW) == counted(dataset, FEW)


def test_answers_that_no_segment_holds_whole(tokenizer: Any, tmp_path: Path) -> None:
    context = " ".join(f"word{number}" for number in range(200))
    long_answer = context[50:900]
    rows = [example(context, answers=[(long_answer, 50)], id="long"), *long_examples(4)]
    dataset = build(rows, tokenizer, tmp_path)
    found = read_statistics(dataset.cache, FEW)
    assert found == counted(dataset, FEW)
    assert found.without_answer_segment == 1
    assert sum(found.answer_time_steps.values()) == 3


def test_segments_that_are_cut_off(tokenizer: Any, tmp_path: Path) -> None:
    dataset = build(long_examples(9), tokenizer, tmp_path, max_n_segs=2)
    found = read_statistics(dataset.cache, FEW)
    assert found == counted(dataset, FEW)
    assert found.segments_per_document == {2: 9}
    assert (found.without_answer_segment, found.answer_time_steps) == (6, {})


def test_a_cache_without_answers(tokenizer: Any, tmp_path: Path) -> None:
    dataset = build([example("Some context. " * 30, id=str(number)) for number in range(5)], tokenizer, tmp_path)
    found = read_statistics(dataset.cache, FEW)
    assert found == counted(dataset, FEW)
    assert (found.answer_time_steps, found.without_answer_segment) == ({}, 0)
    assert found.answers_past(0) == 0


def test_one_document_of_one_segment(tokenizer: Any, tmp_path: Path) -> None:
    dataset = build([example("Short.", answers=[("Short", 0)])], tokenizer, tmp_path)
    found = read_statistics(dataset.cache)
    assert found == counted(dataset)
    assert found.recurrent_share == 0
    assert found.answer_time_steps == {0: 1}
    # One document leaves all other lanes of a group empty; documents are at most as many lanes as there are.
    assert [shares.aligned for shares in found.padding.values()] == [0.0] * len(GROUP_SIZES)


def test_answers_past_a_step(built: Built) -> None:
    dataset = CacheDataset(built.plain)
    found = read_statistics(dataset.cache, [])
    places = [place for place, count in found.answer_time_steps.items() for _ in range(count)]
    for step in range(-1, max(places) + 2):
        expected = sum(place > step for place in places) / len(places)
        assert math.isclose(found.answers_past(step), expected)
    assert (found.answers_past(-1), found.answers_past(max(places))) == (1, 0)


def test_shares_and_products() -> None:
    made = CacheStatistics(10, 25, 7, {1: 4, 2: 3, 5: 3}, {0: 3, 4: 1}, 0, {}, {}, 100, 50)
    assert made.recurrent_share == 0.6
    assert made.row_tokens == 175
    assert made.answers_past(0) == made.answers_past(3) == 0.25
    assert CacheStatistics(2, 4, 7, {2: 2}, {}, 0, {}, {}, 9, 9).recurrent_share == 1


@pytest.mark.slow
@pytest.mark.real_data
def test_real_data(xlnet: Any, tmp_path: Path) -> None:
    dataset = build(SQUAD, xlnet, tmp_path, max_seq_length=192, doc_stride=64, max_examples=1500)
    found = read_statistics(dataset.cache, (8,))
    assert found == counted(dataset, (8,))
    assert 0 < found.recurrent_share < 1
