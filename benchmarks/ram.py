"""The peak RAM of a command: the private memory of its whole process tree, pages of mapped files left out."""

import subprocess
import sys
import time
from typing import NamedTuple

import psutil


class Peak(NamedTuple):
    """Bytes of private memory at their highest, processes at that moment, and what the command printed."""

    private: int
    processes: int
    output: str


def peak_of(command: list[str], environment: dict[str, str], every: float = 0.02) -> Peak:
    """Run a command and watch its process tree, `every` so many seconds.

    Raises:
        SystemExit: The command failed.
    """
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        highest = count = 0
        root = psutil.Process(process.pid)
        tree = [root]
        looked = 0.0
        while process.poll() is None:
            if time.monotonic() - looked > 0.2:
                tree, looked = [root, *_children(root)], time.monotonic()
            private = sum(map(_private, tree))
            if private > highest:
                highest, count = private, len(tree)
            time.sleep(every)
        output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}")
    return Peak(highest, count, output)


def _children(root: psutil.Process) -> list[psutil.Process]:
    try:
        return list(root.children(recursive=True))
    except psutil.Error:
        return []


def _private(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
        return int(memory.rss) - int(getattr(memory, "shared", 0))
    except psutil.Error:
        return 0
