"""Arguments and options that several commands share."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from memxlnet.format.paths import is_url
from memxlnet.settings import DEFAULT_CACHE_DIR

Command = TypeVar("Command", bound=Callable[..., Any])


CACHE_DIR_VARIABLE = "MEMXLNET_CACHE_DIR"
"""The variable of the environment that names the directory of the caches."""


class FilledPath(click.Path):
    """A path; an empty one, such as that of a variable that is not set, is refused and not the current directory."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path of a text."""
        if value == "":
            self.fail("expected a path, found an empty one", param, ctx)
        return super().convert(value, param, ctx)


class PathOrUrl(FilledPath):
    """A path, or the URL of a store, which stays a string."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or the URL of a text."""
        return value if isinstance(value, str) and is_url(value) else super().convert(value, param, ctx)


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
        raise click.BadParameter(f"expected each name once, found {sorted(repeated)} again", context, parameter)
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


def _log(context: click.Context, parameter: click.Parameter, verbose: bool) -> None:
    if verbose:
        logging.getLogger("memxlnet").setLevel(logging.INFO)


verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_log,
    help="Log what is done, on standard error.",
)


def shared(**others: str) -> Callable[[Command], Command]:
    """Add what all commands share: ``--verbose``, and errors that name options where the library names parameters.

    Args:
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
            context.obj.update(own | others)
            return function(*args, **kwargs)

        return verbose_option(wrapped)  # type: ignore[return-value]

    return decorate
