"""The memory of processes, anonymous and file-backed apart, as Linux tells it in `smaps_rollup`.

Anonymous pages are what a process really takes: its heap and stacks. File-backed pages lie in the page cache, which the
system takes back when it needs room. Pages that processes share count in equal shares (PSS). Swapped pages count as
anonymous.
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
"""Seconds between two looks at least; looks, slower the more pages there are, take 5 % of the time at most."""

FAMILY_INTERVAL = 0.5
"""Seconds between two looks for new processes, which go through all of the system's."""


class Memory(NamedTuple):
    """Bytes of memory.

    Attributes:
        anonymous: Pages of no file.
        file: Pages of mapped files, libraries included.
        rss: Both, as most tools show them: shared pages counted in each process.
    """

    anonymous: int
    file: int
    rss: int


def of_processes(processes: Iterable[int | str]) -> Memory:
    """The memory of some processes, each by its number; those that have ended count nothing."""
    found = [_of_process(process) for process in processes]
    return Memory(*map(sum, zip(*found, strict=True))) if found else Memory(0, 0, 0)


def trim() -> None:
    """Give back to the system what has been freed, of which glibc and Arrow keep hundreds of megabytes."""
    gc.collect()
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def of_self() -> Memory:
    """The memory of this process."""
    return of_processes(["self"])


def _of_process(process: int | str) -> Memory:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="utf-8")
    except FileNotFoundError:
        return _without_proc(process)
    except OSError:
        return Memory(0, 0, 0)  # it has ended
    size = {parts[0]: int(parts[1]) * 1024 for parts in map(str.split, text.splitlines()[1:])}
    if "Pss_Anon:" not in size:  # before Linux 5.9
        return Memory(size["Anonymous:"], size["Rss:"] - size["Anonymous:"], size["Rss:"])
    return Memory(size["Pss_Anon:"] + size["SwapPss:"], size["Pss_File:"] + size["Pss_Shmem:"], size["Rss:"])


def _without_proc(process: int | str) -> Memory:
    """Systems without /proc: what is unique to a process, or else all that is resident, stands for anonymous pages."""
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
    """Watches the process tree below a process while it runs.

    Attributes:
        samples: Time of `time.monotonic` and memory, in order.
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
