"""The library `datasets`: `load_dataset` takes the files, `Dataset.from_file` reads only Arrow's stream format."""

from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest

from arrow_schemas import TABLES
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


def load(dataset: CacheDataset, table: str, cache_dir: Path) -> Any:
    files = {"train": [str(path) for path in shard_paths(dataset, table)]}
    return datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=str(cache_dir))


def test_features_are_loaded_in_order_over_all_shards(dataset: CacheDataset, tmp_path: Path) -> None:
    loaded = load(dataset, "features", tmp_path)
    assert loaded.column_names == schema_of(dataset, "features").names
    assert_features(arrow_columns(loaded.with_format("arrow")[:]), dataset)


def test_rows_come_as_tensors(dataset: CacheDataset, tmp_path: Path) -> None:
    loaded = load(dataset, "features", tmp_path).with_format("torch")
    features = features_of(dataset)
    for row in (0, len(dataset) // 2, len(dataset) - 1):
        assert {name: value.tolist() for name, value in loaded[row].items()} == {
            name: values[row].tolist() for name, values in features.items()
        }


@pytest.mark.parametrize("table", TEXT_TABLES)
def test_texts_are_loaded_in_order(dataset: CacheDataset, table: str, tmp_path: Path) -> None:
    loaded = load(dataset, table, tmp_path)
    assert loaded.column_names == schema_of(dataset, table).names
    assert list(loaded) == texts_of(dataset, table)


def test_rows_are_filtered(sample: CacheDataset, tmp_path: Path) -> None:
    loaded = load(sample, "features", tmp_path).select_columns(["document", "has_answer_in_segment"])
    found = loaded.filter(lambda row: row["has_answer_in_segment"] == 1)
    features = features_of(sample)
    assert found["document"][:] == features["document"][features["has_answer_in_segment"] == 1].tolist()


@pytest.mark.parametrize("table", TABLES)
def test_from_file_refuses_the_file_format(sample: CacheDataset, table: str, tmp_path: Path) -> None:
    with pytest.raises(pa.ArrowInvalid):
        datasets.Dataset.from_file(str(shard_paths(sample, table)[0]))
    # The same rows as a stream are what it takes, so that nothing else was refused.
    content = mapped(sample, table)
    with pa.ipc.new_stream(str(tmp_path / "stream"), content.schema) as stream:
        stream.write_table(content)
    assert datasets.Dataset.from_file(str(tmp_path / "stream")).column_names == content.column_names
