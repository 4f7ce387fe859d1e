"""One call of the command line: how it logs, and how it reports what goes wrong."""

import itertools
import json
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self

import click

from memxlnet.cli.exit_codes import EXIT_INTERRUPTED, EXIT_OTHER, EXIT_UNEXPECTED, exit_code_of
from memxlnet.cli.option_names import in_options

LOG_FORMATS = ("text", "json")

_QUIET_LIBRARIES = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Variables that other libraries read when they are loaded, which is after the options are known."""

_FALSE = ("", "0", "false", "no", "off", "n", "f")

logger = logging.getLogger(__name__)


class _Handler(logging.Handler):
    """Writes to what standard error is at that moment; without one nothing is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if sys.stderr is not None:
                sys.stderr.write(f"{self.format(record)}\n")
                sys.stderr.flush()
        except Exception:
            self.handleError(record)


def _time(record: logging.LogRecord, unit: str) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec=unit).replace("+00:00", "Z")


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{_time(record, 'seconds')} {record.levelname}: {super().format(record)}"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": _time(record, "milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(fields)


class Failure(NamedTuple):
    """What went wrong.

    Attributes:
        kind: Name of the class of the error.
        message: What the error says, with the names of options.
        notes: What to do, and where it happened.
        code: The exit code.
    """

    kind: str
    message: str
    notes: list[str]
    code: int

    def as_json(self) -> str:
        """Return the failure as the object that stands in the place of a result."""
        fields = {"class": self.kind, "message": self.message, "notes": self.notes, "exit_code": self.code}
        return json.dumps({"error": fields}, indent=2)


class Session:
    """Holds what all parts of one call share; as a context, its logging.

    Until the options are parsed, ``--json`` and ``--log-format`` are looked for in the arguments and the environment,
    so that an error of the parser has the form that was asked for.

    Args:
        arguments: The arguments of the command line.

    Attributes:
        names: The option of each parameter of the library.
        as_json: Whether results and errors are printed as JSON.
    """

    def __init__(self, arguments: Sequence[str]):
        self.names: dict[str, str] = {}
        given = arguments[: arguments.index("--")] if "--" in arguments else arguments
        self.as_json = "--json" in given or os.environ.get("MEMXLNET_JSON", "").lower() not in _FALSE
        formats = [value for option, value in itertools.pairwise(given) if option == "--log-format"]
        formats += [option.partition("=")[2] for option in given if option.startswith("--log-format=")]
        formats += [os.environ.get("MEMXLNET_LOG_FORMAT", "")]
        self._handler = _Handler()
        self._levels: dict[str, int] = {}
        self._quiet = False
        self._variables: list[str] = []
        self._set_format(formats[0])

    def __enter__(self) -> Self:
        self._levels = {name: logging.getLogger(name).level for name in ("memxlnet", "memxlnet.progress", __name__)}
        for name in ("memxlnet.progress", __name__):
            logging.getLogger(name).setLevel(logging.INFO)
        logging.getLogger().addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self._handler)
        logging.captureWarnings(False)
        for name in self._variables:
            os.environ.pop(name, None)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)

    def configure(self, *, as_json: bool, log_format: str, verbose: bool, quiet: bool) -> None:
        """Take over the options.

        Args:
            as_json: Print results and errors as JSON.
            log_format: One of `LOG_FORMATS`.
            verbose: Log what is done.
            quiet: Log errors only.
        """
        self.as_json, self._quiet = as_json, quiet
        self._set_format(log_format)
        if verbose:
            logging.getLogger("memxlnet").setLevel(logging.INFO)
        if quiet:
            self._handler.setLevel(logging.ERROR)
            logging.getLogger("memxlnet.progress").setLevel(logging.ERROR)
        # Otherwise they are written to standard error, in lines of their own form.
        logging.captureWarnings(quiet or self._logs_json)
        if quiet or self._logs_json:
            self._variables = [name for name in _QUIET_LIBRARIES if name not in os.environ]
            os.environ.update({name: _QUIET_LIBRARIES[name] for name in self._variables})

    def notice(self, text: str) -> None:
        """Show a person, or the log, what is no result: on standard error, and not with ``--quiet``."""
        if self._logs_json:
            logger.info("%s", text)
        elif not self._quiet:
            click.echo(text, err=True)

    def report(self, error: BaseException) -> int:
        """Report an error: in the log or as a line on standard error, with ``--json`` also as a result.

        Returns:
            The exit code.
        """
        failure = self._failure(error)
        if self.as_json:
            click.echo(failure.as_json())
        is_bug = failure.code == EXIT_UNEXPECTED
        if self._logs_json:
            logger.error("%s", "; ".join((failure.message, *failure.notes)), exc_info=error if is_bug else None)
        elif isinstance(error, click.ClickException):
            error.show()
        elif isinstance(error, click.Abort | KeyboardInterrupt):
            click.echo(f"memxlnet: {failure.message}", err=True)
        else:
            # rich, which comes with it, takes time to load: help and wrong options come without it.
            from memxlnet.cli.output import printable

            if is_bug:
                click.echo(printable("".join(traceback.format_exception(error))), err=True, nl=False)
            click.echo(f"memxlnet: error: {printable('; '.join((failure.message, *failure.notes)))}", err=True)
        return failure.code

    def _failure(self, error: BaseException) -> Failure:
        if isinstance(error, click.Abort) and isinstance(error.__context__, KeyboardInterrupt):
            error = error.__context__
        kind = type(error).__name__
        if isinstance(error, KeyboardInterrupt):
            return Failure(kind, "interrupted", [], EXIT_INTERRUPTED)
        if isinstance(error, click.Abort):
            return Failure(kind, "aborted", [], EXIT_OTHER)
        if isinstance(error, click.ClickException):
            return Failure(kind, error.format_message(), [], error.exit_code)
        notes = [in_options(note, self.names) for note in getattr(error, "__notes__", ())]
        code = exit_code_of(error)
        if code == EXIT_UNEXPECTED:
            return Failure(kind, f"unexpected {kind}: {error}", [*notes, "please report it with its traceback"], code)
        return Failure(kind, in_options(str(error) or kind, self.names), notes, code)

    @property
    def _logs_json(self) -> bool:
        return isinstance(self._handler.formatter, _JsonLines)

    def _set_format(self, name: str) -> None:
        self._handler.setFormatter(_JsonLines() if name == "json" else _TextLines())


def session() -> Session:
    """Return the session of the command that runs."""
    found = click.get_current_context().find_object(Session)
    return Session(()) if found is None else found
