"""Whether memory reads: two runs compared by where the answer stands in its document."""

from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pyarrow as pa

from memxlnet.evaluate.bootstrap import Interval, Resampling
from memxlnet.evaluate.cache_argument import CacheLike
from memxlnet.evaluate.data_table import DataTable
from memxlnet.evaluate.document_scores import Answers, ScoringOptions
from memxlnet.evaluate.run_comparison import score_pair
from memxlnet.format.answer_steps import answer_steps
from memxlnet.format.ragged import Ints


@dataclass(frozen=True)
class MemoryFigures:
    """The figures of some documents, in percent.

    An interval of few documents is too narrow; that of one has no width. Look at the counts.

    Attributes:
        first: Smallest value of what they are grouped by; None where there is no value.
        last: Largest value.
        documents: How many documents.
        exact_with: Exact match of the run with memory.
        exact_without: Exact match of the run without it.
        exact_difference: The first minus the second, with its bootstrap interval.
        f1_with: F1 of the run with memory.
        f1_without: F1 of the run without it.
        f1_difference: The first minus the second, with its bootstrap interval.
    """

    first: int | None
    last: int | None
    documents: int
    exact_with: float
    exact_without: float
    exact_difference: Interval
    f1_with: float
    f1_without: float
    f1_difference: Interval

    def to_dict(self) -> dict[str, Any]:
        """Return the figures by name, as JSON holds them; intervals as dictionaries."""
        return {name: found._asdict() if isinstance(found, Interval) else found for name, found in vars(self).items()}


_COLUMNS = {
    **dict.fromkeys(("first", "last"), pa.int32()),
    "documents": pa.int64(),
    **dict.fromkeys(("exact_with", "exact_without", "exact_difference", "exact_low", "exact_high"), pa.float64()),
    **dict.fromkeys(("f1_with", "f1_without", "f1_difference", "f1_low", "f1_high"), pa.float64()),
}
"""The figures of a group as columns of a table."""

MOST_VALUES = 16
"""Values that are shown one by one."""


@dataclass(frozen=True, repr=False)
class MemoryReport:
    """A run with memory compared with one without it.

    Groups are keyed by their smallest possible value. They hold one value each, up to `MOST_VALUES` of them; where
    there are more, their widths double: 0, 1, 2 to 3, 4 to 7, and so on.

    Attributes:
        overall: All documents.
        by_step: By the time step of the answer: that of the first segment that holds it whole, from 0. At step 0 no
            memory is needed; a gain at later steps is what memory carries.
        by_segments: By the number of segments.
        by_distance: By the number of segments after that of the answer, which memory has to carry it through.
        without_step: The documents that `by_step` and `by_distance` leave out: unanswerable ones, and those whose
            answer no segment holds whole; None where all documents have a step.
        confidence: Share of the resampled differences that an interval holds.
    """

    overall: MemoryFigures
    by_step: dict[int, MemoryFigures]
    by_segments: dict[int, MemoryFigures]
    by_distance: dict[int, MemoryFigures]
    without_step: MemoryFigures | None
    confidence: float

    def _rows(self) -> list[tuple[str, MemoryFigures]]:
        rows = [("all", self.overall)]
        for name in ("by_step", "by_segments", "by_distance"):
            part = name.removeprefix("by_")
            rows += [(part, found) for found in getattr(self, name).values()]
            if part == "step" and self.without_step is not None:
                rows.append((part, self.without_step))
        return rows

    def table(self) -> DataTable:
        """Return a row for each group of documents.

        Returns:
            ``part`` (``"all"``, ``"step"``, ``"segments"`` or ``"distance"``), ``first`` and ``last`` (the smallest and
            largest value, null for all documents and for those without a step) and the figures, each end of an
            interval in a column.
        """
        rows = self._rows()
        columns: dict[str, Any] = {"part": pa.array([part for part, _ in rows], pa.string())}
        values = [_flat(found) for _, found in rows]
        for place, (name, kind) in enumerate(_COLUMNS.items()):
            columns[name] = pa.array([found[place] for found in values], kind)
        return DataTable(pa.table(columns))

    def to_dict(self) -> dict[str, Any]:
        """Return everything by name; the values of groups are keys."""
        found: dict[str, Any] = {"confidence": self.confidence, "overall": self.overall.to_dict()}
        for name in ("by_step", "by_segments", "by_distance"):
            found[name] = {value: figures.to_dict() for value, figures in getattr(self, name).items()}
        return found | {"without_step": self.without_step.to_dict() if self.without_step else None}

    def __repr__(self) -> str:
        """Return F1 as a text table."""
        lines = [
            f"{type(self).__name__}: F1 with memory, without, and the difference with its "
            f"{100 * self.confidence:g} % interval",
            f"{'part':>8} {'value':>9} {'documents':>10} {'with':>7} {'without':>8} {'difference':>11}",
        ]
        for part, figures in self._rows():
            difference = figures.f1_difference
            shown = "-" if figures.first is None else str(figures.first)
            if figures.last != figures.first:
                shown += f"-{figures.last}"
            lines.append(
                f"{part:>8} {shown:>9} {figures.documents:>10} {figures.f1_with:>7.2f} {figures.f1_without:>8.2f} "
                f"{difference.value:>+11.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"
            )
        return "\n".join(lines)


def _flat(figures: MemoryFigures) -> list[float | None]:
    found: list[float | None] = []
    for value in vars(figures).values():
        found += value if isinstance(value, Interval) else [value]
    return found


def memory_report(
    run_with: Answers,
    run_without: Answers,
    cache: CacheLike,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    **options: Unpack[ScoringOptions],
) -> MemoryReport:
    """Compare a run with memory with one without it, by where the answer stands in its document.

    Args:
        run_with: Answers by id of the model with its memory, or the collector of the run.
        run_without: Those of the same model whose memory is reset before each segment, or of another one.
        cache: A cache, a dataset over one or a view of it, or the directory of a published one: that of the steps.
        resamples: Number of resamples of the documents of a group, with replacement.
        confidence: Share of the resampled differences that an interval holds.
        seed: Seed of the resamples, an integer from 0.
        options: See `ScoringOptions`; with ``allow_missing`` both runs must have answers of the same documents.

    Raises:
        SettingsError: An argument is wrong; as `squad_metrics`. The runs have answers of different documents.
        CacheMismatchError: A run is a collector over another cache.
    """
    resampling = Resampling(resamples, confidence, seed)
    first, second = score_pair(("run_with", "run_without"), (run_with, run_without), cache, **options)
    opened, documents = first.cache, first.documents
    pairs = np.column_stack([first.exact, second.exact, first.f1, second.f1])

    def figures(some: Ints, values: Ints | None = None) -> MemoryFigures:
        """Return the figures of some documents, whose values are these."""
        first, last = (None, None) if values is None else (int(values[some].min()), int(values[some].max()))
        found = pairs[some]
        exact, f1 = resampling.intervals(found[:, [0, 2]] - found[:, [1, 3]])
        means = (100.0 * found.mean(axis=0)).tolist()
        return MemoryFigures(first, last, len(some), means[0], means[1], exact, means[2], means[3], f1)

    def grouped(values: Ints) -> dict[int, MemoryFigures]:
        keys = _keys(values)
        return {key: figures(np.flatnonzero(keys == key), values) for key in np.unique(keys).tolist() if key >= 0}

    steps = answer_steps(opened)[documents].astype(np.int64)
    segments = opened.documents.column("num_segments")[documents].astype(np.int64)
    without = np.flatnonzero(steps < 0)
    return MemoryReport(
        overall=figures(np.arange(len(documents))),
        by_step=grouped(steps),
        by_segments=grouped(segments),
        by_distance=grouped(np.where(steps < 0, -1, segments - 1 - steps)),
        without_step=figures(without) if len(without) else None,
        confidence=confidence,
    )


def _keys(values: Ints) -> Ints:
    """Return the key of the group of each value, from 0; -1 for a document that belongs to no group."""
    if len(np.unique(values[values >= 0])) <= MOST_VALUES:
        return values
    _, exponents = np.frexp(values.astype(np.float64))
    return np.where(values > 0, 1 << np.maximum(exponents - 1, 0), values)
