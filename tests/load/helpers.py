"""Examples of many shapes, an oracle that shares nothing with the encoder, and ways to compare rows and steps."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader
from memxlnet.load.document_group import Group
from memxlnet.load.tensors import FeatureTensors
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from memxlnet.sample import sample_tokenizer_directory
from tests.support import example

LENGTH, OVERLAP, MEMORY = 48, 12, 3

WORDS = (12, 160, 60, 3, 250, 1, 90, 33, 140, 7, 60, 200, 2)
"""Words of each document: some documents have one segment, some more than twenty."""

MODEL_KEYS = ("input_ids", "attention_mask", "token_type_ids", "start_positions", "end_positions")
STEP_KEYS = {
    *MODEL_KEYS,
    "cls_index",
    "mem_read_start",
    "mem_write_start",
    "segment_index",
    "rows",
    "document_mask",
    "reset",
    "is_last",
    "num_active",
    "example_ids",
}
DTYPES = {
    "input_ids": torch.int32,
    "attention_mask": torch.int8,
    "token_type_ids": torch.int8,
    "start_positions": torch.int64,
    "end_positions": torch.int64,
}

_FILLERS = (
    "naïve",
    "plain",
    "中文",
    "😀x",
    "e\u0301te",
    "1999",
    "zero\u200bwidth",
    "tab\tbed",
    "CR\r\nLF",
    "no\u00a0break",
)


class Built(NamedTuple):
    """Caches of the same examples, and what they were made from."""

    examples: list[dict[str, Any]]
    plain: Path
    sharded: Path
    memory: Path
    memory_ids: dict[str, list[int]]


def sample_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(sample_tokenizer_directory())


def bert_tokenizer() -> Any:
    """A WordPiece tokenizer over characters in BERT's layout: question first, padding on the right."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    backend = Tokenizer(models.WordPiece({name: place for place, name in enumerate(names)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def varied_examples(words: Sequence[int] = WORDS) -> list[dict[str, Any]]:
    """One example for each number of words; every third unanswerable, every fourth with the context before it."""
    examples: list[dict[str, Any]] = []
    for number, count in enumerate(words):
        parts = [f"doc{number}"]
        parts += [f"{_FILLERS[(number + place) % len(_FILLERS)]} w{number}x{place}" for place in range(count)]
        context = "  ".join(parts)
        answer = f"w{number}x{(number * 37) % count}"
        pairs = [] if number % 3 == 2 else [(answer, context.index(answer)), ("doc", 0)]
        if pairs and number % 2:
            pairs.insert(0, ("not there", 1))
        examples.append(example(context, f"  Which wörd of {number}?", pairs, id=f"dök-{number}"))
    for number in range(3, len(examples), 4):
        before = examples[number - 1]
        examples[number] = example(before["context"], f"Once more, {number}?", [("doc", 0)], id=f"again-{number}")
    return examples


_ALPHABET = "ab cd.e9\u00e9\u0301\U0001f600\u4e2d\u00a0\r\n"


@st.composite
def random_examples(draw: st.DrawFn, max_size: int = 6) -> list[dict[str, Any]]:
    """Examples over random texts, some of which share a context; each text holds at least one token."""
    contexts = draw(st.lists(st.text(_ALPHABET, max_size=300).map("x".__add__), min_size=1, max_size=4))
    examples = []
    for number in range(draw(st.integers(1, max_size))):
        context = draw(st.sampled_from(contexts))
        start = draw(st.integers(0, len(context) - 1))
        text = context[start : start + draw(st.integers(1, 20))]
        pairs = [(text, start)] if text.strip() and draw(st.booleans()) else []
        question = "x" + draw(st.text(_ALPHABET, max_size=8))
        examples.append(example(context, question, pairs, id=f"{number}é"))
    return examples


def _chosen(one: Mapping[str, Any]) -> tuple[str, int, int]:
    """The first gold answer that stands at its offset, and its characters."""
    golds = zip(one["answers"]["text"], one["answers"].get("answer_start", ()), strict=True)
    standing = [(text, start) for text, start in golds if one["context"][start : start + len(text)] == text]
    if not standing:
        return "", -1, -1
    text, start = standing[0]
    return text, start, start + len(text)


def _token_span(tokenizer: Any, context: str, start: int, stop: int) -> range | None:
    """The context's tokens that the characters overlap, found in the whole context."""
    if start < 0:
        return None
    offsets = tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    inside = [place for place, (first, last) in enumerate(offsets) if last > start and first < stop and first < last]
    return range(inside[0], inside[-1] + 1)


def oracle_rows(
    tokenizer: Any, examples: Iterable[Mapping[str, Any]], length: int, overlap: int, max_n_segs: int | None = None
) -> list[dict[str, Any]]:
    """What `dataset[i]` must hold, from transformers' own pair call; of golds, at least one stands at its offset."""
    rows: list[dict[str, Any]] = []
    left = tokenizer.padding_side == "left"
    side = 0 if left else 1
    for one in examples:
        texts = (one["context"], one["question"]) if left else (one["question"], one["context"])
        encoded = tokenizer(
            *texts,
            max_length=length,
            stride=overlap,
            truncation="only_first" if left else "only_second",
            padding="max_length",
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=True,
        )
        text, *chars = _chosen(one)
        span = _token_span(tokenizer, one["context"], *chars)
        total = min(len(encoded["input_ids"]), max_n_segs or len(encoded["input_ids"]))
        step = encoded.sequence_ids(0).count(side) - overlap
        for segment in range(total):
            sides, ids = encoded.sequence_ids(segment), encoded["input_ids"][segment]
            first, cls = sides.index(side), ids.index(tokenizer.cls_token_id)
            window = range(segment * step, segment * step + sides.count(side))
            holds = span is not None and span[0] in window and span[-1] in window
            at = (first + span[0] - window[0], first + span[-1] - window[0]) if span and holds else (cls, cls)
            row = {name: encoded[name][segment] for name in ("input_ids", "attention_mask", "token_type_ids")}
            row |= {
                "start_positions": at[0],
                "end_positions": at[1],
                "offset_mapping": encoded["offset_mapping"][segment],
            }
            row |= {"example_id": one["id"], "segment_index": segment, "total_segments": total, "cls_index": cls}
            row |= {"context": one["context"], "question": one["question"], "has_answer": span is not None}
            row |= {"has_answer_in_segment": holds, "chosen_answer_char_span": tuple(chars)}
            row |= {"chosen_answer_text": text, "mem_read_start": -1, "mem_write_start": -1}
            rows.append(row)
    return rows


def plain(value: Any) -> Any:
    """A value without tensors and arrays, types of the numbers kept apart from bools."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return [tuple(pair) for pair in value.tolist()] if value.ndim == 2 else value.tolist()
    return value


def plain_row(item: Mapping[str, Any]) -> dict[str, Any]:
    """A row as the oracle has it, which knows no name of a source."""
    return {name: plain(value) for name, value in item.items() if name != "source"}


def assert_same_tensors(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Equal names, and under each of them equal types, shapes and values."""
    assert list(found) == list(expected)
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert found[name].dtype == value.dtype, name
            assert torch.equal(found[name], value), name
        elif isinstance(value, Sequence) and not isinstance(value, str):
            assert list(map(plain, found[name])) == list(map(plain, value)), name
        else:
            assert type(found[name]) is type(value), name
            assert found[name] == value, name


def assert_same_steps(found: Iterable[Mapping[str, Any]], expected: Iterable[Mapping[str, Any]]) -> None:
    """The same steps, as many of them."""
    for mine, theirs in zip(found, expected, strict=True):
        assert_same_tensors(mine, theirs)


def time_major(dataset: CacheDataset, *arguments: Any, **options: Any) -> TimeStepMajorDataLoader:
    """The loader, made by the public call."""
    loader = create_dataloader(dataset, *arguments, **options)
    assert isinstance(loader, TimeStepMajorDataLoader)
    return loader


def steps_of(loader: Iterable[Any]) -> list[Any]:
    """The steps of one epoch, those of groups one after the other."""
    return [step for found in loader for step in (found if isinstance(found, Group) else [found])]


def has_answers(dataset: CacheDataset) -> list[bool]:
    """For each row whether it holds a whole answer."""
    return [bool(flag) for flag in dataset.gather(slice(None), ["has_answer_in_segment"])["has_answer_in_segment"]]


def assert_rows_of_dataset(dataset: CacheDataset, steps: Iterable[Any]) -> None:
    """Lanes with a segment hold the row that they name."""
    columns = (*MODEL_KEYS, "cls_index", "segment_index")
    whole = dataset.gather(slice(None), columns)
    for step in steps:
        mask = step["document_mask"]
        for name in columns:
            found, expected = step[name][mask], whole[name][step["rows"][mask]]
            assert torch.equal(found, expected.to(found.dtype)), name


class Reading(NamedTuple):
    """The segments of a document that one lane read, one after the other."""

    example_id: str
    segment: int
    row: int
    length: int
    whole: bool


def readings(steps: Iterable[Any]) -> list[Reading]:
    """Which documents the lanes read, and that every lane reads them as the masks and flags say."""
    found: list[Reading] = []
    lanes: list[Reading | None] = []
    for step in steps:
        names = ("rows", "segment_index", "document_mask", "reset", "is_last")
        columns = [step[name].tolist() for name in names]
        if len(step["rows"]) != len(lanes):
            assert not any(lanes)
            lanes = [None] * len(step["rows"])
        assert step["num_active"] == sum(columns[2])
        for lane, (name, row, segment, *flags) in enumerate(zip(step["example_ids"], *columns, strict=True)):
            active, reset, is_last = flags
            now = lanes[lane]
            if not active:
                assert (now, row, segment, reset, is_last) == (None, -1, -1, False, False)
                continue
            assert reset == (now is None)
            now = now or Reading(name, segment, row, 0, False)
            assert (name, segment - now.length, row - now.length) == now[:3]
            now = now._replace(length=now.length + 1, whole=is_last)
            if is_last:
                found.append(now)
            lanes[lane] = None if is_last else now
    return found + [lane for lane in lanes if lane is not None]


class Gathers:
    """The rows of each gather from here on: of the tokens, and of the small columns."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.tokens: list[list[int]] = []
        self.small: list[list[int]] = []
        real = FeatureTensors.gather

        def counted(tensors: FeatureTensors, rows: torch.Tensor, *names: Any) -> dict[str, torch.Tensor]:
            found = real(tensors, rows, *names)
            (self.tokens if "input_ids" in found else self.small).append(rows.tolist())
            return found

        monkeypatch.setattr(FeatureTensors, "gather", counted)


def made_step(mask: str, reset: str) -> dict[str, Any]:
    """A step of lanes that are written as 1 and 0."""
    masks = {"document_mask": mask, "reset": reset}
    step: dict[str, Any] = {name: torch.tensor([one == "1" for one in text]) for name, text in masks.items()}
    return step | {"num_active": mask.count("1")}
