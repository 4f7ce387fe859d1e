"""How many tokens a row really has, and how wide the rows of a step are: padding is cut off where it is asked for."""

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from memxlnet.errors import SettingsError
from memxlnet.format.ragged import Ints
from memxlnet.format.row_layout import RowLayout
from memxlnet.settings import one_of, positive_int

Padding = Literal["max_length", "longest"]

CONTEXT_PLACES: Final = ("context_row_start", "context_token_count")
"""The number columns that say where the context stands in a row; the length of the row follows from them."""


POSITIONS: Final = ("start_positions", "end_positions", "cls_index")
"""The columns that are positions in a row."""


class RowWidths:
    """The lengths of rows, and the widths of the steps that hold them.

    Args:
        layout: What stands where in a row.
        max_seq_length: Tokens in a stored row.
        padding: ``"max_length"`` keeps rows as they are stored; ``"longest"`` cuts padding off until the longest row of
            a step fits.
        pad_to_multiple_of: Round the width up to a multiple, at most `max_seq_length`; None rounds nothing.

    Attributes:
        max_seq_length: Tokens in a stored row.
        pad_left: Whether padding, and the cut, is on the left.
        cuts: Whether rows are cut at all.

    Raises:
        SettingsError: There is no such padding, or the multiple is not between 1 and `max_seq_length`, or is given
            where nothing is cut.
    """

    def __init__(
        self,
        layout: RowLayout,
        max_seq_length: int,
        padding: str = "max_length",
        pad_to_multiple_of: int | None = None,
    ):
        self.max_seq_length = max_seq_length
        self.pad_left = layout.pad_left
        self.cuts = one_of("padding", padding, get_args(Padding)) == "longest"
        self._multiple = 1
        if pad_to_multiple_of is not None:
            if not self.cuts:
                raise SettingsError("pad_to_multiple_of: expected padding='longest' with it, found 'max_length'")
            self._multiple = positive_int("pad_to_multiple_of", pad_to_multiple_of, " (or None)")
            if self._multiple > max_seq_length:
                raise SettingsError(
                    f"pad_to_multiple_of: expected at most max_seq_length, which is {max_seq_length}, "
                    f"found {pad_to_multiple_of}"
                )
        self._least = layout.overhead
        # Tokens of a row that stand before its context (padding on the left) or after it.
        self._beside = len(layout.prefix) if layout.pad_left else layout.num_memory_tokens + len(layout.suffix)

    def lengths(self, places: Mapping[str, NDArray[Any]]) -> Ints:
        """Return int64[rows], the real tokens of rows, special and memory tokens included.

        Args:
            places: Number columns of the rows by name, `CONTEXT_PLACES`.
        """
        start: Ints = places["context_row_start"].astype(np.int64)
        if self.pad_left:
            return self.max_seq_length - (start - self._beside)
        length: Ints = start + places["context_token_count"] + self._beside
        return length

    @overload
    def width(self, longest: int) -> int: ...

    @overload
    def width(self, longest: Ints) -> Ints: ...

    def width(self, longest: int | Ints) -> int | Ints:
        """Return the width of a step whose longest row has this many tokens; an array for an array.

        A step without any row, of length 0, has room for the special and memory tokens of a row without texts.
        """
        if not self.cuts:
            return self.max_seq_length + 0 * longest
        if isinstance(longest, int):
            return min(-(-max(longest, self._least) // self._multiple) * self._multiple, self.max_seq_length)
        rounded: Ints = -(-np.maximum(longest, self._least) // self._multiple) * self._multiple
        return np.minimum(rounded, self.max_seq_length)

    def kept(self, width: int) -> slice:
        """Return the tokens of a stored row that stay where it is cut to a width."""
        return slice(self.shift(width), self.shift(width) + width)

    @overload
    def shift(self, width: int) -> int: ...

    @overload
    def shift(self, width: Ints) -> Ints: ...

    def shift(self, width: int | Ints) -> int | Ints:
        """Return what a position in a stored row loses where the row is cut to a width; an array for an array."""
        return self.max_seq_length - width if self.pad_left else 0 * width
