"""A cache that is altered and still fits its checksums: values rewritten, then files and manifest sealed again.

Run as a process of its own it damages a cache in many ways, seals and verifies it, and prints the outcomes.
"""

import json
import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from arrow_schemas import FileMetadata, table_schema, with_metadata
from memxlnet.errors import CacheError
from memxlnet.format.checksums import digest
from memxlnet.format.fingerprint import canonical_json, fingerprint_of
from memxlnet.maintain.verify import verify
from tests.format.read_damaged import damage

Rows = list[dict[str, Any]]


def nothing(_: Any) -> None:
    pass


def seal(directory: Path, change: Callable[[dict[str, Any]], None] = nothing) -> None:
    """Change the manifest, then make sizes, checksums and fingerprint fit the files that lie there."""
    path = directory / "manifest.json"
    content = json.loads(path.read_bytes())
    del content["checksum"]
    change(content)
    fingerprint = fingerprint_of(content["fields"])
    if fingerprint != content["fingerprint"]:
        content["fingerprint"] = fingerprint
        for name in content["tables"]:
            _rewrite(directory, content, name, nothing)
    records = [*content["files"], *(shard for table in content["tables"].values() for shard in table["shards"])]
    for record in records:
        if (directory / record["file"]).exists():
            raw = (directory / record["file"]).read_bytes()
            record |= {"bytes": len(raw), "xxh3_128": digest(raw)}
    content["checksum"] = digest(canonical_json(content))
    path.write_bytes(json.dumps(content, sort_keys=True, ensure_ascii=False, indent=1).encode() + b"\n")


def forge(directory: Path, table: str, edit: Callable[[Rows], None]) -> None:
    """Edit the rows of a table and seal the cache; the last shard takes rows that are too many."""
    seal(directory, lambda content: _rewrite(directory, content, table, edit))


def set_value(directory: Path, table: str, row: int, column: str, value: Any) -> None:
    """Put another value into one cell and seal the cache."""
    forge(directory, table, lambda rows: rows[row].update({column: value}))


def _rewrite(directory: Path, content: dict[str, Any], name: str, edit: Callable[[Rows], None]) -> None:
    table = content["tables"][name]
    rows: Rows = []
    for record in table["shards"]:
        rows += pa.ipc.open_file(directory / record["file"]).read_all().to_pylist()
    edit(rows)
    table["rows"] = table["shards"][-1]["row_stop"] = len(rows)
    schema = table_schema(name, content["fields"]["settings"]["max_seq_length"])
    for number, record in enumerate(table["shards"]):
        start, stop = record["row_start"], record["row_stop"]
        metadata = FileMetadata(name, number, start, stop, content["fingerprint"])
        stored = with_metadata(schema, metadata)
        with pa.ipc.new_file(directory / record["file"], stored) as writer:
            written = pa.Table.from_pylist(rows[start:stop], schema=stored)
            writer.write_table(written, max_chunksize=table["batch_rows"])


def write_report(directory: Path, entries: Iterable[Any]) -> None:
    """Write another report of dropped examples and seal the cache; texts are taken as lines."""
    lines = [entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries]
    (directory / "dropped.jsonl").write_text("".join(lines), encoding="utf-8")
    seal(directory)


def outcome(directory: Path, content: dict[str, bytes], seed: int) -> dict[str, Any]:
    """Damage one file as the seed decides, seal and verify; any error but a `CacheError` passes."""
    source = random.Random(seed)
    name = source.choice(sorted(set(content) - {"manifest.json"}))
    (directory / name).write_bytes(damage(content[name], source))
    try:
        seal(directory)
        verify(directory, deep=True)
    except CacheError as error:
        return {"seed": seed, "file": name, "error": str(error)}
    finally:
        for file, raw in content.items():
            (directory / file).write_bytes(raw)
    return {"seed": seed, "file": name, "error": None}


def main(directory: Path, seeds: range) -> None:
    content = {path.name: path.read_bytes() for path in directory.iterdir()}
    for seed in seeds:
        sys.stdout.write(json.dumps({"trying": seed}) + "\n")
        sys.stdout.flush()
        sys.stdout.write(json.dumps(outcome(directory, content, seed)) + "\n")
    verify(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3])))
