"""Sending a cache to a store: the files first, each checked where it arrived, the manifest last."""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from memxlnet.errors import CacheError, CacheMismatchError, TransferError
from memxlnet.format.file_layout import file_identity
from memxlnet.format.fingerprint import differing_fields
from memxlnet.format.manifest import SEND_AGAIN, FileRecord, Manifest, decode_manifest
from memxlnet.format.paths import MANIFEST, as_directory
from memxlnet.format.published import PublishedCache, while_it_stays
from memxlnet.maintain.verify import check_file, check_stayed, read_manifest_bytes
from memxlnet.progress import progress_bar
from memxlnet.remote.stores import MAX_MANIFEST_BYTES, Store, open_store
from memxlnet.settings import check_bool

logger = logging.getLogger(__name__)


def push(
    cache: str | os.PathLike[str],
    url: str,
    *,
    replace: bool = False,
    verify: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> None:
    """Send a published cache to a store.

    Files that have arrived intact are not sent again, so an interrupted push resumes. While files are on their way
    there is no manifest at the place, and without it they do not count as a cache. Files that are not of the cache
    stay as they are. One sender at a time: nothing keeps two of them from writing to one place. An upload that is
    killed may leave its parts in a bucket of S3, hidden but paid for; a lifecycle rule removes them. The
    file system of the Hub makes one commit of each file, from a copy in the temporary directory, which it leaves there
    where it fails.

    Args:
        cache: The published directory.
        url: The place of this one cache, such as ``s3://bucket/caches/squad``, ``gs://``, ``hf://datasets/...`` or
            ``file://`` and an absolute path; it is taken as it is, without percent-decoding.
        replace: Put the cache in the place of one of other settings, or of a damaged one, and remove the files that
            its manifest named.
        verify: Read back what lies in the store, before and after sending, and compare its checksum. False compares
            sizes, and takes a file as right only where the manifest in the store names the same checksum.
        storage_options: Options of the file system, such as credentials; they are never stored or shown. None leaves
            them to the environment.
        progress: Show a progress bar; None shows it where standard error is a terminal.

    Raises:
        SettingsError: An argument is wrong.
        CacheError: The cache is missing or damaged; nothing has been sent.
        CacheMismatchError: The place holds a cache of other settings; the message names the fields.
        MissingLibraryError: The library that serves this kind of address is not installed.
        TransferPermissionError: The store refuses the credentials, or none were given.
        TransferError: The connection or the store failed, or something else arrived than was sent.
    """
    directory = as_directory("cache", cache)
    for name, value in (("replace", replace), ("verify", verify), ("progress", progress or False)):
        check_bool(name, value)
    send_cache(open_store(url, storage_options), directory, replace=replace, verify=verify, progress=progress)


def send_cache(
    store: Store,
    directory: Path,
    *,
    replace: bool = False,
    verify: bool = True,
    progress: bool | None = None,
    commit: Callable[[bytes], bool] | None = None,
) -> "Sent":
    """Send a published cache to a place in a store.

    Args:
        store: The place.
        directory: The published cache.
        replace: As in `push`, as all that follow.
        verify: As in `push`.
        progress: As in `push`.
        commit: Writes the manifest and returns True, or False where there is one by now. With it, what has a manifest
            stays as it is. None replaces a manifest that is there.

    Raises:
        MemxlnetError: As `push`.
    """
    local, raw = while_it_stays(directory, lambda: _open(directory))
    former = _find_former(store, local, replace)
    if commit is not None and former.raw is not None:
        return Sent((), False)
    with progress_bar(f"sending {local.name}/{local.split}", progress, "B", local.num_bytes) as bar:
        wrong = []
        for record in local.all_files():
            if is_right(store, record, former.checksums, verify):
                bar.update(record.bytes)
            else:
                wrong.append(record)
        if not wrong and former.raw == raw:
            logger.info("%s: exists already, whole", store.url)
            return Sent((), True)
        for record in wrong:  # before anything is removed in the store
            check_file(directory, record)
        _make_way(store, local, former, replace)
        for record in wrong:
            _send(store, directory, record, verify, bar)
        if commit is None:
            store.write(MANIFEST, raw)
        elif not commit(raw):
            return Sent(tuple(wrong), False)
    store.remove_leftovers()
    logger.info("%s: sent to %s, %d of %d files", directory, store.url, len(wrong), len(list(local.all_files())))
    return Sent(tuple(wrong), True)


class Sent(NamedTuple):
    """What `send_cache` did.

    Attributes:
        files: The files that were sent.
        is_committed: Whether the manifest at the place is that of this cache; False where another one came first.
    """

    files: tuple[FileRecord, ...]
    is_committed: bool


class _Former(NamedTuple):
    """The cache that lies at the place already: its manifest's bytes, and the checksums that it names, by file."""

    raw: bytes | None
    checksums: dict[str, str]


def _open(directory: Path) -> tuple[Manifest, bytes]:
    cache = PublishedCache(directory)
    return cache.manifest, read_manifest_bytes(cache)


def _find_former(store: Store, local: Manifest, replace: bool) -> _Former:
    """Read the manifest that lies at the place, and refuse to replace another cache without `replace`."""
    raw = store.read(MANIFEST, MAX_MANIFEST_BYTES)
    if raw is None:
        return _Former(None, {})
    try:
        found = decode_manifest(raw, f"{store.url}/{MANIFEST}", SEND_AGAIN)
    except CacheError as error:
        if not replace:
            error.add_note("replace=True puts this cache in its place")
            raise
        return _Former(raw, {})
    if found.fingerprint != local.fingerprint and not replace:
        differences = "; ".join(differing_fields(local.fields, found.fields)[:10])
        raise CacheMismatchError(
            f"{store.url}: holds a cache of other settings, another source or another tokenizer: {differences}; choose "
            "another place, or replace=True puts this cache in its place"
        )
    return _Former(raw, {record.file: record.xxh3_128 for record in found.all_files()})


def is_right(store: Store, record: FileRecord, named: Mapping[str, str], verify: bool) -> bool:
    """Return whether a file lies at the place as it should; without `verify` by its size and the manifest there."""
    if not verify and named.get(record.file) != record.xxh3_128:
        return False  # caches of one shape have files of one size
    if store.size(record.file) != record.bytes:
        return False
    return not verify or store.digest(record.file, record.bytes) == record.xxh3_128


def _make_way(store: Store, local: Manifest, former: _Former, replace: bool) -> None:
    """Remove the manifest, so that what follows does not count as a cache."""
    if former.raw is None:
        return
    store.remove(MANIFEST)
    if replace:
        for name in sorted(former.checksums.keys() - {record.file for record in local.all_files()}):
            store.remove(name)


def _send(store: Store, directory: Path, record: FileRecord, verify: bool, bar: Any) -> None:
    path = directory / record.file
    start = bar.n
    before = file_identity(path)
    store.send(path, record.file, lambda sent: bar.update(start + sent - bar.n))
    bar.update(start + record.bytes - bar.n)
    check_stayed(path, before)
    found = store.size(record.file)
    if found == record.bytes and verify:
        bar.set_postfix_str(f"checking {record.file}")
        digest = store.digest(record.file, record.bytes)
        bar.set_postfix_str("")
        if digest != record.xxh3_128:
            raise _arrived_wrong(store, record, f"the checksum {digest}")
    elif found != record.bytes:
        raise _arrived_wrong(store, record, "no file" if found is None else f"{found:,} bytes")
    logger.info("%s/%s: sent", store.url, record.file)


def _arrived_wrong(store: Store, record: FileRecord, found: str) -> TransferError:
    return TransferError(
        f"{store.url}/{record.file}: expected {record.bytes:,} bytes with the checksum {record.xxh3_128} to arrive, "
        f"found {found}; send the cache again"
    )
