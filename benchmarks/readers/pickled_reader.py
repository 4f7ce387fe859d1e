"""Pickled chunks: lists of feature dictionaries written by `torch.save`, loaded chunk by chunk on access.

Question answering code without a columnar cache commonly stores its features like this. Types are int64.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.readers.base import Batch, loader_epoch, stacked
from memxlnet import LazySquadLikeQADataset
from memxlnet.load.tensors import MODEL_COLUMNS

CHUNK_ROWS = 1000
"""Rows per file to write."""

CHUNKS_HELD = 3
"""Maximum number of chunks that a reader keeps."""

_INDEX = "index.json"

_METADATA = ("example_id", "segment_index", "offset_mapping")


def write(directory: Path, folder: Path) -> None:
    """Write a cache as chunks of rows and their index, with one chunk in RAM at a time."""
    dataset = LazySquadLikeQADataset.open(directory)
    files: list[str] = []
    for start in range(0, len(dataset), CHUNK_ROWS):
        rows = range(start, min(start + CHUNK_ROWS, len(dataset)))
        files.append(f"chunk-{len(files):05d}.pt")
        torch.save(_features(dataset, rows), folder / files[-1])
    index = {"rows": len(dataset), "chunk_rows": CHUNK_ROWS, "files": files}
    (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")


def _features(dataset: LazySquadLikeQADataset, rows: range) -> list[dict[str, Any]]:
    columns = {name: values.to(torch.int64) for name, values in dataset.gather(rows).items()}
    features = []
    for place, metadata in enumerate(dataset.metadata(rows, _METADATA)):
        # Copies share no storage, like tensors created row by row, so that each is an entry of the file.
        feature: dict[str, Any] = {name: values[place].clone() for name, values in columns.items()}
        feature |= metadata or {}
        feature["offset_mapping"] = list(map(tuple, feature["offset_mapping"].tolist()))
        features.append(feature)
    return features


class PickledReader:
    """Reads rows one by one, and keeps the most recently used chunks."""

    def __init__(self, path: Path):
        self._path = path
        index = json.loads((path / _INDEX).read_text(encoding="utf-8"))
        self._num_rows, self._chunk_rows, self._files = index["rows"], index["chunk_rows"], index["files"]
        self._held: OrderedDict[int, list[dict[str, Any]]] = OrderedDict()

    def __len__(self) -> int:
        return int(self._num_rows)

    def row(self, row: int) -> Batch:
        """Read one feature from its chunk."""
        feature = self._chunk(row // self._chunk_rows)[row % self._chunk_rows]
        return {name: feature[name] for name in MODEL_COLUMNS}

    def batch(self, rows: Tensor) -> Batch:
        """Read rows one by one and stack them."""
        return self._stacked(rows.tolist())

    def epoch(self, batch_size: int, shuffle: bool) -> Iterator[Batch]:
        """Iterate with torch's loader over the rows."""
        return loader_epoch(self._stacked, len(self), batch_size, shuffle)

    def _stacked(self, rows: list[int]) -> Batch:
        return stacked([self.row(row) for row in rows])

    def _chunk(self, number: int) -> list[dict[str, Any]]:
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        while len(self._held) >= CHUNKS_HELD:
            self._held.popitem(last=False)
        # Written by this benchmark, so trusted. weights_only=True would be slower: its unpickler is pure Python.
        self._held[number] = torch.load(self._path / self._files[number], weights_only=False)
        return self._held[number]
