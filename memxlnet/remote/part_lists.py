"""Parts in a store: each cache under its own name at one place, and the list last."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memxlnet.errors import CacheError, CacheMismatchError, CacheNotFoundError
from memxlnet.format.fingerprint import differing_fields
from memxlnet.format.manifest import SEND_AGAIN, read_manifest
from memxlnet.format.part_list import PartList, PartRecord, decode_part_list, read_part_list
from memxlnet.format.paths import PART_LIST, as_directory
from memxlnet.maintain.part_lists import former_list, publish_list, sole_lister
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from memxlnet.remote.stores import MAX_MANIFEST_BYTES, Store, open_store
from memxlnet.settings import DEFAULT_CACHE_DIR, check_bool

logger = logging.getLogger(__name__)


def push_parts(
    parts: str | os.PathLike[str],
    url: str,
    *,
    replace: bool = False,
    verify: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> list[str]:
    """Send parts to a store: the caches that the list there does not name, then the list.

    The list in the store is replaced as a whole after all caches have arrived, so that whoever fetches it gets the
    former parts or these. Caches that it no longer names stay in the store. One sender at a time.

    Args:
        parts: The directory of the list.
        url: The place of all parts, such as ``s3://bucket/caches/docs``; each cache lies below it under its own name.
        replace: Put this list in the place of one of other settings, or of a damaged one, and look at every cache in
            the store again.
        verify: As in `push`, for the caches that are sent.
        storage_options: Options of the file system, such as credentials; never stored or shown.
        progress: Show progress bars; None shows them where standard error is a terminal.

    Returns:
        The names of the caches that were sent or compared.

    Raises:
        MemxlnetError: As `push`.
    """
    directory = as_directory("parts", parts)
    for name, value in (("replace", replace), ("verify", verify), ("progress", progress or False)):
        check_bool(name, value)
    local = read_part_list(directory)
    store = open_store(url, storage_options)
    there = _list_in_store(store, local, replace)
    known = set() if there is None or replace else {(part.cache, part.fingerprint) for part in there.parts}
    due = {part.cache: part for part in local.parts if (part.cache, part.fingerprint) not in known}
    for part in due.values():
        _check_cache(directory.parent, part)  # before anything is sent
    for name in due:
        push(
            directory.parent / name,
            _place(url, name),
            replace=replace,
            verify=verify,
            storage_options=storage_options,
            progress=progress,
        )
    raw = local.encode()
    if there is None or there.encode() != raw:
        store.write(PART_LIST, raw)
    logger.info("%s: sent to %s, %d of %d parts", directory, store.url, len(due), len(local.parts))
    return list(due)


def pull_parts(
    url: str,
    cache_dir: str | os.PathLike[str] = DEFAULT_CACHE_DIR,
    *,
    replace: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> Path:
    """Fetch parts from a store: the caches that are not in the cache directory, then the list, which is replaced.

    Args:
        url: The place of the parts, as `push_parts` took it.
        cache_dir: Directory of the caches.
        replace: Fetch every cache even where it exists, and replace it, such as a damaged one.
        storage_options: Options of the file system, such as credentials; never stored or shown.
        progress: Show progress bars; None shows them where standard error is a terminal.

    Returns:
        The directory of the list.

    Raises:
        CacheNotFoundError: There is no list of parts at the place.
        MemxlnetError: As `pull`.
    """
    directory = as_directory("cache_dir", cache_dir)
    for name, value in (("replace", replace), ("progress", progress or False)):
        check_bool(name, value)
    store = open_store(url, storage_options)
    raw = store.read(PART_LIST, MAX_MANIFEST_BYTES)
    if raw is None:
        raise CacheNotFoundError(
            f"{store.url}: expected a list of parts, found no {PART_LIST}: it is missing, or its parts are only half "
            "sent; check the address, or send the parts again"
        )
    found = decode_part_list(raw, f"{store.url}/{PART_LIST}", SEND_AGAIN)
    target = directory / found.directory_name
    with sole_lister(target):
        for part in {part.cache: part for part in found.parts}.values():
            if replace or not _is_there(directory, part):
                pull(
                    _place(url, part.cache),
                    directory,
                    replace=replace,
                    storage_options=storage_options,
                    progress=progress,
                )
                _check_cache(directory, part)
        publish_list(target, found, former_list(target))
    return target


def is_part_list(url: str, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Return whether a place in a store holds a list of parts.

    Raises:
        MemxlnetError: An argument is wrong, or the store cannot be asked.
    """
    return open_store(url, storage_options).size(PART_LIST) is not None


def _place(url: str, cache: str) -> str:
    return f"{url.rstrip('/')}/{cache}"


def _list_in_store(store: Store, local: PartList, replace: bool) -> PartList | None:
    """Return the list that lies at the place; one of other settings or a damaged one only with `replace`."""
    raw = store.read(PART_LIST, MAX_MANIFEST_BYTES)
    if raw is None:
        return None
    try:
        found = decode_part_list(raw, f"{store.url}/{PART_LIST}", SEND_AGAIN)
    except CacheError as error:
        if replace:
            return None
        error.add_note("replace=True puts this list in its place")
        raise
    if found.fingerprint != local.fingerprint and not replace:
        differences = "; ".join(differing_fields(local.fields, found.fields)[:10])
        raise CacheMismatchError(
            f"{store.url}: holds parts of other settings, another place of files or another tokenizer: {differences}; "
            "choose another place, or replace=True puts this list in its place"
        )
    return found


def _is_there(cache_dir: Path, part: PartRecord) -> bool:
    try:
        return part.is_of(read_manifest(cache_dir / part.cache))
    except CacheNotFoundError:
        return False


def _check_cache(cache_dir: Path, part: PartRecord) -> None:
    """Check that the cache of a part lies in a directory.

    Raises:
        CacheError: It is missing, damaged, or another one.
    """
    directory = cache_dir / part.cache
    part.check(directory, read_manifest(directory))
