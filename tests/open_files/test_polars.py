"""polars: its own reader, and frames over tables that pyarrow has mapped."""

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from memxlnet.load.cache_dataset import CacheDataset
from tests.open_files.caches import (
    TEXT_TABLES,
    assert_features,
    features_of,
    mapped,
    schema_of,
    segments_of,
    shard_paths,
    texts_of,
)

text_tables = pytest.mark.parametrize("table", TEXT_TABLES)


def polars_type(kind: pa.DataType) -> Any:
    if pa.types.is_fixed_size_list(kind):
        return pl.Array(polars_type(kind.value_type), kind.list_size)
    if pa.types.is_large_list(kind):
        return pl.List(polars_type(kind.value_type))
    return {"int8": pl.Int8, "int32": pl.Int32, "int64": pl.Int64, "large_string": pl.String}[str(kind)]


def polars_schema(dataset: CacheDataset, table: str) -> pl.Schema:
    return pl.Schema({field.name: polars_type(field.type) for field in schema_of(dataset, table)})


def as_frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table, rechunk=False)
    assert isinstance(frame, pl.DataFrame)
    return frame


def numbered(frame: pl.LazyFrame, name: str) -> pl.LazyFrame:
    # Row numbers of polars are unsigned; those of the cache are int64, and a join wants one type.
    return frame.with_row_index(name).with_columns(pl.col(name).cast(pl.Int64))


def joined(features: pl.LazyFrame, documents: pl.LazyFrame, contexts: pl.LazyFrame) -> pl.DataFrame:
    span = pl.col("answer_char_stop") - pl.col("answer_char_start")
    answer = pl.when(pl.col("chosen_answer") >= 0).then(pl.col("text").str.slice(pl.col("answer_char_start"), span))
    return (
        numbered(features, "row")
        .join(numbered(documents, "document"), on="document")
        .join(numbered(contexts, "context"), on="context")
        .sort("row")
        .select("row", "id", "segment_index", "question", pl.col("text").alias("context"), answer.alias("answer"))
        .with_columns(pl.col("answer").fill_null(""))
        .collect()
    )


class TestFiles:
    def test_hold_the_features_in_order_over_all_shards(self, dataset: CacheDataset) -> None:
        frame = pl.scan_ipc(shard_paths(dataset, "features")).collect()
        assert frame.schema == polars_schema(dataset, "features")
        assert frame.null_count().sum_horizontal().item() == 0
        assert_features({column.name: column.to_numpy() for column in frame}, dataset)

    def test_are_read_one_by_one(self, dataset: CacheDataset) -> None:
        frame = pl.concat([pl.read_ipc(path) for path in shard_paths(dataset, "features")])
        assert_features({column.name: column.to_numpy() for column in frame}, dataset)

    @text_tables
    def test_hold_the_texts_in_order(self, dataset: CacheDataset, table: str) -> None:
        (path,) = shard_paths(dataset, table)
        for frame in (pl.read_ipc(path), pl.scan_ipc(path).collect()):
            assert frame.schema == polars_schema(dataset, table)
            assert frame.to_dicts() == texts_of(dataset, table)

    def test_number_their_rows(self, dataset: CacheDataset) -> None:
        frame = pl.scan_ipc(shard_paths(dataset, "features"), row_index_name="row").select("row", "document").collect()
        assert frame["row"].to_list() == list(range(len(dataset)))
        assert np.array_equal(frame["document"].to_numpy(), features_of(dataset)["document"])

    def test_filter_and_select(self, dataset: CacheDataset) -> None:
        found = (
            pl.scan_ipc(shard_paths(dataset, "features"))
            .filter((pl.col("has_answer_in_segment") == 1) & (pl.col("segment_index") < 3))
            .select("document", "input_ids")
            .collect()
        )
        features = features_of(dataset)
        wanted = (features["has_answer_in_segment"] == 1) & (features["segment_index"] < 3)
        assert 0 < found.height < len(dataset)
        assert np.array_equal(found["document"].to_numpy(), features["document"][wanted])
        assert np.array_equal(found["input_ids"].to_numpy(), features["input_ids"][wanted])

    def test_join(self, dataset: CacheDataset) -> None:
        features, documents, contexts = (
            pl.scan_ipc(shard_paths(dataset, table)) for table in ("features", "documents", "contexts")
        )
        assert joined(features, documents, contexts).to_dicts() == segments_of(dataset)


class TestMappedTables:
    def test_hold_the_features_without_a_copy(self, dataset: CacheDataset) -> None:
        table = mapped(dataset, "features")
        frame = as_frame(table)
        assert frame.schema == polars_schema(dataset, "features")
        assert_features({column.name: column.to_numpy() for column in frame}, dataset)
        for column in frame:
            places = [chunk.to_arrow().buffers()[-1].address for chunk in column.get_chunks()]
            assert places == [chunk.buffers()[-1].address for chunk in table[column.name].chunks], column.name

    @text_tables
    def test_hold_the_texts(self, dataset: CacheDataset, table: str) -> None:
        frame = as_frame(mapped(dataset, table))
        assert frame.schema == polars_schema(dataset, table)
        assert frame.to_dicts() == texts_of(dataset, table)

    def test_join(self, dataset: CacheDataset) -> None:
        tables = (as_frame(mapped(dataset, table)).lazy() for table in ("features", "documents", "contexts"))
        assert joined(*tables).to_dicts() == segments_of(dataset)
