import functools
import importlib
from collections.abc import Callable

import pytest

from memxlnet.cli import main, output
from memxlnet.cli.commands import COMMANDS
from memxlnet.encode.memory_tokens import configure_memory_tokens
from tests.cli.helpers import LENGTH, MEMORY, OVERLAP, Caches, Result
from tests.load.helpers import sample_tokenizer, varied_examples
from tests.support import build, write_json_lines

SHARD_ROWS = 17
"""Small enough that documents lie across the border of two shards."""


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Caches:
    """Caches of the same file, which no test changes."""
    root = tmp_path_factory.mktemp("caches")
    source = write_json_lines(root / "varied.jsonl", varied_examples())
    make = functools.partial(build, source, max_seq_length=LENGTH, doc_stride=OVERLAP)
    with_memory = sample_tokenizer()
    configure_memory_tokens(with_memory, MEMORY)
    return Caches(
        source=source,
        directory=root / "together",
        plain=make(sample_tokenizer(), root / "together").directory,
        memory=make(with_memory, root / "together").directory,
        sharded=make(sample_tokenizer(), root / "sharded", max_shard_rows=SHARD_ROWS).directory,
    )


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs the command line in this process."""

    def call(*arguments: object) -> Result:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Result(code, out, err)

    return call


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a person read the output, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    for module in (output, *(importlib.import_module(f"memxlnet.cli.{name}") for name in COMMANDS)):
        if hasattr(module, "is_terminal"):
            monkeypatch.setattr(module, "is_terminal", lambda: True)
