"""Caches that lie in a store: which there are, and what one of them holds; loads no pyarrow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memxlnet.errors import CacheNotFoundError
from memxlnet.format.manifest import SEND_AGAIN, Manifest, decode_manifest, passing_over
from memxlnet.format.paths import MANIFEST
from memxlnet.remote.stores import MAX_MANIFEST_BYTES, Store, open_store


@dataclass(frozen=True)
class StoredCache:
    """A cache in a store.

    Attributes:
        url: Its place, without credentials.
        manifest: What its manifest says; whether its files are there is not looked at.
    """

    url: str
    manifest: Manifest


def find_stored_caches(url: str, *, storage_options: Mapping[str, Any] | None = None) -> list[StoredCache]:
    """Find the caches that lie in the directories of a place in a store, by name; only manifests are read.

    Directories without a manifest are no caches, such as one that is only half sent; hidden ones are those of running
    builds. Those with a damaged manifest, or
    one of another format version, are logged and skipped.

    Args:
        url: The directory of the caches, such as ``s3://bucket/caches``; one level below it is looked at.
        storage_options: As in `push`.

    Raises:
        SettingsError: An argument is wrong, or the address is one of a web server.
        CacheNotFoundError: There is no such directory, or it is a cache itself.
        MissingLibraryError: The library that serves this kind of address is not installed.
        TransferPermissionError: The store refuses the credentials, or none were given.
        TransferError: The connection or the store failed.
    """
    store = open_store(url, storage_options)
    store.check_lists()
    entries = store.entries()
    if entries is None or MANIFEST in entries:
        found = "none" if entries is None else "a cache; memxlnet info shows it"
        raise CacheNotFoundError(f"{store.url}: expected a directory of caches, found {found}")
    caches = []
    for name in sorted(name for name, size in entries.items() if size is None and not name.startswith(".")):
        with passing_over():
            caches.append(_read(store.child(name)))
    return caches


def read_stored_cache(url: str, *, storage_options: Mapping[str, Any] | None = None) -> StoredCache:
    """Read the manifest of a cache in a store; nothing else is read.

    Args:
        url: The place of the cache, as `push` took it.
        storage_options: As in `push`.

    Raises:
        SettingsError: An argument is wrong.
        CacheNotFoundError: There is no manifest at the place: no cache, or one that is only half sent.
        CacheMismatchError: The cache has another format version.
        CacheDamagedError: The manifest is damaged.
        MissingLibraryError: The library that serves this kind of address is not installed.
        TransferPermissionError: The store refuses the credentials, or none were given.
        TransferError: The connection or the store failed.
    """
    return _read(open_store(url, storage_options))


def _read(store: Store) -> StoredCache:
    return StoredCache(store.url, decode_manifest(read_stored_manifest(store), f"{store.url}/{MANIFEST}", SEND_AGAIN))


def read_stored_manifest(store: Store) -> bytes:
    """Return the bytes of the manifest at a place.

    Raises:
        CacheNotFoundError: It is missing.
        TransferError: It cannot be read, or is too large.
    """
    raw = store.read(MANIFEST, MAX_MANIFEST_BYTES)
    if raw is None:
        raise CacheNotFoundError(
            f"{store.url}: expected a cache, found no {MANIFEST}: it is missing, or only half sent; check the "
            "address, or send the cache again"
        )
    return raw
