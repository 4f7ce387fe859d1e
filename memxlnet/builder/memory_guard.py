"""The RAM guard: what the process and its children hold, against the bound of the build."""

import ctypes
import gc
import sys
import time

import psutil
import pyarrow as pa

from memxlnet.errors import MemoryLimitError

NEAR = 0.85
"""Share of the bound above which no more work is started."""

_SAMPLE_SECONDS = 0.05
_LOOK_FOR_CHILDREN_SECONDS = 2.0


class MemoryGuard:
    """Watches the RAM of this process and its children.

    Pages of mapped files do not count: they are the system's to take back. On Linux that is the resident set less its
    shared part; on macOS, where psutil does not separate them, the whole resident set.

    Args:
        bound: The bound in bytes.
    """

    def __init__(self, bound: int):
        self.bound = bound
        self.peak = 0
        self._used = 0
        self._sampled = -_SAMPLE_SECONDS
        self._looked = -_LOOK_FOR_CHILDREN_SECONDS
        self._self = psutil.Process()
        self._children: dict[int, psutil.Process] = {}

    @property
    def used(self) -> int:
        """Bytes in use, at most 50 ms old."""
        now = time.monotonic()
        if now - self._sampled >= _SAMPLE_SECONDS:
            self._sampled = now
            self._used = self._measure(now)
            self.peak = max(self.peak, self._used)
        return self._used

    @property
    def is_near(self) -> bool:
        """Whether the bound is near."""
        return self.used >= NEAR * self.bound

    @property
    def room(self) -> int:
        """Bytes to the bound, 0 and up."""
        return max(self.bound - self.used, 0)

    def measure(self) -> int:
        """Return the bytes in use right now; looks for child processes again."""
        self._sampled = self._looked = -_LOOK_FOR_CHILDREN_SECONDS
        return self.used

    def release(self) -> int:
        """Release free memory to the system; return the bytes in use afterwards."""
        gc.collect()
        pa.default_memory_pool().release_unused()
        if sys.platform.startswith("linux"):
            # The C library keeps freed memory for itself until it is asked; musl has no such call.
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
            if trim is not None:
                trim(0)
        return self.measure()

    def check(self, doing: str) -> None:
        """Check the bound, after giving back what is kept for nothing.

        Args:
            doing: What the RAM is needed for, for the message.

        Raises:
            MemoryLimitError: More than the bound is in use.
        """
        if self.used > self.bound and self.release() > self.bound:
            raise MemoryLimitError(
                f"max_memory_gb: {doing} takes {self.used / 2**30:.2f} GiB in this process and its children; expected "
                f"at most {self.bound / 2**30:g}; raise max_memory_gb, lower num_workers, or free memory of the process"
            )

    def _measure(self, now: float) -> int:
        if now - self._looked >= _LOOK_FOR_CHILDREN_SECONDS:
            self._looked = now
            found = self._self.children(recursive=True)
            self._children = {child.pid: self._children.get(child.pid, child) for child in found}
        total = _private_bytes(self._self)
        for pid, child in list(self._children.items()):
            try:
                total += _private_bytes(child)
            except psutil.Error:
                self._children.pop(pid, None)  # it has ended; another thread may have noticed as well
        return total


def _private_bytes(process: psutil.Process) -> int:
    memory = process.memory_info()
    return int(memory.rss) - int(getattr(memory, "shared", 0))
