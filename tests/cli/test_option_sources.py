"""Options from a configuration file and from the environment, and which one counts."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from memxlnet.cli.commands import COMMANDS, commands
from memxlnet.cli.option_sources import COMMON, option_name
from memxlnet.sample import sample_tokenizer_directory
from tests.cli.helpers import Caches, Result, usage_error
from tests.support import long_examples, write_json_lines

Run = Callable[..., Result]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def to_file(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return what a command is called with, without running it."""

    def call(name: str, *arguments: object) -> dict[str, Any]:
        group = click.Context(commands)
        command = commands.get_command(group, name)
        assert command is not None
        context = command.make_context(name, [str(argument) for argument in arguments], parent=group)
        return dict(context.params)

    return call


Parsed = Callable[..., dict[str, Any]]
Write = Callable[[str], Path]

GIVEN = ["--tokenizer", "t", "source.json"]


def test_the_order_is_command_line_environment_file_default(
    parsed: Parsed, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def length(*options: object) -> object:
        return parsed("build", *GIVEN, *options)["max_seq_length"]

    config = ("--config", write("[build]\nmax-seq-length = 50"))
    assert length() == 384
    assert length(*config) == 50
    monkeypatch.setenv("MEMXLNET_BUILD_MAX_SEQ_LENGTH", "60")
    assert length(*config) == length() == 60
    assert length(*config, "--max-seq-length", 70) == length("--max-seq-length", 70, *config) == 70
    monkeypatch.setenv("MEMXLNET_BUILD_MAX_SEQ_LENGTH", "")  # as if it were not set
    assert length(*config) == 50


def test_the_table_of_the_command_counts_more_than_the_top(parsed: Parsed, write: Write) -> None:
    config = write("max_examples = 1\ndoc-stride = 2\n[build]\nmax-examples = 3\n[stats]\nwhatever = 1")
    found = parsed("build", *GIVEN, "--config", config)
    assert (found["max_examples"], found["doc_stride"]) == (3, 2)


VALUES: dict[str, tuple[str, str, str, Any]] = {
    "integer": ("max-seq-length = 50", "MAX_SEQ_LENGTH=50", "max_seq_length", 50),
    "number": ("max-memory-gb = 1.5", "MAX_MEMORY_GB=1.5", "max_memory_gb", 1.5),
    "whole number": ("max-memory-gb = 2", "MAX_MEMORY_GB=2", "max_memory_gb", 2.0),
    "text": ('split = "dev"', "SPLIT=dev", "split", "dev"),
    "choice": ('on-bad-example = "drop"', "ON_BAD_EXAMPLE=drop", "on_bad_example", "drop"),
    "share": ('max-dropped = "1%"', "MAX_DROPPED=1%", "max_dropped", 0.01),
    "count": ("max-dropped = 5", "MAX_DROPPED=5", "max_dropped", 5),
    "flag": ("rebuild = true", "REBUILD=1", "rebuild", True),
    "flag that is off": ("rebuild = false", "REBUILD=0", "rebuild", False),
    "pair of flags": ("progress = false", "PROGRESS=no", "progress", False),
    "other name": ("workers = 2", "WORKERS=2", "num_workers", 2),
    "several": ('keep = ["a", "b"]', "KEEP=a b", "keep", ("a", "b")),
    "one of several": ('keep = "a"', "KEEP=a", "keep", ("a",)),
    "pairs": ('column = ["question=q"]', "COLUMN=question=q", "columns", {"question": "q"}),
    "table": ('column = {question = "q"}', "COLUMN=question=q", "columns", {"question": "q"}),
    "shared": ('log-format = "json"', "LOG_FORMAT=json", "log_format", "json"),
    "json": ("json = true", "JSON=true", "as_json", True),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(parsed: Parsed, write: Write, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    text, variable, parameter, expected = VALUES[name]
    for content in (text, text.replace("-", "_", 1), f"[build]\n{text}"):
        assert parsed("build", *GIVEN, "--config", write(content))[parameter] == expected
    key, _, value = variable.partition("=")
    monkeypatch.setenv(f"MEMXLNET_BUILD_{key}", value)
    assert parsed("build", *GIVEN)[parameter] == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_its_variable_and_its_key(name: str) -> None:
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    names = [option_name(parameter) for parameter in command.params]
    assert len(set(names)) == len(names)
    for option in command.params:
        if isinstance(option, click.Option):
            upper = option_name(option).upper().replace("-", "_")
            assert option.envvar is not None
            assert option.envvar[0] == f"MEMXLNET_{name.upper()}_{upper}"
            assert set(option.envvar[1:]) <= {f"MEMXLNET_{upper}"}
            assert (len(option.envvar) == 2) == (
                option_name(option) in COMMON and not (name in ("quickstart", "compact") and upper == "CACHE_DIR")
            )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[build", "expected a file of TOML: "),
        ("a = 1\na = 2", "expected a file of TOML: "),
        ("max-seq-lenght = 9", "expected options of build, found the unknown key 'max-seq-lenght'; did you mean"),
        ("[build]\nmax-seq-lenght = 9", "[build] expected options of build, found the unknown key 'max-seq-lenght'"),
        ("[biuld]\nmax-seq-length = 9", "found the unknown key 'biuld'; did you mean 'build'?"),
        ("[build.deep]\nx = 9", "[build] expected options of build, found the unknown key 'deep'"),
        ("config = 'x'", "found the unknown key 'config'"),
        ("max-seq-length = 9.5", "max-seq-length: expected an integer, found a number"),
        ("max-seq-length = true", "max-seq-length: expected an integer, found true or false"),
        ("max-seq-length = '9'", "max-seq-length: expected an integer, found a string"),
        ("max-memory-gb = false", "max-memory-gb: expected a number or an integer, found true or false"),
        ("split = 5", "split: expected a string, found an integer"),
        ("split = ['a']", "split: expected a string, found a list"),
        ("split = 2020-01-01", "split: expected a string, found a date or time"),
        ("rebuild = 1", "rebuild: expected true or false, found an integer"),
        ("keep = [5]", "keep: expected a string, found an integer"),
        ("column = {question = 5}", "column: expected a table of strings, found an integer in it"),
        ("max-dropped = 0.01", "max-dropped: expected a string or an integer, found a number"),
    ],
)
def test_a_wrong_file_is_refused(run: Run, write: Write, text: str, message: str) -> None:
    path = write(text)
    found = usage_error(run("build", "x.json", "--tokenizer", "t", "--config", path))
    assert f"{path}: " in found
    assert message in found


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read(run: Run, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.toml"
    if content is not None:
        path.write_bytes(content)
    assert f"{path}: expected a file of TOML: " in usage_error(run("ls", "--config", path))
    assert "expected a file of TOML: Is a directory" in usage_error(run("ls", "--config", tmp_path))


def test_no_message_repeats_a_value(run: Run, write: Write) -> None:
    for text in (
        "token = 'hunter2'",
        "source = 'https://me:hunter2@x/y'\nsplit = 5",
        "rebuild = 'hunter2'",
        "a = hunter2",
    ):
        result = run("build", "x", "--tokenizer", "t", "-v", "--config", write(text))
        assert result.code == 2
        assert "hunter2" not in result.out + result.err


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("source", "data.jsonl", "{}/data.jsonl"),
        ("source", "*.jsonl", "{}/*.jsonl"),
        ("source", "there", "{}/there"),
        ("source", "squad_v2", "squad_v2"),
        ("source", "owner/squad.v2", "owner/squad.v2"),
        ("source", "/x/y.json", "/x/y.json"),
        ("source", "~/y.json", "~/y.json"),
        ("source", "s3://bucket/y.json", "s3://bucket/y.json"),
        ("tokenizer", "there", "{}/there"),
        ("tokenizer", "./none", "{}/none"),
        ("tokenizer", "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-7B"),
        ("cache-dir", "caches", "{}/caches"),
        ("output", "x.json", "{}/x.json"),
    ],
)
def test_paths_count_from_the_file(
    parsed: Parsed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str, expected: str
) -> None:
    folder = tmp_path / "of the file"
    (folder / "there").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    values = {"source": "s.json", "tokenizer": "t", key: value}
    (folder / "x.toml").write_text("\n".join(f'{name} = "{text}"' for name, text in values.items()))
    found = parsed("build", "--config", "../of the file/x.toml")[key.replace("-", "_")]
    shown = str(found[0] if key == "source" else found)
    assert shown.replace("/./", "/") == expected.format(folder)


def test_a_cache_may_be_a_name(parsed: Parsed, write: Write, tmp_path: Path) -> None:
    assert parsed("info", "--config", write('cache = "name"'))["cache"] == Path("name")
    (tmp_path / "name").mkdir()
    assert parsed("info", "--config", write('cache = "name"'))["cache"] == tmp_path / "name"


def test_a_variable_of_no_option_is_refused(run: Run, caches: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMXLNET_INFO_JSN", "1")
    assert usage_error(run("info", caches.plain)) == (
        "MEMXLNET_INFO_JSN: expected the variable of an option, found none; did you mean 'MEMXLNET_INFO_JSON'?"
    )
    assert run("ls", caches.directory).code == 0  # it is none of ls


def test_variables_of_all_commands(run: Run, caches: Caches, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    monkeypatch.setenv("MEMXLNET_JSON", "yes")
    assert run("info", caches.plain).json["cache"] == str(caches.plain)
    monkeypatch.setenv("MEMXLNET_INFO_JSON", "no")
    assert run("info", caches.plain).fields["cache"] == str(caches.plain)
    assert run("ls", caches.directory).json
    monkeypatch.setenv("MEMXLNET_CONFIG", str(write("no-such-key = 1")))
    assert "no-such-key" in usage_error(run("ls", caches.directory))
    monkeypatch.setenv("MEMXLNET_LS_CONFIG", os.devnull)
    assert run("ls", caches.directory).code == 0


def test_a_build_from_a_file_alone(run: Run, write: Write, tmp_path: Path) -> None:
    write_json_lines(tmp_path / "long.jsonl", long_examples(3))
    (tmp_path / "tokenizer").symlink_to(sample_tokenizer_directory())
    config = write(
        'quiet = true\n[build]\nsource = ["long.jsonl"]\ntokenizer = "tokenizer"\ncache-dir = "caches"\n'
        'max-seq-length = 64\ndoc-stride = 16\njson = true\noutput = "result.json"\n'
    )
    assert run("build", "--config", config) == (0, "", "")
    found = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert Path(found["cache"]).parent == tmp_path / "caches"
    assert found["documents"] == 3


def test_push_does_not_verify_where_the_variable_is_set(parsed: Parsed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed("push", "x", "s3://x")["no_verify"] is False
    monkeypatch.setenv("MEMXLNET_PUSH_NO_VERIFY", "1")
    assert parsed("push", "x", "s3://x")["no_verify"] is True
