"""A cache, opened from what a caller passes."""

import os
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memxlnet.errors import SettingsError
from memxlnet.format.joined import repeated_ids
from memxlnet.format.opened_parts import CacheView, open_view
from memxlnet.format.paths import as_directory
from memxlnet.format.published import PublishedCache


class HasCache(Protocol):
    """Anything that reads a cache, such as a dataset."""

    @property
    def cache(self) -> PublishedCache:
        """The cache."""


CacheLike = PublishedCache | HasCache | str | os.PathLike[str]
"""An opened cache, a dataset over one or a view of it, or the directory of a published one or of a list of parts."""


def documents_in_view(value: CacheLike) -> NDArray[np.bool_] | None:
    """Return bool[documents of the cache], which ones a view holds; None where all count."""
    return _documents_of(_opened(value))


def _documents_of(view: CacheView) -> NDArray[np.bool_] | None:
    if view.chosen is None:
        return None
    held = np.zeros(view.cache.num_documents, np.bool_)
    held[view.chosen] = True
    return held


def open_with_view(value: CacheLike) -> tuple[PublishedCache, NDArray[np.bool_] | None]:
    """Return the cache that a caller passed, and which of its documents count, each of which has an id of its own.

    Raises:
        SettingsError: It is not a cache, or an id occurs in several of those that are joined.
        CacheError: The directory holds no cache, a damaged one, or one of another format version; or a part of the
            list is missing, damaged, or another one than the list names.
    """
    view = _opened(value)
    cache, held = view.cache, _documents_of(view)
    if len(cache.directories) > 1:
        for earlier, later in repeated_ids(cache, held).tolist():
            raise SettingsError(
                f"cache: expected each id once, found {cache.documents.text('id', later)!r:.120} in "
                f"{cache.source_of(earlier)} and {cache.source_of(later)}; evaluate each cache alone, or a view "
                "without the repeated documents"
            )
    return cache, held


def _opened(value: CacheLike) -> CacheView:
    """Return the cache that a caller passed, or that of a dataset or a directory, and the documents that count."""
    if isinstance(value, PublishedCache):
        return CacheView(value, None)
    found = getattr(value, "cache", None)
    if isinstance(found, PublishedCache):
        return CacheView(found, getattr(value, "chosen", None))
    if isinstance(value, str | os.PathLike):
        return open_view(as_directory("cache", value))
    raise SettingsError(
        f"cache: expected a cache, a dataset over one or the directory of one, found {type(value).__name__}"
    )


def batches_in_view(cache: PublishedCache, held: NDArray[np.bool_] | None) -> Iterator[pa.RecordBatch]:
    """Yield the documents of a view, batch by batch in the order of the cache."""
    first = 0
    for batch in cache.documents.batches():
        yield batch if held is None else batch.filter(pa.array(held[first : first + batch.num_rows]))
        first += batch.num_rows
