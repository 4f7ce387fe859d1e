"""The types of kept columns."""

import itertools
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrow_schemas import filled_type, is_kept_type, joined_type, kept_schema

plain = st.sampled_from(
    [
        pa.null(),
        pa.bool_(),
        pa.int64(),
        pa.float64(),
        pa.large_string(),
        pa.large_binary(),
        pa.date32(),
        pa.timestamp("us"),
        pa.timestamp("us", "UTC"),
        pa.timestamp("us", "Europe/Rome"),
        pa.decimal128(5, 2),
        pa.decimal128(38, 0),
        pa.decimal256(70, 40),
    ]
)
types = st.recursive(
    plain,
    lambda inner: (
        inner.map(pa.large_list)
        | st.dictionaries(st.sampled_from("abc"), inner).map(
            lambda fields: pa.struct([pa.field(name, fields[name]) for name in sorted(fields)])
        )
    ),
    max_leaves=4,
)


@given(types, types, types)
def test_types_join_in_any_order(one: pa.DataType, two: pa.DataType, three: pa.DataType) -> None:
    found = set()
    for first, second, third in itertools.permutations((one, two, three)):
        joined = joined_type(first, second)
        found.add(None if joined is None else joined_type(joined, third))
    assert len(found) == 1
    assert joined_type(one, one) == one
    (kind,) = found
    if kind is not None:
        assert is_kept_type(kind)
        assert all(joined_type(kind, each) == kind for each in (one, two, three))


@given(types)
def test_a_type_without_values_is_text(kind: pa.DataType) -> None:
    filled = filled_type(kind)
    assert is_kept_type(filled)
    assert "null" not in str(filled)
    assert joined_type(kind, filled) == filled


@pytest.mark.parametrize(
    ("one", "two", "joined"),
    [
        (pa.null(), pa.bool_(), pa.bool_()),
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.int64(), pa.bool_(), None),
        (pa.int64(), pa.large_string(), None),
        (pa.large_list(pa.int64()), pa.large_list(pa.null()), pa.large_list(pa.int64())),
        (pa.large_list(pa.int64()), pa.int64(), None),
        (pa.struct({"a": pa.int64()}), pa.struct({"b": pa.null()}), pa.struct({"a": pa.int64(), "b": pa.null()})),
        (pa.struct({"a": pa.int64()}), pa.struct({"a": pa.bool_()}), None),
        (pa.timestamp("us", "UTC"), pa.timestamp("us", "Asia/Tokyo"), pa.timestamp("us", "UTC")),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), None),
        (pa.scalar(Decimal("1.25")).type, pa.scalar(Decimal("100")).type, pa.decimal128(5, 2)),
        (pa.decimal128(38, 0), pa.decimal128(38, 38), pa.decimal256(76, 38)),
        (pa.decimal256(76, 0), pa.decimal256(76, 76), None),
    ],
    ids=str,
)
def test_two_types_have_one_that_holds_both(one: pa.DataType, two: pa.DataType, joined: pa.DataType | None) -> None:
    assert joined_type(one, two) == joined_type(two, one) == joined


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.int32(),
        pa.list_(pa.int64()),
        pa.dictionary(pa.int32(), pa.large_string()),
        pa.timestamp("ns"),
        pa.large_list(pa.field("item", pa.int64(), nullable=False)),
        pa.struct([pa.field("b", pa.int64()), pa.field("a", pa.int64())]),
        pa.map_(pa.large_string(), pa.int64()),
    ],
    ids=str,
)
def test_other_types_are_none_of_a_kept_column(kind: pa.DataType) -> None:
    assert not is_kept_type(kind)


def test_columns_are_sorted_and_nullable() -> None:
    schema = kept_schema({"b": pa.int64(), "a": pa.large_string()})
    assert schema.names == ["a", "b"]
    assert all(field.nullable for field in schema)
    assert schema.metadata is None
