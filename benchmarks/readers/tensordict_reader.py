"""tensordict: memory-mapped tensors, one file a column, indexed together."""

from collections.abc import Iterator
from pathlib import Path

from tensordict import TensorDict
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.readers.base import Batch, whole_columns
from memxlnet.load.tensors import MODEL_COLUMNS


def write(directory: Path, folder: Path) -> None:
    """Write each column of a cache; of one shard, they are written from the map, not from RAM."""
    columns = whole_columns(directory)
    TensorDict(columns, batch_size=[len(columns["input_ids"])]).memmap(folder)


class TensorDictReader:
    """One index operation a batch; mapped for reading only, as the documentation recommends."""

    def __init__(self, path: Path):
        self._rows = TensorDict.load_memmap(path, mode="r")

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, row: int) -> Batch:
        """A copy, because a view of the map would be handed out without a byte being read."""
        return _tensors(self._rows[row].clone())

    def batch(self, rows: Tensor) -> Batch:
        """All rows at once."""
        return _tensors(self._rows[rows])

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Torch's loader, which asks for all rows of a batch at once: a tensordict is a dataset of its rows."""
        return iter(DataLoader(self._rows, batch_size, shuffle=shuffle, collate_fn=_tensors))


def _tensors(found: TensorDict) -> Batch:
    return {name: found[name] for name in MODEL_COLUMNS}
