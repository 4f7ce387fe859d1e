"""DROP: questions that ask for spans, numbers and dates.

https://allenai.org/data/drop: an object of passages by their id, or one question per row as `datasets` has it. Golds
are looked up: the spans or the date. A number that stands nowhere in the passage is an answer of a kind of its own.
"""

from collections.abc import Iterator
from typing import Any

from memxlnet.sources.forms.form import Form, FormOptions, Record, each, further, listed
from memxlnet.sources.forms.shared import NUMBER, example, locate, unlabelled


def _examples(record: Record, options: FormOptions) -> Iterator[Any]:
    passage = record["passage"]
    if "answers_spans" in record:
        spans = record["answers_spans"]
        kinds = set(spans.get("types", ()))
        yield _example(record["query_id"], record["question"], passage, spans["spans"], kinds == {"number"}, options)
        return

    def read(question: Record) -> Record:
        own = further(question, ("query_id", "answer", "validated_answers"), options)
        if "answer" not in question:
            return {**own, **unlabelled(question["query_id"], question["question"], passage)}
        answers = [question["answer"], *question.get("validated_answers", ())]
        texts = [text for answer in answers for text in _texts(answer)]
        is_number = str(answers[0]["number"]) != ""
        return {**own, **_example(question["query_id"], question["question"], passage, texts, is_number, options)}

    yield from each(listed(record["qa_pairs"], "questions"), read)


def _texts(answer: Record) -> list[str]:
    date = " ".join(filter(None, (answer["date"].get(part, "") for part in ("day", "month", "year"))))
    number = str(answer["number"])
    return [number] if number else [*answer["spans"]] if answer["spans"] else [date] if date else []


def _example(
    identity: object, question: object, passage: str, texts: list[str], is_number: bool, options: FormOptions
) -> Record:
    golds = locate(passage, texts, options)
    kind = NUMBER if is_number and all(gold.start < 0 for gold in golds) else ""
    return example(identity, question, passage, golds, kind)


DROP = Form(
    "drop",
    lambda record: "passage" in record and ("qa_pairs" in record or "answers_spans" in record),
    _examples,
    keyed=frozenset({"passage", "qa_pairs"}),
    reads=frozenset({"passage", "qa_pairs", "query_id", "answers_spans"}),
)
"""``passage`` and ``qa_pairs[]`` with ``query_id``, ``question`` and ``answer`` (``number``, ``spans``, ``date``)."""
