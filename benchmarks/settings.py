"""How much a run of the benchmarks does, and how it tells where it is."""

import sys
import time
from dataclasses import dataclass, field


@dataclass
class Settings:
    """Of one run.

    Attributes:
        quick: Small sizes and few rounds: under two minutes in all.
        begun: Time of the start.
        part: The part that is measured.
    """

    quick: bool = False
    begun: float = field(default_factory=time.monotonic)
    part: str = ""

    def tell(self, what: str) -> None:
        """Say on standard error what is measured now."""
        minutes, seconds = divmod(int(time.monotonic() - self.begun), 60)
        print(f"{minutes:3d}:{seconds:02d}  {self.part:16} {what}", file=sys.stderr, flush=True)
