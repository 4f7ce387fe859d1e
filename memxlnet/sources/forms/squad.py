"""SQuAD v1.1 and v2, and all data of its form: articles of paragraphs of questions.

https://rajpurkar.github.io/SQuAD-explorer. XQuAD, MLQA, KLUE, FQuAD, GermanQuAD, KorQuAD 1, DRCD, CMRC and exports of
annotation tools share it. TyDi QA's gold passages do, but count offsets in bytes.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from memxlnet.errors import ExampleError
from memxlnet.sources.forms.form import Form, FormOptions, Record, each, further, listed
from memxlnet.sources.forms.shared import in_code_points

_TYDI_ID = re.compile(
    "(arabic|bengali|english|finnish|indonesian|japanese|korean|russian|swahili|telugu|thai)--?[0-9]+-[0-9]+"
)


def each_question(record: Record, read: Callable[[Mapping[str, Any], list[Any]], Iterator[Any]]) -> Iterator[Any]:
    """Yield the examples of an article, paragraph by paragraph, with an error in place of a malformed one.

    Args:
        record: The article.
        read: The examples of a paragraph and its questions.
    """
    for paragraph in listed(record["paragraphs"], "paragraphs"):
        if not isinstance(paragraph, Mapping) or not isinstance(paragraph.get("qas"), list):
            found = sorted(map(str, paragraph)) if isinstance(paragraph, Mapping) else type(paragraph).__name__
            yield ExampleError(f"expected paragraphs that are a mapping with the list 'qas', found {found}")
            continue
        yield from read(paragraph, paragraph["qas"])


def _examples(record: Record, options: FormOptions) -> Iterator[Any]:
    def read(paragraph: Mapping[str, Any], questions: list[Any]) -> Iterator[Any]:
        context = {"context": paragraph["context"]} if "context" in paragraph else {}
        fields = further(paragraph, ("qas",), options)

        def example(question: Any) -> Record:
            if not isinstance(question, Mapping):
                raise ExampleError(f"expected mappings in 'qas', found {type(question).__name__}")
            # KLUE's name for it.
            identity = {"id": question["guid"]} if "guid" in question and "id" not in question else {}
            found = {**fields, **question, **identity, **context}
            if options.offsets != "characters" and "answers" in found:
                found["answers"] = in_code_points(found["answers"], found.get("context"), options.offsets)
            return found

        return each(questions, example)

    return each_question(record, read)


def first_question(record: Record) -> Mapping[str, Any]:
    """Return the first question of an article, empty where it has none."""
    paragraphs = record.get("paragraphs")
    if not isinstance(paragraphs, list):
        return {}
    found = (question for one in paragraphs if isinstance(one, Mapping) for question in one.get("qas") or ())
    first = next(found, None)
    return first if isinstance(first, Mapping) else {}


def _tydi_examples(record: Record, options: FormOptions) -> Iterator[Record]:
    return _examples(record, replace(options, offsets="bytes"))


SQUAD = Form(
    "squad",
    lambda record: isinstance(record.get("paragraphs"), list),
    _examples,
    heeds_offsets=True,
    reads=frozenset({"paragraphs"}),
)
"""``paragraphs[].context``, ``paragraphs[].qas[]`` with ``id`` (or ``guid``), ``question`` and ``answers``."""

TYDIQA = Form(
    "tydiqa",
    lambda record: bool(_TYDI_ID.fullmatch(str(first_question(record).get("id")))),
    _tydi_examples,
    reads=frozenset({"paragraphs"}),
)
"""SQuAD's form with offsets in bytes of UTF-8, recognised by its ids: language, number, number."""
