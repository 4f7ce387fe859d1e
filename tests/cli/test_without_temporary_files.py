"""Neither a home nor a directory for temporary files is needed."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from memxlnet.cli.temporary_directory import choose_temporary_directory
from memxlnet.sample import sample_file, sample_tokenizer_directory
from tests.cli.helpers import Caches
from tests.support import ROOT, WAIT_SECONDS, slow

WITHOUT = """
import sys, tempfile
tempfile._candidate_tempdir_list = lambda: []
from memxlnet.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""As where no directory for temporary files can be written; for the tests' user each can."""


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", list)


@pytest.mark.usefixtures("nowhere")
def test_temporary_files_lie_where_caches_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for directories, expected in (
        ([], tmp_path / "here"),
        ([tmp_path], tmp_path),
        ([tmp_path / "none" / "yet"], tmp_path),
        ([Path("none")], tmp_path / "here"),
        ([Path("/proc/none")], tmp_path / "here"),
        ([Path("/proc/none"), tmp_path], tmp_path),
    ):
        tempfile.tempdir = None
        choose_temporary_directory(*directories)
        assert tempfile.gettempdir() == str(expected)


def test_a_directory_of_the_system_is_used_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    choose_temporary_directory(Path("caches"))
    assert tempfile.gettempdir() == str(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [slow(["build", "--workers", "1"]), slow(["build", "--parts"]), slow(["quickstart"])],
)
def test_commands_run(tmp_path: Path, arguments: list[str]) -> None:
    name, *options = arguments
    if name == "build":
        options += [str(sample_file()), "--tokenizer", str(sample_tokenizer_directory())]
    run_without(name, *options, "--quiet", "--cache-dir", str(tmp_path / "caches"))
    assert any((tmp_path / "caches").glob("[!.]*"))


@pytest.mark.parametrize(
    "arguments",
    [["report", "-o", "{}/page.html"], slow(["stats", "--plot", "{}/plot.png"])],
    ids=lambda value: value[0],
)
def test_plots_are_drawn(caches: Caches, tmp_path: Path, arguments: list[str]) -> None:
    name, *options = (argument.format(tmp_path) for argument in arguments)
    # Where nothing can be written but the result; matplotlib has files of its own.
    run_without(name, str(caches.plain), *options, cwd=Path("/proc"))
    (made,) = tmp_path.iterdir()
    assert made.stat().st_size > 10_000


def run_without(*arguments: str, cwd: Path = ROOT) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_", "MPL"))}
    # A home that cannot be made, not even by root, and a directory for temporary files that is missing.
    environment |= {"HOME": "/dev/null/home", "TMPDIR": "/dev/null/temporary", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
