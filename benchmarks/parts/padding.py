"""What a model computes on: real tokens by the way of batching, and whole epochs of training, beside the Trainer's way.

The models read no memory, so that nothing but the batches differs. The way of the Trainer of transformers is its own
sampler and collator, over the same features without their padding.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForQuestionAnswering, DataCollatorWithPadding
from transformers.trainer_pt_utils import LengthGroupedSampler

from benchmarks.caches import DOC_STRIDE, MAX_SEQ_LENGTH
from benchmarks.child import in_process
from benchmarks.data import data, long_file, tokenizer, work
from benchmarks.recurrent_model import small_xlnet
from benchmarks.settings import Settings
from benchmarks.steps import steps_of
from memxlnet import create_dataloader, create_dataset_from_cache, model_inputs
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.tensors import MODEL_COLUMNS, TOKEN_COLUMNS

LANES = 32

MULTIPLE = 8

_CUT: dict[str, Any] = {"padding": "longest", "pad_to_multiple_of": MULTIPLE}
_REGULAR: dict[str, Any] = {"use_time_step_major": False}
_GROUPED: dict[str, Any] = {"group_by_length": True, **_CUT}

WAYS: dict[str, dict[str, Any]] = {
    "aligned, by default": {},
    "refilled, by default": {"lanes": "refilled"},
    "regular, by default": _REGULAR,
    "aligned, grouped, cut": _GROUPED,
    "refilled, grouped, cut": {"lanes": "refilled", **_GROUPED},
    "regular, grouped, cut": {**_REGULAR, **_GROUPED},
}

TRAINER = "Trainer's way"

TRAINED = ("aligned, by default", "refilled, grouped, cut", "regular, grouped, cut", TRAINER)

DOCUMENTS, QUICK_DOCUMENTS = 2000, 64
"""Questions of an epoch of training."""

QUESTIONS = 30
"""Of each long document, an article of the file: some 480 documents of some 30 segments of SQuAD's development set."""

SEGMENT_TYPES = 4
"""Kinds of segments that XLNet's tokenizer tells apart, padding included; BERT is given the same features."""


def measure(settings: Settings) -> dict[str, Any]:
    """Shares of all ways, then epochs in turns, each model in a process of its own."""
    files = (
        {"questions": data().file}
        if settings.quick
        else {"questions": data().file, "long documents": long_file(QUESTIONS)}
    )
    found: dict[str, Any] = {"lanes": LANES, "multiple": MULTIPLE, "shares": {}, "epochs": {}}
    for name, file in files.items():
        settings.tell(f"shares of real tokens of {name}")
        found["shares"][name] = in_process(shares, file=str(file)).value
    for model in ("XLNet",) if settings.quick else MODELS:
        settings.tell(f"epochs of {model}")
        documents = QUICK_DOCUMENTS if settings.quick else DOCUMENTS
        child = in_process(epochs, file=str(files["questions"]), model=model, documents=documents)
        found["epochs"][model] = child.value
    return found


def _dataset(file: str, documents: int | None = None) -> CacheDataset:
    return create_dataset_from_cache(
        file,
        cache_dir=work() / "padding",
        max_examples=documents,
        max_seq_length=MAX_SEQ_LENGTH,
        doc_stride=DOC_STRIDE,
        tokenizer=tokenizer(),
        progress=False,
    )


def shares(file: str) -> dict[str, Any]:
    """The share of real tokens of a shuffled epoch by way, and what there is."""
    dataset = _dataset(file)
    sizes = {way: create_dataloader(dataset, LANES, True, **options).epoch_size(0) for way, options in WAYS.items()}
    return {
        "documents": dataset.cache.num_documents,
        "segments": len(dataset),
        "useful": {way: size.useful_share for way, size in sizes.items()},
    }


def epochs(file: str, model: str, documents: int) -> dict[str, Any]:
    """Seconds and tokens of one whole epoch of training over the first documents, way after way: it takes minutes."""
    dataset = _dataset(file, documents)
    made = partial(MODELS[model], dataset.manifest.vocabulary_size)
    makers: dict[str, Callable[[], Iterable[Any]]] = {
        way: partial(_steps, dataset, WAYS[way]) if way in WAYS else partial(_trainer, _features(dataset))
        for way in TRAINED
    }
    for steps in makers.values():  # torch's threads
        train(made(), islice(steps(), 2))
    found: dict[str, Any] = {"documents": documents, "segments": len(dataset), "seconds": {}, "tokens": {}}
    for way, steps in makers.items():
        seconds, found["tokens"][way] = train(made(), steps())
        found["seconds"][way] = [seconds]
    return found


def train(model: torch.nn.Module, steps: Iterable[Any]) -> tuple[float, int]:
    """Train on all steps: seconds, the making of the steps included, and tokens that were computed on."""
    optimizer, tokens = torch.optim.AdamW(model.parameters(), lr=1e-4), 0
    model.train()
    begun = time.perf_counter()
    for step in steps:
        model(**model_inputs(step, model)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        tokens += int(step["input_ids"].numel())
    return time.perf_counter() - begun, tokens


def _steps(dataset: CacheDataset, options: dict[str, Any]) -> Iterable[Any]:
    return steps_of(create_dataloader(dataset, LANES, True, **options))


def _trainer(features: list[dict[str, Any]]) -> Iterable[Any]:
    """The batches of the Trainer with ``train_sampling_strategy="group_by_length"`` and its padding collator."""
    lengths = [len(feature["input_ids"]) for feature in features]
    generator = torch.Generator().manual_seed(0)
    sampler = LengthGroupedSampler(LANES, lengths=lengths, generator=generator)
    collator = DataCollatorWithPadding(tokenizer(), pad_to_multiple_of=MULTIPLE)
    return DataLoader(_datasets(features), LANES, sampler=sampler, collate_fn=collator)


def _datasets(features: list[dict[str, Any]]) -> Any:
    import datasets  # takes a second, which no other way needs

    return datasets.Dataset.from_list(features)


def _features(dataset: CacheDataset) -> list[dict[str, Any]]:
    """The rows of a dataset without their padding, as lists; positions count in these."""
    columns = {name: column.tolist() for name, column in dataset.gather(range(len(dataset))).items()}
    left = dataset.manifest.layout.pad_left
    features = []
    for row, mask in enumerate(columns["attention_mask"]):
        first = len(mask) - sum(mask) if left else 0
        feature = {name: columns[name][row][first : first + sum(mask)] for name in TOKEN_COLUMNS}
        features.append(feature | {name: columns[name][row] - first for name in MODEL_COLUMNS[len(TOKEN_COLUMNS) :]})
    return features


def _xlnet(vocabulary: int) -> Any:
    return small_xlnet(vocabulary, 0, width=128, layers=4)


def _bert(vocabulary: int) -> Any:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=6,
        intermediate_size=1536,
        type_vocab_size=SEGMENT_TYPES,
    )
    return BertForQuestionAnswering(config)


MODELS: dict[str, Callable[[int], Any]] = {"XLNet": _xlnet, "BERT": _bert}
