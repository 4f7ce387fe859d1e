"""A cache on its way into a cache directory: its files arrive one by one, are checked, and are published together."""

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from memxlnet.errors import (
    CacheDamagedError,
    CacheDirectoryError,
    CacheMismatchError,
    CacheNotFoundError,
    MemxlnetError,
    TransferError,
    with_fields_of,
)
from memxlnet.format.checksums import file_digest
from memxlnet.format.manifest import SEND_AGAIN, FileRecord, decode_manifest
from memxlnet.format.paths import (
    ARRIVAL_PREFIX,
    LAZY_PREFIX,
    MANIFEST,
    directory_name,
    sync,
    write_durably,
)
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.directory_swap import put_in_place, take_away
from memxlnet.maintain.lock import clear_leftovers, sole_builder
from memxlnet.maintain.removal import remove_directory
from memxlnet.maintain.shard_files import adopt, num_readers
from memxlnet.system_errors import (
    NO_ACCESS,
    OUT_OF_FILES,
    cache_error,
    cache_errors,
    described,
    hint_for,
)

logger = logging.getLogger(__name__)


class Arrival:
    """A cache that is being fetched.

    What has arrived and is right stays in ``.arriving-<cache>`` when the transfer ends early, and is not fetched again;
    nor is what a lazy pull has in ``.lazy-<cache>``. The manifest is written last: until then there is no cache.

    Args:
        cache_dir: Directory of the caches.
        manifest: The bytes of the manifest, as they were found.
        origin: Where they were found, for messages.

    Raises:
        CacheMismatchError: The cache has another format version.
        CacheDamagedError: The manifest is damaged.
    """

    def __init__(self, cache_dir: Path, manifest: bytes, origin: str):
        self._raw = manifest
        self._origin = origin
        self.manifest = decode_manifest(manifest, f"{origin}/{MANIFEST}", SEND_AGAIN)
        self._cache_dir = cache_dir
        self._name = directory_name(self.manifest.name, self.manifest.split, self.manifest.fingerprint)
        self.directory = cache_dir / self._name
        self.staging = cache_dir / f"{ARRIVAL_PREFIX}{self._name}"
        self.lazy = cache_dir / f"{LAZY_PREFIX}{self._name}"
        self._accepted: set[FileRecord] = set()

    def obtain(self, fetch: Callable[[], None], replace: bool = False, hint: str = "") -> Path:
        """Return the published directory; of several processes that ask at once, one fetches and the others wait.

        Args:
            fetch: Fetches all files of the cache; called where it is missing, under the lock.
            replace: Fetch it even where it exists, and replace it.
            hint: What else can be done about an existing cache, for messages.

        Raises:
            CacheError: What is there is damaged or another cache, or the cache directory cannot be written.
            TransferError: The disk failed or is full; what `fetch` raises passes.
        """
        with self.errors():
            found = self._find(replace, hint)
            if found is not None:
                self.clear()
                return found
            with self.lock():
                found = self._find(replace, hint)
                if found is not None:
                    return found
                fetch()
                return self.publish()

    def find(self) -> Path | None:
        """Return the published cache of this fingerprint; None where nothing is in its place.

        Raises:
            CacheError: It is damaged, or something else is in its place.
        """
        try:
            found = PublishedCache(self.directory).manifest.fingerprint
        except CacheNotFoundError:
            self._check_free()
            return None
        if found != self.manifest.fingerprint:
            raise CacheMismatchError(
                f"{self.directory}: expected the cache of {self._origin} (fingerprint {self.manifest.fingerprint}) or "
                f"nothing, found one with the fingerprint {found}; choose another cache_dir"
            )
        return self.directory

    def clear(self) -> None:
        """Remove what killed processes left of this published cache, and its lazy files once nobody reads them."""
        # Killed right after a replacement: what is with a manifest there is what was replaced.
        is_whole = (self.staging / MANIFEST).exists()
        clear_leftovers(self._cache_dir, self._name, self.staging if is_whole else None)
        if self.lazy.exists():
            with contextlib.suppress(MemxlnetError):  # not writable, or another process works on the cache
                remove_directory(self.lazy, lambda: not num_readers(self.lazy))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of this cache's builder; wait while another process builds or fetches it.

        Raises:
            CacheDirectoryError: The cache directory cannot be created or written.
        """
        is_logged = False

        def wait() -> None:
            nonlocal is_logged
            if not is_logged:
                logger.warning("%s: waiting for another process that builds or fetches it", self.directory)
            is_logged = True

        with sole_builder(self._cache_dir, self._name, wait):
            yield

    def missing(self) -> list[FileRecord]:
        """Return the files that are still to be fetched; what an earlier transfer left is checked, byte by byte.

        Raises:
            TransferError: The disk has no room for them.
        """
        self.staging.mkdir(exist_ok=True)
        adopt(list(self.manifest.all_files()), self.lazy, self.staging)
        missing = [record for record in self.manifest.all_files() if not self._is_right(record)]
        needed = sum(record.bytes - self._begun(record) for record in missing)
        free = shutil.disk_usage(self.staging).free
        if needed > free:
            raise TransferError(
                f"{self._cache_dir}: expected room for {needed:,} bytes of {self._origin}, found {free:,} free; make "
                "room or choose another cache_dir"
            )
        return missing

    def part(self, record: FileRecord) -> Path:
        """Return where a file is written until it is whole."""
        return self.staging / f"{record.file}.part"

    def accept(self, record: FileRecord, part: Path, digest: str | None = None) -> None:
        """Accept a file that has arrived, if it is right; else remove it.

        Args:
            record: Its record in the manifest.
            part: The file, on the file system of the cache directory; it is renamed.
            digest: Its checksum where the caller computed it as it arrived; None reads the file.

        Raises:
            TransferError: Its size or checksum is another one.
        """
        found = part.stat().st_size, digest or file_digest(part)
        if found != (record.bytes, record.xxh3_128):
            part.unlink()
            raise TransferError(
                f"{self._origin}/{record.file}: expected {record.bytes} bytes with the checksum {record.xxh3_128} "
                f"(manifest), found {found[0]} bytes with {found[1]}; try again, and if that does not help send the "
                "cache again"
            )
        sync(part)
        part.rename(self.staging / record.file)
        self._accepted.add(record)

    def publish(self) -> Path:
        """Publish the cache: the manifest last, then one rename.

        Raises:
            CacheDamagedError: The files do not make up a cache: it was damaged when it was sent.
        """
        for path in self.staging.iterdir():
            if path.name not in {record.file for record in self.manifest.all_files()}:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        write_durably(self.staging / MANIFEST, self._raw)
        sync(self.staging)
        try:
            put_in_place(self.staging, self.directory)
        except CacheDamagedError as error:
            message = str(error.args[0]).replace(str(self.staging), self._origin)
            raise CacheDamagedError(message, hint=SEND_AGAIN) from error
        if not num_readers(self.lazy):
            take_away(self.lazy)
        logger.info("%s: fetched from %s", self.directory, self._origin)
        return self.directory

    def discard(self) -> None:
        """Remove what has arrived so far."""
        take_away(self.staging)

    def _find(self, replace: bool, hint: str) -> Path | None:
        """Return the cache where it exists and is to stay."""
        if replace:
            return None
        try:
            found = self.find()
        except (CacheDamagedError, CacheMismatchError, CacheDirectoryError) as error:
            if hint:
                error.add_note(hint)
            raise
        if found is not None:
            logger.info("%s: exists already", found)
        return found

    def _check_free(self) -> None:
        """Check that there is nothing where there is no cache: publishing one would remove it."""
        try:
            found = "a directory without manifest" if any(self.directory.iterdir()) else None
        except (FileNotFoundError, NotADirectoryError):
            found = "what is no directory" if os.path.lexists(self.directory) else None
        except OSError:
            with cache_errors(self.directory, "read"):
                raise
        if found is not None:
            raise CacheDirectoryError(
                f"{self.directory}: expected a cache or nothing, found {found}; move it away or choose another "
                "cache_dir"
            )

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of the disk into `MemxlnetError`; those of the other end are already."""
        try:
            yield
        except MemxlnetError:
            raise
        except OSError as error:
            found = f"{self.directory}: cannot be written: {described(error, self.directory)}; what has arrived is kept"
            if error.errno in NO_ACCESS:
                raise cache_error(error, f"{found}: restore access, or choose another cache_dir") from error
            failed = TransferError(f"{found}: {hint_for(error)} and fetch it again")
            raise with_fields_of(failed, error) from error

    def _begun(self, record: FileRecord) -> int:
        """Return the bytes of a file that an earlier transfer left and the next one appends to: these need no room."""
        try:
            return min(self.part(record).stat().st_size, record.bytes)
        except OSError:
            return 0

    def _is_right(self, record: FileRecord) -> bool:
        path = self.staging / record.file
        try:
            if path.stat().st_size != record.bytes:
                return False
            # What was accepted was read then.
            return record in self._accepted or file_digest(path) == record.xxh3_128
        except FileNotFoundError:
            return False
        except OSError as error:
            hint = "close files" if error.errno in OUT_OF_FILES else "remove it"
            raise with_fields_of(
                TransferError(f"{path}: cannot be read: {error.strerror}; {hint} and fetch it again"), error
            ) from error
