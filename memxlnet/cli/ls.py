"""``memxlnet ls``."""

import os
from pathlib import Path
from typing import Any

import click

from memxlnet.cli.output import is_terminal, json_option, print_json, print_table, shown_bytes
from memxlnet.cli.parameters import FilledPath, shared
from memxlnet.errors import CacheNotFoundError
from memxlnet.settings import DEFAULT_CACHE_DIR
from memxlnet.store.manifest import find_caches
from memxlnet.store.paths import MANIFEST, as_directory

_COLUMNS = ("cache", "split", "segments", "documents", "length", "overlap", "memory", "bytes")


@click.command("ls")
@click.argument("cache_dir", type=FilledPath(), default=DEFAULT_CACHE_DIR, envvar="MEMXLNET_CACHE_DIR")
@json_option
@shared()
def command(cache_dir: Path, as_json: bool) -> None:
    """List the caches of CACHE_DIR (default: ./memxlnet-cache).

    Damaged caches and those of another format version are named on standard error.
    """
    directory = as_directory("CACHE_DIR", cache_dir)
    if not directory.is_dir():
        raise CacheNotFoundError(f"{directory}: expected a directory of caches, found none")
    if os.path.exists(directory / MANIFEST):  # noqa: PTH110 - Path.exists raises where it may not be entered
        raise CacheNotFoundError(
            f"{directory}: expected a directory of caches, found a cache; memxlnet info tells of it"
        )
    found = list(find_caches(directory))
    rows: list[tuple[Any, ...]] = []
    for path, manifest in found:
        settings = manifest.settings
        counts = (manifest.tables["features"].rows, manifest.tables["documents"].rows)
        lengths = (settings["max_seq_length"], settings.get("doc_stride"), manifest.layout.num_memory_tokens)
        rows.append((path.name, manifest.split, *counts, *lengths, manifest.num_bytes))
    if as_json:
        print_json([dict(zip(_COLUMNS, row, strict=True)) for row in rows])
        return
    if is_terminal():
        rows = [(*row[:-1], shown_bytes(row[-1])) for row in rows]
    print_table(_COLUMNS, rows, numbers=_COLUMNS[2:])
