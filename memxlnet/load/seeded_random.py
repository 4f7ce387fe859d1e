"""In which order documents are read: pure functions of (seed, epoch). NumPy only.

The numbers are made of SplitMix64 (Steele, Lea and Flood 2014), written out here, so that an order depends on no
library's generator and stays the same across versions. Every number is a function of a counter: no generator is
carried along, and any of them is computed directly.
"""

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memxlnet.errors import SettingsError

Ints = NDArray[np.int64]

Order = NDArray[np.signedinteger[Any]]
"""Documents in the order of an epoch."""

ORDER = 0
"""What numbers are drawn for: each purpose has its own stream."""

WINDOW_START, ANSWER_SEGMENT, LENGTH_NOISE, GROUP_ORDER, SEGMENT_NOISE, TURN_ORDER, REST, VIEW = 1, 2, 3, 4, 5, 6, 7, 8

BLOCK_ORDER = 10

MIXTURE = 9
"""That of the first source of a mixture; others add multiples of 256."""

SEED_MASK = 2**64 - 1

_GAMMA = 0x9E3779B97F4A7C15

AT_ONCE = 1 << 16

_UPPER = np.uint64(0xFFFFFFFF00000000)


def _mixed(value: int) -> int:
    """Apply SplitMix64's finaliser to one integer."""
    value = (value + _GAMMA) & SEED_MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & SEED_MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & SEED_MASK
    return value ^ (value >> 31)


def drawn(counters: NDArray[np.integer], seed: int, epoch: int, purpose: int) -> NDArray[np.uint64]:
    """Return one random number for each counter: a pure function of (counter, seed, epoch, purpose).

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
    """Return a permutation that is a pure function of (seed, epoch, count).

    Args:
        count: Number of things.
        seed: Any integer; it counts modulo 2^64.
        epoch: Number of the epoch.
        purpose: What is permuted.

    Returns:
        int32[count], or int64 from 2^31 on: each of 0 .. count - 1 once.
    """
    if count >= 2**31:
        return np.argsort(drawn(np.arange(count), seed, epoch, purpose))
    # The upper half of each key and its number in one integer: sorted and read in place, in 8 bytes each.
    packed = np.empty(count, np.uint64)
    for part in parts(count):
        numbers = np.arange(part.start, part.stop, dtype=np.uint64)
        packed[part] = (drawn(numbers, seed, epoch, purpose) & _UPPER) | numbers
    packed.sort()
    same = _equal_uppers(packed)
    order = _lowers(packed)
    if len(same):
        # The lower halves of the keys decide; no two keys are equal.
        places = np.union1d(same, same + 1)
        alike = order[places]
        order[places] = alike[np.argsort(drawn(alike, seed, epoch, purpose))]
    return order


def _equal_uppers(packed: NDArray[np.uint64]) -> Ints:
    """Return the places whose upper half is that of the next one."""
    found = [np.zeros(0, np.int64)]
    for part in parts(len(packed) - 1):
        here = packed[part.start : part.stop + 1]
        found.append(np.flatnonzero((here[1:] ^ here[:-1]) <= ~_UPPER) + part.start)
    return np.concatenate(found)


def _lowers(packed: NDArray[np.uint64]) -> Order:
    """Return the lower halves, in the memory of `packed`, which is used up."""
    count = len(packed)
    halves = packed.view(np.uint32)
    for part in parts(count):
        halves[part] = (packed[part] & ~_UPPER).astype(np.uint32)
    del halves
    packed.resize(-(-count // 2), refcheck=False)
    return packed.view(np.int32)[:count]


def parts(count: int, at_once: int = AT_ONCE) -> Iterator[slice]:
    """Yield slices that cut `count` items into blocks: what is made of one block stays small."""
    return (slice(start, min(start + at_once, count)) for start in range(0, count, at_once))


def check_seed(value: object) -> int:
    """Check that a seed is an integer and return it modulo 2^64.

    Raises:
        SettingsError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | Integral):
        raise SettingsError(f"seed: expected an integer, found {value!r}")
    return int(value) & SEED_MASK
