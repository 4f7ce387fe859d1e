"""Which rows the steps of an epoch hold where lanes are refilled: each lane reads a stretch of the epoch's segments."""

import numpy as np

from memxlnet.format.padding import RowWidths
from memxlnet.load.epoch_plan import Bools, EpochSize, Ranks, StepRows, cut_block, placed
from memxlnet.load.length_grouping import Deal
from memxlnet.load.seeded_random import Ints, Order
from memxlnet.load.segment_windows import DocumentWindows

_DOCUMENTS_AT_ONCE = 1 << 16


class RefilledPlan:
    """One stream of steps of constant shape: where a document ends, the lane continues with its next one.

    Lane i of all ranks reads the i-th of almost equal stretches of the permuted segments, cut at the borders of
    documents. So every row has a closed form, and only the end of an epoch holds padding, where the lanes with the
    shorter stretches are done.

    Documents that were dealt out by length come in even groups first: every lane reads one document of each group, and
    all of a group have as many segments. The stretches follow.

    Args:
        windows: The segments that are read of each document.
        order: int[documents], the order of documents, or how they were dealt out; None for their own order.
        batch_size: Lanes of a rank.
        ranks: Whose lanes.
        drop_last: End the epoch with the shortest stretch: no row is padding, documents that run on stay unfinished.

    Attributes:
        num_steps: Steps of the epoch, the same on every rank.
    """

    def __init__(
        self,
        windows: DocumentWindows,
        order: Order | Deal | None,
        batch_size: int,
        ranks: Ranks,
        drop_last: bool = False,
    ):
        self._windows = windows
        dealt = order if isinstance(order, Deal) else None
        self._order = order = order.order if isinstance(order, Deal) else order
        counts = windows.counts if order is None else windows.counts[order]
        # ends[d]: segments before the d-th document of the order.
        self._ends: Ints = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=self._ends[1:])
        self._batch_size, self._ranks = batch_size, ranks
        self._lanes = lanes = batch_size * ranks.world_size
        even = counts[: dealt.even : lanes] if dealt else ()
        # The steps with which the even groups begin, and the stretches.
        self._even_starts: Ints = np.concatenate([[0], np.cumsum(even, dtype=np.int64)])
        self._stretches = dealt.borders if dealt else self._borders(lanes, int(counts.max(initial=0)))
        self._lengths = lengths = np.diff(self._ends[self._stretches])
        self._mine = slice(ranks.rank * batch_size, (ranks.rank + 1) * batch_size)
        self._stretch_steps = int(lengths.min() if drop_last else lengths.max())
        self.num_steps = int(self._even_starts[-1]) + self._stretch_steps
        self._read = np.minimum(lengths, self._stretch_steps)

    def size(self, widths: RowWidths) -> EpochSize:
        """Return the cost of the epoch on all ranks; `widths` gives a step's width from its longest row on a rank."""
        begins = self._stretches[:-1]
        begun = np.searchsorted(self._ends, self._ends[begins] + self._read) - begins
        even = int(self._stretches[0])
        segments = int(self._ends[even] + self._read.sum())
        rows = self.num_steps * self._lanes
        if widths.cuts:
            tokens = self._batch_size * (self._width_of_groups(widths) + self._width_of_stretches(widths))
        else:
            tokens = rows * widths.max_seq_length
        real = segments * self._windows.row_tokens - self._missing()
        return EpochSize(even + int(begun.sum()), segments, rows - segments, self.num_steps, tokens, real)

    def _missing(self) -> int:
        """Return the tokens that the last rows which are read have less than full ones."""
        missing = 0
        for begin in range(0, len(self._ends) - 1, _DOCUMENTS_AT_ONCE):
            places = np.arange(begin, min(begin + _DOCUMENTS_AT_ONCE, len(self._ends) - 1))
            in_stretch = places >= self._stretches[0]
            _, _, last = self._in_lane(np.maximum(places, self._stretches[0]))
            read = places[~in_stretch | (last < self._stretch_steps)]
            missing += int((self._windows.row_tokens - self._last_tokens(read)).sum())
        return missing

    def _width_of_groups(self, widths: RowWidths) -> int:
        """Return the widths of all steps of even groups, summed over the ranks."""
        total, groups = 0, len(self._even_starts) - 1
        at_once = max(_DOCUMENTS_AT_ONCE // self._lanes, 1)
        for begin in range(0, groups, at_once):
            end = min(begin + at_once, groups)
            last_tokens = self._last_tokens(np.arange(begin * self._lanes, end * self._lanes))
            longest = last_tokens.reshape(end - begin, self._ranks.world_size, self._batch_size).max(axis=2)
            counts = np.diff(self._even_starts[begin : end + 1])[:, None]
            total += int(((counts - 1) * widths.max_seq_length + widths.width(longest)).sum())
        return total

    def _width_of_stretches(self, widths: RowWidths) -> int:
        """Return the same of the stretches: 8 bytes a step and rank."""
        # For each step and rank, by how much the number of full rows changes, and the longest last row.
        steps = self._stretch_steps + 1
        full, longest = (np.zeros(self._ranks.world_size * steps, np.int32) for _ in range(2))
        for begin in range(int(self._stretches[0]), len(self._ends) - 1, _DOCUMENTS_AT_ONCE):
            places = np.arange(begin, min(begin + _DOCUMENTS_AT_ONCE, len(self._ends) - 1))
            lane, first, last = self._in_lane(places)
            rank = lane // self._batch_size * steps
            np.add.at(full, rank + np.minimum(first, steps - 1), 1)
            np.add.at(full, rank + np.minimum(last, steps - 1), -1)
            read = last < steps - 1
            np.maximum.at(longest, (rank + last)[read], self._last_tokens(places[read]).astype(np.int32))
        total = 0
        for begin in range(0, len(full), steps):
            part = slice(begin, begin + steps - 1)
            width = widths.width(longest[part].astype(np.int64))
            total += int(np.where(np.cumsum(full[part]) > 0, widths.max_seq_length, width).sum())
        return total

    def _in_lane(self, places: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the lanes of documents of stretches, and their first and last step, counted from the first stretch.

        Args:
            places: Places in the order.
        """
        lane: Ints = np.searchsorted(self._stretches, places, side="right") - 1
        before = self._ends[self._stretches[np.minimum(lane, self._lanes - 1)]]
        return lane, self._ends[places] - before, self._ends[np.minimum(places + 1, len(self._ends) - 1)] - before - 1

    def _last_tokens(self, places: Ints) -> Ints:
        """Return int64, the real tokens of the last rows of the documents at some places of the order."""
        documents = places if self._order is None else self._order[places]
        return self._windows.last_tokens[documents].astype(np.int64)

    def _borders(self, lanes: int, longest: int) -> Ints:
        """Return int64[lanes + 1], the places in the order with which the stretches begin, and its end.

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
        """Return how far a stretch of at most `length` segments reaches that begins at a place in the order."""
        return int(self._ends.searchsorted(self._ends[place] + length, side="right")) - 1

    def _reaches(self, length: int, lanes: int) -> bool:
        """Return whether stretches of at most `length` segments hold all documents."""
        place = 0
        for _ in range(lanes):
            place = self._farthest(place, length)
        return place == len(self._ends) - 1

    def _least(self, length: int, lanes: int) -> list[int]:
        """Return for each border the first place from which the stretches after it still reach the end."""
        places = [len(self._ends) - 1]
        for _ in range(lanes):
            places.append(int(self._ends.searchsorted(self._ends[places[-1]] - length)))
        return places[::-1]

    def block(self, step: int, max_rows: int) -> range:
        """Return the run of steps that holds `step`, of at most `max_rows` rows or one step."""
        return cut_block(step, 0, self.num_steps, max(max_rows // self._batch_size, 1))

    def step_rows(self, steps: range) -> StepRows:
        """Return the rows of a run of steps."""
        time = np.arange(steps.start, steps.stop)[:, None]
        border = int(self._even_starts[-1])
        parts = self._in_groups(time[time < border, None]), self._in_stretches(time[time >= border, None] - border)
        number, place, there = (np.concatenate(both) for both in zip(*parts, strict=True))
        documents = number if self._order is None else self._order[number].astype(np.int64)
        flat, back = np.unique(documents, return_inverse=True)
        starts = self._windows.starts(flat)[back].reshape(documents.shape)
        counts = np.where(there, self._windows.counts[documents], 0)
        first = self._windows.documents.first_segment[documents] + starts
        lanes = self._windows.documents.of_cache(np.where(there, documents, -1))
        return placed(lanes, first, starts, counts, place)

    def _in_groups(self, time: Ints) -> tuple[Ints, Ints, Bools]:
        """Return the places of some steps of even groups in the order and the documents, and whether there are any."""
        group = np.searchsorted(self._even_starts, time, side="right") - 1
        number = group * self._lanes + np.arange(self._lanes)[self._mine]
        place = np.broadcast_to(time - self._even_starts[group], number.shape)
        return number, place, np.ones(number.shape, np.bool_)

    def _in_stretches(self, time: Ints) -> tuple[Ints, Ints, Bools]:
        """Return the same of some steps of stretches."""
        begins = self._ends[self._stretches[:-1][self._mine]]
        there = time < self._lengths[self._mine]
        position = np.where(there, begins + time, 0)
        number = np.searchsorted(self._ends, position, side="right") - 1
        return number, np.where(there, position - self._ends[number], 0), there
