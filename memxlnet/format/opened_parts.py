"""A cache, or the parts of a list as one cache, with the documents that count."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from memxlnet.errors import CacheNotFoundError
from memxlnet.format.joined import JoinedCache
from memxlnet.format.part_list import PartList, PartRecord, is_part_list, read_part_list
from memxlnet.format.published import PublishedCache

Opened = TypeVar("Opened", bound=PublishedCache)


class CacheView(NamedTuple):
    """A cache and the documents of it that count.

    Attributes:
        cache: The cache; of a list its parts as one, with the directory, the name and the split of the list.
        chosen: int64[n], the documents; None for all.
    """

    cache: PublishedCache
    chosen: NDArray[np.int64] | None


def open_view(directory: Path) -> CacheView:
    """Open a cache, or the parts of a list.

    Raises:
        CacheError: The cache, the list or a part is missing or damaged, or a part is another one than the list names.
    """
    if not is_part_list(directory):
        return CacheView(PublishedCache(directory), None)
    return view_of_parts(directory, read_part_list(directory))


def view_of_parts(directory: Path, parts: PartList) -> CacheView:
    """Open the parts of a list that was read.

    Raises:
        CacheError: A part is missing or damaged, or another one than the list names.
    """
    cache = JoinedCache([open_part(directory, part, PublishedCache) for part in parts.parts])
    cache.directory = directory
    cache.manifest = replace(cache.manifest, name=parts.name, split=parts.split)
    return CacheView(cache, shown_documents(parts))


def open_part(directory: Path, part: PartRecord, open_cache: Callable[[Path], Opened]) -> Opened:
    """Open the cache of one part.

    Args:
        directory: The directory of the list.
        part: The part.
        open_cache: Opens a cache by its directory.

    Raises:
        CacheError: It is missing, damaged, or another one than the list names.
    """
    place = directory.parent / part.cache
    try:
        cache = open_cache(place)
    except CacheNotFoundError as error:
        files = ", ".join(file.name for file in part.files[:3])
        raise CacheNotFoundError(
            f"{place}: expected the cache of {files}, which the list of parts {directory.name} names, "
            "found none; build the parts again, or pull them"
        ) from error
    part.check(place, cache.manifest)
    return cache


def shown_documents(parts: PartList) -> NDArray[np.int64] | None:
    """Return int64[n], the documents of all parts that are not hidden; None where none is."""
    if not parts.num_hidden:
        return None
    shown = np.ones(parts.documents, np.bool_)
    base = 0
    for part in parts.parts:
        for start, stop in part.hidden:
            shown[base + start : base + stop] = False
        base += part.documents
    return np.flatnonzero(shown)
