"""``memxlnet info``."""

from pathlib import Path
from typing import Any

import click

from memxlnet.cli.cache_arguments import find_directory, read_cache
from memxlnet.cli.output import (
    answer_counts,
    json_option,
    print_fields,
    print_json,
    print_table,
    print_title,
    shown_bytes,
)
from memxlnet.cli.parameters import shared
from memxlnet.cli.paths import PathOrUrl
from memxlnet.format.manifest import FileRecord, Manifest, ShardRecord, TableRecord
from memxlnet.format.part_list import is_part_list, read_part_list
from memxlnet.remote.stored_caches import read_stored_cache


@click.command("info")
@click.argument("cache", type=PathOrUrl())
@json_option
@shared()
def command(cache: Path | str, as_json: bool) -> None:
    """Show what CACHE, a path or the URL of one in a store, holds and was made from, as its manifest says.

    Nothing else is read. CACHE may be a list of parts (NAME.parts) on the disk.
    """
    if isinstance(cache, str):
        stored = read_stored_cache(cache)
        directory, manifest = stored.url, stored.manifest
    elif is_part_list(find_directory(cache)):
        _show_parts(find_directory(cache), as_json)
        return
    else:
        path, manifest = read_cache(cache)
        directory = str(path)
    if as_json:
        print_json(_as_json(directory, manifest))
    else:
        _print(directory, manifest)


def _print(directory: str, manifest: Manifest) -> None:
    tokenizer = manifest.fields["tokenizer"]
    print_fields(
        {
            "cache": directory,
            "source": manifest.name,
            "split": manifest.split,
            "fingerprint": manifest.fingerprint,
            "schema version": manifest.fields.get("schema_version"),
            "size": shown_bytes(manifest.num_bytes),
            "vocabulary size": manifest.vocabulary_size,
            "memory slots": manifest.layout.num_memory_tokens,
            "padding side": "left" if manifest.layout.pad_left else "right",
            "tokenizer": f"sha256 {tokenizer.get('sha256')}",
        }
    )
    print_title("settings")
    print_fields(manifest.settings)
    print_title("source")
    print_fields({**manifest.fields["source"], **manifest.provenance})
    print_title("answers")
    print_fields(answer_counts(manifest))
    print_title("tables")
    columns = ("table", "rows", "shards", "rows a batch", "size", "bytes a row")
    print_table(columns, [_table_row(name, table) for name, table in manifest.tables.items()], numbers=columns[1:])
    if manifest.kept:
        print_title("kept columns")
        print_table(("column", "type"), list(manifest.kept.items()))
    print_title("files")
    print_table(("file", "size", "rows", "xxh3_128"), list(map(_file_row, manifest.all_files())), numbers=("size",))


def _table_row(name: str, table: TableRecord) -> tuple[object, ...]:
    size = sum(shard.bytes for shard in table.shards)
    return name, table.rows, len(table.shards), table.batch_rows, shown_bytes(size), round(size / max(table.rows, 1))


def _file_row(record: FileRecord) -> tuple[object, ...]:
    rows = f"{record.row_start}-{record.row_stop - 1}" if isinstance(record, ShardRecord) else ""
    return record.file, shown_bytes(record.bytes), rows, record.xxh3_128


def _show_parts(directory: Path, as_json: bool) -> None:
    parts = read_part_list(directory)
    fields = {
        "parts": str(directory),
        "source": parts.name,
        "split": parts.split,
        "fingerprint": parts.fingerprint,
        "files": parts.source if isinstance(parts.source, str) else list(parts.source),
        "files per part": parts.files_per_part,
        "on repeated id": parts.on_repeated_id,
        "caches": len(parts.parts),
        "segments": parts.rows,
        "documents": parts.documents,
        "hidden": parts.num_hidden,
        "size": parts.num_bytes if as_json else shown_bytes(parts.num_bytes),
        "files without examples": len(parts.empty),
        "no longer listed": len(parts.former),
    }
    columns = ("cache", "files", "segments", "documents", "hidden", "bytes")
    rows = [
        (
            part.cache,
            ", ".join(file.name for file in part.files),
            part.rows,
            part.documents,
            part.num_hidden,
            part.bytes,
        )
        for part in parts.parts
    ]
    if as_json:
        found = {name.replace(" ", "_"): value for name, value in fields.items()}
        each = [dict(zip(columns, row, strict=True)) for row in rows]
        print_json({**found, **parts.fields, "parts": each, "former": list(parts.former), "list": str(directory)})
        return
    print_fields(fields)
    print_title("settings")
    print_fields(parts.fields["settings"])
    print_title("parts")
    print_table(columns, rows, numbers=columns[2:])


def _as_json(directory: str, manifest: Manifest) -> dict[str, Any]:
    return {
        "cache": directory,
        "name": manifest.name,
        "split": manifest.split,
        "fingerprint": manifest.fingerprint,
        **manifest.fields,
        "provenance": manifest.provenance,
        "alignment": manifest.alignment,
        "documents_without_answer_segment": manifest.documents_without_answer_segment,
        "contradictions": manifest.contradictions,
        "dropped_examples": manifest.dropped_examples,
        "vocabulary_size": manifest.vocabulary_size,
        "num_memory_tokens": manifest.layout.num_memory_tokens,
        "num_bytes": manifest.num_bytes,
        **({"kept": manifest.kept} if manifest.kept else {}),
        "tables": {
            name: {"rows": table.rows, "batch_rows": table.batch_rows, "shards": [vars(s) for s in table.shards]}
            for name, table in manifest.tables.items()
        },
        "files": [vars(record) for record in manifest.files],
    }
