"""memxlnet: the published cache."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.readers.base import Batch
from memxlnet import LazySquadLikeQADataset, create_dataloader
from memxlnet.load.tensors import MODEL_COLUMNS


class MemxlnetReader:
    """Reads batches by `gather`, and epochs with the regular loader."""

    def __init__(self, path: Path):
        self._dataset = LazySquadLikeQADataset.open(path)

    def __len__(self) -> int:
        return len(self._dataset)

    def row(self, row: int) -> Batch:
        """Copy one row: a view of the map would be returned without reading a byte."""
        return {name: values[0] for name, values in self._dataset.gather(torch.tensor([row])).items()}

    def batch(self, rows: Tensor) -> Batch:
        """Gather rows, one gather per column."""
        return self._dataset.gather(rows)

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Iterate with the regular loader, which gathers a few columns more than the model takes."""
        loader: DataLoader[Any] = create_dataloader(
            self._dataset, batch_size, shuffle=shuffle, use_time_step_major=False, dtype="stored"
        )
        for batch in loader:
            yield {name: batch[name] for name in MODEL_COLUMNS}
