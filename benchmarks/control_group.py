"""A Linux control group (version 1 or 2) with a limit on memory, page cache included."""

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
    """This process cannot create a control group with a limit."""


class ControlGroup:
    """A control group with a memory limit.

    Args:
        directory: Its directory in the cgroup file system.
        version: 1 or 2.
    """

    def __init__(self, directory: Path, version: int):
        self.directory = directory
        self.version = version

    def join(self) -> None:
        """Move this process into the group; to be called between fork and exec."""
        (self.directory / "cgroup.procs").write_text(str(os.getpid()))

    def kills(self) -> int:
        """Count the processes of the group that the system killed for memory."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        lines = (self.directory / name).read_text(encoding="utf-8").splitlines()
        counts = {key: int(value) for key, value in (line.split() for line in lines)}
        return counts.get("oom_kill", 0)


@contextmanager
def memory_limit(size: int) -> Iterator[ControlGroup]:
    """Create a group whose processes may use `size` bytes, file pages included, and no swap.

    Raises:
        NotPossibleError: The system has no memory control groups, or this process may not create one.
    """
    group = _made(size)
    try:
        yield group
    finally:
        with suppress(OSError):
            for process in (group.directory / "cgroup.procs").read_text(encoding="utf-8").split():
                os.kill(int(process), signal.SIGKILL)
        for _ in range(50):  # a killed process leaves the group with a delay
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
    # Version 1 limits the sum of memory and swap, version 2 limits swap separately.
    swap = ("memory.memsw.limit_in_bytes", str(size)) if version == 1 else ("memory.swap.max", "0")
    (directory / limit).write_text(str(size))
    with suppress(OSError):  # missing in kernels without swap accounting
        (directory / swap[0]).write_text(swap[1])
    # Joining may be forbidden, which only an attempt shows.
    joined = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid()))"
    procs = directory / "cgroup.procs"
    if subprocess.run([sys.executable, "-c", joined, str(procs)], stderr=subprocess.DEVNULL, check=False).returncode:
        raise PermissionError(errno.EACCES, "processes may not join it", str(procs))


def _parents() -> Iterator[tuple[Path, int]]:
    """Yield the directories in which a group may be created, with their versions: the root, this process's group."""
    if (_ROOT / "memory").is_dir():
        yield _ROOT / "memory", 1
    if (_ROOT / "cgroup.controllers").is_file():
        yield _ROOT, 2
        with suppress(OSError):
            lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
            for line in lines:
                if line.startswith("0::/") and line != "0::/":
                    yield _ROOT / Path(line[4:]).parent, 2
