"""SQuAD v1.1 and v2, and all data of its form: articles of paragraphs of questions.

https://rajpurkar.github.io/SQuAD-explorer. XQuAD, MLQA, KLUE, FQuAD, GermanQuAD, KorQuAD 1, DRCD, CMRC and exports of
annotation tools share it. TyDi QA's gold passages do, but count offsets in bytes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from memxlnet.encode.sources.forms.form import Form, FormOptions, Record
from memxlnet.encode.sources.forms.pieces import in_code_points

_TYDI_ID = re.compile(
    "(arabic|bengali|english|finnish|indonesian|japanese|korean|russian|swahili|telugu|thai)--?[0-9]+-[0-9]+"
)


def paragraphs_of(record: Record) -> Iterator[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """The paragraphs of an article with their questions.

    Raises:
        ValueError: One is no mapping with the list ``qas`` of mappings.
    """
    for paragraph in record["paragraphs"]:
        if not isinstance(paragraph, Mapping) or not isinstance(paragraph.get("qas"), list):
            found = sorted(paragraph) if isinstance(paragraph, Mapping) else type(paragraph).__name__
            raise ValueError(f"expected paragraphs that are a mapping with the list 'qas', found {found}")
        for question in paragraph["qas"]:
            if not isinstance(question, Mapping):
                raise ValueError(f"expected mappings in 'qas', found {type(question).__name__}")
        yield paragraph, paragraph["qas"]


def _examples(record: Record, options: FormOptions) -> Iterator[Record]:
    for paragraph, questions in paragraphs_of(record):
        context = {"context": paragraph["context"]} if "context" in paragraph else {}
        for question in questions:
            # KLUE's name for it.
            identity = {"id": question["guid"]} if "guid" in question and "id" not in question else {}
            found = {**question, **identity, **context}
            if options.offsets != "characters" and "answers" in found:
                found["answers"] = in_code_points(found["answers"], found.get("context"), options.offsets)
            yield found


def first_question(record: Record) -> Mapping[str, Any]:
    """The first question of an article, empty where it has none."""
    paragraphs = record.get("paragraphs")
    found = (question for _, questions in paragraphs_of(record) for question in questions)
    return next(found, {}) if isinstance(paragraphs, list) else {}


def _tydi_examples(record: Record, options: FormOptions) -> Iterator[Record]:
    return _examples(record, replace(options, offsets="bytes"))


SQUAD = Form("squad", lambda record: isinstance(record.get("paragraphs"), list), _examples, heeds_offsets=True)
"""``paragraphs[].context``, ``paragraphs[].qas[]`` with ``id`` (or ``guid``), ``question`` and ``answers``."""

TYDIQA = Form("tydiqa", lambda record: bool(_TYDI_ID.fullmatch(str(first_question(record).get("id")))), _tydi_examples)
"""SQuAD's form with offsets in bytes of UTF-8, recognised by its ids: language, number, number."""
