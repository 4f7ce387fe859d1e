"""A function in a process of its own, watched from outside: ``python -m benchmarks.child module:function ...``."""

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
    """A child ended with an error."""


class Child(NamedTuple):
    """What a child did.

    Attributes:
        value: What its function gave; None where it was killed.
        killed: Whether the system killed it (SIGKILL), as it does for want of memory.
        samples: Time since its start in seconds and the memory of its process tree.
    """

    value: Any
    killed: bool
    samples: list[tuple[float, Memory]]

    def peak(self) -> Memory:
        """The highest anonymous, file-backed and resident memory; not always of one moment."""
        columns = list(zip(*(memory for _, memory in self.samples), strict=True))
        return Memory(*map(max, columns)) if columns else Memory(0, 0, 0)

    def timeline(self) -> list[tuple[float, int, int]]:
        """Seconds since its start, anonymous and file-backed bytes: some 300 moments at most."""
        every = max(1, len(self.samples) // 300)
        groups = [self.samples[start : start + every] for start in range(0, len(self.samples), every)]
        highest = [max(group, key=lambda sample: sample[1].anonymous) for group in groups]
        return [(round(moment, 3), found.anonymous, found.file) for moment, found in highest]


_PRELOADED = ["torch", "transformers.models.xlnet.modeling_xlnet", "datasets", "memxlnet.data.qa_datasets"]

_warm: Any = None


def start_warm() -> None:
    """Start the next children from a process that has the libraries loaded: seconds faster each, for quick runs.

    What they share with that process counts in shares in their memory; what they add counts whole.
    """
    global _warm
    _warm = multiprocessing.get_context("forkserver")
    _warm.set_forkserver_preload(_PRELOADED)


def in_process(function: Callable[..., Any], group: ControlGroup | None = None, **arguments: Any) -> Child:
    """Call a function of a module in a process of its own.

    Args:
        function: A function at the top of its module, with arguments and a result that JSON knows.
        group: The control group that it runs in.
        **arguments: Its arguments.

    Raises:
        ChildError: It ended with an error; its standard error is in the message.
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
            told = errors.read_text(encoding="utf-8", errors="replace")[-4000:] if errors.exists() else "it never began"
            raise ChildError(f"{name} ended with {code}:\n{told}")
        return Child(json.loads(result.read_text(encoding="utf-8")), False, samples)


class _Process(NamedTuple):
    """A running child, however it was started."""

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
        name: Module and function, with a colon between.
        arguments: JSON of its arguments.
        result: The file that takes its result as JSON.
        errors: The file that takes the standard error of this process.
    """
    gc.freeze()  # a collection would touch, and so copy, all that a forked child shares
    with Path(errors).open("w+b") as stream:
        os.dup2(stream.fileno(), sys.stderr.fileno())
    module, _, function = name.partition(":")
    found = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    Path(result).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    call(*sys.argv[1:])
