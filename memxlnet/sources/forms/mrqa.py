"""MRQA 2019: a context per line with questions whose answers are spans with inclusive ends.

https://github.com/mrqa/MRQA-Shared-Task-2019. The first line of a file is its header. `datasets` has one question a
row, with the spans in columns.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from memxlnet.sources.forms.form import Form, FormOptions, Record, each, further, listed
from memxlnet.sources.forms.shared import Gold, example, span


def _examples(record: Record, options: FormOptions) -> Iterator[Any]:
    if record.get("header") is not None and record.get("qas") is None and "detected_answers" not in record:
        return

    def read(question: Record) -> Record:
        context = record["context"]
        golds = _golds(context, question["detected_answers"])
        own = further(question, ("qid", "detected_answers"), options)
        return {**own, **example(question["qid"], question["question"], context, golds)}

    yield from each(listed(record.get("qas", [record]), "questions"), read)


def _golds(context: str, detected: Any) -> Iterator[Gold]:
    if isinstance(detected, Mapping):
        spans = detected["char_spans"]
        for one in spans:
            for start, end in zip(one["start"], one["end"], strict=True):
                yield span(context, start, end, inclusive=True)
        return
    for answer in detected:
        for start, end in answer["char_spans"]:
            yield span(context, start, end, inclusive=True)


MRQA = Form(
    "mrqa",
    lambda record: (
        (set(record) == {"header"} and isinstance(record["header"], Mapping))
        or "detected_answers" in record
        or (isinstance(record.get("qas"), list) and all("detected_answers" in one for one in record["qas"][:1]))
    ),
    _examples,
    reads=frozenset({"qas", "qid", "detected_answers"}),
)
"""``context``, ``qas[]`` with ``qid``, ``question`` and ``detected_answers[].char_spans``."""
