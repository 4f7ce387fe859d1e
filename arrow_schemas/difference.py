"""Every difference of two schemas, metadata included.

`pyarrow.Schema.equals` ignores metadata unless asked and says only yes or no; an error message needs the list.
"""

from collections import Counter
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
    if expected.equals(found, check_metadata=True):
        return differences
    ours, theirs = _numbered(expected), _numbered(found)
    for key in dict.fromkeys([*ours, *theirs]):
        where = _where(*key)
        if key in ours and key in theirs:
            _diff_fields(where, ours[key], theirs[key], differences)
        else:
            differences.append(Difference(where, _describe(ours.get(key)), _describe(theirs.get(key))))
    if [key for key in ours if key in theirs] != [key for key in theirs if key in ours]:
        differences.append(Difference("order of columns", ", ".join(expected.names), ", ".join(found.names)))
    _diff_metadata("metadata", expected.metadata, found.metadata, differences)
    return differences


def _numbered(schema: pa.Schema) -> dict[tuple[str, int], pa.Field]:
    """Return the columns by name and, as Arrow allows a name more than once, by how often it stood before."""
    columns: dict[tuple[str, int], pa.Field] = {}
    seen: Counter[str] = Counter()
    for column in schema:
        columns[column.name, seen[column.name]] = column
        seen[column.name] += 1
    return columns


def _where(name: str, before: int) -> str:
    return f"column {name} (repeated, number {before + 1})" if before else f"column {name}"


def _describe(field: pa.Field | None) -> str:
    if field is None:
        return NOTHING
    return str(field.type) if field.nullable else f"{field.type} not null"


def _diff_fields(where: str, expected: pa.Field, found: pa.Field, differences: list[Difference]) -> None:
    if expected.nullable != found.nullable:
        differences.append(Difference(f"{where} nullable", str(expected.nullable), str(found.nullable)))
    ours, theirs = expected.type, found.type
    before = len(differences)
    if ours.id == theirs.id and ours.num_fields == theirs.num_fields:
        for index in range(ours.num_fields):
            child, other = ours.field(index), theirs.field(index)
            if child.name != other.name:
                differences.append(Difference(f"{where} child {index} name", child.name, other.name))
            _diff_fields(f"{where}.{child.name}", child, other, differences)
    # Unequal children make their parents unequal; the parents differ beyond that in their parameters only.
    explained = len(differences) > before and _parameters(ours) == _parameters(theirs)
    if not explained and not ours.equals(theirs, check_metadata=True):
        differences.append(Difference(f"{where} type", str(ours), str(theirs)))
    _diff_metadata(f"{where} metadata", expected.metadata, found.metadata, differences)


def _parameters(kind: pa.DataType) -> list[object]:
    """Return what a nested type has besides its children."""
    return [getattr(kind, name, None) for name in ("list_size", "keys_sorted", "mode", "type_codes")]


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
