"""Every difference of two schemas, metadata included.

`pyarrow.Schema.equals` ignores metadata unless asked and says only yes or no; an error message needs the list.
"""

from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa


class Difference(NamedTuple):
    """One place in which two schemas differ.

    Attributes:
        where: The column, nested field or metadata key.
        expected: What the first schema has there; ``"nothing"`` where it has no such thing.
        found: What the second one has.
    """

    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}"


NOTHING = "nothing"


def diff(expected: pa.Schema, found: pa.Schema) -> list[Difference]:
    """List every difference of two schemas: columns, order, types, nullability and metadata at every level.

    Args:
        expected: The schema that was wanted.
        found: The schema that is there.

    Returns:
        The differences in the order of the expected columns, then columns that were not expected, then the order of
        columns, then metadata; empty when the schemas are equal in everything.
    """
    differences: list[Difference] = []
    _diff_repeated(expected.names, found.names, differences)
    names = list(dict.fromkeys([*expected.names, *found.names]))
    for name in names:
        ours, theirs = _column(expected, name), _column(found, name)
        if ours is not None and theirs is not None:
            _diff_fields(f"column {name}", ours, theirs, differences)
        elif ours is not None or theirs is not None:
            differences.append(Difference(f"column {name}", _describe(ours), _describe(theirs)))
    shared_expected = [name for name in expected.names if name in found.names]
    shared_found = [name for name in found.names if name in expected.names]
    if shared_expected != shared_found:
        differences.append(Difference("order of columns", ", ".join(expected.names), ", ".join(found.names)))
    _diff_metadata("metadata", expected.metadata, found.metadata, differences)
    return differences


def _column(schema: pa.Schema, name: str) -> pa.Field | None:
    # Schema.field(name) warns and picks one when a name is repeated; the first index is always right.
    indices = schema.get_all_field_indices(name)
    return schema.field(indices[0]) if indices else None


def _diff_repeated(expected: list[str], found: list[str], differences: list[Difference]) -> None:
    for name in dict.fromkeys([*expected, *found]):
        ours, theirs = expected.count(name), found.count(name)
        if ours and theirs and ours != theirs:
            differences.append(Difference(f"column {name}", f"{ours} times", f"{theirs} times"))


def _describe(field: pa.Field | None) -> str:
    if field is None:
        return NOTHING
    return str(field.type) if field.nullable else f"{field.type} not null"


def _diff_fields(where: str, expected: pa.Field, found: pa.Field, differences: list[Difference]) -> None:
    before = len(differences)
    if expected.nullable != found.nullable:
        differences.append(Difference(f"{where} nullable", str(expected.nullable), str(found.nullable)))
    ours, theirs = expected.type, found.type
    if ours.id == theirs.id and ours.num_fields == theirs.num_fields and ours.num_fields:
        for index in range(ours.num_fields):
            child, other = ours.field(index), theirs.field(index)
            if child.name != other.name:
                differences.append(Difference(f"{where} child {index} name", child.name, other.name))
            _diff_fields(f"{where}.{child.name}", child, other, differences)
    if not ours.equals(theirs, check_metadata=True) and not _types_differ_below(differences, before):
        differences.append(Difference(f"{where} type", str(ours), str(theirs)))
    _diff_metadata(f"{where} metadata", expected.metadata, found.metadata, differences)


def _types_differ_below(differences: list[Difference], before: int) -> bool:
    """Whether a difference of the children already explains that two nested types are unequal."""
    return len(differences) > before and any(
        "." in entry.where or "child" in entry.where for entry in differences[before:]
    )


def _diff_metadata(
    where: str,
    expected: Mapping[bytes, bytes] | None,
    found: Mapping[bytes, bytes] | None,
    differences: list[Difference],
) -> None:
    ours, theirs = expected or {}, found or {}
    for key in sorted({*ours, *theirs}):
        if ours.get(key) != theirs.get(key):
            name = key.decode("utf-8", "backslashreplace")
            differences.append(Difference(f"{where} {name}", _show(ours.get(key)), _show(theirs.get(key))))


def _show(value: bytes | None) -> str:
    return NOTHING if value is None else repr(value.decode("utf-8", "backslashreplace"))
