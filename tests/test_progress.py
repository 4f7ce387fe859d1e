"""The heartbeat: lines in the log where no bar is shown, and none where nobody asked for them."""

import logging
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from memxlnet import Parts, progress
from memxlnet.errors import SettingsError
from memxlnet.progress import Heartbeat, heartbeat_every, progress_bar
from tests.load.helpers import sample_tokenizer
from tests.support import WAIT_SECONDS, long_examples, write_json_lines

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


LONG: dict[str, tuple[Callable[[Parts, Path], Any], list[str]]] = {
    "verify": (lambda parts, _: parts.caches[0].verify(), [r"\w+--train--\w+: verifying it"]),
    "verify parts": (lambda parts, _: parts.verify(), [r".*\.parts: verifying it"]),
    "report": (
        lambda parts, place: parts.report(place / "page.html"),
        [r"page\.html: reading the cache, and writing the page"],
    ),
    "export": (lambda parts, place: parts.caches[0].export("squad", place / "x.json"), [r"exporting \w+: .* rows.*"]),
    "export parts": (
        lambda parts, place: parts.export("squad", place / "x.json"),
        [r"exporting x\.json: looking for contexts that several parts have", r"exporting \w+: .* rows.*"],
    ),
    "compact": (
        lambda parts, _: parts.compact(),
        [r"\w+: comparing the files with those of its parts", r"\w+: publishing 4 documents"],
    ),
}


@pytest.mark.parametrize("call", LONG)
def test_every_long_call_has_a_line(lines: Lines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str) -> None:
    files = [write_json_lines(tmp_path / f"{n}.jsonl", long_examples(4, 20)[2 * n : 2 * n + 2]) for n in range(2)]
    options: dict[str, Any] = {"max_seq_length": 64, "doc_stride": 16, "progress": False}
    parts = Parts.build(files, sample_tokenizer(), cache_dir=tmp_path, name="all", **options)
    closed = Heartbeat.close

    def close(heartbeat: Heartbeat) -> None:
        if heartbeat._thread is not None:
            lines.wait_for_more(len(lines.found) + 1)
        closed(heartbeat)

    monkeypatch.setattr(Heartbeat, "close", close)
    run, expected = LONG[call]
    with heartbeat_every(0.001):
        run(parts, tmp_path)
    found = [record.getMessage() for record in lines.found]
    for pattern in expected:
        assert any(re.fullmatch(pattern, line) for line in found), found


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
