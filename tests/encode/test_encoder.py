"""Encoding a chunk: its tables, what is refused, what is dropped and counted."""

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrow_schemas import DROPPED, TABLES, diff, table_schema
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import BadExample, Example
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.errors import ExampleError, MemxlnetError, TokenizerError
from memxlnet.settings import EncodeSettings
from tests.encode.oracle import documents, encode, features, make_example, texts
from tests.styles import make, shared

# Five tokens of question and three special ones: room for 8 of context.
LENGTH, QUESTION = 16, "is is is is is"


def test_every_table_has_the_schema_of_the_format() -> None:
    tables = encode(make("xlnet"), [make_example("the river")], max_seq_length=16, doc_stride=2)
    assert list(tables) == [*TABLES, DROPPED]
    for name, batch in tables.items():
        assert diff(table_schema(name, 16), batch.schema) == []
        batch.validate(full=True)
        assert all(column.null_count == 0 for column in batch.columns)


@pytest.mark.parametrize("chunk", [[], [BadExample(0, "x", "why")]])
def test_a_chunk_without_examples_gives_empty_tables(chunk: list[Any]) -> None:
    tables = encode(make("bert-cased"), chunk, max_seq_length=16, doc_stride=2)
    assert [tables[name].num_rows for name in (*TABLES, DROPPED)] == [0, 0, 0, len(chunk)]
    assert all(diff(table_schema(name, 16), batch.schema) == [] for name, batch in tables.items())


def test_contexts_are_stored_once_in_order_of_first_use() -> None:
    contexts = ["b", "a", "b", "", "a", "c"]
    tables = encode(
        make("xlnet"),
        [make_example(text, row=row) for row, text in enumerate(contexts)],
        max_seq_length=24,
        doc_stride=2,
    )
    assert tables["contexts"]["text"].to_pylist() == ["b", "a", "", "c"]
    assert tables["documents"]["context"].to_pylist() == [0, 1, 0, 2, 1, 3]


def test_contexts_of_dropped_examples_are_not_stored() -> None:
    chunk = [
        make_example("a " * 9, QUESTION, row=0),
        make_example("the river", "is", row=1),
        make_example("a " * 9, "is", row=2),
        make_example("of " * 9, QUESTION, row=3),
    ]
    tables = encode(make("xlnet"), chunk, max_seq_length=LENGTH, doc_stride=8, on_bad_example="drop")
    assert tables["contexts"]["text"].to_pylist() == ["the river", "a " * 9]
    assert tables["documents"]["id"].to_pylist() == ["id-1", "id-2"]
    assert tables["documents"]["context"].to_pylist() == [0, 1]
    assert tables["documents"]["first_segment"].to_pylist() == [0, 1]
    assert tables["features"]["document"].to_pylist() == [0, 1]
    assert tables["dropped"]["row"].to_pylist() == [0, 3]


def test_texts_are_stored_exactly_as_given() -> None:
    context, question = " \r\n\u00a0caf\u0065\u0301 \U0001f600\x00\u2028 ", "\t what? \n"
    answer = (" \r", 7)
    tables = encode(make("roberta"), [make_example(context, question, [answer])], max_seq_length=64, doc_stride=8)
    [document] = documents(tables)
    assert tables["contexts"]["text"].to_pylist() == [context]
    assert document["question"] == question
    assert (document["answer_texts"], document["answer_starts"]) == ([" \r"], [7])


@given(
    pairs=st.lists(st.tuples(texts(12), texts(3)), max_size=5),
    length=st.integers(12, 40),
    overlap=st.integers(0, 8),
    kept=st.sampled_from([None, 1, 3]),
)
def test_the_tables_refer_to_each_other(
    pairs: list[tuple[str, str]], length: int, overlap: int, kept: int | None
) -> None:
    chunk = [make_example(context, question, row=row) for row, (context, question) in enumerate(pairs)]
    settings = {"max_seq_length": length, "doc_stride": overlap, "max_n_segs": kept, "on_bad_example": "drop"}
    tables = encode(shared("xlnet-sample"), chunk, **settings)
    rows, all_documents = features(tables), documents(tables)
    assert len(all_documents) + tables["dropped"].num_rows == len(chunk)
    by_id = {example.id: example for example in chunk}
    for number, document in enumerate(all_documents):
        first, count = document["first_segment"], document["num_segments"]
        assert [row["document"] for row in rows[first : first + count]] == [number] * count
        assert [row["segment_index"] for row in rows[first : first + count]] == list(range(count))
        assert tables["contexts"]["text"][document["context"]].as_py() == by_id[document["id"]].context
        assert document["question"] == by_id[document["id"]].question
        assert kept is None or count <= kept
    assert sum(document["num_segments"] for document in all_documents) == len(rows)
    assert len(set(tables["contexts"]["text"].to_pylist())) == tables["contexts"].num_rows


def test_the_same_chunk_gives_the_same_batches() -> None:
    content, settings = read_tokenizer(make("roberta")), EncodeSettings(max_seq_length=32, doc_stride=4)
    chunk = [make_example("the river of Paris " * 9, row=0), make_example("German", row=1)]
    encoder = Encoder(content.backend, content.layout, settings)
    first = encoder.encode(chunk)
    encoder.encode([make_example("something else in between")])
    again = encoder.encode(chunk)
    other = Encoder(content.backend, content.layout, settings).encode(chunk)
    assert all(first[name].equals(again[name]) and first[name].equals(other[name]) for name in first)


@pytest.mark.parametrize("name", ["xlnet", "bert-cased", "roberta"])
@pytest.mark.parametrize("words", [3, 12, 13, 14, 200])
def test_a_question_without_room_for_context_names_the_example(name: str, words: int) -> None:
    tokenizer = make(name)
    question = "is" + " is" * (words - 1)
    context = "of" + " of" * 29
    overhead = read_tokenizer(tokenizer).layout.overhead
    room = overhead + 13 - overhead - words
    chunk = [make_example("of", "is", row=0), make_example(context, question, row=1)]
    settings = {"max_seq_length": overhead + 13, "doc_stride": 0}
    if room > 0:
        assert len(features(encode(tokenizer, chunk, **settings))) == 1 + -(-30 // room)
        return
    with pytest.raises(ExampleError) as caught:
        encode(tokenizer, chunk, **settings)
    assert str(caught.value) == (
        f"example 'id-1' (row 1): its question of {words} tokens leaves room for 0 tokens of context in "
        f"max_seq_length {overhead + 13}; expected more than doc_stride 0 (the overlap) for a context of 30 tokens; "
        "raise max_seq_length, lower doc_stride or use on_bad_example='drop'"
    )
    tables = encode(tokenizer, chunk, on_bad_example="drop", **settings)
    assert tables["documents"]["id"].to_pylist() == ["id-0"]
    assert tables["dropped"].to_pylist() == [
        {"row": 1, "id": "id-1", "reason": str(caught.value).partition("; raise")[0]}
    ]


@pytest.mark.parametrize(("overlap", "works"), [(0, True), (7, True), (8, False), (12, False)])
def test_the_overlap_must_be_smaller_than_the_room_that_the_question_leaves(overlap: int, works: bool) -> None:
    chunk = [make_example("a " * 9, QUESTION)]
    if works:
        assert len(features(encode(make("xlnet"), chunk, max_seq_length=LENGTH, doc_stride=overlap))) == 2
        return
    with pytest.raises(ExampleError, match=rf"\b5\b.*\b8\b.*doc_stride {overlap}\b"):
        encode(make("xlnet"), chunk, max_seq_length=LENGTH, doc_stride=overlap)


@pytest.mark.parametrize("overlap", [8, 12])
def test_a_context_that_fits_needs_no_overlap(overlap: int) -> None:
    tables = encode(make("xlnet"), [make_example("a " * 8, QUESTION)], max_seq_length=LENGTH, doc_stride=overlap)
    assert len(features(tables)) == 1


def test_a_question_that_fills_the_row_goes_with_an_empty_context() -> None:
    tokenizer = make("xlnet")
    tables = encode(tokenizer, [make_example("", "is " * 13)], max_seq_length=LENGTH, doc_stride=2)
    assert features(tables)[0]["attention_mask"] == [1] * LENGTH
    with pytest.raises(ExampleError, match=r"\b14\b.*\b0\b"):
        encode(tokenizer, [make_example("", "is " * 14)], max_seq_length=LENGTH, doc_stride=2)


def test_dropped_examples_are_reported_in_the_order_of_the_source() -> None:
    chunk: list[Example | BadExample] = [
        BadExample(10, "before", "why 10"),
        make_example("a " * 30, "is " * 20, row=11),
        make_example("the river", row=12),
        BadExample(13, "between", "why 13"),
        make_example("a " * 40, "is " * 20, row=14),
    ]
    tables = encode(make("xlnet"), chunk, max_seq_length=LENGTH, doc_stride=2, on_bad_example="drop")
    dropped = tables["dropped"].to_pylist()
    assert [(row["row"], row["id"]) for row in dropped] == [
        (10, "before"),
        (11, "id-11"),
        (13, "between"),
        (14, "id-14"),
    ]
    assert [dropped[0]["reason"], dropped[2]["reason"]] == ["why 10", "why 13"]
    assert "context of 40 tokens" in dropped[3]["reason"]
    assert tables["documents"]["id"].to_pylist() == ["id-12"]


class _Failing:
    """A backend whose batches fail with a given error."""

    def __init__(self, backend: Any, error: BaseException):
        self._backend = backend
        self._error = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def encode_batch(self, texts: list[str], add_special_tokens: bool) -> list[Any]:
        raise self._error


def _panic() -> BaseException:
    """A real panic of the Rust side: an overlap that is not smaller than the row."""
    backend = make("bert-cased").backend_tokenizer
    encoding = backend.encode("a b c d e f")
    try:
        encoding.truncate(2, stride=3)
    except BaseException as error:
        return error
    raise AssertionError("expected the Rust side to panic")


def _failing_encoder(error: BaseException, name: str = "roberta-untrimmed") -> Encoder:
    content = read_tokenizer(make(name))
    failing: Any = _Failing(content.backend, error)
    return Encoder(failing, content.layout, EncodeSettings(max_seq_length=16, doc_stride=2))


@pytest.mark.parametrize("name", ["xlnet", "bert-cased", "roberta-untrimmed"])
def test_a_panic_of_the_tokenizer_is_an_error_that_names_the_examples(name: str) -> None:
    panic = _panic()
    assert not isinstance(panic, Exception)
    assert type(panic).__name__ == "PanicException"
    chunk = [make_example("a", row=row) for row in range(5)]
    with pytest.raises(TokenizerError, match="'id-0', 'id-1', 'id-2'"):
        _failing_encoder(panic, name).encode(chunk)


def test_any_failure_of_the_tokenizer_names_the_examples() -> None:
    with pytest.raises(TokenizerError, match=r"'id-0'.*broken") as caught:
        _failing_encoder(RuntimeError("broken")).encode([make_example("a")])
    assert isinstance(caught.value, MemxlnetError)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_process_is_not_caught(error: type[BaseException]) -> None:
    with pytest.raises(error):
        _failing_encoder(error()).encode([make_example("a")])


def test_stored_types_hold_long_rows() -> None:
    tables = encode(make("xlnet-sample"), [make_example("word " * 3000, "what?")], max_seq_length=4096, doc_stride=9)
    batch: pa.RecordBatch = tables["features"]
    ids = np.asarray(batch["input_ids"].values).reshape(batch.num_rows, 4096)
    assert ids.dtype == np.int32
    assert [int(row[position]) for row, position in zip(ids, batch["cls_index"].to_pylist(), strict=True)] == [3] * len(
        ids
    )


def test_messages_quote_ids_whole() -> None:
    chunk = [make_example("a " * 30, "is " * 20)._replace(id="it's\n\u2028here")]
    with pytest.raises(ExampleError, match=re.escape(repr("it's\n\u2028here"))):
        encode(make("xlnet"), chunk, max_seq_length=LENGTH, doc_stride=2)
