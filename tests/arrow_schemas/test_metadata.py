"""The metadata of a file, written and read back."""

import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrow_schemas import SCHEMA_VERSION, FileMetadata, features_schema, with_metadata

numbers = st.integers(0, 2**63)


@given(
    made=st.builds(
        FileMetadata,
        table=st.text(st.characters(codec="utf-8")),
        shard=numbers,
        row_start=numbers,
        row_stop=numbers,
        fingerprint=st.text("0123456789abcdef"),
        schema_version=numbers,
    )
)
def test_what_is_encoded_is_decoded(made: FileMetadata) -> None:
    assert FileMetadata.decode(made.encode()) == made
    schema = with_metadata(features_schema(4), made)
    assert FileMetadata.decode(pa.ipc.read_schema(schema.serialize()).metadata) == made


def test_the_keys_and_values_of_the_format() -> None:
    assert FileMetadata("features", 3, 100, 250, "ab").encode() == {
        b"memxlnet.schema_version": str(SCHEMA_VERSION).encode(),
        b"memxlnet.table": b"features",
        b"memxlnet.shard": b"3",
        b"memxlnet.row_start": b"100",
        b"memxlnet.row_stop": b"250",
        b"memxlnet.fingerprint": b"ab",
    }


def test_earlier_metadata_of_a_schema_does_not_stay() -> None:
    schema = features_schema(4).with_metadata({"pandas": "{}"})
    made = FileMetadata("features", 0, 0, 1, "ab")
    assert with_metadata(schema, made).metadata == made.encode()


@pytest.mark.parametrize("name", ["schema_version", "table", "shard", "row_start", "row_stop", "fingerprint"])
def test_a_missing_key_is_named(name: str) -> None:
    found = FileMetadata("features", 0, 0, 1, "ab").encode()
    del found[f"memxlnet.{name}".encode()]
    with pytest.raises(ValueError, match=f"'memxlnet.{name}'"):
        FileMetadata.decode(found)


@pytest.mark.parametrize("name", ["schema_version", "shard", "row_start", "row_stop"])
@pytest.mark.parametrize("value", ["", "-1", "1.0", "one", " 1", "0x1", "\u0663", "\u00b2"])
def test_a_value_that_is_not_a_number_is_shown(name: str, value: str) -> None:
    found = FileMetadata("features", 0, 0, 1, "ab").encode()
    found[f"memxlnet.{name}".encode()] = value.encode()
    with pytest.raises(ValueError, match=f"memxlnet.{name}:.*{re.escape(repr(value))}"):
        FileMetadata.decode(found)


def test_no_metadata_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'memxlnet\.table'"):
        FileMetadata.decode(None)


def test_bytes_that_are_not_text_do_not_end_the_reading() -> None:
    found = FileMetadata("features", 0, 0, 1, "ab").encode()
    found[b"memxlnet.fingerprint"] = b"\xff\xfe"
    assert FileMetadata.decode(found).fingerprint == "\ufffd\ufffd"
