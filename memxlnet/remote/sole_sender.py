"""One of several senders to a place: by a conditional write where the store has it, else by lease files."""

import contextlib
import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator

from memxlnet.errors import TransferError
from memxlnet.format.paths import LEASE_PREFIX
from memxlnet.remote.stores import Store

logger = logging.getLogger(__name__)

RENEW_SECONDS = 20.0
"""After so many seconds a sender writes its lease again."""

EXPIRY_SECONDS = 120.0
"""A lease that has stayed the same for so long is that of a dead sender."""

POLL_SECONDS = 1.0

_CHOOSING = "choosing"
_HOLDER = "holder"
_PROBES = 4
_MAX_LEASE_BYTES = 1 << 16


class LostLeaseError(TransferError):
    """A lease was not renewed in time, or another sender has taken it."""


def has_conditional_write(store: Store, cache: str) -> bool:
    """Find out whether a store refuses to write a file that exists; leaves nothing there.

    Any server may ignore the condition, so it is tried.

    Args:
        store: The directory of the caches.
        cache: Name of the cache that is to be sent.

    Raises:
        TransferError: The store cannot be written.
    """
    # One name for all: what a killed process leaves there is refused as well, and goes with the next one.
    name = f"{LEASE_PREFIX}{cache}-probe"
    try:
        for _ in range(_PROBES):  # another process may remove it between two
            created = store.create(name, b"probe")
            if created is None:
                store.put(name, b"probe")  # that it may be written is to be known before any work
            if not created:
                return created is False
        return False
    finally:
        store.remove(name)


@contextlib.contextmanager
def sole_sender(store: Store, cache: str, wait: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Be the only sender to a place whose store has no conditional write; wait while there is another one.

    Lamport's bakery with a file for each sender: it takes a number above all that are there, and the smallest number
    holds. A sender renews its file; one whose file has not changed for `EXPIRY_SECONDS`, by the clock of the one who
    waits, is dead, and its file is removed. A listing may lack files that were just written: the one who holds writes
    its name into a file that all read by its name.

    Args:
        store: The directory of the caches.
        cache: Name of the cache that is to be sent.
        wait: Called while another sender holds the place; may raise.

    Yields:
        A function that raises `LostLeaseError` where the lease was lost; called before what only one may do.

    Raises:
        TransferError: The store cannot be asked.
    """
    lease = _Lease(store, f"{LEASE_PREFIX}{cache}-")
    try:
        lease.take(wait)
        with lease.renewed():
            yield lease.check
    finally:
        lease.release()


class _Lease:
    def __init__(self, store: Store, prefix: str):
        self._store = store
        self._prefix = prefix
        self._token = secrets.token_hex(8)
        self._choosing = self._name = f"{prefix}{_CHOOSING}-{self._token}"
        self._holder = f"{prefix}{_HOLDER}"
        self._renewals = 0
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[bytes | None, float]] = {}

    def take(self, wait: Callable[[], None]) -> None:
        """Wait for the turn of this sender."""
        self._write()
        number = max((number for number, _ in self._others().values()), default=0) + 1
        self._name = f"{self._prefix}{number:08d}-{self._token}"
        self._write()
        self._store.remove(self._choosing)
        while before := [name for name, turn in self._others().items() if turn < (number, self._token)]:
            self._wait_for(before, wait)
        while (holder := self._read_holder()) is not None and self._store.size(holder) is not None:
            self._wait_for([holder], wait)
        self._store.put(self._holder, self._name.encode())  # `check` reads it: here another may have written it since

    def _wait_for(self, names: list[str], wait: Callable[[], None]) -> None:
        self._remove_dead(names)
        wait()
        time.sleep(POLL_SECONDS)
        if time.monotonic() > self._written + RENEW_SECONDS:
            self._write()

    def _read(self, name: str) -> bytes | None:
        for _ in range(_PROBES - 1):
            try:
                return self._store.read(name, _MAX_LEASE_BYTES)
            except TransferError:
                time.sleep(POLL_SECONDS)  # its sender may remove or write it between two requests
        return self._store.read(name, _MAX_LEASE_BYTES)

    def _read_holder(self) -> str | None:
        """Return the lease of the one who holds, or held; None where nobody does."""
        content = self._read(self._holder)
        name = (content or b"").decode(errors="replace")
        return name if re.fullmatch(rf"{re.escape(self._prefix)}[0-9]{{8}}-[0-9a-f]{{16}}", name) else None

    @contextlib.contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the lease in the background."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(RENEW_SECONDS):
                # A store that fails fails the transfer as well, or `check`.
                with contextlib.suppress(TransferError):
                    self._write()

        thread = threading.Thread(target=renew, name="memxlnet-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def check(self) -> None:
        """Check that the lease is held still.

        Raises:
            LostLeaseError: It was not renewed in time, or another sender removed it.
            TransferError: The store cannot be asked.
        """
        is_late = time.monotonic() > self._written + EXPIRY_SECONDS / 2
        is_gone = self._store.size(self._name) is None
        if is_late or is_gone or self._read_holder() != self._name:
            found = "one that is too old" if is_late else "none" if is_gone else "another sender at the same time"
            raise LostLeaseError(
                f"{self._store.url}/{self._name}: expected a lease renewed every {RENEW_SECONDS:g} s, found {found}; "
                "send the cache again"
            )

    def release(self) -> None:
        """Remove the lease."""
        with contextlib.suppress(TransferError):  # it expires
            if self._read_holder() == self._name:
                self._store.remove(self._holder)  # first: while the lease is there nobody else writes it
            for name in {self._choosing, self._name}:
                self._store.remove(name)

    def _write(self) -> None:
        with self._lock:
            self._renewals += 1
            self._store.write(self._name, json.dumps({"renewals": self._renewals}).encode())
            self._written = time.monotonic()

    def _others(self) -> dict[str, tuple[int, str]]:
        """Return the other leases, each with its turn; 0 is that of one who is about to take a number."""
        pattern = re.compile(rf"{re.escape(self._prefix)}({_CHOOSING}|[0-9]{{8}})-([0-9a-f]{{16}})")
        matches = [match for name in self._store.entries() or {} if (match := pattern.fullmatch(name))]
        return {
            match[0]: (0 if match[1] == _CHOOSING else int(match[1]), match[2])
            for match in matches
            if match[2] != self._token
        }

    def _remove_dead(self, names: list[str]) -> None:
        now = time.monotonic()
        for name in names:
            content = self._read(name)
            if name not in self._seen or self._seen[name][0] != content:
                self._seen[name] = content, now
            elif now > self._seen[name][1] + EXPIRY_SECONDS:
                logger.warning("%s/%s: removed, its sender has not renewed it", self._store.url, name)
                self._store.remove(name)
