"""`memxlnet rm`: asks, says what it takes, and takes nothing where one thing is refused."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from memxlnet.cli.output import shown_bytes
from memxlnet.format.manifest import read_manifest
from memxlnet.maintain.lock import builder_lock, lock_path
from memxlnet.maintain.removal import num_bytes
from tests.cli.helpers import LENGTH, OVERLAP, Caches, Result, change_manifest, copy_of, error, usage_error
from tests.load.helpers import sample_tokenizer
from tests.support import ROOT, build, example, write_json_lines

Run = Callable[..., Result]


@pytest.fixture
def cache_dir(caches: Caches, tmp_path: Path) -> Path:
    """A directory of two caches that a test may remove."""
    (tmp_path / "caches").mkdir()
    for cache in (caches.plain, caches.memory):
        copy_of(cache, tmp_path / "caches")
    return tmp_path / "caches"


@pytest.fixture
def both(cache_dir: Path) -> list[Path]:
    return sorted(cache_dir.iterdir())


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def shown(*paths: Path) -> str:
    """What is shown of caches where the output is piped."""
    return "".join(f"{path}\t{num_bytes(path)}\n" for path in paths)


# --- asking


@pytest.mark.parametrize("text", ["y\n", "yes\n", "Y\n"])
def test_it_asks_and_removes(run: Run, both: list[Path], monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    expected = shown(both[0])
    answer(monkeypatch, text)
    result = run("rm", both[0])
    assert (result.code, result.out) == (0, expected)
    assert result.err.startswith("Remove? [y/N]: ")
    assert names(both[0].parent) == [both[1].name]


@pytest.mark.parametrize("text", ["n\n", "\n", "", "what\nn\n"])
def test_no_answer_but_yes_removes(run: Run, both: list[Path], monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    answer(monkeypatch, text)
    result = run("rm", both[0])
    assert (result.code, result.out) == (1, shown(both[0]))
    assert result.err.startswith("Remove? [y/N]: ")
    assert result.err.endswith("memxlnet: aborted\n")
    assert names(both[0].parent) == [path.name for path in both]


def test_an_interruption_at_the_question_is_one(run: Run, both: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    answer(monkeypatch, "")
    monkeypatch.setattr(sys.stdin, "readline", interrupt)
    result = run("rm", both[0])
    assert (result.code, result.out) == (130, shown(both[0]))
    assert result.err.endswith("memxlnet: interrupted\n")
    assert names(both[0].parent) == [path.name for path in both]


@pytest.mark.usefixtures("terminal")
def test_a_person_sees_sizes_with_units(run: Run, both: list[Path]) -> None:
    expected = "".join(f"{path}\t{shown_bytes(num_bytes(path))}\n" for path in both)
    assert run("rm", "-n", *both) == (0, expected, "")
    assert expected.count(" kB\n") == 2


def test_the_end_of_the_input_of_a_process_removes_nothing(both: list[Path]) -> None:
    command = [sys.executable, "-m", "memxlnet.cli", "rm", str(both[0])]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout) == (1, shown(both[0]))
    assert done.stderr.endswith("memxlnet: aborted\n")
    assert both[0].exists()


def test_what_goes_as_json(run: Run, both: list[Path]) -> None:
    expected = [{"path": str(path), "bytes": num_bytes(path)} for path in both]
    assert run("rm", *both, "--json", "-n").json == expected
    assert run("rm", *both, "--json", "-y").json == expected
    assert names(both[0].parent) == []
    assert run("rm", "--leftovers", both[0].parent, "--json").json == []


def test_yes_does_not_ask(run: Run, both: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "n\n")
    expected = shown(*both)
    assert run("rm", "-y", *both) == (0, expected, "")
    assert names(both[0].parent) == []


@pytest.mark.parametrize("flag", ["-n", "--dry-run"])
def test_a_dry_run_removes_nothing(run: Run, both: list[Path], flag: str) -> None:
    assert run("rm", flag, "-y", *both) == (0, shown(*both), "")
    assert names(both[0].parent) == [path.name for path in both]


def test_one_that_is_named_twice_is_removed_once(run: Run, both: list[Path]) -> None:
    expected = shown(both[0])
    assert run("rm", "-y", both[0], both[0]) == (0, expected, "")
    assert names(both[0].parent) == [both[1].name]


def test_without_a_path_it_is_wrong_usage(run: Run) -> None:
    assert usage_error(run("rm", "-y")) == "Missing argument 'PATH...'."


# --- what is refused


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("none", "found none"),
        ("foreign", "found no manifest.json"),
        ("other json", "found another manifest.json"),
        ("filled", "notes.txt"),
        ("caches", "directory of caches"),
        ("link", "symbolic link"),
        ("file", "found none"),
    ],
)
def test_where_one_is_refused_none_goes(
    run: Run, caches: Caches, both: list[Path], tmp_path: Path, bad: str, message: str, order: int
) -> None:
    path = tmp_path / bad
    if bad == "foreign":
        path.mkdir()
        (path / "features-00000.arrow").touch()
    elif bad == "other json":
        path.mkdir()
        (path / "manifest.json").write_text(json.dumps({"format": "another"}))
    elif bad == "filled":
        shutil.copytree(caches.plain, path)
        (path / "notes.txt").write_text("precious")
    elif bad == "link":
        path.symlink_to(both[1])
    elif bad == "file":
        path.touch()
    before = sorted(tmp_path.rglob("*"))
    text = error(run("rm", "-y", *[both[0], path][::order]))
    assert str(path) in text
    assert message in text
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_cache_and_one_of_another_version_may_go(run: Run, both: list[Path]) -> None:
    change_manifest(both[0], schema_version=99)
    change_manifest(both[1], dropped_examples=7)
    assert run("rm", "-y", *both).code == 0
    assert names(both[0].parent) == []


def test_one_that_a_build_is_at_work_on_stays(run: Run, both: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memxlnet.maintain.lock.WAIT_SECONDS", 0.05)
    with builder_lock(lock_path(both[0].parent, both[0].name), lambda: None):
        result = run("rm", "-y", both[0])
    assert result.code == 1
    assert both[0].name in result.err
    assert both[0].exists()


# --- leftovers


def leave(cache_dir: Path, name: str) -> list[Path]:
    """What dead builds, transfers and removals leave."""
    made = [cache_dir / f"{prefix}{name}" for prefix in (".arriving-", ".build-", ".retired-")]
    for path in made:
        path.mkdir()
        (path / "file").write_bytes(b"x" * 1500)
    return made


def test_leftovers_of_every_kind_go(run: Run, both: list[Path]) -> None:
    cache_dir = both[0].parent
    left = leave(cache_dir, both[0].name)
    stray = cache_dir / f".build-{both[1].name}.lock"
    stray.touch()
    result = run("rm", "--leftovers", "--dry-run", cache_dir)
    assert (result.code, result.err) == (0, "")
    assert sorted(result.out.splitlines()) == sorted([*(f"{path}\t1500" for path in left), f"{stray}\t0"])
    assert all(path.exists() for path in left)
    assert run("rm", "--leftovers", "-y", cache_dir).code == 0
    assert names(cache_dir) == [path.name for path in both]
    assert run("rm", "--leftovers", "-y", cache_dir) == (0, "", "nothing to remove\n")


def test_leftovers_that_are_in_use_stay(run: Run, both: list[Path]) -> None:
    cache_dir = both[0].parent
    left = leave(cache_dir, both[0].name)
    with builder_lock(lock_path(cache_dir, both[0].name), lambda: None):
        assert run("rm", "--leftovers", "-y", cache_dir) == (0, "", "nothing to remove\n")
    assert all(path.exists() for path in left)


@pytest.mark.parametrize("options", [["--leftovers"], ["--old"], ["--old", "--leftovers"]])
def test_leftovers_and_old_ones_need_a_directory_of_caches(
    run: Run, both: list[Path], tmp_path: Path, options: list[str]
) -> None:
    cache_dir = both[0].parent
    leave(cache_dir, both[0].name)
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    for bad, found in (
        (tmp_path / "none", "none"),
        (tmp_path / "file", "a file"),
        (both[0], "a cache; memxlnet info shows it"),
    ):
        for paths in ([bad], [cache_dir, bad], [bad, cache_dir]):
            message = error(run("rm", *options, "-y", *paths))
            assert message == f"{bad}: expected a directory of caches, found {found}"
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    assert run("rm", *options, "-y", tmp_path / "empty") == (0, "", "nothing to remove\n")


def test_names_of_leftovers_show_no_control_characters(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".retired-\x1b[31m.0123456789abcdef").mkdir()
    assert run("rm", "--leftovers", "-n", tmp_path).out == f"{tmp_path}/.retired-\\x1b[31m.0123456789abcdef\t0\n"


# --- caches of a source that has changed since


def test_old_ones_go(run: Run, tmp_path: Path) -> None:
    source, cache_dir = tmp_path / "x.jsonl", tmp_path / "caches"
    made = []
    for number in range(3):
        write_json_lines(source, [example(f"Context {number}.", id="x")])
        made.append(build(source, sample_tokenizer(), cache_dir).directory)
        os.utime(made[-1] / "manifest.json", (number, number))
    kept = build(source, sample_tokenizer(), cache_dir, max_seq_length=LENGTH, doc_stride=OVERLAP).directory
    expected = sorted(shown(path) for path in made[:2])
    result = run("rm", "--old", "-n", cache_dir)
    assert (result.code, sorted(result.out.splitlines(keepends=True))) == (0, expected)
    assert run("rm", "--old", "-y", cache_dir).code == 0
    assert names(cache_dir) == sorted([made[2].name, kept.name])
    assert run("rm", "--old", "-y", cache_dir).err == "nothing to remove\n"


def test_old_ones_and_leftovers_of_several_directories(run: Run, both: list[Path], tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    left = [*leave(both[0].parent, both[0].name), *leave(tmp_path / "more", both[1].name)]
    result = run("rm", "--old", "--leftovers", "-y", both[0].parent, tmp_path / "more")
    assert result.code == 0
    assert len(result.lines) == len(left)
    assert not any(path.exists() for path in left)
    assert all(read_manifest(path) for path in both)
