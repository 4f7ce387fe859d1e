"""Lists of different lengths in one array, end to end."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def ragged_arange(counts: Ints) -> Ints:
    """Return ``0 .. counts[0] - 1, 0 .. counts[1] - 1, ...`` as one int64 array."""
    total = int(counts.sum())
    return np.arange(total, dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)


def bounds_of(counts: NDArray[np.integer]) -> Ints:
    """Return int64[lists + 1]: where lists of these lengths begin and end when they lie end to end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
