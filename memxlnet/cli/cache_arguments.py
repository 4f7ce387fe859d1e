"""Caches named on the command line."""

import os
from pathlib import Path

from memxlnet.cli.parameters import CACHE_DIR_VARIABLE
from memxlnet.errors import CacheNotFoundError
from memxlnet.format.manifest import Manifest, read_manifest
from memxlnet.format.paths import MANIFEST, as_directory
from memxlnet.settings import DEFAULT_CACHE_DIR


def find_directory(cache: Path) -> Path:
    """Return the directory of a cache named on the command line: a path, or the name of a cache of the usual directory.

    Whether it is a cache is seen when it is opened.
    """
    path = as_directory("CACHE", cache)
    if len(cache.parts) == 1 and not os.path.exists(path):  # noqa: PTH110 - a name may be too long
        usual = as_directory(CACHE_DIR_VARIABLE, os.environ.get(CACHE_DIR_VARIABLE) or DEFAULT_CACHE_DIR) / cache
        path = usual if os.path.exists(usual) else path  # noqa: PTH110
    return path


def directory_of_caches(path: Path | str) -> Path:
    """Return a directory of caches named on the command line.

    Raises:
        CacheNotFoundError: It is not one.
    """
    directory = as_directory("CACHE_DIR", path)
    found = None
    if not directory.is_dir():
        found = "a file" if directory.exists() else "none"
    elif os.path.exists(directory / MANIFEST):  # noqa: PTH110 - Path.exists raises where it may not be entered
        found = "a cache; memxlnet info shows it"
    if found is not None:
        raise CacheNotFoundError(f"{directory}: expected a directory of caches, found {found}")
    return directory


def read_cache(cache: Path) -> tuple[Path, Manifest]:
    """Return the directory and the manifest of a cache named on the command line.

    Raises:
        CacheError: It is not a cache, of another format version, or damaged.
    """
    directory = find_directory(cache)
    return directory, read_manifest(directory)
