"""The versioned metadata that every Arrow file of a cache carries."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from arrow_schemas.names import SCHEMA_VERSION

_PREFIX = "memxlnet."


@dataclass(frozen=True)
class FileMetadata:
    """What a file says of itself, so that a swapped or foreign file is refused.

    Attributes:
        table: Name of the table.
        shard: Number of the file within its table, from 0.
        row_start: First row of the table that the file holds.
        row_stop: One after the last row.
        fingerprint: Full fingerprint of the cache, in hexadecimal.
        schema_version: Version of the tables.
    """

    table: str
    shard: int
    row_start: int
    row_stop: int
    fingerprint: str
    schema_version: int = SCHEMA_VERSION

    def encode(self) -> dict[bytes, bytes]:
        """Return the metadata as Arrow keeps it: every value as text."""
        return {
            f"{_PREFIX}{name}".encode(): str(getattr(self, name)).encode()
            for name in ("schema_version", "table", "shard", "row_start", "row_stop", "fingerprint")
        }

    @classmethod
    def decode(cls, metadata: Mapping[bytes, bytes] | None) -> "FileMetadata":
        """Read the metadata of a schema.

        Raises:
            ValueError: A key is missing or is not a number where one belongs.
        """
        found = metadata or {}

        def text(name: str) -> str:
            key = f"{_PREFIX}{name}".encode()
            if key not in found:
                raise ValueError(f"Arrow metadata: expected the key {key.decode()!r}, found {sorted(found)}")
            return found[key].decode("utf-8", "replace")

        def number(name: str) -> int:
            value = text(name)
            if not value.isascii() or not value.isdigit():
                raise ValueError(f"Arrow metadata {_PREFIX}{name}: expected a number, found {value!r}")
            return int(value)

        return cls(
            table=text("table"),
            shard=number("shard"),
            row_start=number("row_start"),
            row_stop=number("row_stop"),
            fingerprint=text("fingerprint"),
            schema_version=number("schema_version"),
        )


def with_metadata(schema: pa.Schema, metadata: FileMetadata) -> pa.Schema:
    """Return a copy of `schema` that carries `metadata` and nothing else."""
    return schema.with_metadata(metadata.encode())
