"""NewsQA: news stories with questions, whose answers are spans on which several people agreed.

https://github.com/Maluuba/newsqa: the combined file as JSON (version 1), and as CSV. The answer is the consensus; in
CSV, what most validators chose, else what most people marked first. A question that is marked as bad is a bad example.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from memxlnet.errors import ExampleError
from memxlnet.sources.forms.form import Form, FormOptions, Record, each, further, listed
from memxlnet.sources.forms.shared import Gold, example, span


def _examples(record: Record, options: FormOptions) -> Iterator[Any]:
    story = record["text"]

    def read(number: int) -> Record:
        question = record["questions"][number]
        identity, consensus = f"{record['storyId']}#{number}", question["consensus"]
        if consensus.get("badQuestion"):
            raise _bad(identity)
        golds = [] if consensus.get("noAnswer") else [span(story, consensus["s"], consensus["e"])]
        return {**further(question, ("q", "consensus"), options), **example(identity, question["q"], story, golds)}

    return each(range(len(listed(record["questions"], "questions"))), read)


def _csv_examples(record: Record, options: FormOptions) -> Iterator[Any]:
    story, chosen = record["story_text"], _chosen(record)
    identity = f"{record['story_id']}#{record['question']}"
    if chosen == "bad_question":
        yield _bad(identity)
        return
    yield example(identity, record["question"], story, _golds(story, chosen))


def _bad(identity: str) -> ExampleError:
    return ExampleError(f"example {identity!r}: its question is marked as bad; use on_bad_example='drop'")


def _chosen(record: Record) -> str:
    """Return the ranges that most chose: ``none``, ``bad_question``, or ``start:stop`` joined by commas."""
    votes = json.loads(record["validated_answers"]) if record.get("validated_answers") else {}
    if not votes:
        votes = Counter(ranges.lower() for ranges in record["answer_char_ranges"].split("|"))
    return str(max(votes, key=votes.__getitem__))


def _golds(story: str, chosen: str) -> list[Gold]:
    if chosen.lower() == "none":
        return []
    bounds = [ranges.split(":") for ranges in chosen.split(",")]
    return [span(story, int(start), int(stop)) for start, stop in bounds]


NEWSQA = Form(
    "newsqa",
    lambda record: {"storyId", "text", "questions"} <= record.keys(),
    _examples,
    reads=frozenset({"storyId", "text", "questions"}),
)
"""``storyId``, ``text`` and ``questions[]`` with ``q`` and ``consensus``."""

NEWSQA_CSV = Form(
    "newsqa-csv",
    lambda record: {"story_text", "answer_char_ranges"} <= record.keys(),
    _csv_examples,
    reads=frozenset({"story_id", "story_text", "answer_char_ranges", "validated_answers"}),
)
"""A row a question: ``story_id``, ``story_text``, ``question``, ``answer_char_ranges`` and ``validated_answers``."""
