"""The official SQuAD 2.0 metric over the gold answers of a cache.

After the evaluation script of SQuAD 2.0, ``evaluate-v2.0.py`` (Rajpurkar, Jia and Liang: Know What You Don't Know:
Unanswerable Questions for SQuAD, 2018), which gives the same figures for the same answers.
"""

import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from memxlnet.encode.answer_alignment import UNLABELLED
from memxlnet.errors import SettingsError
from memxlnet.evaluate.cache_argument import CacheLike, batches_in_view, open_with_view
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints
from memxlnet.settings import check_bool

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)

_Scores = list[tuple[float, float]]
"""Exact match and F1 of each document, from 0 to 1."""


@dataclass
class _GroupScores:
    """The scores of the documents of one value of a column, or of all."""

    every: _Scores = field(default_factory=list)
    answered: _Scores = field(default_factory=list)
    unanswerable: _Scores = field(default_factory=list)
    unlabelled: int = 0

    def figures(self) -> dict[str, float]:
        """Return the figures of these documents."""
        found = _figures("", self.every) | _figures("HasAns_", self.answered) | _figures("NoAns_", self.unanswerable)
        return found | {"unlabelled_total": self.unlabelled} if self.unlabelled else found


def normalize_answer(text: str) -> str:
    """Return the normal form under which the official script compares answers.

    Lower case, without ASCII punctuation, without the articles a, an and the, runs of white space as one blank.

    Args:
        text: An answer.
    """
    bare = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def scored_golds(texts: Iterable[str]) -> list[str]:
    """Return the gold answers that count: those with a normal form, or one empty text where no gold has one."""
    return [text for text in texts if normalize_answer(text)] or [""]


def exact_match(gold: str, predicted: str) -> int:
    """Return 1 where both have the same normal form, else 0."""
    return int(normalize_answer(gold) == normalize_answer(predicted))


def f1(gold: str, predicted: str) -> float:
    """Return F1 of the words of both normal forms; where one has no words, 1 if neither has, else 0."""
    gold_words, words = normalize_answer(gold).split(), normalize_answer(predicted).split()
    if not gold_words or not words:
        return float(gold_words == words)
    shared = sum((Counter(gold_words) & Counter(words)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(words), shared / len(gold_words)
    return 2 * precision * recall / (precision + recall)


@overload
def squad_metrics(
    predictions: Mapping[str, str], cache: CacheLike, *, allow_missing: bool = False, by: None = None
) -> dict[str, float]: ...


@overload
def squad_metrics(
    predictions: Mapping[str, str], cache: CacheLike, *, allow_missing: bool = False, by: str
) -> dict[Any, dict[str, float]]: ...


def squad_metrics(
    predictions: Mapping[str, str], cache: CacheLike, *, allow_missing: bool = False, by: str | None = None
) -> dict[str, float] | dict[Any, dict[str, float]]:
    """Return exact match and F1 as the official SQuAD 2.0 script computes them, with the golds that a cache keeps.

    Only documents count, and of these only labelled ones. Examples that were dropped when the cache was built have no
    document, and their golds are not kept; the official script over the source counts them as well. Predictions of
    other ids are skipped, as there.

    Args:
        predictions: Answers by id, empty for no answer; ``dict(collector.answers())``. Unlabelled documents need none.
        cache: A cache, a dataset over one or a view of it, or the directory of a published one.
        allow_missing: Leave documents without a prediction out of every figure.
        by: A kept column of the cache: the same figures for the documents of each of its values, by the value, None for
            null.

    Returns:
        ``exact`` and ``f1`` in percent and ``total``; with the prefix ``HasAns_`` the same over documents with a gold
        answer, with ``NoAns_`` over those without one; a prefix that no document has is left out, as there.
        ``unlabelled_total`` where the cache has unlabelled documents: how many were left out.

    Raises:
        SettingsError: A prediction is missing or no text, or no document has one, or none is labelled; or there is no
            such kept column.
        CacheDamagedError: A file of the cache is damaged.
    """
    if not isinstance(predictions, Mapping):
        raise SettingsError(f"predictions: expected a mapping of texts by id, found {type(predictions).__name__}")
    allowed = check_bool("allow_missing", allow_missing)
    opened, held = open_with_view(cache)
    groups, values = (None, [None]) if by is None else opened.kept_column("by", by).groups(by)
    total = opened.num_documents if held is None else int(held.sum())
    unlabelled = _count_unlabelled(opened, held)
    if unlabelled == total:
        raise SettingsError(
            f"cache: expected labelled documents, found all {unlabelled} of {opened.directory} unlabelled; their "
            "predictions have nothing to be compared with"
        )
    scores: dict[int, _GroupScores] = {}
    missing, first = 0, ""
    for example_id, golds, group in _read_golds(opened, held, groups):
        own = scores.setdefault(group, _GroupScores())
        if golds is None:
            own.unlabelled += 1
            continue
        if example_id not in predictions:
            missing, first = missing + 1, first if missing else example_id
            continue
        predicted = predictions[example_id]
        if not isinstance(predicted, str):
            raise SettingsError(f"predictions: expected a text for {example_id!r:.120}, found {predicted!r:.80}")
        counted = scored_golds(golds)
        score = max(exact_match(gold, predicted) for gold in counted), max(f1(gold, predicted) for gold in counted)
        (own.answered if golds else own.unanswerable).append(score)
        own.every.append(score)
    if (missing and not allowed) or not any(own.every for own in scores.values()):
        raise SettingsError(
            f"predictions: expected one for each of the {total - unlabelled} labelled documents of "
            f"{opened.directory}, found none for {missing} of them, the first of them {first!r:.120}; give an empty "
            "text for no answer" + ("" if allowed else ", or pass allow_missing=True")
        )
    if by is None:
        return scores[0].figures()
    return {values[group]: own.figures() for group, own in sorted(scores.items())}


def _count_unlabelled(cache: PublishedCache, held: NDArray[np.bool_] | None) -> int:
    known: int = cache.manifest.alignment[UNLABELLED]
    if not known or held is None:
        return known
    return sum(pc.sum(pc.equal(batch["alignment"], UNLABELLED)).as_py() or 0 for batch in batches_in_view(cache, held))


def _read_golds(
    cache: PublishedCache, held: NDArray[np.bool_] | None, groups: Ints | None
) -> Iterator[tuple[str, list[str] | None, int]]:
    """Yield id, gold answers (None where unlabelled) and group of each document; RAM for one record batch."""
    own = np.zeros(cache.num_documents, np.int64) if groups is None else groups
    numbers = iter((own if held is None else own[held]).tolist())
    for batch in batches_in_view(cache, held):
        golds, ids = batch["answer_texts"].to_pylist(), batch["id"].to_pylist()
        is_unlabelled = pc.equal(batch["alignment"], UNLABELLED).to_pylist()
        for example_id, texts, skipped in zip(ids, golds, is_unlabelled, strict=True):
            yield example_id, None if skipped else texts, next(numbers)


def _figures(prefix: str, scores: _Scores) -> dict[str, float]:
    if not scores:
        return {}
    total = len(scores)
    exact, overlap = (100.0 * sum(values) / total for values in zip(*scores, strict=True))
    return {f"{prefix}exact": exact, f"{prefix}f1": overlap, f"{prefix}total": total}
