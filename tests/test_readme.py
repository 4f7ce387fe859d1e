"""Every block of every README is run, in order: Python here, commands as a shell reads them, the two commands by CI.

In the quick suite the commands of the shell are calls in this process; in the slow suite each is a process of its own.
The stores that the READMEs name are servers on this machine: one that speaks S3, one that speaks as the Hub.
"""

import contextlib
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from memxlnet.cli import main
from memxlnet.earlier_names import GONE
from memxlnet.sample import sample_file, sample_tokenizer_directory
from memxlnet.sources.forms import form
from tests.remote.hub_server import OWNER, running_hub
from tests.remote.s3 import make_client, server
from tests.support import ROOT, WAIT_SECONDS, slow

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
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, with the file and the tokenizer that the READMEs name."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the models are so small that several threads only wait for each other
    monkeypatch.setattr("memxlnet.sources.forms.form._forms", dict(form._forms))
    shutil.copy(sample_file(), tmp_path / "squad.json")
    shutil.copytree(sample_tokenizer_directory(), tmp_path / "tokenizer")
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize("how", ["here", slow("in a shell")])
def test_blocks_run_in_order(folder: Path, how: str) -> None:
    run_blocks("README.md", README, {"__name__": "readme"}, COMMANDS[how])
    assert (folder / "memxlnet-cache").is_dir()
    assert (folder / "statistics.png").stat().st_size > 10_000
    assert (folder / "predictions.json").stat().st_size > 1_000


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata
@pytest.mark.parametrize(
    ("room", "how"),
    [
        *((room, "here") for room in ROOMS),
        *(slow(room, "in a shell") for room, text in ROOMS.items() if blocks("console", text=text)),
    ],
)
def test_the_blocks_of_a_room_run(room: str, how: str, folder: Path, request: pytest.FixtureRequest) -> None:
    """A room continues after the first block of the README: its blocks find a tokenizer and a cache."""
    if room in WITH_STORES:
        request.getfixturevalue("stores")
    namespace: dict[str, object] = {"__name__": "readme"}
    if blocks("python", "console", text=ROOMS[room]):
        run_blocks("README.md", first_python_block(), namespace, COMMANDS[how])
    run_blocks(room, ROOMS[room], namespace, COMMANDS[how])


def first_python_block() -> str:
    return f"```python\n{blocks('python')[0][1]}```\n"


def run_blocks(
    document: str, text: str, namespace: dict[str, object], run_commands: Callable[[str, str], None]
) -> None:
    """Run the blocks of a document in order, in one namespace; one that begins with a file name is written there."""
    for number, (language, block) in enumerate(blocks("python", "console", text=text)):
        name = f"{document}, block {number} ({language})"
        if language == "console":
            run_commands(block, name)
        elif found := FILE.match(block):
            Path(found[1]).write_text(block, encoding="utf-8")
        else:
            exec(compile(block, name, "exec"), namespace)


def run_here(block: str, name: str) -> None:
    """Run a block in a shell in which the commands are calls in this process.

    A command of the shell writes its arguments into one pipe, reads the exit code from another, and prints the output.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as output, tempfile.TemporaryFile() as log:
        asked, ask = os.pipe()
        answered, answer = os.pipe()
        functions = "".join(
            f"""{program}() {{
    printf '%s\\0' {program} "$#" "$@" >&{ask}
    read -r code <&{answered} && cat {output.name} && return "$code"
}}
"""
            for program in PROGRAMS
        )
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", f"{functions}{block}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(ask, answered),
        )
        os.close(ask)
        os.close(answered)
        try:
            with os.fdopen(asked, "rb") as requests:
                while program := next_word(requests):
                    arguments = [next_word(requests) for _ in range(int(next_word(requests)))]
                    output.seek(0)
                    output.truncate()
                    with contextlib.redirect_stdout(output.file):
                        code = PROGRAMS[program](arguments)
                    output.flush()
                    os.write(answer, b"%d\n" % code)
        finally:
            os.close(answer)
            code = process.wait(WAIT_SECONDS)
        log.seek(0)
        assert code == 0, (name, log.read()[-4000:].decode())


def next_word(stream: BinaryIO) -> str:
    """Read up to the next zero byte, or to the end."""
    found = bytearray()
    while (byte := stream.read(1)) not in (b"", b"\0"):
        found += byte
    return found.decode()


def run_one_rank(arguments: list[str]) -> int:
    """Run the script as the only rank of a job."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1"}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "excepthook", sys.excepthook)  # which the job replaces
        runpy.run_path(arguments[-1], run_name="__main__")
    return 0


def run_in_a_shell(block: str, name: str) -> None:
    """Run the lines of a block in a shell, in which the commands are those of this interpreter."""
    command = f"""
memxlnet() {{ {sys.executable} -W error -m memxlnet.cli "$@"; }}
torchrun() {{ {sys.executable} -m torch.distributed.run "$@"; }}
set -euo pipefail
{block}"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
    )
    assert done.returncode == 0, (name, done.stdout[-2000:], done.stderr[-4000:])


PROGRAMS: dict[str, Callable[[list[str]], int]] = {"memxlnet": main, "torchrun": run_one_rank}
COMMANDS = {"here": run_here, "in a shell": run_in_a_shell}


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
