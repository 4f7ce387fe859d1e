"""``memxlnet ls``."""

from pathlib import Path
from typing import Any

import click

from memxlnet.cli.cache_arguments import directory_of_caches
from memxlnet.cli.output import is_terminal, json_option, print_json, print_table, shown_bytes
from memxlnet.cli.parameters import CACHE_DIR_VARIABLE, FilledPath, shared
from memxlnet.format.manifest import find_caches
from memxlnet.settings import DEFAULT_CACHE_DIR

_COLUMNS = ("cache", "split", "segments", "documents", "length", "overlap", "memory", "bytes")


@click.command("ls")
@click.argument("cache_dir", type=FilledPath(), default=DEFAULT_CACHE_DIR, envvar=CACHE_DIR_VARIABLE)
@json_option
@shared()
def command(cache_dir: Path, as_json: bool) -> None:
    """List the caches of CACHE_DIR (default: $MEMXLNET_CACHE_DIR, else ./memxlnet-cache).

    Caches with a damaged manifest, and those of another format version, are named on standard error.
    """
    directory = directory_of_caches(cache_dir)
    found = list(find_caches(directory))
    rows: list[tuple[Any, ...]] = []
    for path, manifest in found:
        settings = manifest.settings
        counts = (manifest.tables["features"].rows, manifest.tables["documents"].rows)
        lengths = (settings["max_seq_length"], settings.get("doc_stride"), manifest.layout.num_memory_tokens)
        rows.append((path.name, manifest.split, *counts, *lengths, manifest.num_bytes))
    if as_json:
        paths = [{"path": str(path)} for path, _ in found]
        print_json([dict(zip(_COLUMNS, row, strict=True)) | path for row, path in zip(rows, paths, strict=True)])
        return
    if is_terminal():
        rows = [(*row[:-1], shown_bytes(row[-1])) for row in rows]
    print_table(_COLUMNS, rows, numbers=_COLUMNS[2:])
