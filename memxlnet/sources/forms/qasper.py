"""QASPER: questions over whole papers.

https://allenai.org/data/qasper: an object of papers by their id, or one paper per row as `datasets` has it. The context
is the title, the abstract and the sections. Extractive spans are looked up; yes and no are answers of a kind of their
own; a free answer is looked up, and dropped where it stands nowhere.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from memxlnet.sources.forms.form import Form, FormOptions, Record, each, further, listed
from memxlnet.sources.forms.shared import YES_NO, Gold, example, join, locate, unlabelled


def _examples(record: Record, options: FormOptions) -> Iterator[Any]:
    sections = record["full_text"]
    if isinstance(sections, Mapping):  # as datasets has it: columns
        sections = _rows(sections)
    passages = [(record.get("title") or "", record.get("abstract") or "")]
    passages += [(one["section_name"] or "", "\n".join(one["paragraphs"])) for one in sections]
    context, _ = join(passages)
    questions = record["qas"]

    def read(question: Record) -> Record:
        own = further(question, ("question_id",), options)
        given = question.get("answers")
        if given is None:
            return {**own, **unlabelled(question["question_id"], question["question"], context)}
        found = given["answer"] if isinstance(given, Mapping) else [one["answer"] for one in given]
        words = [Gold("yes" if one["yes_no"] else "no") for one in found if one.get("yes_no") is not None]
        texts = [text for one in found for text in one.get("extractive_spans") or [one.get("free_form_answer")] if text]
        # The first annotator decides between the kinds.
        if words and found[0].get("yes_no") is not None:
            return {**own, **example(question["question_id"], question["question"], context, words, YES_NO)}
        return {
            **own,
            **example(question["question_id"], question["question"], context, locate(context, texts, options)),
        }

    return each(_rows(questions) if isinstance(questions, Mapping) else listed(questions, "questions"), read)


def _rows(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


QASPER = Form(
    "qasper",
    lambda record: {"full_text", "qas"} <= record.keys(),
    _examples,
    keyed=frozenset({"full_text", "qas"}),
    reads=frozenset({"abstract", "full_text", "qas"}),
)
"""``title``, ``abstract``, ``full_text`` and ``qas`` with ``question_id``, ``question`` and ``answers``."""
