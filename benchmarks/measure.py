"""Timing of interleaved calls, so that drift of the machine affects all of them; every sample is kept."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PAUSE = 0.05
"""Seconds between two rounds."""


def in_turns(
    calls: Mapping[str, Callable[[], Any]], rounds: int = 9, seconds: float = 0.05, budget: float = 20.0
) -> dict[str, list[float]]:
    """Measure the seconds per call of several functions, interleaved.

    Each is called once to warm up; a call that takes more than half of the budget is measured by that call alone.

    Args:
        calls: Functions by name.
        rounds: Samples per function.
        seconds: Minimum duration of a round, which sets the number of calls in it.
        budget: Time for all rounds of one function; slower functions get fewer rounds.

    Returns:
        The samples by name, each the mean of one round.
    """
    samples: dict[str, list[float]] = {}
    plans: dict[str, tuple[int, int]] = {}
    for name, call in calls.items():
        once = _timed(call, 1)
        samples[name] = []
        if once > budget / 2:
            samples[name].append(once)
            continue
        once = _timed(call, 1)
        number = max(1, int(seconds / max(once, 1e-7)))
        plans[name] = number, max(1, min(rounds, int(budget / (once * number))))
    names = list(plans)
    with without_collection():
        for turn in range(rounds):
            # Rotate the order, and pause, because threads of the previous call may still be running.
            for name in (*names[turn % len(names) :], *names[: turn % len(names)]) if names else ():
                number, most = plans[name]
                if turn < most:
                    time.sleep(PAUSE)
                    samples[name].append(_timed(calls[name], number))
    return samples


def _timed(call: Callable[[], Any], number: int) -> float:
    begun = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - begun) / number


@contextmanager
def without_collection() -> Iterator[None]:
    """Disable the garbage collector, whose runs would affect one of the calls at random."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def median(samples: Sequence[float]) -> float:
    """Return the median of samples."""
    return statistics.median(samples)


def ratio(samples: Sequence[float], against: Sequence[float]) -> float:
    """Return the ratio of two medians."""
    return median(samples) / median(against)


def fitted_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Fit the exponent k of the power law ``value = c * size ** k``: 0 is constant, 1 is linear."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def evict(path: Path) -> None:
    """Ask the system to drop the unmapped pages of a file or folder; a no-op outside Linux."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in path.rglob("*") if path.is_dir() else (path,):
        if not file.is_file():
            continue
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def read_into_page_cache(path: Path) -> None:
    """Read a file, or all files of a folder, into the page cache."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("rb") as opened:
                while opened.read(2**24):
                    pass


def folder_bytes(path: Path) -> int:
    """Return the size of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
