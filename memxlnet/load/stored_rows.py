"""Copies of rows out of the maps of a cache, whatever the number of shards and whether a map can be written.

A gather of few rows is made by NumPy, whose operations cost less to start; of many rows by torch, which copies with
several threads. Neither writes to a map, so tensors may lie over a read-only one here; none of them leaves this module.
"""

import ctypes
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from memxlnet.load.order import Ints
from memxlnet.store.cache import FeatureShard

MANY_VALUES = 32768
"""Torch's `index_select` works with several threads above so many values (`GRAIN_SIZE` of ATen)."""

Read = Callable[[Ints], NDArray[Any]]


class StoredRows(Protocol):
    """Rows of feature columns."""

    def gather(self, rows: Tensor, names: Sequence[str], width: int | None) -> dict[str, Tensor]:
        """Fresh tensors by name, [n] or [n, width]; only the bytes that are used are read.

        Args:
            rows: int64[n] rows.
            names: Columns that exist.
            width: Tokens of a row that stay; None for all.

        Raises:
            IndexError: A row is out of range, or may be one that is counted from the end; `as_rows` tells them apart.
        """
        ...


def stored_rows(shards: Sequence[FeatureShard], pad_left: bool) -> StoredRows:
    """The rows of some shards, padded on the left or on the right."""
    return OneShard(shards[0], pad_left) if len(shards) == 1 else ManyShards(shards, pad_left)


class Part(NamedTuple):
    """The tokens of a row that stay where it is cut on the padding side.

    Attributes:
        skip: Tokens before them.
        width: Number of them.
    """

    skip: int
    width: int


def _part(length: int, width: int | None, pad_left: bool) -> Part:
    if width is None:
        return Part(0, length)
    return Part(length - width if pad_left else 0, width)


class Span:
    """A piece of memory with rows in it, which others keep alive.

    Args:
        address: Where it begins; a multiple of the size of all types.
        size: Bytes.
    """

    def __init__(self, address: int, size: int):
        self._memory: Any = (ctypes.c_char * size).from_address(address)
        self._size = size

    def numbers(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """All values of a type, as an array."""
        values: NDArray[Any] = np.frombuffer(self._memory, dtype, self._size // dtype.itemsize)
        return values

    def read_parts(self, dtype: np.dtype[Any], stride: int, part: Part) -> Read:
        """A function that copies parts of rows: int64[...] places, in strides from the beginning, to [..., width].

        The rows are items of a type without structure here: of a view in two dimensions NumPy would copy value by
        value, and its `take` would copy the whole column first.
        """
        count = (self._size // dtype.itemsize - part.skip - part.width) // stride + 1
        size, offset = part.width * dtype.itemsize, part.skip * dtype.itemsize
        items = np.ndarray((count,), f"V{size}", self._memory, offset, (stride * dtype.itemsize,))
        tokens = np.dtype((dtype, (part.width,)))

        def read(places: Ints) -> NDArray[Any]:
            return items[places].view(tokens)

        return read

    def parts(self, dtype: np.dtype[Any], stride: int, part: Part) -> Tensor:
        """The parts of rows that `read_parts` copies as a tensor [places, width]; rows may overlap."""
        kind = from_numpy(np.empty(0, dtype)).dtype
        values = torch.frombuffer(self._memory, dtype=kind, count=self._size // dtype.itemsize)
        count = (len(values) - part.skip - part.width) // stride + 1
        return values.as_strided((count, part.width), (stride, 1), part.skip)


class OneShard:
    """The rows of a cache of one shard."""

    def __init__(self, shard: FeatureShard, pad_left: bool):
        self._columns = shard.columns
        self._pad_left = pad_left
        self._length = shard.columns["input_ids"].shape[1]
        self._spans = {name: Span(column.ctypes.data, column.nbytes) for name, column in shard.columns.items()}
        self._few: dict[int | None, dict[str, Read]] = {}
        self._many: dict[int | None, dict[str, Tensor]] = {}

    def gather(self, rows: Tensor, names: Sequence[str], width: int | None) -> dict[str, Tensor]:
        """See `StoredRows`."""
        places = rows.numpy()
        if len(places) * (width or self._length) > MANY_VALUES:
            many = self._many.get(width) or self._prepare_many(width)
            return {name: many[name].index_select(0, rows) for name in names}
        few = self._few.get(width) or self._prepare_few(width)
        return {name: from_numpy(few[name](places)) for name in names}

    def _prepare_few(self, width: int | None) -> dict[str, Read]:
        part = _part(self._length, width, self._pad_left)
        reads: dict[str, Read] = {}
        for name, column in self._columns.items():
            if column.ndim == 1:
                reads[name] = column.__getitem__
            elif part.width == self._length:
                reads[name] = _taking_rows(column)
            else:
                reads[name] = self._spans[name].read_parts(column.dtype, self._length, part)
        self._few[width] = reads
        return reads

    def _prepare_many(self, width: int | None) -> dict[str, Tensor]:
        part = _part(self._length, width, self._pad_left)
        tensors = {}
        for name, column in self._columns.items():
            one = self._spans[name].parts(
                column.dtype, *((self._length, part) if column.ndim == 2 else (1, Part(0, 1)))
            )
            tensors[name] = one if column.ndim == 2 else one[:, 0]
        self._many[width] = tensors
        return tensors


def _taking_rows(column: NDArray[Any]) -> Read:
    take = column.take
    return lambda places: take(places, 0)


class _Group(NamedTuple):
    """Columns of one type that are read together.

    Attributes:
        names: Their names.
        lines: Which lines of their table's origins are theirs.
        read: Copies rows of all of them.
        many: Their rows as a tensor, for many rows; None for number columns.
    """

    names: tuple[str, ...]
    lines: slice
    read: Read
    many: Tensor | None


class _Kind(NamedTuple):
    """The token columns, or the number columns, of a gather.

    Attributes:
        origins: int64[columns, shards], where row 0 of the cache would lie if all rows lay as those of the shard do.
        stride: Values from row to row.
        groups: The columns.
    """

    origins: Ints
    stride: int
    groups: list[_Group]


class ManyShards:
    """The rows of a cache of several shards.

    One span holds the maps of all shards and whatever lies between them in the address space; every value of it may
    begin a row, because shards need not lie at a multiple of a row's size from each other. What lies between is never
    touched: only places of rows are read.
    """

    def __init__(self, shards: Sequence[FeatureShard], pad_left: bool):
        self._shards = shards  # keep the maps alive
        self._pad_left = pad_left
        self._length = shards[0].columns["input_ids"].shape[1]
        self._stops = np.array([shard.row_stop for shard in shards], np.uint64)
        columns = [column for shard in shards for column in shard.columns.values()]
        self._base = min(column.ctypes.data for column in columns)
        stop = max(column.ctypes.data + column.nbytes for column in columns)
        self._span = Span(self._base, stop - self._base)
        self._plans: dict[tuple[tuple[str, ...], int | None], list[_Kind]] = {}

    def gather(self, rows: Tensor, names: Sequence[str], width: int | None) -> dict[str, Tensor]:
        """See `StoredRows`."""
        key = tuple(names), width
        plan = self._plans.get(key) or self._prepare(*key)
        wanted = rows.numpy()
        # Without their sign, negative rows lie after all shards: `take` refuses them, and those that are too large.
        shard_of_row = self._stops.searchsorted(wanted.view(np.uint64), "right")
        is_many = len(wanted) * (width or self._length) > MANY_VALUES
        found = dict.fromkeys(key[0], rows)
        for kind in plan:
            places = kind.origins.take(shard_of_row, 1)
            places += wanted * kind.stride if kind.stride > 1 else wanted
            for group in kind.groups:
                lines = places[group.lines]
                if is_many and group.many is not None:
                    for line, name in enumerate(group.names):
                        found[name] = group.many.index_select(0, from_numpy(lines[line]))
                else:
                    values = group.read(lines)
                    for line, name in enumerate(group.names):
                        found[name] = from_numpy(values[line])
        return found

    def _prepare(self, names: tuple[str, ...], width: int | None) -> list[_Kind]:
        sample = self._shards[0].columns
        tokens = [name for name in dict.fromkeys(names) if sample[name].ndim == 2]
        numbers = [name for name in dict.fromkeys(names) if sample[name].ndim == 1]
        part = _part(self._length, width, self._pad_left)
        plan = [self._kind(tokens, self._length, part), self._kind(numbers, 1, None)]
        return self._plans.setdefault((names, width), [kind for kind in plan if kind.groups])

    def _kind(self, names: list[str], stride: int, part: Part | None) -> _Kind:
        sample = self._shards[0].columns
        order = sorted(names, key=lambda name: sample[name].dtype.num)
        groups: list[_Group] = []
        start = 0
        for dtype, members in groupby(order, lambda name: sample[name].dtype):
            group = tuple(members)
            lines = slice(start, start + len(group))
            if part is None:
                groups.append(_Group(group, lines, self._span.numbers(dtype).__getitem__, None))
            else:
                read, many = self._span.read_parts(dtype, 1, part), self._span.parts(dtype, 1, part)
                groups.append(_Group(group, lines, read, many))
            start = lines.stop
        return _Kind(np.array([self._origins(name, stride) for name in order], np.int64), stride, groups)

    def _origins(self, name: str, stride: int) -> list[int]:
        # Arrow aligns buffers by 8 bytes and maps begin with a page: distances are multiples of the item's size.
        columns = ((shard.columns[name], shard.row_start) for shard in self._shards)
        return [
            (column.ctypes.data - self._base) // column.itemsize - row_start * stride for column, row_start in columns
        ]
