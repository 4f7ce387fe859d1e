"""``memxlnet compact``."""

import time
from pathlib import Path

import click

from memxlnet.builder.compaction import compact_parts
from memxlnet.cli.cache_arguments import find_directory
from memxlnet.cli.output import answer_counts, json_option, print_fields, print_json
from memxlnet.cli.parameters import heartbeat_option, shared
from memxlnet.cli.paths import FilledPath
from memxlnet.format.part_list import read_part_list


@click.command("compact")
@click.argument("parts", type=FilledPath())
@click.option("--cache-dir", type=FilledPath(), help="Where the cache is published.  [default: next to the parts]")
@click.option("--max-shard-rows", type=int, help="Rows of a features file at most.")
@heartbeat_option
@json_option
@shared()
def command(parts: Path, cache_dir: Path | None, max_shard_rows: int | None, as_json: bool) -> None:
    """Join PARTS, the directory of a list of parts, into one cache.

    Its bytes are those of a build from all files at once, which must be there, unchanged. Nothing is encoded; the parts
    stay.
    """
    directory = find_directory(parts)
    started = time.perf_counter()
    summary = compact_parts(
        directory.parent, read_part_list(directory), cache_dir or directory.parent, max_shard_rows=max_shard_rows
    )
    fields = {
        "cache": str(summary.directory),
        "segments": summary.features,
        "documents": summary.documents,
        "contexts": summary.contexts,
        "bytes": summary.num_bytes,
        **answer_counts(summary),
        "seconds": round(time.perf_counter() - started, 2),
    }
    if as_json:
        print_json({name.replace(" ", "_"): value for name, value in fields.items()})
    else:
        print_fields(fields)
