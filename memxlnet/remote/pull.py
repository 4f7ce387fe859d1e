"""Fetching a cache from a store: each file checked as it comes in, all of them published together."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from memxlnet.errors import CacheMismatchError, TransferError
from memxlnet.format.manifest import FileRecord
from memxlnet.format.paths import as_directory
from memxlnet.maintain.incoming_cache import Arrival
from memxlnet.progress import progress_bar
from memxlnet.remote.stored_caches import read_stored_manifest
from memxlnet.remote.stores import BLOCK_BYTES, Store, open_store
from memxlnet.settings import DEFAULT_CACHE_DIR, check_bool

logger = logging.getLogger(__name__)


def pull(
    url: str,
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    *,
    replace: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> Path:
    """Fetch a cache from a store, unless it is in the cache directory already.

    What arrives is checked against the manifest byte by byte, and nothing counts as a cache before it is complete.
    An interrupted transfer resumes where it ended. Of several processes that ask for one cache at once, one fetches it
    and the others wait. RAM is that of some blocks, for any size.

    Args:
        url: The place of the cache, as `push` took it.
        cache_dir: Directory of the caches.
        replace: Fetch the cache even where it exists, and replace it, such as a damaged one.
        storage_options: Options of the file system, such as credentials; they are never stored or shown. None leaves
            them to the environment.
        progress: Show a progress bar; None shows it where standard error is a terminal.

    Returns:
        The published directory.

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
    for name, value in (("replace", replace), ("progress", progress or False)):
        check_bool(name, value)
    store = open_store(url, storage_options)
    raw = read_stored_manifest(store)
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
            _fetch_file(store, arrival, record, bar)


def _fetch_file(store: Store, arrival: Arrival, record: FileRecord, bar: Any) -> None:
    """Fetch one file, or what is missing of it."""
    found = store.size(record.file)
    if found != record.bytes:
        raise TransferError(
            f"{store.url}/{record.file}: expected {record.bytes:,} bytes (manifest), found "
            f"{'no file' if found is None else f'{found:,}'}; send the cache again"
        )
    part = arrival.part(record)
    start = part.stat().st_size if part.exists() else 0
    if 0 < start <= record.bytes:
        digest = _append(store, record, part, start, bar)
        if digest == record.xxh3_128:
            arrival.accept(record, part, digest)
            return
        logger.warning("%s: the rest in the store does not fit it; fetching all of it", part)
        bar.update(-record.bytes)
    part.unlink(missing_ok=True)
    arrival.accept(record, part, _append(store, record, part, 0, bar))


def _append(store: Store, record: FileRecord, part: Path, start: int, bar: Any) -> str:
    """Fetch a file from a byte on, and return the checksum of the whole."""
    state = xxhash.xxh3_128()
    with part.open("a+b") as file:
        file.seek(0)
        while block := file.read(BLOCK_BYTES):
            state.update(block)
        bar.update(start)
        for block in store.blocks(record.file, start, record.bytes):
            file.write(block)
            state.update(block)
            bar.update(len(block))
    return state.hexdigest()
