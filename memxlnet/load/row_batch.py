"""Rows that were gathered together, and what turns them into a model's arguments."""

from collections.abc import Callable, Iterator
from typing import Any, SupportsIndex, overload

from torch import Tensor

from memxlnet.load.option_literals import Dtype
from memxlnet.load.tensors import as_dtype


class RowBatch(list[dict[str, Tensor]]):
    """Rows that were gathered in one go: a list of row dictionaries over whole columns.

    The collators of torch and transformers see ordinary rows, in int64 unless asked otherwise; `Collate` takes the
    columns directly. It is a list since some collators of transformers accept nothing else; its rows are made when they
    are first read, which costs more than the gather.

    Args:
        columns: The columns, or what gathers them when they are first read.
        rows: int64[rows], the row indices.
        dtype: Type of the row dictionaries' tensors.
    """

    def __init__(
        self, columns: dict[str, Tensor] | Callable[[], dict[str, Tensor]], rows: Tensor, dtype: Dtype = "int64"
    ):
        super().__init__()
        self._columns = columns
        self.rows = rows
        self._dtype = dtype
        self._is_filled = False

    @property
    def columns(self) -> dict[str, Tensor]:
        """The columns by name in their stored types, each [rows] or [rows, max_seq_length]; no views of the map."""
        if callable(self._columns):
            self._columns = self._columns()
        return self._columns

    def _fill(self) -> None:
        if self._is_filled:
            return
        self._is_filled = True
        columns = as_dtype(self.columns, self._dtype)
        values = zip(*(column.unbind(0) for column in columns.values()), strict=True)
        self.extend(dict(zip(columns, row, strict=True)) for row in values)

    def __len__(self) -> int:
        return super().__len__() if self._is_filled else len(self.rows)

    @overload
    def __getitem__(self, index: SupportsIndex) -> dict[str, Tensor]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Tensor]]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        self._fill()
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        self._fill()
        return super().__iter__()

    def __reduce__(self) -> tuple[Any, ...]:
        # Row by row, each view would take its whole column along.
        return RowBatch, (self.columns, self.rows, self._dtype)
