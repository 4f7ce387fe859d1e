"""The feature shards of a lazy cache as one process uses them: fetched when they are needed, or ahead of that."""

import contextlib
import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memxlnet.background import StoppedError, is_stopped
from memxlnet.errors import MemxlnetError, TransferError, with_fields_of
from memxlnet.format.manifest import FileRecord, read_manifest
from memxlnet.maintain.shard_files import ShardFiles, num_readers, register_reader
from memxlnet.system_errors import described, hint_for

logger = logging.getLogger(__name__)

Fetch = Callable[[FileRecord, Path, Callable[[int], Any]], None]
"""Fetches a file into a path, the rest of what is there, and checks it; calls back with the bytes of each block."""

FETCHES_AT_ONCE = 4
"""Shards that are fetched ahead at the same time, which hides the latency of a store."""

_POLL_SECONDS = 0.01
_COUNT_SECONDS = 1.0
_LONG_WAIT_SECONDS = 60.0


@dataclass
class _Held:
    """A shard that this process keeps.

    Attributes:
        descriptor: Keeps it from being removed; None where nothing is.
        shard: What was opened; None where it was only fetched.
    """

    descriptor: int | None
    shard: Any = None


class LocalShards:
    """See `ShardSource`; any number of processes and threads use one directory.

    Shards in use are those that a reader expects within its share of the limit, and those that were read last. A
    process that needs a shard while all of the limit is in use goes over it by that shard.

    Args:
        directory: The directory of the lazy cache, with its manifest.
        fetch: Fetches a shard.
        limit: Bytes of shards that may lie there; None for all.
    """

    def __init__(self, directory: Path, fetch: Fetch, limit: int | None):
        self._records = read_manifest(directory).tables["features"].shards
        self._files = ShardFiles(directory, self._records, limit)
        self._fetch = fetch
        self.limit = limit
        self._begin()
        self._reader: int | None = register_reader(directory)
        _ALL.add(self)

    def _begin(self) -> None:
        """Set up what a process has for itself."""
        self._held: dict[int, _Held] = {}  # least recently used first
        self._condition = threading.Condition()
        self._pinned: Counter[int] = Counter()
        self._ahead: list[_Ahead] = []
        self._counted = (0.0, 1)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._files.directory, self._fetch, self.limit)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            for held in self._held.values():
                if held.descriptor is not None:
                    self._files.release(held.descriptor)
            if self._reader is not None:
                os.close(self._reader)

    @property
    def num_shards(self) -> int:
        """Number of shards of the cache."""
        return len(self._records)

    def path_of(self, number: int) -> Path:
        """Return where the file of a shard lies once it is here."""
        return self._files.path(number)

    def shard(self, number: int, opened: Callable[[], Any]) -> Any:
        """Return an open shard; wait for it where it is not here. See `ShardSource`."""
        with self._condition:
            held = self._held.get(number)
            if held is not None and held.shard is not None:
                self._held[number] = self._held.pop(number)
                return held.shard
            self._pinned[number] += 1
        try:
            self.obtain(number)
            with self._condition:
                held = self._held[number]
                if held.shard is None:
                    held.shard = opened()
                if self.limit is None and held.descriptor is not None:
                    # Nothing is removed: a descriptor for each shard would only use them up.
                    self._files.release(held.descriptor)
                    held.descriptor = None
                return held.shard
        finally:
            with self._condition:
                self._pinned[number] -= 1
                self._drop_excess()

    def expect(self, needs: Iterable[tuple[int, Sequence[int]]]) -> "_Ahead":
        """Fetch shards ahead in threads; see `ShardSource`."""
        ahead = _Ahead(self, needs)
        with self._condition:
            self._ahead.append(ahead)
        ahead.start()
        return ahead

    def obtain(self, number: int, ahead: "_Ahead | None" = None) -> bool:
        """Fetch a shard unless it is here, and hold it; another thread or process may do so at the same time.

        Args:
            number: The shard.
            ahead: Who fetches it before it is needed, if so.

        Returns:
            False where it is not needed yet, and there is no room for it.

        Raises:
            TransferError: It could not be fetched, or the disk failed.
            StoppedError: The reader was closed.
        """
        begun: float | None = time.monotonic()
        try:
            while not self._holds(number):
                _check_open(ahead)
                descriptor = self._files.begin(number)
                if descriptor is None:
                    if begun is not None and time.monotonic() - begun > _LONG_WAIT_SECONDS:
                        logger.warning("%s: waiting for another process that fetches it", self._files.path(number))
                        begun = None
                    time.sleep(_POLL_SECONDS)
                elif ahead is None:
                    self._fetch_beside(number, descriptor)
                elif not self._fetched(number, descriptor, ahead):
                    return False
            return True
        except MemxlnetError:
            raise
        except OSError as error:
            path = self._files.path(number)
            failed = TransferError(f"{path}: cannot be fetched: {described(error, path)}; {hint_for(error)}")
            raise with_fields_of(failed, error) from error

    def _holds(self, number: int) -> bool:
        with self._condition:
            if number in self._held:
                self._held[number] = self._held.pop(number)
                return True
        descriptor = self._files.hold(number)
        return descriptor is not None and self._keep(number, descriptor)

    def _keep(self, number: int, descriptor: int) -> bool:
        with self._condition:
            if number in self._held:
                self._files.release(descriptor)
            else:
                self._held[number] = _Held(descriptor)
        return True

    def _fetch_beside(self, number: int, descriptor: int) -> None:
        """Fetch a shard in another thread: a store that stalls must not keep this one from being stopped."""
        done: Future[bool] = Future()

        def work() -> None:
            try:
                done.set_result(self._fetched(number, descriptor, None))
            except BaseException as error:
                done.set_exception(error)

        try:
            threading.Thread(target=work, name="memxlnet-shard", daemon=True).start()
        except RuntimeError:  # the system has no more threads
            work()
        while not wait([done], _POLL_SECONDS).done:
            _check_open(None)
        done.result()

    def _fetched(self, number: int, descriptor: int, ahead: "_Ahead | None") -> bool:
        """Fetch a shard that this thread alone may fetch; False where it has no room and is not needed yet."""
        try:
            while not self._files.make_room(number):
                if not self._drop_one(spare_expected=ahead is not None):
                    if ahead is not None:
                        self._files.give_up(number, descriptor)
                        return False
                    logger.debug("%s: over the limit: all other shards are in use", self._files.path(number))
                    break
            self._fetch(self._records[number], self._files.part(number), lambda _: _check_open(ahead))
        except BaseException:
            with contextlib.suppress(OSError):
                self._files.give_up(number, descriptor)
            raise
        return not self._files.finish(number, descriptor) or self._keep(number, descriptor)

    @property
    def share(self) -> int:
        """Bytes of shards that one reader of this process may expect: its part of the limit."""
        if self.limit is None:
            return 1 << 62
        now = time.monotonic()
        if now - self._counted[0] > _COUNT_SECONDS:
            self._counted = (now, max(num_readers(self._files.directory), 1))
        return self.limit // self._counted[1] // max(len(self._ahead), 1)

    def bytes_of(self, numbers: Iterable[int]) -> int:
        """Return the bytes of some shards."""
        return sum(self._records[number].bytes for number in numbers)

    def release_unexpected(self) -> None:
        """Let others remove what no reader of this process expects. The caller holds the lock."""
        if self.limit is not None:
            spared = self._pinned_or_expected()
            for number in [number for number in self._held if number not in spared]:
                self._drop(number)

    def closed(self, ahead: "_Ahead") -> None:
        """Forget a reader."""
        with self._condition:
            if ahead in self._ahead:
                self._ahead.remove(ahead)
            self.release_unexpected()
            self._condition.notify_all()

    @property
    def condition(self) -> threading.Condition:
        """Guards everything here."""
        return self._condition

    def _pinned_or_expected(self) -> set[int]:
        return {number for number, count in self._pinned.items() if count}.union(*(one.expected for one in self._ahead))

    def _drop_excess(self) -> None:
        """Keep no more of what is only read at random than the share, and at least what was read last."""
        if self.limit is None:
            return
        spared = self._pinned_or_expected()
        loose = [number for number in self._held if number not in spared][:-1]
        excess = self.bytes_of(self._held) - self.share
        for number in loose:
            if excess <= 0:
                break
            excess -= self._records[number].bytes
            self._drop(number)

    def _drop_one(self, spare_expected: bool) -> bool:
        """Give up one shard: what is read at random first, then what is expected last; False where all are in use."""
        with self._condition:
            expected = self._pinned_or_expected()
            loose = [number for number in self._held if number not in expected]
            if not loose and not spare_expected:
                later = [number for ahead in self._ahead for number in reversed(ahead.expected)]
                loose = [number for number in later if number in self._held and not self._pinned[number]]
            if not loose:
                return False
            self._drop(loose[0])
            return True

    def _drop(self, number: int) -> None:
        held = self._held.pop(number)
        if held.descriptor is not None:
            self._files.release(held.descriptor)

    def after_fork(self) -> None:
        """Begin afresh in a child: the locks that it inherits are those of its parent."""
        for held in self._held.values():
            if held.descriptor is not None:
                os.close(held.descriptor)
        if self._reader is not None:
            os.close(self._reader)
        self._reader = None
        self._begin()
        with contextlib.suppress(OSError):  # the cache was removed: whatever needs a shard raises that
            self._reader = register_reader(self._files.directory)


class _Ahead:
    """One reader's expectations; see `ExpectedShards`."""

    def __init__(self, shards: LocalShards, needs: Iterable[tuple[int, Sequence[int]]]):
        self._shards = shards
        self._needs = ((stop, number) for stop, numbers in needs for number in numbers)
        self._order = threading.Lock()
        self._until: dict[int, int] = {}  # the place until which each shard is needed
        self._place = -1
        self.is_closed = False

    def start(self) -> None:
        """Start the threads."""
        for _ in range(FETCHES_AT_ONCE):
            # A daemon: it may wait for a network for long, and what it leaves is resumed.
            threading.Thread(target=self._work, name="memxlnet-shards", daemon=True).start()

    @property
    def expected(self) -> list[int]:
        """The shards that are expected within the share, the next ones first."""
        return list(self._until)

    def reached(self, place: int) -> None:
        """Give up the shards that are needed only before a place of the reader."""
        with self._shards.condition:
            self._place = place
            if self._shards.limit is None:
                return
            gone = [number for number, until in self._until.items() if until <= place]
            for number in gone:
                del self._until[number]
            if gone:
                self._shards.release_unexpected()
                self._shards.condition.notify_all()

    def close(self) -> None:
        """Fetch no more ahead, and give up all of them."""
        with self._shards.condition:
            self.is_closed = True
            self._until.clear()
        self._shards.closed(self)

    def _work(self) -> None:
        with contextlib.suppress(StoppedError):
            while (number := self._next()) is not None:
                try:
                    while not self._shards.obtain(number, self):
                        time.sleep(_POLL_SECONDS)
                except MemxlnetError as error:
                    # Whoever needs the shard asks for it again, and raises what happens then.
                    logger.warning("cannot fetch ahead: %s", error)

    def _next(self) -> int | None:
        """Return the next shard, once it is within the share; None after the last one."""
        with self._order:
            for stop, number in self._needs:
                if self._shards.limit is None:  # what has been expected once stays
                    if len(self._until) == self._shards.num_shards:
                        return None
                    if number in self._until:
                        continue
                if self._admitted(stop, number):
                    return number
        return None

    def _admitted(self, stop: int, number: int) -> bool:
        """Wait until a shard is within the share; False where the reader is past it already."""
        with self._shards.condition:
            while not self.is_closed and stop > self._place:
                if number in self._until or not self._until:
                    break
                if self._shards.bytes_of([*self._until, number]) <= self._shards.share:
                    break
                self._shards.condition.wait(1.0)
            if self.is_closed:
                raise StoppedError
            if stop <= self._place:
                return False
            self._until[number] = stop
            return True


def _check_open(ahead: _Ahead | None) -> None:
    if is_stopped() or (ahead is not None and ahead.is_closed):
        raise StoppedError


_ALL: "weakref.WeakSet[LocalShards]" = weakref.WeakSet()


def _after_fork() -> None:
    for shards in list(_ALL):
        shards.after_fork()


os.register_at_fork(after_in_child=_after_fork)
