"""Training and evaluating as scripts for the earlier code base do: its imports, its calls, the keys that it reads.

Instead of a model there are perfect logits; the decoder trusts nothing but the keys of a step.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from memxlnet import answer_ceiling
from memxlnet.data import (
    ChunkedCacheManager,
    MemoryCollateConfig,
    SquadLikeQADataset,
    configure_memory_tokens,
    create_dataloader,
    create_dataset_from_cache,
    create_evaluation_dataloader,
    load_chunked_dataset,
    process_and_cache_dataset,
)
from memxlnet.data.dataset import LazySquadLikeQADataset, TimeStepMajorDataLoader
from memxlnet.data.streaming import create_streaming_processor
from memxlnet.data.text_utils import normalize_answer_for_comparison
from memxlnet.sample import sample_file
from tests.support import SQUAD, slow

LENGTH, OVERLAP, MEMORY = 128, 32, 4
LONGEST_ANSWER = 30
THRESHOLD = 1.5


def train(loader: Iterable[Any], weight: torch.Tensor) -> int:
    """A recurrent loop: a state for each document, a loss over all segments of a group; the number of documents."""
    optimizer = torch.optim.SGD([weight], lr=0.1)
    seen = 0
    for time_step_batches in loader:
        memory_bank: dict[str, torch.Tensor] = {}
        losses = []
        for batch in time_step_batches:
            length = batch["input_ids"].size(1)
            assert batch["attention_mask"].shape == batch["token_type_ids"].shape == (len(batch["example_ids"]), length)
            states = []
            for name, active in zip(batch["example_ids"], batch["document_mask"].tolist(), strict=True):
                assert active != name.startswith("padding")
                states.append(memory_bank.get(name, torch.zeros(1)))
            logits = (weight + torch.stack(states)).expand(-1, length)
            active = batch["document_mask"].bool()
            for key in ("start_positions", "end_positions"):
                loss = torch.nn.functional.cross_entropy(logits[active], batch[key][active])
                losses.append(loss)
            for lane, name in enumerate(batch["example_ids"]):
                if active[lane]:
                    memory_bank[name] = logits[lane, :1].detach()
        seen += len(memory_bank)
        optimizer.zero_grad()
        total: Any = torch.stack(losses).mean()
        total.backward()
        optimizer.step()
    return seen


def decode(batch: dict[str, Any], lane: int, start_logits: list[float], end_logits: list[float]) -> tuple[float, str]:
    """The confidence and the answer of one segment: the best span of context tokens against the cls position."""
    is_context = (batch["token_type_ids"][lane] == 1).tolist()
    cls_index = batch["cls_index"][lane]
    null_score = start_logits[cls_index] + end_logits[cls_index]
    best, span = -float("inf"), (0, 0)
    for first in (place for place, inside in enumerate(is_context) if inside):
        for last in range(first, min(first + LONGEST_ANSWER, len(is_context))):
            if is_context[last] and start_logits[first] + end_logits[last] > best:
                best, span = start_logits[first] + end_logits[last], (first, last)
    offsets = batch["offset_mapping"][lane]
    text = ""
    if null_score - best <= THRESHOLD and offsets[span[0]] != (0, 0) and offsets[span[1]] != (0, 0):
        text = batch["context"][lane][offsets[span[0]][0] : offsets[span[1]][1]].strip()
    return best - null_score, text


def evaluate(loader: Iterable[Any]) -> dict[str, str]:
    """Answers by document, of logits that know the labels."""
    found: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for time_step_batches in loader:
        for batch in time_step_batches:
            for lane in torch.where(batch["document_mask"])[0].tolist():
                logits = torch.zeros(2, batch["input_ids"].size(1))
                logits[0, batch["start_positions"][lane]] = logits[1, batch["end_positions"][lane]] = 10.0
                found[batch["example_ids"][lane]].append(decode(batch, lane, *logits.tolist()))
    return {name: max(segments, key=lambda one: one[0])[1] for name, segments in found.items()}


def references(dataset: Any) -> dict[str, list[str]]:
    """The gold answers by document, of the first segment of each."""
    firsts = {name: dataset.get_document_segments(name)[0] for name in dataset.get_all_documents()}
    return {name: dataset[row]["all_valid_answers"] for name, row in firsts.items()}


def wrong(answers: dict[str, str], golds: dict[str, list[str]]) -> list[str]:
    assert answers.keys() == golds.keys()
    normalized = {name: normalize_answer_for_comparison(text) for name, text in answers.items()}
    return [name for name in golds if normalized[name] not in map(normalize_answer_for_comparison, golds[name])]


def run(tokenizer: Any, source: str, split: str, cache_dir: str, most: int | None) -> tuple[dict[str, str], Any]:
    """The whole script; its only new words are ``compat="memxlnet-0"``."""
    ids = configure_memory_tokens(tokenizer, MEMORY)
    count = process_and_cache_dataset(
        dataset_name=source,
        split=split,
        cache_dir=cache_dir,
        max_examples=most,
        max_seq_length=LENGTH,
        doc_stride=OVERLAP,
        streaming_chunk_size=1000,
        tokenizer=tokenizer,
    )
    dataset = create_dataset_from_cache(
        dataset_name=source,
        split=split,
        cache_dir=cache_dir,
        max_examples=most,
        max_seq_length=LENGTH,
        doc_stride=OVERLAP,
        max_n_segs=None,
        tokenizer=tokenizer,
        hub_dataset_id=None,
        use_hub_dataset=True,
        hub_token=None,
        compat="memxlnet-0",
    )
    assert len(dataset) == len(dataset.features) == count
    config = MemoryCollateConfig(
        enable=True,
        mem_read_ids=ids["mem_read_ids"],
        mem_write_ids=ids["mem_write_ids"],
        max_seq_length=LENGTH,
        cls_token_id=tokenizer.cls_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    loader = create_dataloader(
        dataset,
        batch_size=4,
        shuffle=True,
        num_workers=12,
        memory_collate_config=config,
        use_time_step_major=True,
        max_segments=2,
        segment_selection_strategy="answer_centered",
        epoch_seed=42,
    )
    assert isinstance(loader, TimeStepMajorDataLoader)
    assert train(loader, torch.zeros(1, LENGTH, requires_grad=True)) == len(dataset.document_map)
    evaluation = create_dataloader(dataset, 4, False, 0, config, True)
    return evaluate(evaluation), dataset


@pytest.mark.parametrize(("most", "inexact"), [(12, 0), slow(None, 3)])
def test_on_the_sample(tokenizer: Any, tmp_path: Path, most: int | None, inexact: int) -> None:
    answers, dataset = run(tokenizer, str(sample_file()), "train", str(tmp_path), most)
    golds = references(dataset)
    # Three answers of the sample end within a token.
    assert len(wrong(answers, golds)) == answer_ceiling(dataset).inexact == inexact
    # The same through the other calls, by position.
    settings: Any = (LENGTH, OVERLAP, 4, most, None, str(tmp_path), True)
    opened, loader = create_evaluation_dataloader(
        str(sample_file()), "train", tokenizer, *settings, compat="memxlnet-0"
    )
    assert opened.directory == dataset.directory
    assert evaluate(loader) == answers
    chunked = load_chunked_dataset(str(tmp_path), "train", "full", compat="memxlnet-0")
    assert evaluate(TimeStepMajorDataLoader(chunked, 4, False, None)) == answers
    manager = ChunkedCacheManager(str(tmp_path), 100)
    lazy = LazySquadLikeQADataset(manager, dataset.dataset_name, "train", {"max_seq_length": LENGTH})
    assert evaluate(create_dataloader(lazy, 4, False, 0, use_time_step_major=True, compat="memxlnet-0")) == answers
    processor = create_streaming_processor(tokenizer, LENGTH, OVERLAP)
    assert (processor.max_seq_length, processor.doc_stride, processor.streaming_chunk_size) == (LENGTH, OVERLAP, 1000)
    assert (processor.max_memory_gb, processor.has_memory_tokens) == (8.0, True)
    assert processor.process_dataset_streaming(str(sample_file()), "train", most, manager) == len(dataset)
    eager = SquadLikeQADataset(
        "train", tokenizer, LENGTH, OVERLAP, most, str(sample_file()), cache_dir=tmp_path, compat="memxlnet-0"
    )
    assert references(eager) == golds


def test_without_the_earlier_meaning_the_decoder_fails_aloud(tokenizer: Any, tmp_path: Path) -> None:
    _, loader = create_evaluation_dataloader(
        str(sample_file()), "train", tokenizer, LENGTH, OVERLAP, cache_dir=tmp_path
    )
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        evaluate(loader)


@pytest.mark.slow
@pytest.mark.real_data
def test_on_squad(xlnet: Any, tmp_path: Path) -> None:
    answers, dataset = run(xlnet, str(SQUAD), "validation", str(tmp_path), 300)
    golds = references(dataset)
    assert len(golds) == 300
    assert wrong(answers, golds) == []
