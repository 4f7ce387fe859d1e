"""The package's worker processes: light, each with one thread here that hands it chunks and waits for receipts.

`ProcessPoolExecutor` would import the user's script in every worker (torch and all, and without a main guard it would
build again), cannot say which task a dead process had, and leaves workers running when the builder is killed. An
executor that the user brings is served as it is; see `memxlnet.builder.in_workers`.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from memxlnet.builder.worker_messages import receive, send
from memxlnet.errors import BuildError, BuildOSError, with_fields_of
from memxlnet.system_errors import hint_for

_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    # NumPy's linear algebra is not used, but its threads would take memory in every worker.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class WorkerDiedError(BuildError):
    """A worker process ended while it had work."""


class _Worker:
    """A worker process, and one socket to it: what it prints cannot get in between the messages.

    Raises:
        BuildError: It cannot be started.
    """

    def __init__(self) -> None:
        if not sys.executable:
            raise BuildError("num_workers: this Python does not know its own executable; use an executor")
        try:
            ours, theirs = socket.socketpair()
            with ours, theirs:
                self.process = subprocess.Popen(
                    # -P: the working directory is on this process's module path or not; -m alone puts it first.
                    [sys.executable, "-P", "-m", "memxlnet.builder.worker", str(os.getpid())],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(_module_path())},
                    # Ctrl-C reaches the whole foreground group; the builder ends its workers itself.
                    process_group=0,
                )
                self._pipe = ours.makefile("rwb")
        except OSError as error:
            message = f"num_workers: cannot start a worker process: {error}; {hint_for(error)} or use fewer"
            raise with_fields_of(BuildOSError(message), error) from error
        except ValueError as error:  # a NUL in the environment or on the module path
            raise BuildError(f"num_workers: cannot start a worker process: {error}") from error

    def ask(self, fields: dict[str, Any], packed: bytes) -> dict[str, Any]:
        """Send a task, and wait for the answer.

        Raises:
            WorkerDiedError: The process ended; the message says how.
        """
        try:
            send(self._pipe, fields, packed)
            result: dict[str, Any] = receive(self._pipe)[0]
        except (EOFError, OSError, ValueError) as error:
            raise WorkerDiedError(_describe_end(self.process)) from error
        return result

    def close(self) -> None:
        """Wait for a process that was killed."""
        self.process.wait()
        # What was not sent yet cannot be: its reader is gone.
        with contextlib.suppress(OSError):
            self._pipe.close()


class WorkerPool:
    """A number of worker processes.

    Args:
        num_workers: Number of processes; they start at once, and load while the builder does its own preparation.
    """

    def __init__(self, num_workers: int):
        self.num_workers = num_workers
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._ended = threading.Event()
        self._threads = ThreadPoolExecutor(self.num_workers, "memxlnet-worker")
        self._idle: list[_Worker] = []
        self._all: list[_Worker] = []
        try:
            for _ in range(self.num_workers):
                self._all.append(_Worker())
        except BaseException:
            self.close()
            raise
        self._idle.extend(self._all)

    def submit(self, directory: str, index: int, packed: bytes, part_cost: int) -> "Future[dict[str, Any]]":
        """Hand a chunk to the next free worker; arguments and result as of `encode_chunk`."""
        return self.submit_task(
            {"task": "encode", "directory": directory, "index": index, "part_cost": part_cost}, packed
        )

    def submit_task(self, fields: dict[str, Any], packed: bytes = b"") -> "Future[dict[str, Any]]":
        """Hand a task to the next free worker: the fields of a message, and bytes."""
        return self._threads.submit(self._work, fields, packed)

    def _work(self, fields: dict[str, Any], packed: bytes) -> dict[str, Any]:
        with self._lock:
            worker = self._idle.pop() if self._idle and not self._ended.is_set() else None
        if worker is None:
            # A worker died, whose chunk reports how. This one counts as working until all of them are ended.
            self._ended.wait()
            raise WorkerDiedError("the workers were ended")
        result = worker.ask(fields, packed)
        with self._lock:
            self._idle.append(worker)
        return result

    def restart(self, num_workers: int) -> None:
        """End all workers, also busy ones, and start new ones, which hold no memory of earlier work."""
        self.close()
        self.num_workers = num_workers
        self._start()

    def close(self) -> None:
        """End all workers, also busy ones."""
        with self._lock:
            self._ended.set()
        for worker in self._all:
            worker.process.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._all:
            worker.close()


def _module_path() -> Iterator[str]:
    """Yield where this process finds modules, except what imports skip: non-text entries, missing directories."""
    for entry in sys.path:
        if entry == "":
            with contextlib.suppress(FileNotFoundError):
                yield str(Path.cwd())
        elif isinstance(entry, str):
            yield entry


def _describe_end(process: "subprocess.Popen[bytes]") -> str:
    """Describe how a process ended."""
    try:
        code = process.wait(timeout=3)
    except subprocess.TimeoutExpired:
        process.kill()
        return "its worker process closed its pipe and did not end"
    if code >= 0:
        return f"its worker process ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    hint = ", likely out of memory" if -code == signal.SIGKILL else ""
    return f"its worker process was killed by signal {-code} ({name}){hint}"
