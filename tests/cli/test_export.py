"""`memxlnet export`: a copy for other tools."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.helpers import Caches, Result, error, usage_error

Run = Callable[..., Result]


@pytest.mark.parametrize(("kind", "files"), [("parquet", 3), ("jsonl", 3), ("safetensors", 3), ("squad", 1)])
def test_what_is_printed(run: Run, caches: Caches, tmp_path: Path, kind: str, files: int) -> None:
    place = tmp_path / "out"
    found = run("export", caches.plain, "--format", kind, "-o", place, "--json").json
    assert (found["export"], found["format"], found["files"]) == (str(place), kind, files)
    paths = [place] if kind == "squad" else list(place.iterdir())
    assert found["bytes"] == sum(path.stat().st_size for path in paths)
    assert run("export", caches.plain, "--format", kind, "-o", tmp_path / "other").fields["format"] == kind


def test_wrong_input(run: Run, caches: Caches, tmp_path: Path) -> None:
    assert "Missing option '--format'" in run("export", caches.plain, "-o", tmp_path / "out").err
    assert "'csv'" in usage_error(run("export", caches.plain, "--format", "csv"))
    message = error(run("export", caches.plain, "--format", "jsonl", "-o", tmp_path))
    assert "expected a path where nothing is" in message
    assert "expected" in error(run("export", tmp_path / "none", "--format", "jsonl", "-o", tmp_path / "out"))
