import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrow_schemas import FileMetadata, features_schema, with_metadata
from memxlnet.format.checksums import digest, file_digest
from memxlnet.format.file_layout import column_values, column_width, lay_out, write_values
from tests.support import ROOT, WAIT_SECONDS


def with_zeros(schema: pa.Schema, rows: int) -> pa.RecordBatch:
    columns = []
    for field in schema:
        if pa.types.is_fixed_size_list(field.type):
            values = pa.array(np.zeros(rows * field.type.list_size), field.type.value_type)
            columns.append(pa.FixedSizeListArray.from_arrays(values, type=field.type))
        else:
            columns.append(pa.array(np.zeros(rows), field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


@given(st.integers(1, 40), st.integers(1, 300))
def test_a_laid_out_file_is_what_pyarrow_writes_for_zeros(length: int, rows: int) -> None:
    schema = with_metadata(features_schema(length), FileMetadata("features", 0, 0, rows, "f" * 64))
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder, "laid out"), schema, rows)
        with pa.ipc.new_file(str(Path(folder, "plain")), schema) as writer:
            writer.write_batch(with_zeros(schema, rows))
        assert Path(folder, "laid out").read_bytes() == Path(folder, "plain").read_bytes()


@pytest.mark.parametrize("rows", [1, 2, 7, 1023, 1024, 1025, 5000])
def test_the_offsets_are_where_pyarrow_reads_each_column(tmp_path: Path, rows: int) -> None:
    schema = features_schema(6)
    offsets = lay_out(tmp_path / "file", schema, rows)
    assert list(offsets) == schema.names
    written = {}
    descriptor = os.open(tmp_path / "file", os.O_WRONLY)
    for number, field in enumerate(schema):
        kind = field.type.value_type if pa.types.is_fixed_size_list(field.type) else field.type
        count = rows * column_width(field.type) // (kind.bit_width // 8)
        written[field.name] = (np.arange(count) * 7 + number).astype(kind.to_pandas_dtype())
        write_values(descriptor, written[field.name], offsets[field.name])
    os.close(descriptor)
    with pa.ipc.open_file(tmp_path / "file") as reader:
        assert reader.num_record_batches == 1
        batch = reader.get_batch(0)
    batch.validate(full=True)
    assert batch.num_rows == rows
    for name, values in written.items():
        assert np.array_equal(column_values(batch[name]), values), name


BIG = """
import resource, sys
from pathlib import Path
from arrow_schemas import features_schema
from memxlnet.format import file_layout
import pyarrow as pa

file_layout._reserve = lambda descriptor, size: None  # stays sparse: the test needs no disk
path = Path(sys.argv[1])
file_layout.lay_out(path.with_suffix(".warm"), features_schema(384), 10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
offsets = file_layout.lay_out(path, features_schema(384), 1_600_000)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
with pa.memory_map(str(path)) as mapped:
    rows = pa.ipc.open_file(mapped).get_batch(0).num_rows
print(grown, rows, max(offsets.values()), path.stat().st_size, path.stat().st_blocks * 512)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_laying_out_gigabytes_takes_no_ram(tmp_path: Path) -> None:
    path = tmp_path / "big"
    done = subprocess.run(
        [sys.executable, "-c", BIG, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_SECONDS,
    )
    path.unlink()
    grown, rows, last_offset, size, on_disk = map(int, done.stdout.split())
    assert rows == 1_600_000
    assert size > 3_600_000_000
    assert last_offset < size
    assert grown < 32 * 1024  # KiB
    assert on_disk < 1_000_000


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_the_space_is_reserved(tmp_path: Path) -> None:
    lay_out(tmp_path / "file", features_schema(384), 2000)
    status = (tmp_path / "file").stat()
    assert status.st_blocks * 512 >= status.st_size > 4_600_000


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_found_when_the_file_is_laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, offset: int, size: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    code = errno.ENOSPC
    with pytest.raises(OSError, match="No space left"):
        lay_out(tmp_path / "full", features_schema(4), 10)
    code = errno.EOPNOTSUPP  # a file system that cannot reserve
    lay_out(tmp_path / "sparse", features_schema(4), 10)
    assert pa.ipc.open_file(tmp_path / "sparse").get_batch(0).num_rows == 10


def test_a_file_that_is_there_is_never_laid_out_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"published")
    with pytest.raises(FileExistsError):
        lay_out(tmp_path / "file", features_schema(4), 10)
    assert (tmp_path / "file").read_bytes() == b"published"


def test_values_are_written_whole_even_where_the_system_writes_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"?" * 100)
    plain = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: plain(descriptor, data[:3], offset))
    descriptor = os.open(tmp_path / "file", os.O_WRONLY)
    write_values(descriptor, np.arange(10, dtype=np.int64)[::2], 8)  # a strided view
    os.close(descriptor)
    content = (tmp_path / "file").read_bytes()
    assert content == b"?" * 8 + np.array([0, 2, 4, 6, 8], np.int64).tobytes() + b"?" * 52


@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 5))
def test_the_values_of_a_slice_are_those_of_the_slice(length: int, start: int, count: int) -> None:
    values = pa.array(range(10 * length), pa.int32())
    lists = pa.FixedSizeListArray.from_arrays(values, length).slice(start, count)
    assert column_values(lists).tolist() == list(range(start * length, (start + count) * length))
    numbers = pa.array(range(10), pa.int8()).slice(start, count)
    assert column_values(numbers).tolist() == list(range(start, start + count))


def test_the_checksum_of_a_file_is_that_of_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memxlnet.format.checksums._READ_BYTES", 7)
    for content in (b"", b"a", b"1234567", bytes(range(256))):
        (tmp_path / "file").write_bytes(content)
        assert file_digest(tmp_path / "file") == digest(content)
    assert digest(b"") == "99aa06d3014798d86001c324468d497f"  # of the specification of XXH3, 128 bits
