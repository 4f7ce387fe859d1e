"""What the collector finds, against every pair of every row: layouts, shards, orders, batches, ranks."""

import pickle
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import XLNetConfig, XLNetForQuestionAnsweringSimple

from memxlnet import model_inputs
from memxlnet.errors import CacheMismatchError, SettingsError
from memxlnet.evaluate.collector import AnswerCollector
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_evaluation_dataloader
from tests.evaluate.helpers import (
    Place,
    assert_predicted,
    collected,
    expected_of,
    places,
    random_logits,
    texts,
)
from tests.load.helpers import steps_of
from tests.styles import make
from tests.support import build, in_quarters, slow


@pytest.fixture(scope="module")
def found_places(dataset: CacheDataset) -> list[Place]:
    return places(dataset)


@pytest.mark.parametrize("memory_tokens", [slow(0), 2])
@pytest.mark.parametrize("style", ["xlnet", "xlnet-padded-right", "bert-cased", "bert-padded-left", "roberta"])
def test_every_layout(style: str, memory_tokens: int, tmp_path: Path) -> None:
    built = build(texts((22, 2, 9, 1)), make(style, memory_tokens), tmp_path, max_seq_length=52, doc_stride=12)
    assert max(built.documents.num_segments) > 2
    assert built.manifest.layout.num_memory_tokens == memory_tokens
    logits = random_logits(built)
    expected = expected_of(places(built), *logits, 5, 8)
    collector = collected(built, *logits, n_best=5, max_answer_length=8)
    assert_predicted(collector.predictions(), expected, 0.0)


@in_quarters
@given(
    st.integers(0, 2**32),
    st.none() | st.integers(1, 4),
    st.integers(1, 60),
    st.none() | st.integers(1, 40),
    st.integers(1, 20),
)
def test_any_settings(
    dataset: CacheDataset,
    found_places: list[Place],
    quarter: int,
    seed: int,
    values: int | None,
    n_best: int,
    max_answer_length: int | None,
    batch: int,
) -> None:
    logits = random_logits(dataset, seed, values)
    masked = np.random.default_rng(seed).random(logits[0].shape) < 0.2
    logits[0][masked] = -np.inf
    expected = expected_of(found_places, *logits, n_best, max_answer_length)
    order = np.random.default_rng(seed).permutation(len(dataset))
    settings: dict[str, Any] = {"n_best": n_best, "max_answer_length": max_answer_length, "null_threshold": 0.25}
    collector = collected(dataset, *logits, order, batch, **settings)
    assert_predicted(collector.predictions(), expected, 0.25)


def same(one: AnswerCollector, other: AnswerCollector) -> None:
    assert list(one.predictions()) == list(other.predictions())


@pytest.mark.parametrize("values", [None, 2])
def test_shards_do_not_matter(dataset: CacheDataset, sharded: CacheDataset, values: int | None) -> None:
    logits = random_logits(dataset, 1, values)
    order = np.random.default_rng(2).permutation(len(dataset))
    assert len(sharded) == len(dataset)
    same(collected(dataset, *logits), collected(sharded, *logits, order, 11))


def test_blocks_do_not_matter(dataset: CacheDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = random_logits(dataset, 3, 3)
    whole = collected(dataset, *logits, batch=len(dataset))
    monkeypatch.setattr("memxlnet.evaluate.span_search.BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr("memxlnet.evaluate.scoring._CHECKED_AT_ONCE", 100)
    same(whole, collected(dataset, *logits, batch=len(dataset)))


def test_rows_that_come_again_change_nothing(dataset: CacheDataset) -> None:
    logits = random_logits(dataset, 4, 3)
    rows = np.arange(len(dataset))
    twice = np.concatenate([rows, rows[::-1], rows[3:9]])
    same(collected(dataset, *logits), collected(dataset, *logits, twice, 5))
    same(collected(dataset, *logits), collected(dataset, *logits, twice, len(twice)))


def test_lanes_without_a_segment_are_ignored(dataset: CacheDataset) -> None:
    starts, ends = random_logits(dataset, 5)
    collector = AnswerCollector(dataset)
    junk = np.full((1, starts.shape[1]), np.nan)
    for row in range(len(dataset)):
        collector.add([-1, row], np.vstack([junk, starts[row]]), np.vstack([junk, ends[row]]))
    collector.add(np.array([-1]), junk, junk)
    same(collected(dataset, starts, ends), collector)


@pytest.mark.parametrize("lanes", ["aligned", "refilled"])
def test_ranks_are_merged(dataset: CacheDataset, sharded: CacheDataset, lanes: str) -> None:
    starts, ends = random_logits(dataset, 6, 4)
    ranks: list[AnswerCollector] = []
    for rank, part in enumerate([dataset, sharded, dataset]):
        collector = AnswerCollector(part, n_best=4)
        options: dict[str, Any] = {"rank": rank, "world_size": 3, "lanes": lanes, "metadata": False}
        loader: Any = create_evaluation_dataloader(part, 2, **options)
        for step in steps_of(loader):
            rows = step["rows"]
            collector.add(rows, starts[rows], ends[rows])
        assert 0 < collector.num_missing_rows < len(dataset)
        ranks.append(pickle.loads(pickle.dumps(collector)))
    first, *others = ranks
    for other in others:
        missing = other.num_missing_rows
        first.merge(other)
        assert other.num_missing_rows == missing
    assert first.num_missing_rows == 0
    same(collected(dataset, starts, ends, n_best=4), first)


@pytest.mark.parametrize("dtype", [slow(torch.float32), torch.bfloat16])
def test_a_model_feeds_it_as_it_is(dataset: CacheDataset, found_places: list[Place], dtype: torch.dtype) -> None:
    """Gradients on and memories carried along, as in a training loop."""
    torch.manual_seed(0)
    config = XLNetConfig(
        vocab_size=dataset.manifest.vocabulary_size, d_model=16, n_layer=1, n_head=2, d_inner=32, mem_len=8
    )
    model: Any = XLNetForQuestionAnsweringSimple(config).eval()
    collector = AnswerCollector(dataset)
    starts, ends = random_logits(dataset)
    loader: Any = create_evaluation_dataloader(dataset, 3, metadata=False)
    for group in loader:
        mems = None
        for step in group:
            output = model(**model_inputs(step, model), mems=mems, use_mems=True)
            mems = [state.detach() for state in output.mems]
            logits = [side.to(dtype) for side in (output.start_logits, output.end_logits)]
            assert all(side.requires_grad for side in logits)
            collector.add(step["rows"], *logits)
            mask = step["document_mask"]
            for side, kept in zip(logits, (starts, ends), strict=True):
                kept[step["rows"][mask]] = side[mask].detach().double().numpy()
    assert_predicted(collector.predictions(), expected_of(found_places, starts, ends, 20, 30), 0.0)


def test_a_sent_collector_continues_by_itself(dataset: CacheDataset) -> None:
    logits = random_logits(dataset, 7)
    half = collected(dataset, *logits, range(0, len(dataset), 2))
    sent = pickle.loads(pickle.dumps(half))
    assert repr(sent) == repr(half)
    for row in range(1, len(dataset), 2):
        sent.add([row], logits[0][[row]], logits[1][[row]])
    same(sent, collected(dataset, *logits))
    assert half.num_missing_rows == len(dataset) // 2


def test_what_is_handed_out_does_not_change_any_more(dataset: CacheDataset) -> None:
    starts, ends = random_logits(dataset, 8)
    collector = collected(dataset, starts, ends)
    before = collector.predictions()
    expected = list(collector.predictions())
    # Better spans, and a lower score of no answer.
    for shift in (4, -4):
        collector.add(range(len(dataset)), starts + shift, ends)
    assert list(before) == expected != list(collector.predictions())


@pytest.mark.parametrize(
    ("name", "value"), [("n_best", 4), ("max_answer_length", None), ("max_answer_length", 7), ("null_threshold", 1.0)]
)
def test_other_settings_are_not_merged(dataset: CacheDataset, name: str, value: Any) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(SettingsError, match=f"^other: {name}:"):
        AnswerCollector(dataset).merge(AnswerCollector(dataset, **settings))


def test_another_cache_is_not_merged(dataset: CacheDataset, tmp_path: Path, tokenizer: Any) -> None:
    other = AnswerCollector(build(texts((3, 2)), tokenizer, tmp_path))
    with pytest.raises(CacheMismatchError, match=re.escape(str(other.cache.directory))):
        AnswerCollector(dataset).merge(other)
    with pytest.raises(SettingsError, match=r"^other:.*dict"):
        AnswerCollector(dataset).merge({})  # type: ignore[arg-type]


def test_a_collector_knows_its_cache_again(dataset: CacheDataset, tmp_path: Path, tokenizer: Any) -> None:
    state = AnswerCollector(dataset).__getstate__()
    other = build(texts((3, 2)), tokenizer, tmp_path)
    with pytest.raises(CacheMismatchError, match=state["fingerprint"][:16]):
        AnswerCollector.__new__(AnswerCollector).__setstate__({**state, "directories": [str(other.directory)]})


def test_opens_what_is_at_hand(dataset: CacheDataset) -> None:
    at_hand: Iterable[Any] = (dataset, dataset.cache, dataset.directory, str(dataset.directory))
    assert len({AnswerCollector(one).cache.manifest.fingerprint for one in at_hand}) == 1
