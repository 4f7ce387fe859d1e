"""``memxlnet export``."""

import time
from pathlib import Path
from typing import get_args

import click

from memxlnet.cli.cache_arguments import find_directory
from memxlnet.cli.output import json_option, print_fields, print_json
from memxlnet.cli.parameters import cache_argument, heartbeat_option, progress_option, shared
from memxlnet.cli.paths import FilledPath
from memxlnet.export.export import ExportFormat, export
from memxlnet.format.opened_parts import open_view


@click.command("export")
@cache_argument
@click.option("--format", "file_format", type=click.Choice(get_args(ExportFormat)), required=True, help="Format.")
@click.option("-o", "--output", type=FilledPath(), help="Where it is put.  [default: the name of the cache, here]")
@progress_option
@heartbeat_option
@json_option
@shared(own_output=True, format="--format")
def command(cache: Path, file_format: ExportFormat, output: Path | None, progress: bool | None, as_json: bool) -> None:
    """Write a copy of CACHE for other tools.

    Parquet, JSON lines and safetensors are a directory with segments, documents and contexts; squad is one JSON file in
    the form of SQuAD. It appears when all of it was read back and compared with the cache. CACHE may be a list of parts
    (NAME.parts): the copy is that of one cache of all documents that it shows.
    """
    started = time.perf_counter()
    place = export(open_view(find_directory(cache)), file_format, output, progress=progress)
    files = [place] if place.is_file() else sorted(place.iterdir())
    fields = {
        "export": str(place),
        "format": file_format,
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        "seconds": round(time.perf_counter() - started, 2),
    }
    (print_json if as_json else print_fields)(fields)
