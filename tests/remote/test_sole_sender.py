"""Leases: one sender at a time in a store without conditional writes, and none that waits for a dead one for ever."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memxlnet.errors import TransferError
from memxlnet.remote import sole_sender as module
from memxlnet.remote.sole_sender import LostLeaseError, has_conditional_write, sole_sender
from memxlnet.remote.stores import Store, open_store
from tests.support import WAIT_SECONDS

CACHE = "squad--train--0123456789abcdef"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    return open_store(f"memory://leases-{uuid.uuid4().hex}", None)


def quietly() -> None:
    """Wait without a word."""


def test_one_holds_it_at_a_time_and_all_have_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    store = open_store(f"file://{tmp_path}/store", None)  # files in memory share the place of all who read them
    inside, most, turns = 0, 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most, turns
        with sole_sender(store, CACHE, quietly) as check:
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.002)
            check()
            with guard:
                inside -= 1
                turns += 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(WAIT_SECONDS)
    assert (most, turns) == (1, 8)
    assert not store.entries()


def test_a_listing_that_lacks_the_newest_lets_one_in(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "entries", lambda _: {})
    order: list[str] = []
    waited = threading.Event()

    def follow() -> None:
        with sole_sender(store, CACHE, waited.set) as check:
            check()
            order.append("second")

    second = threading.Thread(target=follow)
    with sole_sender(store, CACHE, _never) as check:
        second.start()
        assert waited.wait(WAIT_SECONDS)
        check()
        order.append("first")
    second.join(WAIT_SECONDS)
    assert order == ["first", "second"]


def test_one_that_another_overtook_in_spite_of_that_is_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "entries", lambda _: {})
    with sole_sender(store, CACHE, _never) as first:
        with monkeypatch.context() as patched:
            patched.setattr(module._Lease, "_read_holder", lambda _: None)  # both look before either writes
            lease = sole_sender(store, CACHE, _never)
            second = lease.__enter__()
        second()
        with pytest.raises(TransferError, match="found another sender at the same time"):
            first()
        second()
        lease.__exit__(None, None, None)


def test_one_that_another_overtakes_while_it_writes_its_name_finds_out_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Store.put

    def overtaken(self: Store, name: str, content: bytes) -> None:
        put(self, name, content)
        if name.endswith("-holder"):
            put(self, name, f".lease-{CACHE}-00000001-00000000000000aa".encode())

    monkeypatch.setattr(Store, "put", overtaken)
    with sole_sender(store, CACHE, _never) as check, pytest.raises(LostLeaseError, match="found another sender"):
        check()


@pytest.mark.parametrize("name", ["holder", "00000001-00000000000000aa"])
def test_a_lease_may_go_between_two_requests(store: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    file, gone = f".lease-{CACHE}-{name}", threading.Event()
    store.write(file, b"{}")
    blocks = Store.blocks

    def go(self: Store, found: str, start: int, stop: int) -> Iterator[bytes]:
        if found == file and not gone.is_set():
            gone.set()
            store.remove(file)
        return blocks(self, found, start, stop)

    monkeypatch.setattr(Store, "blocks", go)
    with sole_sender(store, CACHE, quietly) as check:
        check()
    assert gone.is_set()


def test_a_dead_holder_is_passed_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f".lease-{CACHE}-00000001-00000000000000aa"
    store.write(f".lease-{CACHE}-holder", name.encode())
    with sole_sender(store, CACHE, _never) as check:
        check()  # its lease is gone
    store.write(name, b"{}")
    store.write(f".lease-{CACHE}-holder", name.encode())
    monkeypatch.setattr(Store, "entries", lambda _: {})
    monkeypatch.setattr(module, "EXPIRY_SECONDS", 0.1)
    with sole_sender(store, CACHE, quietly):
        assert store.size(name) is None


def test_what_a_killed_probe_left_goes_with_the_next_one(store: Store) -> None:
    store.write(f".lease-{CACHE}-probe", b"probe")
    assert has_conditional_write(store, CACHE)
    assert not store.entries()


def test_a_probe_that_another_process_removes_is_repeated(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Store.create
    calls: list[bool | None] = []

    def create(self: Store, name: str, content: bytes) -> bool | None:
        calls.append(plain(self, name, content))
        if len(calls) == 1:
            self.remove(name)
        return calls[-1]

    monkeypatch.setattr(Store, "create", create)
    assert has_conditional_write(store, CACHE)
    assert calls == [True, True, False]


def test_a_written_probe_that_another_process_removes_does_no_harm(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Store.put

    def removed(self: Store, name: str, content: bytes) -> None:
        put(self, name, content)
        self.remove(name)

    monkeypatch.setattr(Store, "create", lambda *_: None)
    monkeypatch.setattr(Store, "put", removed)
    assert not has_conditional_write(store, CACHE)


def test_senders_of_other_caches_are_not_waited_for(store: Store) -> None:
    with sole_sender(store, CACHE, quietly), sole_sender(store, CACHE.replace("squad", "other"), _never):
        pass


def _never() -> None:
    raise AssertionError("expected nobody to wait for")


@pytest.mark.parametrize("name", ["choosing-00000000000000aa", "00000001-00000000000000aa"])
def test_a_dead_sender_is_passed_over(store: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    store.write(f".lease-{CACHE}-{name}", b"{}")
    waited: list[float] = []
    monkeypatch.setattr(module, "EXPIRY_SECONDS", 0.1)
    with sole_sender(store, CACHE, lambda: waited.append(time.monotonic())):
        assert waited[-1] - waited[0] >= 0.08
    assert not store.entries()


def test_one_that_renews_its_lease_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXPIRY_SECONDS", 0.2)
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.02)
    order: list[str] = []
    held = threading.Event()

    def hold() -> None:
        with sole_sender(store, CACHE, quietly) as check:
            held.set()
            time.sleep(0.6)
            check()
            order.append("first")

    first = threading.Thread(target=hold)
    first.start()
    assert held.wait(WAIT_SECONDS)
    with sole_sender(store, CACHE, quietly):
        order.append("second")
    first.join(WAIT_SECONDS)
    assert order == ["first", "second"]


def test_a_store_that_cannot_be_read_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Iterator[bytes]:
        raise TransferError("of the store")

    store.write(f".lease-{CACHE}-holder", b"x")
    monkeypatch.setattr(Store, "blocks", fail)
    with pytest.raises(TransferError, match="of the store"), sole_sender(store, CACHE, _never):
        pass


@pytest.mark.parametrize("how", ["removed", "late"])
def test_a_lost_lease_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    with sole_sender(store, CACHE, quietly) as check:
        check()
        if how == "removed":
            for name in store.entries() or {}:
                store.remove(name)
        else:
            monkeypatch.setattr(module, "EXPIRY_SECONDS", -1.0)
        with pytest.raises(TransferError, match="expected a lease renewed every"):
            check()


def test_what_waits_may_give_up_and_leaves_no_lease(store: Store) -> None:
    def give_up() -> None:
        raise KeyboardInterrupt

    with sole_sender(store, CACHE, quietly):
        with pytest.raises(KeyboardInterrupt), sole_sender(store, CACHE, give_up):
            pass
        assert len(store.entries() or {}) == 2


@pytest.mark.parametrize(("create", "expected"), [(None, True), (lambda *_: None, False), (lambda *_: True, False)])
def test_whether_a_store_knows_the_condition_is_tried(
    store: Store, monkeypatch: pytest.MonkeyPatch, create: Callable[..., bool | None] | None, expected: bool
) -> None:
    if create is not None:
        monkeypatch.setattr(Store, "create", create)
    assert has_conditional_write(store, CACHE) is expected
    assert not store.entries()
