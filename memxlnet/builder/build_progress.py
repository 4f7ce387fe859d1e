"""The progress of a build."""

import threading

from memxlnet.builder.memory_guard import MemoryGuard
from memxlnet.progress import progress_bar


class Progress:
    """Shows examples a second, documents, chunks, RAM and the time left: on a bar, or in the log without a terminal.

    Args:
        name: What is built.
        total: Number of examples where it is known.
        shown: Whether the bar is shown; None shows it on a terminal.
        guard: Measures the RAM in use.
    """

    def __init__(self, name: str, total: int | None, shown: bool | None, guard: MemoryGuard):
        self.examples = self.documents = self._chunks = 0
        self._lock = threading.Lock()  # chunks that were finished before are counted where the source is read
        self._guard = guard
        self._bar = progress_bar(name, shown, "example", total, self._details)

    def add(self, examples: int, documents: int) -> None:
        """Count a chunk that is finished."""
        with self._lock:
            self.examples += examples
            self.documents += documents
            self._chunks += 1
            self._bar.update(examples)

    def read_and_dropped(self) -> tuple[int, int]:
        """Return the examples of the finished chunks, and how many of them gave no document."""
        with self._lock:
            return self.examples, self.examples - self.documents

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    def _details(self) -> str:
        used, bound = self._guard.used / 2**30, self._guard.bound / 2**30
        return f"{self.documents} documents, {self._chunks} chunks, RAM {used:.2f} of {bound:g} GiB"
