"""``memxlnet report``."""

from pathlib import Path

import click

from memxlnet.cli.cache_arguments import find_directory
from memxlnet.cli.output import json_option, print_fields, print_json, shown_bytes
from memxlnet.cli.parameters import cache_argument, heartbeat_option, shared
from memxlnet.cli.paths import FilledPath
from memxlnet.format.opened_parts import open_view
from memxlnet.report.page import DEFAULT_DOCUMENTS, write_report


@click.command("report")
@cache_argument
@click.option("-o", "--output", type=FilledPath(), required=True, help="The HTML file to write.")
@click.option(
    "--predictions", type=FilledPath(), help="Score and show these answers: JSON, {id: text} or n-best lists."
)
@click.option("--against", type=FilledPath(), help="Compare them with those of another run.")
@click.option(
    "--documents",
    type=click.IntRange(min=1),
    default=DEFAULT_DOCUMENTS,
    show_default=True,
    help="Documents in the page at most, spread over all outcomes.",
)
@click.option("--replace", is_flag=True, help="Replace a file that exists.")
@heartbeat_option
@json_option
@shared(own_output=True, path="--output")
def command(
    cache: Path,
    output: Path,
    predictions: Path | None,
    against: Path | None,
    documents: int,
    replace: bool,
    as_json: bool,
) -> None:
    """Write a page about CACHE: one HTML file that opens from the disk and needs no network.

    It shows settings and counts, distributions, what became of the labels, and documents to browse with their segments
    and answers; with --predictions also scores and errors. CACHE may be a list of parts (NAME.parts): the page is about
    all documents that it shows.
    """
    opened = open_view(find_directory(cache))
    written = write_report(
        opened, output, predictions=predictions, against=against, documents=documents, replace=replace
    )
    size = written.stat().st_size
    if as_json:
        print_json({"report": str(written), "bytes": size})
    else:
        print_fields({"report": written, "size": shown_bytes(size)})
