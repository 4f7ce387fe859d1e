"""A cache, opened from what a caller passes."""

import os
from typing import Protocol

from memxlnet.errors import SettingsError
from memxlnet.format.paths import as_directory
from memxlnet.format.published import PublishedCache


class HasCache(Protocol):
    """Anything that reads a cache, such as a dataset."""

    @property
    def cache(self) -> PublishedCache:
        """The cache."""


CacheLike = PublishedCache | HasCache | str | os.PathLike[str]
"""An opened cache, a dataset over one, or the directory of a published one."""


def open_cache(value: CacheLike) -> PublishedCache:
    """Return the cache that a caller passed.

    Args:
        value: A cache, something with a ``cache``, or a directory.

    Raises:
        SettingsError: It is not one of these.
        CacheError: The directory holds no cache, a damaged one, or one of another format version.
    """
    if isinstance(value, PublishedCache):
        return value
    found = getattr(value, "cache", None)
    if isinstance(found, PublishedCache):
        return found
    if isinstance(value, str | os.PathLike):
        return PublishedCache(as_directory("cache", value))
    raise SettingsError(
        f"cache: expected a cache, a dataset over one or the directory of one, found {type(value).__name__}"
    )
