"""What tests of several commands need."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from memxlnet.cli.exit_codes import EXIT_CODES, EXIT_INTERRUPTED, EXIT_USAGE
from memxlnet.cli.output import printable

LOG_LINES = r"^(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (?:WARNING|INFO): .*\n)+"

LENGTH, OVERLAP, MEMORY = 48, 12, 3


class Caches(NamedTuple):
    """Caches of one file: two in one directory of caches, and one of several shards in another."""

    source: Path
    directory: Path
    plain: Path
    memory: Path
    sharded: Path


class Result(NamedTuple):
    """What a command gave back and printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[list[str]]:
        """The columns of each line of the output."""
        return [line.split("\t") for line in self.out.splitlines()]

    @property
    def fields(self) -> dict[str, str]:
        """Names and values of the lines that are pairs."""
        return dict(line for line in self.lines if len(line) == 2)

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def section(self, title: str) -> list[list[str]]:
        """The lines after a title, up to the next empty one."""
        start = self.lines.index([f"# {title}"]) + 1
        return self.lines[start : next((i for i in range(start, len(self.lines)) if self.lines[i] == [""]), None)]


def error(result: Result) -> str:
    """The error of a command that failed, in one line on standard error, and nothing else but with --json its object.

    Which error has which code is tested on its own.
    """
    assert result.code in {*EXIT_CODES} - {0, EXIT_INTERRUPTED}, result
    shown = re.sub(LOG_LINES, "", result.err)
    assert shown.startswith("memxlnet: error: "), result.err
    message = shown.removeprefix("memxlnet: error: ").rstrip("\n")
    if result.out:
        assert list(result.json) == ["error"]
        found = result.json["error"]
        assert printable("; ".join((found["message"], *found["notes"]))) == message
        assert found["exit_code"] == result.code
    return message


def usage_error(result: Result) -> str:
    """The error of a command that was called in a wrong way."""
    assert result.code == EXIT_USAGE, result
    assert result.err.startswith("Usage: memxlnet"), result.err
    message = result.err.splitlines()[-1].removeprefix("Error: ")
    if result.out:
        assert (result.json["error"]["message"], result.json["error"]["exit_code"]) == (message, EXIT_USAGE)
    return message


def copy_of(cache: Path, cache_dir: Path) -> Path:
    return Path(shutil.copytree(cache, cache_dir / cache.name))


def change_manifest(directory: Path, **fields: Any) -> None:
    """Write other values into a manifest; its checksum is what it was."""
    path = directory / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **fields}))


def files_of(directory: Path) -> dict[str, tuple[int, int]]:
    """Which files a directory holds, and whether they are those of before."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(directory.rglob("*"))}
