"""``memxlnet diff``."""

from pathlib import Path
from typing import Any

import click

from memxlnet.cli.cache_arguments import read_cache
from memxlnet.cli.exit_codes import EXIT_OTHER
from memxlnet.cli.output import json_option, print_json, print_table
from memxlnet.cli.parameters import shared
from memxlnet.cli.paths import FilledPath
from memxlnet.format.manifest import Manifest


@click.command("diff")
@click.argument("first", type=FilledPath(), metavar="CACHE")
@click.argument("second", type=FilledPath(), metavar="CACHE")
@json_option
@shared()
def command(first: Path, second: Path, as_json: bool) -> int:
    """Compare what two caches were made from and what they hold.

    The exit code is 0 where they are equal and 1 where they differ. Where a cache was found (path and times of its
    source) does not count; the file checksums do.
    """
    caches = [read_cache(path)[1] for path in (first, second)]
    ours, theirs = (_flat(_compared(manifest)) for manifest in caches)
    differing = [
        (name, ours.get(name), theirs.get(name))
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]
    if as_json:
        print_json({name: {"first": one, "second": other} for name, one, other in differing})
    elif differing:
        print_table(("field", "first", "second"), differing)
    return EXIT_OTHER if differing else 0


def _compared(manifest: Manifest) -> dict[str, Any]:
    return {
        "name": manifest.name,
        **manifest.fields,
        "fingerprint": manifest.fingerprint,
        "vocabulary_size": manifest.vocabulary_size,
        "rows": {name: table.rows for name, table in manifest.tables.items()},
        "shards": {name: len(table.shards) for name, table in manifest.tables.items()},
        "kept": manifest.kept,
        "alignment": manifest.alignment,
        "documents_without_answer_segment": manifest.documents_without_answer_segment,
        "contradictions": manifest.contradictions,
        "dropped_examples": manifest.dropped_examples,
        "num_bytes": manifest.num_bytes,
        "checksums": {record.file: record.xxh3_128 for record in manifest.all_files()},
    }


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values by their dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
