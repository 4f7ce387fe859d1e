"""What perfect logits can reach on a cache: how much its segments cost before a model is trained."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memxlnet.encode.answer_alignment import DROPPED, NUMBER, UNLABELLED, YES_NO
from memxlnet.evaluate.cache_argument import CacheLike, batches_in_view, open_with_view
from memxlnet.evaluate.comparing_texts import SQUAD
from memxlnet.evaluate.predictions import SpanCutter
from memxlnet.format.published import PublishedCache

_COLUMNS = (
    "context",
    "answer_token_start",
    "answer_token_stop",
    "num_answer_segments",
    "alignment",
    "answer_texts",
)


@dataclass(frozen=True)
class AnswerCeiling:
    """What logits that point to the labels of every segment reach, with spans of any length.

    `dropped`, `yes_no`, `number`, `unreachable` and `inexact` have no document in common; all other labelled ones are
    right. A document whose gold answers all have an empty normal form (such as "The") is right with no answer, and
    belongs to none of them.

    Attributes:
        documents: Documents of the cache.
        unlabelled: Those without a label; not part of the other figures.
        answerable: Those with a gold answer.
        dropped: Those whose gold answers stand nowhere in the context (alignment "dropped").
        yes_no: Those whose gold answers are yes or no, which stand nowhere in the context.
        number: Those whose gold answers are numbers, which stand nowhere in the context.
        unreachable: Those with a span that no segment holds whole: longer than the overlap, or cut off by `max_n_segs`.
        inexact: Those whose span is reached, but the text of its tokens is not a gold answer under the official
            normalisation.
        exact_match: Exact match of the official metric over the labelled documents, in percent; None without any.
        dropped_examples: Examples that gave no document (`on_bad_example="drop"`); not part of the other figures, and
            0 for a view.
    """

    documents: int
    unlabelled: int
    answerable: int
    dropped: int
    yes_no: int
    number: int
    unreachable: int
    inexact: int
    exact_match: float | None
    dropped_examples: int


def answer_ceiling(cache: CacheLike) -> AnswerCeiling:
    """Count which documents perfect logits would answer; needs no model.

    Documents are read in record batches and contexts one by one: RAM does not grow with the cache.

    Args:
        cache: A cache, a dataset over one or a view of it, or the directory of a published one.

    Raises:
        SettingsError: `cache` is not one of these.
        CacheError: The directory holds no cache, or a damaged one.
    """
    opened, held = open_with_view(cache)
    cutter = SpanCutter(opened)
    total = opened.num_documents if held is None else int(held.sum())
    counts: Counter[str] = Counter()
    for document in _read_documents(opened, held):
        counts["answerable"] += bool(document["answer_texts"])
        counts[_outcome(document, cutter)] += 1
    labelled = total - counts[UNLABELLED]
    return AnswerCeiling(
        documents=total,
        unlabelled=counts[UNLABELLED],
        answerable=counts["answerable"],
        dropped=counts[DROPPED],
        yes_no=counts[YES_NO],
        number=counts[NUMBER],
        unreachable=counts["unreachable"],
        inexact=counts["inexact"],
        exact_match=100.0 * counts["right"] / labelled if labelled else None,
        dropped_examples=opened.manifest.dropped_examples if held is None else 0,
    )


def _read_documents(cache: PublishedCache, held: NDArray[np.bool_] | None) -> Iterator[dict[str, Any]]:
    for batch in batches_in_view(cache, held):
        columns = [batch[name].to_pylist() for name in _COLUMNS]
        for values in zip(*columns, strict=True):
            yield dict(zip(_COLUMNS, values, strict=True))


def _outcome(document: dict[str, Any], cutter: SpanCutter) -> str:
    golds = document["answer_texts"]
    if document["alignment"] == UNLABELLED:
        return UNLABELLED
    if document["num_answer_segments"]:
        start, stop = document["answer_token_start"], document["answer_token_stop"]
        text = cutter.cut(document["context"], start, stop).text
        return "right" if SQUAD.score(golds, text).exact else "inexact"
    if SQUAD.golds(golds) == [""]:
        return "right"
    alignment: str = document["alignment"]
    return alignment if alignment in (DROPPED, YES_NO, NUMBER) else "unreachable"
