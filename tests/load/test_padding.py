"""Rows cut to the longest of their step: the least widths, and nothing but padding is lost."""

from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    RobertaConfig,
    RobertaForQuestionAnswering,
    XLNetConfig,
    XLNetForQuestionAnsweringSimple,
)

from memxlnet import AnswerCollector, create_evaluation_dataloader
from memxlnet.errors import SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.collate import Collate
from memxlnet.load.create import create_dataloader
from memxlnet.load.model_inputs import model_inputs
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from tests.load.helpers import LENGTH, OVERLAP, plain, steps_of
from tests.styles import WORDS, make
from tests.support import build, example, slow, slow_but

TOKENS = ("input_ids", "attention_mask", "token_type_ids")
PLACES = ("start_positions", "end_positions", "cls_index")
MEMORY_PLACES = ("mem_read_start", "mem_write_start")

KINDS = [
    ("xlnet", 0),
    ("xlnet", 3),
    ("xlnet-padded-right", 2),
    ("bert-uncased", 0),
    ("bert-uncased", 2),
    ("bert-padded-left", 0),
    ("roberta", 0),
    ("roberta", 3),
]
QUICK = [("xlnet", 3), ("xlnet-padded-right", 2), ("bert-uncased", 0), ("bert-padded-left", 0), ("roberta", 3)]

WAYS: dict[str, dict[str, Any]] = {
    "aligned": {},
    "refilled": {"lanes": "refilled"},
    "evaluation": {"evaluation": True},
    "regular": {"use_time_step_major": False},
}


COUNTS = [1, 2, 4, 3, 9, 2] * 6 + [30, 60, 7, 20, 90]
"""Words of the contexts."""

EXAMPLES = [
    example(" ".join(islice(cycle(WORDS), count)), "who?", [("the", 0)] * (number % 3 > 0), id=f"{number}")
    for number, count in enumerate(COUNTS)
]


@pytest.fixture(scope="session")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of varied examples for each kind of tokenizer."""

    @cache
    def built(style: str, memory: int) -> CacheDataset:
        directory: Path = tmp_path_factory.mktemp("padding")
        return build(EXAMPLES, make(style, memory), directory, max_seq_length=LENGTH, doc_stride=OVERLAP)

    return built


@pytest.fixture(params=slow_but(QUICK, KINDS), ids=lambda kind: f"{kind[0]}-{kind[1]}")
def dataset(request: pytest.FixtureRequest, cached: Any) -> CacheDataset:
    found: CacheDataset = cached(*request.param)
    return found


def batches(dataset: CacheDataset, way: str, **options: Any) -> list[dict[str, Any]]:
    loader: Any = create_dataloader(dataset, 5, **{"shuffle": True, "metadata": True} | WAYS[way] | options)
    return steps_of(loader) if isinstance(loader, TimeStepMajorDataLoader) else list(loader)


def width_of(batch: dict[str, Any], multiple: int, least: int) -> int:
    """The least width of a batch of whole rows: what its longest active row needs, rounded up."""
    active = batch.get("document_mask", torch.ones(len(batch["rows"]), dtype=torch.bool))
    longest: int = max([least, *batch["attention_mask"][active].sum(dim=1).tolist()])
    return min(-(-longest // multiple) * multiple, LENGTH)


@pytest.mark.parametrize(("dtype", "multiple"), [("int64", None), ("stored", 8)])
@pytest.mark.parametrize("way", WAYS)
def test_steps_are_cut_to_their_longest_row(dataset: CacheDataset, way: str, multiple: int | None, dtype: str) -> None:
    left = dataset.manifest.layout.pad_left
    options = {"dtype": dtype}
    whole = batches(dataset, way, **options)
    cut = batches(dataset, way, padding="longest", pad_to_multiple_of=multiple, **options)
    assert len({step["input_ids"].shape[1] for step in cut}) > 1
    for full, step in zip(whole, cut, strict=True):
        width = step["input_ids"].shape[1]
        assert width == width_of(full, multiple or 1, dataset.manifest.layout.overhead)
        kept = slice(LENGTH - width, None) if left else slice(width)
        shift = LENGTH - width if left else 0
        active = full.get("document_mask", torch.ones(len(full["rows"]), dtype=torch.bool))
        assert step.keys() == full.keys()
        for name, value in full.items():
            if name in TOKENS or name == "context_mask":
                assert step[name].dtype == value.dtype
                assert step[name].is_contiguous()
                assert torch.equal(step[name], value[:, kept])
            elif name in PLACES or (name in MEMORY_PLACES and dataset.manifest.layout.num_memory_tokens):
                assert torch.equal(step[name][active], value[active] - shift)
            elif name == "offset_mapping":
                assert [plain(one) for one in step[name]] == [one if one is None else plain(one[kept]) for one in value]
            else:
                assert plain(step[name]) == plain(value)
        for name, label in zip(PLACES, (width, width, None), strict=True):
            for found in step[name][~active].tolist():
                assert found == (int(full["cls_index"][~active][0]) - shift if label is None else label)


@pytest.mark.parametrize("way", WAYS)
def test_ended_lanes_can_point_to_cls(dataset: CacheDataset, way: str) -> None:
    for step in batches(dataset, way, padding="longest", ended_label="cls"):
        assert int(step["end_positions"].max()) < step["input_ids"].shape[1]
        at_cls = step["input_ids"].gather(1, step["cls_index"][:, None])
        active = step.get("document_mask", torch.ones(len(at_cls), dtype=torch.bool))
        assert (at_cls[active] == dataset.manifest.layout.cls_id).all()
        assert (step["attention_mask"].gather(1, step["cls_index"][:, None]) == 1).all()


def model_of(dataset: CacheDataset, style: str) -> Any:
    torch.manual_seed(0)
    vocabulary = dataset.manifest.vocabulary_size
    sizes = {"vocab_size": vocabulary, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    bert = {**sizes, "intermediate_size": 32, "pad_token_id": dataset.manifest.layout.pad_id, "type_vocab_size": 5}
    xlnet = XLNetConfig(vocab_size=vocabulary, d_model=16, n_layer=2, n_head=2, d_inner=32)
    if style.startswith("xlnet"):
        return XLNetForQuestionAnsweringSimple(xlnet).eval()
    if style == "roberta":
        return RobertaForQuestionAnswering(RobertaConfig(**bert, max_position_embeddings=99)).eval()
    return BertForQuestionAnswering(BertConfig(**bert)).eval()


def loss_at_tokens(output: Any, step: dict[str, Any]) -> float:
    """The loss over real tokens; that of the models of transformers also counts the logits of padding."""
    width = step["input_ids"].shape[1]
    padding = step["attention_mask"] == 0
    losses = [
        cross_entropy(logits.masked_fill(padding, -1e9), step[name], ignore_index=width)
        for logits, name in ((output.start_logits, "start_positions"), (output.end_logits, "end_positions"))
    ]
    return float(sum(losses) / 2)


COMPUTED = [kind for kind in KINDS if kind[0] != "bert-padded-left"]


@pytest.mark.parametrize("kind", slow_but([("xlnet", 3), ("bert-uncased", 2), ("roberta", 0)], COMPUTED))
@pytest.mark.parametrize("way", ["aligned", slow("refilled"), "regular"])
@torch.no_grad()
def test_models_compute_the_same_of_both(cached: Any, kind: tuple[str, int], way: str) -> None:
    dataset = cached(*kind)
    model = model_of(dataset, kind[0])
    options = {"metadata": False}
    pairs = zip(batches(dataset, way, **options), batches(dataset, way, padding="longest", **options), strict=True)
    for full, cut in islice(pairs, 12):
        whole, part = (model(**model_inputs(step, model)) for step in (full, cut))
        if full.get("num_active", 1):
            assert loss_at_tokens(part, cut) == pytest.approx(loss_at_tokens(whole, full), abs=1e-5)
        real, left = full["attention_mask"].bool(), dataset.manifest.layout.pad_left
        width = cut["input_ids"].shape[1]
        kept = slice(LENGTH - width, None) if left else slice(width)
        for name in ("start_logits", "end_logits"):
            assert torch.allclose(part[name][real[:, kept]], whole[name][real], atol=1e-5)


def fake_logits(rows: torch.Tensor, width: int, left: bool) -> Iterator[torch.Tensor]:
    """Numbers that follow from a row and a place in the stored row, as far as the width reaches."""
    for seed in (1, 2):
        whole = torch.stack(
            [torch.randn(LENGTH, generator=torch.Generator().manual_seed(seed + 2 * int(row))) for row in rows]
        )
        yield whole[:, LENGTH - width :] if left else whole[:, :width]


@pytest.mark.parametrize("way", ["evaluation", "refilled", "regular"])
def test_a_collector_gives_the_same_answers_of_both(dataset: CacheDataset, way: str) -> None:
    found = []
    for options in ({}, {"padding": "longest"}, {"padding": "longest", "pad_to_multiple_of": 8}):
        collector = AnswerCollector(dataset, n_best=5)
        ways = WAYS[way] if way != "evaluation" else {}
        for one in create_evaluation_dataloader(dataset, 4, metadata=False, **ways, **options):
            for step in [one] if isinstance(one, dict) else one:
                width = step["input_ids"].shape[1]
                collector.add(step["rows"], *fake_logits(step["rows"], width, dataset.manifest.layout.pad_left))
        found.append(list(collector.predictions()))
    assert found[0] == found[1] == found[2]


def test_a_collector_refuses_logits_that_lack_tokens(dataset: CacheDataset) -> None:
    collector = AnswerCollector(dataset)
    length = int(dataset.gather([3])["attention_mask"].sum())
    collector.add([3], torch.zeros(1, length), torch.zeros(1, length))
    with pytest.raises(SettingsError, match=rf"^start_logits: row 3:.*\b{length}\b.*\b{length - 1}\b"):
        collector.add([3, -1], torch.zeros(2, length - 1), torch.zeros(2, length - 1))
    with pytest.raises(SettingsError, match=rf"^end_logits:.*\b{LENGTH}\b.*\b{length}$"):
        collector.add([3], torch.zeros(1, LENGTH), torch.zeros(1, length))
    with pytest.raises(SettingsError, match=rf"^start_logits:.*\b{LENGTH}\b.*\b{LENGTH + 1}\b"):
        collector.add([3], torch.zeros(1, LENGTH + 1), torch.zeros(1, LENGTH + 1))


@pytest.mark.parametrize("way", ["aligned", "refilled"])
def test_a_state_resumes_with_other_padding(cached: Any, way: str) -> None:
    dataset = cached("xlnet", 0)
    options = {"shuffle": True, **WAYS[way]}
    loader = create_dataloader(dataset, 5, padding="longest", **options)
    expected = [step["rows"].tolist() for step in steps_of(create_dataloader(dataset, 5, **options))]
    steps = islice((step for one in loader for step in ([one] if isinstance(one, dict) else one)), 7)
    assert [step["rows"].tolist() for step in steps] == expected[:7]
    again = create_dataloader(dataset, 5, padding="longest", pad_to_multiple_of=16, **options)
    assert isinstance(loader, TimeStepMajorDataLoader)
    assert isinstance(again, TimeStepMajorDataLoader)
    again.load_state_dict(loader.state_dict())
    assert [step["rows"].tolist() for step in steps_of(again)] == expected[7:]


@pytest.mark.parametrize("time_step_major", [True, False])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "batch"}, "^padding:.*'batch'$"),
        ({"padding": True}, "^padding:.*True$"),
        ({"pad_to_multiple_of": 8}, "^pad_to_multiple_of:.*padding='longest'"),
        ({"padding": "longest", "pad_to_multiple_of": 0}, "^pad_to_multiple_of:.*0$"),
        ({"padding": "longest", "pad_to_multiple_of": LENGTH + 1}, rf"^pad_to_multiple_of:.*\b{LENGTH}\b"),
    ],
)
def test_bad_settings(lazy: CacheDataset, options: Any, message: str, time_step_major: bool) -> None:
    with pytest.raises(SettingsError, match=message):
        create_dataloader(lazy, use_time_step_major=time_step_major, **options)


def test_cutting_needs_a_dataset() -> None:
    with pytest.raises(SettingsError, match=r"^padding:.*Collate\(dataset="):
        Collate(padding="longest")


def test_rows_one_by_one_are_cut_too(dataset: CacheDataset) -> None:
    collate = Collate(dataset=dataset, padding="longest", metadata=["context_mask", "offset_mapping"])
    for batch in DataLoader(dataset, 7, collate_fn=lambda rows: (collate(rows), collate(list(rows)))):
        for name, value in batch[0].items():
            assert plain(batch[1][name]) == plain(value) if name != "offset_mapping" else True


class _Head(torch.nn.Module):
    """A mean over real tokens, and a logit for each of them."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.embed = torch.nn.Embedding(vocabulary, 4)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(input_ids) * attention_mask[..., None]
        logits: torch.Tensor = (hidden @ hidden.mean(dim=1, keepdim=True).transpose(1, 2)).squeeze(-1)
        return logits


def test_a_compiled_model_is_compiled_once_a_width(cached: Any) -> None:
    dataset = cached("xlnet", 0)
    compiled: list[torch.Size] = []

    def count(module: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        compiled.append(next(one.shape for one in inputs if one.dim() == 2))
        return module.forward

    torch._dynamo.reset()
    model = torch.compile(_Head(dataset.manifest.vocabulary_size), backend=count, dynamic=False)
    options: dict[str, Any] = {"padding": "longest", "pad_to_multiple_of": 16, "lanes": "refilled"}
    widths = set()
    for epoch in range(2):
        loader: Any = create_dataloader(dataset, 5, True, **options)
        loader.set_epoch(epoch)
        for step in loader:
            model(step["input_ids"], step["attention_mask"])
            widths.add(step["input_ids"].shape[1])
    assert len(widths) > 1
    assert len(compiled) == len(widths)
