"""memxlnet: the cache as it was published."""

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
    """`gather`, and the regular loader."""

    def __init__(self, path: Path):
        self._dataset = LazySquadLikeQADataset.open(path)

    def __len__(self) -> int:
        return len(self._dataset)

    def row(self, row: int) -> Batch:
        """A copy, because a view of the map would be handed out without a byte being read."""
        return {name: values[0] for name, values in self._dataset.gather(torch.tensor([row])).items()}

    def batch(self, rows: Tensor) -> Batch:
        """One gather a column."""
        return self._dataset.gather(rows)

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """The regular loader, which gathers a few more columns for every batch than the model takes."""
        loader: DataLoader[Any] = create_dataloader(
            self._dataset, batch_size, shuffle=shuffle, use_time_step_major=False, dtype="stored"
        )
        for batch in loader:
            yield {name: batch[name] for name in MODEL_COLUMNS}
