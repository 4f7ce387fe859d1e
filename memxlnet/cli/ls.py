"""``memxlnet ls``."""

from pathlib import Path
from typing import Any

import click

from memxlnet.cli.cache_arguments import directory_of_caches
from memxlnet.cli.output import is_terminal, json_option, print_json, print_table, shown_bytes
from memxlnet.cli.parameters import CACHE_DIR_VARIABLE, PathOrUrl, shared
from memxlnet.format.manifest import Manifest, find_caches
from memxlnet.remote.stored_caches import find_stored_caches
from memxlnet.settings import DEFAULT_CACHE_DIR

_COLUMNS = ("cache", "split", "segments", "documents", "length", "overlap", "memory", "bytes")
_STORED_COLUMNS = (*_COLUMNS, "name", "fingerprint")


@click.command("ls")
@click.argument("cache_dir", type=PathOrUrl(), default=DEFAULT_CACHE_DIR, envvar=CACHE_DIR_VARIABLE)
@json_option
@shared()
def command(cache_dir: Path | str, as_json: bool) -> None:
    """List the caches of CACHE_DIR (default: $MEMXLNET_CACHE_DIR, else ./memxlnet-cache), or in a store, of its URL.

    Caches with a damaged manifest, and those of another format version, are named on standard error.
    """
    columns, found = _find(cache_dir)
    rows = [_row(place, manifest)[: len(columns)] for place, manifest in found]
    if as_json:
        where = "url" if isinstance(cache_dir, str) else "path"
        places = [{where: place} for place, _ in found]
        print_json([dict(zip(columns, row, strict=True)) | place for row, place in zip(rows, places, strict=True)])
        return
    if is_terminal():
        size = columns.index("bytes")
        rows = [(*row[:size], shown_bytes(row[size]), *row[size + 1 :]) for row in rows]
    print_table(columns, rows, numbers=_COLUMNS[2:])


def _find(cache_dir: Path | str) -> tuple[tuple[str, ...], list[tuple[str, Manifest]]]:
    if isinstance(cache_dir, str):
        return _STORED_COLUMNS, [(cache.url, cache.manifest) for cache in find_stored_caches(cache_dir)]
    return _COLUMNS, [(str(path), manifest) for path, manifest in find_caches(directory_of_caches(cache_dir))]


def _row(place: str, manifest: Manifest) -> tuple[Any, ...]:
    settings = manifest.settings
    counts = (manifest.tables["features"].rows, manifest.tables["documents"].rows)
    lengths = (settings["max_seq_length"], settings.get("doc_stride"), manifest.layout.num_memory_tokens)
    name = place.rpartition("/")[2]
    return name, manifest.split, *counts, *lengths, manifest.num_bytes, manifest.name, manifest.fingerprint
