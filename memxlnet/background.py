"""One background thread that works ahead of an iteration by a bounded number of items."""

import os
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")

_POLL_SECONDS = 0.1

_LOCAL = threading.local()


class StoppedError(Exception):
    """Nobody waits for it any more."""


def is_stopped() -> bool:
    """Return whether this thread works ahead for an iteration that was closed: `Prefetched.close` waits for it."""
    stopped: threading.Event | None = getattr(_LOCAL, "stopped", None)
    return stopped is not None and stopped.is_set()


class Prefetched(Generic[Item]):
    """The items of an iterator, made ahead of time in a thread.

    An exception in the thread is raised, with its traceback, where the item would have been. `close` ends the thread;
    so do dropping the iterator, because the thread holds no reference to this object, and the end of the main thread.
    A forked process has no such thread: there `is_here` is false.

    Args:
        items: What is worked through in the thread.
        depth: Items that are made ahead at most.
    """

    def __init__(self, items: Iterator[Item], depth: int):
        self._queue: queue.Queue[tuple[bool, Item | BaseException | None]] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._process = os.getpid()
        # No daemon: one that is inside torch when the interpreter goes down ends the process with an abort.
        self._thread = threading.Thread(
            target=_work, args=(items, self._queue, self._stopped), name="memxlnet-prefetch", daemon=False
        )
        self._thread.start()

    @property
    def is_here(self) -> bool:
        """Whether the thread runs in this process."""
        return self._process == os.getpid()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        while not self._stopped.is_set():
            try:
                more, value = self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if not self._thread.is_alive() and self._queue.empty():
                    self._stopped.set()  # the main thread has ended, or another one has closed this
                continue
            if more:
                return value  # type: ignore[return-value]
            self.close()
            if isinstance(value, BaseException):
                raise value
        raise StopIteration

    def close(self) -> None:
        """End the thread and wait for it."""
        self._stopped.set()
        # A thread is not alive either in a forked process, whose copy of the queue may be locked for ever, and when the
        # interpreter goes down, where the modules are gone.
        if not self._thread.is_alive() or self._thread is threading.current_thread():
            return
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()  # wakes a thread that waits for room
        self._thread.join()

    def __del__(self) -> None:
        self._stopped.set()


def _work(
    items: Iterator[Item], out: "queue.Queue[tuple[bool, Item | BaseException | None]]", stopped: threading.Event
) -> None:
    def put(more: bool, value: Item | BaseException | None) -> bool:
        # The interpreter waits for this thread at its end, after the end of the main thread.
        while not stopped.is_set() and threading.main_thread().is_alive():
            try:
                out.put((more, value), timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    _LOCAL.stopped = stopped
    try:
        for item in items:
            if not put(True, item):
                return
        put(False, None)
    except BaseException as error:
        # Handed over, never swallowed: the iteration raises it.
        put(False, error)
        if not isinstance(error, Exception):
            raise
