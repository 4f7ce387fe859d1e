"""From a build to answers: families whose models take no segment ids, or whose tokenizers have no cls."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader
from memxlnet.load.model_inputs import TYPES_AS_WORDS, model_inputs
from memxlnet.load.option_literals import Lanes
from memxlnet.maintain.verify import verify
from tests.evaluate.helpers import (
    assert_predicted,
    collected,
    expected_of,
    perfectly_collected,
    places,
    random_logits,
    texts,
)
from tests.load.helpers import steps_of
from tests.styles import make
from tests.support import build, slow

LENGTH = 72

EXAMPLES = texts([3, 30, 12, 25, 1])

COLUMNS = ("input_ids", "attention_mask", "cls_index", "has_answer_in_segment", "start_positions", "end_positions")

TAKE_TYPES = ("roberta", "xlm-roberta", "camembert")
"""Models with segment ids, of which they know 0 alone."""


def _bert_like(config: type, model: type) -> Callable[..., Any]:
    """As they are published: one segment id."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    more = {"type_vocab_size": 1, "max_position_embeddings": LENGTH + 8}
    return lambda **fields: model(config(**sizes, **more, **fields))


def _llama_like(config: type, model: type) -> Callable[..., Any]:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return lambda **fields: model(config(**sizes, num_key_value_heads=1, **fields))


def _gpt2(**fields: Any) -> Any:
    return transformers.GPT2ForQuestionAnswering(
        transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=LENGTH, **fields)
    )


def _t5(**fields: Any) -> Any:
    config = transformers.T5Config(
        d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=fields["pad_token_id"], **fields
    )
    return transformers.T5ForQuestionAnswering(config)


MODELS: dict[str, Callable[..., Any]] = {
    "roberta": _bert_like(transformers.RobertaConfig, transformers.RobertaForQuestionAnswering),
    "xlm-roberta": _bert_like(transformers.XLMRobertaConfig, transformers.XLMRobertaForQuestionAnswering),
    "camembert": _bert_like(transformers.CamembertConfig, transformers.CamembertForQuestionAnswering),
    "t5": _t5,
    # There is no question answering head for Pegasus; its rows are those of an encoder as T5 has it.
    "pegasus": _t5,
    "gpt2": _gpt2,
    "qwen2-text": _llama_like(transformers.Qwen2Config, transformers.Qwen2ForQuestionAnswering),
    "llama": _llama_like(transformers.LlamaConfig, transformers.LlamaForQuestionAnswering),
    "llama-with-bos": _llama_like(transformers.LlamaConfig, transformers.LlamaForQuestionAnswering),
}

pytestmark = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], CacheDataset]:
    caches: dict[str, CacheDataset] = {}

    def dataset(name: str) -> CacheDataset:
        if name not in caches:
            directory = tmp_path_factory.mktemp(name)
            caches[name] = build(EXAMPLES, make(name), directory, max_seq_length=LENGTH)
        return caches[name]

    return dataset


def _model(name: str, dataset: CacheDataset) -> Any:
    torch.manual_seed(0)
    layout = dataset.manifest.layout
    fields = {"pad_token_id": layout.pad_id, "eos_token_id": layout.suffix[0], "bos_token_id": layout.suffix[0]}
    return MODELS[name](vocab_size=dataset.manifest.vocabulary_size, **fields).eval()


def test_a_cache_is_verified_with_the_layout_that_it_keeps(name: str, built: Callable[[str], CacheDataset]) -> None:
    verify(built(name).directory, against=EXAMPLES)


@pytest.mark.parametrize("lanes", ["aligned", slow("refilled")])
def test_a_model_of_the_family_trains_on_the_steps(
    name: str, lanes: Lanes, built: Callable[[str], CacheDataset]
) -> None:
    dataset = built(name)
    model = _model(name, dataset)
    loader: Any = create_dataloader(dataset, 3, lanes=lanes)
    names = {"input_ids", "attention_mask", "start_positions", "end_positions"}
    steps = list(steps_of(loader))
    assert len(steps) > 4
    for step in steps:
        inputs = model_inputs(step, model)
        assert set(inputs) == names | ({"token_type_ids"} if name in TAKE_TYPES else set())
        model.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        assert torch.isfinite(loss)


def test_segment_ids_as_words_would_change_the_output(name: str, built: Callable[[str], CacheDataset]) -> None:
    """What `model_inputs` leaves out: the same numbers as from what the tokenizer names for its model."""
    dataset = built(name)
    model, tokenizer = _model(name, dataset), make(name)
    loader: Any = create_dataloader(dataset, 3)
    step = next(iter(steps_of(loader)))
    given = model(**model_inputs(step, model)).start_logits
    named = {column: step[column] for column in tokenizer.model_input_names}
    assert torch.equal(given, model(**named).start_logits)
    if model.config.model_type in TYPES_AS_WORDS:
        assert not torch.equal(given, model(**named, token_type_ids=step["token_type_ids"]).start_logits)


def test_segments_without_an_answer_point_to_cls_or_to_the_eos_after_both_texts(
    name: str, built: Callable[[str], CacheDataset]
) -> None:
    dataset, tokenizer = built(name), make(name)
    columns = dataset.gather(range(len(dataset)), COLUMNS)
    cls = columns["cls_index"].long()
    assert (columns["input_ids"][torch.arange(len(dataset)), cls] == tokenizer.cls_token_id).all()
    ends = {"first": columns["attention_mask"].argmax(1)}
    ends["last"] = ends["first"] + columns["attention_mask"].sum(1) - 1
    assert torch.equal(cls, ends["first" if name in TAKE_TYPES else "last"])
    without = columns["has_answer_in_segment"] == 0
    assert 0 < int(without.sum()) < len(dataset)
    for position in ("start_positions", "end_positions"):
        assert torch.equal(columns[position][without], cls[without])


def test_answers_are_collected(name: str, built: Callable[[str], CacheDataset]) -> None:
    dataset = built(name)
    # A blank may be part of an answer's first token.
    found = {one.example_id: one.text.strip() for one in perfectly_collected(dataset).predictions()}
    assert found == {one["id"]: (one["answers"]["text"] or [""])[0] for one in EXAMPLES}
    starts, ends = random_logits(dataset)
    assert_predicted(
        collected(dataset, starts, ends).predictions(), expected_of(places(dataset), starts, ends, 20, 30), 0.0
    )
    high = starts.copy()
    high[np.arange(len(dataset)), dataset.gather(range(len(dataset)), ["cls_index"])["cls_index"].numpy()] = 1e3
    assert {one.text for one in collected(dataset, high, ends).predictions()} == {""}
