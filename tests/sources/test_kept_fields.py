"""Further fields of records reach the examples, whatever the form."""

import json
from pathlib import Path
from typing import Any

import pytest

from memxlnet.errors import SettingsError
from memxlnet.sources import Form, open_source
from memxlnet.sources.forms import is_built_in
from memxlnet.sources.forms.form import find_form, form_names
from tests.sources.test_forms import CONTEXT, COQA, DATE, FORMS, HOTPOT, MUSIQUE, PAPER, QA, write

PAPER_FIELDS: dict[str, Any] = PAPER
QUESTIONS: list[Any] = PAPER_FIELDS["qas"]

ANSWER = {"text": "Rome", "answer_start": 43}

CASES: dict[str, tuple[str, Any, list[dict[str, Any]]]] = {
    "squad": (
        "squad",
        {
            "data": [
                {
                    "title": "article",
                    "id": "not that of a question",
                    "paragraphs": [{"context": CONTEXT, "number": 1, "qas": [{**QA, "level": "easy"}, QA]}],
                    "source": "after",
                }
            ]
        },
        [
            {"title": "article", "number": 1, "level": "easy", "source": "after"},
            {"title": "article", "number": 1, "source": "after"},
        ],
    ),
    "squad, inner fields first": (
        "squad",
        {
            "data": [
                {"title": "a", "paragraphs": [{"context": CONTEXT, "title": "p", "qas": [{**QA, "title": "q"}, QA]}]}
            ]
        },
        [{"title": "q"}, {"title": "p"}],
    ),
    "tydiqa": (
        "tydiqa",
        {"data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": [{**QA, "id": "finnish-1-2"}]}]}]},
        [{"title": "t"}],
    ),
    "korquad2": (
        "korquad2",
        {"data": [{"title": "t", "raw_html": "<b>", "context": CONTEXT, "qas": [{**QA, "answer": ANSWER, "x": 1}]}]},
        [{"title": "t", "raw_html": "<b>", "x": 1}],
    ),
    "mrqa": (
        "mrqa",
        [{"context": CONTEXT, "subset": "NQ", "qas": [{"qid": "m", "question": "Q?", "detected_answers": [], "x": 1}]}],
        [{"subset": "NQ", "x": 1}],
    ),
    "newsqa": (
        "newsqa",
        {
            "data": [
                {
                    "storyId": "s",
                    "type": "dev",
                    "text": CONTEXT,
                    "questions": [{"q": "Q?", "consensus": {"noAnswer": True}, "isQuestionBad": 0}],
                }
            ]
        },
        [{"type": "dev", "isQuestionBad": 0}],
    ),
    "newsqa-csv": (
        "newsqa-csv",
        [{"story_id": "s", "question": "Q?", "story_text": "t", "answer_char_ranges": "None", "is_bad": "0"}],
        [{"is_bad": "0"}],
    ),
    "triviaqa": (
        "triviaqa",
        [
            {
                "question_id": "t",
                "question": "Q?",
                "question_source": "web",
                "answer": {"value": "Tiber", "aliases": []},
                "entity_pages": {"filename": ["a"], "title": ["A"], "wiki_context": [CONTEXT]},
                "search_results": {"filename": ["b"], "rank": [1], "search_context": [CONTEXT]},
            }
        ],
        [{"question_source": "web", "title": "A"}, {"question_source": "web", "rank": 1}],
    ),
    "hotpotqa": (
        "hotpotqa",
        [{**HOTPOT, "answer": "Rome", "type": "bridge"}],
        [{"type": "bridge", "supporting_facts": [["Two", 0]]}],
    ),
    "musique": ("musique", [{**MUSIQUE, "hops": 2}], [{"hops": 2}]),
    "natural-questions": (
        "natural-questions",
        [{"example_id": 7, "question_text": "q", "document_text": "a b", "document_url": "u"}],
        [{"document_url": "u"}],
    ),
    "coqa": (
        "coqa",
        {"data": [{**COQA, "source": "wiki", "filename": "f"}]},
        [{"source": "wiki", "filename": "f", "span_text": text} for text in ("river Tiber", "flows", "unknown")],
    ),
    "quac": (
        "quac",
        {
            "data": [
                {
                    "title": "t",
                    "paragraphs": [{"context": CONTEXT, "bg": 1, "qas": [{**QA, "yesno": "x", "orig_answer": ANSWER}]}],
                }
            ]
        },
        [{"title": "t", "bg": 1, "yesno": "x"}],
    ),
    "drop": (
        "drop",
        {
            "p": {
                "passage": CONTEXT,
                "wiki_url": "u",
                "qa_pairs": [
                    {"query_id": "d", "question": "Q?", "answer": {"number": "4", "spans": [], "date": DATE}, "x": 1},
                    {"query_id": "e", "question": "Q?", "x": 2},
                ],
            }
        },
        [{"wiki_url": "u", "x": 1}, {"wiki_url": "u", "x": 2}],
    ),
    "qasper": (
        "qasper",
        {"1": {**PAPER, "figures": 3, "qas": [{**question, "x": 1} for question in QUESTIONS]}},
        [{"title": "T", "figures": 3, "x": 1}] * 3,
    ),
    "records": (
        "records",
        [{"question": "Q?", "context": CONTEXT, "answers": None, "title": "t"}],
        [{"title": "t"}],
    ),
    "records with columns of answers": (
        "records",
        [{"question": "Q?", "context": CONTEXT, "answer_text": "Tiber", "title": "t"}],
        [{"title": "t"}],
    ),
}

OWN = {"id", "question", "context", "answers", "answer_kind", "answer_text", "answer_start", "is_impossible"}


def further(row: Any) -> dict[str, Any]:
    assert isinstance(row, dict), row
    return {name: value for name, value in row.items() if name not in OWN}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["json", "memory"])
def test_all_further_fields(case: str, kind: str, tmp_path: Path) -> None:
    name, content, expected = CASES[case]
    if kind == "memory" and not isinstance(content, list):
        content = content["data"] if "data" in content else [{"id": key, **one} for key, one in content.items()]
    source = write(tmp_path, content) if kind == "json" else content
    found = list(open_source(source, "train", form=name, keep="all").rows())
    assert [further(row) for row in found] == expected
    plain = list(open_source(source, "train", form=name).rows())
    assert [{name: row[name] for name in OWN & row.keys()} for row in found] == [
        {name: row[name] for name in OWN & row.keys()} for row in plain
    ]


@pytest.mark.parametrize("case", CASES)
def test_named_fields_alone(case: str, tmp_path: Path) -> None:
    form, content, expected = CASES[case]
    for name in expected[0]:
        rows = open_source(write(tmp_path, content), "train", form=form, keep=[name]).rows()
        assert [row.get(name) for row in rows] == [one.get(name) for one in expected]


def test_every_form_has_a_case() -> None:
    built_in = {name for name in form_names() if is_built_in(find_form(name))}
    assert {name for name, _, _ in CASES.values()} | {"triviaqa-files"} == built_in
    assert all(find_form(name).reads is not None for name in built_in - {"records"})


@pytest.mark.parametrize("case", FORMS)
def test_the_examples_are_those_without_further_fields(case: str, tmp_path: Path) -> None:
    _, content, _ = FORMS[case]
    path = write(tmp_path, content)
    plain, kept = (list(open_source(path, "train", keep=keep).rows()) for keep in ((), "all"))
    assert [{name: row[name] for name in OWN & row.keys()} for row in kept] == [
        {name: row[name] for name in OWN & row.keys()} for row in plain
    ]


def test_a_field_that_a_form_reads_can_be_named(tmp_path: Path) -> None:
    (row,) = open_source([{**HOTPOT, "answer": "Rome"}], "train", keep=["answer", "_id"]).rows()
    assert further(row) == {"answer": "Rome", "_id": "h"}


def test_pages_of_triviaqa_in_files(tmp_path: Path) -> None:
    pages = tmp_path / "evidence" / "wikipedia"
    pages.mkdir(parents=True)
    (pages / "a.txt").write_text(CONTEXT)
    record = {
        "QuestionId": "t",
        "Question": "Q?",
        "QuestionSource": "s",
        "Answer": {"Value": "Tiber", "Aliases": []},
        "EntityPages": [{"Filename": "a.txt", "Title": "A"}],
    }
    (tmp_path / "qa").mkdir()
    (tmp_path / "qa" / "f.json").write_text(json.dumps({"Data": [record]}))
    (row,) = open_source(tmp_path / "qa" / "f.json", "train", keep="all").rows()
    assert further(row) == {"QuestionSource": "s", "Title": "A"}


def test_names_of_columns_leave_the_other_fields() -> None:
    record = {"id": 5, "query": "Q?", "doc": {"text": CONTEXT, "url": "u"}, "title": "t", "question": "other"}
    names = {"question": "query", "context": "doc.text"}
    (row,) = open_source([record], "train", columns=names, keep="all").rows()
    assert row == {"question": "Q?", "context": CONTEXT, "title": "t"}
    (row,) = open_source([record], "train", columns=names, keep=["doc"]).rows()
    assert row == {"question": "Q?", "context": CONTEXT, "doc": record["doc"]}


def test_a_form_of_the_user_gives_what_it_yields() -> None:
    def read(record: Any, options: Any) -> Any:
        yield {"question": record["q"], "context": CONTEXT, "answers": None, "title": record["t"]}

    form = Form("mine", lambda record: True, read)
    (row,) = open_source([{"q": "Q?", "t": "T", "other": 1}], "train", form=form, keep="all").rows()
    assert further(row) == {"title": "T"}
    form = Form("mine", lambda record: True, read, reads=frozenset({"q", "t"}))
    (row,) = open_source([{"q": "Q?", "t": "T", "other": 1}], "train", form=form, keep="all").rows()
    assert further(row) == {"title": "T", "other": 1}


def test_names_are_checked() -> None:
    with pytest.raises(SettingsError, match="keep: expected further fields"):
        open_source([], "train", keep=["id"])


def test_kept_fields_are_part_of_the_digest() -> None:
    rows = [{"question": "Q?", "context": CONTEXT, "answers": None, "title": title} for title in "ab"]
    other = [{**row, "title": "c"} for row in rows]
    assert open_source(rows, "train").identity() == open_source(other, "train").identity()
    for keep in (["title"], "all"):
        assert open_source(rows, "train", keep=keep).identity() != open_source(other, "train", keep=keep).identity()
