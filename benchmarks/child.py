"""Run a function in a child process and sample its memory: ``python -m benchmarks.child module:function ...``."""

import gc
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.control_group import ControlGroup
from benchmarks.memory import Memory, Watch

CHILD_VARIABLES = {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}

Words = tuple[str, str, str, str]


class ChildError(Exception):
    """A child process failed."""


class Child(NamedTuple):
    """The outcome of a child process.

    Attributes:
        value: The result of its function; None if it was killed.
        killed: Whether it was killed (SIGKILL), as the system does when memory runs out.
        samples: Seconds since the start, and the memory of the process tree.
    """

    value: Any
    killed: bool
    samples: list[tuple[float, Memory]]

    def peak(self) -> Memory:
        """Return the peaks of anonymous, file-backed and resident memory, which may occur at different times."""
        columns = list(zip(*(memory for _, memory in self.samples), strict=True))
        return Memory(*map(max, columns)) if columns else Memory(0, 0, 0)

    def timeline(self) -> list[tuple[float, int, int]]:
        """Return seconds since the start, anonymous and file-backed bytes: about 300 samples at most."""
        every = max(1, len(self.samples) // 300)
        groups = [self.samples[start : start + every] for start in range(0, len(self.samples), every)]
        highest = [max(group, key=lambda sample: sample[1].anonymous) for group in groups]
        return [(round(moment, 3), found.anonymous, found.file) for moment, found in highest]


_PRELOADED = ["torch", "transformers.models.xlnet.modeling_xlnet", "datasets", "memxlnet.data.qa_datasets"]

_warm: Any = None


def start_warm() -> None:
    """Fork all later children from a process with the libraries loaded, which saves seconds per child in quick runs.

    Memory that they share with that process is divided among them; memory that they allocate counts in full.
    """
    global _warm
    _warm = multiprocessing.get_context("forkserver")
    _warm.set_forkserver_preload(_PRELOADED)


def in_process(function: Callable[..., Any], group: ControlGroup | None = None, **arguments: Any) -> Child:
    """Call a function of a module in a child process.

    Args:
        function: A module-level function whose arguments and result are JSON serializable.
        group: The control group of the child.
        **arguments: The arguments of the function.

    Raises:
        ChildError: The child failed; the message holds its standard error.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    with tempfile.TemporaryDirectory(prefix="memxlnet-child-") as folder:
        result, errors = Path(folder) / "result.json", Path(folder) / "errors"
        words = name, json.dumps(arguments), str(result), str(errors)
        begun = time.monotonic()
        process = _fresh(words, group) if _warm is None or group is not None else _forked(words)
        try:
            with Watch(process.pid) as watch:
                code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        samples = [(moment - begun, memory) for moment, memory in watch.samples]
        if code == -signal.SIGKILL:
            return Child(None, True, samples)
        if code:
            output = (
                errors.read_text(encoding="utf-8", errors="replace")[-4000:] if errors.exists() else "did not start"
            )
            raise ChildError(f"{name} failed with exit code {code}:\n{output}")
        return Child(json.loads(result.read_text(encoding="utf-8")), False, samples)


class _Process(NamedTuple):
    """A running child, spawned or forked."""

    pid: int
    wait: Callable[[], int]
    kill: Callable[[], None]


def _fresh(words: Words, group: ControlGroup | None) -> _Process:
    started = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.child", *words],
        env=os.environ | CHILD_VARIABLES,
        stdout=subprocess.DEVNULL,
        preexec_fn=group.join if group else None,
        start_new_session=True,
    )
    return _Process(started.pid, started.wait, lambda: os.killpg(started.pid, signal.SIGKILL))


def _forked(words: Words) -> _Process:
    os.environ.update(CHILD_VARIABLES)
    started = _warm.Process(target=call, args=words)
    started.start()

    def wait() -> int:
        started.join()
        return int(started.exitcode)

    return _Process(started.pid, wait, started.kill)


def call(name: str, arguments: str, result: str, errors: str) -> None:
    """Call a function in this process.

    Args:
        name: Module and function, separated by a colon.
        arguments: Its arguments as JSON.
        result: File for its result as JSON.
        errors: File for the standard error of this process.
    """
    gc.freeze()  # a collection writes to every object, which copies the pages that a forked child shares
    with Path(errors).open("w+b") as stream:
        os.dup2(stream.fileno(), sys.stderr.fileno())
    module, _, function = name.partition(":")
    found = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    Path(result).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    call(*sys.argv[1:])
