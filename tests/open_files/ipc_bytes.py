"""The metadata of an Arrow IPC file read off its bytes, with nothing but `struct`.

The layout is that of the Arrow specification (`File.fbs`, `Message.fbs`, `Schema.fbs`) in FlatBuffers' encoding.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

MAGIC = b"ARROW1"
LITTLE_ENDIAN, RECORD_BATCH, METADATA_V5 = 0, 3, 4


class Batch(NamedTuple):
    """One record batch.

    Attributes:
        offset: Where its message begins in the file.
        body: Where its buffers begin in the file.
        body_length: Bytes of all its buffers with their padding.
        rows: Its row count.
        null_counts: One for each node of its columns' types, depth first.
        buffers: Offset from `body` and length of each buffer, depth first.
        is_compressed: Whether the message names a compression of the body.
    """

    offset: int
    body: int
    body_length: int
    rows: int
    null_counts: list[int]
    buffers: list[tuple[int, int]]
    is_compressed: bool


class Footer(NamedTuple):
    """What stands at the end of a file.

    Attributes:
        version: Version of the metadata.
        endianness: Byte order of the values.
        fields: Names of the columns.
        nullable: Names of those that may hold nulls.
        has_dictionaries: Whether a column or block is of a dictionary.
        metadata: Keys and values of the schema.
        batches: The record batches.
    """

    version: int
    endianness: int
    fields: list[str]
    nullable: list[str]
    has_dictionaries: bool
    metadata: dict[str, str]
    batches: list[Batch]


class _Table:
    """A FlatBuffers table: fields by number, absent ones at their default."""

    def __init__(self, data: bytes, at: int):
        self._data = data
        self._at = at
        self._vtable = at - self._read("<i", at)

    def _read(self, kind: str, at: int) -> int:
        return int(struct.unpack_from(kind, self._data, at)[0])

    def _place(self, field: int) -> int:
        size = self._read("<H", self._vtable)
        entry = 4 + 2 * field
        offset = self._read("<H", self._vtable + entry) if entry < size else 0
        return self._at + offset if offset else 0

    def has(self, field: int) -> bool:
        return bool(self._place(field))

    def number(self, field: int, kind: str) -> int:
        place = self._place(field)
        return self._read(kind, place) if place else 0

    def _target(self, place: int) -> int:
        return place + self._read("<I", place)

    def table(self, field: int) -> "_Table":
        return _Table(self._data, self._target(self._place(field)))

    def text(self, field: int) -> str:
        at = self._target(self._place(field))
        length = self._read("<I", at)
        return self._data[at + 4 : at + 4 + length].decode()

    def _vector(self, field: int, width: int) -> list[int]:
        place = self._place(field)
        if not place:
            return []
        at = self._target(place)
        return [at + 4 + width * index for index in range(self._read("<I", at))]

    def tables(self, field: int) -> "list[_Table]":
        return [_Table(self._data, self._target(place)) for place in self._vector(field, 4)]

    def structs(self, field: int, kind: str) -> list[tuple[Any, ...]]:
        places = self._vector(field, struct.calcsize(kind))
        return [struct.unpack_from(kind, self._data, place) for place in places]


def _root(data: bytes) -> _Table:
    return _Table(data, struct.unpack_from("<I", data)[0])


def _with_children(field: _Table) -> Iterator[_Table]:
    yield field
    for child in field.tables(5):
        yield from _with_children(child)


def _read_batch(data: bytes, offset: int, metadata_length: int, body_length: int) -> Batch:
    continuation, length = struct.unpack_from("<Ii", data, offset)
    assert continuation == 0xFFFFFFFF
    assert 8 + length == metadata_length
    message = _root(data[offset + 8 : offset + metadata_length])
    assert message.number(0, "<h") == METADATA_V5
    assert message.number(1, "<B") == RECORD_BATCH
    assert message.number(3, "<q") == body_length
    batch = message.table(2)
    return Batch(
        offset=offset,
        body=offset + metadata_length,
        body_length=body_length,
        rows=batch.number(0, "<q"),
        null_counts=[nulls for _, nulls in batch.structs(1, "<qq")],
        buffers=[(start, size) for start, size in batch.structs(2, "<qq")],
        is_compressed=batch.has(3),
    )


def read_footer(data: bytes) -> Footer:
    """Read the footer of an Arrow IPC file, and the message of each record batch that it names."""
    length, magic = struct.unpack_from("<i6s", data, len(data) - 10)
    assert magic == MAGIC
    footer = _root(data[len(data) - 10 - length : len(data) - 10])
    schema = footer.table(1)
    fields = schema.tables(1)
    every = [one for field in fields for one in _with_children(field)]
    return Footer(
        version=footer.number(0, "<h"),
        endianness=schema.number(0, "<h"),
        fields=[field.text(0) for field in fields],
        nullable=[field.text(0) for field in every if field.number(1, "<B")],
        has_dictionaries=bool(footer.structs(2, "<qi4xq")) or any(field.has(4) for field in every),
        metadata={entry.text(0): entry.text(1) for entry in schema.tables(2)},
        batches=[_read_batch(data, *block) for block in footer.structs(3, "<qi4xq")],
    )
