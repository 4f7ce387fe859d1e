"""`diff` names every place in which two schemas differ, and nothing else."""

from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrow_schemas import DROPPED, TABLES, Difference, FileMetadata, diff, table_schema, with_metadata

METADATA = FileMetadata("features", 0, 0, 10, "0f" * 32)


def schema_of(table: str) -> pa.Schema:
    return with_metadata(table_schema(table, 16), METADATA)


tables = st.sampled_from([*TABLES, DROPPED])


def _replaced(schema: pa.Schema, index: int, column: pa.Field) -> pa.Schema:
    return schema.set(index, column)


def _wherein(differences: list[Difference]) -> list[str]:
    return [difference.where for difference in differences]


@given(table=tables, length=st.integers(1, 4096))
def test_equal_schemas_differ_nowhere(table: str, length: int) -> None:
    assert diff(table_schema(table, length), table_schema(table, length)) == []
    assert diff(schema_of(table), schema_of(table)) == []


def test_no_metadata_and_empty_metadata_are_equal() -> None:
    schema = table_schema("features", 8)
    assert diff(schema, schema.with_metadata({})) == []


@given(table=tables, data=st.data())
def test_one_changed_place_is_the_one_that_is_named(table: str, data: st.DataObject) -> None:
    schema = schema_of(table)
    index = data.draw(st.integers(0, len(schema) - 1))
    column = schema.field(index)
    where = f"column {column.name}"
    nested = column.type.num_fields > 0
    change: Callable[[], tuple[pa.Schema, list[str]]] = data.draw(
        st.sampled_from(
            [
                lambda: (_replaced(schema, index, column.with_nullable(True)), [f"{where} nullable"]),
                lambda: (_replaced(schema, index, column.with_type(pa.float16())), [f"{where} type"]),
                lambda: (_replaced(schema, index, column.with_metadata({"k": "v"})), [f"{where} metadata k"]),
                lambda: (_replaced(schema, index, column.with_name("other")), [where, "column other"]),
                lambda: (schema.remove(index), [where]),
                lambda: (schema.insert(index, pa.field("added", pa.int8())), ["column added"]),
                lambda: (schema.append(column), [f"{where} (repeated, number 2)"]),
                lambda: (_swapped(schema, index), ["order of columns"] if len(schema) > 1 else []),
                lambda: (schema.with_metadata({**schema.metadata, b"more": b"1"}), ["metadata more"]),
                lambda: (
                    schema.with_metadata({**schema.metadata, b"memxlnet.shard": b"1"}),
                    ["metadata memxlnet.shard"],
                ),
                lambda: (schema.with_metadata(None), [f"metadata {key.decode()}" for key in sorted(schema.metadata)]),
                *([lambda: _changed_child(schema, index, data)] if nested else []),
            ]
        )
    )
    other, expected = change()
    assert _wherein(diff(schema, other)) == expected
    assert sorted(_wherein(diff(other, schema))) == sorted(expected)


def _swapped(schema: pa.Schema, index: int) -> pa.Schema:
    columns = list(schema)
    columns[index], columns[index - 1] = columns[index - 1], columns[index]
    return pa.schema(columns, metadata=schema.metadata)


def _changed_child(schema: pa.Schema, index: int, data: st.DataObject) -> tuple[pa.Schema, list[str]]:
    column = schema.field(index)
    child, where = column.type.field(0), f"column {column.name}"
    item, expected = data.draw(
        st.sampled_from(
            [
                (child.with_nullable(True), [f"{where}.item nullable"]),
                (child.with_type(pa.float16()), [f"{where}.item type"]),
                (child.with_metadata({"k": "v"}), [f"{where}.item metadata k"]),
            ]
        )
    )
    sized = hasattr(column.type, "list_size")
    kind = pa.list_(item, column.type.list_size) if sized else pa.large_list(item)
    return _replaced(schema, index, column.with_type(kind)), expected


def test_all_differences_are_listed_at_once() -> None:
    expected = pa.schema(
        [
            pa.field("a", pa.int32(), nullable=False),
            pa.field("b", pa.list_(pa.field("item", pa.int32(), nullable=False), 4), metadata={"unit": "s"}),
            pa.field("gone", pa.int8()),
        ],
        metadata={"version": "1", "only here": "x"},
    )
    found = pa.schema(
        [
            pa.field("b", pa.list_(pa.field("item", pa.int64()), 5), metadata={"unit": "ms"}),
            pa.field("a", pa.int64()),
            pa.field("new", pa.int8(), nullable=False),
        ],
        metadata={"version": "2"},
    )
    assert diff(expected, found) == [
        Difference("column a nullable", "False", "True"),
        Difference("column a type", "int32", "int64"),
        Difference("column b.item nullable", "False", "True"),
        Difference("column b.item type", "int32", "int64"),
        Difference("column b type", "fixed_size_list<item: int32 not null>[4]", "fixed_size_list<item: int64>[5]"),
        Difference("column b metadata unit", "'s'", "'ms'"),
        Difference("column gone", "int8", "nothing"),
        Difference("column new", "nothing", "int8 not null"),
        Difference("order of columns", "a, b, gone", "b, a, new"),
        Difference("metadata only here", "'x'", "nothing"),
        Difference("metadata version", "'1'", "'2'"),
    ]


@pytest.mark.parametrize("name", ["a.b", "child", "with blank", ""])
def test_the_name_of_a_column_hides_no_difference(name: str) -> None:
    differences = diff(pa.schema([pa.field(name, pa.int32(), False)]), pa.schema([pa.field(name, pa.int64())]))
    assert _wherein(differences) == [f"column {name} nullable", f"column {name} type"]


def test_repeated_columns_are_compared_one_by_one() -> None:
    expected, found = [("a", pa.int8()), ("a", pa.int16())], [("a", pa.int8()), ("a", pa.int32()), ("a", pa.int8())]
    assert diff(pa.schema(expected), pa.schema(found)) == [
        Difference("column a (repeated, number 2) type", "int16", "int32"),
        Difference("column a (repeated, number 3)", "nothing", "int8"),
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "places"),
    [
        (pa.list_(pa.int8(), 4), pa.list_(pa.int8(), 5), ["column x type"]),
        (pa.list_(pa.int8()), pa.large_list(pa.int8()), ["column x type"]),
        (pa.list_(pa.list_(pa.int8())), pa.list_(pa.list_(pa.int16())), ["column x.item.item type"]),
        (pa.map_(pa.int8(), pa.int8()), pa.map_(pa.int8(), pa.int8(), keys_sorted=True), ["column x type"]),
        (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())]), ["column x child 0 name"]),
        (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int8()), ("b", pa.int8())]), ["column x type"]),
        (pa.timestamp("ms"), pa.timestamp("us"), ["column x type"]),
        (pa.timestamp("ms"), pa.timestamp("ms", "UTC"), ["column x type"]),
        (pa.dictionary(pa.int8(), pa.string()), pa.dictionary(pa.int16(), pa.string()), ["column x type"]),
        (pa.int8(), pa.list_(pa.int8()), ["column x type"]),
    ],
    ids=str,
)
def test_every_kind_of_type(ours: pa.DataType, theirs: pa.DataType, places: list[str]) -> None:
    assert _wherein(diff(pa.schema([("x", ours)]), pa.schema([("x", theirs)]))) == places


_leaves = st.sampled_from([pa.int8(), pa.int32(), pa.float16(), pa.string(), pa.large_string(), pa.binary(3)])
_fields = st.builds(pa.field, st.sampled_from("ab."), _leaves, st.booleans())
_types = st.recursive(
    _leaves,
    lambda children: st.one_of(
        st.builds(pa.list_, children),
        st.builds(pa.list_, children, st.integers(1, 3)),
        st.builds(lambda kind, null: pa.large_list(pa.field("item", kind, null)), children, st.booleans()),
        st.builds(lambda kinds: pa.struct(list(zip("ab", kinds, strict=False))), st.lists(children, max_size=2)),
    ),
    max_leaves=4,
)
_metadata = st.one_of(st.none(), st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["1", "2"])))
_columns = st.builds(pa.field, st.sampled_from("ab."), _types, st.booleans(), _metadata)
_schemas = st.builds(lambda columns, metadata: pa.schema(columns, metadata), st.lists(_columns, max_size=4), _metadata)


@given(expected=_schemas, found=_schemas)
def test_differences_are_empty_exactly_where_schemas_are_equal(expected: pa.Schema, found: pa.Schema) -> None:
    assert (diff(expected, found) == []) == expected.equals(found, check_metadata=True)


@given(table=tables, data=st.data())
def test_several_changed_places_are_all_named(table: str, data: st.DataObject) -> None:
    schema = table_schema(table, 16)
    nullable = data.draw(st.sets(st.sampled_from(schema.names)))
    other_type = data.draw(st.sets(st.sampled_from(schema.names)))
    columns, expected = [], []
    for column in schema:
        if column.name in nullable:
            column = column.with_nullable(True)
            expected.append(f"column {column.name} nullable")
        if column.name in other_type:
            column = column.with_type(pa.binary(3))
            expected.append(f"column {column.name} type")
        columns.append(column)
    assert _wherein(diff(schema, pa.schema(columns))) == expected


def test_a_difference_reads_as_a_sentence() -> None:
    assert str(Difference("column a type", "int32", "int64")) == "column a type: expected int32, found int64"


def test_metadata_that_is_no_text_is_shown_escaped() -> None:
    schema = pa.schema([("a", pa.int8())])
    [difference] = diff(schema.with_metadata({b"\xffkey": b"\xfe"}), schema)
    assert str(difference) == r"metadata \xffkey: expected '\\xfe', found nothing"
