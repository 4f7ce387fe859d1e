"""``memxlnet stats``."""

import shutil
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import click

from memxlnet.cli.cache_arguments import find_directory
from memxlnet.cli.output import is_terminal, json_option, print_fields, print_json, print_table, print_title
from memxlnet.cli.parameters import cache_argument, heartbeat_option, shared
from memxlnet.cli.paths import FilledPath
from memxlnet.evaluate.ceiling import AnswerCeiling, answer_ceiling
from memxlnet.format.opened_parts import open_view
from memxlnet.load.statistics import MULTIPLE, CacheStatistics, UsefulShares, read_statistics
from memxlnet.report.plots import draw_statistics

_BAR = 40
_OTHER_COLUMNS = 36
_BINS = 20
_FEW_RECURRENT = 0.1
_USUAL_BATCH = 32
_GROUPED = "group_by_length=True"
_SETTINGS = {
    "aligned": 'lanes="aligned"',
    "aligned_grouped": f'lanes="aligned", {_GROUPED}',
    "refilled": 'lanes="refilled"',
    "refilled_grouped": f'lanes="refilled", {_GROUPED}',
    "regular": "use_time_step_major=False",
    "regular_grouped": f"use_time_step_major=False, {_GROUPED}",
}


@click.command("stats")
@cache_argument
@click.option("--by", help="Count the documents by the values of this kept column.")
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Values of it that are listed.")
@click.option("--plot", type=FilledPath(), help="Draw the histograms into this .png, .svg or .pdf file.")
@heartbeat_option
@json_option
@shared()
def command(cache: Path, by: str | None, top: int, plot: Path | None, as_json: bool) -> None:
    """Show what recurrence will find in CACHE: segments of documents, where answers lie, what padding costs.

    CACHE may be a list of parts (NAME.parts): the figures are those of all documents that it shows.
    """
    directory = find_directory(cache)
    view = open_view(directory)
    statistics = read_statistics(view.cache, chosen=view.chosen, by=by)
    # Of a view the ceiling has no dropped examples; those of a list are those of all its parts.
    ceiling = replace(answer_ceiling(view), dropped_examples=view.cache.manifest.dropped_examples)
    if plot is not None:
        draw_statistics(statistics, directory.name, plot)
    if as_json:
        print_json(_as_json(statistics, ceiling))
        return
    _print_counts(statistics, ceiling)
    if by is not None:
        _print_values(by, statistics, top)
    print_title("segments per document")
    _print_histogram("segments", statistics.segments_per_document)
    print_title("time step of the first segment that holds the whole answer")
    _print_histogram("time step", statistics.answer_time_steps)
    if statistics.answer_time_steps:
        print_title("answers past step k: what a model without memory of earlier segments, or cut there, cannot reach")
        steps = [step for step in (0, 1, 2, 4, 8, 16, 32, 64, 128) if step <= max(statistics.answer_time_steps)]
        print_table(("k", "share"), [(step, f"{statistics.answers_past(step):.2%}") for step in steps], ("k", "share"))
    print_title("share of padding in the lanes of a shuffled epoch, by documents in a group")
    print_table(
        ("group", "aligned", "grouped by length", "refilled"),
        [
            (size, f"{shares.aligned:.1%}", f"{shares.grouped:.1%}", f"{shares.refilled:.1%}")
            for size, shares in statistics.padding.items()
        ],
        ("group", "aligned", "grouped by length", "refilled"),
    )
    _print_useful_shares(statistics)
    if statistics.recurrent_share < _FEW_RECURRENT:
        click.echo()
        click.echo(
            f"Only {statistics.recurrent_share:.1%} of the documents have more than one segment: recurrent memory has "
            "almost nothing to carry here. Shorter rows (--max-seq-length) or longer documents change that."
        )


def _print_values(by: str, statistics: CacheStatistics, top: int) -> None:
    """Print how many documents have each value of a kept column, the most frequent first."""
    print_title(f"values of {by}")
    shown = list(statistics.values.items())[:top]
    rows = [
        ("(null)" if value is None else str(value), count, f"{count / statistics.documents:.2%}")
        for value, count in shown
    ]
    print_table((by, "documents", "share"), rows, ("documents", "share"))
    if len(statistics.values) > top:
        click.echo(f"and {len(statistics.values) - top:,} more values; --top lists more")


def _print_useful_shares(statistics: CacheStatistics) -> None:
    """Return a table of the shares, and which settings are best in a batch of usual size."""
    multiple = min(MULTIPLE, statistics.max_seq_length)
    print_title(
        f"real tokens of those that a model computes on, shuffled, padding='longest', pad_to_multiple_of={multiple}, "
        "by documents in a group or segments in a batch"
    )
    ways = [field.name for field in fields(UsefulShares)]
    names = ("batch", *(_shown(way) for way in ways))
    rows = [(size, *(f"{getattr(shares, way):.1%}" for way in ways)) for size, shares in statistics.useful.items()]
    print_table(names, rows, names)
    shares = statistics.useful[_USUAL_BATCH]
    click.echo()
    for title, recurrent in (("document by document", True), ("single segments", False)):
        best = shares.best(recurrent)
        click.echo(f"Best for {title} at {_USUAL_BATCH}: {_SETTINGS[best]} ({getattr(shares, best):.1%})")


def _shown(way: str) -> str:
    return way.replace("_", ", ")


def _print_counts(statistics: CacheStatistics, ceiling: AnswerCeiling) -> None:
    print_fields(
        {
            "documents": statistics.documents,
            "segments": statistics.segments,
            "segments a document": f"{statistics.segments / statistics.documents:.3f}",
            "documents with several": f"{statistics.recurrent_share:.2%}",
            "tokens an epoch": statistics.tokens,
            "of them contexts'": statistics.context_tokens,
            "padding within rows": f"{1 - statistics.tokens / statistics.row_tokens:.1%}",
            "answers dropped": ceiling.dropped,
            "answers unlabelled": ceiling.unlabelled,
            "answers yes_no": ceiling.yes_no,
            "answers number": ceiling.number,
            "answers in no segment": statistics.without_answer_segment,
            "answers cut by tokens": ceiling.inexact,
            "examples dropped": ceiling.dropped_examples,
            "best exact match": "unknown" if ceiling.exact_match is None else f"{ceiling.exact_match:.2f}",
        }
    )


def _print_histogram(name: str, counts: dict[int, int]) -> None:
    """Return a histogram with a bar for each value, or for each of some ranges where there are many values."""
    total = max(sum(counts.values()), 1)
    binned = _binned(counts)
    most = max(binned.values(), default=1)
    bar = max(min(_BAR, shutil.get_terminal_size().columns - _OTHER_COLUMNS), 1)
    rows = [(label, count, f"{count / total:.2%}", "#" * round(bar * count / most)) for label, count in binned.items()]
    if is_terminal():
        print_table((name, "documents", "share", ""), rows, (name, "documents", "share"))
    else:
        print_table((name, "documents", "share"), [row[:3] for row in rows])


def _binned(counts: dict[int, int]) -> dict[str, int]:
    values = sorted(counts)
    if not values:
        return {}
    width = -(-(values[-1] - values[0] + 1) // _BINS)
    found: dict[str, int] = {}
    for value in values:
        start = values[0] + (value - values[0]) // width * width
        label = str(start) if width == 1 else f"{start}-{start + width - 1}"
        found[label] = found.get(label, 0) + counts[value]
    return found


def _as_json(statistics: CacheStatistics, ceiling: AnswerCeiling) -> dict[str, Any]:
    values = [{"value": value, "documents": count} for value, count in statistics.values.items()]
    return {
        **asdict(statistics),
        **({"values": values} if values else {}),
        "row_tokens": statistics.row_tokens,
        "recurrent_share": statistics.recurrent_share,
        "answers_past": {step: statistics.answers_past(step) for step in statistics.answer_time_steps},
        "ceiling": asdict(ceiling),
    }
