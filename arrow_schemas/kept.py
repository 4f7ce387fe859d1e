"""The rule of the optional table `kept`: which types its columns have, and what two types are together.

The columns are those that Arrow infers of Python values, each type in its widest form: int64, double, large_string,
large_binary, large_list. All are nullable, at every level.
"""

from collections.abc import Mapping

import pyarrow as pa

_UNIT = "us"
_PLAIN = (
    pa.null(),
    pa.bool_(),
    pa.int64(),
    pa.float64(),
    pa.large_string(),
    pa.large_binary(),
    pa.date32(),
    pa.time64(_UNIT),
    pa.duration(_UNIT),
    pa.month_day_nano_interval(),
)
_DECIMAL128_DIGITS, _DECIMAL256_DIGITS = 38, 76


def kept_schema(types: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the schema of kept columns: sorted by name, nullable, without metadata.

    Args:
        types: The type of each column, all of them `is_kept_type`.
    """
    return pa.schema([pa.field(name, types[name]) for name in sorted(types)])


def is_kept_type(kind: pa.DataType) -> bool:
    """Return whether a column of `kept` may have a type."""
    if pa.types.is_large_list(kind):
        return bool(kind.value_field.nullable) and is_kept_type(kind.value_type)
    if pa.types.is_struct(kind):
        fields = [kind.field(at) for at in range(kind.num_fields)]
        names = [field.name for field in fields]
        return names == sorted(set(names)) and all(field.nullable and is_kept_type(field.type) for field in fields)
    if pa.types.is_timestamp(kind):
        return bool(kind.unit == _UNIT)
    return kind in _PLAIN or pa.types.is_decimal128(kind) or pa.types.is_decimal256(kind)


def joined_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of both; None where no type does.

    Null and T are T, int64 and double are double, decimals are as wide as both, timestamps of two time zones are in
    UTC, lists and structs are joined by their items and fields. The result does not depend on the order.
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_large_list(one) and pa.types.is_large_list(other):
        item = joined_type(one.value_type, other.value_type)
        return None if item is None else pa.large_list(item)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _joined_struct(one, other)
    if pa.types.is_timestamp(one) and pa.types.is_timestamp(other) and one.tz and other.tz:
        return pa.timestamp(_UNIT, "UTC")
    if pa.types.is_decimal(one) and pa.types.is_decimal(other):
        return _joined_decimal(one, other)
    return None


def _joined_struct(one: pa.StructType, other: pa.StructType) -> pa.DataType | None:
    ours, theirs = ({field.name: field.type for field in kind} for kind in (one, other))
    fields = []
    for name in sorted({*ours, *theirs}):
        kind = joined_type(ours.get(name, pa.null()), theirs.get(name, pa.null()))
        if kind is None:
            return None
        fields.append(pa.field(name, kind))
    return pa.struct(fields)


def _joined_decimal(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    scale = max(one.scale, other.scale)
    digits = max(one.precision - one.scale, other.precision - other.scale) + scale
    if digits > _DECIMAL256_DIGITS:
        return None
    return pa.decimal128(digits, scale) if digits <= _DECIMAL128_DIGITS else pa.decimal256(digits, scale)


def filled_type(kind: pa.DataType) -> pa.DataType:
    """Return a type with large_string in place of null: what holds no value at all is published as text."""
    if pa.types.is_null(kind):
        return pa.large_string()
    if pa.types.is_large_list(kind):
        return pa.large_list(filled_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, filled_type(field.type)) for field in kind])
    return kind
