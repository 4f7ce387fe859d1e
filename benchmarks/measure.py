"""Timing: several calls in turns, so that a drift of the machine meets all of them; every sample is kept."""

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
    """Seconds a call of several calls.

    Each is called once before, to warm up. A call that takes the budget by itself needs no warmth: that is its sample.

    Args:
        calls: Calls by name.
        rounds: Samples of each call.
        seconds: Time of a round at least, which decides how many calls make one.
        budget: Time for all rounds of one call; calls that need more have fewer rounds.

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
            # Another one begins each time, after a pause: threads of the one before may still be at work.
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
    """Hold the garbage collector back, whose runs would meet one contestant by chance."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def median(samples: Sequence[float]) -> float:
    """The median of samples."""
    return statistics.median(samples)


def ratio(samples: Sequence[float], against: Sequence[float]) -> float:
    """The median of one contestant over the median of another."""
    return median(samples) / median(against)


def fitted_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The exponent k of the power law ``value = c * size ** k`` that fits best: 0 does not grow, 1 is linear."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def evict(path: Path) -> None:
    """Ask the system to drop the pages of a file or folder that no process has mapped; a no-op outside Linux."""
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
    """Read a file, or all files of a folder, so that the system has their pages where there is room."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("rb") as opened:
                while opened.read(2**24):
                    pass


def folder_bytes(path: Path) -> int:
    """The size of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
