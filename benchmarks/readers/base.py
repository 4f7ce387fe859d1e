"""Shared parts of the readers: the interface, the columns of a cache, and PyTorch's loader over batched reads."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from memxlnet import LazySquadLikeQADataset
from memxlnet.load.tensors import MODEL_COLUMNS

Batch = dict[str, Tensor]
"""The model's tensors by name: [n, L] or [n]; of one row, [L] or []."""


class Reader(Protocol):
    """A contestant over its files; gives the tensors of `MODEL_COLUMNS`, in stored types unless documented."""

    def __len__(self) -> int: ...

    def row(self, row: int) -> Batch:
        """Read one row."""
        ...

    def batch(self, rows: Tensor) -> Batch:
        """Read rows, int64[n], in this order; they may repeat."""
        ...

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Read every row once, in batches, as the library's documentation recommends; the last may be smaller."""
        ...


def mapped_table(directory: Path) -> pa.Table:
    """Return the model's columns of a cache as an Arrow table over mapped files, without schema metadata."""
    paths = sorted(directory.glob("features-*.arrow"))
    tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
    table = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    return table.select(list(MODEL_COLUMNS))


def whole_columns(directory: Path) -> Batch:
    """Return the model's columns of a cache: views of the map for one shard, else copies."""
    dataset = LazySquadLikeQADataset.open(directory)
    columns = {name: dataset.column(name) for name in MODEL_COLUMNS}
    return {name: torch.cat(found) if isinstance(found, list) else found for name, found in columns.items()}


def stacked(rows: list[Batch]) -> Batch:
    """Stack rows into a batch."""
    return {name: torch.stack([row[name] for row in rows]) for name in MODEL_COLUMNS}


class _RowsAtOnce(Dataset[Any]):
    """A dataset from which torch's loader fetches all rows of a batch in one call."""

    def __init__(self, read: Callable[[list[int]], Batch], num_rows: int):
        self._read = read
        self._num_rows = num_rows

    def __len__(self) -> int:
        return self._num_rows

    def __getitems__(self, rows: list[int]) -> Batch:
        return self._read(rows)


def _as_is(batch: Any) -> Any:
    return batch


def loader_epoch(read: Callable[[list[int]], Batch], num_rows: int, batch_size: int, shuffle: bool) -> Iterator[Batch]:
    """Iterate over an epoch of torch's `DataLoader` in the calling process.

    Args:
        read: Reads the batch of some rows.
        num_rows: Number of rows of the files.
        batch_size: Rows in a batch.
        shuffle: Permute the rows.
    """
    return iter(DataLoader(_RowsAtOnce(read, num_rows), batch_size, shuffle=shuffle, collate_fn=_as_is))
