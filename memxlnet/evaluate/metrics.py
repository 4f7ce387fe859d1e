"""The official metrics over the gold answers of a cache."""

from collections.abc import Mapping
from typing import Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from memxlnet.errors import SettingsError
from memxlnet.evaluate.array_inputs import Floats
from memxlnet.evaluate.cache_argument import CacheLike
from memxlnet.evaluate.comparing_texts import Rule
from memxlnet.evaluate.data_table import DataTable
from memxlnet.evaluate.document_groups import group_documents
from memxlnet.evaluate.document_scores import Answers, DocumentScores, ScoringOptions, score_documents
from memxlnet.evaluate.no_answer import (
    DEFAULT_THRESHOLD,
    at_threshold,
    check_knows_no_answer,
    check_threshold,
    rank,
    ranked_figures,
)
from memxlnet.evaluate.score_tables import scores_table
from memxlnet.settings import check_bool


@overload
def squad_metrics(
    predictions: Answers,
    cache: CacheLike,
    *,
    by: None = None,
    per_example: Literal[False] = False,
    no_answer_probabilities: Mapping[str, float] | None = None,
    no_answer_threshold: float = DEFAULT_THRESHOLD,
    **options: Unpack[ScoringOptions],
) -> dict[str, float]: ...


@overload
def squad_metrics(
    predictions: Answers,
    cache: CacheLike,
    *,
    by: str,
    per_example: Literal[False] = False,
    no_answer_probabilities: Mapping[str, float] | None = None,
    no_answer_threshold: float = DEFAULT_THRESHOLD,
    **options: Unpack[ScoringOptions],
) -> dict[Any, dict[str, float]]: ...


@overload
def squad_metrics(
    predictions: Answers,
    cache: CacheLike,
    *,
    by: str | None = None,
    per_example: Literal[True],
    no_answer_probabilities: Mapping[str, float] | None = None,
    no_answer_threshold: float = DEFAULT_THRESHOLD,
    **options: Unpack[ScoringOptions],
) -> DataTable: ...


def squad_metrics(
    predictions: Answers,
    cache: CacheLike,
    *,
    by: str | None = None,
    per_example: bool = False,
    no_answer_probabilities: Mapping[str, float] | None = None,
    no_answer_threshold: float = DEFAULT_THRESHOLD,
    **options: Unpack[ScoringOptions],
) -> dict[str, float] | dict[Any, dict[str, float]] | DataTable:
    """Return exact match and F1 as an official script computes them, with the golds that a cache keeps.

    Only documents count, and of these only labelled ones. Examples that were dropped when the cache was built have no
    document, and their golds are not kept; the official script over the source counts them as well. The golds of a
    cache of MRQA are the detected answers; its script takes all of ``answers``: pass them as `golds`.

    Args:
        predictions: Answers by id, empty for no answer, or the collector of a run. Unlabelled documents need none.
        cache: A cache, a dataset over one or a view of it, or the directory of a published one.
        by: The same figures for the documents of each value, by the value: a kept column of the cache, ``"source"``,
            ``"answer_step"`` (the time step of the first segment that holds the answer whole) or ``"segments"``
            (their number). None is the value of null, and of documents whose answer no segment holds whole.
        per_example: Return a table of documents and not their figures.
        no_answer_probabilities: Probability of no answer by id, from 0 to 1, as the script's ``--na-prob-file``.
        no_answer_threshold: Answers whose probability of no answer exceeds it count as no answer.
        options: See `ScoringOptions`: ``allow_missing``, ``allow_other``, ``normalization``, ``language``, ``golds``.

    Returns:
        ``exact`` and ``f1`` in percent and ``total``. With ``normalization="squad"`` also, with the prefix ``HasAns_``,
        the same over documents with a gold answer, with ``NoAns_`` over those without one; a prefix that no document
        has is left out, as there. With probabilities also ``best_exact`` and ``best_f1``, the thresholds that give
        them, ``best_exact_thresh`` and ``best_f1_thresh``, and the average precisions ``pr_exact_ap``, ``pr_f1_ap`` and
        ``pr_oracle_ap``. ``unlabelled_total`` where the cache has unlabelled documents: how many were left out.

        With `per_example`, a table with a row for each document, as `errors_table` returns it of wrong ones.

    Raises:
        SettingsError: An argument is wrong: an answer or probability is missing, has an id that the cache does not
            know, or is not a text or not a number from 0 to 1; no document is labelled, or one has no gold where the
            script needs one; there is no such kept column, script or language.
        CacheMismatchError: The answers are those of a collector over another cache.
        CacheDamagedError: A file of the cache is damaged.
    """
    check_bool("per_example", per_example)
    threshold = check_threshold(no_answer_threshold)
    if no_answer_probabilities is None and threshold != DEFAULT_THRESHOLD:
        raise SettingsError(f"no_answer_threshold: expected no_answer_probabilities with {threshold}, found None")
    scores = score_documents(predictions, cache, **options)
    groups = group_documents(scores.cache, by)
    ranking, exact, f1 = None, scores.exact, scores.f1
    if no_answer_probabilities is not None:
        check_knows_no_answer(scores)
        ranking = rank(no_answer_probabilities, scores, options.get("allow_other", False))
        exact, f1 = (at_threshold(found, scores.has_gold, ranking.probabilities, threshold) for found in (exact, f1))
    if per_example:
        emptied = None if ranking is None else ranking.probabilities > threshold
        return scores_table(scores, exact, f1, emptied)
    number_of, unlabelled_of = groups.numbers[scores.documents], groups.numbers[scores.unlabelled]
    found: dict[Any, dict[str, float]] = {}
    for number in np.union1d(number_of, unlabelled_of).tolist():
        some = number_of == number
        own = _figures(scores, some, exact, f1)
        if ranking is not None and some.any():
            own |= ranked_figures(scores, some, ranking.of(some))
        unlabelled = int(np.count_nonzero(unlabelled_of == number))
        found[groups.values[number]] = own | ({"unlabelled_total": unlabelled} if unlabelled else {})
    return found[None] if by is None else found


def _figures(scores: DocumentScores, some: NDArray[np.bool_], exact: Floats, f1: Floats) -> dict[str, float]:
    parts = {"": some}
    if scores.rule.knows_no_answer:
        parts |= {"HasAns_": some & scores.has_gold, "NoAns_": some & ~scores.has_gold}
    figures: dict[str, float] = {}
    for prefix, part in parts.items():
        total = int(np.count_nonzero(part))
        if total:
            for name, values in (("exact", exact), ("f1", f1)):
                figures[f"{prefix}{name}"] = 100.0 * _sum(values[part], scores.rule) / total
            figures[f"{prefix}total"] = total
    return figures


def _sum(values: Floats, rule: Rule) -> float:
    """Return a sum as the script computes it: digits depend on the way.

    That of SQuAD 2.0 calls `sum`, which is compensated from Python 3.12 on; the others add one by one.
    """
    return sum(values.tolist()) if rule.knows_no_answer else float(np.cumsum(values)[-1])
