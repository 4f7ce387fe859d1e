"""tensordict: memory-mapped tensors, one file per column, indexed together."""

from collections.abc import Iterator
from pathlib import Path

from tensordict import TensorDict
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.readers.base import Batch, whole_columns
from memxlnet.load.tensors import MODEL_COLUMNS


def write(directory: Path, folder: Path) -> None:
    """Write each column of a cache; with one shard, straight from the map."""
    columns = whole_columns(directory)
    TensorDict(columns, batch_size=[len(columns["input_ids"])]).memmap(folder)


class TensorDictReader:
    """Reads a batch by one index operation; mapped read-only, as the documentation recommends."""

    def __init__(self, path: Path):
        self._rows = TensorDict.load_memmap(path, mode="r")

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, row: int) -> Batch:
        """Copy one row: a view of the map would be returned without reading a byte."""
        return _tensors(self._rows[row].clone())

    def batch(self, rows: Tensor) -> Batch:
        """Read all rows in one call."""
        return _tensors(self._rows[rows])

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Iterate with torch's loader, which fetches a batch in one call: a tensordict is a dataset of its rows."""
        return iter(DataLoader(self._rows, batch_size, shuffle=shuffle, collate_fn=_tensors))


def _tensors(found: TensorDict) -> Batch:
    return {name: found[name] for name in MODEL_COLUMNS}
