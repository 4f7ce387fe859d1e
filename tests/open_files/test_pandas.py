"""pandas: Feather version 2 is the IPC file format, and frames over tables that pyarrow has mapped."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from memxlnet.load.cache_dataset import CacheDataset
from tests.open_files.caches import TEXT_TABLES, assert_features, features_of, mapped, shard_paths, texts_of

text_tables = pytest.mark.parametrize("table", TEXT_TABLES)


def feather(paths: list[Path], **options: Any) -> Any:
    return pd.concat([pd.read_feather(path, **options) for path in paths], ignore_index=True)


def columns_of(frame: Any) -> dict[str, Any]:
    return {
        name: np.stack(frame[name].to_list()) if frame[name].dtype == object else frame[name].to_numpy()
        for name in frame.columns
    }


def plain_rows(frame: Any) -> list[dict[str, Any]]:
    return [
        {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


class TestFeather:
    def test_holds_the_features(self, dataset: CacheDataset) -> None:
        assert_features(columns_of(feather(shard_paths(dataset, "features"))), dataset)

    @text_tables
    def test_holds_the_texts(self, dataset: CacheDataset, table: str) -> None:
        assert plain_rows(feather(shard_paths(dataset, table))) == texts_of(dataset, table)

    def test_reads_some_columns(self, dataset: CacheDataset) -> None:
        frame = feather(shard_paths(dataset, "features"), columns=["document", "segment_index"])
        assert frame.columns.tolist() == ["document", "segment_index"]
        for name in frame.columns:
            assert np.array_equal(frame[name].to_numpy(), features_of(dataset)[name])

    @text_tables
    def test_keeps_arrow_types_where_it_is_asked_to(self, dataset: CacheDataset, table: str) -> None:
        (path,) = shard_paths(dataset, table)
        frame = pd.read_feather(path, dtype_backend="pyarrow")
        assert all(isinstance(kind, pd.ArrowDtype) for kind in frame.dtypes)
        assert plain_rows(frame) == texts_of(dataset, table)


class TestMappedTables:
    def test_hold_the_features(self, dataset: CacheDataset) -> None:
        assert_features(columns_of(mapped(dataset, "features").to_pandas()), dataset)

    @text_tables
    def test_hold_the_texts(self, dataset: CacheDataset, table: str) -> None:
        assert plain_rows(mapped(dataset, table).to_pandas()) == texts_of(dataset, table)

    def test_hand_out_token_rows_of_one_shard_without_a_copy(self, dataset: CacheDataset) -> None:
        for path in shard_paths(dataset, "features"):
            column = pa.ipc.open_file(pa.memory_map(str(path))).read_all()["input_ids"]
            (chunk,) = column.chunks
            place, width = chunk.buffers()[-1].address, 4 * dataset.manifest.max_seq_length
            cells = column.to_pandas()
            assert [cell.ctypes.data for cell in cells] == [place + width * row for row in range(len(cells))]

    def test_stay_arrow_where_they_are_asked_to(self, dataset: CacheDataset) -> None:
        table = mapped(dataset, "features")
        before = pa.total_allocated_bytes()
        frame = table.to_pandas(types_mapper=pd.ArrowDtype)
        assert pa.total_allocated_bytes() - before < 2_000
        assert np.array_equal(frame["document"].to_numpy(), features_of(dataset)["document"])
        assert pa.Table.from_pandas(frame, preserve_index=False).cast(table.schema).equals(table)

    def test_are_queried_and_grouped(self, dataset: CacheDataset) -> None:
        frame = mapped(dataset, "features").select(["document", "segment_index"]).to_pandas()
        documents = texts_of(dataset, "documents")
        assert frame.groupby("document").size().tolist() == [document["num_segments"] for document in documents]
        assert (frame.query("segment_index == 0").index == [document["first_segment"] for document in documents]).all()
