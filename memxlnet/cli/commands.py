"""The group of all commands: loading them, and reporting errors."""

import contextlib
import importlib
import io
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence

import click

from memxlnet import __version__
from memxlnet.errors import MemxlnetError

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
    "diff": "Compare the settings and counts of two caches.",
    "rm": "Remove caches, or what dead builds left.",
    "push": "Send a cache to an object store.",
    "pull": "Fetch a cache from an object store.",
}
"""Every command with its one line of help; its module has the same name."""

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130


class _Commands(click.Group):
    """A group that loads a command when it is called, so that the others cost nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"memxlnet.cli.{cmd_name}").command
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


@click.group(
    cls=_Commands,
    help="A memory-mapped feature cache on Apache Arrow for recurrent-memory models on long documents.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 an error that is reported on standard error, 2 wrong usage, 130 interrupted.",
)
@click.version_option(__version__, message="memxlnet %(version)s")
def commands() -> None:
    """Run one of the commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments; None takes those of the process.

    Returns:
        The exit code: 0; 1 where an error was reported on standard error; 2 for wrong usage; 130 when interrupted.
    """
    names: dict[str, str] = {}
    logging.basicConfig(format="%(levelname)s: %(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the encoding of the output lacks is shown as an escape, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")
    level = logging.getLogger("memxlnet").level
    try:
        with commands.make_context("memxlnet", list(sys.argv[1:] if arguments is None else arguments)) as context:
            context.obj = names
            result = commands.invoke(context)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort as end:
        interrupted = isinstance(end.__context__, KeyboardInterrupt)
        click.echo(f"memxlnet: {'interrupted' if interrupted else 'aborted'}", err=True)
        return EXIT_INTERRUPTED if interrupted else EXIT_ERROR
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        click.echo("memxlnet: interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of the output, such as head, has enough; nothing is left to print.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except (MemxlnetError, OSError) as error:
        # rich, which comes with it, takes time to load: help and wrong options come without it.
        from memxlnet.cli.output import printable

        notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
        click.echo(f"memxlnet: error: {printable(in_options(f'{error}{notes}', names))}", err=True)
        return EXIT_ERROR
    finally:
        logging.getLogger("memxlnet").setLevel(level)


def in_options(message: str, names: Mapping[str, str]) -> str:
    """Return an error text of the library with the names of the options: ``max_seq_length`` is ``--max-seq-length``.

    Args:
        message: The text.
        names: The option of each parameter of the library.
    """
    for name, option in names.items():
        message = _outside_quotes(rf"\b{name}=True\b", option, message)
        message = _outside_quotes(rf"\b{name}=(['\"]?)(?P<value>[\w.-]+)\1", rf"{option} \g<value>", message)
        # A name without an underscore is a word like any other, but where a message begins with it.
        pattern = rf"(?<![\w/.-]){name}(?![\w/.-])" if "_" in name else rf"^{name}(?=:)"
        message = _outside_quotes(pattern, option, message)
    # An option that is not None is left out.
    return _outside_quotes(r" \(or None [^()]*\)", "", message)


def _outside_quotes(pattern: str, replacement: str, message: str) -> str:
    """Replace parameters by options, except in data: ids, names and texts are quoted."""

    def replaced(found: re.Match[str]) -> str:
        return found[0] if found["quoted"] else found.expand(replacement)

    # An apostrophe within a word begins no quote, and one after a backslash ends none.
    quoted = r"""(?<!\w)(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
    return re.sub(rf"{pattern}|{quoted}", replaced, message)
