"""Functions that tests call in child processes."""

import os
import signal
import time


def add(first: int, second: int) -> int:
    return first + second


def fail() -> None:
    raise ValueError("expected something else")


def take(megabytes: int, seconds: float = 0.0) -> int:
    held = bytearray(megabytes * 10**6)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(seconds)
    return len(held)


def end_by_signal() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
