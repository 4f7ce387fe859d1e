"""What arrow_schemas/README.md promises of the bytes, read off the bytes: no Arrow library takes part."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from arrow_schemas import TABLES
from memxlnet.load.cache_dataset import CacheDataset
from tests.open_files.caches import features_of, schema_of, shard_paths
from tests.open_files.ipc_bytes import LITTLE_ENDIAN, MAGIC, METADATA_V5, Footer, read_footer

every_table = pytest.mark.parametrize("table", TABLES)


def footers(dataset: CacheDataset, table: str) -> list[Footer]:
    return [read_footer(path.read_bytes()) for path in shard_paths(dataset, table)]


@every_table
def test_files_begin_and_end_with_the_magic(dataset: CacheDataset, table: str) -> None:
    for path in shard_paths(dataset, table):
        content = path.read_bytes()
        assert content[:8] == MAGIC + b"\0\0"
        assert content[-6:] == MAGIC


@every_table
def test_values_are_plain(dataset: CacheDataset, table: str) -> None:
    schema = schema_of(dataset, table)
    for footer in footers(dataset, table):
        assert footer.version == METADATA_V5
        assert footer.endianness == LITTLE_ENDIAN
        assert footer.fields == schema.names
        assert footer.nullable == []
        assert not footer.has_dictionaries
        assert footer.batches
        assert not any(batch.is_compressed for batch in footer.batches)


@every_table
def test_there_is_no_null_and_no_validity_bitmap(dataset: CacheDataset, table: str) -> None:
    for footer in footers(dataset, table):
        for batch in footer.batches:
            assert set(batch.null_counts) == {0}
            lengths = iter(batch.buffers)
            for field in schema_of(dataset, table):
                for buffers in buffers_of(field.type):
                    validity, *_ = [next(lengths) for _ in range(buffers)]
                    assert validity[1] == 0, field.name
            assert next(lengths, None) is None


def buffers_of(kind: pa.DataType) -> list[int]:
    """Buffers of a type and of its children, depth first; the first of each is the validity bitmap."""
    if pa.types.is_fixed_size_list(kind):
        return [1, *buffers_of(kind.value_type)]
    if pa.types.is_large_list(kind):
        return [2, *buffers_of(kind.value_type)]
    return [3] if pa.types.is_large_string(kind) else [2]


@every_table
def test_metadata_is_what_is_documented(dataset: CacheDataset, table: str) -> None:
    for shard, (footer, record) in enumerate(
        zip(footers(dataset, table), dataset.manifest.tables[table].shards, strict=True)
    ):
        assert footer.metadata == {
            "memxlnet.schema_version": "2",
            "memxlnet.table": table,
            "memxlnet.shard": str(shard),
            "memxlnet.row_start": str(record.row_start),
            "memxlnet.row_stop": str(record.row_stop),
            "memxlnet.fingerprint": dataset.manifest.fingerprint,
        }


def test_features_are_one_record_batch_a_shard(dataset: CacheDataset) -> None:
    for footer, record in zip(footers(dataset, "features"), dataset.manifest.tables["features"].shards, strict=True):
        assert [batch.rows for batch in footer.batches] == [record.row_stop - record.row_start]


@pytest.mark.parametrize(("table", "batch_rows"), [("documents", 1024), ("contexts", 64)])
def test_texts_are_in_batches_of_a_fixed_row_count(dataset: CacheDataset, table: str, batch_rows: int) -> None:
    (footer,) = footers(dataset, table)
    rows = dataset.manifest.tables[table].rows
    assert dataset.manifest.tables[table].batch_rows == batch_rows
    assert [batch.rows for batch in footer.batches] == [
        min(batch_rows, rows - start) for start in range(0, rows, batch_rows)
    ]


@every_table
def test_buffers_lie_in_the_file_at_multiples_of_eight_bytes(dataset: CacheDataset, table: str) -> None:
    for path in shard_paths(dataset, table):
        for batch in read_footer(path.read_bytes()).batches:
            assert batch.offset % 8 == batch.body % 8 == 0
            assert batch.body + batch.body_length <= path.stat().st_size
            end = 0
            for offset, length in batch.buffers:
                assert offset % 8 == 0
                assert offset >= end
                end = offset + length
            assert end <= batch.body_length


def test_features_are_read_without_any_arrow_library(dataset: CacheDataset) -> None:
    found: dict[str, list[np.ndarray]] = {}
    for path in shard_paths(dataset, "features"):
        (batch,) = read_footer(path.read_bytes()).batches
        buffers = iter(batch.buffers)
        for field in schema_of(dataset, "features"):
            is_list = pa.types.is_fixed_size_list(field.type)
            kind = np.dtype((field.type.value_type if is_list else field.type).to_pandas_dtype()).newbyteorder("<")
            shape = (batch.rows, field.type.list_size) if is_list else (batch.rows,)
            *_, (offset, length) = [next(buffers) for _ in range(3 if is_list else 2)]
            assert length == np.prod(shape) * kind.itemsize, field.name
            values: np.ndarray = np.memmap(path, kind, "r", batch.body + offset, shape)
            found.setdefault(field.name, []).append(values)
    for name, values in features_of(dataset).items():
        assert np.array_equal(np.concatenate(found[name]), values), name


def test_a_changed_byte_is_a_changed_value(sample: CacheDataset, tmp_path: Path) -> None:
    content = bytearray(shard_paths(sample, "features")[0].read_bytes())
    (batch,) = read_footer(bytes(content)).batches
    validity, values = batch.buffers[1:3]  # of the items of input_ids
    assert validity[1] == 0
    content[batch.body + values[0]] ^= 1
    (tmp_path / "changed").write_bytes(content)
    first = pa.ipc.open_file(pa.memory_map(str(tmp_path / "changed"))).get_batch(0)["input_ids"][0].as_py()
    assert first[1:] == features_of(sample)["input_ids"][0][1:].tolist()
    assert first[0] == features_of(sample)["input_ids"][0][0] ^ 1
