"""Where the context stands in the rows of a cache, as arrays."""

from typing import NamedTuple

import numpy as np

from memxlnet.errors import CacheDamagedError
from memxlnet.format.manifest import REBUILD
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints


class RowPlaces(NamedTuple):
    """Where the context stands in some rows: int64[rows] each.

    Attributes:
        document: Whose segment a row is.
        cls_index: Place of ``cls`` in the row.
        context_token_start: The first of the context's tokens that the row holds.
        context_token_count: How many it holds.
        context_row_start: Where they begin in the row.
    """

    document: Ints
    cls_index: Ints
    context_token_start: Ints
    context_token_count: Ints
    context_row_start: Ints

    def take(self, part: slice) -> "RowPlaces":
        """Return those of some of the rows: views."""
        return RowPlaces(*(values[part] for values in self))


class PlaceReader:
    """Reads the places of rows off a cache, however many shards it has.

    Args:
        cache: The cache.
    """

    def __init__(self, cache: PublishedCache):
        self._cache = cache
        self._later_starts = np.array(
            [shard.row_start for shard in cache.manifest.tables["features"].shards[1:]], np.int64
        )

    def read(self, rows: Ints) -> RowPlaces:
        """Return the places of rows.

        Args:
            rows: int64[rows], in range (0 and up), in any order.

        Returns:
            Copies.

        Raises:
            CacheDamagedError: A value cannot be.
        """
        places = self._take(rows)
        length = self._cache.manifest.max_seq_length
        first, count = places.context_row_start, places.context_token_count
        wrong = (places.document < 0) | (places.document >= self._cache.num_documents)
        wrong |= (places.cls_index < 0) | (places.cls_index >= length) | (places.context_token_start < 0)
        wrong |= (first < 0) | (count < 0) | (first + count > length)
        if wrong.any():
            at = int(np.argmax(wrong))
            found = ", ".join(f"{name} {values[at]}" for name, values in zip(places._fields, places, strict=True))
            raise CacheDamagedError(
                f"{self._cache.directory}, row {rows[at]}: expected places within {length} tokens, found {found}",
                hint=REBUILD,
            )
        return places

    def _take(self, rows: Ints) -> RowPlaces:
        shard_of_row = np.searchsorted(self._later_starts, rows, side="right")
        places = RowPlaces(*(np.empty(len(rows), np.int64) for _ in RowPlaces._fields))
        for number in np.unique(shard_of_row).tolist():
            shard = self._cache.features[number]
            here = shard_of_row == number
            local = rows[here] - shard.row_start
            for name, taken in zip(RowPlaces._fields, places, strict=True):
                taken[here] = shard.take(name, local)
        return places
