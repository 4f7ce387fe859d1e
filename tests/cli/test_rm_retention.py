"""`memxlnet rm --older-than` and `--keep`: a list first, and removal only with `--yes`."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from memxlnet.cli.output import shown_bytes
from memxlnet.maintain.lock import builder_lock, lock_path
from memxlnet.maintain.removal import num_bytes
from tests.cli.helpers import Caches, Result, copy_of, error, usage_error

Run = Callable[..., Result]
DRY = "nothing was removed; --yes removes them\n"


@pytest.fixture
def pair(caches: Caches, tmp_path: Path) -> tuple[Path, Path]:
    """Two caches of one name and split in a directory of their own: one of 40 days, one of 3 hours."""
    (tmp_path / "caches").mkdir()
    old, new = (copy_of(cache, tmp_path / "caches") for cache in (caches.plain, caches.memory))
    for cache, hours in ((old, 40 * 24), (new, 3)):
        written = time.time() - hours * 3600 - 60
        os.utime(cache / "manifest.json", (written, written))
    return old, new


@pytest.mark.parametrize(
    "options",
    [["--older-than", "30d"], ["--keep", 1], ["--older-than", "1h", "--keep", 1], ["--keep", 1, "--name", "vari*"]],
)
@pytest.mark.parametrize("place", ["path", "option", "variable"])
def test_it_lists_and_removes_only_with_yes(
    run: Run, pair: tuple[Path, Path], options: list[object], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = pair
    if place == "variable":
        monkeypatch.setenv("MEMXLNET_CACHE_DIR", str(old.parent))
    places: dict[str, list[object]] = {"path": [old.parent], "option": ["--cache-dir", old.parent], "variable": []}
    where = places[place]
    size = num_bytes(old)
    for flags, message in (("", DRY), ("-n", DRY), ("-n -y", DRY), ("-y", "")):
        result = run("rm", *options, *flags.split(), *where)
        assert (result.code, result.err) == (0, message)
        header, (path, name, split, age, listed) = result.lines
        assert header == ["cache", "name", "split", "age", "bytes"]
        assert (path, name, split, int(listed)) == (str(old), "varied", "test", size)
        assert 40 * 86_400 <= int(age) < 41 * 86_400
        assert old.exists() == bool(message)
    assert run("rm", *options, "-y", *where) == (0, "", "nothing to remove\n")
    assert new.exists()


def test_what_would_go_as_json(run: Run, pair: tuple[Path, Path]) -> None:
    (found,) = run("rm", "--keep", 1, pair[0].parent, "--json").json
    assert 40 * 86_400 <= found.pop("age_seconds") < 41 * 86_400
    assert found == {"path": str(pair[0]), "name": "varied", "split": "test", "bytes": num_bytes(pair[0])}
    assert run("rm", "--older-than", "999d", pair[0].parent, "--json").json == []


@pytest.mark.usefixtures("terminal")
def test_a_person_sees_units(run: Run, pair: tuple[Path, Path]) -> None:
    out = run("rm", "--older-than", "1m", pair[0].parent).out
    assert all(text in out for text in ("40.0 d", "3.0 h", shown_bytes(num_bytes(pair[0]))))


def test_one_that_is_in_use_is_skipped(run: Run, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memxlnet.maintain.lock.WAIT_SECONDS", 0.05)
    old, new = pair
    skipped = f"{old}: skipped, a process works on it\n"
    with builder_lock(lock_path(old.parent, old.name), lambda: None):
        assert run("rm", "--older-than", "1h", old.parent).err == skipped + DRY
        result = run("rm", "--older-than", "1h", "-y", old.parent)
        assert (result.code, result.err) == (0, skipped)
    assert old.exists()
    assert not new.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--older-than", "30"], "--older-than: expected a number above 0 with a unit"),
        (["--older-than", "nan"], "--older-than: expected a number above 0 with a unit"),
        (["--keep", 0], "--keep: expected"),
        (["--keep", -1], "--keep: expected"),
        (["--keep", 1, "--name", "x*"], "--name: expected caches in"),
        (["--keep", 1, "--name", ""], "--name: expected a pattern"),
    ],
)
def test_a_wrong_rule_is_an_error_of_its_option(
    run: Run, pair: tuple[Path, Path], options: list[object], message: str
) -> None:
    assert error(run("rm", "-y", *options, pair[0].parent)).startswith(message)
    assert all(cache.exists() for cache in pair)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep", "nan"], "Invalid value for '--keep'"),
        (["--keep", 1, "--old"], "cannot be combined"),
        (["--older-than", "1d", "--leftovers"], "cannot be combined"),
        (["--name", "x"], "--name needs --older-than or --keep."),
    ],
)
def test_a_wrong_command_line_is_one(run: Run, pair: tuple[Path, Path], options: list[object], message: str) -> None:
    assert message in usage_error(run("rm", "-y", *options, pair[0].parent))
    assert all(cache.exists() for cache in pair)


def test_it_needs_a_directory_of_caches(run: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    for path in (pair[0], tmp_path / "none"):
        text = error(run("rm", "--keep", 1, "-y", pair[0].parent, path))
        assert text.startswith(f"{path}: expected a directory of caches")
    assert all(cache.exists() for cache in pair)
