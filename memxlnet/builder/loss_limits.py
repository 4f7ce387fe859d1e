"""Limits on what a build may lose: examples that are dropped, and answers that no segment can teach."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from arrow_schemas import DROPPED
from memxlnet.builder.chunks_to_shards import Chunks
from memxlnet.encode.examples import BadExample
from memxlnet.errors import LossLimitError
from memxlnet.format.manifest import Manifest
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.encoding_rules import read_dropped
from memxlnet.settings import BuildSettings

_SHOWN = 5
"""Losses of a kind that a message names at most."""

_WITH_SPAN = ("exact", "repaired", "dropped")
"""Documents whose answer is a text of their context, or should be one."""

_DETAILS = ("id", "alignment", "alignment_detail")


@dataclass
class _Losses:
    """What was lost, of how many, and the first of it as text."""

    lost: int = 0
    total: int = 0
    first: list[str] = field(default_factory=list)

    def exceeds(self, limit: int | float | None) -> bool:
        return limit is not None and self.lost > (limit * self.total if isinstance(limit, float) else limit)

    def shown(self, what: str, setting: str, limit: int | float) -> str:
        most = f"{limit:.6g}" if isinstance(limit, int) else f"{100 * limit:.6g}%"
        first = f": {'; '.join(self.first)}" if self.first else ""
        more = f" and {self.lost - len(self.first)} more" if first and self.lost > len(self.first) else ""
        return (
            f"{setting}: expected at most {most} {what}, found {self.lost} of {self.total} "
            f"({self.lost / self.total:.2%}){first}{more}"
        )


@dataclass(frozen=True)
class LossLimits:
    """What a build may lose.

    Attributes:
        max_dropped: Examples that gave no document, as a count (int) or a share of all examples (float); None allows
            all.
        max_lost_answers: Answers that do not occur in their context, or that no segment holds whole, as a count or a
            share of the documents whose answer is or should be a text of their context; None allows all.
    """

    max_dropped: int | float | None
    max_lost_answers: int | float | None

    @classmethod
    def of(cls, build: BuildSettings) -> "LossLimits":
        """Return the limits of a build."""
        return cls(build.max_dropped, build.max_lost_answers)

    @property
    def are_set(self) -> bool:
        """Whether anything is limited."""
        return self.max_dropped is not None or self.max_lost_answers is not None

    def check_chunks(self, name: str, chunks: Chunks, is_all: bool) -> None:
        """Check what is about to be published, or what is done so far. Reads a few columns of the chunks.

        Args:
            name: What is built.
            chunks: Its chunks.
            is_all: Whether they are all.

        Raises:
            LossLimitError: More was lost than is allowed.
        """
        dropped, answers = _Losses(total=chunks.rows["documents"] + chunks.rows[DROPPED]), _Losses()
        for chunk in chunks.read((DROPPED, "documents")):
            _count_dropped(dropped, chunk[DROPPED])
            _count_answers(answers, chunk["documents"])
        stopped = "" if is_all else "the build stopped early, as the rest cannot change that; "
        hint = f"{stopped}nothing was published; finished chunks are kept: build again with another limit"
        self._check(name, dropped, answers, hint)

    def check_cache(self, place: Path | str, manifest: Manifest) -> None:
        """Check a cache that was published before, perhaps under other limits.

        Args:
            place: Its directory; or its URL, where it is not on this machine: its losses are counted, not shown.
            manifest: Its manifest.

        Raises:
            LossLimitError: More was lost than is allowed; the cache stays.
        """
        alignment, documents = manifest.alignment, manifest.tables["documents"].rows
        dropped = _Losses(manifest.dropped_examples, documents + manifest.dropped_examples)
        lost = alignment["dropped"] + manifest.documents_without_answer_segment
        answers = _Losses(lost, sum(alignment[outcome] for outcome in _WITH_SPAN))
        if isinstance(place, Path) and dropped.exceeds(self.max_dropped):
            first = islice(read_dropped(PublishedCache(place)), _SHOWN)
            dropped.first = [_dropped_text(bad) for bad in first]
        if isinstance(place, Path) and answers.exceeds(self.max_lost_answers):
            answers.first = list(_first_answers(PublishedCache(place)))
        self._check(str(place), dropped, answers, "the cache exists and stays: choose another limit")

    def _check(self, name: str, dropped: _Losses, answers: _Losses, hint: str) -> None:
        wrong = []
        if self.max_dropped is not None and dropped.exceeds(self.max_dropped):
            wrong.append(dropped.shown("dropped examples", "max_dropped", self.max_dropped))
        if self.max_lost_answers is not None and answers.exceeds(self.max_lost_answers):
            wrong.append(answers.shown("lost answers", "max_lost_answers", self.max_lost_answers))
        if wrong:
            raise LossLimitError(f"{name}: {', and '.join(wrong)}; {hint}, or repair the source")


class LossesSoFar:
    """What the finished chunks of a build have lost: it need not continue where nothing can make that little enough.

    Args:
        limits: What it may lose.
    """

    def __init__(self, limits: LossLimits):
        self._limits = limits
        self._answers = _Losses()

    def add_answers(self, chunks: Chunks) -> None:
        """Count the answers of further chunks. Reads a few columns of them."""
        for chunk in chunks.read(("documents",)):
            _count_answers(self._answers, chunk["documents"])

    def are_too_many(self, read: int, dropped: int, most_examples: int | None) -> bool:
        """Return whether a limit is exceeded however the build continues.

        Args:
            read: Examples of the finished chunks, whose answers were all added.
            dropped: Those of them that were dropped.
            most_examples: Examples that there are at most; None where that is not known.
        """
        answers = self._answers
        most_answers = None if most_examples is None else answers.total + most_examples - read
        return _is_certain(self._limits.max_dropped, dropped, most_examples) or _is_certain(
            self._limits.max_lost_answers, answers.lost, most_answers
        )


def _is_certain(limit: int | float | None, lost: int, most: int | None) -> bool:
    if isinstance(limit, float):
        return most is not None and lost > limit * most
    return limit is not None and lost > limit


def _count_dropped(losses: _Losses, dropped: pa.RecordBatch) -> None:
    losses.lost += dropped.num_rows
    losses.first += [
        _dropped_text(BadExample(**row)) for row in dropped.slice(0, _SHOWN - len(losses.first)).to_pylist()
    ]


def _dropped_text(bad: BadExample) -> str:
    return f"example {bad.id!r} (row {bad.row}): {bad.reason}"


def _count_answers(losses: _Losses, documents: pa.RecordBatch) -> None:
    losses.total += pc.sum(pc.is_in(documents["alignment"], pa.array(_WITH_SPAN, pa.large_string()))).as_py() or 0
    lost = _lost_answers(documents)
    losses.lost += lost.num_rows
    losses.first += _answer_texts(lost.slice(0, _SHOWN - len(losses.first)))


def _lost_answers(documents: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows of the documents whose answer is lost."""
    in_no_segment = pc.and_(
        pc.greater_equal(documents["chosen_answer"], 0), pc.equal(documents["num_answer_segments"], 0)
    )
    return documents.select(_DETAILS).filter(pc.or_(pc.equal(documents["alignment"], "dropped"), in_no_segment))


def _answer_texts(lost: pa.RecordBatch) -> list[str]:
    return [
        f"example {row['id']!r}: {row['alignment_detail'] if row['alignment'] == 'dropped' else 'in no segment whole'}"
        for row in lost.to_pylist()
    ]


def _first_answers(cache: PublishedCache) -> Iterator[str]:
    found = 0
    for batch in cache.documents.batches():
        texts = _answer_texts(_lost_answers(batch).slice(0, _SHOWN - found))
        found += len(texts)
        yield from texts
        if found == _SHOWN:
            return
