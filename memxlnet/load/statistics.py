"""What recurrence finds in a cache: segments of documents, where answers lie, what padding costs. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memxlnet.format.answer_steps import first_answer_steps
from memxlnet.format.padding import RowWidths
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import bounds_of
from memxlnet.load.aligned_plan import AlignedPlan
from memxlnet.load.document_ids import DocumentMap
from memxlnet.load.epoch_plan import EpochSize, Ranks
from memxlnet.load.length_grouping import Deal, Lengths, dealt, grouped
from memxlnet.load.refilled_plan import RefilledPlan
from memxlnet.load.row_lengths import batches_size, row_lengths
from memxlnet.load.seeded_random import Ints, Order, shuffled
from memxlnet.load.segment_windows import DocumentWindows, rows_of

GROUP_SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Sizes of groups and batches for which shares are computed."""

MULTIPLE = 8
"""What widths are rounded up to for them."""

_ROWS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class PaddingShares:
    """Rows of a shuffled epoch that hold padding and no segment, from 0 to 1.

    Attributes:
        aligned: Groups of documents side by side.
        grouped: Groups of documents of similar length.
        refilled: Lanes that continue with another document.
    """

    aligned: float
    grouped: float
    refilled: float


@dataclass(frozen=True)
class UsefulShares:
    """Real tokens among those that a model computes on in a shuffled epoch, from 0 to 1.

    With ``padding="longest"`` and ``pad_to_multiple_of=8``; grouped is ``group_by_length=True``.

    Attributes:
        aligned: Groups of documents side by side.
        aligned_grouped: Groups of documents of similar length.
        refilled: Lanes that continue with another document.
        refilled_grouped: Lanes that do so and read documents of similar length side by side.
        regular: Batches of single segments.
        regular_grouped: Batches of segments of similar length.
    """

    aligned: float
    aligned_grouped: float
    refilled: float
    refilled_grouped: float
    regular: float
    regular_grouped: float

    def best(self, recurrent: bool) -> str:
        """Return the way with the largest share, among those that feed documents segment by segment or all others."""
        names = [name for name in vars(self) if name.startswith("regular") != recurrent]
        return max(names, key=lambda name: float(getattr(self, name)))


@dataclass(frozen=True)
class CacheStatistics:
    """What a cache holds.

    Attributes:
        documents: Number of documents.
        segments: Number of segments, rows of an epoch.
        max_seq_length: Tokens in a row.
        segments_per_document: Documents by their number of segments, ascending.
        answer_time_steps: Documents by the time step (from 0) of their first segment that holds the whole answer.
        without_answer_segment: Documents with an answer that no segment holds whole.
        padding: Shares of padding by the size of a group.
        useful: Shares of real tokens by the size of a group or batch.
        tokens: Tokens of an epoch that are not padding, special and memory tokens included.
        context_tokens: Those of contexts, overlaps counted as often as they are read.
        values: Documents by their value of a kept column, the most frequent first, where one was named; None for null.
    """

    documents: int
    segments: int
    max_seq_length: int
    segments_per_document: dict[int, int]
    answer_time_steps: dict[int, int]
    without_answer_segment: int
    padding: dict[int, PaddingShares]
    useful: dict[int, UsefulShares]
    tokens: int
    context_tokens: int
    values: dict[Any, int] = field(default_factory=dict)

    @property
    def row_tokens(self) -> int:
        """Tokens of an epoch, the padding within rows included."""
        return self.segments * self.max_seq_length

    @property
    def recurrent_share(self) -> float:
        """Share of the documents that have more than one segment, from 0 to 1."""
        return (self.documents - self.segments_per_document.get(1, 0)) / self.documents

    def answers_past(self, step: int) -> float:
        """Return the share of answers that no segment up to a time step holds whole, from 0 to 1; 0 without answers."""
        later = sum(count for place, count in self.answer_time_steps.items() if place > step)
        return later / max(sum(self.answer_time_steps.values()), 1)


def read_statistics(
    cache: PublishedCache,
    group_sizes: Sequence[int] = GROUP_SIZES,
    chosen: Ints | None = None,
    by: str | None = None,
) -> CacheStatistics:
    """Read the statistics of a cache, in blocks: RAM is some 30 bytes a document.

    Args:
        cache: The cache.
        group_sizes: Sizes of groups and batches for which shares are computed.
        chosen: int64[documents], the documents of a view; None for all.
        by: A kept column whose values are counted; None for none.

    Raises:
        SettingsError: There is no such column, or it holds lists or structs.
        CacheDamagedError: A record batch is damaged.
    """
    values = {} if by is None else _value_counts(cache, by, chosen)
    document_map, manifest = DocumentMap(cache, chosen), cache.manifest
    documents = document_map.documents
    # How often each document of the cache counts.
    times = None if chosen is None else np.bincount(chosen, minlength=cache.num_documents)
    lengths = row_lengths(cache, None if chosen is None else rows_of(documents))
    widths = RowWidths(manifest.layout, manifest.max_seq_length, "longest", min(MULTIPLE, manifest.max_seq_length))
    sizes = _epoch_sizes(document_map, lengths, widths, group_sizes)
    return CacheStatistics(
        documents=len(documents.num_segments),
        segments=len(lengths),
        max_seq_length=manifest.max_seq_length,
        segments_per_document=_counted(documents.num_segments),
        answer_time_steps=_answer_time_steps(cache, times),
        without_answer_segment=_without_answer_segment(cache, times),
        padding={size: _padding(found) for size, found in sizes.items()},
        useful={
            size: UsefulShares(**{way: each.useful_share for way, each in found.items()})
            for size, found in sizes.items()
        },
        tokens=int(lengths.sum(dtype=np.int64)),
        context_tokens=_context_tokens(cache, times),
        values=values,
    )


def _value_counts(cache: PublishedCache, by: str, chosen: Ints | None) -> dict[Any, int]:
    """Count the documents by their value of a kept column; values of equal counts come in order of first use."""
    groups, values = cache.kept_column("by", by).groups(by)
    counts = np.bincount(groups if chosen is None else groups[chosen], minlength=len(values))
    order = np.argsort(-counts, kind="stable")
    return {values[at]: int(counts[at]) for at in order.tolist() if counts[at]}


def _counted(values: NDArray[np.integer]) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _context_tokens(cache: PublishedCache, times: Ints | None) -> int:
    found = 0
    for shard in cache.features:
        counts = shard.columns["context_token_count"]
        for begin in range(0, len(counts), _ROWS_AT_ONCE):
            part = slice(begin, begin + _ROWS_AT_ONCE)
            own = counts[part].astype(np.int64)
            found += int(own.sum() if times is None else own @ times[shard.take("document", part)])
    return found


def _without_answer_segment(cache: PublishedCache, times: Ints | None) -> int:
    if times is None:
        return cache.manifest.documents_without_answer_segment
    column = cache.documents.column
    return int(times[(column("chosen_answer") >= 0) & (column("num_answer_segments") == 0)].sum())


def _answer_time_steps(cache: PublishedCache, times: Ints | None) -> dict[int, int]:
    """Count the documents by the time step of the first segment that holds the whole answer."""
    found: dict[int, int] = {}
    for documents, steps in first_answer_steps(cache):
        for step, count in _counted(steps if times is None else np.repeat(steps, times[documents])).items():
            found[step] = found.get(step, 0) + count
    return dict(sorted(found.items()))


def _epoch_sizes(
    document_map: DocumentMap, lengths: NDArray[np.int32], widths: RowWidths, sizes: Sequence[int]
) -> dict[int, dict[str, EpochSize]]:
    """Return what a shuffled epoch costs, by the size of a group and the names of `UsefulShares`."""
    documents, row_tokens = document_map.documents, widths.max_seq_length
    windows = DocumentWindows(
        documents,
        None,
        "first",
        0,
        0,
        lambda rows: np.zeros(len(rows), np.int8),
        lambda: document_map.last_tokens,
        row_tokens,
    )
    alone, first = Ranks(0, 1), bounds_of(documents.num_segments)[:-1]
    order, rows = shuffled(len(windows.counts), 0, 0), shuffled(len(lengths), 0, 0)
    by_document, by_row = Lengths(windows.counts, windows.last_tokens, row_tokens), Lengths.of_rows(lengths)

    def aligned(order: Order, size: int) -> EpochSize:
        return AlignedPlan(windows, order, size, alone).size(widths)

    def refilled(order: Order | Deal, size: int) -> EpochSize:
        return RefilledPlan(windows, order, size, alone).size(widths)

    def regular(order: Order, size: int) -> EpochSize:
        return batches_size(lengths, order, size, -(-len(lengths) // size), widths, first)

    return {
        size: {
            "aligned": aligned(order, size),
            "aligned_grouped": aligned(grouped(by_document, size, 0, 0, shuffle=True), size),
            "refilled": refilled(order, size),
            "refilled_grouped": refilled(dealt(by_document, size, 0, 0, shuffle=True), size),
            "regular": regular(rows, size),
            "regular_grouped": regular(grouped(by_row, size, 0, 0, shuffle=True), size),
        }
        for size in sizes
    }


def _padding(sizes: dict[str, EpochSize]) -> PaddingShares:
    return PaddingShares(
        aligned=sizes["aligned"].padding_share,
        grouped=sizes["aligned_grouped"].padding_share,
        refilled=sizes["refilled"].padding_share,
    )
