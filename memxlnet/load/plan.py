"""What is read when: pure functions of lengths, group size, seed and epoch. NumPy only.

The order is made of SplitMix64 (Steele, Lea and Flood 2014), written out here, so that it depends on no library's
generator and stays the same across versions.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_GAMMA = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def _mixed(value: int) -> int:
    """SplitMix64's finaliser of one integer."""
    value = (value + _GAMMA) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def shuffled(count: int, seed: int, epoch: int) -> Ints:
    """A permutation that is a pure function of (seed, epoch, count).

    Args:
        count: Number of things.
        seed: Any integer.
        epoch: Number of the epoch.

    Returns:
        int64[count], each of 0 .. count - 1 once.
    """
    start = _mixed(_mixed(seed & _MASK) ^ (epoch & _MASK))
    keys = np.arange(1, count + 1, dtype=np.uint64)
    keys *= np.uint64(_GAMMA)
    keys += np.uint64(start)
    keys ^= keys >> np.uint64(30)
    keys *= np.uint64(0xBF58476D1CE4E5B9)
    keys ^= keys >> np.uint64(27)
    keys *= np.uint64(0x94D049BB133111EB)
    keys ^= keys >> np.uint64(31)
    order: Ints = np.argsort(keys, kind="stable")
    return order


class Documents(NamedTuple):
    """Where the segments of each document lie: int64[documents] first rows, int32[documents] counts."""

    first_segment: Ints
    num_segments: NDArray[np.int32]


class GroupPlan(NamedTuple):
    """The rows of one group.

    Attributes:
        documents: int64[lanes], the document of each lane.
        rows: int64[steps, lanes], the row of each lane at each step, -1 where its document has ended.
    """

    documents: Ints
    rows: Ints


def group_rows(documents: Documents, chosen: Ints) -> GroupPlan:
    """Lay documents side by side: lane i is document i at every step, whichever document is shortest.

    Args:
        documents: Where the segments lie.
        chosen: int64[lanes], the documents of the group.
    """
    counts = documents.num_segments[chosen].astype(np.int64)
    steps = np.arange(int(counts.max(initial=0)), dtype=np.int64)[:, None]
    rows = np.where(steps < counts, documents.first_segment[chosen] + steps, -1)
    return GroupPlan(chosen, rows)


def pieces(num_steps: int, lanes: int, max_rows: int) -> list[range]:
    """Cut the steps of a group into runs of at most `max_rows` rows, at least one step each."""
    steps = max(max_rows // max(lanes, 1), 1)
    return [range(start, min(start + steps, num_steps)) for start in range(0, num_steps, steps)]
