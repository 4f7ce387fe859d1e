"""Real transformers models take what the loaders give, forwards and backwards."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    XLNetConfig,
    XLNetForQuestionAnswering,
    XLNetForQuestionAnsweringSimple,
)

from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader
from memxlnet.load.model_inputs import model_inputs
from tests.load.helpers import LENGTH, Built, bert_tokenizer
from tests.load.test_cache_dataset import random_examples_of_letters
from tests.support import build, example


def _xlnet(dataset: CacheDataset, kind: Any) -> Any:
    torch.manual_seed(0)
    vocabulary = dataset.manifest.vocabulary_size
    config = XLNetConfig(vocab_size=vocabulary, d_model=16, n_layer=1, n_head=2, d_inner=32, start_n_top=2, end_n_top=2)
    return kind(config)


def _bert(dataset: CacheDataset) -> Any:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=dataset.manifest.vocabulary_size,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    return BertForQuestionAnswering(config)


def _train(model: Any, loader: Any, names: set[str]) -> list[float]:
    """Forward and backward over every step of the first group; the losses of the steps."""
    losses, ended = [], 0
    group = next(iter(loader))
    for step in [*group[:6], *group[-6:]]:
        inputs = model_inputs(step, model)
        assert set(inputs) == names
        loss = model(**inputs).loss
        assert torch.isfinite(loss)
        model.zero_grad()
        loss.backward()
        gradients = [value.grad for value in model.parameters() if value.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert any(gradient.abs().sum() > 0 for gradient in gradients)
        losses.append(float(loss.detach()))
        ended += int((~step["document_mask"]).sum())
    assert len(losses) > 10
    assert ended > 10
    return losses


NAMES = {"input_ids", "attention_mask", "token_type_ids", "start_positions", "end_positions"}


@pytest.mark.parametrize("kind", ["plain", "memory"])
def test_xlnet_simple_takes_the_stored_types(built: Built, kind: str) -> None:
    dataset = CacheDataset(getattr(built, kind))
    losses = {
        dtype: _train(
            _xlnet(dataset, XLNetForQuestionAnsweringSimple).eval(), create_dataloader(dataset, 5, dtype=dtype), NAMES
        )
        for dtype in ("stored", "int64")
    }
    assert losses["stored"] == pytest.approx(losses["int64"])


def test_ended_lanes_have_no_part_in_the_loss(built: Built) -> None:
    dataset = CacheDataset(built.plain)
    model = _xlnet(dataset, XLNetForQuestionAnsweringSimple).eval()
    step = next(iter(create_dataloader(dataset, 5)))[-1]
    alive = step["document_mask"]
    assert 0 < int(alive.sum()) < 5
    whole = model_inputs(step, model)
    part = {name: value[alive] for name, value in whole.items()}
    assert float(model(**whole).loss.detach()) == pytest.approx(float(model(**part).loss.detach()), rel=1e-4)


def test_xlnet_with_beam_search_takes_ended_lanes_on_cls(built: Built) -> None:
    dataset = CacheDataset(built.plain)
    model = _xlnet(dataset, XLNetForQuestionAnswering)
    _train(model, create_dataloader(dataset, 5, ended_label="cls"), {*NAMES, "cls_index"})


def test_bert_takes_int64(tmp_path: Path) -> None:
    examples = [*random_examples_of_letters(["abc 12 de"] * 2, 70), example("short", "what", id="short")]
    dataset = build(examples, bert_tokenizer(), tmp_path, max_seq_length=LENGTH, doc_stride=9)
    _train(_bert(dataset), create_dataloader(dataset, 3), NAMES)


def test_an_ordinary_loader_feeds_them_too(built: Built) -> None:
    dataset = CacheDataset(built.plain)
    model = _xlnet(dataset, XLNetForQuestionAnsweringSimple)
    loader: Any = create_dataloader(dataset, 64, shuffle=True, use_time_step_major=False, dtype="stored")
    for batch in loader:
        inputs = model_inputs(batch, model)
        assert set(inputs) == NAMES
        assert torch.isfinite(model(**inputs).loss)
