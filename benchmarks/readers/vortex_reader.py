"""Vortex: one compressed file, mapped, read by row indices and by scans."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import vortex
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from benchmarks.readers.base import Batch, loader_epoch, mapped_table
from memxlnet.load.tensors import MODEL_COLUMNS

_COLUMNS = list(MODEL_COLUMNS)

_FILE = "columns.vortex"

_WRITE_ROWS = 8192


def write(directory: Path, folder: Path) -> None:
    """Write the columns of a cache with the default compression, as a stream of batches."""
    vortex.io.write(mapped_table(directory).to_reader(max_chunksize=_WRITE_ROWS), str(folder / _FILE))


class VortexReader:
    """Reads a row by a prepared scan, lists of rows by their indices, sequential batches by a scan.

    The library maps a local file on request, and then reads it without I/O threads and without a copy.
    """

    def __init__(self, path: Path):
        self._file = vortex.open(str(path / _FILE), memory_map=True)
        self._rows = self._file.to_repeated_scan(_COLUMNS)

    def __len__(self) -> int:
        return len(self._file)

    def row(self, row: int) -> Batch:
        """Read one row with the prepared scan."""
        found = self._rows.execute(row_range=(row, row + 1)).read_all().to_arrow_table()
        return {name: values[0] for name, values in _tensors(found).items()}

    def batch(self, rows: Tensor) -> Batch:
        """Read all rows in one scan, then reorder them: the library takes only strictly increasing indices."""
        indices, places = torch.unique(rows, return_inverse=True)
        found = self._file.to_arrow(_COLUMNS, indices=vortex.array(pa.array(indices.numpy()))).read_all()
        return {name: values.index_select(0, places) for name, values in _tensors(found).items()}

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Scan in order, or iterate over a permutation with torch's loader and row indices."""
        if shuffle:
            return loader_epoch(lambda rows: self.batch(torch.tensor(rows)), len(self), batch_size, shuffle)
        return map(_tensors, self._file.to_arrow(_COLUMNS, batch_size=batch_size))


def _tensors(found: Any) -> Batch:
    """Convert an Arrow table or batch; copy only columns that a scan returns in several chunks."""
    return {name: _tensor(column) for name, column in zip(found.schema.names, found.columns, strict=True)}


def _tensor(column: Any) -> Tensor:
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if hasattr(whole.type, "list_size"):
        return from_dlpack(whole.flatten()).view(len(whole), -1)
    return from_dlpack(whole)
