"""NumPy and torch over the mapped files, without memxlnet: what one record batch of contiguous columns is good for."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from arrow_schemas import TABLES
from memxlnet.load.cache_dataset import CacheDataset
from tests.open_files.caches import mapped, schema_of, shard_paths


def values_of(column: pa.Array) -> pa.Array:
    return column.values if pa.types.is_fixed_size_list(column.type) else column


def only_batch(path: Path) -> pa.RecordBatch:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    assert reader.num_record_batches == 1
    return reader.get_batch(0)


def columns_by_memxlnet(dataset: CacheDataset, name: str) -> list[torch.Tensor]:
    columns = dataset.column(name)
    assert isinstance(columns, list)
    return columns


def test_numpy_views_are_the_columns(dataset: CacheDataset) -> None:
    for shard, path in enumerate(shard_paths(dataset, "features")):
        batch = only_batch(path)
        for name in batch.schema.names:
            flat = values_of(batch[name]).to_numpy(zero_copy_only=True)
            assert flat.flags.c_contiguous
            assert not flat.flags.writeable
            expected = columns_by_memxlnet(dataset, name)[shard].numpy()
            assert flat.dtype == expected.dtype, name
            assert np.array_equal(flat.reshape(expected.shape), expected), name


def test_torch_tensors_over_a_private_map_are_the_columns(dataset: CacheDataset) -> None:
    for shard, path in enumerate(shard_paths(dataset, "features")):
        content = path.read_bytes()
        with path.open("rb") as file:
            private = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        whole = pa.py_buffer(private)
        batch = pa.ipc.open_file(whole).get_batch(0)
        for name in batch.schema.names:
            expected = columns_by_memxlnet(dataset, name)[shard]
            offset = batch[name].buffers()[-1].address - whole.address
            tensor = torch.frombuffer(private, dtype=expected.dtype, count=expected.numel(), offset=offset)
            assert torch.equal(tensor.view(expected.shape), expected), name
            tensor.fill_(-1)
        assert path.read_bytes() == content


@pytest.mark.parametrize("table", TABLES)
def test_buffers_are_aligned_by_eight_bytes_in_the_file(dataset: CacheDataset, table: str) -> None:
    for path in shard_paths(dataset, table):
        with pa.memory_map(str(path)) as file:
            start = file.read_buffer(1).address
            found = pa.ipc.open_file(file).read_all()
        buffers: list[Any] = [
            buffer for column in found.columns for chunk in column.chunks for buffer in chunk.buffers() if buffer
        ]
        assert len(buffers) >= len(schema_of(dataset, table))
        assert {(buffer.address - start) % 8 for buffer in buffers} == {0}
        assert start % mmap.PAGESIZE == 0


def test_shards_stay_chunks_of_their_own(dataset: CacheDataset) -> None:
    rows = [shard.row_stop - shard.row_start for shard in dataset.cache.features]
    table = mapped(dataset, "features")
    for column in table.columns:
        assert [len(chunk) for chunk in column.chunks] == rows
        assert [chunk.offset for chunk in column.chunks] == [0] * len(rows)
