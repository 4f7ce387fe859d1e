"""The RAM guard: what counts, how often it is measured, and when it refuses."""

import gc
import mmap
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from memxlnet.builder import memory_guard
from memxlnet.builder.memory_guard import NEAR, MemoryGuard
from memxlnet.errors import MemoryLimitError
from tests.support import slow

MB = 2**20
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts as Linux does")


class Process:
    """A process that holds as much as it is set to."""

    def __init__(self, pid: int, rss: int, shared: int = 0):
        self.pid = pid
        self.rss = rss
        self.shared = shared
        self.asked = 0
        self.below: list[Process] = []

    def children(self, recursive: bool) -> list["Process"]:
        assert recursive
        self.asked += 1
        return list(self.below)

    def memory_info(self) -> Any:
        if self.rss < 0:
            raise psutil.NoSuchProcess(self.pid)
        return SimpleNamespace(rss=self.rss, shared=self.shared)


class Tree:
    """A tree of processes and the clock that goes with it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 100.0
        self.root = Process(1, 300, 100)
        monkeypatch.setattr(memory_guard, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(psutil, "Process", lambda: self.root)


@pytest.fixture
def tree(monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(monkeypatch)


def test_the_whole_tree_counts_without_shared_pages(tree: Tree) -> None:
    tree.root.below = [Process(2, 70, 20), Process(3, 1000, 999)]
    assert MemoryGuard(1000).used == 200 + 50 + 1


def test_where_shared_pages_are_unknown_all_counts(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Process, "memory_info", lambda self: SimpleNamespace(rss=self.rss))
    assert MemoryGuard(1000).used == 300


def test_a_measurement_holds_for_50_ms(tree: Tree) -> None:
    guard = MemoryGuard(1000)
    assert guard.used == 200
    tree.root.rss = 500
    tree.now += 0.04
    assert guard.used == 200
    tree.now += 0.02
    assert guard.used == 400
    tree.root.rss = 600
    assert guard.used == 400
    assert guard.measure() == guard.used == 500


def test_children_are_looked_for_every_two_seconds(tree: Tree) -> None:
    guard = MemoryGuard(1000)
    assert guard.used == 200
    tree.root.below = [Process(2, 10)]
    tree.now += 1
    assert guard.used == 200
    assert tree.root.asked == 1
    tree.now += 1.1
    assert guard.used == 210
    tree.root.below.append(Process(3, 10))
    assert guard.measure() == 220
    assert tree.root.asked == 3


def test_the_peak_stays(tree: Tree) -> None:
    guard = MemoryGuard(1000)
    assert guard.peak == 0
    for rss, peak in ((300, 200), (900, 800), (200, 800)):
        tree.root.rss = rss
        guard.measure()
        assert (guard.used, guard.peak) == (rss - 100, peak)


def test_a_child_that_ended_counts_no_more(tree: Tree) -> None:
    guard = MemoryGuard(1000)
    child = Process(2, 50)
    tree.root.below = [child]
    assert guard.measure() == 250
    child.rss = -1
    tree.now += 1
    assert guard.used == 200
    tree.root.below = []
    assert guard.measure() == 200


def test_a_child_that_another_thread_found_ended_is_no_error(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = MemoryGuard(1000)

    class Ended(Process):
        def memory_info(self) -> Any:
            guard._children.clear()
            raise psutil.NoSuchProcess(self.pid)

    tree.root.below = [Ended(2, 50), Process(3, 10)]
    assert guard.measure() == 210


@pytest.mark.parametrize(
    ("used", "near", "room"), [(0, False, 1000), (849, False, 151), (850, True, 150), (1000, True, 0), (1500, True, 0)]
)
def test_nearness_and_room_follow_the_bound(tree: Tree, used: int, near: bool, room: int) -> None:
    assert NEAR == 0.85
    tree.root.rss = used + 100
    guard = MemoryGuard(1000)
    assert (guard.is_near, guard.room) == (near, room)


def test_the_check_refuses_what_stays_beyond_the_bound(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = MemoryGuard(200)
    guard.check("nothing")
    tree.root.rss = 301
    tree.now += 1
    with pytest.raises(MemoryLimitError) as caught:
        guard.check("the table of lamps")
    assert "max_memory_gb: the table of lamps takes 0.00 GiB in this process and its children; expected at most" in str(
        caught.value
    )
    assert "raise max_memory_gb, lower num_workers, or free memory of the process" in str(caught.value)
    # What can be given back is no reason to refuse.
    monkeypatch.setattr(gc, "collect", lambda: setattr(tree.root, "rss", 300))
    guard.check("the table of lamps")
    assert guard.used == 200


# --- real processes

HOLDER = "import sys; held = bytearray(b'x') * (80 << 20); print('held', flush=True); sys.stdin.read()"
BELOW = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {HOLDER!r}])"


@contextmanager
def running(code: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"held\n"
        yield child
        child.stdin.close()


@pytest.mark.parametrize("code", [HOLDER, BELOW], ids=["child", "child of a child"])
def test_a_real_child_counts_while_it_lives(code: str) -> None:
    guard = MemoryGuard(2**40)
    before = guard.measure()
    with running(code):
        during = guard.measure()
        assert 80 * MB <= during - before < 160 * MB
    assert guard.measure() < before + 40 * MB
    assert guard.peak >= during


def test_memory_of_this_process_counts() -> None:
    guard = MemoryGuard(2**40)
    before = guard.measure()
    held = bytearray(b"x") * (100 * MB)
    assert guard.measure() - before > 90 * MB
    del held
    assert guard.release() - before < 30 * MB


@on_linux
def test_what_was_freed_is_given_back_to_the_system() -> None:
    guard = MemoryGuard(2**40)
    before = guard.measure()
    pieces = [bytearray(2000) for _ in range(50_000)]
    kept = pieces[-1]  # at the end of the heap, which the C library would shrink by itself
    del pieces
    assert guard.release() - before < 30 * MB
    assert len(kept) == 2000


@on_linux
@pytest.mark.parametrize("flags", [mmap.MAP_SHARED, slow(mmap.MAP_PRIVATE)], ids=["shared", "private"])
def test_pages_of_mapped_files_do_not_count(tmp_path: Path, flags: int) -> None:
    guard = MemoryGuard(2**40)
    path = tmp_path / "large"
    with path.open("w+b") as file:
        file.truncate(200 * MB)
        with mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ) as mapped:
            before = guard.measure()
            resident = psutil.Process().memory_info().rss
            assert sum(mapped[place] for place in range(0, len(mapped), 4096)) == 0
            assert psutil.Process().memory_info().rss - resident > 190 * MB
            assert guard.measure() - before < 20 * MB
