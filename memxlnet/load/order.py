"""In which order documents are read: pure functions of (seed, epoch). NumPy only.

The numbers are made of SplitMix64 (Steele, Lea and Flood 2014), written out here, so that an order depends on no
library's generator and stays the same across versions. Every number is a function of a counter: no generator is
carried along, and any of them is had at once.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

ORDER = 0
"""What numbers are drawn for: each purpose has a stream of its own."""

WINDOW_START, ANSWER_SEGMENT, LENGTH_NOISE, GROUP_ORDER = 1, 2, 3, 4

SEED_MASK = 2**64 - 1

_GAMMA = 0x9E3779B97F4A7C15

_NOISE_BITS = 17
"""Noise on a length is below 2^17 of 2^20: segment counts within an eighth of each other mix."""


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


def shuffled(count: int, seed: int, epoch: int, purpose: int = ORDER) -> Ints:
    """A permutation that is a pure function of (seed, epoch, count).

    Args:
        count: Number of things.
        seed: Any integer; it counts modulo 2^64.
        epoch: Number of the epoch.
        purpose: What is permuted.

    Returns:
        int64[count], each of 0 .. count - 1 once.
    """
    keys = drawn(np.arange(count), seed, epoch, purpose)
    lower, upper = ((keys >> np.uint64(bits)).astype(np.uint16) for bits in (32, 48))
    del keys  # and drawn again where they are needed: a document costs few bytes
    # NumPy sorts 16 bits by radix, several times as fast as it compares whole keys.
    order: Ints = np.argsort(lower, kind="stable")
    order = order[np.argsort(upper[order], kind="stable")]
    halves = ((upper.astype(np.uint32) << np.uint32(16)) | lower)[order]
    same = np.flatnonzero(halves[1:] == halves[:-1])
    if len(same):
        # The lower halves of the keys decide; no two keys are equal.
        places = np.union1d(same, same + 1)
        alike = order[places]
        order[places] = alike[np.argsort(drawn(alike, seed, epoch, purpose))]
    return order


def grouped_by_length(counts: NDArray[np.int32], size: int, seed: int, epoch: int, shuffle: bool) -> Ints:
    """An order in which groups of `size` documents have similar numbers of segments.

    Shuffled, each count is raised by up to an eighth at random before sorting, and the order of the groups is random;
    the documents of the last, smaller group are drawn from all. Else the longest documents come first.

    Args:
        counts: int32[documents], segments of each.
        size: Documents in a group.
        seed: Any integer.
        epoch: Number of the epoch.
        shuffle: Whether the order is random.
    """
    if not shuffle:
        return np.argsort(-counts, kind="stable")
    order = shuffled(len(counts), seed, epoch)
    groups = len(counts) // size
    full = order[: groups * size]
    noise = (drawn(full, seed, epoch, LENGTH_NOISE) >> np.uint64(64 - _NOISE_BITS)).astype(np.int64)
    lengths = counts[full] * (noise + (1 << 20))
    sorted_groups = full[np.argsort(lengths, kind="stable")].reshape(groups, size)
    mixed = sorted_groups[shuffled(groups, seed, epoch, GROUP_ORDER)].reshape(-1)
    return np.concatenate([mixed, order[groups * size :]])
