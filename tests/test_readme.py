"""Every block of the README is run: the Python blocks here, in order; the two commands by the CI script."""

import re
from pathlib import Path

import pytest

from tests.support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata
def test_python_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    for number, block in enumerate(blocks("python")):
        exec(compile(block, f"README.md, python block {number}", "exec"), namespace)
    assert (tmp_path / "memxlnet-cache").is_dir()


def test_the_two_commands_are_what_ci_runs() -> None:
    first, second = blocks("bash")
    assert first.startswith("python3 -m venv")
    assert "memxlnet quickstart" in first
    assert second.startswith("python3 -m venv")
    assert "-m pytest" in second
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "readme_command 0" in script
    assert "readme_command 1" in script


def test_no_block_is_of_a_kind_that_nothing_runs() -> None:
    assert set(re.findall(r"^```(\w+)$", README, re.MULTILINE)) == {"bash", "python", "text"}
