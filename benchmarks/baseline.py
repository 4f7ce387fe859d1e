"""The question answering preprocessing of transformers' examples: the baseline of the build."""

from collections.abc import Callable
from typing import Any


def pair_call(tokenizer: Any, questions: Any, contexts: Any, max_seq_length: int, doc_stride: int) -> Any:
    """Encode pairs of question and context, in the order that the tokenizer's padding side requires."""
    pad_on_right = tokenizer.padding_side == "right"
    return tokenizer(
        *((questions, contexts) if pad_on_right else (contexts, questions)),
        truncation="only_second" if pad_on_right else "only_first",
        max_length=max_seq_length,
        stride=doc_stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
        padding="max_length",
    )


def usual_preprocessing(tokenizer: Any, max_seq_length: int, doc_stride: int) -> Callable[[Any], Any]:
    """Return the function of the published recipe: pair call, offsets, start and end positions."""
    pad_on_right = tokenizer.padding_side == "right"

    def prepare(examples: Any) -> Any:
        encoded = pair_call(tokenizer, examples["question"], examples["context"], max_seq_length, doc_stride)
        samples = encoded.pop("overflow_to_sample_mapping")
        offsets_of = encoded["offset_mapping"]
        starts, ends = [], []
        for row, offsets in enumerate(offsets_of):
            cls_index = encoded["input_ids"][row].index(tokenizer.cls_token_id)
            sides = encoded.sequence_ids(row)
            answers = examples["answers"][samples[row]]
            span = _span(offsets, sides, 1 if pad_on_right else 0, answers, examples["context"][samples[row]])
            starts.append(cls_index if span is None else span[0])
            ends.append(cls_index if span is None else span[1])
        encoded["start_positions"], encoded["end_positions"] = starts, ends
        encoded["example_id"] = [examples["id"][sample] for sample in samples]
        return encoded

    return prepare


def _span(offsets: Any, sides: Any, side: int, answers: Any, text: str) -> tuple[int, int] | None:
    """Find the tokens of the answer's characters with the loops of the recipe.

    In the recipe, blanks and characters without a token at the ends of the answer shift the span, and so do tokens of
    blanks only; where several tokens cover one character, the end can precede the start. These cases are fixed here,
    so that the results of all methods can be compared value by value.
    """
    if not answers["answer_start"]:
        return None
    start_char = answers["answer_start"][0]
    end_char = start_char + len(answers["text"][0])
    while text[start_char].isspace():
        start_char += 1
    while text[end_char - 1].isspace():
        end_char -= 1
    first = 0
    while sides[first] != side:
        first += 1
    last = len(offsets) - 1
    while sides[last] != side:
        last -= 1
    if not (offsets[first][0] <= start_char and offsets[last][1] >= end_char):
        return None
    while not _is_covered(offsets[first : last + 1], end_char - 1):
        end_char -= 1
    start = first
    while start <= last and offsets[start][0] <= start_char:
        start += 1
    end = last
    while end >= first and offsets[end][1] >= end_char:
        end -= 1
    start, end = start - 1, end + 1
    if text[slice(*offsets[start])].isspace() or text[slice(*offsets[end])].isspace():
        return None
    return min(start, end), end


def _is_covered(offsets: Any, character: int) -> bool:
    return any(start <= character < stop for start, stop in offsets)
