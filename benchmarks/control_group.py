"""A control group whose memory, page cache included, is bounded: version 1 or 2, on Linux, where it may be made."""

import errno
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


class NotPossibleError(Exception):
    """This machine does not let this process make such a group."""


class ControlGroup:
    """A group that processes join.

    Args:
        directory: Where the system shows it.
        version: 1 or 2.
    """

    def __init__(self, directory: Path, version: int):
        self.directory = directory
        self.version = version

    def join(self) -> None:
        """Put this process into it; for the time between fork and exec."""
        (self.directory / "cgroup.procs").write_text(str(os.getpid()))

    def kills(self) -> int:
        """Processes that the system has killed in it for want of memory."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        lines = (self.directory / name).read_text(encoding="utf-8").splitlines()
        counts = {key: int(value) for key, value in (line.split() for line in lines)}
        return counts.get("oom_kill", 0)


@contextmanager
def memory_limit(size: int) -> Iterator[ControlGroup]:
    """A group whose processes may hold so many bytes, pages of files included, and no swap.

    Raises:
        NotPossibleError: There are no control groups here, or this process may not make one.
    """
    group = _made(size)
    try:
        yield group
    finally:
        with suppress(OSError):
            for process in (group.directory / "cgroup.procs").read_text(encoding="utf-8").split():
                os.kill(int(process), signal.SIGKILL)
        for _ in range(50):  # a process that was killed leaves it a moment later
            with suppress(OSError):
                group.directory.rmdir()
                break
            time.sleep(0.1)


def _made(size: int) -> ControlGroup:
    reasons = []
    for parent, version in _parents():
        directory = parent / f"memxlnet-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            directory.mkdir()
            try:
                _bound(directory, version, size)
            except OSError:
                directory.rmdir()
                raise
            return ControlGroup(directory, version)
        except OSError as error:
            reasons.append(f"{error.strerror} at {error.filename}")
    raise NotPossibleError("; ".join(reasons) or "this system has no memory control groups")


def _bound(directory: Path, version: int, size: int) -> None:
    limit = "memory.limit_in_bytes" if version == 1 else "memory.max"
    # Version 1 bounds memory and swap together, version 2 swap by itself.
    swap = ("memory.memsw.limit_in_bytes", str(size)) if version == 1 else ("memory.swap.max", "0")
    (directory / limit).write_text(str(size))
    with suppress(OSError):  # kernels without an account of swap have no such file
        (directory / swap[0]).write_text(swap[1])
    # Without the right to move processes into it, a group is of no use; only a process can tell.
    joined = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid()))"
    procs = directory / "cgroup.procs"
    if subprocess.run([sys.executable, "-c", joined, str(procs)], stderr=subprocess.DEVNULL, check=False).returncode:
        raise PermissionError(errno.EACCES, "a process may not join it", str(procs))


def _parents() -> Iterator[tuple[Path, int]]:
    """Where a group may be made: beside those of the system, or below the one that this process was given."""
    if (_ROOT / "memory").is_dir():
        yield _ROOT / "memory", 1
    if (_ROOT / "cgroup.controllers").is_file():
        yield _ROOT, 2
        with suppress(OSError):
            lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
            for line in lines:
                if line.startswith("0::/") and line != "0::/":
                    yield _ROOT / Path(line[4:]).parent, 2
