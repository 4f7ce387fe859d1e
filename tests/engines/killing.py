"""An executor around another one that notes every call in a worker, and can kill the worker of one of them."""

import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import psutil

from tests.builder.scripts.injected import chunk_files, wait_until


class Noting(Executor):
    """Hands calls to another executor, and notes in a folder what its workers do.

    Args:
        executor: The executor that runs the calls.
        folder: Folder of the notes, which workers see.
        cache_dir: The caches that the build writes.
        killed: Number of the call whose worker is killed on its first run, once two chunks are finished.
        always: Whether its worker is killed on each run.
        generation: Whom the kill is for: 0 for the worker, 1 for its parent process, 2 for the parent of that.
    """

    def __init__(
        self,
        executor: Executor,
        folder: Path,
        cache_dir: Path,
        killed: int | None = None,
        always: bool = False,
        generation: int = 0,
    ):
        self._executor = executor
        self._folder = folder
        self._killed = killed
        self._kill = (cache_dir, always, generation)
        self._number = 0
        folder.mkdir()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not any(getattr(each, "__name__", "").startswith("encode") for each in args):  # a probe, or shards to fill
            return self._executor.submit(fn, *args, **kwargs)
        number, self._number = self._number, self._number + 1
        if number != self._killed:
            return self._executor.submit(_noted, self._folder, number, fn, args, kwargs)
        return self._executor.submit(_killed, *self._kill, self._folder, number, fn, args, kwargs)

    def runs(self) -> list[int]:
        """The numbers of the calls that workers have begun, in order of numbers."""
        return sorted(int(path.name.split("-")[0]) for path in self._folder.iterdir())

    def processes(self) -> set[int]:
        """The processes that have worked."""
        return {int(path.name.split("-")[1]) for path in self._folder.iterdir()}


def _noted(folder: Path, number: int, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    (folder / f"{number}-{os.getpid()}").touch()
    return fn(*args, **kwargs)


def _killed(cache_dir: Path, always: bool, generation: int, folder: Path, number: int, *call: Any) -> Any:
    if always or not list(folder.glob(f"{number}-*")):
        (folder / f"{number}-{os.getpid()}").touch()
        wait_until(lambda: len(chunk_files(cache_dir)) >= 2, "two chunks are finished", 60)
        victim = psutil.Process()
        for _ in range(generation):
            victim = victim.parent() or victim
        victim.kill()
        signal.pause()  # a worker whose parent is killed ends soon
    return _noted(folder, number, *call)
