"""Thresholds of the probability of no answer, and the average precision of ranking answers by it.

An answer whose probability of no answer exceeds the threshold counts as no answer.
"""

from collections.abc import Mapping
from numbers import Real
from typing import Any, Literal, NamedTuple, Unpack

import numpy as np
from numpy.typing import NDArray

from memxlnet.errors import SettingsError
from memxlnet.evaluate.array_inputs import Floats
from memxlnet.evaluate.cache_argument import CacheLike
from memxlnet.evaluate.document_scores import Answers, DocumentScores, ScoringOptions, check_others, score_documents
from memxlnet.format.ragged import Ints
from memxlnet.settings import one_of

DEFAULT_THRESHOLD = 1.0
"""Leaves every answer as it is."""

Metric = Literal["f1", "exact"]


class BestThreshold(NamedTuple):
    """The threshold with the best figure on some documents.

    Attributes:
        threshold: For `squad_metrics`, as ``no_answer_threshold``, of these documents and of others.
        metric: The figure, ``"f1"`` or ``"exact"``.
        score: Its value at the threshold, in percent.
    """

    threshold: float
    metric: str
    score: float


class Ranking(NamedTuple):
    """Scored documents by their probability of no answer.

    Attributes:
        probabilities: float64[documents], in the order of the scores.
        order: int64[documents], places by ascending probability; equal ones stay in the order of the mapping.
    """

    probabilities: Floats
    order: Ints

    def of(self, some: NDArray[np.bool_]) -> "Ranking":
        """Return the ranking of some of the documents."""
        place = np.cumsum(some) - 1
        return Ranking(self.probabilities[some], place[self.order[some[self.order]]])

    @property
    def ends(self) -> NDArray[np.bool_]:
        """bool[documents]: at which ranks a threshold can be put, which are the last of those of equal probability."""
        ranked = self.probabilities[self.order]
        return np.append(ranked[1:] != ranked[:-1], True)


def rank(probabilities: object, scores: DocumentScores, allow_other: bool) -> Ranking:
    """Rank the scored documents by their probabilities of no answer.

    Args:
        probabilities: A mapping of probabilities by id.
        scores: The scores.
        allow_other: Skip ids that the cache does not know.

    Raises:
        SettingsError: They are not a mapping, a document has none, one is not a number from 0 to 1, or has an id that
            the cache does not know.
    """
    name = "no_answer_probabilities"
    if not isinstance(probabilities, Mapping):
        raise SettingsError(f"{name}: expected a mapping of numbers by id, found {type(probabilities).__name__}")
    place_of = {example_id: place for place, example_id in enumerate(scores.ids)}
    found = [(place_of[key], value) for key, value in probabilities.items() if key in place_of]
    if len(found) < len(place_of):
        missing = [example_id for example_id in scores.ids if example_id not in probabilities]
        raise SettingsError(
            f"{name}: expected one for each of the {len(place_of)} documents with an answer, found none for "
            f"{len(missing)} of them, the first of them {missing[0]!r:.120}"
        )
    if not allow_other:
        check_others(name, probabilities, scores.cache, set(place_of))
    wrong = [(place, value) for place, value in found if not _is_probability(value)]
    if wrong:
        place, value = wrong[0]
        raise SettingsError(
            f"{name}: expected numbers from 0 to 1, found {len(wrong)} others, the first of them {value!r:.80} for "
            f"{scores.ids[place]!r:.120}; a difference d of scores becomes a probability by 1 / (1 + exp(-d))"
        )
    places = np.array([place for place, _ in found], np.int64)
    values = np.array([value for _, value in found], np.float64)
    by_place = np.empty_like(values)
    by_place[places] = values
    return Ranking(by_place, places[np.argsort(values, kind="stable")])


def _is_probability(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and not value < 0 and bool(value <= 1)


def check_threshold(value: object) -> float:
    """Return a threshold.

    Raises:
        SettingsError: It is not a number from 0 to 1.
    """
    if not _is_probability(value):
        raise SettingsError(f"no_answer_threshold: expected a number from 0 to 1, found {value!r:.80}")
    return float(value)  # type: ignore[arg-type]


def at_threshold(values: Floats, has_gold: NDArray[np.bool_], probabilities: Floats, threshold: float) -> Floats:
    """Return the scores where answers of a probability above the threshold count as no answer."""
    return np.where(probabilities > threshold, (~has_gold).astype(np.float64), values)


def ranked_figures(scores: DocumentScores, some: NDArray[np.bool_], ranking: Ranking) -> dict[str, float]:
    """Return the best thresholds and average precisions as the official script of SQuAD 2.0 computes them.

    Args:
        scores: The scores.
        some: bool[documents], the documents that count.
        ranking: Their ranking.

    Returns:
        ``best_exact``, ``best_exact_thresh``, ``best_f1``, ``best_f1_thresh``; where a document has a gold answer also
        ``pr_exact_ap``, ``pr_f1_ap`` and ``pr_oracle_ap``. All but thresholds are in percent.
    """
    has_gold = scores.has_gold[some]
    answered = np.array([bool(text) for text in scores.answers], np.bool_)[some]
    figures: dict[str, float] = {}
    for name, values in (("exact", scores.exact[some]), ("f1", scores.f1[some])):
        # The script takes every answer of an unanswerable document for wrong, one without a normal form too.
        changes = np.where(has_gold, values, -answered.astype(np.float64))[ranking.order]
        course = np.cumsum(np.append(float(np.count_nonzero(~has_gold)), changes))
        best = int(np.argmax(course))
        figures[f"best_{name}"] = 100.0 * float(course[best]) / len(values)
        figures[f"best_{name}_thresh"] = float(ranking.probabilities[ranking.order[best - 1]]) if best else 0.0
    if has_gold.any():
        oracle = has_gold.astype(np.float64)
        for name, values in (("exact", scores.exact[some]), ("f1", scores.f1[some]), ("oracle", oracle)):
            figures[f"pr_{name}_ap"] = _average_precision(values, has_gold, ranking)
    return figures


def _average_precision(values: Floats, has_gold: NDArray[np.bool_], ranking: Ranking) -> float:
    """Return the area under precision over recall, in percent; sums in the order of the script."""
    right = np.cumsum((values * has_gold)[ranking.order])
    ends = ranking.ends
    precision = (right / np.arange(1, len(right) + 1))[ends]
    recall = np.append(0.0, (right / np.count_nonzero(has_gold))[ends])
    return 100.0 * float(np.cumsum(precision * np.diff(recall))[-1])


def best_threshold(
    predictions: Answers,
    no_answer_probabilities: Mapping[str, float],
    cache: CacheLike,
    *,
    metric: Metric = "f1",
    **options: Unpack[ScoringOptions],
) -> BestThreshold:
    """Find the threshold with the best figure on some documents, to apply it to others with `squad_metrics`.

    The score is reached at the threshold. The search of the official script (``best_f1`` of `squad_metrics`) can name a
    higher one, as it also stops between documents of equal probability, which no threshold separates.

    Args:
        predictions: Answers by id, or the collector of a run.
        no_answer_probabilities: Probability of no answer by id, from 0 to 1.
        cache: A cache, a dataset over one or a view of it, or the directory of a published one.
        metric: The figure that counts.
        options: See `ScoringOptions`.

    Returns:
        The lowest of the best thresholds: 0 or one of the probabilities.

    Raises:
        SettingsError: An argument is wrong; as `squad_metrics`.
    """
    name = one_of("metric", metric, ("f1", "exact"))
    scores = score_documents(predictions, cache, **options)
    check_knows_no_answer(scores)
    ranking = rank(no_answer_probabilities, scores, options.get("allow_other", False))
    gains = ((scores.exact if name == "exact" else scores.f1) - ~scores.has_gold)[ranking.order]
    thresholds = ranking.probabilities[ranking.order][ranking.ends].tolist()
    reached = np.cumsum(gains)[ranking.ends].tolist()
    if thresholds[0] > 0:  # at the threshold 0 no answer stays
        thresholds, reached = [0.0, *thresholds], [0.0, *reached]
    best = int(np.argmax(reached))
    unanswerable = int(np.count_nonzero(~scores.has_gold))
    return BestThreshold(thresholds[best], name, 100.0 * (unanswerable + reached[best]) / len(gains))


def check_knows_no_answer(scores: DocumentScores) -> None:
    """Check that the script knows documents without an answer.

    Raises:
        SettingsError: It does not.
    """
    if not scores.rule.knows_no_answer:
        raise SettingsError(
            f"no_answer_probabilities: expected none with normalization={scores.rule.name!r}, whose script knows no "
            "unanswerable documents; use normalization='squad'"
        )
