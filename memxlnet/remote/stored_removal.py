"""The removal of a cache that lies in a store."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from memxlnet.format.paths import MANIFEST
from memxlnet.maintain.removal import decode_own
from memxlnet.remote.stored_caches import read_stored_manifest
from memxlnet.remote.stores import open_store

logger = logging.getLogger(__name__)

_SHARD = r"(?:features|documents|contexts|kept)-[0-9]{5,}\.arrow(?:\.sending)?"
_FILE = rf"{_SHARD}|(?:tokenizer\.json|dropped\.jsonl|manifest\.json)(?:\.sending)?"


def remove_stored_cache(url: str, *, storage_options: Mapping[str, Any] | None = None, dry_run: bool = False) -> int:
    """Remove a cache from a store: its manifest first, so that what is half removed does not count as a cache.

    It is removed only where its manifest is in the format of memxlnet, of any version and even with a failing
    checksum, and its place holds only files of a cache. Without a manifest, as a removal or a transfer leaves it that
    was interrupted, all that lies there must have the names of a cache's files, a shard among them. A process that
    pulls the cache meanwhile fails.

    Args:
        url: The place of the cache, as `push` took it.
        storage_options: As in `push`.
        dry_run: Only check that it can be removed.

    Returns:
        The bytes of its files.

    Raises:
        SettingsError: An argument is wrong, or the address is one of a web server.
        CacheNotFoundError: There is no cache of memxlnet at the place, or it holds other things too.
        MissingLibraryError: The library that serves this kind of address is not installed.
        TransferPermissionError: The store refuses the credentials, or they do not allow it.
        TransferError: The connection or the store failed.
    """
    store = open_store(url, storage_options)
    store.check_lists()
    entries = store.entries() or {}
    if MANIFEST in entries or not _is_rest_of_a_cache(entries):
        decode_own(read_stored_manifest(store), store.url, entries)
    if not dry_run:
        store.remove(MANIFEST)
        # Shards last: by them the rest is known where this is interrupted.
        for name in sorted(entries.keys() - {MANIFEST}, key=lambda name: (_is_shard(name), name)):
            store.remove(name)
        store.remove_directory()
        logger.info("%s: removed", store.url)
    return sum(size or 0 for size in entries.values())


def _is_rest_of_a_cache(entries: Mapping[str, int | None]) -> bool:
    """Return whether all that lies at a place are files with the names of a cache's, one of its shards among them."""
    are_own = all(size is not None and re.fullmatch(_FILE, name) for name, size in entries.items())
    return are_own and any(map(_is_shard, entries))


def _is_shard(name: str) -> bool:
    return re.fullmatch(_SHARD, name) is not None
