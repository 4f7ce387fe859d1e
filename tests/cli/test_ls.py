"""`memxlnet ls`: one line for each cache that can be read, and a word on those that cannot."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from memxlnet.format.manifest import read_manifest
from tests.cli.helpers import LENGTH, MEMORY, OVERLAP, Caches, Result, change_manifest, copy_of, error
from tests.support import ROOT

Run = Callable[..., Result]
COLUMNS = ["cache", "split", "segments", "documents", "length", "overlap", "memory", "bytes"]


def row(cache: Path, memory: int) -> list[str]:
    manifest = read_manifest(cache)
    counts = [manifest.tables["features"].rows, manifest.tables["documents"].rows]
    return [cache.name, "test", *map(str, [*counts, LENGTH, OVERLAP, memory, manifest.num_bytes])]


def expected(caches: Caches) -> list[list[str]]:
    return sorted([row(caches.plain, 0), row(caches.memory, MEMORY)])


def test_a_line_for_each_cache_in_whole_columns(run: Run, caches: Caches) -> None:
    result = run("ls", caches.directory)
    assert (result.code, result.err) == (0, "")
    assert result.lines == [COLUMNS, *expected(caches)]


def test_long_names_stay_whole_where_the_output_is_piped(
    run: Run, caches: Caches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    (tmp_path / "caches").mkdir()
    name = "a-long-name-" * 18
    copy_of(caches.plain, tmp_path / "caches").rename(tmp_path / "caches" / name)
    assert run("ls", tmp_path / "caches").lines[1][0] == name


def test_json(run: Run, caches: Caches, tmp_path: Path) -> None:
    result = run("ls", caches.directory, "--json")
    assert result.code == 0
    assert [[str(entry[name]) for name in COLUMNS] for entry in result.json] == expected(caches)
    assert [entry["path"] for entry in result.json] == sorted(map(str, (caches.plain, caches.memory)))
    assert [list(entry) for entry in result.json] == [[*COLUMNS, "path"]] * 2
    assert isinstance(result.json[0]["bytes"], int)
    assert run("ls", tmp_path, "--json").json == []


def test_the_paths_of_json_are_whole_where_the_directory_is_not(
    run: Run, caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(caches.directory)
    assert {entry["path"] for entry in run("ls", ".", "--json").json} == {str(caches.plain), str(caches.memory)}


@pytest.mark.usefixtures("terminal")
def test_names_stay_whole_on_a_narrow_terminal(run: Run, caches: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    _, _, *rows = [line.split() for line in click.unstyle(run("ls", caches.directory).out).splitlines() if line.strip()]
    assert [line[0] for line in rows] == [entry[0] for entry in expected(caches)]
    assert [line[1:-2] for line in rows] == [entry[1:-1] for entry in expected(caches)]


@pytest.mark.usefixtures("terminal")
def test_a_table_for_a_person(run: Run, caches: Caches) -> None:
    result = run("ls", caches.directory)
    assert result.code == 0
    header, rule, *rows = [line for line in click.unstyle(result.out).splitlines() if line.strip()]
    assert header.split() == COLUMNS
    assert set(rule.strip()) == {"─"}
    assert "\t" not in result.out
    # Bytes are shown with a unit, and numbers stand on the right of their columns.
    assert [line.split()[:-2] for line in rows] == [entry[:-1] for entry in expected(caches)]
    assert all(line.split()[-1] in ("kB", "MB") for line in rows)
    assert {line.rstrip().index(str(LENGTH), 40) + len(str(LENGTH)) for line in rows} == {header.index("length") + 6}


def test_an_empty_directory(run: Run, tmp_path: Path) -> None:
    assert run("ls", tmp_path) == (0, "\t".join(COLUMNS) + "\n", "")


def test_the_directory_comes_from_the_environment_or_is_the_default(
    run: Run, caches: Caches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMXLNET_CACHE_DIR", str(caches.directory))
    assert len(run("ls").lines) == 3
    assert len(run("ls", tmp_path).lines) == 1
    monkeypatch.delenv("MEMXLNET_CACHE_DIR")
    monkeypatch.chdir(tmp_path)
    assert error(run("ls")) == f"{tmp_path}/memxlnet-cache: expected a directory of caches, found none"
    (tmp_path / "memxlnet-cache").mkdir()
    copy_of(caches.memory, tmp_path / "memxlnet-cache")
    assert run("ls").lines[1:] == [row(caches.memory, MEMORY)]


def test_what_cannot_be_read_is_named_and_passed_over(caches: Caches, tmp_path: Path) -> None:
    copy_of(caches.plain, tmp_path)
    newer, damaged, altered = (copy_of(caches.memory, tmp_path).rename(tmp_path / name) for name in "ndf")
    change_manifest(newer, schema_version=99)
    (damaged / "manifest.json").write_text("{")
    change_manifest(altered, dropped_examples=7)
    (tmp_path / "other").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / ".build-x").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "memxlnet.cli", "ls", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert Result(done.returncode, done.stdout, "").lines == [COLUMNS, row(caches.plain, 0)]
    assert done.returncode == 0
    found = {line.split(": ")[2].removesuffix("/manifest.json"): line for line in done.stderr.splitlines()}
    assert set(found) == {str(newer), str(damaged), str(altered)}
    assert all(line[20:].startswith(" WARNING: passed over: ") for line in found.values())
    assert "found 99" in found[str(newer)]
    assert "JSON" in found[str(damaged)]
    assert "checksum" in found[str(altered)]


@pytest.mark.parametrize("name", ["none", "file", "file/below", "x" * 300])
def test_what_is_no_directory(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    message = error(run("ls", tmp_path / name))
    assert str(tmp_path / name) in message
    if len(name) < 256:
        found = "a file" if name == "file" else "none"
        assert message == f"{tmp_path / name}: expected a directory of caches, found {found}"


def test_a_name_that_is_no_text_is_shown_all_the_same(run: Run, caches: Caches, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\x1b[31m")
    copy_of(caches.plain, tmp_path).rename(tmp_path / name)
    assert run("ls", tmp_path).lines[1][0] == "caf\\udce9\\x1b[31m"
    assert run("ls", tmp_path, "--json").json[0]["cache"] == name


def test_a_cache_is_no_directory_of_caches(run: Run, caches: Caches) -> None:
    result = run("ls", caches.plain)
    assert error(result) == f"{caches.plain}: expected a directory of caches, found a cache; memxlnet info shows it"
