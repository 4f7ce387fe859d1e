"""Fetching one file of a cache, or what is missing of it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash

from memxlnet.errors import TransferError
from memxlnet.format.manifest import FileRecord
from memxlnet.remote.stores import BLOCK_BYTES, Store

logger = logging.getLogger(__name__)


def fetch_file(store: Store, record: FileRecord, part: Path, update: Callable[[int], Any]) -> str:
    """Fetch a file; its size in the store is not asked for.

    Args:
        store: The place of the cache.
        record: The file.
        part: Where to; the rest of what is there is fetched, or all of it where the rest does not fit.
        update: Called with the bytes that have come since the last call, also those of an earlier fetch.

    Returns:
        The checksum of what is there now.

    Raises:
        TransferError: It could not be read, or is shorter.
    """
    start = part.stat().st_size if part.exists() else 0
    if 0 < start <= record.bytes:
        digest = _append(store, record, part, start, update)
        if digest == record.xxh3_128:
            return digest
        logger.warning("%s: the rest in the store does not fit it; fetching all of it", part)
        update(-record.bytes)
    if start:
        with part.open("r+b") as file:  # not unlinked: it may be locked
            file.truncate()
    return _append(store, record, part, 0, update)


def check_stored_size(store: Store, record: FileRecord) -> None:
    """Check that a store has a file as the manifest names it.

    Raises:
        TransferError: It has not.
    """
    found = store.size(record.file)
    if found != record.bytes:
        raise TransferError(
            f"{store.url}/{record.file}: expected {record.bytes:,} bytes (manifest), found "
            f"{'no file' if found is None else f'{found:,}'}; send the cache again"
        )


def _append(store: Store, record: FileRecord, part: Path, start: int, update: Callable[[int], Any]) -> str:
    """Fetch a file from a byte on, and return the checksum of the whole."""
    state = xxhash.xxh3_128()
    with part.open("a+b") as file:
        file.seek(0)
        while block := file.read(BLOCK_BYTES):
            state.update(block)
        update(start)
        for block in store.blocks(record.file, start, record.bytes):
            file.write(block)
            state.update(block)
            update(len(block))
    return state.hexdigest()
