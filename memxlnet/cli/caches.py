"""Caches that a person names on the command line."""

import os
from pathlib import Path

from memxlnet.errors import CacheNotFoundError
from memxlnet.store.manifest import Manifest, find_caches, read_manifest
from memxlnet.store.paths import MANIFEST, as_directory


def find_directory(cache: Path) -> Path:
    """The directory of a cache that a person named, with the caches in it where it is a directory of caches.

    Raises:
        CacheNotFoundError: It is no cache.
    """
    path = as_directory("CACHE", cache)
    if os.path.isdir(path) and not os.path.exists(path / MANIFEST):  # noqa: PTH110, PTH112 - a name may be too long
        inside = [directory.name for directory, _ in find_caches(path)]
        if inside:
            more = f", and {len(inside) - 5} more" if len(inside) > 5 else ""
            raise CacheNotFoundError(
                f"{path}: expected a cache, found a directory of caches: {', '.join(inside[:5])}{more}; name one"
            )
    return path


def read_cache(cache: Path) -> tuple[Path, Manifest]:
    """The directory and the manifest of a cache that a person named.

    Raises:
        CacheError: It is no cache, of another format version, or damaged.
    """
    directory = find_directory(cache)
    return directory, read_manifest(directory)
