"""What commands print: aligned tables on a terminal, tab-separated lines where the output goes elsewhere, or JSON."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from arrow_schemas import ALIGNMENTS

if TYPE_CHECKING:
    from memxlnet.builder.cache_writer import BuildSummary
    from memxlnet.format.manifest import Manifest

_LEAST_WIDTH = 9

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def is_terminal() -> bool:
    """Return whether the output is read by a person."""
    return sys.stdout is not None and sys.stdout.isatty()


def print_json(value: Any) -> None:
    """Print a value as JSON, in ASCII: it passes through every encoding, and holds no control characters."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[str] = ()) -> None:
    """Print rows under column names: whole and tab-separated where the output is piped.

    Args:
        columns: Names of the columns.
        rows: The values, by column.
        numbers: Columns that are aligned on the right.
    """
    if not is_terminal():
        for row in (columns, *rows):
            click.echo("\t".join(_one_line(value) for value in row))
        return
    # As text: in a string rich would find markup and emoji.
    cells = [[Text(_one_line(value)) for value in row] for row in rows]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    least_width = -1
    for number, name in enumerate(columns):
        justify: Any = "right" if name in set(numbers) else "left"
        # The first column names the row, and must stay whole to be copied; the others may fold, but not to nothing.
        longest = max(len(name), *(row[number].cell_len for row in cells)) if cells else len(name)
        least = min(longest, _LEAST_WIDTH) if number else longest
        table.add_column(name, justify=justify, overflow="fold", no_wrap=not number, min_width=least)
        least_width += least + 3
    for row in cells:
        table.add_row(*row)
    console = Console(highlight=False)
    # Where that does not fit, the table is wider than the terminal: rich would leave out what is at its end.
    console.width = max(console.width, least_width)
    console.print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one pair a line."""
    if not is_terminal():
        for name, value in fields.items():
            click.echo(f"{name}\t{_one_line(value)}")
        return
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {_one_line(value)}")


def print_title(title: str) -> None:
    """Print the title of what follows, after an empty line."""
    click.echo()
    click.echo(click.style(title, bold=True) if is_terminal() else f"# {title}")


def answer_counts(found: "Manifest | BuildSummary") -> dict[str, int]:
    """Return the documents by the outcome of their answer, under the names that all commands use."""
    return {
        **{f"answers {status}": found.alignment[status] for status in ALIGNMENTS},
        "answers in no segment": found.documents_without_answer_segment,
        "contradictions": found.contradictions,
        "examples dropped": found.dropped_examples,
    }


def shown_bytes(size: int | float) -> str:
    """Return a number of bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def _one_line(value: object) -> str:
    """Return a value on one line: a name from a source may hold anything, escape sequences of a terminal included."""
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and is_terminal() else str(value)
    return printable(text).replace("\n", "\\n")


def printable(text: str) -> str:
    """Return text whose control characters, except line ends, are shown as escapes: none of them reaches a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
