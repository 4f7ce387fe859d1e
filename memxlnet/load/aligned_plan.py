"""The plan of aligned lanes: documents side by side, group after group. NumPy only."""

from collections.abc import Iterator

import numpy as np

from memxlnet.format.padding import RowWidths
from memxlnet.load.epoch_plan import EpochSize, Ranks, StepRows, cut_block, placed
from memxlnet.load.seeded_random import Ints, Order
from memxlnet.load.segment_windows import DocumentWindows

_GROUPS_AT_ONCE = 1024

_DOCUMENTS_AT_ONCE = 1 << 16


class AlignedPlan:
    """Groups of documents: lane i is one document at every step of a group, also after another one has ended.

    A group spans all ranks and has as many steps as its longest document. The last group may be smaller; over several
    ranks its lanes are rounded up to equal numbers, so that no rank has none.

    Args:
        windows: The segments that are read of each document.
        order: int[documents], the order of documents; None for their own.
        batch_size: Lanes of a rank.
        ranks: Whose lanes.
        drop_last: Leave out the last group where it is smaller.
        align_end: All documents of a group end with its last step, and shorter ones begin later; else all begin with
            its first step.
    """

    def __init__(
        self,
        windows: DocumentWindows,
        order: Order | None,
        batch_size: int,
        ranks: Ranks,
        drop_last: bool = False,
        align_end: bool = False,
    ):
        self._windows = windows
        self._order = order
        self._batch_size = batch_size
        self._ranks = ranks
        self._align_end = align_end
        self._group = batch_size * ranks.world_size
        total = len(windows.counts)
        full, rest = divmod(total, self._group)
        self._used = full * self._group if drop_last else total
        counts = windows.counts if order is None else windows.counts[order]
        steps = np.maximum.reduceat(counts[: self._used], np.arange(0, self._used, self._group)) if self._used else ()
        self.group_starts: Ints = np.concatenate([[0], np.cumsum(steps, dtype=np.int64)])
        self.num_groups = len(self.group_starts) - 1
        self._full_groups = full
        self._last_lanes = -(-rest // ranks.world_size)
        self._segments = int(counts[: self._used].sum(dtype=np.int64))

    @property
    def num_steps(self) -> int:
        """Steps of the epoch, the same on every rank."""
        return int(self.group_starts[-1])

    def size(self, widths: RowWidths) -> EpochSize:
        """Return the cost of the epoch on all ranks; `widths` gives a step's width from its longest row on a rank."""
        before, steps = self._last_begins(), self.num_steps
        rows = before * self._group + (steps - before) * self._last_lanes * self._ranks.world_size
        last_tokens = self._windows.last_tokens[slice(None) if self._order is None else self._order][: self._used]
        real = (self._segments - self._used) * self._windows.row_tokens + int(last_tokens.sum(dtype=np.int64))
        tokens = self._tokens(widths) if widths.cuts else rows * widths.max_seq_length
        return EpochSize(self._used, self._segments, rows - self._segments, steps, tokens, real)

    def _tokens(self, widths: RowWidths) -> int:
        """Return the tokens of all steps of all ranks."""
        at_once = max(_DOCUMENTS_AT_ONCE // self._group, 1)
        total = 0
        for begin in range(0, self._full_groups, at_once):
            groups = np.arange(begin, min(begin + at_once, self._full_groups))
            total += self._tokens_of(groups, self._batch_size, widths)
        if self.num_groups > self._full_groups:
            total += self._tokens_of(np.array([self._full_groups]), self._last_lanes, widths)
        return total

    def _tokens_of(self, groups: Ints, lanes: int, widths: RowWidths) -> int:
        """Return the tokens of some groups of equal lanes.

        All steps that a rank's longest document reads are of full rows, except the last one.
        """
        places = groups[:, None] * self._group + np.arange(lanes * self._ranks.world_size)
        there = places < self._used
        documents = np.where(there, places, 0)
        documents = documents if self._order is None else self._order[documents]
        shape = (len(groups), self._ranks.world_size, lanes)
        counts = np.where(there, self._windows.counts[documents], 0).astype(np.int64).reshape(shape)
        last_tokens = np.where(there, self._windows.last_tokens[documents], 0).reshape(shape)
        own_steps = counts.max(axis=2)
        at_last = True if self._align_end else counts == own_steps[:, :, None]
        longest = np.where(at_last, last_tokens, 0).max(axis=2).astype(np.int64)
        reads = (own_steps - 1) * widths.max_seq_length + widths.width(longest)
        idle = np.diff(self.group_starts)[groups][:, None] - own_steps
        return lanes * int((np.where(own_steps > 0, reads, 0) + idle * widths.width(0)).sum())

    def _last_begins(self) -> int:
        """Return the step with which the smaller last group begins, or would."""
        return int(self.group_starts[min(self._full_groups, self.num_groups)])

    def group_of(self, step: int) -> int:
        """Return the group of a step."""
        return int(np.searchsorted(self.group_starts, step, side="right")) - 1

    def groups(self, first: int) -> Iterator[tuple[int, range]]:
        """Yield each group from one on, and its steps."""
        for begin in range(first, self.num_groups, _GROUPS_AT_ONCE):
            starts = self.group_starts[begin : begin + _GROUPS_AT_ONCE + 1].tolist()
            yield from enumerate(map(range, starts, starts[1:]), begin)

    def documents_of(self, group: int) -> Ints:
        """Return int64[lanes], the documents of the cache in this rank's lanes, -1 where a lane has none."""
        return self._windows.documents.of_cache(self._documents(np.array([group]))[0, : self._lanes(group)])

    def _lanes(self, group: int) -> int:
        return self._batch_size if group < self._full_groups else self._last_lanes

    def block(self, step: int, max_rows: int) -> range:
        """Return the run of steps with equal lanes that holds `step`, of at most `max_rows` rows or one step."""
        border = self._last_begins()
        begin, end = (0, border) if step < border else (border, int(self.group_starts[-1]))
        return cut_block(step, begin, end, max(max_rows // max(self._lanes(self.group_of(step)), 1), 1))

    def _documents(self, groups: Ints) -> Ints:
        """Return int64[groups, lanes], the documents of this rank's lanes, -1 where a lane has none."""
        lanes = np.where(groups < self._full_groups, self._batch_size, self._last_lanes)[:, None]
        lane = np.arange(int(lanes.max()))
        places = groups[:, None] * self._group + self._ranks.rank * lanes + lane
        there = (places < self._used) & (lane < lanes)
        places = np.where(there, places, 0)
        documents = places if self._order is None else self._order[places].astype(np.int64)
        return np.where(there, documents, -1)

    def step_rows(self, steps: range) -> StepRows:
        """Return the rows of a run of steps with equal lanes."""
        numbers = np.arange(steps.start, steps.stop)
        group = np.searchsorted(self.group_starts, numbers, side="right") - 1
        groups = np.arange(group[0], group[-1] + 1)
        lanes = self._lanes(int(groups[-1]))
        documents = self._documents(groups)[:, :lanes]
        flat = np.maximum(documents, 0).reshape(-1)
        starts = self._windows.starts(flat).reshape(documents.shape)
        counts = np.where(documents >= 0, self._windows.counts[flat].reshape(documents.shape), 0)
        first = self._windows.documents.first_segment[flat].reshape(documents.shape) + starts
        place = (numbers - self.group_starts[group])[:, None]
        which = group - groups[0]
        if self._align_end:
            place = place - ((self.group_starts[group + 1] - self.group_starts[group])[:, None] - counts[which])
        documents = self._windows.documents.of_cache(documents)
        return placed(documents[which], first[which], starts[which], counts[which], place)
