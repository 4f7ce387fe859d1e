"""The log of a command: text or JSON, with times; quiet, verbose, and with a heartbeat."""

import json
import logging
import re
import time
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from memxlnet.cli import main
from memxlnet.progress import Heartbeat, ProgressBar
from memxlnet.sample import sample_tokenizer_directory
from tests.cli.helpers import Caches, Result, change_manifest, copy_of, usage_error
from tests.support import WAIT_SECONDS, long_examples, write_json_lines

Run = Callable[..., Result]

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture
def damaged(caches: Caches, tmp_path: Path) -> Path:
    """A directory of caches of which one is passed over with a warning."""
    copy_of(caches.plain, tmp_path)
    change_manifest(copy_of(caches.memory, tmp_path), dropped_examples=7)
    return tmp_path


@pytest.fixture
def build(tmp_path: Path) -> list[object]:
    source = write_json_lines(tmp_path / "long.jsonl", long_examples(9))
    options = ["--tokenizer", sample_tokenizer_directory(), "--max-seq-length", 64, "--doc-stride", 16]
    return ["build", source, *options, "--cache-dir", tmp_path / "caches"]


def records(result: Result) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in result.err.splitlines()]
    for record in found:
        assert list(record)[:4] == ["time", "level", "logger", "message"]
        assert record["time"].endswith("Z")
        assert datetime.fromisoformat(record["time"]).utcoffset() is not None
    return found


def test_a_line_of_text_has_its_time(run: Run, damaged: Path) -> None:
    assert re.fullmatch(rf"{TIME} WARNING: passed over: .*\n", run("ls", damaged).err)


def test_a_line_of_json_is_an_object(run: Run, damaged: Path) -> None:
    (record,) = records(run("ls", damaged, "--log-format", "json"))
    assert (record["level"], record["logger"]) == ("WARNING", "memxlnet.format.manifest")
    assert record["message"].startswith("passed over: ")


@pytest.mark.parametrize("options", [[], ["--log-format", "json"]])
def test_quiet_leaves_errors_and_results(run: Run, damaged: Path, options: list[str]) -> None:
    usual, quiet = run("ls", damaged, *options), run("ls", damaged, *options, "--quiet")
    assert usual.err
    assert (quiet.code, quiet.out, quiet.err) == (0, usual.out, "")
    assert usage_error(run("ls", damaged, "-q", "-v")) == "expected --quiet or --verbose, found both"


def test_quiet_shows_neither_estimate_nor_progress_and_an_error_still(run: Run, build: list[object]) -> None:
    assert usage_error(run(*build, "--quiet", "--progress")) == "expected --quiet or --progress, found both"
    result = run(*build, "-q", "--heartbeat", 0.001)
    assert (result.code, result.err) == (0, "")
    assert "segments" in result.fields
    assert run("info", "none", "-q").err.startswith("memxlnet: error: ")


@pytest.mark.parametrize("as_json", [False, True])
def test_all_that_is_not_the_result_is_a_line_of_json(
    run: Run, build: list[object], monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    def warn(*_: object) -> None:
        warnings.warn("old", UserWarning, stacklevel=1)

    monkeypatch.setattr("memxlnet.cli.build._check_space", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        result = run(*build, "-v", "--log-format", "json", *["--json"] * as_json)
    assert result.code == 0
    loggers = {record["logger"] for record in records(result)}
    assert loggers >= {"memxlnet.builder.builder", "py.warnings"}
    assert any(record["message"].startswith("estimate: ") for record in records(result)) != as_json


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["info", "none"], 5, "/none: expected the directory of a cache, found none"),
        (["info"], 2, "Missing argument 'CACHE'."),
        (["rm"], 2, "Missing argument 'PATH...'."),
    ],
)
def test_errors_are_lines_of_json(run: Run, arguments: list[str], code: int, message: str) -> None:
    result = run(*arguments, "--log-format", "json")
    (record,) = records(result)
    assert (result.code, result.out, record["level"]) == (code, "", "ERROR")
    assert record["message"].endswith(message)


def test_a_traceback_is_within_its_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def log(*_: object) -> None:
        try:
            raise KeyError("why")
        except KeyError:
            logging.getLogger("memxlnet.x").exception("what")
        raise OSError("end")

    monkeypatch.setattr("memxlnet.cli.info.read_cache", log)
    code = main(["info", str(tmp_path), "--log-format", "json"])
    first, last = records(Result(code, *capsys.readouterr()))
    assert first["exception"].startswith("Traceback")
    assert first["exception"].endswith("KeyError: 'why'\n")
    assert (last["message"], "exception" in last) == ("end", False)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_heartbeat_is_logged_without_further_options(
    run: Run, build: list[object], monkeypatch: pytest.MonkeyPatch, log_format: str
) -> None:
    closed = ProgressBar.close

    def wait(bar: ProgressBar) -> None:
        assert bar._heartbeat is not None
        bar._heartbeat._ended.wait(0.05)
        closed(bar)

    monkeypatch.setattr(ProgressBar, "close", wait)
    result = run(*build, "--heartbeat", 0.01, "--log-format", log_format)
    assert result.code == 0
    lines = [r["message"] for r in records(result)] if log_format == "json" else result.err.splitlines()
    assert any(
        re.search(r"long/train: 9 of 9 examples \(100%\), .* 9 documents, 1 chunks, RAM ", line) for line in lines
    )
    other = run(*build, "--rebuild", "--heartbeat", 0)
    assert len(other.err.splitlines()) == 1  # the estimate


@pytest.mark.parametrize("command", ["build", "compact", "export", "push", "pull", "report", "stats", "verify"])
def test_every_long_command_has_a_heartbeat(
    caches: Caches, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, command: str
) -> None:
    """Its work goes on until a line came, whatever it does."""
    called = {
        "build": "load_tokenizer",
        "compact": "compact_parts",
        "report": "write_report",
        "stats": "read_statistics",
    }
    beat = f"{command}: running for 0 s"

    def work(*_: object, **__: object) -> None:
        stop = time.monotonic() + WAIT_SECONDS
        while not any(record.getMessage() == beat for record in caplog.records):
            assert time.monotonic() < stop
            time.sleep(0.01)
        raise OSError("enough")

    monkeypatch.setattr(f"memxlnet.cli.{command}.{called.get(command, command)}", work)
    monkeypatch.setattr("memxlnet.cli.compact.read_part_list", lambda _: None)
    more = {
        "build": ["--tokenizer", "x"],
        "export": ["--format", "squad"],
        "push": ["file:///x"],
        "report": ["-o", str(tmp_path / "page.html")],
    }
    assert main([command, str(caches.plain), *more.get(command, []), "--heartbeat", "0.01"]) == 7


def test_a_source_that_is_digested_or_estimated_has_a_line(
    run: Run, build: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = Heartbeat.close

    def wait(heartbeat: Heartbeat) -> None:
        heartbeat._ended.wait(0.1)
        closed(heartbeat)

    monkeypatch.setattr(Heartbeat, "close", wait)
    lines = run(*build, "--heartbeat", 0.001).err
    for what in ("opening it, and reading", "estimating the size", "comparing the source"):
        assert f": {what}" in lines


def test_a_wrong_interval_is_refused_before_any_work(run: Run, build: list[object]) -> None:
    assert "--heartbeat: expected a number of seconds" in run(*build, "--heartbeat", -1).err
    assert not Path(str(build[-1])).exists()


def test_the_handlers_and_levels_end_with_the_command(run: Run, damaged: Path) -> None:
    names = (None, "memxlnet", "memxlnet.progress", "memxlnet.cli.session")
    before = [(logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in names]
    for options in (["-q"], ["-v"], ["--log-format", "json"]):
        run("ls", damaged, *options)
    assert [(logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in names] == before
