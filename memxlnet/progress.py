"""What shows that long work is running: a progress bar, or a line in the log every so many seconds.

The lines are the heartbeat of a process without a terminal. They are logged at INFO under this module's name.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, Self

from tqdm.auto import tqdm

from memxlnet.errors import SettingsError

NOTEBOOK = "ipykernel.zmqshell"
"""The module that is loaded where a notebook runs; `tqdm.auto` looks at it as well."""

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 30.0

_THREAD = "memxlnet-heartbeat"

_interval = HEARTBEAT_SECONDS


@contextmanager
def heartbeat_every(seconds: float) -> Iterator[None]:
    """Set the seconds between two lines of the heartbeat, for all of the process, while the context lasts.

    Args:
        seconds: The interval; 0 for no heartbeat.

    Raises:
        SettingsError: It is not a number of at least 0, or more than a thread can wait.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not 0 <= seconds <= threading.TIMEOUT_MAX:
        most = f"{threading.TIMEOUT_MAX:.0f}"
        raise SettingsError(f"heartbeat: expected a number of seconds up to {most}, or 0 for none, found {seconds!r}")
    global _interval
    former, _interval = _interval, float(seconds)
    try:
        yield
    finally:
        _interval = former


class Heartbeat:
    """Logs what is running every so many seconds, where standard error is not a terminal.

    Args:
        describe: Returns the line, from the seconds since the line before; called in a thread.
        only_alone: Log nothing while another one does, which knows more of what is done.
    """

    def __init__(self, describe: Callable[[float], str], *, only_alone: bool = False):
        self._describe = describe
        self._only_alone = only_alone
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        if _interval and not is_terminal and logger.isEnabledFor(logging.INFO):
            _running.append(self)
            self._thread = threading.Thread(target=self._beat, args=(_interval,), name=_THREAD, daemon=True)
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the lines."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            _running.remove(self)

    def _beat(self, interval: float) -> None:
        before = time.monotonic()
        while not self._ended.wait(interval):
            if self._only_alone and len(_running) > 1:
                continue
            now = time.monotonic()
            logger.info("%s", self._describe(now - before))
            before = now


_running: list[Heartbeat] = []


def progress_bar(
    name: str, shown: bool | None, unit: str, total: int | None = None, details: Callable[[], str] | None = None
) -> "ProgressBar":
    """Make a bar, or begin a heartbeat where no bar is shown.

    Args:
        name: What it is about.
        shown: Whether it is shown; None shows it in a notebook, and where standard error is a terminal.
        unit: What it counts; ``"B"`` shows bytes in KiB, MiB and GiB.
        total: How many there are, where that is known.
        details: Returns what else is shown.
    """
    return ProgressBar(name, shown, unit, total, details)


class ProgressBar:
    """What `progress_bar` returns: a bar of `tqdm`, or a heartbeat.

    Attributes:
        n: How many are done.
    """

    def __init__(self, name: str, shown: bool | None, unit: str, total: int | None, details: Callable[[], str] | None):
        scale: dict[str, Any] = {"unit_scale": True, "unit_divisor": 1024} if unit == "B" else {}
        self.n = 0
        self._name, self._unit, self._total, self._details = name, unit, total, details
        self._logged = 0
        self._bar = tqdm(desc=name, total=total, unit=unit, disable=disabled(shown), **scale)
        self._heartbeat = Heartbeat(self._line) if self._bar.disable else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, count: int) -> None:
        """Count more that is done; less, where `count` is negative."""
        self.n += count
        if self._details is not None and not self._bar.disable:
            self._bar.set_postfix_str(self._details(), refresh=False)
        self._bar.update(count)

    def set_postfix_str(self, text: str) -> None:
        """Show a text at the end of the bar."""
        self._bar.set_postfix_str(text)

    def refresh(self) -> None:
        """Draw the bar again."""
        self._bar.refresh()

    def close(self) -> None:
        """Remove the bar, and end the heartbeat."""
        if self._heartbeat is not None:
            self._heartbeat.close()
        self._bar.close()

    def _line(self, seconds: float) -> str:
        done, total = self.n, self._total
        rate, self._logged = (done - self._logged) / seconds, done
        shown = [self._shown(count) for count in (done, total or done, rate)]
        unit = "" if self._unit == "B" else f" {self._unit}s"
        counted = f"{shown[0]} of {shown[1]}{unit} ({done / total:.0%})" if total else f"{shown[0]}{unit}"
        more = f", {self._details()}" if self._details is not None else ""
        return f"{self._name}: {counted}, {shown[2]}{unit}/s{more}"

    def _shown(self, count: float) -> str:
        return str(tqdm.format_sizeof(count, "B", 1024)) if self._unit == "B" else f"{count:,.0f}"


def disabled(shown: bool | None) -> bool | None:
    """Return the argument ``disable`` of a bar of `tqdm`, for which None depends on the terminal."""
    if shown is not None:
        return not shown
    return False if NOTEBOOK in sys.modules else None
