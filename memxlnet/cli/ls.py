"""``memxlnet ls``."""

from pathlib import Path
from typing import Any

import click

from memxlnet.cli.cache_arguments import directory_of_caches
from memxlnet.cli.output import is_terminal, json_option, print_json, print_table, shown_bytes
from memxlnet.cli.parameters import CACHE_DIR_VARIABLE, shared
from memxlnet.cli.paths import PathOrUrl
from memxlnet.format.manifest import Manifest, find_caches
from memxlnet.format.part_list import PartList, find_part_lists
from memxlnet.format.row_layout import RowLayout
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

    Parts are listed as caches, and each list of parts as a line before (NAME.parts). Caches with a damaged manifest,
    and those of another format version, are named on standard error.
    """
    columns, found = _find(cache_dir)
    rows = [row[: len(columns)] for _, row in found]
    if as_json:
        where = "url" if isinstance(cache_dir, str) else "path"
        places = [{where: place} for place, _ in found]
        print_json([dict(zip(columns, row, strict=True)) | place for row, place in zip(rows, places, strict=True)])
        return
    if is_terminal():
        size = columns.index("bytes")
        rows = [(*row[:size], shown_bytes(row[size]), *row[size + 1 :]) for row in rows]
    print_table(columns, rows, numbers=_COLUMNS[2:])


def _find(cache_dir: Path | str) -> tuple[tuple[str, ...], list[tuple[str, tuple[Any, ...]]]]:
    """Return the columns, and the place and row of each cache and list."""
    if isinstance(cache_dir, str):
        return _STORED_COLUMNS, [
            (cache.url, _row(cache.url, cache.manifest)) for cache in find_stored_caches(cache_dir)
        ]
    directory = directory_of_caches(cache_dir)
    lists = [(str(path), _list_row(path, parts)) for path, parts in find_part_lists(directory)]
    return _COLUMNS, [*lists, *((str(path), _row(str(path), manifest)) for path, manifest in find_caches(directory))]


def _list_row(path: Path, parts: PartList) -> tuple[Any, ...]:
    settings, layout = parts.fields["settings"], RowLayout.from_json(parts.fields["tokenizer"]["layout"])
    lengths = (settings["max_seq_length"], settings["doc_stride"], layout.num_memory_tokens)
    return path.name, parts.split, parts.rows, parts.documents, *lengths, parts.num_bytes


def _row(place: str, manifest: Manifest) -> tuple[Any, ...]:
    settings = manifest.settings
    counts = (manifest.tables["features"].rows, manifest.tables["documents"].rows)
    lengths = (settings["max_seq_length"], settings.get("doc_stride"), manifest.layout.num_memory_tokens)
    name = place.rpartition("/")[2]
    return name, manifest.split, *counts, *lengths, manifest.num_bytes, manifest.name, manifest.fingerprint
