import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator

import pytest

from memxlnet.background import Prefetched
from tests.support import ROOT, WAIT_SECONDS, slow


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "memxlnet-prefetch"]


def wait_for_no_threads() -> None:
    stop = time.monotonic() + WAIT_SECONDS
    while threads():
        assert time.monotonic() < stop, threads()
        time.sleep(0.01)


class Counting:
    """Integers without end, and how many were made."""

    def __init__(self, stop: int = 10**9):
        self.made = 0
        self.stop = stop
        self.thread: int | None = None

    def __iter__(self) -> Iterator[int]:
        while self.made < self.stop:
            self.made += 1
            self.thread = threading.get_ident()
            yield self.made


def _settled(source: Counting, expected: int) -> int:
    """How many were made when there was time for more than the expected number."""
    stop = time.monotonic() + WAIT_SECONDS
    while source.made < expected and time.monotonic() < stop:
        time.sleep(0.01)
    time.sleep(0.3)
    return source.made


def test_gives_all_items_in_order_from_another_thread() -> None:
    source = Counting(50)
    found = Prefetched(iter(source), 3)
    assert list(found) == list(range(1, 51))
    assert source.thread != threading.get_ident()
    assert list(found) == []
    assert not threads()


def test_works_ahead_by_a_bounded_number() -> None:
    source = Counting()
    found = Prefetched(iter(source), 2)
    assert _settled(source, 3) == 3  # two in the queue, one in the hand
    assert [next(found), next(found)] == [1, 2]
    assert _settled(source, 5) == 5
    found.close()
    assert not threads()


def _failing() -> Iterator[int]:
    yield 1
    yield 2
    raise LookupError("third")


def test_an_exception_comes_where_its_item_would_have_with_its_traceback() -> None:
    found = Prefetched(_failing(), 4)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(LookupError, match="third") as caught:
        next(found)
    assert "_failing" in "".join(traceback.format_tb(caught.value.__traceback__))
    with pytest.raises(StopIteration):
        next(found)
    assert not threads()


def _exiting() -> Iterator[int]:
    yield 1
    raise SystemExit(3)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_exit_in_the_thread_is_handed_over_too() -> None:
    found = Prefetched(_exiting(), 4)
    assert next(found) == 1
    with pytest.raises(SystemExit):
        next(found)


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_closing_ends_the_thread(taken: int) -> None:
    found = Prefetched(iter(Counting()), 2)
    for _ in range(taken):
        next(found)
    assert len(threads()) == 1
    found.close()
    assert not threads()
    found.close()
    with pytest.raises(StopIteration):
        next(found)


def test_dropping_it_ends_the_thread() -> None:
    found = Prefetched(iter(Counting()), 2)
    next(found)
    del found
    gc.collect()
    wait_for_no_threads()


UNFINISHED = """
import itertools, sys, torch
from memxlnet.background import Prefetched
matrix = torch.ones(300, 300)
found = Prefetched((matrix @ matrix for _ in itertools.count()), 2)
kept = iter(found)
next(kept)
{end}
"""


@pytest.mark.parametrize(
    ("end", "code", "times"),
    [("", 0, 1), slow("", 0, 3), slow("sys.exit(3)", 3, 3), slow("raise ValueError('mine')", 1, 3)],
)
def test_an_unfinished_iterator_lets_the_process_end(end: str, code: int, times: int) -> None:
    for _ in range(times):
        command = [sys.executable, "-c", UNFINISHED.format(end=end)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False)
        assert done.returncode == code, done.stderr
        assert ("mine" in done.stderr) == (code == 1)
        assert "memxlnet-prefetch" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_no_thread() -> None:
    with contextlib.closing(Prefetched(iter(Counting()), 2)) as found:
        assert found.is_here
        child = os.fork()
        if not child:
            found.close()
            os._exit(1 if found.is_here else 0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("waiting", [False, True])
def test_another_thread_that_reads_while_it_is_closed_comes_to_an_end(waiting: bool) -> None:
    hold = threading.Event()

    def waits() -> Iterator[int]:
        yield 1
        hold.wait(WAIT_SECONDS)
        yield 2

    found = Prefetched(waits() if waiting else iter(Counting()), 2)
    taken: list[int] = []
    reader = threading.Thread(target=lambda: taken.extend(found), daemon=True)
    reader.start()
    while not taken:
        time.sleep(0.01)
    threading.Timer(0.3, hold.set).start()
    found.close()
    reader.join(WAIT_SECONDS)
    assert not reader.is_alive()
    assert not threads()


def test_a_loop_in_another_thread_outlives_the_main_thread() -> None:
    program = """
import itertools, sys, threading, time
from memxlnet.background import Prefetched

def loop():
    found = Prefetched(iter(itertools.count()), 2)
    next(found)
    begun.set()
    threading.main_thread().join()
    while any(thread.name == "memxlnet-prefetch" for thread in threading.enumerate()):
        time.sleep(0.01)
    print("rest", len(list(found)) < 5)

begun = threading.Event()
threading.Thread(target=loop).start()
begun.wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_SECONDS
    )
    assert (done.stdout, done.stderr, done.returncode) == ("rest True\n", "", 0)


def test_closing_in_a_forked_process_does_not_touch_the_queue() -> None:
    found = Prefetched(iter(Counting()), 2)
    next(found)
    with found._queue.mutex:  # as the thread may hold it at the moment of a fork
        child = os.fork()
        if child == 0:
            found.close()
            os._exit(7)
    for _ in range(6000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.02)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        status = -1
    found.close()
    assert os.waitstatus_to_exitcode(status) == 7


def test_one_that_is_left_until_the_interpreter_ends_says_nothing() -> None:
    program = """
from memxlnet.background import Prefetched
from contextlib import closing
import itertools

def loop():
    with closing(Prefetched(iter(itertools.count()), 2)) as found:
        yield from found

left = loop()
next(left)
import sys
sys.left = left
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=WAIT_SECONDS
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
