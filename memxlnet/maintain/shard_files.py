"""The files of the feature shards of a lazy cache: several processes fetch, share and remove them. POSIX only.

A shard that is being fetched is ``<file>.part``, locked by the process that fetches it; it is renamed when it is whole
and checked. A shard that is in use is locked by each process that uses it, and only others are removed. All locks are
those of the system (flock): they end with the process that holds them.
"""

import contextlib
import fcntl
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from memxlnet.format.checksums import file_digest
from memxlnet.format.manifest import FileRecord, ShardRecord
from memxlnet.format.paths import sync
from memxlnet.maintain.lock import is_locked, let_go

logger = logging.getLogger(__name__)

_PART = ".part"
_ROOM = "room.lock"
_READERS = "readers"


class ShardFiles:
    """The shards in a directory.

    Args:
        directory: The directory; it exists.
        records: The shards.
        limit: Bytes of shards that may lie there; None for all.
    """

    def __init__(self, directory: Path, records: Sequence[ShardRecord], limit: int | None):
        self.directory = directory
        self.limit = limit
        self._records = records
        self._by_name = {record.file: record for record in records}
        self._checked: dict[int, int] = {}  # the inode of each shard whose bytes this process has seen to be right

    def path(self, number: int) -> Path:
        """Return where a shard lies once it is whole."""
        return self.directory / self._records[number].file

    def part(self, number: int) -> Path:
        """Return where a shard lies while it is fetched."""
        return self.directory / (self._records[number].file + _PART)

    def hold(self, number: int) -> int | None:
        """Return a descriptor whose lock keeps a shard from being removed; None where it is not here.

        One that this process has not seen yet is read and checked; a damaged one is removed.

        Raises:
            OSError: It cannot be opened or read.
        """
        path = self.path(number)
        descriptor = _opened(path, os.O_RDONLY)
        if descriptor is None:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if _is_at(descriptor, path) and self._is_right(number, descriptor):
                return descriptor
        except BaseException:
            let_go(descriptor)
            raise
        let_go(descriptor)
        return None

    def begin(self, number: int) -> int | None:
        """Return a descriptor that makes this the only one that fetches a shard; None where there is another.

        What an earlier fetch left of it stays in the file. None also where it has just come.

        Raises:
            OSError: It cannot be created.
        """
        part = self.part(number)
        descriptor = os.open(part, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, part):
                if not self.path(number).exists():
                    return descriptor
                part.unlink()
        except BlockingIOError:
            pass
        except BaseException:
            let_go(descriptor)
            raise
        let_go(descriptor)
        return None

    def finish(self, number: int, descriptor: int) -> bool:
        """Put a shard that was fetched and checked in its place; the descriptor then is one of `hold`.

        Returns:
            False where another process has removed it already; the descriptor is closed then.
        """
        # Not synced: after a crash of the machine another process checks it before use.
        try:
            # A listing meanwhile could miss both names, and count too little.
            with contextlib.nullcontext() if self.limit is None else self._sole():
                self.part(number).rename(self.path(number))
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            # The change of the lock is not atomic.
            if _is_at(descriptor, self.path(number)):
                self._checked[number] = os.fstat(descriptor).st_ino
                return True
        except BaseException:
            let_go(descriptor)
            raise
        let_go(descriptor)
        return False

    def give_up(self, number: int, descriptor: int) -> None:
        """End a fetch; what has arrived stays, to be resumed."""
        if not os.fstat(descriptor).st_size:
            self.part(number).unlink(missing_ok=True)
        let_go(descriptor)

    def release(self, descriptor: int) -> None:
        """Let others remove a shard that was held; it counts as used now."""
        with contextlib.suppress(OSError):
            os.utime(descriptor)
        let_go(descriptor)

    def make_room(self, number: int | None = None) -> bool:
        """Remove shards, least recently used first, until all are within the limit.

        Args:
            number: The shard that is about to be fetched, which counts as whole; the caller holds what `begin` gave.

        Returns:
            False where all others are in use, and there is no room.
        """
        if self.limit is None:
            return True
        with self._sole():
            total = 0 if number is None else self._records[number].bytes
            removable = []
            own = None if number is None else self.part(number).name
            for entry in os.scandir(self.directory):
                name = entry.name.removesuffix(_PART)
                if name not in self._by_name or entry.name == own:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat()
                    is_part = entry.name != name
                    # A part that is being fetched will be whole.
                    is_fetched = is_part and _is_locked(Path(entry.path))
                    size = self._by_name[name].bytes if is_fetched else found.st_size
                    total += size
                    removable.append((not is_part, found.st_mtime_ns, size, Path(entry.path)))
            for _, _, size, path in sorted(removable):
                if total <= self.limit:
                    break
                if _removed(path):
                    total -= size
            return total <= self.limit

    def num_here(self) -> int:
        """Return how many shards are here."""
        return sum(self.path(number).exists() for number in range(len(self._records)))

    @contextlib.contextmanager
    def _sole(self) -> Iterator[None]:
        """Be the only process that counts and removes shards."""
        descriptor = os.open(self.directory / _ROOM, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            let_go(descriptor)

    def _is_right(self, number: int, descriptor: int) -> bool:
        found, record, path = os.fstat(descriptor), self._records[number], self.path(number)
        if self._checked.get(number) == found.st_ino:
            return True
        if found.st_size == record.bytes and file_digest(path) == record.xxh3_128:
            self._checked[number] = found.st_ino
            return True
        logger.warning(
            "%s: expected %d bytes with the checksum %s (manifest), found others; removed, to be fetched again",
            path,
            record.bytes,
            record.xxh3_128,
        )
        path.unlink(missing_ok=True)
        return False


def register_reader(directory: Path) -> int:
    """Count this process among those that read a lazy cache, until the descriptor is closed or the process ends.

    Raises:
        OSError: The directory cannot be written.
    """
    readers = directory / _READERS
    readers.mkdir(exist_ok=True)
    path = readers / f"{os.getpid()}-{secrets.token_hex(4)}"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def num_readers(directory: Path) -> int:
    """Return how many processes read a lazy cache; what dead ones left is removed."""
    try:
        found = [Path(entry.path) for entry in os.scandir(directory / _READERS)]
    except (FileNotFoundError, NotADirectoryError):
        return 0
    return sum(not _removed(path) and path.exists() for path in found)


def adopt(records: Sequence[FileRecord], origin: Path, target: Path) -> None:
    """Give files of one directory a second name in another one of the same file system, where it has none; durably.

    They are not checked.
    """
    for record in records:
        # Hard links: they take no room, and either name may be removed.
        with contextlib.suppress(OSError):
            (target / record.file).hardlink_to(origin / record.file)
            sync(target / record.file)


def _opened(path: Path, flags: int) -> int | None:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether a descriptor is of the file that has this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _is_locked(path: Path) -> bool:
    descriptor = _opened(path, os.O_RDONLY)
    return descriptor is not None and is_locked(descriptor)


def _removed(path: Path) -> bool:
    """Remove a file that no process holds; return whether that was so."""
    descriptor = _opened(path, os.O_RDONLY)
    if descriptor is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(descriptor, path):
            return False
        path.unlink()
        return True
    except BlockingIOError:
        return False
    finally:
        let_go(descriptor)
