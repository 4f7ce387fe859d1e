"""Conversations over a text: CoQA and QuAC.

https://stanfordnlp.github.io/coqa, https://quac.ai. An example is a turn: its question stands after the two turns
before it, each as question and answer (`pieces.with_history`).
"""

from collections.abc import Iterator

from memxlnet.encode.sources.forms.form import Form, FormOptions, Record
from memxlnet.encode.sources.forms.pieces import YES_NO, Gold, example, occurrences, span, with_history, yes_no
from memxlnet.encode.sources.forms.squad import first_question, paragraphs_of

_CANNOT = "CANNOTANSWER"


def _coqa_examples(record: Record, options: FormOptions) -> Iterator[Record]:
    """The gold of a turn is its free answer where that stands in the rationale, else the rationale.

    Yes and no are of a kind of their own, "unknown" is no answer. The golds of the other annotators follow.
    """
    story, said = record["story"], list[tuple[str, str]]()
    others = (record.get("additional_answers") or {}).values()
    for turn, question in enumerate(record["questions"]):
        given = [record["answers"][turn], *(answers[turn] for answers in others)]
        golds = [gold for answer in given for gold in _coqa_gold(story, answer)]
        kind = YES_NO if golds and yes_no(given[0]["input_text"]) else ""
        identity = f"{record['id']}#{question['turn_id']}"
        yield example(identity, with_history(said, question["input_text"]), story, golds, kind)
        said.append((question["input_text"], given[0]["input_text"]))


def _coqa_gold(story: str, answer: Record) -> list[Gold]:
    text, start, stop = answer["input_text"], answer["span_start"], answer["span_end"]
    if start < 0:
        return []
    if yes_no(text):
        return [Gold(text)]
    rationale = span(story, start, stop)
    places = occurrences(rationale.text, text.strip())
    return [span(story, start + places[0], start + places[0] + len(text.strip()))] if places else [rationale]


def _quac_examples(record: Record, options: FormOptions) -> Iterator[Record]:
    for paragraph, questions in paragraphs_of(record):
        said: list[tuple[str, str]] = []
        for question in questions:
            golds = [Gold(gold["text"], gold["answer_start"]) for gold in question["answers"]]
            golds = [gold for gold in golds if gold.text != _CANNOT]
            turn = with_history(said, question["question"])
            yield example(question["id"], turn, paragraph["context"], golds)
            answer = question.get("orig_answer") or question["answers"][0]
            said.append((question["question"], answer["text"]))


COQA = Form("coqa", lambda record: {"story", "questions", "answers"} <= record.keys(), _coqa_examples)
"""``id``, ``story``, and by turn ``questions[].input_text`` and ``answers[]`` with rationale and free answer."""

QUAC = Form("quac", lambda record: "yesno" in first_question(record), _quac_examples)
"""SQuAD's form of turns; the answer CANNOTANSWER is none."""
