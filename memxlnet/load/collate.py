"""From gathered rows to one batch, for torch's `DataLoader`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from memxlnet.errors import SettingsError
from memxlnet.load.batches import CONTEXT_PLACES, DTYPES, RowBatch, as_dtype, context_mask
from memxlnet.load.datasets import CacheDataset
from memxlnet.load.steps import CONTEXT_MASK
from memxlnet.settings import one_of


class Collate:
    """Turns gathered rows into one batch; picklable, so that it crosses to worker processes.

    Args:
        dtype: ``"int64"`` for any transformers model, ``"stored"`` for the types of the file.
        dataset: Where the metadata is read.
        metadata: Names of what a batch holds besides, each a list; ``context_mask`` is bool[rows, max_seq_length].

    Raises:
        SettingsError: There is no such type, or metadata are wanted of no dataset.
    """

    def __init__(self, dtype: str = "int64", dataset: CacheDataset | None = None, metadata: Iterable[str] = ()):
        self.dtype = one_of("dtype", dtype, DTYPES)
        self._names = tuple(metadata)
        if self._names and dataset is None:
            raise SettingsError(f"metadata: expected a dataset to read {', '.join(self._names)} of, found None")
        self._dataset = dataset if dataset is not None and (self._names or dataset.compat) else None

    def __call__(self, rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """The columns of the rows; fresh tensors or those that were gathered."""
        if isinstance(rows, RowBatch):
            columns = rows.columns
        else:
            rows = list(rows)
            columns = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        batch: dict[str, Any] = as_dtype(columns, self.dtype)
        if self._dataset is None:
            return batch
        if "rows" not in columns:
            raise SettingsError(f"metadata: expected batches with 'rows', found {', '.join(columns)}")
        return self._dataset.finished(batch | self._metadata(self._dataset, columns))

    def _metadata(self, dataset: CacheDataset, columns: Mapping[str, Tensor]) -> dict[str, Any]:
        texts = [name for name in self._names if name != CONTEXT_MASK]
        found = dataset.metadata(columns["rows"], texts) if texts else []
        lists: dict[str, Any] = {name: [one and one[name] for one in found] for name in texts}
        if CONTEXT_MASK in self._names:
            places = dataset.tensors.gather(columns["rows"], CONTEXT_PLACES)
            lists[CONTEXT_MASK] = context_mask(places, dataset.manifest.max_seq_length)
        return lists
