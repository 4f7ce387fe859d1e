"""Settings of a benchmark run, and its progress log."""

import sys
import time
from dataclasses import dataclass, field


@dataclass
class Settings:
    """The settings of one run.

    Attributes:
        quick: Small sizes and few rounds, under two minutes in total.
        begun: Start time (`time.monotonic`).
        part: The part that is being measured.
    """

    quick: bool = False
    begun: float = field(default_factory=time.monotonic)
    part: str = ""

    def log(self, message: str) -> None:
        """Write a progress line to standard error."""
        minutes, seconds = divmod(int(time.monotonic() - self.begun), 60)
        print(f"{minutes:3d}:{seconds:02d}  {self.part:16} {message}", file=sys.stderr, flush=True)
