"""Every block of every README is run, in order: Python here, the command line in a shell, the two commands by CI.

The stores that they name are servers on this machine: one that speaks S3, one that speaks as the Hub.
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
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in ("arrow_schemas", "benchmarks", "memxlnet", "tests")
    for path in sorted((ROOT / folder).rglob("README.md"))
}
WITH_STORES = {"memxlnet/data/README.md", "memxlnet/remote/README.md"}
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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, with the file and the tokenizer that the READMEs name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("memxlnet.sources.forms.form._forms", dict(form._forms))
    shutil.copy(sample_file(), tmp_path / "squad.json")
    shutil.copytree(sample_tokenizer_directory(), tmp_path / "tokenizer")
    return tmp_path


@pytest.mark.usefixtures("stores")
def test_blocks_run_in_order(folder: Path) -> None:
    run_blocks("README.md", README, {"__name__": "readme"})
    assert (folder / "memxlnet-cache").is_dir()
    assert (folder / "statistics.png").stat().st_size > 10_000
    assert (folder / "predictions.json").stat().st_size > 1_000


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata
@pytest.mark.parametrize("room", ROOMS)
def test_the_blocks_of_a_room_run(room: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """A room continues after the first block of the README: its blocks find a tokenizer and a cache."""
    if room in WITH_STORES:
        request.getfixturevalue("stores")
    namespace: dict[str, object] = {"__name__": "readme"}
    if blocks("python", "console", text=ROOMS[room]):
        run_blocks("README.md", first_python_block(), namespace)
    run_blocks(room, ROOMS[room], namespace)


def first_python_block() -> str:
    return f"```python\n{blocks('python')[0][1]}```\n"


def run_blocks(document: str, text: str, namespace: dict[str, object]) -> None:
    """Run the blocks of a document in order, in one namespace; one that begins with a file name is written there."""
    for number, (language, block) in enumerate(blocks("python", "console", text=text)):
        name = f"{document}, block {number} ({language})"
        if language == "console":
            run(block, name)
        elif found := FILE.match(block):
            Path(found[1]).write_text(block, encoding="utf-8")
        else:
            exec(compile(block, name, "exec"), namespace)


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
    assert kinds(README) == {"bash", "console", "python", "text"}
    for room, text in ROOMS.items():
        assert kinds(text) <= {"console", "python", "text"}, room


def kinds(text: str) -> set[str]:
    return {line for number, line in enumerate(re.findall(r"^```(.*)$", text, re.MULTILINE)) if number % 2 == 0}


def test_the_readme_is_a_door() -> None:
    assert len(README.splitlines()) <= 250
    assert [room for room in ROOMS if f"]({room})" not in README] == []


@pytest.mark.parametrize("document", ["README.md", *ROOMS])
def test_every_link_leads_somewhere(document: str) -> None:
    text = README if document == "README.md" else ROOMS[document]
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        if "://" in path:
            continue
        file = (ROOT / document).parent / path if path else ROOT / document
        assert file.exists(), target
        if heading:
            assert heading in headings(file.read_text(encoding="utf-8")), target


def headings(text: str) -> set[str]:
    """The names by which the headings of a document are linked."""
    found = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_every_command_is_named() -> None:
    from memxlnet.cli.commands import COMMANDS

    assert [name for name in COMMANDS if f"`{name}`" not in README and f"memxlnet {name}" not in README] == []


def test_names_that_are_gone_stand_in_the_table() -> None:
    assert [name for name in GONE if f"`{name}`" not in EARLIER] == []
