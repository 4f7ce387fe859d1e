"""``memxlnet ls``."""

from pathlib import Path
from typing import Any

import click

from memxlnet.cli.cache_arguments import directory_of_caches
from memxlnet.cli.output import is_terminal, json_option, print_json, print_table, shown_bytes
from memxlnet.cli.parameters import CACHE_DIR_VARIABLE, FilledPath, shared
from memxlnet.format.manifest import find_caches
from memxlnet.format.part_list import find_part_lists
from memxlnet.format.row_layout import RowLayout
from memxlnet.settings import DEFAULT_CACHE_DIR

_COLUMNS = ("cache", "split", "segments", "documents", "length", "overlap", "memory", "bytes")


@click.command("ls")
@click.argument("cache_dir", type=FilledPath(), default=DEFAULT_CACHE_DIR, envvar=CACHE_DIR_VARIABLE)
@json_option
@shared()
def command(cache_dir: Path, as_json: bool) -> None:
    """List the caches of CACHE_DIR (default: $MEMXLNET_CACHE_DIR, else ./memxlnet-cache).

    Parts are listed as caches, and each list of parts as a line before (NAME.parts). Caches with a damaged manifest,
    and those of another format version, are named on standard error.
    """
    directory = directory_of_caches(cache_dir)
    rows: list[tuple[Any, ...]] = []
    for path, parts in find_part_lists(directory):
        settings, layout = parts.fields["settings"], RowLayout.from_json(parts.fields["tokenizer"]["layout"])
        lengths = (settings["max_seq_length"], settings["doc_stride"], layout.num_memory_tokens)
        rows.append((path.name, parts.split, parts.rows, parts.documents, *lengths, parts.num_bytes))
    for path, manifest in find_caches(directory):
        settings = manifest.settings
        counts = (manifest.tables["features"].rows, manifest.tables["documents"].rows)
        lengths = (settings["max_seq_length"], settings.get("doc_stride"), manifest.layout.num_memory_tokens)
        rows.append((path.name, manifest.split, *counts, *lengths, manifest.num_bytes))
    if as_json:
        print_json([dict(zip(_COLUMNS, row, strict=True)) | {"path": str(directory / row[0])} for row in rows])
        return
    if is_terminal():
        rows = [(*row[:-1], shown_bytes(row[-1])) for row in rows]
    print_table(_COLUMNS, rows, numbers=_COLUMNS[2:])
