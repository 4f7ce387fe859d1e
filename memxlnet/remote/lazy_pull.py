"""A cache that is read before all of it is here: small files are fetched at once, shards of features when needed."""

import bisect
import contextlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from memxlnet.errors import CacheDirectoryError, MemxlnetError, SettingsError, TransferError, TransferPermissionError
from memxlnet.format.checksums import file_digest
from memxlnet.format.manifest import FileRecord
from memxlnet.format.paths import MANIFEST, sync, write_durably
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.directory_swap import take_away
from memxlnet.maintain.incoming_cache import Arrival
from memxlnet.maintain.local_shards import LocalShards
from memxlnet.maintain.shard_files import ShardFiles, adopt, num_readers
from memxlnet.progress import progress_bar
from memxlnet.remote.fetching import fetch_file
from memxlnet.remote.stored_caches import read_stored_manifest
from memxlnet.remote.stores import Store, open_store
from memxlnet.settings import positive_int

logger = logging.getLogger(__name__)

ATTEMPTS = 6
"""How often a shard is asked for."""

FIRST_PAUSE_SECONDS = 0.5
"""The pause after the first attempt; each later one is twice as long."""

_SLICE_SECONDS = 0.1


class StoreFiles:
    """Fetches files of a cache from a store, with retries; pickled, it opens the store again from the environment.

    Args:
        url: The place of the cache.
        storage_options: Options of the file system.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None):
        self._url = url
        self._options = storage_options
        self._store: tuple[int, Store] | None = None

    def __getstate__(self) -> dict[str, Any]:
        if self._options:
            raise SettingsError(
                "storage_options: expected none for a lazy cache that is pickled, because they may be credentials; put "
                "them into the environment, or start workers by fork (multiprocessing_context='fork')"
            )
        return {"_url": self._url, "_options": None, "_store": None}

    @property
    def store(self) -> Store:
        """The store, opened once in each process: its connections do not survive a fork."""
        if self._store is None or self._store[0] != os.getpid():
            self._store = os.getpid(), open_store(self._url, self._options)
        return self._store[1]

    def __call__(self, record: FileRecord, part: Path, update: Callable[[int], Any]) -> None:
        """Fetch a file into a path, and check it; what has arrived stays there where this fails.

        Args:
            record: The file.
            part: Where to; what is there already is not fetched again.
            update: Called with the bytes that have come; may raise, to end the fetch.

        Raises:
            TransferError: The store failed at all attempts, or has another file.
            OSError: The disk failed.
        """
        failures: list[TransferError] = []
        begun = time.monotonic()
        while True:
            try:
                if fetch_file(self.store, record, part, update) == record.xxh3_128:
                    return
                os.truncate(part, 0)
                raise TransferError(
                    f"{self.store.url}/{record.file}: expected the checksum {record.xxh3_128} (manifest), found another"
                )
            except TransferPermissionError:
                raise
            except TransferError as error:
                failures.append(error)
            if len(failures) >= ATTEMPTS:
                break
            pause = FIRST_PAUSE_SECONDS * 2 ** (len(failures) - 1)
            logger.warning("%s; attempt %d of %d after %.1f s", failures[-1], len(failures) + 1, ATTEMPTS, pause)
            _wait(pause, update)
        if self._is_replaced(part.parent):
            raise TransferError(
                f"{self.store.url}: expected the cache that was pulled, found that another one was sent to its place; "
                f"pull it again ({failures[-1]})"
            ) from failures[-1]
        raise TransferError(
            f"{self.store.url}/{record.file}: cannot be fetched: {len(failures)} attempts in "
            f"{time.monotonic() - begun:.0f} s failed, the last one with: {failures[-1]}; what has arrived is kept in "
            f"{part.parent}: try again, and give a loader its state_dict() to resume"
        ) from failures[-1]

    def _is_replaced(self, directory: Path) -> bool:
        """Return whether the store now has another cache than the one that was pulled into a directory."""
        with contextlib.suppress(MemxlnetError, OSError):
            return read_stored_manifest(self.store) != (directory / MANIFEST).read_bytes()
        return False


def _wait(seconds: float, update: Callable[[int], Any]) -> None:
    stop = time.monotonic() + seconds
    while (left := stop - time.monotonic()) > 0:
        time.sleep(min(left, _SLICE_SECONDS))
        update(0)


def check_limit(value: object) -> int | None:
    """Check a limit of local bytes and return it.

    Raises:
        SettingsError: It is not a number of bytes.
    """
    return None if value is None else positive_int("local_limit", value, " of bytes, or None for no limit")


def open_lazily(
    url: str,
    raw: bytes,
    cache_dir: Path,
    storage_options: Mapping[str, Any] | None,
    limit: int | None,
    progress: bool | None,
) -> tuple[Path, LocalShards | None]:
    """Fetch what a cache needs to be opened.

    Args:
        url: The place of the cache.
        raw: The bytes of its manifest.
        cache_dir: Directory of the caches.
        storage_options: Options of the file system.
        limit: Bytes of feature shards that may lie here.
        progress: Show a progress bar.

    Returns:
        Where it is opened, and what brings its shards; the published directory and None where all of it is here.

    Raises:
        MemxlnetError: As `pull`.
    """
    files = StoreFiles(url, storage_options)
    arrival = Arrival(cache_dir, raw, files.store.url)
    largest = max(record.bytes for record in arrival.manifest.tables["features"].shards)
    if limit is not None and limit < largest:
        raise SettingsError(
            f"local_limit: expected at least the largest shard of {arrival.manifest.name}, {largest:,} bytes, found "
            f"{limit:,}; build the cache with a smaller max_shard_rows or raise the limit"
        )
    with arrival.errors():
        found = arrival.find()
        if found is not None:
            arrival.clear()
            return found, None
        with arrival.lock():
            found = arrival.find()
            if found is not None:
                return found, None
            _prepare(files, arrival, raw, progress)
            shards = arrival.manifest.tables["features"].shards
            here = ShardFiles(arrival.lazy, shards, limit)
            here.make_room()  # an earlier pull may have had another limit
            if limit is None and here.num_here() == len(shards) and not arrival.missing():
                return arrival.publish(), None
            return arrival.lazy, LocalShards(arrival.lazy, files, limit)


def fetch_first_shards(cache: PublishedCache, limit: int, progress: bool | None) -> int:
    """Fetch as many of the first shards of a lazy cache as its limit holds.

    Args:
        cache: The cache.
        limit: Bytes of all of them at most.
        progress: Show a progress bar.

    Returns:
        Their number.

    Raises:
        TransferError: The store failed at all attempts, or has other files.
    """
    sizes = list(itertools.accumulate(record.bytes for record in cache.manifest.tables["features"].shards))
    count = bisect.bisect_right(sizes, limit)
    total = sizes[count - 1] if count else 0
    with progress_bar(f"fetching {cache.manifest.name}/{cache.manifest.split}", progress, "B", total) as bar:
        for number in range(count):
            cache.features[number]  # opening it fetches it
            bar.update(sizes[number] - bar.n)
    return count


def _prepare(files: StoreFiles, arrival: Arrival, raw: bytes, progress: bool | None) -> None:
    """Fetch the small files, and take over what an earlier transfer left; the caller holds the lock."""
    directory = arrival.lazy
    if (directory / MANIFEST).exists() and (directory / MANIFEST).read_bytes() != raw:
        if num_readers(directory):
            raise CacheDirectoryError(
                f"{directory}: expected the cache of {files.store.url}, found files of another build of it, which a "
                "process reads; end it or choose another cache_dir"
            )
        take_away(directory)
    directory.mkdir(exist_ok=True)
    shards = arrival.manifest.tables["features"].shards
    adopt(list(arrival.manifest.all_files()), arrival.staging, directory)
    small = [record for record in arrival.manifest.all_files() if record not in shards]
    missing = [record for record in small if not _is_right(directory / record.file, record)]
    name, total = f"{arrival.manifest.name}/{arrival.manifest.split}", sum(record.bytes for record in missing)
    with progress_bar(f"fetching all but the features of {name}", progress, "B", total) as bar:
        for record in missing:
            part = directory / f"{record.file}.part"
            files(record, part, bar.update)
            sync(part)
            part.replace(directory / record.file)
    if not (directory / MANIFEST).exists():
        write_durably(directory / MANIFEST, raw)
    sync(directory)


def _is_right(path: Path, record: FileRecord) -> bool:
    try:
        return path.stat().st_size == record.bytes and file_digest(path) == record.xxh3_128
    except FileNotFoundError:
        return False
