"""pyarrow alone: `pyarrow.ipc` over memory maps, and `pyarrow.dataset` over the shards."""

import gc

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest

from arrow_schemas import SCHEMA_VERSION, TABLES
from memxlnet.load.cache_dataset import CacheDataset
from tests.open_files.caches import (
    TEXT_TABLES,
    arrow_columns,
    assert_features,
    features_of,
    mapped,
    schema_of,
    shard_paths,
    texts_of,
)

METADATA_KEYS = {
    b"memxlnet.schema_version",
    b"memxlnet.table",
    b"memxlnet.shard",
    b"memxlnet.row_start",
    b"memxlnet.row_stop",
    b"memxlnet.fingerprint",
}

every_table = pytest.mark.parametrize("table", TABLES)
text_tables = pytest.mark.parametrize("table", TEXT_TABLES)


def scanned(dataset: CacheDataset, table: str) -> pa.dataset.Dataset:
    return pa.dataset.dataset(shard_paths(dataset, table), format="ipc")


class TestMaps:
    @every_table
    def test_have_the_schema_of_the_package(self, dataset: CacheDataset, table: str) -> None:
        for path in shard_paths(dataset, table):
            with pa.memory_map(str(path)) as file:
                schema = pa.ipc.open_file(file).schema
            assert schema.remove_metadata().equals(schema_of(dataset, table), check_metadata=True)
            assert not any(field.nullable or field.metadata for field in schema)

    @every_table
    def test_their_metadata(self, dataset: CacheDataset, table: str) -> None:
        row = 0
        for shard, path in enumerate(shard_paths(dataset, table)):
            with pa.memory_map(str(path)) as file:
                reader = pa.ipc.open_file(file)
                found, rows = reader.schema.metadata, reader.read_all().num_rows
            assert found.keys() == METADATA_KEYS
            metadata = {name.decode().removeprefix("memxlnet."): value.decode() for name, value in found.items()}
            assert metadata == {
                "schema_version": str(SCHEMA_VERSION),
                "table": table,
                "shard": str(shard),
                "row_start": str(row),
                "row_stop": str(row + rows),
                "fingerprint": dataset.manifest.fingerprint,
            }
            row += rows
        assert row == dataset.manifest.tables[table].rows

    def test_hold_the_features(self, dataset: CacheDataset) -> None:
        assert_features(arrow_columns(mapped(dataset, "features")), dataset)

    @text_tables
    def test_hold_the_texts(self, dataset: CacheDataset, table: str) -> None:
        found = mapped(dataset, table)
        found.validate(full=True)
        assert found.to_pylist() == texts_of(dataset, table)

    @every_table
    def test_are_not_loaded(self, sample: CacheDataset, table: str) -> None:
        size = sum(path.stat().st_size for path in shard_paths(sample, table))
        gc.collect()
        before = pa.total_allocated_bytes()
        found = mapped(sample, table)
        grown = pa.total_allocated_bytes() - before
        assert found.nbytes > 20_000
        assert grown < min(size / 50, 2_000)

    @every_table
    def test_are_where_every_buffer_lies(self, dataset: CacheDataset, table: str) -> None:
        for path in shard_paths(dataset, table):
            with pa.memory_map(str(path)) as file:
                start = file.read_buffer(1).address
                table_of_file = pa.ipc.open_file(file).read_all()
            stop = start + path.stat().st_size
            buffers = [
                buffer
                for column in table_of_file.columns
                for chunk in column.chunks
                for buffer in chunk.buffers()
                if buffer  # one of zero bytes lies nowhere
            ]
            assert len(buffers) >= len(table_of_file.column_names)
            assert all(start <= buffer.address <= buffer.address + buffer.size <= stop for buffer in buffers)

    def test_give_any_rows(self, dataset: CacheDataset) -> None:
        rows = np.random.default_rng(0).permutation(len(dataset))[:40]
        taken = mapped(dataset, "features").take(pa.array(rows))
        expected = dataset.gather(rows, schema_of(dataset, "features").names)
        for name, values in arrow_columns(taken).items():
            assert np.array_equal(values, expected[name].numpy()), name


class TestScans:
    @every_table
    def test_count_the_rows(self, dataset: CacheDataset, table: str) -> None:
        assert scanned(dataset, table).count_rows() == dataset.manifest.tables[table].rows

    @every_table
    def test_have_the_schema_of_the_package(self, dataset: CacheDataset, table: str) -> None:
        assert scanned(dataset, table).schema.remove_metadata().equals(schema_of(dataset, table))

    def test_hold_the_features_in_order_over_all_shards(self, dataset: CacheDataset) -> None:
        source = scanned(dataset, "features")
        assert len(list(source.get_fragments())) == len(dataset.cache.features) > 1
        assert_features(arrow_columns(source.to_table()), dataset)
        assert_features(arrow_columns(pa.Table.from_batches(source.to_batches(batch_size=7))), dataset)

    @text_tables
    def test_hold_the_texts_in_order(self, dataset: CacheDataset, table: str) -> None:
        assert scanned(dataset, table).to_table().to_pylist() == texts_of(dataset, table)

    def test_filter_and_project(self, dataset: CacheDataset) -> None:
        field = pa.dataset.field
        condition = (field("has_answer_in_segment") == 1) & (field("segment_index") < 3)
        found = scanned(dataset, "features").to_table(columns=["document", "input_ids"], filter=condition)
        features = features_of(dataset)
        wanted = (features["has_answer_in_segment"] == 1) & (features["segment_index"] < 3)
        assert found.column_names == ["document", "input_ids"]
        assert 0 < found.num_rows < len(dataset)
        for name, values in arrow_columns(found).items():
            assert np.array_equal(values, features[name][wanted]), name

    def test_filter_texts(self, dataset: CacheDataset) -> None:
        documents = texts_of(dataset, "documents")
        for wanted in (documents[0], documents[-1]):
            found = scanned(dataset, "documents").to_table(filter=pa.dataset.field("id") == wanted["id"])
            assert found.to_pylist() == [wanted]

    def test_begin_anywhere(self, dataset: CacheDataset) -> None:
        source, features = scanned(dataset, "features"), features_of(dataset)
        head = arrow_columns(source.head(5, columns=["input_ids"]))
        assert np.array_equal(head["input_ids"], features["input_ids"][:5])
        rows = [0, len(dataset) - 1, len(dataset) // 2]
        taken = arrow_columns(source.take(pa.array(rows), columns=["input_ids"]))
        assert np.array_equal(taken["input_ids"], features["input_ids"][rows])
