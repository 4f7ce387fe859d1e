"""`--output`: the result in a file, whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from memxlnet.sample import sample_tokenizer_directory
from tests.cli.helpers import Caches, Result, usage_error
from tests.support import long_examples, write_json_lines

Run = Callable[..., Result]


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ls", ["directory"]),
        ("info", ["plain"]),
        ("stats", ["plain"]),
        ("show", ["plain", "0"]),
        ("verify", ["plain"]),
        ("diff", ["plain", "memory"]),
    ],
)
def test_the_file_is_what_would_be_printed(
    run: Run, caches: Caches, tmp_path: Path, name: str, arguments: list[str], options: list[str]
) -> None:
    given = [getattr(caches, argument, argument) for argument in arguments]
    printed = run(name, *given, *options)
    done = run(name, *given, *options, "-o", tmp_path / "result")
    assert (done.code, done.out, done.err) == (printed.code, "", printed.err)
    assert (tmp_path / "result").read_text(encoding="utf-8") == printed.out
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_terminal_is_not_asked(run: Run, caches: Caches, tmp_path: Path) -> None:
    run("info", caches.plain, "-o", tmp_path / "x")
    assert "\x1b" not in (tmp_path / "x").read_text(encoding="utf-8")


def test_a_dash_is_standard_output(run: Run, caches: Caches) -> None:
    assert run("info", caches.plain, "-o", "-").out == run("info", caches.plain).out


def test_what_stood_there_stays_where_the_command_fails(run: Run, caches: Caches, tmp_path: Path) -> None:
    file = tmp_path / "result"
    file.write_text("before")
    assert run("info", tmp_path / "none", "--output", file).code == 5
    assert file.read_text() == "before"
    result = run("info", tmp_path / "none", "--output", file, "--json")
    assert result.json["error"]["exit_code"] == 5  # on standard output: the file holds results only
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]
    assert run("info", caches.plain, "--output", file).code == 0
    assert file.read_text().startswith("cache\t")


def test_a_link_is_kept_and_the_file_replaced(run: Run, caches: Caches, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("before")
    (tmp_path / "link").symlink_to("real")
    reader = (tmp_path / "real").open()
    assert run("info", caches.plain, "-o", tmp_path / "link").code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text().startswith("cache\t")
    assert reader.read() == "before"
    reader.close()


def test_the_file_has_the_usual_mode(run: Run, caches: Caches, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        run("info", caches.plain, "-o", tmp_path / "x")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("none/x", "expected a file in an existing directory, found no directory"),
        ("file/x", "expected a file in an existing directory, found no directory"),
        ("folder", "expected a file or a new name, found a directory"),
        ("pipe", "expected a file or a new name, found a device or pipe"),
        ("", "expected a path, found an empty one"),
    ],
)
def test_no_work_is_done_where_no_file_can_stand(run: Run, tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    source = write_json_lines(tmp_path / "long.jsonl", long_examples(2))
    arguments = ["build", source, "--tokenizer", sample_tokenizer_directory(), "--cache-dir", tmp_path / "caches"]
    assert message in usage_error(run(*arguments, "-o", tmp_path / place if place else ""))
    assert not (tmp_path / "caches").exists()


@pytest.mark.parametrize("at", ["begin", "end"])
def test_a_disk_that_is_full(
    run: Run, caches: Caches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def write(path: Path, content: bytes) -> None:
        if at == "begin" or content:
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(content)

    for module in ("cli.output_file", "format.paths"):
        monkeypatch.setattr(f"memxlnet.{module}.write_file", write)
    result = run("info", caches.plain, "-o", tmp_path / "x")
    assert result.code == 7
    assert result.err.startswith(f"memxlnet: error: {tmp_path}/x: cannot be written: No space left on device")
    assert "choose another --output" in result.err
    assert list(tmp_path.iterdir()) == []
