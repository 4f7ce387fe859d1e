"""NumPy memmap: one .npy file a column."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.readers.base import Batch, loader_epoch, whole_columns
from memxlnet.load.tensors import MODEL_COLUMNS


def write(directory: Path, folder: Path) -> None:
    """Write each column of a cache; of one shard, they are written from the map, not from RAM."""
    for name, column in whole_columns(directory).items():
        np.save(folder / f"{name}.npy", column.numpy())


class NumpyReader:
    """`take` from mapped arrays, as plain arrays, which NumPy gathers from faster than from its class `memmap`."""

    def __init__(self, path: Path):
        self._columns = {name: np.asarray(np.load(path / f"{name}.npy", mmap_mode="r")) for name in MODEL_COLUMNS}

    def __len__(self) -> int:
        return len(self._columns["input_ids"])

    def row(self, row: int) -> Batch:
        """Copies: torch has no read-only tensors."""
        return {name: torch.from_numpy(np.array(column[row])) for name, column in self._columns.items()}

    def batch(self, rows: Tensor) -> Batch:
        """One gather a column."""
        places = rows.numpy()
        return {name: torch.from_numpy(column.take(places, axis=0)) for name, column in self._columns.items()}

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Torch's loader, which asks for all rows of a batch at once."""
        return loader_epoch(lambda rows: self.batch(torch.tensor(rows)), len(self), batch_size, shuffle)
