"""Conversations over a text: CoQA and QuAC.

https://stanfordnlp.github.io/coqa, https://quac.ai. An example is a turn: its question stands after the two turns
before it, each as question and answer (`pieces.with_history`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from memxlnet.errors import ExampleError
from memxlnet.sources.forms.form import Form, FormOptions, Record, each, further, listed
from memxlnet.sources.forms.shared import YES_NO, Gold, example, occurrences, span, with_history, yes_no
from memxlnet.sources.forms.squad import each_question, first_question

_CANNOT = "CANNOTANSWER"
_COQA_ANSWER = ("input_text", "span_start", "span_end", "turn_id")


def _coqa_examples(record: Record, options: FormOptions) -> Iterator[Any]:
    """Return the gold of a turn: its free answer where that stands in the rationale, else the rationale.

    Yes and no are of a kind of their own, "unknown" is no answer. The golds of the other annotators follow.
    """
    story, questions, answers = record["story"], record["questions"], record["answers"]
    others = (record.get("additional_answers") or {}).values()

    def said(turn: int) -> tuple[str, str]:
        return questions[turn]["input_text"], answers[turn]["input_text"]

    def read(turn: int) -> Record:
        if len(questions) != len(answers):  # which answer is whose?
            raise ExampleError(f"expected an answer for each of {len(questions)} turns, found {len(answers)}")
        question, given = questions[turn], [answers[turn], *(other[turn] for other in others)]
        golds = [gold for answer in given for gold in _coqa_gold(story, answer)]
        kind = YES_NO if golds and yes_no(given[0]["input_text"]) else ""
        identity = f"{record['id']}#{question['turn_id']}"
        found = example(identity, with_history(said, turn, question["input_text"]), story, golds, kind)
        own = further(answers[turn], _COQA_ANSWER, options) | further(question, ("input_text", "turn_id"), options)
        return {**own, **found}

    return each(range(len(listed(questions, "turns"))), read)


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
        def said(turn: int) -> tuple[str, str]:
            answer = questions[turn].get("orig_answer") or next(iter(questions[turn]["answers"]), {"text": ""})
            return questions[turn]["question"], answer["text"]

        def read(turn: int) -> Record:
            question = questions[turn]
            golds = [Gold(gold["text"], gold["answer_start"]) for gold in question["answers"]]
            golds = [gold for gold in golds if gold.text != _CANNOT]
            asked = with_history(said, turn, question["question"])
            own = further(paragraph, ("qas",), options) | further(question, ("orig_answer",), options)
            return {**own, **example(question["id"], asked, paragraph["context"], golds)}

        return each(range(len(questions)), read)

    return each_question(record, read_paragraph)


COQA = Form(
    "coqa",
    lambda record: {"story", "questions", "answers"} <= record.keys(),
    _coqa_examples,
    reads=frozenset({"story", "questions", "additional_answers"}),
)
"""``id``, ``story``, and by turn ``questions[].input_text`` and ``answers[]`` with rationale and free answer."""

QUAC = Form("quac", lambda record: "yesno" in first_question(record), _quac_examples, reads=frozenset({"paragraphs"}))
"""SQuAD's form of turns; the answer CANNOTANSWER stands for no answer."""
