"""Arguments and options that several commands share."""

import contextlib
import functools
import re
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import click

from memxlnet.cli.option_sources import load_config
from memxlnet.cli.output_file import into_file
from memxlnet.cli.paths import FilledPath, PathOrUrl
from memxlnet.cli.session import LOG_FORMATS, Session, session
from memxlnet.cli.temporary_directory import choose_temporary_directory
from memxlnet.settings import DEFAULT_CACHE_DIR

Command = TypeVar("Command", bound=Callable[..., Any])


CACHE_DIR_VARIABLE = "MEMXLNET_CACHE_DIR"
"""The variable of the environment that names the directory of the caches."""


def _cache_dir(kind: FilledPath, text: str) -> Callable[[Command], Command]:
    return click.option(
        "--cache-dir",
        type=kind,
        default=DEFAULT_CACHE_DIR,
        show_default=True,
        envvar=CACHE_DIR_VARIABLE,
        show_envvar=True,
        help=text,
    )


cache_dir_option = _cache_dir(FilledPath(), "Directory of all caches.")
cache_dir_or_url_option = _cache_dir(PathOrUrl(), "Directory of all caches, or its URL, such as s3://bucket/caches.")


def _columns(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str] | None:
    pairs = [value.partition("=") for value in values]
    for value, (name, mark, field) in zip(values, pairs, strict=True):
        if not (name and mark and field):
            raise click.BadParameter(f"expected NAME=FIELD, found {value!r}", context, parameter)
    names = [name for name, _, _ in pairs]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise click.BadParameter(
            f"expected each name once, found {sorted(repeated)} again; keep one", context, parameter
        )
    return {name: field for name, _, field in pairs} or None


def reading_options(function: Command) -> Command:
    """Add the options for how records become examples: ``--form``, ``--column``, ``--locate`` and ``--offsets``."""
    for option in (
        click.option("--offsets", default="characters", show_default=True, help="What offsets count: bytes, utf-16."),
        click.option(
            "--locate", default="first", show_default=True, help="Golds without offsets: first, all, nearest."
        ),
        click.option(
            "--column",
            "columns",
            multiple=True,
            metavar="NAME=FIELD",
            callback=_columns,
            help="Field of the records that holds question, context, answers, ...; once for each.",
        ),
        click.option("--form", help="Form of public data, such as squad or mrqa.  [default: by the first record]"),
    ):
        function = option(function)
    return function


cache_argument = click.argument("cache", type=FilledPath())


class CountOrShare(click.ParamType[Any]):
    """A count, such as ``25``, or a share, such as ``1%``: an int or a float."""

    name = "count or share%"
    takes_counts = True

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number of a text."""
        if not isinstance(value, str):
            return value
        share = re.fullmatch(r"(\d+(?:\.\d+)?)%", value, re.ASCII)
        if share and float(share[1]) <= 100:
            return float(share[1]) / 100
        if re.fullmatch(r"\d+", value, re.ASCII):
            return int(value)
        return self.fail(f"expected a count such as 25, or a share such as 1%, found {value!r}", param, ctx)


class Bytes(click.ParamType[Any]):
    """A number of bytes, also with a unit: ``2GB`` is 2 * 10^9, ``2GiB`` is 2 * 2^30."""

    name = "size"
    takes_counts = True

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number of a text."""
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([kmgt])(i?))?b?", value.strip(), re.ASCII | re.IGNORECASE)
        if not found:
            self.fail(f"expected a size such as 2GB, 500MiB or 1000000, found {value!r}", param, ctx)
        number, unit, is_binary = found.groups()
        power = " kmgt".index(unit.lower()) if unit else 0
        size = int(Fraction(number) * (1024 if is_binary else 1000) ** power)
        if not size:
            shown = f"expected a size of a byte or more, such as 2GB, found {value!r}; leave it out for no limit"
            self.fail(shown, param, ctx)
        return size


_OUTPUT_OPTION = click.option(
    "-o", "--output", type=FilledPath(), help="Write the result to this file, whole or not at all."
)
_COMMON_OPTIONS = (
    click.option(
        "--config",
        type=FilledPath(),
        is_eager=True,
        expose_value=False,
        callback=load_config,
        help="Take options from this TOML file.",
    ),
    click.option(
        "--log-format", type=click.Choice(LOG_FORMATS), default="text", show_default=True, help="Form of the log."
    ),
    click.option("-q", "--quiet", is_flag=True, help="Log errors only, and show no progress."),
    click.option("-v", "--verbose", is_flag=True, help="Log what is done, on standard error."),
)

heartbeat_option = click.option(
    "--heartbeat",
    type=float,
    default=30.0,
    show_default=True,
    help="Seconds between lines of the log that show progress without a terminal; 0 for none.",
)
progress_option = click.option(
    "--progress/--no-progress", default=None, help="Show a progress bar.  [default: on a terminal]"
)


def shared(*, own_output: bool = False, **others: str) -> Callable[[Command], Command]:
    """Add what all commands share: the options of the log and of the output, and errors that name options.

    Args:
        own_output: The command has an ``--output`` for the files that it makes; what it prints goes to standard output.
        **others: Parameters of the library with the options that stand for them; an option of the same name is found.
    """

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            context = click.get_current_context()
            own = {
                str(parameter.name): parameter.opts[0]
                for parameter in context.command.params
                if isinstance(parameter, click.Option)
            }
            running = session()
            running.names.update(own | others)
            _choose_temporary_directory(kwargs)
            if own_output:
                function_of_output = functools.partial(function, output=kwargs.pop("output"))
                return _run(running, function_of_output, *args, output=None, **kwargs)
            return _run(running, function, *args, **kwargs)

        for option in _COMMON_OPTIONS if own_output else (_OUTPUT_OPTION, *_COMMON_OPTIONS):
            option(wrapped)
        return wrapped  # type: ignore[return-value]

    return decorate


def _choose_temporary_directory(options: dict[str, Any]) -> None:
    files = (options.get(name) for name in ("output", "plot"))
    directories = [options.get("cache_dir"), *(file.parent for file in files if file is not None)]
    choose_temporary_directory(*(directory for directory in directories if isinstance(directory, Path)))


def _run(
    running: Session,
    function: Callable[..., Any],
    *args: Any,
    output: Path | None,
    log_format: str,
    quiet: bool,
    verbose: bool,
    heartbeat: float | None = None,
    **kwargs: Any,
) -> Any:
    """Run a command with the options that all commands share."""
    if quiet and verbose:
        raise click.UsageError("expected --quiet or --verbose, found both")
    if quiet and kwargs.get("progress"):
        raise click.UsageError("expected --quiet or --progress, found both")
    running.configure(as_json=kwargs.get("as_json", False), log_format=log_format, verbose=verbose, quiet=quiet)
    if "progress" in kwargs:
        # A bar is no line of JSON.
        kwargs["progress"] = False if quiet or log_format == "json" else kwargs["progress"]
    with contextlib.ExitStack() as stack:
        if heartbeat is not None:
            # tqdm, which comes with it, is not needed by the other commands.
            from memxlnet.progress import Heartbeat, heartbeat_every

            stack.enter_context(heartbeat_every(heartbeat))
            if not kwargs.get("progress"):
                name, begun = click.get_current_context().command.name, time.monotonic()
                stack.enter_context(
                    Heartbeat(lambda _: f"{name}: running for {time.monotonic() - begun:,.0f} s", only_alone=True)
                )
        stack.enter_context(into_file(output))
        return function(*args, **kwargs)
