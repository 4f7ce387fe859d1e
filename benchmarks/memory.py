"""The memory of processes, split into anonymous and file-backed pages, from `smaps_rollup` of Linux.

Anonymous pages are private memory: heap and stacks. File-backed pages are in the page cache, and the system can reclaim
them. Shared pages are divided among the processes that share them (PSS). Swapped pages count as anonymous.
"""

import ctypes
import gc
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

INTERVAL = 0.05
"""Minimum seconds between samples; sampling, which is slower with more pages, takes at most 5 % of the time."""

FAMILY_INTERVAL = 0.5
"""Seconds between two searches for new child processes, which list all processes of the system."""


class Memory(NamedTuple):
    """Bytes of memory.

    Attributes:
        anonymous: Pages without a file.
        file: Pages of mapped files, libraries included.
        rss: Resident pages of both kinds; shared pages count in full in each process.
    """

    anonymous: int
    file: int
    rss: int


def of_processes(processes: Iterable[int | str]) -> Memory:
    """Return the total memory of processes given by id; ended processes count as zero."""
    found = [_of_process(process) for process in processes]
    return Memory(*map(sum, zip(*found, strict=True))) if found else Memory(0, 0, 0)


def trim() -> None:
    """Return freed memory to the system; glibc and Arrow keep hundreds of megabytes of it."""
    gc.collect()
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def of_self() -> Memory:
    """Return the memory of this process."""
    return of_processes(["self"])


def _of_process(process: int | str) -> Memory:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8")
    except FileNotFoundError:
        return _without_proc(process)
    except OSError:
        return Memory(0, 0, 0)  # the process has ended
    size = {parts[0]: int(parts[1]) * 1024 for parts in map(str.split, text.splitlines()[1:])}
    if "Pss_Anon:" not in size:  # before Linux 5.9
        return Memory(size["Anonymous:"], size["Rss:"] - size["Anonymous:"], size["Rss:"])
    return Memory(size["Pss_Anon:"] + size["SwapPss:"], size["Pss_File:"] + size["Pss_Shmem:"], size["Rss:"])


def _without_proc(process: int | str) -> Memory:
    """Use the unique set size, or else the resident set size, as anonymous memory on systems without /proc."""
    try:
        found = psutil.Process(process if isinstance(process, int) else None)
        resident = int(found.memory_info().rss)
        with suppress(psutil.AccessDenied):
            own = int(found.memory_full_info().uss)
            return Memory(own, max(resident - own, 0), resident)
    except psutil.Error:
        return Memory(0, 0, 0)
    return Memory(resident, 0, resident)


class Watch:
    """Samples the memory of a process and its children while it runs.

    Attributes:
        samples: Times of `time.monotonic` and memory, in order.
    """

    def __init__(self, process: int):
        self.samples: list[tuple[float, Memory]] = []
        self._root = process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        taken, looked, tree = 0.0, 0.0, [self._root]
        while not self._stop.wait(max(INTERVAL, 20 * taken)):
            begun = time.monotonic()
            if begun - looked > FAMILY_INTERVAL:
                tree, looked = self._tree(), begun
            memory = of_processes(tree)
            if memory.rss:
                self.samples.append((begun, memory))
            taken = time.monotonic() - begun

    def _tree(self) -> list[int]:
        try:
            root: Any = psutil.Process(self._root)
            return [self._root, *(child.pid for child in root.children(recursive=True))]
        except psutil.Error:
            return [self._root]
