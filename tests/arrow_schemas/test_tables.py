"""The tables: columns as the format fixes them, and what they must never hold."""

import subprocess
import sys

import pyarrow as pa
import pytest

from arrow_schemas import DROPPED, TABLES, contexts_schema, documents_schema, features_schema, table_schema


def _fields(kind: pa.DataType) -> list[pa.Field]:
    return [kind.field(index) for index in range(kind.num_fields)]


@pytest.mark.parametrize("table", [*TABLES, DROPPED])
def test_no_column_is_nullable_bool_or_dictionary_at_any_level(table: str) -> None:
    pending = list(table_schema(table, 8))
    while pending:
        field = pending.pop()
        pending.extend(_fields(field.type))
        assert not field.nullable, f"{table}.{field.name}"
        assert not pa.types.is_boolean(field.type), f"{table}.{field.name}"
        assert not pa.types.is_dictionary(field.type), f"{table}.{field.name}"
        assert not pa.types.is_string(field.type), f"{table}.{field.name}: text is large_string"
        assert not pa.types.is_list(field.type), f"{table}.{field.name}: lists are large"


def test_features_are_of_fixed_width() -> None:
    columns = {field.name: str(field.type) for field in features_schema(7)}
    assert columns == {
        "input_ids": "fixed_size_list<item: int32 not null>[7]",
        "attention_mask": "fixed_size_list<item: int8 not null>[7]",
        "token_type_ids": "fixed_size_list<item: int8 not null>[7]",
        "start_positions": "int64",
        "end_positions": "int64",
        "document": "int64",
        "segment_index": "int32",
        "cls_index": "int32",
        "context_token_start": "int32",
        "context_token_count": "int32",
        "context_row_start": "int32",
        "question_row_start": "int32",
        "has_answer_in_segment": "int8",
    }


def test_documents_and_contexts() -> None:
    numbers, texts = "large_list<item: int32 not null>", "large_list<item: large_string not null>"
    assert {field.name: str(field.type) for field in documents_schema()} == {
        "id": "large_string",
        "question": "large_string",
        "question_token_starts": numbers,
        "question_token_stops": numbers,
        "context": "int64",
        "first_segment": "int64",
        "num_segments": "int32",
        "answer_texts": texts,
        "answer_starts": numbers,
        "chosen_answer": "int32",
        "answer_char_start": "int32",
        "answer_char_stop": "int32",
        "answer_token_start": "int32",
        "answer_token_stop": "int32",
        "num_answer_segments": "int32",
        "alignment": "large_string",
        "alignment_detail": "large_string",
        "contradiction": "large_string",
    }
    columns = {field.name: str(field.type) for field in contexts_schema()}
    assert columns == {"text": "large_string", "token_starts": numbers, "token_stops": numbers}


@pytest.mark.parametrize("name", ["", "feature", "Features", "manifest"])
def test_an_unknown_table_is_an_error_that_names_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"features.*documents.*contexts.*dropped.*{name!r}"):
        table_schema(name, 8)


def test_the_package_needs_the_standard_library_and_pyarrow_only() -> None:
    script = (
        "import sys, pyarrow; before = set(sys.modules); import arrow_schemas; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "arrow_schemas" in loaded
    assert loaded - set(sys.stdlib_module_names) <= {"arrow_schemas", "pyarrow"}
