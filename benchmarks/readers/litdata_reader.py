"""LitData: serialized samples in chunk files, which are mapped if they are on a local disk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from litdata import CombinedStreamingDataset, StreamingDataLoader, StreamingDataset
from litdata.streaming import Cache
from torch import Tensor

from benchmarks.readers.base import Batch
from memxlnet import LazySquadLikeQADataset
from memxlnet.load.tensors import MODEL_COLUMNS, TOKEN_COLUMNS

CHUNK_BYTES = "64MB"
"""Size of the files to write: the default of the library."""

_WRITE_ROWS = 1000

_SHUFFLE_WINDOW = 256

_MAPS_HELD = 64


def write(directory: Path, folder: Path) -> None:
    """Write a cache as chunks with the writer that `litdata.optimize` runs in its workers.

    `optimize` itself deletes folders with fixed names in the system's temporary folder, seeds all random generators
    and installs a handler of SIGINT.
    """
    dataset = LazySquadLikeQADataset.open(directory)
    chunks = Cache(str(folder), chunk_bytes=CHUNK_BYTES)
    for start in range(0, len(dataset), _WRITE_ROWS):
        columns = dataset.gather(range(start, min(start + _WRITE_ROWS, len(dataset))))
        for place in range(len(columns["input_ids"])):
            chunks[start + place] = _sample(columns, place)
    chunks.done()
    chunks.merge()


def _sample(columns: Batch, place: int) -> dict[str, Any]:
    """Return a sample of one-dimensional tensors, which are read without a copy, and numbers, which have no header."""
    return {name: values[place] if name in TOKEN_COLUMNS else int(values[place]) for name, values in columns.items()}


class LitDataReader:
    """Reads single rows, and epochs with the streaming loader; token tensors of a row are views of a read-only map."""

    def __init__(self, path: Path):
        self._path = str(path)
        # Random rows: decode one row at a time, and keep more chunks mapped than streaming needs.
        self._rows = StreamingDataset(self._path, batch_decode=0, max_pre_download=_MAPS_HELD)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, row: int) -> Batch:
        """Read one sample."""
        return {name: torch.as_tensor(value) for name, value in self._rows[row].items()}

    def batch(self, rows: Tensor) -> Batch:
        """Read samples one by one and stack them: a dataset takes no list of rows."""
        samples = [self._rows[row] for row in rows.tolist()]
        found = {name: torch.stack([sample[name] for sample in samples]) for name in TOKEN_COLUMNS}
        for name in MODEL_COLUMNS[len(TOKEN_COLUMNS) :]:
            found[name] = torch.tensor([sample[name] for sample in samples])
        return found

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Iterate with the streaming loader.

        Shuffling is LitData's own: it permutes chunks, blocks of 256 rows in a chunk, and rows in a block. A window of
        decoding as large as a block reads each row once; the default for tensors, 32, decodes most rows many times.
        """
        samples = StreamingDataset(
            self._path, shuffle=shuffle, batch_decode=_SHUFFLE_WINDOW, item_shuffle_window=_SHUFFLE_WINDOW
        )
        return iter(StreamingDataLoader(samples, batch_size=batch_size, num_workers=0))


def mixed_loader(folders: list[Path], weights: list[float], batch_size: int) -> Any:
    """Return a loader over several folders by weights, as the documentation has it for a run that is resumed."""
    datasets = [StreamingDataset(str(folder), shuffle=True, seed=0) for folder in folders]
    combined = CombinedStreamingDataset(datasets, seed=0, weights=weights, iterate_over_all=False)
    return StreamingDataLoader(combined, batch_size=batch_size, num_workers=0)
