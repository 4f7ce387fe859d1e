"""The heartbeat: lines in the log where no bar is shown, and none where nobody asked for them."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from memxlnet import progress
from memxlnet.errors import SettingsError
from memxlnet.progress import Heartbeat, heartbeat_every, progress_bar
from tests.support import WAIT_SECONDS

LOGGER = "memxlnet.progress"


class Lines(logging.Handler):
    """Keeps the lines, and lets a test wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[logging.LogRecord] = []
        self._more = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._more:
            self.found.append(record)
            self._more.notify_all()

    def wait_for(self, check: Callable[[str], bool]) -> str:
        with self._more:
            assert self._more.wait_for(lambda: any(check(r.getMessage()) for r in self.found), WAIT_SECONDS)
            return next(r.getMessage() for r in self.found if check(r.getMessage()))

    def wait_for_more(self, count: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: len(self.found) >= count, WAIT_SECONDS)


def beating() -> bool:
    return any(thread.name == progress._THREAD for thread in threading.enumerate())


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.INFO, LOGGER)
    handler = Lines()
    logging.getLogger(LOGGER).addHandler(handler)
    yield handler
    logging.getLogger(LOGGER).removeHandler(handler)


@pytest.mark.parametrize(
    ("unit", "total", "done", "details", "begin", "end"),
    [
        ("example", 2000, 1500, None, "x: 1,500 of 2,000 examples (75%), ", " examples/s"),
        ("example", None, 1500, lambda: "RAM 1 of 8 GiB", "x: 1,500 examples, ", " examples/s, RAM 1 of 8 GiB"),
        ("B", 4 * 2**30, 2**30, None, "x: 1.00GB of 4.00GB (25%), ", "B/s"),
        ("chunk", 0, 3, None, "x: 3 chunks, ", " chunks/s"),
    ],
)
def test_a_line_has_what_is_done_and_the_rate(
    lines: Lines, unit: str, total: int | None, done: int, details: Any, begin: str, end: str
) -> None:
    with heartbeat_every(0.001), progress_bar("x", None, unit, total, details) as bar:
        bar.update(done)
        line = lines.wait_for(lambda line: line.startswith(begin))
    assert line.endswith(end)
    assert {record.levelno for record in lines.found} == {logging.INFO}


def test_work_without_a_count_has_a_line_as_well(lines: Lines) -> None:
    with heartbeat_every(0.001), Heartbeat(lambda _: "publishing"):
        assert lines.wait_for(lambda line: True) == "publishing"


def test_a_line_that_knows_less_waits_for_the_others(lines: Lines) -> None:
    with heartbeat_every(0.001), Heartbeat(lambda _: "running", only_alone=True):
        lines.wait_for(lambda line: line == "running")
        with Heartbeat(lambda _: "publishing"):
            lines.wait_for(lambda line: line == "publishing")
            lines.wait_for_more(len(lines.found) + 10)  # one of the other may have been on its way
            count = len(lines.found)
            lines.wait_for_more(count + 10)
            assert {record.getMessage() for record in lines.found[count:]} == {"publishing"}
        count = len(lines.found)
        lines.wait_for_more(count + 1)
        assert lines.found[-1].getMessage() == "running"
    assert progress._running == []


def test_the_lines_end_with_the_work(lines: Lines) -> None:
    with heartbeat_every(0.001), progress_bar("x", None, "example"):
        lines.wait_for(lambda line: True)
        assert beating()
    assert not beating()


@pytest.mark.parametrize("why", ["off", "terminal", "level", "bar"])
def test_there_are_no_lines(lines: Lines, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    if why == "terminal":
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    if why == "level":
        logging.getLogger(LOGGER).setLevel(logging.WARNING)
    with heartbeat_every(0 if why == "off" else 0.001):
        # On a terminal without a bar nobody waits for a log.
        bar = progress_bar("x", why == "bar", "example")
        assert not beating()
        bar.close()
    assert lines.found == []


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e15, True, None, "30"])
def test_the_interval_is_checked(seconds: Any) -> None:
    with pytest.raises(SettingsError, match=r"^heartbeat: .*found "), heartbeat_every(seconds):
        pass
    assert progress._interval == progress.HEARTBEAT_SECONDS


def test_the_interval_is_that_of_the_context() -> None:
    with suppress(KeyError), heartbeat_every(5):
        assert progress._interval == 5
        raise KeyError
    assert progress._interval == progress.HEARTBEAT_SECONDS
