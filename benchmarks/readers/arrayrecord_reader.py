"""ArrayRecord: one record of bytes per row, which holds the fixed-size columns."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from torch import Tensor

from benchmarks.readers.base import Batch, loader_epoch
from memxlnet import LazySquadLikeQADataset
from memxlnet.load.tensors import MODEL_COLUMNS

_FILE = "rows.array_record"

_LAYOUT = "row.npy"

_WRITE_ROWS = 1000


def write(directory: Path, folder: Path) -> None:
    """Write each row as a separate group, as recommended for random access, and a file with the layout of a row."""
    dataset = LazySquadLikeQADataset.open(directory)
    first = {name: values[0].numpy() for name, values in dataset.gather(range(1)).items()}
    layout = np.dtype([(name, first[name].dtype, first[name].shape) for name in MODEL_COLUMNS])
    np.save(folder / _LAYOUT, np.empty(0, layout))
    records = ArrayRecordWriter(str(folder / _FILE), "group_size:1")
    for start in range(0, len(dataset), _WRITE_ROWS):
        columns = dataset.gather(range(start, min(start + _WRITE_ROWS, len(dataset))))
        rows = np.empty(len(columns["input_ids"]), layout)
        for name in MODEL_COLUMNS:
            rows[name] = columns[name].numpy()
        for row in rows:
            records.write(row.tobytes())
    records.close()


class ArrayRecordReader:
    """Reads all records of a batch in one call; torch's loader makes the same call."""

    def __init__(self, path: Path):
        self._layout = np.load(path / _LAYOUT).dtype
        self._records = ArrayRecordDataSource(str(path / _FILE))

    def __len__(self) -> int:
        return len(self._records)

    def row(self, row: int) -> Batch:
        """Read one record."""
        return {name: values[0] for name, values in self._tensors([self._records[row]]).items()}

    def batch(self, rows: Tensor) -> Batch:
        """Read all records in one call."""
        return self._read(rows.tolist())

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Iterate with torch's loader, which fetches all rows of a batch in one call."""
        return loader_epoch(self._read, len(self), batch_size, shuffle)

    def _read(self, rows: list[int]) -> Batch:
        return self._tensors(self._records.__getitems__(rows))

    def _tensors(self, records: Sequence[bytes]) -> Batch:
        """Copy the columns out of records, so that each is contiguous."""
        rows = np.frombuffer(b"".join(records), self._layout)
        return {name: torch.from_numpy(rows[name].copy()) for name in MODEL_COLUMNS}
