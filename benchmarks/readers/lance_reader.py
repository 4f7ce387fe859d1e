"""Lance: a dataset of one fragment, read by `take` and by scans."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from benchmarks.readers.base import Batch, loader_epoch, mapped_table
from memxlnet.load.tensors import MODEL_COLUMNS

_COLUMNS = list(MODEL_COLUMNS)

_WRITE_ROWS = 8192


def write(directory: Path, folder: Path) -> None:
    """Write the columns of a cache in the default format, as a stream of batches."""
    lance.write_dataset(mapped_table(directory).to_reader(max_chunksize=_WRITE_ROWS), folder)


class LanceReader:
    """Reads rows and shuffled batches by `take`, sequential batches by a scan, which reads ahead."""

    def __init__(self, path: Path):
        self._dataset = lance.dataset(path)

    def __len__(self) -> int:
        return int(self._dataset.count_rows())

    def row(self, row: int) -> Batch:
        """Take one row."""
        return {name: values[0] for name, values in self._taken([row]).items()}

    def batch(self, rows: Tensor) -> Batch:
        """Take all rows in one call."""
        return self._taken(rows.tolist())

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Scan in order, or iterate over a permutation with torch's loader and `take`."""
        if shuffle:
            return loader_epoch(self._taken, len(self), batch_size, shuffle)
        return map(_tensors, self._dataset.to_batches(columns=_COLUMNS, batch_size=batch_size))

    def _taken(self, rows: list[int]) -> Batch:
        (batch,) = self._dataset.take(rows, columns=_COLUMNS).to_batches()
        return _tensors(batch)


def _tensors(batch: Any) -> Batch:
    """Convert an Arrow batch without a copy, through DLPack: torch warns of read-only NumPy arrays."""
    return {name: _tensor(column) for name, column in zip(batch.schema.names, batch.columns, strict=True)}


def _tensor(column: Any) -> Tensor:
    if hasattr(column.type, "list_size"):
        return from_dlpack(column.flatten()).view(len(column), -1)
    return from_dlpack(column)
