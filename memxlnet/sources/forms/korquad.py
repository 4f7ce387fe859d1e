"""KorQuAD 2: questions over whole pages, each with one answer that is a mapping of its own.

https://korquad.github.io. Offsets count characters of ``context``, markup included; ``raw_html`` is not read.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from memxlnet.sources.forms.form import Form, FormOptions, Record, each, further, listed
from memxlnet.sources.forms.shared import Gold, example, unlabelled


def _examples(record: Record, options: FormOptions) -> Iterator[Any]:
    def read(question: Record) -> Record:
        own = further(question, ("answer",), options)
        if "answer" not in question:
            return {**own, **unlabelled(question["id"], question["question"], record["context"])}
        answer = question["answer"]
        golds = [Gold(answer["text"], answer["answer_start"])]
        return {**own, **example(question["id"], question["question"], record["context"], golds)}

    return each(listed(record["qas"], "questions"), read)


def _is_korquad(record: Record) -> bool:
    questions = record.get("qas")
    return (
        "context" in record
        and "raw_html" in record
        and isinstance(questions, list)
        and all(isinstance(question, Mapping) for question in questions)
    )


KORQUAD2 = Form("korquad2", _is_korquad, _examples, reads=frozenset({"qas"}))
"""``context``, ``raw_html`` and ``qas[]`` with ``id``, ``question`` and ``answer``."""
