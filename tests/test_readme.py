"""Every block of the README is run, in order: Python here, the command line in a shell, the two commands by CI.

The stores that it names are servers on this machine: one that speaks S3, one that speaks as the Hub.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memxlnet.earlier_names import GONE
from memxlnet.sample import sample_file, sample_tokenizer_directory
from memxlnet.sources.forms import form
from tests.remote.hub_server import OWNER, running_hub
from tests.remote.s3 import make_client, server
from tests.support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
EARLIER = (ROOT / "memxlnet" / "data" / "README.md").read_text(encoding="utf-8")
ROOMS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("memxlnet/**/README.md"))
}
FILE = re.compile(r"# file: (\S+)\n")


def blocks(*languages: str, text: str = README) -> list[tuple[str, str]]:
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(language, block) for language, block in found if language in languages]


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Servers for the stores of the README, found through the environment as a user's would be."""
    with server() as endpoint, running_hub(monkeypatch, tmp_path / "home"):
        client = make_client(endpoint)
        client.create_bucket(Bucket="my-bucket")
        client.close()
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "testing")
        monkeypatch.setenv("HF_TOKEN", OWNER)
        yield


@pytest.mark.usefixtures("stores")
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata
def test_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(sample_file(), tmp_path / "squad.json")
    shutil.copytree(sample_tokenizer_directory(), tmp_path / "tokenizer")
    namespace: dict[str, object] = {"__name__": "readme"}
    for number, (language, block) in enumerate(blocks("python", "console")):
        name = f"README.md, block {number} ({language})"
        if language == "console":
            run(block, name)
        elif found := FILE.match(block):
            (tmp_path / found[1]).write_text(block)
        else:
            exec(compile(block, name, "exec"), namespace)
    assert (tmp_path / "memxlnet-cache").is_dir()
    assert (tmp_path / "statistics.png").stat().st_size > 10_000
    assert (tmp_path / "predictions.json").stat().st_size > 1_000


@pytest.mark.parametrize("room", ROOMS)
def test_the_blocks_of_a_room_run(room: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("memxlnet.sources.forms.form._forms", dict(form._forms))
    namespace: dict[str, object] = {"__name__": "readme"}
    for number, (_, block) in enumerate(blocks("python", text=ROOMS[room])):
        exec(compile(block, f"{room}, block {number}", "exec"), namespace)
    assert list(tmp_path.iterdir())


def run(block: str, name: str) -> None:
    """Run the lines of a block in a shell, in which the commands are those of this interpreter."""
    command = f"""
memxlnet() {{ {sys.executable} -W error -m memxlnet.cli "$@"; }}
torchrun() {{ {sys.executable} -m torch.distributed.run "$@"; }}
set -euo pipefail
{block}"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, (name, done.stdout[-2000:], done.stderr[-4000:])


def test_the_two_commands_are_what_ci_runs() -> None:
    first, second = (block for _, block in blocks("bash"))
    assert first.startswith("python3 -m venv")
    assert "memxlnet quickstart" in first
    assert second.startswith("python3 -m venv")
    assert "-m pytest" in second
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "readme_command 0" in script
    assert "readme_command 1" in script


def test_no_block_is_of_a_kind_that_nothing_runs() -> None:
    kinds = set(re.findall(r"^```(\w*)$", README, re.MULTILINE)) - {""}
    assert kinds == {"bash", "console", "python", "text"}
    for text in ROOMS.values():
        assert set(re.findall(r"^```(\w*)$", text, re.MULTILINE)) - {""} == {"python"}


def test_every_command_is_named() -> None:
    from memxlnet.cli.app import COMMANDS

    assert [name for name in COMMANDS if f"`{name}`" not in README and f"memxlnet {name}" not in README] == []


def test_names_that_are_gone_stand_in_the_table() -> None:
    assert [name for name in GONE if f"`{name}`" not in EARLIER] == []
    assert [room for room in ROOMS if room not in README] == []
