"""``memxlnet info``."""

from pathlib import Path
from typing import Any

import click

from memxlnet.cli.cache_arguments import read_cache
from memxlnet.cli.output import (
    answer_counts,
    json_option,
    print_fields,
    print_json,
    print_table,
    print_title,
    shown_bytes,
)
from memxlnet.cli.parameters import PathOrUrl, shared
from memxlnet.format.manifest import Manifest, ShardRecord
from memxlnet.remote.stored_caches import read_stored_cache


@click.command("info")
@click.argument("cache", type=PathOrUrl())
@json_option
@shared()
def command(cache: Path | str, as_json: bool) -> None:
    """Show what CACHE, a path or the URL of one in a store, holds and was made from, as its manifest says.

    Nothing else is read.
    """
    if isinstance(cache, str):
        stored = read_stored_cache(cache)
        directory, manifest = stored.url, stored.manifest
    else:
        path, manifest = read_cache(cache)
        directory = str(path)
    if as_json:
        print_json(_as_json(directory, manifest))
        return
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
    print_table(
        ("table", "rows", "shards", "rows a batch", "size", "bytes a row"),
        [
            (
                name,
                table.rows,
                len(table.shards),
                table.batch_rows,
                shown_bytes(sum(shard.bytes for shard in table.shards)),
                round(sum(shard.bytes for shard in table.shards) / max(table.rows, 1)),
            )
            for name, table in manifest.tables.items()
        ],
        numbers=("rows", "shards", "rows a batch", "size", "bytes a row"),
    )
    print_title("files")
    print_table(
        ("file", "size", "rows", "xxh3_128"),
        [
            (
                record.file,
                shown_bytes(record.bytes),
                f"{record.row_start}-{record.row_stop - 1}" if isinstance(record, ShardRecord) else "",
                record.xxh3_128,
            )
            for record in manifest.all_files()
        ],
        numbers=("size",),
    )


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
        "tables": {
            name: {"rows": table.rows, "batch_rows": table.batch_rows, "shards": [vars(s) for s in table.shards]}
            for name, table in manifest.tables.items()
        },
        "files": [vars(record) for record in manifest.files],
    }
