"""The progress bar of a build."""

import threading

from memxlnet.builder.memory_guard import MemoryGuard
from memxlnet.progress import progress_bar


class Progress:
    """Shows examples a second, documents, RAM and the time left; quiet where standard error is not a terminal.

    Args:
        name: What is built.
        total: Number of examples where it is known.
        shown: Whether it is shown; None shows it on a terminal.
        guard: Measures the RAM in use.
    """

    def __init__(self, name: str, total: int | None, shown: bool | None, guard: MemoryGuard):
        self.examples = self.documents = 0
        self._lock = threading.Lock()  # chunks that were finished before are counted where the source is read
        self._guard = guard
        self._bar = progress_bar(name, shown, "example", total)

    def add(self, examples: int, documents: int) -> None:
        """Count a chunk that is finished."""
        with self._lock:
            self.examples += examples
            self.documents += documents
            if not self._bar.disable:
                used, bound = self._guard.used / 2**30, self._guard.bound / 2**30
                self._bar.set_postfix_str(f"{self.documents} documents, RAM {used:.2f} of {bound:g} GiB", refresh=False)
            self._bar.update(examples)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
