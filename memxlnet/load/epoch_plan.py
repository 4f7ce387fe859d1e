"""What a plan of an epoch is: the rows of its steps, for the lanes of one rank. NumPy only.

A plan is a pure function of lengths, settings and epoch. It spans all ranks, so that every rank has the same number of
steps, and answers for the lanes of one rank.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from memxlnet.format.padding import RowWidths
from memxlnet.load.seeded_random import Ints

Bools = NDArray[np.bool_]


class Ranks(NamedTuple):
    """The place of this process among those that train together."""

    rank: int
    world_size: int


class EpochSize(NamedTuple):
    """What an epoch costs, over all ranks unless stated otherwise; from number columns alone.

    Attributes:
        documents: Documents that are begun.
        segments: Rows that hold a segment.
        padding: Rows that hold padding.
        steps: Steps of each rank.
        tokens: Tokens that a model computes on: lanes times width, summed over all steps.
        real_tokens: Those of them that are not padding, special and memory tokens included.
    """

    documents: int
    segments: int
    padding: int
    steps: int
    tokens: int
    real_tokens: int

    @property
    def padding_share(self) -> float:
        """Padding among all rows, from 0 to 1."""
        return self.padding / max(self.padding + self.segments, 1)

    @property
    def useful_share(self) -> float:
        """Real tokens among those that a model computes on, from 0 to 1."""
        return self.real_tokens / max(self.tokens, 1)


class StepRows(NamedTuple):
    """Consecutive steps, each array [steps, lanes].

    Attributes:
        documents: int64, the document of the cache in each lane; -1 where a lane has none.
        segments: int64, the index of the segment in its document; -1 without a segment.
        rows: int64, its row; -1 without a segment.
        reset: bool, the first segment that is read of a document.
        is_last: bool, the last one.
    """

    documents: Ints
    segments: Ints
    rows: Ints
    reset: Bools
    is_last: Bools


class EpochPlan(Protocol):
    """The steps of one epoch for the lanes of one rank."""

    @property
    def num_steps(self) -> int:
        """Steps of the epoch, the same on every rank."""

    def size(self, widths: RowWidths) -> EpochSize:
        """Return the cost of the epoch on all ranks; `widths` gives a step's width from its longest row on a rank."""

    def block(self, step: int, max_rows: int) -> range:
        """Return the run of steps with equal lanes that holds `step`, of at most `max_rows` rows or one step."""

    def step_rows(self, steps: range) -> StepRows:
        """Return the rows of a run of steps with equal lanes."""


def placed(documents: Ints, first: Ints, starts: Ints, counts: Ints, place: Ints) -> StepRows:
    """Return the rows at some places of some windows.

    Args:
        documents: Documents, -1 for none.
        first: The row with which each window begins.
        starts: The segment with which each window begins.
        counts: Segments of each window.
        place: The place in the window; before its begin (below 0) and beyond its end there is no row.
    """
    active = (place >= 0) & (place < counts)
    return StepRows(
        documents,
        np.where(active, starts + place, -1),
        np.where(active, first + place, -1),
        active & (place == 0),
        active & (place == counts - 1),
    )


def cut_block(step: int, begin: int, end: int, length: int) -> range:
    """Return the run of `length` steps, counted from `begin`, that holds `step`."""
    start = begin + (step - begin) // length * length
    return range(start, min(start + length, end))
