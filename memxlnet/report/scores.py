"""What became of every document: the outcome of its label, its score in each run, the time step of its answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arrow_schemas import ALIGNMENTS
from memxlnet.encode.answer_alignment import UNLABELLED
from memxlnet.errors import SettingsError
from memxlnet.evaluate.bootstrap import Interval, Resampling
from memxlnet.evaluate.comparing_texts import find_rule
from memxlnet.evaluate.document_scores import compare_answers, find_others
from memxlnet.format.answer_steps import answer_steps
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints

UNREACHABLE = "unreachable"
LABELS = (*ALIGNMENTS, UNREACHABLE)
"""Outcomes of labels: those of the alignment, and the answers that no segment holds whole."""

CORRECT, PARTLY, WRONG, MISSED, FALSE, NO_ANSWER = (
    "correct",
    "partly correct",
    "wrong",
    "missed",
    "false answer",
    "correct: no answer",
)
VERDICTS = (WRONG, MISSED, FALSE, PARTLY, CORRECT, NO_ANSWER, UNLABELLED)
"""Outcomes of a prediction, errors first."""

_SHOWN_IDS = 5
_FIRST_RANGE = 4


@dataclass(frozen=True)
class Labelled:
    """What is known of the documents of a cache without a model; arrays have one entry for each document.

    Attributes:
        label: int64, the index in `LABELS`.
        step: int64, the time step of the first segment that holds the whole answer, -1 for none.
        segments: int64, the number of segments.
        answered: bool, whether there is a gold answer.
        shown: bool, whether it counts: not those of a list of parts whose id a later part has.
    """

    label: Ints
    step: Ints
    segments: Ints
    answered: NDArray[np.bool_]
    shown: NDArray[np.bool_]


@dataclass(frozen=True)
class Run:
    """The predictions of one model, scored; arrays have one entry for each document.

    Attributes:
        name: Its name in the page.
        texts: The predictions by id.
        exact: float64, 0 or 1; NaN for an unlabelled document.
        f1: float64 from 0 to 1; NaN for an unlabelled document.
        answered: bool, whether an answer is predicted of a labelled document.
        verdict: int64, the index in `VERDICTS`.
    """

    name: str
    texts: Mapping[str, str]
    exact: NDArray[np.float64]
    f1: NDArray[np.float64]
    answered: NDArray[np.bool_]
    verdict: Ints

    def figures(self, chosen: NDArray[np.bool_]) -> dict[str, float]:
        """Return exact match and F1 in percent and the number of labelled documents among those chosen."""
        known = chosen & ~np.isnan(self.f1)
        total = int(known.sum())
        exact, overlap = (100 * float(values[known].sum()) / max(total, 1) for values in (self.exact, self.f1))
        return {"exact": exact, "f1": overlap, "total": total}

    def intervals(self, chosen: NDArray[np.bool_]) -> dict[str, Interval]:
        """Return the bootstrap intervals of both as `metric_intervals` has them; none without a labelled document."""
        known = chosen & ~np.isnan(self.f1)
        if not known.any():
            return {}
        exact, f1 = Resampling().intervals(np.column_stack([self.exact[known], self.f1[known]]))
        return {"exact_interval": exact, "f1_interval": f1}


def read_labels(cache: PublishedCache, held: NDArray[np.bool_] | None = None) -> Labelled:
    """Read what is known of every document; RAM is some 30 bytes a document.

    Args:
        cache: The cache.
        held: bool[documents], those that count; None for all.

    Raises:
        CacheDamagedError: A record batch is damaged.
    """
    label: Ints = np.empty(cache.num_documents, np.int64)
    answered = np.empty(cache.num_documents, np.bool_)
    first = 0
    for batch in cache.documents.batches():
        part = slice(first, first + batch.num_rows)
        found = pc.index_in(batch["alignment"], pa.array(LABELS, batch["alignment"].type))
        label[part] = found.to_numpy()
        answered[part] = pc.greater(pc.list_value_length(batch["answer_texts"]), 0).to_numpy(zero_copy_only=False)
        first += batch.num_rows
    chosen, holders, segments = cache.documents.columns("chosen_answer", "num_answer_segments", "num_segments")
    label[(chosen >= 0) & (holders == 0)] = LABELS.index(UNREACHABLE)
    shown = np.ones(cache.num_documents, np.bool_) if held is None else held
    return Labelled(label, answer_steps(cache).astype(np.int64), segments.astype(np.int64), answered, shown)


def score(
    cache: PublishedCache, argument: str, name: str, texts: Mapping[str, str], held: NDArray[np.bool_] | None = None
) -> Run:
    """Score the predictions of a run as the official SQuAD 2.0 script does.

    Args:
        cache: The cache.
        argument: Name of the argument, for messages.
        name: Name of the run.
        texts: The predictions by id, empty for no answer; unlabelled documents need none.
        held: bool[documents], those that are scored; None for all.

    Raises:
        SettingsError: Predictions are missing, or are for other ids.
        CacheDamagedError: A record batch is damaged.
    """
    scores, missing = compare_answers(argument, texts, cache, held, find_rule())
    if others := find_others(texts, cache, {*scores.ids, *missing}):
        raise SettingsError(
            f"{argument}: expected predictions for the documents of {cache.directory}, found {len(others):,} of "
            f"{len(texts):,} for other ids: {listed(others)}; use the predictions and the cache of one source"
        )
    if missing:
        raise SettingsError(
            f"{argument}: expected one for each labelled document of {cache.directory}, found none for "
            f"{len(missing):,} of them: {listed(missing)}; give an empty text for no answer"
        )
    count, documents = cache.num_documents, scores.documents
    exact, overlap = np.full(count, np.nan), np.full(count, np.nan)
    answered = np.zeros(count, np.bool_)
    verdict: Ints = np.full(count, VERDICTS.index(UNLABELLED))
    exact[documents], overlap[documents] = scores.exact, scores.f1
    answered[documents] = [bool(text) for text in scores.answers]
    found = zip(scores.has_gold, answered[documents], scores.exact, scores.f1, strict=True)
    verdict[documents] = [VERDICTS.index(_verdict(*map(bool, one))) for one in found]
    return Run(name, texts, exact, overlap, answered, verdict)


def _verdict(gold: bool, predicted: bool, is_exact: bool, overlaps: bool) -> str:
    if is_exact:
        return CORRECT if gold else NO_ANSWER
    if overlaps:
        return PARTLY
    if not gold:
        return FALSE
    return WRONG if predicted else MISSED


def listed(ids: Iterable[str]) -> str:
    """Return the first of some ids as a message shows them."""
    shown = list(ids)
    return ", ".join(f"{one!r:.120}" for one in shown[:_SHOWN_IDS]) + (", ..." if len(shown) > _SHOWN_IDS else "")


def step_groups(labelled: Labelled) -> dict[str, NDArray[np.bool_]]:
    """Return bool[documents], those of each time step of the answer, by label: 0, 1, 2, 3, 4-7, 8-15, ...

    Documents with a gold answer that no segment holds whole follow, then those without one.
    """
    found: dict[str, NDArray[np.bool_]] = {}
    start, last = 0, int(labelled.step[labelled.shown].max(initial=-1))
    while start <= last:
        stop = start + 1 if start < _FIRST_RANGE else 2 * start
        label = str(start) if stop == start + 1 else f"{start}-{stop - 1}"
        found[label] = (labelled.step >= start) & (labelled.step < stop)
        start = stop
    nowhere = labelled.step < 0
    found["no segment"] = nowhere & labelled.answered
    known = labelled.label != LABELS.index(UNLABELLED)
    found["no answer"] = nowhere & ~labelled.answered & known
    counted = {name: chosen & labelled.shown for name, chosen in found.items()}
    return {name: chosen for name, chosen in counted.items() if chosen.any()}
