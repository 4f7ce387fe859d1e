"""Flat records: one example each, as `datasets` and this library's own documentation have it."""

from collections.abc import Iterator
from typing import Any

from memxlnet.sources.forms.form import Form, FormOptions, Record
from memxlnet.sources.forms.shared import fields_of, in_code_points, locate


def _examples(record: Record, options: FormOptions) -> Iterator[Record]:
    if "answers" in record:
        answers = in_code_points(record["answers"], record.get("context"), options.offsets)
        yield record if answers is record["answers"] else {**record, "answers": answers}
    elif "answer_text" not in record:
        yield record
    else:
        yield {**record, **flat_answers(record, record.get("context"), options)}


def flat_answers(record: Record, context: Any, options: FormOptions) -> dict[str, Any]:
    """Return the answers' fields of a record with ``answer_text`` and, where the offset is known, ``answer_start``.

    Both hold one value or a list. No text is no answer; None is no label.
    """
    if record["answer_text"] is None:
        return {"answers": None}
    texts, starts = _values(record["answer_text"]), _values(record.get("answer_start"))
    if isinstance(record["answer_text"], str) and not texts[0].strip():
        texts, starts = [], []
    if record.get("answer_start") is None or starts == [None] * len(texts):
        if isinstance(context, str) and all(isinstance(text, str) for text in texts):
            return fields_of(locate(context, texts, options))
        starts = [-1] * len(texts)
    return {"answers": in_code_points({"text": texts, "answer_start": starts}, context, options.offsets)}


def _values(value: Any) -> list[Any]:
    """Return the values of a field that holds one, a list of them or an array."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, list | tuple) else [value]


RECORDS = Form("records", lambda record: "question" in record and "context" in record, _examples, heeds_offsets=True)
"""``id``, ``question``, ``context`` and ``answers``, or ``answer_text`` and ``answer_start`` in its place."""
