"""The group of all commands: loading them, and reporting errors."""

import contextlib
import importlib
import io
import os
import sys
from collections.abc import Sequence

import click

from memxlnet import __version__
from memxlnet.cli.exit_codes import EXIT_CODES, EXIT_OTHER
from memxlnet.cli.option_sources import SOURCES, name_variables
from memxlnet.cli.session import Session

COMMANDS = {
    "quickstart": "Build, load and iterate a cache of the bundled sample, offline.",
    "build": "Build the cache of a dataset.",
    "ls": "List the caches of a directory.",
    "info": "Show what a cache holds and was made from.",
    "stats": "Show what recurrence will find in a cache.",
    "show": "Show one segment with its tokens and its answer.",
    "report": "Write a page about a cache: figures, plots and documents.",
    "verify": "Check every byte and every value of a cache.",
    "compact": "Join parts into one cache.",
    "export": "Write a copy of a cache for other tools.",
    "diff": "Compare the settings and counts of two caches.",
    "rm": "Remove caches, or what dead builds left.",
    "push": "Send a cache to an object store.",
    "pull": "Fetch a cache from an object store.",
}
"""Every command with its one line of help; its module has the same name."""


class _Commands(click.Group):
    """A group that loads a command when it is called, so that the others cost nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"memxlnet.cli.{cmd_name}").command
        name_variables(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        # click compares an unknown name with `commands`, which a lazy group leaves empty.
        if args and args[0] not in COMMANDS:
            self.commands = dict.fromkeys(COMMANDS, click.Command(None))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _epilog() -> str:
    codes = "\n".join(f"{code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    return f"\b\nExit codes:\n{codes}\n\n{SOURCES}"


@click.group(
    cls=_Commands,
    help="A memory-mapped feature cache on Apache Arrow for recurrent-memory models on long documents.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_epilog(),
)
@click.version_option(__version__, message="memxlnet %(version)s")
def commands() -> None:
    """Run one of the commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; None takes those of the process.

    Returns:
        The exit code, one of `EXIT_CODES`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the encoding of the output lacks is shown as an escape, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")
    with Session(given) as session:
        try:
            with commands.make_context("memxlnet", given, obj=session) as context:
                result = commands.invoke(context)
                if sys.stdout is not None:
                    sys.stdout.flush()
                return result if isinstance(result, int) else 0
        except click.exceptions.Exit as end:
            return end.exit_code
        except BrokenPipeError:
            # The reader of the output, such as head, has enough; nothing is left to print.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_OTHER
        except SystemExit:
            raise
        except BaseException as error:  # a panic of a Rust library is no Exception
            return session.report(error)
