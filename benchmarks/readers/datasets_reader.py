"""`datasets`: a memory-mapped Arrow dataset in torch or NumPy format."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from benchmarks.readers.base import Batch, mapped_table


def write(directory: Path, folder: Path) -> None:
    """Save the columns of a cache; the library streams them from the map."""
    datasets.disable_progress_bars()
    datasets.Dataset(mapped_table(directory)).save_to_disk(folder)


class _DatasetsReader:
    """Reads lists of rows in one call, as the documentation recommends.

    By default the formats convert all integers to int64; ``dtype=None`` keeps the stored types without conversion.
    """

    _format: str

    def __init__(self, path: Path):
        self._rows = datasets.load_from_disk(path).with_format(self._format, dtype=None)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, row: int) -> Batch:
        """Read one row."""
        return _tensors(self._rows[row])

    def batch(self, rows: Tensor) -> Batch:
        """Read a list of rows in one call."""
        return _tensors(self._rows[rows.tolist()])

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Iterate with torch's loader and a batch sampler; batch_size=None passes its lists to the dataset."""
        rows: Any = RandomSampler(self._rows) if shuffle else SequentialSampler(self._rows)
        batches: Any = BatchSampler(rows, batch_size, drop_last=False)
        return iter(DataLoader(self._rows, sampler=batches, batch_size=None))


class DatasetsTorchReader(_DatasetsReader):
    """The torch format."""

    _format = "torch"


class DatasetsNumpyReader(_DatasetsReader):
    """The NumPy format; torch's loader converts the arrays to tensors without a copy, and so do `row` and `batch`."""

    _format = "numpy"


def _tensors(found: dict[str, Any]) -> Batch:
    return {name: torch.as_tensor(values) for name, values in found.items()}
