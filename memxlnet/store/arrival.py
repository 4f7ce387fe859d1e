"""A cache on its way into a cache directory: its files arrive one by one, are checked, and are published together."""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from memxlnet.errors import CacheDirectoryError, CacheNotFoundError, TransferError
from memxlnet.store.builder_lock import builder_lock, lock_path
from memxlnet.store.cache import Cache
from memxlnet.store.checksums import file_digest
from memxlnet.store.manifest import FileRecord, decode_manifest
from memxlnet.store.paths import (
    ARRIVAL_PREFIX,
    MANIFEST,
    directory_name,
    make_directory,
    sync,
    write_durably,
)
from memxlnet.store.placing import put_in_place, take_away

logger = logging.getLogger(__name__)


class Arrival:
    """A cache that is being fetched.

    What has arrived and is right stays in ``.arriving-<cache>`` when the transfer ends early, and is not fetched again.
    The manifest is written last: until then there is no cache.

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
        self.manifest = decode_manifest(manifest, f"{origin}/{MANIFEST}")
        self._cache_dir = cache_dir
        self._name = directory_name(self.manifest.name, self.manifest.split, self.manifest.fingerprint)
        self.directory = cache_dir / self._name
        self.staging = cache_dir / f"{ARRIVAL_PREFIX}{self._name}"

    def find(self) -> Path | None:
        """The published cache of this fingerprint where it is there already.

        Raises:
            CacheError: It is there but damaged.
        """
        try:
            found = Cache(self.directory).manifest.fingerprint
        except CacheNotFoundError:
            return None
        return self.directory if found == self.manifest.fingerprint else None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only process that builds or fetches this cache; waits while another one is.

        Raises:
            CacheDirectoryError: The cache directory cannot be created or written.
        """
        make_directory(self._cache_dir)
        is_told = False

        def wait() -> None:
            nonlocal is_told
            if not is_told:
                logger.warning("%s: waiting for another process that builds or fetches it", self.directory)
            is_told = True

        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(builder_lock(lock_path(self._cache_dir, self._name), wait))
            except OSError as error:
                raise CacheDirectoryError(
                    f"{self._cache_dir}: cannot be locked: {error}; make room, restore access or choose another "
                    "cache_dir"
                ) from error
            yield

    def missing(self) -> list[FileRecord]:
        """The files that are still to be fetched; what an earlier transfer left is checked, byte by byte.

        Raises:
            TransferError: The disk has no room for them.
        """
        self.staging.mkdir(exist_ok=True)
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
        """Where a file is written until it is whole."""
        return self.staging / f"{record.file}.part"

    def accept(self, record: FileRecord, part: Path, digest: str | None = None) -> None:
        """Take a file that has arrived, if it is right; else it is removed.

        Args:
            record: What the manifest says of it.
            part: The file, on the file system of the cache directory; it is renamed.
            digest: Its checksum where the caller took it while it came in; None reads the file.

        Raises:
            TransferError: Its size or checksum is another one.
        """
        found = part.stat().st_size, digest or file_digest(part)
        if found != (record.bytes, record.xxh3_128):
            part.unlink()
            raise TransferError(
                f"{self._origin}/{record.file}: expected {record.bytes} bytes with the checksum {record.xxh3_128} "
                f"(manifest), found {found[0]} bytes with {found[1]}; try again, and where it stays so send the cache "
                "anew"
            )
        sync(part)
        part.rename(self.staging / record.file)

    def publish(self) -> Path:
        """Put the cache into its place: the manifest last, then one rename.

        Raises:
            CacheDamagedError: The files do not make up a cache.
        """
        for path in self.staging.iterdir():
            if path.name not in {record.file for record in self.manifest.all_files()}:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        write_durably(self.staging / MANIFEST, self._raw)
        sync(self.staging)
        Cache(self.staging)
        put_in_place(self.staging, self.directory)
        logger.info("%s: fetched from %s", self.directory, self._origin)
        return self.directory

    def discard(self) -> None:
        """Remove what has arrived so far."""
        take_away(self.staging)

    def _begun(self, record: FileRecord) -> int:
        """Bytes of a file that an earlier transfer left and the next one goes on after: their room is taken already."""
        try:
            return min(self.part(record).stat().st_size, record.bytes)
        except OSError:
            return 0

    def _is_right(self, record: FileRecord) -> bool:
        path = self.staging / record.file
        try:
            return path.stat().st_size == record.bytes and file_digest(path) == record.xxh3_128
        except FileNotFoundError:
            return False
        except OSError as error:
            raise TransferError(f"{path}: cannot be read: {os.strerror(error.errno or 0)}; remove it") from error
