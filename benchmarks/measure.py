"""Timing helpers: medians of several, with their spread."""

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Timing(NamedTuple):
    """Seconds a call: the median of several rounds, the fastest and the slowest of them."""

    median: float
    fastest: float
    slowest: float

    def __str__(self) -> str:
        return f"{self.median * 1e6:,.1f} us ({self.fastest * 1e6:,.1f} - {self.slowest * 1e6:,.1f})"


def per_call(call: Callable[[], Any], rounds: int = 7, calls: int = 1000) -> Timing:
    """The time of one call, over rounds of many."""
    for _ in range(min(calls, 50)):
        call()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(calls):
            call()
        seconds.append((time.perf_counter() - started) / calls)
    return Timing(statistics.median(seconds), min(seconds), max(seconds))


def compared(calls: dict[str, Callable[[], Any]], rounds: int = 9, number: int = 500) -> dict[str, Timing]:
    """The times of several calls, their rounds interleaved, so that a drift of the machine meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    gc.disable()
    try:
        for call in calls.values():
            per_call(call, 1, number // 5)
        for _ in range(rounds):
            for name, call in calls.items():
                seconds[name].append(per_call(call, 1, number).median)
    finally:
        gc.enable()
    return {name: Timing(statistics.median(s), min(s), max(s)) for name, s in seconds.items()}


def in_process(module: str, *arguments: str) -> Any:
    """What a module prints as JSON in its last line, run in a process of its own."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])
