"""Which rows the steps of an epoch hold where lanes are refilled: each lane reads a stretch of the epoch's segments."""

import numpy as np

from memxlnet.load.document_windows import DocumentWindows
from memxlnet.load.order import Ints, Order
from memxlnet.load.plan import EpochSize, Ranks, StepRows, cut_block, placed


class RefilledPlan:
    """One stream of steps of constant shape: where a document ends, the lane goes on with its next one.

    Lane i of all ranks reads the i-th of almost equal stretches of the permuted segments, cut at the borders of
    documents. So every row is had in closed form, and only the end of an epoch holds padding, where the lanes with the
    shorter stretches are done.

    Args:
        windows: The segments that are read of each document.
        order: int[documents], the order of documents; None for their own.
        batch_size: Lanes of a rank.
        ranks: Whose lanes.
        drop_last: End the epoch with the shortest stretch: no row is padding, documents that run on stay unfinished.
    """

    def __init__(
        self, windows: DocumentWindows, order: Order | None, batch_size: int, ranks: Ranks, drop_last: bool = False
    ):
        self._windows = windows
        self._order = order
        counts = windows.counts if order is None else windows.counts[order]
        # ends[d]: segments before the d-th document of the order.
        self._ends: Ints = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=self._ends[1:])
        lanes = batch_size * ranks.world_size
        borders = self._borders(lanes, int(counts.max(initial=0)))
        begins, lengths = self._ends[borders[:-1]], np.diff(self._ends[borders])
        mine = slice(ranks.rank * batch_size, (ranks.rank + 1) * batch_size)
        self._begins, self._lengths = begins[mine], lengths[mine]
        steps = int(lengths.min() if drop_last else lengths.max())
        read = np.minimum(lengths, steps)
        begun = np.searchsorted(self._ends, begins + read) - borders[:-1]
        segments = int(read.sum())
        self.size = EpochSize(int(begun.sum()), segments, steps * lanes - segments, steps)

    def _borders(self, lanes: int, longest: int) -> Ints:
        """int64[lanes + 1], the places in the order with which the stretches begin, and its end.

        The longest stretch is as short as stretches of whole documents can be; within that, borders lie as near to
        equal stretches as they can.
        """
        total = int(self._ends[-1])
        # With the upper bound every stretch but the last holds its equal share, so that all documents are reached.
        low, high = max(-(-total // lanes), longest), -(-total // lanes) + longest
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._reaches(middle, lanes) else (middle + 1, high)
        least = self._least(low, lanes)
        ideal = np.arange(lanes + 1) * total // lanes
        above = np.searchsorted(self._ends, ideal)
        nearer = ideal - self._ends[np.maximum(above - 1, 0)] < self._ends[above] - ideal
        nearest = np.where(nearer, above - 1, above).tolist()
        borders = [0]
        for lane in range(1, lanes + 1):
            farthest = self._farthest(borders[-1], low)
            borders.append(max(least[lane], min(nearest[lane], farthest), borders[-1]))
        return np.array(borders)

    def _farthest(self, place: int, length: int) -> int:
        """How far a stretch of at most `length` segments reaches that begins at a place in the order."""
        return int(self._ends.searchsorted(self._ends[place] + length, side="right")) - 1

    def _reaches(self, length: int, lanes: int) -> bool:
        """Whether stretches of at most `length` segments hold all documents."""
        place = 0
        for _ in range(lanes):
            place = self._farthest(place, length)
        return place == len(self._ends) - 1

    def _least(self, length: int, lanes: int) -> list[int]:
        """For each border the first place from which the stretches behind it still reach the end."""
        places = [len(self._ends) - 1]
        for _ in range(lanes):
            places.append(int(self._ends.searchsorted(self._ends[places[-1]] - length)))
        return places[::-1]

    def block(self, step: int, max_rows: int) -> range:
        """The run of steps that holds `step`, of at most `max_rows` rows or one step."""
        return cut_block(step, 0, self.size.steps, max(max_rows // len(self._lengths), 1))

    def step_rows(self, steps: range) -> StepRows:
        """The rows of a run of steps."""
        time = np.arange(steps.start, steps.stop)[:, None]
        there = time < self._lengths
        position = np.where(there, self._begins + time, 0)
        number = np.searchsorted(self._ends, position, side="right") - 1
        documents = number if self._order is None else self._order[number].astype(np.int64)
        flat, back = np.unique(documents, return_inverse=True)
        starts = self._windows.starts(flat)[back].reshape(documents.shape)
        counts = np.where(there, self._windows.counts[documents], 0)
        first = self._windows.documents.first_segment[documents] + starts
        place = np.where(there, position - self._ends[number], 0)
        return placed(np.where(there, documents, -1), first, starts, counts, place)
