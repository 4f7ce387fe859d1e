"""The removal of a cache that lies in a store."""

import logging
from collections.abc import Mapping
from typing import Any

from memxlnet.format.paths import MANIFEST
from memxlnet.maintain.removal import decode_own
from memxlnet.remote.stored_caches import read_stored_manifest
from memxlnet.remote.stores import open_store

logger = logging.getLogger(__name__)


def remove_stored_cache(url: str, *, storage_options: Mapping[str, Any] | None = None, dry_run: bool = False) -> int:
    """Remove a cache from a store: its manifest first, so that what is half removed does not count as a cache.

    It is removed only where its manifest is in the format of memxlnet, of any version and even with a failing
    checksum, and its place holds only files of a cache. A removal that is interrupted after the manifest leaves files
    that a further call refuses; send the cache again, then remove it. A process that pulls the cache meanwhile fails.

    Args:
        url: The place of the cache, as `push` took it.
        storage_options: As in `push`.
        dry_run: Only check that it can be removed.

    Returns:
        The bytes of its files.

    Raises:
        SettingsError: An argument is wrong.
        CacheNotFoundError: There is no cache of memxlnet at the place, or it holds other things too.
        MissingLibraryError: The library that serves this kind of address is not installed.
        TransferPermissionError: The store refuses the credentials, or they do not allow it.
        TransferError: The connection or the store failed.
    """
    store = open_store(url, storage_options)
    raw = read_stored_manifest(store)
    entries = store.entries() or {}
    decode_own(raw, store.url, entries)
    if not dry_run:
        store.remove(MANIFEST)
        for name in sorted(entries.keys() - {MANIFEST}):
            store.remove(name)
        store.remove_directory()
        logger.info("%s: removed", store.url)
    return sum(size or 0 for size in entries.values())
