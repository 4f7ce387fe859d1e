"""The encoder against the transformers pair call, bit for bit."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from memxlnet.encode.examples import Example
from tests.encode.oracle import (
    Row,
    Tables,
    documents,
    encode,
    expected_rows,
    features,
    found_rows,
    kept_and_lost,
    make_example,
    offsets_of,
    texts,
)
from tests.styles import STYLES, make, shared
from tests.support import in_quarters, slow_but

style_names = pytest.mark.parametrize("name", STYLES)

COLUMNS_OF_ROWS = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "cls_index",
    "segment_index",
    "context_token_start",
    "context_token_count",
    "context_row_start",
    "question_row_start",
    "start_positions",
    "end_positions",
    "has_answer_in_segment",
)


@st.composite
def chunks(draw: st.DrawFn) -> list[Example]:
    """Examples that share some of their contexts and questions."""
    contexts = draw(st.lists(st.one_of(texts(30, 12), texts(4)), min_size=1, max_size=3))
    questions = draw(st.lists(texts(3), min_size=1, max_size=2))
    pairs = draw(st.lists(st.tuples(st.sampled_from(contexts), st.sampled_from(questions)), min_size=1, max_size=4))
    return [make_example(context, question, row=row) for row, (context, question) in enumerate(pairs)]


@st.composite
def lengths(draw: st.DrawFn, overhead: int) -> tuple[int, int]:
    """A row length and an overlap that fits it."""
    room = draw(st.integers(2, 45))
    return overhead + room, draw(st.one_of(st.integers(0, min(room - 1, 4)), st.integers(0, room - 1)))


@style_names
@in_quarters
@given(data=st.data(), chunk=chunks(), memory_tokens=st.sampled_from([0, 0, 1, 3]))
def test_rows_equal_those_of_transformers(
    name: str, quarter: int, data: st.DataObject, chunk: list[Example], memory_tokens: int
) -> None:
    style, tokenizer = STYLES[name], shared(name, memory_tokens)
    length, overlap = data.draw(lengths(style.overhead + 2 * memory_tokens))
    tables = encode(tokenizer, chunk, max_seq_length=length, doc_stride=overlap, on_bad_example="drop")
    kept, lost = kept_and_lost(tokenizer, style, chunk, length - 2 * memory_tokens, overlap)
    event(f"examples kept: {len(kept)} of {len(chunk)}")
    event(f"longest document: {max([row['segment_index'] for row in features(tables)], default=-1) + 1} segments")
    assert tables["dropped"]["id"].to_pylist() == [example.id for example in lost]
    assert tables["documents"]["id"].to_pylist() == [example.id for example in kept]
    assert found_rows(tables, memory_tokens) == expected_rows(tokenizer, style, kept, length, overlap, memory_tokens)


@pytest.mark.parametrize("name", slow_but(["xlnet", "bert-padded-left", "roberta", "llama3"], STYLES))
@in_quarters
@given(data=st.data(), chunk=chunks())
def test_rows_do_not_depend_on_the_chunks(name: str, quarter: int, data: st.DataObject, chunk: list[Example]) -> None:
    style, tokenizer = STYLES[name], shared(name)
    length, overlap = data.draw(lengths(style.overhead))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(chunk)), max_size=3)) | {0, len(chunk)})
    settings = {"max_seq_length": length, "doc_stride": overlap, "on_bad_example": "drop"}
    whole = encode(tokenizer, chunk, **settings)
    parts = [encode(tokenizer, chunk[start:stop], **settings) for start, stop in pairwise(cuts)]
    for table in ("features", "documents", "contexts", "dropped"):
        assert all(part[table].schema.equals(whole[table].schema, check_metadata=True) for part in parts)
    assert [resolved for part in parts for resolved in _resolved(part)] == _resolved(whole)
    assert [row for part in parts for row in part["dropped"].to_pylist()] == whole["dropped"].to_pylist()


def _resolved(tables: Tables) -> list[dict[str, Any]]:
    """The segments with what they point to instead of row numbers, which count from the chunk's start."""
    contexts, all_documents = tables["contexts"].to_pylist(), documents(tables)
    resolved = []
    for row, mapping in zip(features(tables), offsets_of(tables), strict=True):
        document = {**all_documents[row["document"]]}
        document["context"] = contexts[document["context"]]
        del document["first_segment"]
        columns = {name: row[name] for name in COLUMNS_OF_ROWS}
        resolved.append({**columns, "document": document, "offsets": mapping})
    return resolved


KNOWN_TEXTS = [
    ("", ""),
    ("", "what is it?"),
    ("the river", ""),
    ("the river", "  \n leading and trailing blanks \u00a0 "),
    (" \t\u00a0\u3000\u200b ", "what?"),
    ("the [MEM_READ_0] and [MEM_WRITE_0] river <sep> </s> [SEP]", "who is [MEM_WRITE_1]? <cls> <s> [CLS]"),
    ("line one\r\nline two\rline three\n" * 3, "what\r\nis it"),
    ("e\u0301\u0327 \u00e9\u0327 \U0001d11e\U0001f468\u200d\U0001f469 \u0000\u0001\u200d\ufeff " * 4, "\u0301"),
    ("the German-born of Paris in 1990 " * 9, "who was born?"),
]
"""Contexts and questions."""


@style_names
@pytest.mark.parametrize("memory_tokens", [0, 2])
def test_rows_of_known_texts(name: str, memory_tokens: int) -> None:
    style, tokenizer = STYLES[name], shared(name, memory_tokens)
    length, overlap = style.overhead + 2 * memory_tokens + 52, 7
    chunk = [make_example(context, question, row=row) for row, (context, question) in enumerate(KNOWN_TEXTS)]
    tables = encode(tokenizer, chunk, max_seq_length=length, doc_stride=overlap)
    assert found_rows(tables, memory_tokens) == expected_rows(tokenizer, style, chunk, length, overlap, memory_tokens)


@style_names
def test_a_tokenizer_that_was_used_before_gives_the_same_rows(name: str) -> None:
    """A call leaves its padding and truncation in the backend; neither may reach the rows."""
    chunk = [make_example("the river of Paris " * 20, "what is it?")]
    used = make(name)
    used("a", "b", truncation="only_second", max_length=9, stride=1, padding="max_length")
    settings = {"max_seq_length": 40, "doc_stride": 8}
    assert found_rows(encode(used, chunk, **settings)) == found_rows(encode(make(name), chunk, **settings))


def test_memory_tokens_of_xlnet_written_out() -> None:
    tokenizer = make("xlnet", 2)
    tables = encode(tokenizer, [make_example("the river", "what")], max_seq_length=12, doc_stride=1)
    [row] = found_rows(tables, 2)
    tokens = "<pad> <pad> ▁the ▁river [MEM_WRITE_0] [MEM_WRITE_1] <sep> [MEM_READ_0] [MEM_READ_1] ▁what <sep> <cls>"
    assert tokenizer.convert_ids_to_tokens(row.input_ids) == tokens.split()
    offsets = [(0, 0)] * 12
    offsets[2:4], offsets[9] = [(0, 3), (4, 9)], (0, 4)
    assert row == Row(0, row.input_ids, [0] * 2 + [1] * 10, [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2], offsets, 11, 7, 4)


def test_memory_tokens_of_bert_written_out() -> None:
    tokenizer = make("bert-uncased", 1)
    tables = encode(tokenizer, [make_example("The river", "what")], max_seq_length=10, doc_stride=1)
    [row] = found_rows(tables, 1)
    tokens = "[CLS] [MEM_READ_0] what [SEP] the river [MEM_WRITE_0] [SEP] [PAD] [PAD]"
    assert tokenizer.convert_ids_to_tokens(row.input_ids) == tokens.split()
    offsets = [(0, 0)] * 10
    offsets[2], offsets[4:6] = (0, 4), [(0, 3), (4, 9)]
    assert row == Row(0, row.input_ids, [1] * 8 + [0] * 2, [0, 0, 0, 0, 1, 1, 1, 1, 0, 0], offsets, 0, 1, 6)


def test_memory_tokens_of_roberta_written_out() -> None:
    tokenizer = make("roberta", 1)
    tables = encode(tokenizer, [make_example("the river", "what")], max_seq_length=11, doc_stride=1)
    [row] = found_rows(tables, 1)
    tokens = "<s> [MEM_READ_0] what </s> </s> the Ġriver [MEM_WRITE_0] </s> <pad> <pad>"
    assert tokenizer.convert_ids_to_tokens(row.input_ids) == tokens.split()
    offsets = [(0, 0)] * 11
    offsets[2], offsets[5:7] = (0, 4), [(0, 3), (4, 9)]
    assert row == Row(0, row.input_ids, [1] * 9 + [0] * 2, [0] * 11, offsets, 0, 1, 7)


@style_names
def test_the_insertion_of_memory_tokens_can_be_turned_off(name: str) -> None:
    tokenizer = shared(name, 2)
    chunk = [make_example("the river of Paris " * 20, "what is it?")]
    tables = encode(tokenizer, chunk, max_seq_length=40, doc_stride=8, insert_memory_tokens=False)
    assert found_rows(tables) == expected_rows(tokenizer, STYLES[name], chunk, 40, 8)


def test_raw_memory_tokens_do_not_move_the_places_of_the_real_ones() -> None:
    tokenizer = make("xlnet", 1)
    chunk = [make_example("[MEM_WRITE_0] [MEM_READ_0] river", "[MEM_READ_0] what [MEM_WRITE_0]")]
    [row] = found_rows(encode(tokenizer, chunk, max_seq_length=16, doc_stride=1), 1)
    tokens = tokenizer.convert_ids_to_tokens(row.input_ids)
    assert tokens.count("[MEM_READ_0]") == tokens.count("[MEM_WRITE_0]") == 3
    assert tokens[row.mem_write_start : row.mem_write_start + 3] == ["[MEM_WRITE_0]", "<sep>", "[MEM_READ_0]"]
    assert row.mem_read_start == row.mem_write_start + 2
    assert row.offsets[row.mem_write_start] == row.offsets[row.mem_read_start] == (0, 0)
