"""One raw row: an example, or an error that names row, example and field."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.encode.examples import FIELDS, BadExample, Example, bad_example, parse_example
from memxlnet.errors import ExampleError

GOOD: dict[str, Any] = {
    "id": "x",
    "question": " Q? ",
    "context": "C\r\n",
    "answers": {"text": ["C", "Q"], "answer_start": [0, -1]},
}


def without(*fields: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name not in fields}


def test_a_row_is_taken_as_it_is() -> None:
    assert parse_example(7, GOOD, "file") == Example(7, "x", " Q? ", "C\r\n", ("C", "Q"), (0, -1))


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ("C",), "answer_start": (0,)},
        {"text": np.array(["C"]), "answer_start": np.array([0])},
        {"text": ["C"], "answer_start": [0], "more": 1},
        [{"text": "C", "answer_start": 0}],
        ({"text": "C", "answer_start": 0, "more": 1},),
    ],
)
def test_the_forms_of_answers(answers: Any) -> None:
    found = parse_example(0, {**GOOD, "answers": answers}, "file")
    assert (found.answer_texts, found.answer_starts) == (("C",), (0,))
    assert type(found.answer_starts[0]) is int


@pytest.mark.parametrize("answers", [{"text": [], "answer_start": []}, [], ()])
def test_no_answers_are_an_unanswerable_example(answers: Any) -> None:
    assert parse_example(3, {**GOOD, "answers": answers}, "file") == Example(3, "x", " Q? ", "C\r\n", (), ())


@pytest.mark.parametrize(
    ("given_id", "expected"),
    [("", ""), ("id", "id"), (12, "12"), (0, "0"), (None, "doc_5"), ("\U0001f600", "\U0001f600")],
)
def test_ids(given_id: Any, expected: str) -> None:
    assert parse_example(5, {**GOOD, "id": given_id}, "file").id == expected
    assert parse_example(5, without("id"), "file").id == "doc_5"


_FLAGS: list[Any] = [0, 1, "false", "", [], 0.0]
_KINDS: list[Any] = ["", "yes", True, ["yes_no"]]

WRONG: list[tuple[Any, str]] = [
    ([1], "file, row 3: expected a mapping of fields, found list"),
    (None, "file, row 3: expected a mapping of fields, found NoneType"),
    ({**GOOD, "id": 1.5}, "file, row 3: field 'id': expected text, found float"),
    ({**GOOD, "id": True}, "file, row 3: field 'id': expected text, found bool"),
    ({**GOOD, "id": "\ud800"}, r"file, row 3: field 'id' holds half of a surrogate pair: '\\ud800'"),
    (without("question"), "file, example 'x' (row 3): expected a field 'question', found 'id', 'context', 'answers'"),
    (
        without("id", "context"),
        "file, example 'doc_3' (row 3): expected a field 'context', found 'question', 'answers'",
    ),
    ({}, "file, example 'doc_3' (row 3): expected a field 'question', found no field at all"),
    *(
        (
            {**GOOD, "is_impossible": flag},
            f"file, example 'x' (row 3): field 'is_impossible': expected true, false or null, found {flag!r}",
        )
        for flag in _FLAGS
    ),
    *(
        (
            {**GOOD, "answer_kind": kind},
            "file, example 'x' (row 3): field 'answer_kind': expected 'yes_no', 'number', 'absent' or null, "
            f"found {kind!r}",
        )
        for kind in _KINDS
    ),
    ({**GOOD, "question": None}, "file, example 'x' (row 3): field 'question': expected text, found NoneType"),
    ({**GOOD, "context": b"C"}, "file, example 'x' (row 3): field 'context': expected text, found bytes"),
    (
        {**GOOD, "context": "a\udfff"},
        "file, example 'x' (row 3): field 'context' holds half of a surrogate pair, which is no Unicode text",
    ),
    (
        {**GOOD, "answers": "C"},
        "file, example 'x' (row 3): field 'answers': expected a mapping with 'text' and 'answer_start' or a list of "
        "such mappings, found str",
    ),
    (
        {**GOOD, "answers": {"text": []}},
        "file, example 'x' (row 3): expected a field 'answers.answer_start', found ['text']",
    ),
    (
        {**GOOD, "answers": {"text": "C", "answer_start": [0]}},
        "file, example 'x' (row 3): field 'answers.text': expected a list, found str",
    ),
    (
        {**GOOD, "answers": {"text": ["C"], "answer_start": 0}},
        "file, example 'x' (row 3): field 'answers.answer_start': expected a list, found int",
    ),
    (
        {**GOOD, "answers": {"text": ["C", "D"], "answer_start": [0]}},
        "file, example 'x' (row 3): field 'answers': expected lists of one length, found 2 texts and 1 starts",
    ),
    (
        {**GOOD, "answers": {"text": ["C", None], "answer_start": [0, 0]}},
        "file, example 'x' (row 3): field 'answers.text[1]': expected text, found NoneType",
    ),
    (
        {**GOOD, "answers": {"text": ["\ud800"], "answer_start": [0]}},
        "file, example 'x' (row 3): field 'answers.text[0]': expected text, found half of a surrogate pair",
    ),
    *(
        (
            {**GOOD, "answers": {"text": ["C"], "answer_start": [start]}},
            f"file, example 'x' (row 3): field 'answers.answer_start[0]': expected an offset, found {start!r}",
        )
        for start in (None, "0", 0.0, True, 2**31)
    ),
    ({**GOOD, "answers": ["C"]}, "file, example 'x' (row 3): field 'answers[0]': expected a mapping, found str"),
    (
        {**GOOD, "answers": [{"text": "C", "answer_start": 0}, {"text": "C"}]},
        "file, example 'x' (row 3): expected a field 'answers[1].answer_start', found ['text']",
    ),
]


@pytest.mark.parametrize(("raw", "message"), WRONG)
def test_what_is_wrong_is_named(raw: Any, message: str) -> None:
    with pytest.raises(ExampleError) as caught:
        parse_example(3, raw, "file")
    assert str(caught.value) == message
    str(caught.value).encode()


def test_a_row_without_answers_is_bad_after_one_that_has_them() -> None:
    with pytest.raises(ExampleError) as caught:
        parse_example(3, without("answers"), "file", needs_answers=True)
    assert str(caught.value) == (
        "file, example 'x' (row 3): expected a field 'answers' as in rows before, found 'id', 'question', 'context' "
        "(unanswerable: an empty list; unlabelled: null)"
    )
    assert not parse_example(3, {**GOOD, "answers": None}, "file", needs_answers=True).labelled


@pytest.mark.parametrize(("raw", "message"), WRONG)
def test_a_bad_row_is_recorded_under_its_id(raw: Any, message: str) -> None:
    found = bad_example(3, raw, ExampleError(message))
    named = raw.get("id") if isinstance(raw, dict) else None
    assert found == BadExample(3, named if named == "x" else "doc_3", message)


def test_what_is_recorded_can_be_written() -> None:
    found = bad_example(3, {"id": "\ud800"}, ExampleError("reason \udfff"))
    assert found == BadExample(3, "doc_3", r"reason \udfff")


_leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2**33), st.floats(), st.text(st.characters(), max_size=3), st.binary()
)
_values = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["text", "answer_start", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(
    raw=st.one_of(_values, st.dictionaries(st.sampled_from(FIELDS), _values)),
    row=st.integers(0, 9),
)
def test_any_value_is_an_example_or_an_error_that_names_the_row(raw: Any, row: int) -> None:
    refused: ExampleError | None = None
    try:
        found = parse_example(row, raw, "file")
    except ExampleError as error:
        refused = error
    if refused is not None:
        assert re.match(r"file, (row|example .*\(row) \d", str(refused), re.DOTALL)
        bad_example(row, raw, refused).reason.encode()
        return
    assert (found.row, found.question, found.context) == (row, raw["question"], raw["context"])
    "".join([found.id, found.question, found.context, *found.answer_texts]).encode()
    assert len(found.answer_texts) == len(found.answer_starts)
