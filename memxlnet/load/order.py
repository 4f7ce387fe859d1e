"""In which order documents are read: pure functions of (seed, epoch). NumPy only.

The numbers are made of SplitMix64 (Steele, Lea and Flood 2014), written out here, so that an order depends on no
library's generator and stays the same across versions. Every number is a function of a counter: no generator is
carried along, and any of them is had at once.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

Order = NDArray[np.signedinteger[Any]]
"""Documents in the order of an epoch."""

ORDER = 0
"""What numbers are drawn for: each purpose has a stream of its own."""

WINDOW_START, ANSWER_SEGMENT, LENGTH_NOISE, GROUP_ORDER, SEGMENT_NOISE, TURN_ORDER, REST = 1, 2, 3, 4, 5, 6, 7

SEED_MASK = 2**64 - 1

_GAMMA = 0x9E3779B97F4A7C15

_AT_ONCE = 1 << 16


def _mixed(value: int) -> int:
    """SplitMix64's finaliser of one integer."""
    value = (value + _GAMMA) & SEED_MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & SEED_MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & SEED_MASK
    return value ^ (value >> 31)


def drawn(counters: NDArray[np.integer], seed: int, epoch: int, purpose: int) -> NDArray[np.uint64]:
    """One random number for each counter: a pure function of (counter, seed, epoch, purpose).

    Args:
        counters: Integers of any shape, at least 0; different counters give different numbers.
        seed: Any integer; it counts modulo 2^64.
        epoch: Number of the epoch.
        purpose: What the numbers are for.
    """
    start = _mixed(_mixed(seed & SEED_MASK) ^ (epoch & SEED_MASK))
    if purpose:
        start = _mixed(start ^ purpose)
    keys = counters.astype(np.uint64)
    keys += np.uint64(1)
    keys *= np.uint64(_GAMMA)
    keys += np.uint64(start)
    keys ^= keys >> np.uint64(30)
    keys *= np.uint64(0xBF58476D1CE4E5B9)
    keys ^= keys >> np.uint64(27)
    keys *= np.uint64(0x94D049BB133111EB)
    keys ^= keys >> np.uint64(31)
    return keys


def below(numbers: NDArray[np.uint64], bounds: NDArray[np.integer]) -> Ints:
    """Scale random numbers to integers from 0 to `bounds` - 1.

    After Lemire (2019), without rejection: the bias is below bound / 2^32.

    Args:
        numbers: Random numbers.
        bounds: Integers from 1 to 2^31.
    """
    scaled = ((numbers >> np.uint64(32)) * bounds.astype(np.uint64)) >> np.uint64(32)
    return scaled.astype(np.int64)


def shuffled(count: int, seed: int, epoch: int, purpose: int = ORDER) -> Order:
    """A permutation that is a pure function of (seed, epoch, count).

    Args:
        count: Number of things.
        seed: Any integer; it counts modulo 2^64.
        epoch: Number of the epoch.
        purpose: What is permuted.

    Returns:
        int32[count], or int64 from 2^31 on: each of 0 .. count - 1 once.
    """
    # Only the upper halves of the keys are kept: an epoch is planned in few bytes a document.
    halves = np.empty(count, np.uint32)
    for start in range(0, count, _AT_ONCE):
        part = np.arange(start, min(start + _AT_ONCE, count))
        halves[start : start + len(part)] = drawn(part, seed, epoch, purpose) >> np.uint64(32)
    # NumPy sorts 16 bits by radix, several times as fast as it compares whole keys.
    order: Order = np.argsort(halves.astype(np.uint16), kind="stable").astype(np.int32 if count < 2**31 else np.int64)
    order = order[np.argsort((halves >> np.uint32(16)).astype(np.uint16)[order], kind="stable")]
    halves = halves[order]
    same = np.flatnonzero(halves[1:] == halves[:-1])
    if len(same):
        # The lower halves of the keys decide; no two keys are equal.
        places = np.union1d(same, same + 1)
        alike = order[places]
        order[places] = alike[np.argsort(drawn(alike, seed, epoch, purpose))]
    return order
