"""Which characters of a text are blank, as arrays: `str.isspace` for whole texts."""

import numpy as np
from numpy.typing import NDArray

_AFTER_BLANKS = 0x3001
"""No code point from here on is blank."""

_IS_BLANK = np.array([chr(code).isspace() for code in range(_AFTER_BLANKS + 1)])


def non_blank_counts(text: str) -> NDArray[np.int32]:
    """How many of the characters before each place of a text are not blank.

    A stretch of the text is blank (or empty) where both of its ends have the same count.

    Args:
        text: Fewer than 2^31 characters.

    Returns:
        int32[characters + 1], from 0 on.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    counts = np.zeros(len(codes) + 1, np.int32)
    np.cumsum(~_IS_BLANK[np.minimum(codes, _AFTER_BLANKS)], out=counts[1:])
    return counts
