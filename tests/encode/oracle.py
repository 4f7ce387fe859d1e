"""What rows must be: taken from transformers' own pair call, with memory tokens put in by hand."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from hypothesis import strategies as st

from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import BadExample, Example
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.settings import EncodeSettings
from tests.styles import WORDS, Style

Tables = dict[str, pa.RecordBatch]


class Row(NamedTuple):
    """One row of model input, as plain values."""

    example: int
    input_ids: list[int]
    attention_mask: list[int]
    token_type_ids: list[int]
    offsets: list[tuple[int, int]]
    cls_index: int
    mem_read_start: int = -1
    mem_write_start: int = -1


def make_example(
    context: str, question: str = "what is it?", answers: Sequence[tuple[str, int]] = (), row: int = 0
) -> Example:
    texts, starts = tuple(text for text, _ in answers), tuple(start for _, start in answers)
    return Example(row, f"id-{row}", question, context, texts, starts)


def encode(tokenizer: Any, examples: Sequence[Example | BadExample], **settings: Any) -> Tables:
    made = EncodeSettings(**settings)
    content = read_tokenizer(tokenizer, made.insert_memory_tokens)
    return Encoder(content.backend, content.layout, made).encode(examples)


def features(tables: Tables) -> list[dict[str, Any]]:
    """The rows of the features table, as dicts of plain values."""
    found: list[dict[str, Any]] = tables["features"].to_pylist()
    return found


def documents(tables: Tables) -> list[dict[str, Any]]:
    """The rows of the documents table, as dicts of plain values."""
    found: list[dict[str, Any]] = tables["documents"].to_pylist()
    return found


def offsets_of(tables: Tables) -> list[list[tuple[int, int]]]:
    """The offset mapping of every row, from the columns and nothing else."""
    contexts, all_documents = tables["contexts"].to_pylist(), documents(tables)
    mappings = []
    for row in features(tables):
        document = all_documents[row["document"]]
        context = contexts[document["context"]]
        mapping = [(0, 0)] * len(row["input_ids"])
        first, count, at = row["context_token_start"], row["context_token_count"], row["context_row_start"]
        pairs = list(zip(context["token_starts"], context["token_stops"], strict=True))
        mapping[at : at + count] = pairs[first : first + count]
        pairs = list(zip(document["question_token_starts"], document["question_token_stops"], strict=True))
        mapping[row["question_row_start"] : row["question_row_start"] + len(pairs)] = pairs
        mappings.append(mapping)
    return mappings


def found_rows(tables: Tables, memory_tokens: int = 0) -> list[Row]:
    """The encoder's rows; the places of the memory tokens come from the columns."""
    return [
        Row(
            row["document"],
            row["input_ids"],
            row["attention_mask"],
            row["token_type_ids"],
            mapping,
            row["cls_index"],
            row["question_row_start"] - memory_tokens if memory_tokens else -1,
            row["context_row_start"] + row["context_token_count"] if memory_tokens else -1,
        )
        for row, mapping in zip(features(tables), offsets_of(tables), strict=True)
    ]


def pair_call(tokenizer: Any, style: Style, examples: Sequence[Example], length: int, overlap: int) -> Any:
    """The usual preprocessing call of question answering, with all its outputs."""
    questions, contexts = [example.question for example in examples], [example.context for example in examples]
    return tokenizer(
        *((contexts, questions) if style.context_first else (questions, contexts)),
        truncation="only_first" if style.context_first else "only_second",
        max_length=length,
        stride=overlap,
        padding="max_length",
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
        return_attention_mask=True,
    )


def expected_rows(
    tokenizer: Any, style: Style, examples: Sequence[Example], length: int, overlap: int, memory_tokens: int = 0
) -> list[Row]:
    """transformers' rows at `length` less the memory tokens, with these put in at their places."""
    if not examples:
        return []
    called = pair_call(tokenizer, style, examples, length - 2 * memory_tokens, overlap)
    rows = []
    for number, example in enumerate(called["overflow_to_sample_mapping"]):
        mask = called["attention_mask"][number]
        first = mask.index(1)
        row = Row(
            example,
            called["input_ids"][number],
            mask,
            _with_types_of_the_template(tokenizer, called, number),
            called["offset_mapping"][number],
            first + (sum(mask) - 1 if style.cls_from_start is None else style.cls_from_start),
        )
        if memory_tokens:
            row = _with_memory(tokenizer, style, row, called.sequence_ids(number), memory_tokens)
        rows.append(row)
    return rows


def _with_types_of_the_template(tokenizer: Any, called: Any, number: int) -> list[int]:
    """The segment ids of a row: transformers has others in the texts of later windows where they are not 0 and 1."""
    types: list[int] = called["token_type_ids"][number]
    sides = [_type_of_side(tokenizer, side) for side in (0, 1)]
    samples = called["overflow_to_sample_mapping"]
    if sides == [0, 1] or samples.index(samples[number]) == number:
        return types
    return [
        given if side is None else sides[side] for given, side in zip(types, called.sequence_ids(number), strict=True)
    ]


def _with_memory(tokenizer: Any, style: Style, row: Row, sides: list[int | None], count: int) -> Row:
    first = row.attention_mask.index(1)
    first_text = first + style.prefix
    between = first_text + sides.count(0)
    second_text = between + style.middle
    end = second_text + sides.count(1)
    reads = tokenizer.convert_tokens_to_ids([f"[MEM_READ_{slot}]" for slot in range(count)])
    writes = tokenizer.convert_tokens_to_ids([f"[MEM_WRITE_{slot}]" for slot in range(count)])
    types = {0: _type_of_side(tokenizer, 0), 1: _type_of_side(tokenizer, 1)}
    if style.context_first:
        insertions = [(second_text, reads, types[1]), (between, writes, types[0])]
        places = (second_text + count, between)
    else:
        insertions = [(end, writes, types[1]), (first_text, reads, types[0])]
        places = (first_text, end + count)
    ids, mask, segments, offsets = row.input_ids[:], row.attention_mask[:], row.token_type_ids[:], row.offsets[:]
    cls_index = row.cls_index
    for at, tokens, side in insertions:  # the last place first, so that the other one stays where it is
        ids[at:at] = tokens
        mask[at:at] = [1] * count
        segments[at:at] = [side] * count
        offsets[at:at] = [(0, 0)] * count
        cls_index += count * (row.cls_index >= at)
    return Row(row.example, ids, mask, segments, offsets, cls_index, *places)


def _type_of_side(tokenizer: Any, side: int) -> int:
    called = tokenizer("0", "0", return_token_type_ids=True)
    return int(called["token_type_ids"][called.sequence_ids(0).index(side)])


def kept_and_lost(
    tokenizer: Any, style: Style, examples: Sequence[Example], room_for_texts: int, overlap: int
) -> tuple[list[Example], list[Example]]:
    """The examples whose rows can be made, and the others: found by tokenizing each text alone."""

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    kept: list[Example] = []
    lost: list[Example] = []
    for example in examples:
        room = room_for_texts - style.overhead - count(example.question)
        (lost if count(example.context) > room and room <= overlap else kept).append(example)
    return kept, lost


NASTY = (
    *("\u0301", "\u0327", "e\u0301", "\u00e9", "\u1e69", "s\u0323\u0307", "\u3099", "\uff76\uff9e"),
    *("\uac00", "\u1100\u1161", "\u0915\u094d\u0937", "\u0e33", "\u4e2d\u6587", "\u0627\u0644\u0639", "\u05d0"),
    *("\ufb01", "\u2460", "\u00bd", "\u0130", "\u00df", "\u01c4", "\u201c", "``", "''", "```"),
    *("\u200d", "\u200b", "\u200c", "\ufeff", "\u2060", "\u00ad", "\u00a0", "\u2003", "\u3000", "\u2028", "\u0085"),
    *("\r\n", "\r", "\n", "\t", "\x00", "\x01", "\x1b", "\x7f", "\ufffd", "\ufffe"),
    *("\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U00020000", "\U0010ffff", "\U0001d11e"),
    *("\u2581", "\u0120", "-", "--", ".", ",", "(", ")", "[", "]", "<", ">"),
)

RAW_SPECIAL = (
    "[MEM_READ_0]",
    "[MEM_WRITE_1]",
    "[MEM_READ_",
    "<sep>",
    "<cls>",
    "<pad>",
    "<mask>",
    " <mask>",
    "<unk>",
    "<s>",
    "</s>",
    "</s></s>",
    "[CLS]",
    "[SEP]",
    "[PAD]",
    "[MASK]",
    "[UNK]",
)

_ANY = st.characters(codec="utf-8")

fragments = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from([f" {word}" for word in WORDS]),
    st.sampled_from(["  ", " ", "\n", "\r\n", "\u00a0", "\t\t "]),
    st.sampled_from(NASTY),
    st.sampled_from(RAW_SPECIAL),
    st.text(_ANY, max_size=3),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=6),
)


def texts(max_fragments: int, min_fragments: int = 0) -> st.SearchStrategy[str]:
    return st.lists(fragments, min_size=min_fragments, max_size=max_fragments).map("".join)
