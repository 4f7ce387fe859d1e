"""What tests of several commands need."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

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
    """The error of a command that failed, in one line on standard error, and nothing else."""
    assert (result.code, result.out) == (1, ""), result
    assert result.err.startswith("memxlnet: error: "), result.err
    return result.err.removeprefix("memxlnet: error: ").rstrip("\n")


def usage_error(result: Result) -> str:
    """The error of a command that was called in a wrong way."""
    assert (result.code, result.out) == (2, ""), result
    assert result.err.startswith("Usage: memxlnet"), result.err
    return result.err.splitlines()[-1].removeprefix("Error: ")


def copy_of(cache: Path, cache_dir: Path) -> Path:
    return Path(shutil.copytree(cache, cache_dir / cache.name))


def change_manifest(directory: Path, **fields: Any) -> None:
    """Write other values into a manifest; its checksum is what it was."""
    path = directory / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **fields}))


def files_of(directory: Path) -> dict[str, tuple[int, int]]:
    """Which files a directory holds, and whether they are those of before."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(directory.rglob("*"))}
