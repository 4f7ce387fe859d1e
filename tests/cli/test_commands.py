"""What all commands share: loading, help, wrong usage, errors in terms of options, interruption, closed pipes."""

import importlib
import inspect
import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import pytest

from memxlnet import __version__
from memxlnet.cli import commands
from memxlnet.cli.commands import COMMANDS, main
from memxlnet.cli.exit_codes import EXIT_CODES
from memxlnet.cli.option_names import in_options
from tests.cli.helpers import Caches, Result, copy_of, error, usage_error
from tests.support import ROOT, slow

Run = Callable[..., Result]

SHARED = {
    "cache_arguments",
    "commands",
    "exit_codes",
    "option_names",
    "option_sources",
    "output",
    "output_file",
    "parameters",
    "paths",
    "session",
    "temporary_directory",
    "tokenizers",
}
"""Modules of the folder that are no commands."""


def command(name: str) -> click.Command:
    found = importlib.import_module(f"memxlnet.cli.{name}").command
    assert isinstance(found, click.Command)
    return found


def in_a_process(
    *arguments: object, env: Mapping[str, str] | None = None, encoding: str = "utf-8", module: str = "memxlnet.cli"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=env, encoding=encoding, capture_output=True, timeout=100, check=False)


# --- the commands and their help


def test_the_commands_are_the_modules_of_the_folder() -> None:
    modules = {path.stem for path in Path(inspect.getfile(commands)).parent.glob("[!_]*.py")}
    assert modules == {*COMMANDS, *SHARED}
    assert [name for name in COMMANDS if command(name).name != name] == []


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_lists_all_commands(run: Run, flag: str) -> None:
    result = run(flag)
    assert (result.code, result.err) == (0, "")
    for name, line in COMMANDS.items():
        assert f"  {name} " in result.out
        assert line in result.out
    for code, meaning in EXIT_CODES.items():
        assert f"  {code:>3}  {meaning}\n" in result.out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_names_its_options(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert (result.code, result.err) == (0, "")
    options = [parameter for parameter in command(name).params if isinstance(parameter, click.Option)]
    assert {"-v", "--verbose"} <= {option for parameter in options for option in parameter.opts}
    for option in options:
        for text in (*option.opts, *option.secondary_opts):
            assert text in result.out
        assert option.help
        assert option.help.split()[0] in result.out
    for argument in command(name).params:
        if isinstance(argument, click.Argument):
            assert str(argument.make_metavar(click.Context(command(name)))) in result.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_options_of_all(name: str) -> None:
    options = {option for parameter in command(name).params for option in parameter.opts}
    assert {"--json", "--verbose", "--quiet", "--log-format", "--config", "--output"} <= options
    assert ("--heartbeat" in options) == (
        name in {"build", "compact", "export", "push", "pull", "report", "stats", "verify"}
    )


def test_without_a_command_the_help_is_an_error(run: Run) -> None:
    result = run()
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Usage: memxlnet")


def test_the_version(run: Run) -> None:
    assert run("--version") == (0, f"memxlnet {__version__}\n", "")


# --- wrong usage


@pytest.mark.parametrize(
    ("arguments", "unknown", "meant"),
    [
        (["buidl"], "buidl", "'build'"),
        (["inf"], "inf", "'info'"),
        (["--verison"], "--verison", "'--version'"),
        (["build", "x.json", "--tokeniser", "x"], "--tokeniser", "'--tokenizer'"),
        (["build", "x.json", "--max-seq-lenght", "9"], "--max-seq-lenght", "'--max-seq-length'"),
        (["show", "x", "--segmnet", "1"], "--segmnet", "'--segment'"),
    ],
)
def test_an_unknown_name_says_which_one_is_near(run: Run, arguments: list[str], unknown: str, meant: str) -> None:
    message = usage_error(run(*arguments))
    assert f"'{unknown}'" in message
    assert meant in message.split("Did you mean")[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["xyz"], "No such command 'xyz'."),
        (["ls", "--qqq"], "No such option '--qqq'."),
        (["build", "x.json"], "Missing option '--tokenizer'."),
        (["info"], "Missing argument 'CACHE'."),
        (["info", "a", "b"], "Got unexpected extra argument (b)"),
        (["build", "x.json", "--max-examples", "many"], "'many' is not a valid integer."),
        (["build", "x.json", "--on-bad-example", "skip"], "'skip' is not one of 'error', 'drop'."),
    ],
)
def test_wrong_usage_is_exit_2(run: Run, arguments: list[str], message: str) -> None:
    assert usage_error(run(*arguments)).endswith(message)


@pytest.mark.parametrize(
    "arguments",
    [
        ["ls"],
        ["info"],
        ["stats"],
        ["show"],
        ["verify"],
        ["diff", "x"],
        ["rm"],
        ["rm", "--old"],
        ["pull", "--cache-dir"],
    ],
)
def test_an_empty_path_is_not_the_current_directory(run: Run, arguments: list[str]) -> None:
    assert "expected a path, found an empty one" in usage_error(run(*arguments, ""))


# --- starting light


def test_a_command_loads_only_what_it_needs(caches: Caches) -> None:
    """In one process, those first that may load least: what one loads stays for all after it."""
    slowest = {"torch", "transformers", "datasets", "matplotlib"}
    cache, other = str(caches.plain), str(caches.memory)
    commands: list[tuple[list[str], set[str], int]] = [
        (["--help"], {*slowest, "pyarrow", "numpy", "rich"}, 0),
        (["ls", str(caches.directory)], {*slowest, "pyarrow", "numpy"}, 0),
        (["info", cache], {*slowest, "pyarrow", "numpy"}, 0),
        (["diff", cache, other], {*slowest, "pyarrow", "numpy"}, 1),
        *((["build", "--help"], slowest, 0), (["show", "--help"], slowest, 0), (["stats", "--help"], slowest, 0)),
        *((["show", cache, "0"], slowest, 0), (["stats", cache], slowest, 0)),
    ]
    script = (
        "import json, sys\n"
        "from memxlnet.cli import main\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    print(json.dumps([main(arguments), sorted(sys.modules)]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps([arguments for arguments, _, _ in commands])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    found = [json.loads(line) for line in done.stderr.splitlines()]
    for (arguments, heavy, expected), (code, loaded) in zip(commands, found, strict=True):
        assert (arguments, code, heavy & set(loaded)) == (arguments, expected, set())


# --- errors


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("max_seq_length: expected at least 13", "--max-seq-length: expected at least 13"),
        ("room in max_seq_length 5; lower doc_stride", "room in --max-seq-length 5; lower --doc-stride"),
        ('pass on_bad_example="drop"', "pass --on-bad-example drop"),
        ("pass on_bad_example='drop'", "pass --on-bad-example drop"),
        ("pass rebuild=True to", "pass --rebuild to"),
        ("num_workers=0 helps", "--workers 0 helps"),
        ("sample: expected an integer", "--sample: expected an integer"),
        ("an integer above 0 (or None for all segments), found 0", "an integer above 0, found 0"),
        # Words that are no parameters, and names within others.
        ("a sample of the cache", "a sample of the cache"),
        ("/data/max_seq_length/x: no such file", "/data/max_seq_length/x: no such file"),
        ("my_max_seq_length, max_seq_length_2", "my_max_seq_length, max_seq_length_2"),
        ("max_seq_length-5.json", "max_seq_length-5.json"),
        ("resample: x", "resample: x"),
        # Data, which is quoted.
        ("example 'max_seq_length': max_seq_length", "example 'max_seq_length': --max-seq-length"),
        ("example 'max_seq_length=5' num_workers=5", "example 'max_seq_length=5' --workers 5"),
        ("found 'rebuild=True'; pass rebuild=True", "found 'rebuild=True'; pass --rebuild"),
        ('example "it\'s doc_stride", doc_stride', 'example "it\'s doc_stride", --doc-stride'),
        ("example 'a\\'\" doc_stride' of doc_stride", "example 'a\\'\" doc_stride' of --doc-stride"),
        ("the source's example 'doc_stride' of doc_stride", "the source's example 'doc_stride' of --doc-stride"),
        ("found 'x (or None for all)' (or None for all)", "found 'x (or None for all)'"),
    ],
)
def test_errors_name_options(message: str, expected: str) -> None:
    names = {
        "max_seq_length": "--max-seq-length",
        "doc_stride": "--doc-stride",
        "on_bad_example": "--on-bad-example",
        "rebuild": "--rebuild",
        "num_workers": "--workers",
        "sample": "--sample",
    }
    assert in_options(message, names) == expected


def test_the_names_of_one_command_are_not_those_of_the_next(run: Run, caches: Caches, tmp_path: Path) -> None:
    # In `verify`, sample is an option; in `info` it would be a word.
    assert error(run("verify", caches.plain, "--against", caches.source, "--sample", 0)).startswith("--sample: ")
    (tmp_path / "sample:").mkdir()
    assert "--sample" not in error(run("info", tmp_path / "sample:"))


def test_an_error_shows_no_control_characters(run: Run, tmp_path: Path) -> None:
    name = tmp_path / "x\x1b[31m\x9b\x07"
    assert error(run("info", name)) == f"{tmp_path}/x\\x1b[31m\\x9b\\x07: expected the directory of a cache, found none"


def abort_after(cause: BaseException) -> click.Abort:
    """As click ends a question: instead of what was raised in it."""
    abort = click.Abort()
    abort.__context__ = cause
    return abort


@pytest.mark.parametrize(
    ("raised", "code", "found"),
    [
        (OSError(28, "No space left on device"), 7, "memxlnet: error: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), 130, "memxlnet: interrupted"),
        (click.Abort(), 1, "memxlnet: aborted"),
        (abort_after(EOFError()), 1, "memxlnet: aborted"),
        (abort_after(KeyboardInterrupt()), 130, "memxlnet: interrupted"),
        (BrokenPipeError(), 1, ""),
        (click.ClickException("no"), 1, "Error: no"),
    ],
)
def test_what_ends_a_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, raised: BaseException, code: int, found: str
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("memxlnet.cli.info.read_cache", fail)
    assert run("info", tmp_path) == (code, "", f"{found}\n" if found else "")


def test_notes_of_an_error_are_shown(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failure = OSError("broken")
    failure.add_note("pass rebuild=True to build it again")
    failure.add_note("or not")

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("memxlnet.cli.build.load_tokenizer", fail)
    message = error(run("build", "x.json", "--tokenizer", "x", "--cache-dir", tmp_path))
    assert message == "broken; pass --rebuild to build it again; or not"


def test_verbose_lasts_as_long_as_the_command(run: Run, caches: Caches, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("memxlnet")
    before = logger.level
    seen: list[int] = []

    def note(_: logging.LogRecord) -> bool:
        seen.append(logger.level)
        return True

    caplog.handler.addFilter(note)
    arguments = ["build", caches.source, "--split", "test", "--cache-dir", caches.directory]
    arguments += ["--tokenizer", ROOT / "memxlnet" / "sample" / "tokenizer", "--max-seq-length", 48, "--doc-stride", 12]
    assert run(*arguments).code == 0
    assert caplog.messages == []
    assert run(*arguments, "--verbose").code == 0
    assert caplog.messages == ["varied: read as records", f"{caches.plain}: found, nothing to build"]
    assert set(seen) == {logging.INFO}
    assert logger.level == before


# --- in a process of its own


@pytest.mark.parametrize("module", ["memxlnet", "memxlnet.cli"])
def test_runs_as_a_module_and_its_exit_code_is_that_of_the_process(caches: Caches, tmp_path: Path, module: str) -> None:
    done = in_a_process("info", caches.plain, module=module)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"cache\t{caches.plain}\n")
    done = in_a_process("info", tmp_path, module=module)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == f"memxlnet: error: {tmp_path}: expected a cache, found no manifest.json in it\n"
    done = in_a_process("info", module=module)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: memxlnet info ")


@pytest.mark.parametrize("arguments", [["info"], slow(["show", "--no-tokens"]), ["show", "--json"]])
def test_a_closed_pipe_is_no_error_to_report(caches: Caches, arguments: list[str]) -> None:
    name, *options = arguments
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "memxlnet.cli", name, str(caches.plain), *options, *(["0"] * (name == "show"))],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # before anything is written, as the end of `head -1` would do early
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


def test_the_first_line_and_no_more(caches: Caches) -> None:
    command = f'"{sys.executable}" -m memxlnet.cli show "{caches.plain}" 0 | head -1'
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    assert (done.stdout, done.stderr) == ("row\t0\n", "")


def test_without_any_output_it_works_all_the_same(caches: Caches) -> None:
    command = f'"{sys.executable}" -m memxlnet.cli info "{caches.plain}" >&-'
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_an_output_of_any_encoding(caches: Caches, tmp_path: Path, encoding: str) -> None:
    copied = copy_of(caches.plain, tmp_path).rename(tmp_path / "dök 中文")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = in_a_process("info", copied, env=environment, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    name = "dök 中文" if encoding == "utf-8" else "dök \\u4e2d\\u6587"
    assert Result(0, done.stdout, "").fields["cache"] == f"{tmp_path}/{name}"


def test_an_output_that_is_full_is_an_error(caches: Caches) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "memxlnet.cli", "info", str(caches.plain)],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 7
    assert done.stderr.splitlines()[0] == "memxlnet: error: [Errno 28] No space left on device"
    assert "Traceback" not in done.stderr


def test_a_real_terminal_gets_a_table(caches: Caches) -> None:
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": "160", "TERM": "xterm"}
    command = [sys.executable, "-m", "memxlnet.cli", "ls", str(caches.directory)]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=child, stderr=child, timeout=100, check=True)
    os.close(child)
    shown = click.unstyle(os.read(parent, 1 << 16).decode())
    os.close(parent)
    assert done.returncode == 0
    assert "\t" not in shown
    assert caches.plain.name in shown
    assert "─" in shown


def test_main_takes_the_arguments_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["memxlnet", "--version"])
    assert main() == 0
    assert capsys.readouterr().out == f"memxlnet {__version__}\n"
