"""What a training loop passes, as checked NumPy arrays; torch tensors are recognized by their methods alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memxlnet.errors import RowIndexError, SettingsError
from memxlnet.format.ragged import Ints

Floats = NDArray[np.float64]

_SHORT_FLOATS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
"""Types that ml_dtypes adds to NumPy, in which it cannot compare and sum as is."""

LARGEST_LOGIT = 1e300
"""Above it, infinity included, a sum of two logits would not be a number that can be compared."""


def as_array(name: str, value: Any) -> NDArray[Any]:
    """Return a tensor, array or sequence as an array; a view where that is possible, never to be written.

    Args:
        name: What it is called in an error.
        value: A tensor of any device and floating type may need gradients. NumPy knows no bfloat16, so that becomes
            float32, in arrays of JAX and ml_dtypes too.

    Raises:
        SettingsError: It is not an array of numbers.
    """
    try:
        if not hasattr(value, "detach"):
            array = np.asarray(value)
            return array.astype(np.float32) if array.dtype.name in _SHORT_FLOATS else array
        tensor = value.detach().cpu()
        try:
            return np.asarray(tensor.numpy())
        except TypeError:
            return np.asarray(tensor.float().numpy())
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise SettingsError(f"{name}: expected an array of numbers, found {type(value).__name__} ({error})") from error


def as_lane_rows(value: Any, num_rows: int) -> Ints:
    """Return the rows of lanes.

    Args:
        value: Integers in one dimension; -1 is a lane without a segment.
        num_rows: Rows that there are.

    Returns:
        int64[lanes].

    Raises:
        RowIndexError: A row is out of range.
        SettingsError: They are not integers in one dimension.
    """
    rows = as_array("rows", value)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise SettingsError(
            f"rows: expected integers in one dimension, such as the 'rows' of a step, found {rows.dtype} "
            f"{list(rows.shape)}"
        )
    wrong = (rows < -1) | (rows >= num_rows)
    if wrong.any():
        raise RowIndexError(
            f"row {rows[np.argmax(wrong)]}: expected a row from 0 to {num_rows - 1}, or -1 for a lane without a segment"
        )
    return rows.astype(np.int64)


def as_logits(name: str, value: Any, lanes: int, length: int) -> NDArray[Any]:
    """Return the logits of lanes, in their own floating type.

    Args:
        name: What they are called in an error.
        value: Floating point numbers, [lanes, width] with a width of at most `length`.
        lanes: Lanes that there are rows of.
        length: Tokens in a row of the cache.

    Raises:
        SettingsError: They have another shape, or are not floating point numbers.
    """
    logits = as_array(name, value)
    if logits.ndim != 2 or len(logits) != lanes or logits.shape[1] > length:
        raise SettingsError(
            f"{name}: expected the shape [{lanes}, width], one value for each token of {lanes} rows, with a width of "
            f"at most {length} (max_seq_length), found {list(logits.shape)}"
        )
    if logits.dtype.kind != "f":
        raise SettingsError(f"{name}: expected floating point numbers, found {logits.dtype}")
    return logits
