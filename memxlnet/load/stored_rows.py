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
from torch import Tensor

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
            rows: int64[n] rows; negative ones may count from the end.
            names: Columns that exist.
            width: Tokens of a row that stay; None for all.

        Raises:
            IndexError: A row is out of range, or negative where these cannot be gathered; as_rows tells them apart.
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
        items = np.ndarray(
            (count,),
            f"V{part.width * dtype.itemsize}",
            self._memory,
            part.skip * dtype.itemsize,
            (stride * dtype.itemsize,),
        )
        width = part.width

        def read(places: Ints) -> NDArray[Any]:
            return items[places].view(dtype).reshape(*places.shape, width)

        return read

    def parts(self, dtype: np.dtype[Any], stride: int, part: Part) -> Tensor:
        """The parts of rows that `read_parts` copies as a tensor [places, width]; rows may overlap."""
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
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
        return {name: torch.from_numpy(few[name](places)) for name in names}

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
        places: Which of the plan's places are theirs.
        read: Copies them together.
        many: Their rows for many places; None for number columns.
    """

    names: tuple[str, ...]
    places: slice
    read: Read
    many: Tensor | None


class _Plan(NamedTuple):
    """How some columns are read.

    Attributes:
        origins: int64[columns, 2 * shards], where row 0 of the table would lie if all rows lay as in the shard.
        strides: int64[columns, 1], from row to row.
        groups: The columns in the order of these.
        in_order: Whether that is the order in which they were asked for.
    """

    origins: Ints
    strides: Ints
    groups: list[_Group]
    in_order: bool


class ManyShards:
    """The rows of a cache of several shards.

    One span holds the maps of all shards and whatever lies between them in the address space; every value of it may
    begin a row, because shards need not lie at a multiple of a row's size from each other. What lies between is never
    touched: only places of rows are read. Rows are counted from the end of a second table before the first, so that
    negative rows are rows like others, and one search finds both the shard and what is out of range.
    """

    def __init__(self, shards: Sequence[FeatureShard], pad_left: bool):
        self._shards = shards  # keep the maps alive
        self._pad_left = pad_left
        self._length = shards[0].columns["input_ids"].shape[1]
        self._num_rows = shards[-1].row_stop
        stops = [shard.row_stop for shard in shards]
        self._bounds = np.array([*stops, *(self._num_rows + stop for stop in stops)], np.uint64)
        columns = [column for shard in shards for column in shard.columns.values()]
        self._base = min(column.ctypes.data for column in columns)
        stop = max(column.ctypes.data + column.nbytes for column in columns)
        self._span = Span(self._base, stop - self._base)
        self._plans: dict[tuple[tuple[str, ...], int | None], _Plan] = {}

    def gather(self, rows: Tensor, names: Sequence[str], width: int | None) -> dict[str, Tensor]:
        """See `StoredRows`."""
        key = tuple(names), width
        plan = self._plans.get(key) or self._prepare(*key)
        # From -rows, which is 0 now, to twice as many; anything else is larger without its sign.
        counted = rows.numpy() + self._num_rows
        shard_of_row = self._bounds.searchsorted(counted.view(np.uint64), "right")
        places = plan.origins.take(shard_of_row, 1)
        places += counted * plan.strides
        many = len(counted) * (width or self._length) > MANY_VALUES
        found: dict[str, Tensor] = {}
        for group in plan.groups:
            if many and group.many is not None:
                for name, place in zip(group.names, torch.from_numpy(places[group.places]), strict=True):
                    found[name] = group.many.index_select(0, place)
            else:
                for name, values in zip(group.names, group.read(places[group.places]), strict=True):
                    found[name] = torch.from_numpy(values)
        return found if plan.in_order else {name: found[name] for name in names}

    def _prepare(self, names: tuple[str, ...], width: int | None) -> _Plan:
        sample = self._shards[0].columns
        part = _part(self._length, width, self._pad_left)

        def kind(name: str) -> tuple[int, int]:
            return -sample[name].ndim, -sample[name].dtype.num

        order = sorted(dict.fromkeys(names), key=kind)
        groups: list[_Group] = []
        start = 0
        for _, group in groupby(order, kind):
            members = tuple(group)
            dtype, tokens = sample[members[0]].dtype, sample[members[0]].ndim == 2
            stop = start + len(members)
            read = self._span.read_parts(dtype, 1, part) if tokens else self._span.numbers(dtype).__getitem__
            many = self._span.parts(dtype, 1, part) if tokens else None
            groups.append(_Group(members, slice(start, stop), read, many))
            start = stop
        strides = np.array([[self._length if sample[name].ndim == 2 else 1] for name in order], np.int64)
        origins = np.array([self._origins(name) for name in order], np.int64)
        return self._plans.setdefault(
            (names, width), _Plan(origins.reshape(len(order), -1), strides.reshape(-1, 1), groups, order == list(names))
        )

    def _origins(self, name: str) -> list[int]:
        columns = [shard.columns[name] for shard in self._shards]
        width = columns[0].shape[1] if columns[0].ndim == 2 else 1
        # Arrow aligns buffers by 8 bytes and maps begin with a page: distances are multiples of the item's size.
        first = [
            (column.ctypes.data - self._base) // column.itemsize - shard.row_start * width
            for column, shard in zip(columns, self._shards, strict=True)
        ]
        return [*first, *(origin - self._num_rows * width for origin in first)]
