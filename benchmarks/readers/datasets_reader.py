"""`datasets`: an Arrow dataset on disk, mapped, in torch or NumPy format."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from benchmarks.readers.base import Batch, mapped_table


def write(directory: Path, folder: Path) -> None:
    """Save the columns of a cache, which the library streams from the map."""
    datasets.disable_progress_bars()
    datasets.Dataset(mapped_table(directory)).save_to_disk(folder)


class _DatasetsReader:
    """Lists of rows are read in one call, as the documentation recommends.

    The formats turn all integers into int64 unless they are told a type; None leaves the stored types, and saves the
    conversion.
    """

    _format: str

    def __init__(self, path: Path):
        self._rows = datasets.load_from_disk(path).with_format(self._format, dtype=None)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, row: int) -> Batch:
        """One row in the format."""
        return _tensors(self._rows[row])

    def batch(self, rows: Tensor) -> Batch:
        """A list of rows at once."""
        return _tensors(self._rows[rows.tolist()])

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Torch's loader with a sampler of whole batches: batch_size=None hands their lists to the dataset."""
        rows: Any = RandomSampler(self._rows) if shuffle else SequentialSampler(self._rows)
        batches: Any = BatchSampler(rows, batch_size, drop_last=False)
        return iter(DataLoader(self._rows, sampler=batches, batch_size=None))


class DatasetsTorchReader(_DatasetsReader):
    """In torch format."""

    _format = "torch"


class DatasetsNumpyReader(_DatasetsReader):
    """In NumPy format; torch's loader turns the arrays into tensors without a copy, and so do rows and batches."""

    _format = "numpy"


def _tensors(found: dict[str, Any]) -> Batch:
    return {name: torch.as_tensor(values) for name, values in found.items()}
