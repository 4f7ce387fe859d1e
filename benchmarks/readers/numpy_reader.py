"""NumPy memmap: one .npy file per column."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.readers.base import Batch, loader_epoch, whole_columns
from memxlnet.load.tensors import MODEL_COLUMNS


def write(directory: Path, folder: Path) -> None:
    """Write each column of a cache; with one shard, straight from the map."""
    for name, column in whole_columns(directory).items():
        np.save(folder / f"{name}.npy", column.numpy())


class NumpyReader:
    """Takes rows from mapped arrays, as plain arrays, from which NumPy gathers faster than from `numpy.memmap`."""

    def __init__(self, path: Path):
        self._columns = {name: np.asarray(np.load(path / f"{name}.npy", mmap_mode="r")) for name in MODEL_COLUMNS}

    def __len__(self) -> int:
        return len(self._columns["input_ids"])

    def row(self, row: int) -> Batch:
        """Copy one row: torch has no read-only tensors."""
        return {name: torch.from_numpy(np.array(column[row])) for name, column in self._columns.items()}

    def batch(self, rows: Tensor) -> Batch:
        """Gather rows, one gather per column."""
        places = rows.numpy()
        return {name: torch.from_numpy(column.take(places, axis=0)) for name, column in self._columns.items()}

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Iterate with torch's loader, which fetches all rows of a batch in one call."""
        return loader_epoch(lambda rows: self.batch(torch.tensor(rows)), len(self), batch_size, shuffle)
