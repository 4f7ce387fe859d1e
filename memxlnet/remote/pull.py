"""Fetching a cache from a store: each file checked as it comes in, all of them published together."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

from memxlnet.errors import CacheMismatchError, SettingsError
from memxlnet.format.paths import as_directory
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.incoming_cache import Arrival
from memxlnet.progress import progress_bar
from memxlnet.remote.fetching import check_stored_size, fetch_file
from memxlnet.remote.lazy_pull import check_limit, open_lazily
from memxlnet.remote.stored_caches import read_stored_manifest
from memxlnet.remote.stores import Store, open_store
from memxlnet.settings import DEFAULT_CACHE_DIR, check_bool

logger = logging.getLogger(__name__)


@overload
def pull(
    url: str,
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    *,
    replace: bool = False,
    lazy: Literal[False] = False,
    local_limit: None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> Path: ...


@overload
def pull(
    url: str,
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    *,
    replace: Literal[False] = False,
    lazy: Literal[True],
    local_limit: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> PublishedCache: ...


def pull(
    url: str,
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    *,
    replace: bool = False,
    lazy: bool = False,
    local_limit: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> Path | PublishedCache:
    """Fetch a cache from a store, unless it is in the cache directory already.

    What arrives is checked against the manifest byte by byte, and nothing counts as a cache before it is complete.
    An interrupted transfer resumes where it ended. Of several processes that ask for one cache at once, one fetches it
    and the others wait. RAM is that of some blocks, for any size.

    Args:
        url: The place of the cache, as `push` took it.
        cache_dir: Directory of the caches.
        replace: Fetch the cache even where it exists, and replace it, such as a damaged one.
        lazy: Return once the manifest, the tokenizer, the documents and the contexts are here, and fetch each shard of
            features when it is needed, or ahead of a loader, whose order is known: a build with a small
            ``max_shard_rows`` suits it, and a loader with ``order="shards"``. What has arrived stays, is found by the
            next pull, and is published as a cache by a pull without limit after the last shard has come.
        local_limit: Bytes of shards that may lie in the cache directory: those that were least recently used go. At
            least the largest shard; None for no limit. Only with `lazy`.
        storage_options: Options of the file system, such as credentials; they are never stored or shown. None leaves
            them to the environment.
        progress: Show a progress bar; None shows it where standard error is a terminal.

    Returns:
        The published directory; with `lazy` the open cache.

    Raises:
        SettingsError: An argument is wrong.
        CacheNotFoundError: There is no manifest at the place: no cache, or one that is only half sent.
        CacheMismatchError: The cache has another format version, or another one of this name is in the cache directory.
        CacheDamagedError: The manifest in the store is damaged, or the cache in the cache directory is.
        CacheDirectoryError: The cache directory cannot be created or written, or holds something else of this name.
        MissingLibraryError: The library that serves this kind of address is not installed.
        TransferPermissionError: The store refuses the credentials, or none were given.
        TransferError: The connection or the store failed, a file arrived truncated or changed, or the disk is full.
    """
    directory = as_directory("cache_dir", cache_dir)
    for name, value in (("replace", replace), ("lazy", lazy), ("progress", progress or False)):
        check_bool(name, value)
    limit = check_limit(local_limit)
    if limit is not None and not lazy:
        raise SettingsError(f"local_limit: expected None without lazy=True, found {local_limit}")
    if lazy and replace:
        raise SettingsError("replace: expected False with lazy=True, found True; remove the cache first")
    store = open_store(url, storage_options)
    raw = read_stored_manifest(store)
    if lazy:
        found, source = open_lazily(url, raw, directory, storage_options, limit, progress)
        return PublishedCache(found, source=source)
    try:
        arrival = Arrival(directory, raw, store.url)
    except CacheMismatchError as error:
        raise CacheMismatchError(
            f"{error}; that is the one in the store: send the cache again with replace=True"
        ) from error
    return arrival.obtain(
        lambda: _fetch(store, arrival, progress), replace, "or put this one in its place with replace=True"
    )


def _fetch(store: Store, arrival: Arrival, progress: bool | None) -> None:
    missing = arrival.missing()
    total = arrival.manifest.num_bytes
    with progress_bar(f"fetching {arrival.manifest.name}/{arrival.manifest.split}", progress, "B", total) as bar:
        bar.update(total - sum(record.bytes for record in missing))
        for record in missing:
            check_stored_size(store, record)
            part = arrival.part(record)
            arrival.accept(record, part, fetch_file(store, record, part, bar.update))
