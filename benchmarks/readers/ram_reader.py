"""RAM tensors: all columns are read into RAM before the first row."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.readers.base import Batch, loader_epoch, whole_columns

_FILE = "columns.pt"


def write(directory: Path, folder: Path) -> None:
    """Write the columns of a cache as one file; with one shard, straight from the map."""
    torch.save(whole_columns(directory), folder / _FILE)


class RamReader:
    """Reads by `index_select` on tensors in RAM."""

    def __init__(self, path: Path):
        self._columns: Batch = torch.load(path / _FILE, weights_only=True)

    def __len__(self) -> int:
        return len(self._columns["input_ids"])

    def row(self, row: int) -> Batch:
        """Return views of one row."""
        return {name: column[row] for name, column in self._columns.items()}

    def batch(self, rows: Tensor) -> Batch:
        """Select rows, one `index_select` per column."""
        return {name: column.index_select(0, rows) for name, column in self._columns.items()}

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Iterate with torch's loader, which fetches all rows of a batch in one call."""
        return loader_epoch(lambda rows: self.batch(torch.tensor(rows)), len(self), batch_size, shuffle)
