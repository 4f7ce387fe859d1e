"""Intervals of the figures of a run, and whether two runs over the same documents differ."""

from dataclasses import asdict, dataclass
from typing import Any, Unpack

import numpy as np

from memxlnet.errors import SettingsError
from memxlnet.evaluate.array_inputs import Floats
from memxlnet.evaluate.bootstrap import Interval, Resampling
from memxlnet.evaluate.cache_argument import CacheLike
from memxlnet.evaluate.document_scores import Answers, DocumentScores, ScoringOptions, score_documents


def metric_intervals(
    predictions: Answers,
    cache: CacheLike,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    **options: Unpack[ScoringOptions],
) -> dict[str, Interval]:
    """Return bootstrap intervals of the figures of `squad_metrics`.

    Args:
        predictions: Answers by id, or the collector of a run.
        cache: A cache, a dataset over one or a view of it, or the directory of a published one.
        resamples: Number of resamples of the documents, with replacement.
        confidence: Share of the resampled figures that an interval holds.
        seed: Seed of the resamples, an integer from 0.
        options: See `ScoringOptions`.

    Returns:
        ``exact`` and ``f1``, in percent; with ``normalization="squad"`` also those with the prefixes ``HasAns_`` and
        ``NoAns_``, whose documents are resampled among themselves. Percentiles.

    Raises:
        SettingsError: An argument is wrong; as `squad_metrics`.
    """
    resampling = Resampling(resamples, confidence, seed)
    scores = score_documents(predictions, cache, **options)
    parts = {"": np.ones(len(scores.ids), np.bool_)}
    if scores.rule.knows_no_answer:
        parts |= {"HasAns_": scores.has_gold, "NoAns_": ~scores.has_gold}
    values = np.column_stack([scores.exact, scores.f1])
    found: dict[str, Interval] = {}
    for prefix, part in parts.items():
        if part.any():
            found[f"{prefix}exact"], found[f"{prefix}f1"] = resampling.intervals(values[part])
    return found


@dataclass(frozen=True)
class RunComparison:
    """Two runs over the same documents.

    Attributes:
        documents: Documents that both have an answer of.
        exact: Exact match of both runs, in percent.
        f1: F1 of both runs, in percent.
        exact_difference: Exact match of the second run minus that of the first, with its interval.
        f1_difference: The same of F1.
        only_first: Documents of which only the first run has an exact match.
        only_second: Those of which only the second has.
        mcnemar_exact: P-value of McNemar's exact test of both, two-sided.
        mcnemar_mid_p: The same with the mid-P correction, which is less conservative.
    """

    documents: int
    exact: tuple[float, float]
    f1: tuple[float, float]
    exact_difference: Interval
    f1_difference: Interval
    only_first: int
    only_second: int
    mcnemar_exact: float
    mcnemar_mid_p: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, as JSON holds them; intervals as dictionaries."""
        differences = {name: getattr(self, name)._asdict() for name in ("exact_difference", "f1_difference")}
        return asdict(self) | {"exact": list(self.exact), "f1": list(self.f1)} | differences


def compare_runs(
    first: Answers,
    second: Answers,
    cache: CacheLike,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    **options: Unpack[ScoringOptions],
) -> RunComparison:
    """Compare two runs document by document: a paired bootstrap of the differences, and McNemar's test.

    Args:
        first: Answers by id, or the collector of a run.
        second: Those of the other run.
        cache: A cache, a dataset over one or a view of it, or the directory of a published one.
        resamples: Number of resamples of the documents, with replacement.
        confidence: Share of the resampled differences that an interval holds.
        seed: Seed of the resamples, an integer from 0.
        options: See `ScoringOptions`; with ``allow_missing`` both runs must have answers of the same documents.

    Raises:
        SettingsError: An argument is wrong; as `squad_metrics`. The runs have answers of different documents.
        CacheMismatchError: A run is a collector over another cache.
    """
    resampling = Resampling(resamples, confidence, seed)
    one, other = score_pair(("first", "second"), (first, second), cache, **options)
    return compare_scores((one.exact, other.exact), (one.f1, other.f1), resampling)


def compare_scores(exact: tuple[Floats, Floats], f1: tuple[Floats, Floats], resampling: Resampling) -> RunComparison:
    """Compare the scores of two runs.

    Args:
        exact: float64[documents] of both runs, exact match, 0 or 1; at least one document.
        f1: float64[documents] of both runs, F1, from 0 to 1.
        resampling: How the differences are resampled.
    """
    exact_difference, f1_difference = resampling.intervals(np.column_stack([exact[1] - exact[0], f1[1] - f1[0]]))
    only_first = int(np.count_nonzero(exact[0] > exact[1]))
    only_second = int(np.count_nonzero(exact[0] < exact[1]))
    p_value, mid_p = mcnemar(only_first, only_second)
    return RunComparison(
        documents=len(exact[0]),
        exact=(_percent(exact[0]), _percent(exact[1])),
        f1=(_percent(f1[0]), _percent(f1[1])),
        exact_difference=exact_difference,
        f1_difference=f1_difference,
        only_first=only_first,
        only_second=only_second,
        mcnemar_exact=p_value,
        mcnemar_mid_p=mid_p,
    )


def score_pair(
    names: tuple[str, str], runs: tuple[Answers, Answers], cache: CacheLike, **options: Unpack[ScoringOptions]
) -> tuple[DocumentScores, DocumentScores]:
    """Score two runs over the same documents.

    Raises:
        SettingsError: An argument is wrong, or the runs have answers of different documents.
    """
    one, other = (score_documents(run, cache, name, **options) for name, run in zip(names, runs, strict=True))
    if one.ids != other.ids:
        differing = sorted(set(one.ids) ^ set(other.ids))
        raise SettingsError(
            f"{names[1]}: expected answers of the same documents as {names[0]}, found {len(differing)} documents that "
            f"only one of them has, such as {differing[0]!r:.120}"
        )
    return one, other


def mcnemar(only_first: int, only_second: int) -> tuple[float, float]:
    """Return the two-sided p-values of McNemar's test on two discordant counts: exact, and with the mid-P correction.

    Fagerland, Lydersen and Laake: The McNemar Test for Binary Matched-Pairs Data: Mid-P and Asymptotic Are Better Than
    Exact Conditional, 2013. Computed in integers and rounded once; 1 where no count is discordant.
    """
    total, least = only_first + only_second, min(only_first, only_second)
    term = tail = 1
    for place in range(least):
        term = term * (total - place) // (place + 1)
        tail += term
    if only_first == only_second:
        return 1.0, 1.0 - (term / 2 ** (total + 1) if total else 0.0)
    return 2 * tail / 2**total, (2 * tail - term) / 2**total


def _percent(values: Floats) -> float:
    return 100.0 * float(values.mean())
