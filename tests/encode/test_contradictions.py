"""Labels of a row's answer, contradictions between them, and what becomes of these."""

from typing import Any, get_args

import numpy as np
import pytest

from memxlnet.encode.examples import Example, parse_example
from memxlnet.errors import ExampleError
from memxlnet.settings import OnContradiction

REAL, OTHER, EMPTY, BLANK = ("lamp", 4), ("the", 0), ("", -1), (" \u3000", 3)
ABSENT, NULL = "absent", None

IMPOSSIBLE_WITH_ANSWERS = "expected no answer where 'is_impossible' is true, found {}"
POSSIBLE_WITHOUT = "expected an answer where 'is_impossible' is false, found none"
WITH_BLANK = "expected answers with text, found {} of {} blank"

Golds = list[tuple[str, int]]


def row(answers: Any, **fields: Any) -> dict[str, Any]:
    found = {"id": "a", "question": "q", "context": "the lamp", "answers": answers, **fields}
    return {name: value for name, value in found.items() if not (isinstance(value, str) and value == ABSENT)}


def listed(golds: Golds) -> Any:
    return [{"text": text, "answer_start": start} for text, start in golds]


def columns(golds: Golds) -> Any:
    return {"text": [text for text, _ in golds], "answer_start": [start for _, start in golds]}


def arrays(golds: Golds) -> Any:
    texts, starts = [text for text, _ in golds], [start for _, start in golds]
    return {"text": np.array(texts, object), "answer_start": np.array(starts, np.int32)}


# Golds, is_impossible: the contradiction, the golds with "unanswerable" and those with "answers".
TABLE: list[tuple[Golds, Any, str, Golds, Golds]] = [
    ([REAL], ABSENT, "", [REAL], [REAL]),
    ([REAL], NULL, "", [REAL], [REAL]),
    ([REAL, OTHER], False, "", [REAL, OTHER], [REAL, OTHER]),
    ([REAL], np.bool_(False), "", [REAL], [REAL]),
    ([], ABSENT, "", [], []),
    ([], NULL, "", [], []),
    ([], True, "", [], []),
    ([], np.bool_(True), "", [], []),
    ([EMPTY], True, "", [], []),
    ([BLANK, EMPTY], True, "", [], []),
    ([], False, POSSIBLE_WITHOUT, [], []),
    ([], np.bool_(False), POSSIBLE_WITHOUT, [], []),
    ([REAL], True, IMPOSSIBLE_WITH_ANSWERS.format(1), [], [REAL]),
    ([REAL, OTHER], np.bool_(True), IMPOSSIBLE_WITH_ANSWERS.format(2), [], [REAL, OTHER]),
    ([EMPTY, REAL], True, IMPOSSIBLE_WITH_ANSWERS.format(1), [], [REAL]),
    *(([EMPTY], flag, WITH_BLANK.format(1, 1), list[Any](), list[Any]()) for flag in (ABSENT, NULL, False)),
    *(([REAL, BLANK, EMPTY], flag, WITH_BLANK.format(2, 3), [REAL], [REAL]) for flag in (ABSENT, NULL, False)),
]


@pytest.mark.parametrize("form", [listed, columns, arrays])
@pytest.mark.parametrize("policy", get_args(OnContradiction))
@pytest.mark.parametrize(("golds", "flag", "contradiction", "unanswerable", "answers"), TABLE)
def test_the_rules(
    golds: Golds, flag: Any, contradiction: str, unanswerable: Golds, answers: Golds, policy: str, form: Any
) -> None:
    raw = row(form(golds), is_impossible=flag)
    if contradiction and policy == "error":
        with pytest.raises(ExampleError) as caught:
            parse_example(7, raw, "file", policy)
        assert str(caught.value) == (
            f"file, example 'a' (row 7): {contradiction}; set on_contradiction='unanswerable' or "
            "on_contradiction='answers' to keep and count such examples, or on_bad_example='drop' to drop them"
        )
        return
    kept = unanswerable if policy == "unanswerable" else answers
    texts, starts = tuple(text for text, _ in kept), tuple(start for _, start in kept)
    expected = Example(7, "a", "q", "the lamp", texts, starts, contradiction=contradiction)
    assert parse_example(7, raw, "file", policy) == expected


@pytest.mark.parametrize("policy", get_args(OnContradiction))
@pytest.mark.parametrize("answers", [ABSENT, NULL])
@pytest.mark.parametrize(("flag", "labelled"), [(ABSENT, False), (NULL, False), (False, False), (True, True)])
def test_a_row_without_answers_is_unlabelled(answers: Any, flag: Any, labelled: bool, policy: str) -> None:
    found = parse_example(0, row(answers, is_impossible=flag), "file", policy)
    assert found == Example(0, "a", "q", "the lamp", (), (), labelled=labelled)


@pytest.mark.parametrize("answers", [0, False, "", "lamp", b"", 1.5, float("nan")])
def test_answers_of_a_wrong_kind_are_not_unlabelled(answers: Any) -> None:
    with pytest.raises(ExampleError, match="'answers'"):
        parse_example(0, row(answers), "file")


@pytest.mark.parametrize("kind", ["yes_no", "number"])
def test_the_kind_of_answers_is_kept_where_there_are_any(kind: str) -> None:
    found = parse_example(0, row(listed([("yes", -1), REAL]), answer_kind=kind), "file")
    assert (found.answer_kind, found.answer_texts, found.answer_starts) == (kind, ("yes", "lamp"), (-1, 4))
    assert parse_example(0, row([], answer_kind=kind), "file").answer_kind == ""
    assert parse_example(0, row(None, answer_kind=kind), "file") == parse_example(0, row(None), "file")
    assert parse_example(0, row([], answer_kind=None), "file").answer_kind == ""
