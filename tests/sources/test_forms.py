"""Forms of public data: small inputs of the documented shapes, and the examples that they are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.encode.examples import parse_example
from memxlnet.errors import ExampleError, SettingsError, SourceError
from memxlnet.sources import Form, FormOptions, form_names, open_source, register_form
from memxlnet.sources.forms import form as registry
from memxlnet.sources.forms.form import Locate
from memxlnet.sources.forms.shared import code_points, join, locate, occurrences, with_history

CONTEXT = "Rome fell. The river Tiber é flows through Rome, and 42 bridges cross it."


def golds(*found: tuple[str, int]) -> dict[str, list[Any]]:
    return {"text": [text for text, _ in found], "answer_start": [start for _, start in found]}


def row(identity: str, question: str, context: str, *found: tuple[str, int], kind: str = "") -> dict[str, Any]:
    expected = {"id": identity, "question": question, "context": context, "answers": golds(*found)}
    return {**expected, "answer_kind": kind} if kind else expected


QA = {"id": "q", "question": "Q?", "answers": [{"text": "Tiber", "answer_start": 21}]}
SQUAD_ROW = {**QA, "context": CONTEXT}
TIBER_BYTES = len(CONTEXT[:30].encode())
HOTPOT = {
    "_id": "h",
    "question": "Q?",
    "supporting_facts": [["Two", 0]],
    "context": [["One", ["A Rome here.", " More."]], ["Two", ["The Rome there."]]],
}
HOTPOT_CONTEXT = "One\nA Rome here. More.\n\nTwo\nThe Rome there."
MUSIQUE = {
    "id": "m",
    "question": "Q?",
    "answer": "Rome",
    "answer_aliases": ["the Rome"],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "One", "paragraph_text": "A Rome here. More.", "is_supporting": False},
        {"idx": 1, "title": "Two", "paragraph_text": "The Rome there.", "is_supporting": True},
    ],
}
PAPER = {
    "title": "T",
    "abstract": "A",
    "full_text": [{"section_name": "S", "paragraphs": ["one two", "three"]}],
    "qas": [
        {
            "question_id": "a",
            "question": "Q?",
            "answers": [{"answer": {"extractive_spans": ["two"], "yes_no": None, "free_form_answer": ""}}],
        },
        {
            "question_id": "b",
            "question": "Q?",
            "answers": [{"answer": {"extractive_spans": [], "yes_no": False, "free_form_answer": ""}}],
        },
        {
            "question_id": "c",
            "question": "Q?",
            "answers": [{"answer": {"unanswerable": True, "extractive_spans": [], "yes_no": None}}],
        },
    ],
}
PAPER_CONTEXT = "T\nA\n\nS\none two\nthree"
DATE = {"day": "", "month": "", "year": ""}
COQA = {
    "id": "c",
    "story": CONTEXT,
    "questions": [
        {"input_text": "Which river?", "turn_id": 1},
        {"input_text": "Does it flow?", "turn_id": 2},
        {"input_text": "How deep?", "turn_id": 3},
    ],
    "answers": [
        {"input_text": "the tiber", "span_text": "river Tiber", "span_start": 15, "span_end": 26, "turn_id": 1},
        {"input_text": "Yes", "span_text": "flows", "span_start": 29, "span_end": 34, "turn_id": 2},
        {"input_text": "unknown", "span_text": "unknown", "span_start": -1, "span_end": -1, "turn_id": 3},
    ],
}

FORMS: dict[str, tuple[str, Any, list[dict[str, Any]]]] = {
    "squad": ("squad", {"data": [{"paragraphs": [{"context": CONTEXT, "qas": [QA]}]}]}, [SQUAD_ROW]),
    "squad with guid": (
        "squad",
        {"data": [{"paragraphs": [{"context": CONTEXT, "qas": [{"guid": "g", "question": "Q?", "answers": []}]}]}]},
        [{"guid": "g", "id": "g", "question": "Q?", "answers": [], "context": CONTEXT}],
    ),
    "tydiqa": (
        "tydiqa",
        {
            "data": [
                {
                    "paragraphs": [
                        {
                            "context": CONTEXT,
                            "qas": [
                                {
                                    "id": "finnish-12-3",
                                    "question": "Q?",
                                    "answers": [{"text": "flows", "answer_start": TIBER_BYTES - 1}],
                                }
                            ],
                        }
                    ]
                }
            ]
        },
        [
            {
                "id": "finnish-12-3",
                "question": "Q?",
                "answers": [{"text": "flows", "answer_start": 29}],
                "context": CONTEXT,
            }
        ],
    ),
    "korquad2": (
        "korquad2",
        {
            "data": [
                {
                    "title": "t",
                    "url": "u",
                    "raw_html": "<b>",
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "k",
                            "question": "Q?",
                            "answer": {"text": "Rome", "answer_start": 43, "html_answer_start": 99},
                        }
                    ],
                }
            ]
        },
        [row("k", "Q?", CONTEXT, ("Rome", 43))],
    ),
    "mrqa": (
        "mrqa",
        [
            {"header": {"dataset": "X", "split": "train"}},
            {
                "context": CONTEXT,
                "qas": [
                    {
                        "qid": "m",
                        "question": "Q?",
                        "answers": ["Rome"],
                        "detected_answers": [{"text": "Rome", "char_spans": [[0, 3], [43, 46]]}],
                    }
                ],
            },
        ],
        [row("m", "Q?", CONTEXT, ("Rome", 0), ("Rome", 43))],
    ),
    "mrqa in columns": (
        "mrqa",
        [
            {
                "qid": "m",
                "question": "Q?",
                "context": CONTEXT,
                "answers": ["Rome"],
                "detected_answers": {"text": ["Rome"], "char_spans": [{"start": [0, 43], "end": [3, 46]}]},
            }
        ],
        [row("m", "Q?", CONTEXT, ("Rome", 0), ("Rome", 43))],
    ),
    "newsqa": (
        "newsqa",
        {
            "data": [
                {
                    "storyId": "./s",
                    "type": "train",
                    "text": CONTEXT,
                    "questions": [
                        {"q": "Q?", "consensus": {"s": 21, "e": 26}},
                        {"q": "No?", "consensus": {"noAnswer": True}},
                    ],
                }
            ],
            "version": "1",
        },
        [row("./s#0", "Q?", CONTEXT, ("Tiber", 21)), row("./s#1", "No?", CONTEXT)],
    ),
    "newsqa-csv": (
        "newsqa-csv",
        [
            {
                "story_id": "s",
                "question": "Q?",
                "story_text": CONTEXT,
                "answer_char_ranges": "None|21:26|0:4,43:47",
                "validated_answers": '{"none": 1, "0:4,43:47": 2}',
            },
            {
                "story_id": "s",
                "question": "W?",
                "story_text": CONTEXT,
                "answer_char_ranges": "21:26|None|21:26",
                "validated_answers": "",
            },
        ],
        [row("s#Q?", "Q?", CONTEXT, ("Rome", 0), ("Rome", 43)), row("s#W?", "W?", CONTEXT, ("Tiber", 21))],
    ),
    "triviaqa": (
        "triviaqa",
        [
            {
                "question_id": "t",
                "question": "Q?",
                "answer": {"value": "Tiber", "aliases": ["Tiber", "ROME", "Po"]},
                "entity_pages": {"filename": ["a.txt", "b.txt"], "wiki_context": [CONTEXT, "None of it."]},
                "search_results": {"filename": [], "search_context": []},
            }
        ],
        [
            row("t--a.txt", "Q?", CONTEXT, ("Tiber", 21), ("Rome", 0), ("Po", -1)),
            row("t--b.txt", "Q?", "None of it.", ("Tiber", -1), ("ROME", -1), ("Po", -1), kind="absent"),
        ],
    ),
    "hotpotqa": ("hotpotqa", [{**HOTPOT, "answer": "Rome"}], [row("h", "Q?", HOTPOT_CONTEXT, ("Rome", 6))]),
    "hotpotqa, yes": (
        "hotpotqa",
        [{**HOTPOT, "answer": "yes"}],
        [row("h", "Q?", HOTPOT_CONTEXT, ("yes", -1), kind="yes_no")],
    ),
    "hotpotqa in columns": (
        "hotpotqa",
        [
            {
                "id": "h",
                "question": "Q?",
                "answer": "Rome",
                "supporting_facts": {"title": ["Two"], "sent_id": [0]},
                "context": {"title": ["One", "Two"], "sentences": [["A Rome here.", " More."], ["The Rome there."]]},
            }
        ],
        [row("h", "Q?", HOTPOT_CONTEXT, ("Rome", 6))],
    ),
    "hotpotqa without labels": (
        "hotpotqa",
        [HOTPOT],
        [{"id": "h", "question": "Q?", "context": HOTPOT_CONTEXT, "answers": None}],
    ),
    "musique": ("musique", [MUSIQUE], [row("m", "Q?", HOTPOT_CONTEXT, ("Rome", 6), ("The Rome", 28))]),
    "musique, not answerable": (
        "musique",
        [{**MUSIQUE, "answerable": False}],
        [{**row("m", "Q?", HOTPOT_CONTEXT), "answers": golds()}],
    ),
    "natural-questions": (
        "natural-questions",
        [
            {
                "example_id": 7,
                "question_text": "q",
                "document_text": "<P> The river <B> Tiber </B> flows </P>",
                "annotations": [
                    {"short_answers": [{"start_token": 4, "end_token": 5}], "yes_no_answer": "NONE"},
                    {"short_answers": [{"start_token": 2, "end_token": 7}], "yes_no_answer": "NONE"},
                ],
            },
            {
                "example_id": 8,
                "question_text": "q",
                "document_text": "<P> It flows </P>",
                "annotations": [{"short_answers": [], "yes_no_answer": "YES"}],
            },
            {
                "example_id": 9,
                "question_text": "q",
                "document_text": "<P> It flows </P>",
                "annotations": [{"short_answers": [], "yes_no_answer": "NONE", "long_answer": {"start_token": 0}}],
            },
        ],
        [
            row("7", "q", "The river Tiber flows", ("Tiber", 10), ("river Tiber flows", 4)),
            row("8", "q", "It flows", ("yes", -1), kind="yes_no"),
            row("9", "q", "It flows"),
        ],
    ),
    "coqa": (
        "coqa",
        {"version": "1.0", "data": [COQA]},
        [
            row("c#1", "Which river?", CONTEXT, ("river Tiber", 15)),
            row("c#2", "Which river? the tiber Does it flow?", CONTEXT, ("Yes", -1), kind="yes_no"),
            row("c#3", "Which river? the tiber Does it flow? Yes How deep?", CONTEXT),
        ],
    ),
    "quac": (
        "quac",
        {
            "data": [
                {
                    "title": "t",
                    "paragraphs": [
                        {
                            "context": f"{CONTEXT} CANNOTANSWER",
                            "qas": [
                                {
                                    "id": "u#0",
                                    "question": "Q?",
                                    "yesno": "x",
                                    "followup": "y",
                                    "answers": [{"text": "Tiber", "answer_start": 21}],
                                    "orig_answer": {"text": "Tiber", "answer_start": 21},
                                },
                                {
                                    "id": "u#1",
                                    "question": "W?",
                                    "yesno": "x",
                                    "followup": "n",
                                    "answers": [{"text": "CANNOTANSWER", "answer_start": 75}],
                                },
                            ],
                        }
                    ],
                }
            ]
        },
        [
            row("u#0", "Q?", f"{CONTEXT} CANNOTANSWER", ("Tiber", 21)),
            row("u#1", "Q? Tiber W?", f"{CONTEXT} CANNOTANSWER"),
        ],
    ),
    "drop": (
        "drop",
        {
            "history_1": {
                "passage": CONTEXT,
                "qa_pairs": [
                    {"query_id": "d1", "question": "Q?", "answer": {"number": "42", "spans": [], "date": DATE}},
                    {"query_id": "d2", "question": "Q?", "answer": {"number": "4", "spans": [], "date": DATE}},
                    {
                        "query_id": "d3",
                        "question": "Q?",
                        "answer": {"number": "", "spans": ["Rome", "Tiber"], "date": DATE},
                        "validated_answers": [{"number": "", "spans": [], "date": {**DATE, "year": "1900"}}],
                    },
                ],
            },
            "history_2": {"passage": "P", "qa_pairs": [{"query_id": "d4", "question": "Q?"}]},
        },
        [
            row("d1", "Q?", CONTEXT, ("42", 53)),
            row("d2", "Q?", CONTEXT, ("4", -1), kind="number"),
            row("d3", "Q?", CONTEXT, ("Rome", 0), ("Tiber", 21), ("1900", -1)),
            {"id": "d4", "question": "Q?", "context": "P", "answers": None},
        ],
    ),
    "drop in columns": (
        "drop",
        [
            {
                "section_id": "s",
                "query_id": "d",
                "passage": CONTEXT,
                "question": "Q?",
                "answers_spans": {"spans": ["4"], "types": ["number"]},
            }
        ],
        [row("d", "Q?", CONTEXT, ("4", -1), kind="number")],
    ),
    "qasper": (
        "qasper",
        {"1503.00841": PAPER},
        [
            row("a", "Q?", PAPER_CONTEXT, ("two", 11)),
            row("b", "Q?", PAPER_CONTEXT, ("no", -1), kind="yes_no"),
            row("c", "Q?", PAPER_CONTEXT),
        ],
    ),
    "records": ("records", [SQUAD_ROW], [SQUAD_ROW]),
    "records with columns of answers": (
        "records",
        [
            {"question": "Q?", "context": CONTEXT, "answer_text": ["Tiber"], "answer_start": [21]},
            {"question": "Q?", "context": CONTEXT, "answer_text": "Rome", "answer_start": None},
            {"question": "Q?", "context": CONTEXT, "answer_text": ""},
            {"question": "Q?", "context": CONTEXT, "answer_text": None},
        ],
        [
            {"question": "Q?", "context": CONTEXT, "answers": golds(("Tiber", 21))},
            {"question": "Q?", "context": CONTEXT, "answers": golds(("Rome", 0))},
            {"question": "Q?", "context": CONTEXT, "answers": golds()},
            {"question": "Q?", "context": CONTEXT, "answers": None},
        ],
    ),
}


def without_columns(rows: list[Any]) -> list[Any]:
    return [
        {name: value for name, value in one.items() if name not in ("answer_text", "answer_start")}
        if isinstance(one, Mapping)
        else one
        for one in rows
    ]


def write(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "f.json"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("case", FORMS)
class TestForms:
    def test_it_is_recognised_and_read(self, case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        name, content, expected = FORMS[case]
        path = write(tmp_path, content)
        with caplog.at_level("INFO", "memxlnet"):
            found = list(open_source(path, "train").rows())
        assert without_columns(found) == expected
        assert f"f: read as {name}" in caplog.text

    def test_it_can_be_named(self, case: str, tmp_path: Path) -> None:
        name, content, expected = FORMS[case]
        source = open_source(write(tmp_path, content), "train", form=name)
        assert without_columns(list(source.rows())) == expected
        assert source.identity()["form"] == name

    def test_the_examples_are_good(self, case: str, tmp_path: Path) -> None:
        _, content, _ = FORMS[case]
        source = open_source(write(tmp_path, content), "train")
        for number, raw in enumerate(source.rows()):
            if isinstance(raw, Mapping) and raw.get("answers") is not None:
                parsed = parse_example(number, raw, source.place)
                for text, start in zip(parsed.answer_texts, parsed.answer_starts, strict=True):
                    assert start < 0 or parsed.context.startswith(text, start)

    def test_a_record_without_a_field_is_an_error_of_its_row(self, case: str, tmp_path: Path) -> None:
        name, content, _ = FORMS[case]
        if name == "records":
            pytest.skip("fields of flat records are checked where the example is")
        path = write(tmp_path, content)
        rows = list(open_source(path, "train", form=name).rows())
        broken = tmp_path / "broken.jsonl"
        broken.write_text('{"no": "field"}\n')
        source = open_source(broken, "train", form=name)
        (found,) = source.rows()
        assert rows
        assert isinstance(found, ExampleError)
        subject = "question of this form" if name == "mrqa" else f"record of the form {name!r}"
        assert f"expected a {subject}, found the fields no: the field '" in str(found)
        with pytest.raises(ExampleError, match=r"broken\.jsonl, row 0:"):
            parse_example(0, found, source.place)


def test_every_form_of_the_registry_is_tested() -> None:
    with_files = {"triviaqa-files"}  # tested below
    assert {name for name, _, _ in FORMS.values()} | with_files == set(form_names())


def test_a_question_that_newsqa_marks_as_bad_is_a_bad_example(tmp_path: Path) -> None:
    story = {"storyId": "s", "text": "t", "questions": [{"q": "Q?", "consensus": {"badQuestion": True}}]}
    (found,) = open_source(write(tmp_path, {"data": [story]}), "train").rows()
    assert "'s#0'" in str(found)
    assert "on_bad_example='drop'" in str(found)


@pytest.mark.parametrize(
    ("text", "rationale", "gold"),
    [
        ("he", "When he left.", ("he", 5)),
        ("Stra\u00dfe", "the STRASSE now", ("the STRASSE now", 0)),
        ("LEFT", "he left", ("left", 3)),
        ("away", "he left", ("he left", 0)),
    ],
)
def test_a_free_answer_of_coqa_is_looked_up_as_words(text: str, rationale: str, gold: Any) -> None:
    answer = {"input_text": text, "span_start": 4, "span_end": 4 + len(rationale)}
    record = {"id": "c", "questions": [{"input_text": "Q?", "turn_id": 1}], "answers": [answer]}
    (found,) = open_source([{**record, "story": f"So, {rationale}"}], "train").rows()
    assert found["answers"] == golds((gold[0], gold[1] + 4))


QUAC_TURN = {**QA, "yesno": "x", "answers": [{"text": "CANNOTANSWER", "answer_start": 0}]}


@pytest.mark.parametrize(
    ("empty", "record", "form"),
    [
        ({"paragraphs": []}, {"paragraphs": [{"context": "c", "qas": [QUAC_TURN]}]}, "quac"),
        (
            {"paragraphs": [{"context": "c", "qas": []}]},
            {"paragraphs": [{"context": "c", "qas": []}, {"context": "c", "qas": [QUAC_TURN]}]},
            "quac",
        ),
        (
            {"paragraphs": [{"context": "c", "qas": []}]},
            {"paragraphs": [{"context": "c", "qas": [{**QA, "id": "thai--12-0"}]}]},
            "tydiqa",
        ),
        (
            {"context": "c", "qas": []},
            {"context": "abc", "qas": [{"qid": "q", "question": "Q?", "detected_answers": []}]},
            "mrqa",
        ),
        ({"paragraphs": []}, {"paragraphs": [{"context": "c", "qas": [QA]}]}, "squad"),
    ],
)
def test_records_without_questions_do_not_decide_the_form(
    empty: Any, record: Any, form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "memxlnet"):
        (found,) = open_source([empty, empty, record], "train").rows()
    assert f"read as {form}" in caplog.text
    (alone,) = open_source([record], "train", form=form).rows()
    assert found == alone
    assert list(open_source([empty], "train").rows()) == []
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    first.write_text(json.dumps(empty))
    second.write_text(json.dumps(record))
    assert list(open_source([first, second], "train").rows()) == [alone]


@pytest.mark.parametrize(
    "record",
    [
        {"paragraphs": [3]},
        {"paragraphs": ["x"]},
        {"paragraphs": [{"qas": [None]}]},
        {"paragraphs": [{"qas": 3}]},
        {"qas": [3]},
        {"qas": [None], "context": "c"},
        {"context": [[]], "question": "q"},
        {"header": 3},
        {"story": 1, "questions": 2, "answers": 3},
        {"question_id": 1, "entity_pages": 3, "answer": 4},
    ],
)
def test_a_first_record_of_any_kind_is_an_error_of_its_row(record: Any, tmp_path: Path) -> None:
    for source in (open_source([record], "train"), open_source(write(tmp_path, [record]), "train")):
        (found,) = source.rows()
        with pytest.raises(ExampleError, match="row 0"):
            parse_example(0, found, source.place)


@pytest.mark.parametrize(
    ("how", "expected"), [("first", [("Rome", 6)]), ("all", [("Rome", 6), ("Rome", 32)]), ("nearest", [("Rome", 32)])]
)
def test_answers_without_offsets_are_looked_up_as_asked(how: Locate, expected: Any, tmp_path: Path) -> None:
    source = open_source(write(tmp_path, [{**HOTPOT, "answer": "Rome"}]), "train", locate=how)
    (found,) = source.rows()
    assert found["answers"] == golds(*expected)
    assert source.identity().get("locate") == (None if how == "first" else how)


@pytest.mark.parametrize(
    ("context", "text", "places"),
    [
        ("north or a no, no then", "no", [11, 15]),
        ("north or a no then", "NO", [11]),
        ("a No and a no", "no", [11]),
        ("a No and a NO", "no", [2, 11]),
        ("north", "no", []),
        ("42 or 4.", "4", [6]),
        ("(c) x(c)", "(c)", [0, 5]),
        ("\u5317\u5317\u4eac", "\u5317", [0, 1]),
        ("anything", "", []),
        ("any thing", " ", []),
    ],
)
def test_whole_words_are_found(context: str, text: str, places: list[int]) -> None:
    assert occurrences(context, text) == places


@given(text=st.text(max_size=20), at=st.integers(0, 20))
def test_offsets_in_other_units(text: str, at: int) -> None:
    text = text.encode("utf-8", "ignore").decode()
    at = min(at, len(text))
    assert code_points(text, len(text[:at].encode()), "bytes") == at
    assert code_points(text, len(text[:at].encode("utf-16-le")) // 2, "utf-16") == at
    assert code_points(text, at, "characters") == at
    assert code_points(text, -1, "bytes") == -1


def test_an_offset_within_a_character_is_an_error() -> None:
    with pytest.raises(ExampleError, match=r"1:.*\(bytes\)"):
        code_points("é", 1, "bytes")
    with pytest.raises(ExampleError, match=r"1:.*\(utf-16\)"):
        code_points("\U0001f600", 1, "utf-16")


@given(passages=st.lists(st.tuples(st.text(max_size=4), st.text(max_size=6)), max_size=4))
def test_joined_passages_stand_at_their_offsets(passages: list[tuple[str, str]]) -> None:
    context, offsets = join(passages)
    for (title, text), offset in zip(passages, offsets, strict=True):
        assert context.startswith(text, offset)
        assert not title or context[:offset].endswith(f"{title}\n")


def test_answers_that_are_not_found_follow_those_that_are() -> None:
    assert [*map(tuple, locate("a b a", ["x", "a"], FormOptions("all")))] == [("a", 0), ("a", 4), ("x", -1)]


def test_the_history_of_a_turn() -> None:
    turns = [("A?", "a"), ("B?", ""), ("C?", "c")]
    assert with_history(turns.__getitem__, 3, "D?") == "B? C? c D?"
    assert with_history(turns.__getitem__, 0, "D?") == "D?"
    with pytest.raises(ExampleError, match="turn 3"):
        with_history(turns.__getitem__, 4, "E?")


# Questions that are malformed


TURNS = [{"input_text": f"Q{turn}?", "turn_id": turn} for turn in range(3)]
SAID = [{"input_text": "a", "span_start": 0, "span_end": 1} for _ in range(3)]
SHORT = {"text": "a", "answer_start": 0}
DROP_ANSWER = {"number": "", "spans": ["a"], "date": {}}

QASPER_ANSWERS: list[list[Any]] = [[], [{}], []]

BESIDE: dict[str, tuple[Any, Any]] = {
    "squad": ({"paragraphs": [{"context": "a b", "qas": [{**QA, "answers": []}, 3, {**QA, "id": "c"}]}]}, ""),
    "paragraph": ({"paragraphs": [{"context": "a", "qas": [QA]}, {"context": "a"}, {"context": "a", "qas": [QA]}]}, ""),
    "offset": (
        {"paragraphs": [{"context": "\u00e9", "qas": [QA, {**QA, "answers": [{**SHORT, "answer_start": 1}]}, QA]}]},
        "bytes",
    ),
    "mrqa": (
        {
            "context": "a b",
            "qas": [
                {"qid": number, "question": "Q?", "detected_answers": [{"char_spans": [[0, end]]}]}
                for number, end in enumerate((0, 3, 2))
            ],
        },
        "",
    ),
    "newsqa": (
        {
            "storyId": "s",
            "text": "a b",
            "questions": [{"q": "Q?", "consensus": {"s": 0, "e": end}} for end in (1, 9, 2)],
        },
        "",
    ),
    "coqa": (
        {"id": "c", "story": "a b", "questions": TURNS, "answers": [SAID[0], {**SAID[1], "span_end": 9}, SAID[2]]},
        "",
    ),
    "quac": (
        {
            "paragraphs": [
                {
                    "context": "a b",
                    "qas": [
                        {**QUAC_TURN, "id": "a"},
                        {**QUAC_TURN, "answers": [{"text": "a"}], "orig_answer": SHORT},
                        QUAC_TURN,
                    ],
                }
            ]
        },
        "",
    ),
    "drop": (
        {
            "passage": "a b",
            "qa_pairs": [
                {"query_id": "q", "question": "Q?", "answer": answer} for answer in (DROP_ANSWER, {}, DROP_ANSWER)
            ],
        },
        "",
    ),
    "qasper": (
        {**PAPER, "qas": [{"question_id": "q", "question": "Q?", "answers": found} for found in QASPER_ANSWERS]},
        "",
    ),
    "korquad2": (
        {
            "context": "a b",
            "raw_html": "",
            "qas": [{"id": "q", "question": "Q?", "answer": given} for given in (SHORT, {}, SHORT)],
        },
        "",
    ),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_a_malformed_question_leaves_those_beside_it(kind: str) -> None:
    record, offsets = BESIDE[kind]
    first, second, third = open_source([record], "train", offsets=offsets or "characters").rows()
    assert isinstance(second, ExampleError)
    assert [parse_example(0, found, "f").id for found in (first, third)]


CONVERSATIONS: dict[str, tuple[Any, list[str]]] = {
    "coqa, an answer more than questions": (
        {**COQA, "questions": COQA["questions"][:2]},
        ["each of 2 turns, found 3"] * 2,
    ),
    "coqa, a turn that is malformed": (
        {**COQA, "answers": [{}, *COQA["answers"][1:]]},
        ["'input_text'", "turn 0 malformed", "turn 0 malformed"],
    ),
    "quac, a turn without answers": (
        {"paragraphs": [{"context": "a b", "qas": [{**QUAC_TURN, "answers": [], "orig_answer": None}, QUAC_TURN]}]},
        ["", ""],
    ),
    "quac, a turn that is malformed": (
        {"paragraphs": [{"context": "a b", "qas": [QUAC_TURN, 7, QUAC_TURN, QUAC_TURN, QUAC_TURN]}]},
        ["", "subscriptable", "turn 1 malformed", "turn 1 malformed", ""],
    ),
}


@pytest.mark.parametrize("kind", CONVERSATIONS)
def test_each_turn_that_cannot_be_read_is_one_bad_example(kind: str) -> None:
    record, expected = CONVERSATIONS[kind]
    found = list(open_source([record], "train", form=kind.partition(",")[0]).rows())
    assert len(found) == len(expected)
    for one, reason in zip(found, expected, strict=True):
        assert isinstance(one, ExampleError) == bool(reason)
        assert reason in str(one)


TRIVIA_QUESTION = {"question_id": "t", "question": "Q?", "answer": {"value": "a", "aliases": []}}
EMPTY: list[Any] = ["", {}]
NO_LISTS: dict[str, list[Any]] = {
    "squad": [{"paragraphs": value} for value in [*EMPTY, 0, None]],
    "mrqa": [{"context": "c", "qas": value} for value in EMPTY],
    "newsqa": [{"storyId": "s", "text": "t", "questions": value} for value in EMPTY],
    "drop": [{"passage": "p", "qa_pairs": value} for value in EMPTY],
    "korquad2": [{"context": "c", "qas": value} for value in EMPTY],
    "coqa": [{"id": "c", "story": "s", "questions": {}, "answers": {}}],
    "qasper": [{"full_text": [], "qas": ""}],
    "triviaqa": [TRIVIA_QUESTION, *({**TRIVIA_QUESTION, "entity_pages": value} for value in [*EMPTY, [], 0, None])],
    "triviaqa-files": [{"QuestionId": "t", "Question": "Q?", "EntityPages": value} for value in [*EMPTY, [], 0, None]],
}


@pytest.mark.parametrize(("form", "record"), [(form, record) for form, found in NO_LISTS.items() for record in found])
def test_an_empty_value_of_another_kind_is_no_list_without_questions(form: str, record: Any) -> None:
    (found,) = open_source([record], "train", form=form).rows()
    assert isinstance(found, ExampleError)


def test_the_history_of_a_turn_holds_turns_that_are_bad_examples() -> None:
    *_, last = open_source([BESIDE["coqa"][0]], "train").rows()
    assert last["question"] == "Q0? a Q1? a Q2?"


@pytest.mark.parametrize("value", ["", "<unk>"])
def test_the_test_set_of_triviaqa_is_unlabelled(value: str) -> None:
    pages = {"filename": ["p"], "wiki_context": ["a <unk>"]}
    record = {"question_id": "q", "question": "Q?", "entity_pages": pages, "answer": {"value": value, "aliases": []}}
    (found,) = open_source([record], "train").rows()
    assert not parse_example(0, found, "f").labelled


PAGES = {"EntityPages": [{"Filename": "a.txt"}], "SearchResults": [{"Filename": "1/b.txt"}]}
TRIVIA = {"QuestionId": "t", "Question": "Q?", "Answer": {"Value": "Tiber", "Aliases": ["ROME"]}, **PAGES}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The file of questions in a directory laid out as the archive of TriviaQA is."""
    for name, text in (("wikipedia/a.txt", CONTEXT), ("web/1/b.txt", "None of it.")):
        page = tmp_path / "evidence" / name
        page.parent.mkdir(parents=True)
        page.write_text(text)
    (tmp_path / "qa").mkdir()
    path = tmp_path / "qa" / "web-dev.json"
    path.write_text(json.dumps({"Data": [TRIVIA], "Domain": "Web", "Version": 1.0}))
    return path


def test_the_pages_of_triviaqa_are_read_from_the_files_of_its_archive(archive: Path) -> None:
    assert list(open_source(archive, "train").rows()) == [
        row("t--a.txt", "Q?", CONTEXT, ("Tiber", 21), ("Rome", 0)),
        row("t--1/b.txt", "Q?", "None of it.", ("Tiber", -1), ("ROME", -1), kind="absent"),
    ]


@pytest.mark.parametrize("named", [None, "triviaqa-files"])
def test_another_page_is_another_source(archive: Path, named: str | None) -> None:
    before = open_source(archive, "train", form=named).identity()
    assert open_source(archive, "train", form=named).identity() == before
    source = open_source(archive, "train", form=named)
    source.identity()
    (archive.parent.parent / "evidence" / "wikipedia" / "a.txt").write_text("Another page.")
    assert open_source(archive, "train", form=named).identity() != before
    list(source.rows())
    with pytest.raises(SourceError, match=r"^web-dev:.*2"):
        source.check_unchanged()


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ({"EntityPages": [{"Filename": "none.txt"}]}, "missing; keep the directories"),
        ({"EntityPages": [{"Filename": "../../qa/web-dev.json"}]}, "path out of it"),
        ({"EntityPages": [{"Filename": "/etc/passwd"}]}, "path out of it"),
        ({"EntityPages": [{"Filename": "link.txt"}]}, "path out of it"),
        ({"EntityPages": [{"Filename": "latin.txt"}]}, "cannot be read"),
        ({"EntityPages": [{"Filename": "."}]}, "cannot be read"),
        ({"EntityPages": [{"Filename": "a\0b"}]}, "null"),
        ({"EntityPages": [{"Filename": 7}]}, "expected a question of this form"),
        ({"EntityPages": [{}]}, "'Filename' is missing"),
    ],
)
def test_a_page_of_triviaqa_that_cannot_be_read_is_one_bad_example(
    archive: Path, pages: dict[str, Any], expected: str
) -> None:
    wikipedia = archive.parent.parent / "evidence" / "wikipedia"
    (wikipedia / "link.txt").symlink_to("/etc/passwd")
    (wikipedia / "latin.txt").write_bytes(b"\xe9")
    archive.write_text(json.dumps({"Data": [{**TRIVIA, **pages}]}))
    bad, good = open_source(archive, "train").rows()
    assert isinstance(bad, ExampleError)
    assert expected in str(bad)
    assert good["id"] == "t--1/b.txt"


def test_pages_of_triviaqa_take_a_local_file() -> None:
    bad, _ = open_source([TRIVIA], "train").rows()
    assert "local file" in str(bad)


def test_the_test_set_of_triviaqa_in_files_is_unlabelled(archive: Path) -> None:
    archive.write_text(json.dumps({"Data": [{name: TRIVIA[name] for name in TRIVIA if name != "Answer"}]}))
    for found in open_source(archive, "train").rows():
        assert not parse_example(0, found, "f").labelled


def test_counting_first_leaves_the_identity_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({"id": "a", "question": "Q?", "context": "c", "answers": None}))
    counted = open_source(path, "train")
    assert counted.count() == 1
    assert counted.identity() == open_source(path, "train").identity()


# Forms that share fields

ARTICLES: dict[str, Any] = {
    "squad": {"paragraphs": [{"context": CONTEXT, "qas": [QA]}]},
    "quac": {"paragraphs": [{"context": CONTEXT, "qas": [{**QUAC_TURN, "id": "C#0", "answers": QA["answers"]}]}]},
    "tydiqa": {"paragraphs": [{"context": CONTEXT, "qas": [{**QA, "id": "finnish-12-3"}]}]},
}


@pytest.mark.parametrize("where", ["list", "file", "files"])
@pytest.mark.parametrize(("first", "second"), [("squad", "quac"), ("quac", "squad"), ("squad", "tydiqa")])
def test_records_of_two_forms_are_refused_unless_one_is_named(
    first: str, second: str, where: str, tmp_path: Path
) -> None:
    source: Any = [ARTICLES[first], ARTICLES[second]]
    if where == "file":
        source = tmp_path / "f.json"
        source.write_text(json.dumps({"data": [ARTICLES[first], ARTICLES[second]]}))
    if where == "files":
        source = [tmp_path / "a.json", tmp_path / "b.json"]
        for path, name in zip(source, (first, second), strict=True):
            path.write_text(json.dumps({"data": [ARTICLES[name]]}))
    with pytest.raises(SourceError, match=rf"'{first}'.*'{second}'"):
        list(open_source(source, "train").rows())
    assert len(list(open_source(source, "train", form=first).rows())) == 2


# Forms of the user's own


@pytest.fixture
def own_form(monkeypatch: pytest.MonkeyPatch) -> Form:
    monkeypatch.setattr(registry, "_forms", dict(registry._forms))
    monkeypatch.setattr(registry, "_built_in", set(registry._built_in))
    form = Form(
        "mine",
        lambda record: "frage" in record,
        lambda record, options: [{"question": record["frage"], "context": record["text"], "answers": []}],
    )
    register_form(form)
    return form


def test_a_form_of_ones_own_is_recognised_first(own_form: Form, tmp_path: Path) -> None:
    source = open_source([{"frage": "F?", "text": "T"}], "train")
    assert list(source.rows()) == [{"question": "F?", "context": "T", "answers": []}]
    path = write(tmp_path, [{"frage": "F?", "text": "T"}])
    assert open_source(path, "train").identity()["form"] == "mine 1"
    assert open_source(path, "train", form=own_form).identity() == open_source(path, "train").identity()


def test_a_form_of_ones_own_that_cannot_recognise_is_named(own_form: Form) -> None:
    register_form(Form("sloppy", lambda record: record["kind"] == "x", own_form.examples))
    with pytest.raises(SourceError, match=r"'sloppy':.*`recognises`.*KeyError"):
        list(open_source([SQUAD_ROW], "train").rows())


def test_a_form_has_one_meaning(own_form: Form) -> None:
    with pytest.raises(SettingsError, match=r"^form: 'mine'.*replace=True"):
        register_form(own_form)
    register_form(own_form, replace=True)
    with pytest.raises(SettingsError, match="Mine!"):
        register_form(Form("Mine!", own_form.recognises, own_form.examples))
    with pytest.raises(SettingsError, match=r"^form:.*str"):
        register_form("mine")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "nothing"}, r"^form:.*coqa, drop,.*'nothing'"),
        ({"form": 3}, r"^form:.*3"),
        ({"locate": "last"}, r"^locate:.*'last'"),
        ({"offsets": "words"}, r"^offsets:.*'words'"),
        ({"form": "squad", "columns": {"question": "q", "context": "c"}}, "^form, columns:"),
        ({"form": "coqa", "offsets": "bytes"}, r"^offsets:.*'coqa'"),
        ({"transform": "text"}, r"^transform:.*str"),
        ({"columns": {"question": "q"}}, r"^columns:.*context"),
        ({"columns": {"question": "q", "context": "c", "title": "t"}}, r"^columns:.*\['title'\]"),
        ({"columns": "question"}, r"^columns:.*'question'"),
        ({"columns": {"question": "q", "context": 3}}, r"^columns:.*3"),
        ({"columns": {"question": "q", "context": "c", "answer_start": "s"}}, r"^columns:.*'answer_start'"),
        ({"columns": {"question": "q", "context": "c", "answers": "a", "answer_text": "t"}}, r"^columns:.*both"),
    ],
)
def test_what_cannot_be_asked_for(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        open_source([SQUAD_ROW], "train", **options)


# Columns


OWN = {"key": 5, "doc": {"text": CONTEXT}, "query": "Q?", "spans": {"t": ["flows"], "s": [30]}, "flat.name": "x"}
NAMES = {"id": "key", "question": "query", "context": "doc.text"}


AT_30 = [
    {"text": ["flows"], "answer_start": [30]},
    {"text": np.array(["flows"]), "answer_start": np.array([30])},
    {"text": ("flows",), "answer_start": (np.int64(30),)},
    [{"text": "flows", "answer_start": 30}],
    ({"text": "flows", "answer_start": np.int32(30)},),
]


@pytest.mark.parametrize("options", [{}, {"columns": {**NAMES, "answers": "answers"}}, {"transform": lambda one: one}])
@pytest.mark.parametrize("answers", AT_30, ids=range(len(AT_30)))
def test_the_unit_of_offsets_is_heeded_however_answers_are_held(answers: Any, options: Any) -> None:
    record = {**OWN, "id": "i", "question": "Q?", "context": CONTEXT, "answers": answers}
    source = open_source([record], "train", offsets="bytes", **options)
    found = parse_example(0, next(source.rows()), "f")
    assert (found.answer_texts, found.answer_starts) == (("flows",), (29,))


@pytest.mark.parametrize(
    ("text", "start"), [(5, None), (["x"], "3"), (float("nan"), None), ([None], None), ({"x": 1}, None), ([["x"]], [0])]
)
def test_values_of_other_kinds_are_errors_of_their_row(text: Any, start: Any) -> None:
    columns = {**NAMES, "answer_text": "text", "answer_start": "start"}
    (found,) = open_source([{**OWN, "text": text, "start": start}], "train", columns=columns, offsets="bytes").rows()
    with pytest.raises(ExampleError, match="'answers"):
        parse_example(0, found, "f")


@pytest.mark.parametrize(
    ("columns", "options", "answers"),
    [
        ({"answer_text": "spans.t"}, {}, golds(("flows", 29))),
        ({"answer_text": "spans.t", "answer_start": "spans.s"}, {}, golds(("flows", 30))),
        ({"answer_text": "spans.t", "answer_start": "spans.s"}, {"offsets": "bytes"}, golds(("flows", 29))),
    ],
)
def test_columns_name_the_fields(columns: Any, options: Any, answers: Any) -> None:
    (found,) = open_source([OWN], "train", columns={**NAMES, **columns}, **options).rows()
    assert (found["id"], found["question"], found["context"]) == (5, "Q?", CONTEXT)
    assert found["answers"] == answers


@pytest.mark.parametrize("form", ["records", "squad"])
def test_offsets_in_bytes_of_data_in_a_known_form(form: str, tmp_path: Path) -> None:
    answers = [{"text": "flows", "answer_start": 30}]
    flat = {"id": "x", "question": "Q?", "context": CONTEXT, "answers": answers}
    nested = {
        "data": [{"paragraphs": [{"context": CONTEXT, "qas": [{"id": "x", "question": "Q?", "answers": answers}]}]}]
    }
    path = write(tmp_path, [flat] if form == "records" else nested)
    (found,) = open_source(path, "train", offsets="bytes").rows()
    assert found["answers"] == [{"text": "flows", "answer_start": 29}]


def test_a_name_with_a_dot_is_a_name_first() -> None:
    (found,) = open_source([OWN], "train", columns={**NAMES, "question": "flat.name"}).rows()
    assert found["question"] == "x"


def test_a_field_that_is_missing_is_an_error_of_its_row() -> None:
    rows = list(open_source([OWN, {"key": 1}], "train", columns=NAMES).rows())
    with pytest.raises(ExampleError, match=r"^in-memory, row 1: columns:.*'query'.*'key'"):
        parse_example(1, rows[1], "in-memory")


def test_columns_are_part_of_what_a_cache_is_made_for(tmp_path: Path) -> None:
    path = write(tmp_path, [OWN])
    found = [open_source(path, "train", columns=columns).identity() for columns in (NAMES, {**NAMES, "id": "query"})]
    assert found[0] != found[1]
    assert found[0]["columns"] == NAMES


# Transforms


def test_a_transform_gives_none_one_or_several() -> None:
    given_rows = [{**SQUAD_ROW, "id": name} for name in "abc"]

    def change(example: Mapping[str, Any]) -> Any:
        several = [{**example, "id": "c1"}, {**example, "id": "c2"}]
        return {"a": None, "b": {**example, "id": "B"}, "c": several}[example["id"]]

    source = open_source(given_rows, "train", transform=change)
    assert [found["id"] for found in source.rows()] == ["B", "c1", "c2"]
    assert source.total is None


def test_a_transform_is_known_by_what_it_gives_or_by_an_identity(tmp_path: Path) -> None:
    path = write(tmp_path, [SQUAD_ROW])

    def upper(example: Any) -> Any:
        return {**example, "question": example["question"].upper()}

    plain = open_source(path, "train").identity()
    digested = open_source(path, "train", transform=upper).identity()
    named = open_source(path, "train", transform=upper, identity="v1").identity()
    assert len({json.dumps(found, sort_keys=True) for found in (plain, digested, named)}) == 3
    assert open_source(path, "train", transform=lambda one: upper(one)).identity() == digested
    assert open_source(path, "train", transform=lambda one: one, identity="v2").identity() != named


@pytest.mark.parametrize("bad", [3, "text", ["text"], [None]])
def test_a_transform_that_gives_no_mapping_is_an_error(bad: Any) -> None:
    source = open_source([SQUAD_ROW], "train", transform=lambda one: bad, identity="x")
    with pytest.raises(ExampleError, match=r"^in-memory, row 0: transform:"):
        parse_example(0, next(source.rows()), source.place)


def test_a_transform_may_change_what_lies_within_what_it_is_given() -> None:
    def add(example: Any) -> Any:
        example["answers"]["text"].append("Rome")
        example["answers"]["answer_start"].append(0)
        return example

    rows = [row("q", "Q?", CONTEXT, ("Tiber", 21))]
    source = open_source(rows, "train", transform=add)
    source.identity()
    (found,) = source.rows()
    source.check_unchanged()
    assert found["answers"] == golds(("Tiber", 21), ("Rome", 0))
    assert rows == [row("q", "Q?", CONTEXT, ("Tiber", 21))]


def test_a_transform_that_raises_is_an_error_of_its_row() -> None:
    def fail(example: Any) -> Any:
        raise KeyError("nothing")

    source = open_source([SQUAD_ROW], "train", transform=fail)
    with pytest.raises(ExampleError, match=r"^in-memory, row 0: transform:.*KeyError"):
        parse_example(0, next(source.rows()), source.place)


def test_a_transform_that_raises_while_it_yields_is_an_error_of_its_row() -> None:
    def fail(example: Any) -> Any:
        yield example
        raise KeyError("nothing")

    first, second, third, _ = open_source([SQUAD_ROW, SQUAD_ROW], "train", transform=fail).rows()
    assert first == third == SQUAD_ROW
    with pytest.raises(ExampleError, match=r"^in-memory, row 1: transform:.*KeyError"):
        parse_example(1, second, "in-memory")


def test_a_transform_may_change_what_it_is_given() -> None:
    def shout(example: Any) -> Any:
        example["question"] += "!"
        return example

    given_rows = [dict(SQUAD_ROW)]
    source = open_source(given_rows, "train", transform=shout)
    source.identity()
    assert [found["question"] for found in source.rows()] == ["Q?!"]
    source.check_unchanged()
    assert given_rows == [SQUAD_ROW]
