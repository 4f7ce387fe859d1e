import errno
import logging
import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrow_schemas import ALIGNMENTS, DROPPED, KEPT, table_schema
from memxlnet.builder import chunk_files
from memxlnet.builder.chunk_files import (
    CHUNK_TABLES,
    ChunkReceipt,
    chunk_bytes,
    finished_chunks,
    read_chunk,
    read_survey,
    store_chunk,
    with_examples_digest,
    write_chunk,
)
from memxlnet.builder.context_numbering import row_bytes, text_digests
from memxlnet.errors import BuildError
from memxlnet.format.checksums import digest, file_digest
from tests.format.content import Content, chunks, contents, make_content

TABLES = next(chunks(make_content(1, 4, ["a", "b"], [(0, 2), None, (1, 3)]), [3]))
OTHERS = next(chunks(make_content(2, 4, ["c"], [(0, 1)]), [3]))


@given(contents())
def test_a_chunk_is_read_as_it_was_written(content: Content) -> None:
    tables = next(chunks(content, [len(content.items)]))
    with tempfile.TemporaryDirectory() as folder:
        receipt = write_chunk(Path(folder), 7, tables)
        assert [path.name for path in Path(folder).iterdir()] == [receipt.file]
        assert receipt.bytes == Path(folder, receipt.file).stat().st_size
        assert receipt.rows == {name: batch.num_rows for name, batch in tables.items()}
        assert receipt.table_bytes == sum(batch.nbytes for batch in tables.values())
        found = read_chunk(Path(folder), receipt)
        assert {name: batch.to_pylist() for name, batch in found.items()} == {
            name: batch.to_pylist() for name, batch in tables.items()
        }
        for name, batch in found.items():
            assert batch.schema.equals(table_schema(name, content.length), check_metadata=True)
        assert finished_chunks(Path(folder)) == {7: receipt}
        survey = read_survey(Path(folder), receipt)
        assert [field.tolist() if hasattr(field, "tolist") else field for field in survey] == [
            tables["features"].num_rows,
            receipt.table_bytes,
            outcomes(tables["documents"].to_pylist()),
            text_digests(tables["contexts"]["text"]).tolist(),
            row_bytes(tables["contexts"]).tolist(),
            row_bytes(tables["documents"]).tolist(),
        ]


def outcomes(documents: list[dict[str, Any]]) -> list[int]:
    return [
        *(sum(row["alignment"] == name for row in documents) for name in ALIGNMENTS),
        sum(row["contradiction"] != "" for row in documents),
        sum(row["chosen_answer"] >= 0 and row["num_answer_segments"] == 0 for row in documents),
    ]


@pytest.mark.parametrize("only", [only for size in range(5) for only in combinations((*CHUNK_TABLES, KEPT), size)])
def test_the_tables_that_are_wanted_are_read(tmp_path: Path, only: tuple[str, ...]) -> None:
    tables = {**TABLES, KEPT: pa.RecordBatch.from_pydict({"title": ["one", "two"]})}
    found = read_chunk(tmp_path, write_chunk(tmp_path, 0, tables), only)
    assert {name: batch.to_pylist() for name, batch in found.items()} == {
        name: tables[name].to_pylist() for name in only
    }


def test_a_table_that_nothing_was_kept_for_is_left_out(tmp_path: Path) -> None:
    assert list(read_chunk(tmp_path, write_chunk(tmp_path, 0, TABLES), ("contexts", KEPT))) == ["contexts"]


def test_the_name_holds_number_and_checksum(tmp_path: Path) -> None:
    receipt = write_chunk(tmp_path, 12, TABLES)
    assert receipt.file == f"00000012.{file_digest(tmp_path / receipt.file)}.chunk"
    rows = {"features": 5, "documents": 2, "contexts": 2, DROPPED: 1}
    assert receipt == ChunkReceipt(12, receipt.file, receipt.bytes, rows, table_bytes=receipt.table_bytes)
    again = write_chunk(tmp_path, 12, TABLES)
    assert again == receipt


def test_a_chunk_that_travelled_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    receipt, content = chunk_bytes(3, TABLES)
    store_chunk(tmp_path / "there", receipt, content)
    assert finished_chunks(tmp_path / "there") == {3: receipt}
    assert write_chunk(tmp_path, 3, TABLES) == receipt
    assert (tmp_path / receipt.file).read_bytes() == (tmp_path / "there" / receipt.file).read_bytes() == content


def test_features_that_repeat_take_little_room(tmp_path: Path) -> None:
    features = TABLES["features"].take(pa.array([0] * 1000))
    receipt = write_chunk(tmp_path, 0, {**TABLES, "features": features})
    assert receipt.table_bytes > features.nbytes
    assert receipt.bytes < receipt.table_bytes / 2


def test_a_chunk_of_an_earlier_release_is_encoded_again(tmp_path: Path) -> None:
    # Those held no survey.
    content = pa.BufferOutputStream()
    for table in CHUNK_TABLES:
        with pa.ipc.new_stream(content, TABLES[table].schema) as writer:
            writer.write_batch(TABLES[table])
    for index, earlier in enumerate((content.getvalue().to_pybytes(), b"")):
        (tmp_path / f"{index:08d}.{digest(earlier)}.chunk").write_bytes(earlier)
    assert finished_chunks(tmp_path) == {}
    assert not list(tmp_path.iterdir())


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"\['contexts'\]"):
        write_chunk(tmp_path, 3, {name: batch for name, batch in TABLES.items() if name != "contexts"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", ["write", "fsync", "rename"])
def test_a_failure_at_any_step_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == "write":
        monkeypatch.setattr(chunk_files._DigestingSink, "write", fail)
    elif step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_chunk(tmp_path, 0, TABLES)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    write_chunk(tmp_path, 0, TABLES)
    assert list(finished_chunks(tmp_path)) == [0]


def test_a_write_that_dies_before_the_rename_leaves_no_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    whole = write_chunk(tmp_path, 0, TABLES)
    # What SIGKILL leaves: neither rename nor clean-up happened.
    monkeypatch.setattr(Path, "replace", die)
    monkeypatch.setattr(Path, "unlink", die)
    with pytest.raises(Killed):
        write_chunk(tmp_path, 1, OTHERS)
    monkeypatch.undo()
    kept, temporary = sorted(path.name for path in tmp_path.iterdir())
    assert kept == whole.file
    assert re.fullmatch(r"00000001\.[0-9a-f]{16}\.tmp", temporary)
    assert finished_chunks(tmp_path) == {0: whole}
    assert [path.name for path in tmp_path.iterdir()] == [whole.file]


@given(st.data())
def test_a_damaged_chunk_is_removed_and_the_others_stay(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        receipts = {index: write_chunk(Path(folder), index, TABLES if index % 2 else OTHERS) for index in range(3)}
        victim = Path(folder, receipts.pop(1).file)
        content = bytearray(victim.read_bytes())
        kind = data.draw(st.sampled_from(["flip", "truncate", "extend", "empty"]))
        if kind == "flip":
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "truncate":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        elif kind == "extend":
            content += b"\0"
        else:
            content.clear()
        victim.write_bytes(content)
        assert finished_chunks(Path(folder)) == receipts
        assert not victim.exists()


def test_foreign_files_are_removed_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    receipt = write_chunk(tmp_path, 0, TABLES)
    foreign = ["00000001.999.tmp", "notes.txt", f"0.{'a' * 32}.chunk", "00000001.chunk", f"{receipt.file}.bak"]
    for name in foreign:
        (tmp_path / name).write_bytes(b"x")
    with caplog.at_level(logging.INFO, "memxlnet"):
        assert finished_chunks(tmp_path) == {0: receipt}
    assert [path.name for path in tmp_path.iterdir()] == [receipt.file]
    assert all(any(name in message for message in caplog.messages) for name in foreign)


@pytest.mark.parametrize("order", [[TABLES, OTHERS], [OTHERS, TABLES]])
def test_of_two_files_of_one_number_the_latest_counts(tmp_path: Path, order: list[Any]) -> None:
    first, second = (write_chunk(tmp_path, 0, tables) for tables in order)
    os.utime(tmp_path / first.file, ns=(0, 10**18))
    os.utime(tmp_path / second.file, ns=(0, 10**18 + 1))
    assert finished_chunks(tmp_path) == {0: second}
    assert [path.name for path in tmp_path.iterdir()] == [second.file]


def test_where_the_latest_file_is_damaged_the_one_before_counts(tmp_path: Path) -> None:
    first, second = (write_chunk(tmp_path, 0, tables) for tables in (TABLES, OTHERS))
    os.utime(tmp_path / first.file, ns=(0, 10**18))
    (tmp_path / second.file).write_bytes(b"damaged")
    assert finished_chunks(tmp_path) == {0: first}
    assert [path.name for path in tmp_path.iterdir()] == [first.file]


def test_chunks_come_in_order_of_their_numbers(tmp_path: Path) -> None:
    for age, index in enumerate((3, 0, 2)):
        os.utime(tmp_path / write_chunk(tmp_path, index, TABLES).file, ns=(0, 10**18 + age))
    assert list(finished_chunks(tmp_path)) == [0, 2, 3]


def test_the_digest_of_the_examples_is_kept(tmp_path: Path) -> None:
    marked = with_examples_digest(TABLES, "of these examples")
    receipt = write_chunk(tmp_path, 4, marked)
    assert receipt.examples == "of these examples"
    assert finished_chunks(tmp_path) == {4: receipt}
    # It changes the file but no value, and nothing of what it was given.
    assert receipt.file != write_chunk(tmp_path, 4, TABLES).file
    found = read_chunk(tmp_path, receipt)
    assert {name: batch.to_pylist() for name, batch in found.items()} == {
        name: batch.to_pylist() for name, batch in TABLES.items()
    }
    del found
    assert write_chunk(tmp_path, 5, TABLES).examples == ""
    assert "metadata" not in str(TABLES["features"].schema)


def test_two_writers_of_one_chunk_do_not_meet(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda _: write_chunk(tmp_path, 0, TABLES), range(40)))
    assert set(map(repr, receipts)) == {repr(receipts[0])}
    assert [path.name for path in tmp_path.iterdir()] == [receipts[0].file]
    assert finished_chunks(tmp_path) == {0: receipts[0]}


def test_a_chunk_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    receipt = write_chunk(tmp_path, 0, TABLES)
    path = tmp_path / receipt.file
    path.write_bytes(path.read_bytes()[: receipt.bytes // 2])
    with pytest.raises(BuildError, match=receipt.file):
        read_chunk(tmp_path, receipt)
    path.unlink()
    with pytest.raises(BuildError, match=receipt.file):
        read_chunk(tmp_path, receipt)


@given(st.data())
def test_no_changed_byte_is_read(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        receipt = write_chunk(Path(folder), 0, TABLES)
        path = Path(folder, receipt.file)
        content = bytearray(path.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        for read in (read_survey, read_chunk):
            with pytest.raises(BuildError, match=f"{receipt.file}: .*other bytes than were written.*; build again$"):
                read(Path(folder), receipt)
