"""Copies of rows out of the maps of a cache, for any number of shards, and maps that can or cannot be written.

A gather of few rows is made by NumPy, whose operations cost less to start; of many rows by torch, which copies with
several threads. Neither writes to a map, so tensors may lie over a read-only one here; none of them leaves this module.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from memxlnet.format.published import FeatureShard
from memxlnet.load.seeded_random import Ints

MANY_VALUES = 32768
"""Torch's `index_select` works with several threads above this many values (`GRAIN_SIZE` of ATen)."""

Read = Callable[[Ints], NDArray[Any]]


class StoredRows(Protocol):
    """Rows of feature columns."""

    def gather(self, rows: Tensor, names: Sequence[str], width: int | None) -> dict[str, Tensor]:
        """Return fresh tensors by name, [n] or [n, width]; only the bytes that are used are read.

        Args:
            rows: int64[n] rows.
            names: Columns that exist.
            width: Tokens of a row that stay; None for all.

        Raises:
            IndexError: A row is out of range, or may be one that is counted from the end; `as_rows` distinguishes them.
        """
        ...


def stored_rows(shards: Sequence[FeatureShard], pad_left: bool) -> StoredRows:
    """Return the rows of some shards, padded on the left or on the right."""
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
        """Return all values of a type, as an array."""
        values: NDArray[Any] = np.frombuffer(self._memory, dtype, self._size // dtype.itemsize)
        return values

    def read_parts(self, dtype: np.dtype[Any], stride: int, part: Part) -> Read:
        """Return a function that copies parts of rows: int64[...] places, in strides from the start, to [..., width].

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
        """Return the parts of rows that `read_parts` copies as a tensor [places, width]; rows may overlap."""
        kind = from_numpy(np.empty(0, dtype)).dtype
        values = torch.frombuffer(self._memory, dtype=kind, count=self._size // dtype.itemsize)
        count = (len(values) - part.skip - part.width) // stride + 1
        return values.as_strided((count, part.width), (stride, 1), part.skip)


def _is_many(values: int) -> bool:
    return values > MANY_VALUES and torch.get_num_threads() > 1


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
        few = self._few.get(width) or self._prepare_few(width)
        if not _is_many(len(places) * (width or self._length)):
            return {name: from_numpy(few[name](places)) for name in names}
        many = self._many.get(width) or self._prepare_many(width)
        return {
            name: many[name].index_select(0, rows) if name in many else from_numpy(few[name](places)) for name in names
        }

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
        self._many[width] = {
            name: self._spans[name].parts(column.dtype, self._length, part)
            for name, column in self._columns.items()
            if column.ndim == 2
        }
        return self._many[width]


def _taking_rows(column: NDArray[Any]) -> Read:
    take = column.take
    return lambda places: take(places, 0)


class _Plan(NamedTuple):
    """How some columns are read.

    Attributes:
        origins: int64[columns, shards], where row 0 of the cache would lie if all rows lay as those of the shard do.
        strides: int64[columns, 1], values from row to row.
        few: Of each column its line in these, its name, and what copies rows of it.
        many: The rows of token columns as tensors, by name.
    """

    origins: Ints
    strides: Ints
    few: list[tuple[int, str, Read]]
    many: dict[str, Tensor]


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
        starts = np.array([shard.document_start for shard in shards])
        self._document_starts = starts if starts.any() else None
        columns = [column for shard in shards for column in shard.columns.values()]
        self._base = min(column.ctypes.data for column in columns)
        stop = max(column.ctypes.data + column.nbytes for column in columns)
        self._span = Span(self._base, stop - self._base)
        self._plans: dict[tuple[tuple[str, ...], int | None], _Plan] = {}

    def gather(self, rows: Tensor, names: Sequence[str], width: int | None) -> dict[str, Tensor]:
        """See `StoredRows`."""
        key = tuple(names), width
        plan = self._plans.get(key) or self._prepare(*key)
        wanted = rows.numpy()
        # Without their sign, negative rows lie after all shards: `take` refuses them, and those that are too large.
        shard = self._stops.searchsorted(wanted.view(np.uint64), "right")
        places = plan.origins.take(shard, 1)
        places += wanted * plan.strides
        many = plan.many if _is_many(len(wanted) * (width or self._length)) else {}
        found = {
            name: many[name].index_select(0, from_numpy(places[line]))
            if name in many
            else from_numpy(read(places[line]))
            for line, name, read in plan.few
        }
        if self._document_starts is not None and "document" in found:
            found["document"] += from_numpy(self._document_starts[shard])
        return found

    def _prepare(self, names: tuple[str, ...], width: int | None) -> _Plan:
        part = _part(self._length, width, self._pad_left)
        plan = _Plan(np.empty((len(names), len(self._shards)), np.int64), np.ones((len(names), 1), np.int64), [], {})
        for line, name in enumerate(names):
            sample = self._shards[0].columns[name]
            read: Read = self._span.numbers(sample.dtype).__getitem__
            if sample.ndim == 2:
                plan.strides[line] = self._length
                plan.many[name] = self._span.parts(sample.dtype, 1, part)
                read = self._span.read_parts(sample.dtype, 1, part)
            plan.origins[line] = self._origins(name, int(plan.strides[line, 0]))
            plan.few.append((line, name, read))
        return self._plans.setdefault((names, width), plan)

    def _origins(self, name: str, stride: int) -> list[int]:
        # Arrow aligns buffers by 8 bytes and maps begin with a page: distances are multiples of the item's size.
        columns = ((shard.columns[name], shard.row_start) for shard in self._shards)
        return [
            (column.ctypes.data - self._base) // column.itemsize - row_start * stride for column, row_start in columns
        ]
