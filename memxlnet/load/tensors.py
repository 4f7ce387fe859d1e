"""The one place where a map becomes torch: zero-copy columns, and rows gathered into fresh tensors."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memxlnet.errors import RowIndexError, SettingsError
from memxlnet.store.cache import Cache, FeatureShard

MODEL_COLUMNS = ("input_ids", "attention_mask", "token_type_ids", "start_positions", "end_positions")
"""What a model takes, in the order of a model's arguments."""


TOKEN_COLUMNS = MODEL_COLUMNS[:3]
"""The columns with a value for each token, which are almost all of a cache."""


class FeatureTensors:
    """The features of a cache as tensors.

    Attributes:
        num_rows: Rows over all shards.
        names: Names of the columns.
    """

    def __init__(self, cache: Cache):
        self.num_rows = cache.num_rows
        self._shards = cache.features
        self._length = cache.manifest.max_seq_length
        self._pad_left = cache.manifest.layout.pad_left
        self._starts = np.array([shard.row_start for shard in cache.features], np.int64)
        self.names = tuple(cache.features[0].columns)
        self._columns = {name: [self._tensor(shard, name) for shard in cache.features] for name in self.names}
        self._whole = {name: views[0] for name, views in self._columns.items() if len(views) == 1}
        self._mapped_whole = len(self._shards) == 1 and self._shards[0].writable
        self._bounds = torch.from_numpy(self._starts[1:])
        self._spread: dict[str, _SpreadColumn] = {}
        if len(self._shards) > 1 and all(shard.writable for shard in self._shards):
            self._spread = {name: _SpreadColumn(self._shards, name) for name in self.names}

    def _tensor(self, shard: FeatureShard, name: str) -> Tensor | None:
        # Torch has no read-only tensors: over a read-only map it would warn, and a write would end the process.
        return torch.from_numpy(shard.columns[name]) if shard.writable else None

    @property
    def token_bytes(self) -> int:
        """Bytes of the token columns in all shards."""
        return sum(shard.columns[name].nbytes for shard in self._shards for name in TOKEN_COLUMNS)

    def advise(self, option: int) -> None:
        """Tell the system how the token columns will be read (madvise)."""
        for shard in self._shards:
            for name in TOKEN_COLUMNS:
                shard.advise(option, name, 0, shard.row_stop - shard.row_start)

    def advise_rows(self, option: int, rows: Tensor) -> None:
        """Tell the system how the token columns of some rows, in range, will be read: a call a row and column."""
        for row in dict.fromkeys(rows.tolist()):
            shard, local = self._place(row)
            for name in TOKEN_COLUMNS:
                self._shards[shard].advise(option, name, local, local + 1)

    def column(self, name: str) -> list[Tensor]:
        """A whole column, one tensor per shard: views of the map (copies where the map is read-only)."""
        self.check_name(name)
        views = self._columns[name]
        return [
            view if view is not None else torch.from_numpy(np.array(shard.columns[name]))
            for view, shard in zip(views, self._shards, strict=True)
        ]

    def row(self, name: str, row: int) -> Tensor:
        """One row of a column, `row` in range: a view of the map (a copy where the map is read-only)."""
        shard, local = self._place(row)
        view = self._columns[name][shard]
        if view is not None:
            return view[local]
        return torch.from_numpy(np.array(self._shards[shard].columns[name][local]))

    def number(self, name: str, row: int) -> int:
        """One value of a number column, `row` in range."""
        shard, local = self._place(row)
        return int(self._shards[shard].columns[name][local])

    def gather(self, rows: Tensor, names: Sequence[str] = MODEL_COLUMNS, width: int | None = None) -> dict[str, Tensor]:
        """Copy rows of columns into fresh tensors: one gather per column.

        Args:
            rows: int64[n] rows, in range (0 and up).
            names: The columns.
            width: Cut the rows of token columns on the padding side to so many tokens, 1 to `max_seq_length`; what is
                cut off is not read. Positions stay as they are stored: they count in the whole row.

        Returns:
            The columns by name, in their stored types: [n, width] or [n].
        """
        if len(self._shards) == 1:
            return {name: self._select(0, name, rows, width) for name in names}
        return self._gather_shards(rows, names, width)

    def gather_any(self, rows: Any, names: Sequence[str], width: int | None = None) -> dict[str, Tensor]:
        """Like `gather`, for rows that nobody has checked: any integers in one dimension, negative ones from the end.

        Raises:
            RowIndexError: A row is out of range.
            SettingsError: They are no integers in one dimension.
        """
        plain = isinstance(rows, Tensor) and rows.dtype is torch.int64 and rows.dim() == 1 and rows.is_cpu
        if plain and self._mapped_whole:
            try:
                # index_select checks the range itself; a check of our own would cost as much as a small gather.
                return self.gather(rows, names, width)
            except (IndexError, RuntimeError):
                pass
        return self.gather(as_rows(rows, self.num_rows), names, width)

    def _part(self, width: int | None) -> slice:
        """The tokens of a row that stay where it is cut to a width."""
        if width is None or not self._pad_left:
            return slice(width)
        return slice(self._length - width, None)

    def _select(self, shard: int, name: str, rows: Tensor, width: int | None) -> Tensor:
        view = self._columns[name][shard]
        cut = width is not None and name in TOKEN_COLUMNS
        if view is not None:
            return (view[:, self._part(width)] if cut else view).index_select(0, rows)
        stored = self._shards[shard].columns[name]
        if not cut:
            return torch.from_numpy(stored.take(rows.numpy(), axis=0))
        # Not `take`, which copies the whole column where it is cut.
        return torch.from_numpy(stored[:, self._part(width)][rows.numpy()])

    def _gather_shards(self, rows: Tensor, names: Sequence[str], width: int | None) -> dict[str, Tensor]:
        if self._spread:
            rows = rows.contiguous()
            shard_of_row = torch.bucketize(rows, self._bounds, right=True)
            part = self._part(width)
            return {name: self._spread[name].gather(rows, shard_of_row, part) for name in names}
        # Over read-only maps.
        shard_of = np.searchsorted(self._starts, rows.numpy(), side="right") - 1
        touched = np.unique(shard_of).tolist()
        if len(touched) == 1:
            local = rows - int(self._starts[touched[0]])
            return {name: self._select(touched[0], name, local, width) for name in names}
        places = {shard: torch.from_numpy(np.flatnonzero(shard_of == shard)) for shard in touched}
        gathered: dict[str, Tensor] = {}
        for name in names:
            sample = self._shards[0].columns[name]
            shape = (len(rows),) if sample.ndim == 1 else (len(rows), width or self._length)
            out = torch.empty(shape, dtype=_torch_dtype(sample), device="cpu")
            for shard, place in places.items():
                local = rows[place] - int(self._starts[shard])
                out.index_copy_(0, place, self._select(shard, name, local, width))
            gathered[name] = out
        return gathered

    def _place(self, row: int) -> tuple[int, int]:
        if len(self._shards) == 1:
            return 0, row
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        return shard, row - int(self._starts[shard])

    def check_name(self, name: str) -> None:
        """Check that there is a column of this name.

        Raises:
            SettingsError: There is none.
        """
        if not isinstance(name, str) or name not in self._columns:
            raise SettingsError(f"column: expected one of {', '.join(self.names)}, found {name!r}")


class _SpreadColumn:
    """A column over several shards as one tensor, so that one `index_select` serves all of them.

    Its storage spans the maps of all shards and whatever lies between them in the address space, and every element of
    it may begin a row: shards need not lie at a multiple of the row's size from each other. What lies between is never
    touched, because only places of rows are asked for. The shards keep their maps alive.
    """

    def __init__(self, shards: Sequence[FeatureShard], name: str):
        columns = [shard.columns[name] for shard in shards]
        starts = [int(column.ctypes.data) for column in columns]
        base = min(starts)
        size = max(start + column.nbytes for start, column in zip(starts, columns, strict=True)) - base
        itemsize = columns[0].itemsize
        self._width = int(columns[0].shape[1]) if columns[0].ndim == 2 else 1
        # Arrow aligns buffers by 8 bytes and maps begin with a page: distances are multiples of the item's size.
        origins = [
            (start - base) // itemsize - shard.row_start * self._width
            for start, shard in zip(starts, shards, strict=True)
        ]
        self._origins = torch.tensor(origins, dtype=torch.int64, device="cpu")
        span = (ctypes.c_char * size).from_address(base)
        elements = torch.frombuffer(span, dtype=_torch_dtype(columns[0]))
        count = size // itemsize
        self._rows = elements
        if columns[0].ndim == 2:
            self._rows = elements.as_strided((count - self._width + 1, self._width), (1, 1))

    def gather(self, rows: Tensor, shard_of_row: Tensor, part: slice) -> Tensor:
        """Fresh rows, or a part of their tokens; `rows` in range."""
        values = self._rows[:, part] if self._rows.dim() == 2 else self._rows
        return values.index_select(0, self._origins[shard_of_row] + rows * self._width)


def _torch_dtype(values: Any) -> torch.dtype:
    return torch.from_numpy(np.empty(0, values.dtype)).dtype


def as_rows(rows: Any, num_rows: int, lanes: bool = False) -> Tensor:
    """Row indices as int64[n], negative ones counted from the end.

    Args:
        rows: A tensor, array, range, slice or sequence of integers.
        num_rows: Number of rows there are.
        lanes: They are rows of lanes: -1 is a lane without a segment and stays -1, others count from the start.

    Raises:
        RowIndexError: A row is out of range.
        SettingsError: They are no integers in one dimension.
    """
    if isinstance(rows, slice):
        rows = range(*rows.indices(num_rows))
    if isinstance(rows, Tensor) and (rows.is_meta or rows.layout is not torch.strided):
        raise SettingsError(f"rows: expected a tensor of values, found one on {rows.device} with {rows.layout}")
    if isinstance(rows, Tensor) and rows.dtype == torch.uint64:
        rows = rows.numpy(force=True)
    if isinstance(rows, Tensor):
        wanted = rows
    else:
        try:
            array = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows))
        except (TypeError, ValueError) as error:
            raise SettingsError(f"rows: expected a sequence of integers, found {rows!r:.80} ({error})") from None
        if array.size and array.dtype.kind not in "iu":
            raise SettingsError(f"rows: expected integers, found {array.dtype}")
        if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
            # As int64 it would wrap around and count from the end.
            raise RowIndexError(f"row {array.max()}: expected a row from {-num_rows} to {num_rows - 1}")
        wanted = torch.from_numpy(np.array(array, np.int64))
    if wanted.dtype != torch.int64:
        if wanted.is_floating_point() or wanted.is_complex() or wanted.dtype == torch.bool:
            raise SettingsError(f"rows: expected integers, found {wanted.dtype}")
        wanted = wanted.to(torch.int64)
    if wanted.dim() != 1:
        raise SettingsError(f"rows: expected one dimension, found the shape {tuple(wanted.shape)}")
    if not wanted.numel():
        return wanted
    low, high = (int(value) for value in torch.aminmax(wanted))
    least = -1 if lanes else -num_rows
    if low < least or high >= num_rows:
        bad = low if low < least else high
        raise RowIndexError(f"row {bad}: expected a row from {least} to {num_rows - 1}")
    return torch.where(wanted < 0, wanted + num_rows, wanted) if low < 0 and not lanes else wanted
