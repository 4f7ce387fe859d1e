"""Which error has which exit code, and how an error is reported as JSON."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from memxlnet import errors
from memxlnet.cli import main
from memxlnet.cli.exit_codes import EXIT_CODES, exit_code_of
from memxlnet.cli.output import printable
from tests.cli.helpers import Caches, Result, error, usage_error
from tests.support import ROOT

Run = Callable[..., Result]

CODES: dict[type[BaseException], int] = {
    errors.MemxlnetError: 1,
    errors.SettingsError: 2,
    errors.LossLimitError: 3,
    errors.TokenizerError: 4,
    errors.SourceError: 4,
    errors.SourceNotFoundError: 4,
    errors.ExampleError: 4,
    errors.CacheError: 5,
    errors.CacheNotFoundError: 5,
    errors.CacheMismatchError: 5,
    errors.CacheDamagedError: 5,
    errors.AmbiguousCacheError: 5,
    errors.CacheOSError: 7,
    errors.CacheDirectoryError: 7,
    errors.BuildError: 1,
    errors.BuildOSError: 7,
    errors.MemoryLimitError: 7,
    errors.ExportError: 1,
    errors.ExportOSError: 7,
    errors.TransferError: 6,
    errors.TransferPermissionError: 6,
    errors.MissingLibraryError: 7,
    errors.DocumentNotFoundError: 1,
    errors.IndexTypeError: 1,
    errors.RowIndexError: 1,
    OSError: 7,
    PermissionError: 7,
    MemoryError: 7,
    KeyboardInterrupt: 130,
    KeyError: 8,
    AssertionError: 8,
    BaseException: 8,
}


def test_every_error_has_a_code() -> None:
    classes = {value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__}
    assert classes <= set(CODES)


@pytest.mark.parametrize(("kind", "code"), CODES.items(), ids=lambda value: getattr(value, "__name__", str(value)))
def test_the_code_of_an_error(kind: type[BaseException], code: int) -> None:
    assert exit_code_of(kind("x")) == code
    assert code in EXIT_CODES


def test_the_readme_has_the_table() -> None:
    text = (ROOT / "memxlnet" / "cli" / "README.md").read_text(encoding="utf-8")
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |\n" in text


@pytest.mark.parametrize(
    ("raised", "shown"),
    [
        (
            errors.CacheDamagedError("x: broken", hint="pass rebuild=True"),
            ("CacheDamagedError", "x: broken; pass rebuild=True", 5),
        ),
        (OSError(28, "No space left"), ("OSError", "[Errno 28] No space left", 7)),
        (KeyboardInterrupt(), ("KeyboardInterrupt", "interrupted", 130)),
        (click.Abort(), ("Abort", "aborted", 1)),
        (click.ClickException("no"), ("ClickException", "no", 1)),
        (click.UsageError("x\x1b[31m"), ("UsageError", "x\x1b[31m", 2)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_is_an_object_where_the_result_would_be(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, raised: BaseException, shown: tuple[str, str, int]
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("memxlnet.cli.info.read_cache", fail)
    result = run("info", tmp_path, "--json")
    kind, message, code = shown
    assert result.code == code
    assert result.json == {"error": {"class": kind, "message": message, "notes": [], "exit_code": code}}
    assert result.out.isascii()
    # A person finds it on standard error, as always.
    plain = run("info", tmp_path)
    assert (plain.code, plain.out, plain.err) == (code, "", result.err)


@pytest.mark.parametrize("raised", [KeyError("x\x1b[31m"), BaseException("panic")], ids=["Exception", "BaseException"])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_an_unexpected_error_is_an_object_with_a_traceback_in_the_log(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    raised: BaseException,
    log_format: str,
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr("memxlnet.cli.info.read_cache", fail)
    output = tmp_path / "result"
    arguments = ["info", str(tmp_path), "--json", "--log-format", log_format, "-o", str(output)]
    result = Result(main(arguments), *capsys.readouterr())
    message, note = f"unexpected {type(raised).__name__}: {raised}", "please report it with its traceback"
    assert result.code == 8
    assert result.json["error"] == {
        "class": type(raised).__name__,
        "message": message,
        "notes": [note],
        "exit_code": 8,
    }
    assert not output.exists()
    shown = f"{message}; {note}"
    if log_format == "json":
        (line,) = (json.loads(text) for text in result.err.splitlines())
        assert line["message"] == shown
        assert line["exception"].startswith("Traceback")
        assert "in fail" in line["exception"]
    else:
        assert result.err.startswith("Traceback")
        assert "in fail" in result.err
        assert result.err.endswith(f"\nmemxlnet: error: {printable(shown)}\n")


def test_notes_are_listed_and_name_options(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failure = errors.CacheMismatchError("broken")
    failure.add_note("pass rebuild=True to build it again")

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("memxlnet.cli.build.load_tokenizer", fail)
    result = run("build", "x.json", "--tokenizer", "x", "--cache-dir", tmp_path, "--json")
    assert result.json["error"]["notes"] == ["pass --rebuild to build it again"]
    assert error(result) == "broken; pass --rebuild to build it again"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "--json"], "Missing argument 'CACHE'."),
        (["info", "--json", "x", "--qqq"], "No such option '--qqq'."),
        (["xyz", "--json"], "No such command 'xyz'."),
        (["build", "x", "--tokenizer", "x", "--workers", "many", "--json"], "'many' is not a valid integer."),
        (["show", "x", "--json"], "expected one of ROW, --id ID and --contradictions, found none of them"),
    ],
)
def test_wrong_usage_is_an_object_as_well(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    result = run(*arguments)
    assert usage_error(result).endswith(message)
    assert list(result.json["error"]) == ["class", "message", "notes", "exit_code"]
    without = [argument for argument in arguments if argument != "--json"]
    assert run(*without).out == ""
    monkeypatch.setenv("MEMXLNET_JSON", "1")
    assert run(*without).out == result.out


def test_an_option_after_two_dashes_is_none(run: Run) -> None:
    assert run("info", "--", "--json").out == ""


def test_a_difference_is_a_result_and_no_error(run: Run, caches: Caches) -> None:
    result = run("diff", caches.plain, caches.memory, "--json")
    assert result.code == 1
    assert "error" not in json.loads(result.out)
