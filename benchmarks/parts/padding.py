"""Padding: the share of real tokens for each kind of batching, and the time of whole training epochs.

The models have no recurrent memory, so that only the batches differ. "Trainer's way" is the sampler and the collator of
the Trainer of transformers on the same features, stored without padding.
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
"""Questions in an epoch of training."""

QUESTIONS = 30
"""Questions per article, each a long document: about 480 documents of about 30 segments for SQuAD's development set."""

SEGMENT_TYPES = 4
"""Segment ids of XLNet's tokenizer, padding included; BERT gets the same features."""


def measure(settings: Settings) -> dict[str, Any]:
    """Compute the shares of all ways, then measure their epochs, each model in a separate process."""
    files = (
        {"questions": data().file}
        if settings.quick
        else {"questions": data().file, "long documents": long_file(QUESTIONS)}
    )
    found: dict[str, Any] = {"lanes": LANES, "multiple": MULTIPLE, "shares": {}, "epochs": {}}
    for name, file in files.items():
        settings.log(f"share of real tokens of {name}")
        found["shares"][name] = in_process(shares, file=str(file)).value
    for model in ("XLNet",) if settings.quick else MODELS:
        settings.log(f"epochs of {model}")
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
    """Return the share of real tokens of a shuffled epoch by way, and the size of the data."""
    dataset = _dataset(file)
    sizes = {way: create_dataloader(dataset, LANES, True, **options).epoch_size(0) for way, options in WAYS.items()}
    return {
        "documents": dataset.cache.num_documents,
        "segments": len(dataset),
        "useful": {way: size.useful_share for way, size in sizes.items()},
    }


def epochs(file: str, model: str, documents: int) -> dict[str, Any]:
    """Train one epoch on the first documents in each way; return seconds and tokens. It takes minutes."""
    dataset = _dataset(file, documents)
    made = partial(MODELS[model], dataset.manifest.vocabulary_size)
    makers: dict[str, Callable[[], Iterable[Any]]] = {
        way: partial(_steps, dataset, WAYS[way]) if way in WAYS else partial(_trainer, _features(dataset))
        for way in TRAINED
    }
    for steps in makers.values():  # start the threads of torch
        train(made(), islice(steps(), 2))
    found: dict[str, Any] = {"documents": documents, "segments": len(dataset), "seconds": {}, "tokens": {}}
    for way, steps in makers.items():
        seconds, found["tokens"][way] = train(made(), steps())
        found["seconds"][way] = [seconds]
    return found


def train(model: torch.nn.Module, steps: Iterable[Any]) -> tuple[float, int]:
    """Train on all steps; return the seconds, loading included, and the number of tokens computed on."""
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
    """Make the batches of the Trainer: ``train_sampling_strategy="group_by_length"`` and its padding collator."""
    lengths = [len(feature["input_ids"]) for feature in features]
    generator = torch.Generator().manual_seed(0)
    sampler = LengthGroupedSampler(LANES, lengths=lengths, generator=generator)
    collator = DataCollatorWithPadding(tokenizer(), pad_to_multiple_of=MULTIPLE)
    return DataLoader(_datasets(features), LANES, sampler=sampler, collate_fn=collator)


def _datasets(features: list[dict[str, Any]]) -> Any:
    import datasets  # takes a second, and no other way needs it

    return datasets.Dataset.from_list(features)


def _features(dataset: CacheDataset) -> list[dict[str, Any]]:
    """Return the rows of a dataset as lists without padding, with positions shifted accordingly."""
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
