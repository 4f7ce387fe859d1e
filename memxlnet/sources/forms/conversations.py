"""Conversations over a text: CoQA and QuAC.

https://stanfordnlp.github.io/coqa, https://quac.ai. An example is a turn: its question stands after the two turns
before it, each as question and answer (`pieces.with_history`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from memxlnet.sources.forms.form import Form, FormOptions, Record, each
from memxlnet.sources.forms.pieces import YES_NO, Gold, example, occurrences, span, with_history, yes_no
from memxlnet.sources.forms.squad import each_question, first_question

_CANNOT = "CANNOTANSWER"


def _coqa_examples(record: Record, options: FormOptions) -> Iterator[Any]:
    """The gold of a turn is its free answer where that stands in the rationale, else the rationale.

    Yes and no are of a kind of their own, "unknown" is no answer. The golds of the other annotators follow.
    """
    story, questions, answers = record["story"], record["questions"], record["answers"]
    others = (record.get("additional_answers") or {}).values()
    said = [(one["input_text"], given["input_text"]) for one, given in zip(questions, answers, strict=True)]

    def read(turn: int) -> Record:
        question, given = questions[turn], [answers[turn], *(other[turn] for other in others)]
        golds = [gold for answer in given for gold in _coqa_gold(story, answer)]
        kind = YES_NO if golds and yes_no(given[0]["input_text"]) else ""
        identity = f"{record['id']}#{question['turn_id']}"
        return example(identity, with_history(said[:turn], question["input_text"]), story, golds, kind)

    return each(range(len(questions)), read)


def _coqa_gold(story: str, answer: Record) -> list[Gold]:
    text, start, stop = answer["input_text"], answer["span_start"], answer["span_end"]
    if start < 0:
        return []
    if yes_no(text):
        return [Gold(text)]
    rationale = span(story, start, stop)
    places = occurrences(rationale.text, text.strip())
    return [span(story, start + places[0], start + places[0] + len(text.strip()))] if places else [rationale]


def _quac_examples(record: Record, options: FormOptions) -> Iterator[Any]:
    def read_paragraph(paragraph: Mapping[str, Any], questions: list[Any]) -> Iterator[Any]:
        given = [one.get("orig_answer") or one["answers"][0] for one in questions]
        said = [(one["question"], answer["text"]) for one, answer in zip(questions, given, strict=True)]

        def read(turn: int) -> Record:
            question = questions[turn]
            golds = [Gold(gold["text"], gold["answer_start"]) for gold in question["answers"]]
            golds = [gold for gold in golds if gold.text != _CANNOT]
            asked = with_history(said[:turn], question["question"])
            return example(question["id"], asked, paragraph["context"], golds)

        return each(range(len(questions)), read)

    return each_question(record, read_paragraph)


COQA = Form("coqa", lambda record: {"story", "questions", "answers"} <= record.keys(), _coqa_examples)
"""``id``, ``story``, and by turn ``questions[].input_text`` and ``answers[]`` with rationale and free answer."""

QUAC = Form("quac", lambda record: "yesno" in first_question(record), _quac_examples)
"""SQuAD's form of turns; the answer CANNOTANSWER is none."""
