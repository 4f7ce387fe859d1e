"""The features of a lazy cache as tensors: shards are opened when rows of them are read."""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from memxlnet.errors import SettingsError
from memxlnet.format.published import FeatureShard, PublishedCache
from memxlnet.load.gather import OneShard
from memxlnet.load.tensors import MODEL_COLUMNS, TOKEN_COLUMNS, FeatureTensors, feature_dtypes


class LazyTensors(FeatureTensors):
    """See `FeatureTensors`; every call that reads rows may wait for files.

    A view of a row keeps its map, also after the file of the shard was removed.
    """

    def _open(self, cache: PublishedCache) -> None:
        self._rows = LazyRows(cache, self.pad_left)

    def column(self, name: str) -> list[Tensor]:
        """Refuse: a column is in all shards.

        Raises:
            SettingsError: Always.
        """
        self.check_name(name)
        raise SettingsError(
            f"column: expected a cache whose files are all here for {name!r}, found one that was pulled with "
            "lazy=True; pull it without, or gather rows"
        )

    def row(self, row: int) -> dict[str, Tensor]:
        """Return the model's columns of one row in range: views of the map (copies where the map is read-only)."""
        number, local = self._place(row)
        shard = self._shards[number]
        columns = {name: shard.columns[name][local, ...] for name in MODEL_COLUMNS}
        return {
            name: torch.from_numpy(column if shard.writable else np.array(column)) for name, column in columns.items()
        }


class LazyRows:
    """The rows of a lazy cache: one shard after the other is read, so that only one needs to be here."""

    def __init__(self, cache: PublishedCache, pad_left: bool):
        self._shards = cache.features
        self._pad_left = pad_left
        self._length = cache.manifest.max_seq_length
        self._dtypes = feature_dtypes(cache)
        records = cache.manifest.tables["features"].shards
        self._starts = np.array([record.row_start for record in records])
        self._stops = np.array([record.row_stop for record in records], np.uint64)
        # Whoever keeps a shard open keeps this as well.
        self._opened: WeakKeyDictionary[FeatureShard, OneShard] = WeakKeyDictionary()

    def gather(self, rows: Tensor, names: Sequence[str], width: int | None) -> dict[str, Tensor]:
        """See `StoredRows`."""
        wanted = rows.numpy()
        # Without their sign, negative rows lie after all shards.
        shard = self._stops.searchsorted(wanted.view(np.uint64), "right")
        numbers = np.unique(shard).tolist()
        if numbers and numbers[-1] == len(self._stops):
            raise IndexError("a row is out of range")
        if not numbers:
            return self._empty(names, width)
        found: dict[str, Tensor] = {}
        for number in numbers:
            places = torch.from_numpy(np.flatnonzero(shard == number))
            part = self._of(number, rows[places] - int(self._starts[number]), names, width)
            if len(numbers) == 1:
                return part
            for name, values in part.items():
                if name not in found:
                    found[name] = values.new_empty((len(wanted), *values.shape[1:]))
                found[name].index_copy_(0, places, values)
        return found

    def _empty(self, names: Sequence[str], width: int | None) -> dict[str, Tensor]:
        found = {}
        for name in names:
            shape = (0, width or self._length) if name in TOKEN_COLUMNS else (0,)
            found[name] = torch.from_numpy(np.empty(shape, self._dtypes[name]))
        return found

    def _of(self, number: int, rows: Tensor, names: Sequence[str], width: int | None) -> dict[str, Tensor]:
        shard: Any = self._shards[number]
        one = self._opened.get(shard)
        if one is None:
            one = self._opened.setdefault(shard, OneShard(shard, self._pad_left))
        return one.gather(rows, names, width)
