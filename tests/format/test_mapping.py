"""A published file in memory: no copy, no warning, no harm from a write, and a copy where a map is refused."""

import errno
import json
import mmap
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from arrow_schemas import features_schema
from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.errors import CacheDamagedError
from memxlnet.format.mapping import MappedFile
from memxlnet.format.published import PublishedCache
from tests.format.content import chunks, make_content, publish, settings
from tests.support import ROOT, WAIT_SECONDS

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits and /proc")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(np.arange(5000, dtype=np.int64).tobytes())
    return path


@pytest.fixture
def cache(tmp_path: Path) -> PublishedCache:
    return PublishedCache(publish(make_content(1, 4, ["a"], [(0, 5)] * 4), tmp_path / "caches", [2]).directory)


def test_arrays_are_views_of_the_map(file: Path) -> None:
    allocated = pa.total_allocated_bytes()
    mapped = MappedFile(file)
    values = mapped.array(np.int64, 10, 80)
    assert values.tolist() == list(range(10, 20))
    assert values.ctypes.data == mapped.buffer.address + 80
    assert mapped.size == mapped.buffer.size == 40_000
    assert pa.total_allocated_bytes() == allocated
    assert str(file) in Path("/proc/self/maps").read_text() or sys.platform != "linux"


def test_tensors_over_the_map_warn_of_nothing(file: Path) -> None:
    values = MappedFile(file).array(np.int64, 5000, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = torch.from_numpy(values)
    assert tensor.data_ptr() == values.ctypes.data
    assert values.flags.writeable


def test_a_write_reaches_neither_the_file_nor_another_map(file: Path) -> None:
    content = file.read_bytes()
    one, two = MappedFile(file), MappedFile(file)
    assert one.writable
    tensor = torch.from_numpy(one.array(np.int64, 5000, 0))
    tensor.fill_(-1)
    tensor.add_(1)
    assert one.array(np.int64, 3, 0).tolist() == [0, 0, 0]
    assert two.array(np.int64, 3, 0).tolist() == [0, 1, 2]
    assert MappedFile(file).array(np.int64, 3, 0).tolist() == [0, 1, 2]
    assert file.read_bytes() == content


def test_a_write_to_a_column_stays_in_the_cache_object(cache: PublishedCache) -> None:
    expected = PublishedCache(cache.directory).features[0].columns["input_ids"].copy()
    cache.features[0].columns["input_ids"][:] = 7
    assert (cache.features[0].columns["input_ids"] == 7).all()
    assert np.array_equal(PublishedCache(cache.directory).features[0].columns["input_ids"], expected)


def test_the_map_lives_as_long_as_an_array_over_it(file: Path) -> None:
    values = MappedFile(file).array(np.int64, 5000, 0)
    assert values.sum() == 5000 * 4999 // 2


def test_an_unlinked_file_is_still_read(file: Path) -> None:
    mapped = MappedFile(file)
    file.unlink()
    assert mapped.array(np.int64, 5000, 0)[-1] == 4999


def test_a_replaced_cache_is_still_read(tmp_path: Path) -> None:
    content = make_content(1, 4, ["a", "b"], [(0, 5), (1, 3)])
    cache = PublishedCache(publish(content, tmp_path, [2]).directory)
    expected = cache.features[0].columns["input_ids"].tolist()
    again = publish(content, tmp_path, [1])
    assert again.directory == cache.directory
    assert [path.name for path in tmp_path.iterdir()] == [cache.directory.name]
    assert cache.features[0].columns["input_ids"].tolist() == expected
    assert cache.contexts.text("text", 1) == "b"


def test_in_memory_reads_the_bytes(file: Path) -> None:
    mapped = MappedFile(file, in_memory=True)
    file.write_bytes(bytes(40_000))
    values = mapped.array(np.int64, 5000, 0)
    assert values[-1] == 4999
    values[0] = 3
    assert mapped.writable


@linux_only
def test_a_file_larger_than_ram_and_swap_is_mapped(tmp_path: Path) -> None:
    numbers = {
        line.split(":")[0]: int(line.split()[1]) * 1024 for line in Path("/proc/meminfo").read_text().splitlines()
    }
    size = 10 * (numbers["MemTotal"] + numbers["SwapTotal"])
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        try:
            file.truncate(size)
        except OSError as error:
            pytest.skip(f"the file system holds no sparse file of {size} bytes: {error}")
        file.seek(size - 8)
        file.write(np.int64(42).tobytes())
    mapped = MappedFile(path)
    assert mapped.writable
    assert mapped.size == size
    last = mapped.array(np.int64, 1, size - 8)
    assert last.tolist() == [42]
    last[0] = 43
    assert mapped.array(np.int64, size // 8, 0)[-1] == 43
    path.unlink()


def test_a_refused_private_map_becomes_a_read_only_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = mmap.mmap

    def refuse(descriptor: int, length: int, flags: int, prot: int) -> mmap.mmap:
        if flags & mmap.MAP_PRIVATE:
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return plain(descriptor, length, flags=flags, prot=prot)

    monkeypatch.setattr("memxlnet.format.mapping.mmap.mmap", refuse)
    mapped = MappedFile(file)
    assert not mapped.writable
    values = mapped.array(np.int64, 5000, 0)
    assert values.tolist() == list(range(5000))
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


def test_a_missing_or_empty_file_is_damage(tmp_path: Path) -> None:
    with pytest.raises(CacheDamagedError, match="nowhere"):
        MappedFile(tmp_path / "nowhere")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(CacheDamagedError, match="empty"):
        MappedFile(tmp_path / "empty")


LIMITED = """
import json, logging, resource, sys, warnings
from pathlib import Path

import numpy as np
import torch

from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.verify import verify_bytes

directory, limit = Path(sys.argv[1]), sys.argv[2]
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
messages = []
handler = logging.Handler()
handler.emit = lambda record: messages.append(record.getMessage())
logging.getLogger("memxlnet").addHandler(handler)
if limit == "RLIMIT_DATA":
    used = int(status["VmData"].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + (48 << 20), resource.RLIM_INFINITY))
warnings.simplefilter("error")
dataset = CacheDataset(directory)
shard = dataset.cache.features[0]
first, last = dataset[0], dataset[-1]
first["input_ids"].fill_(5)
column = dataset.column("start_positions")
gathered = dataset.gather([0, len(dataset) - 1])
gathered["input_ids"].add_(1)
again = dataset.gather([0])["input_ids"][0, :4].tolist()
documents = list(dataset.get_all_documents())
verify_bytes(directory)
try:
    shard.columns["input_ids"][0] = 1
    refused = ""
except ValueError as error:
    refused = str(error)
print(json.dumps({
    "writable": shard.writable,
    "refused": refused,
    "messages": messages,
    "last": last["input_ids"].tolist()[:4],
    "column": [column[0].item(), column[-1].item()],
    "again": again,
    "documents": documents,
    "context": last["context"],
    "pointer": column.data_ptr() == shard.columns["start_positions"].ctypes.data,
}))
"""


@pytest.mark.slow
@linux_only
def test_reads_work_where_the_system_refuses_a_private_map(tmp_path: Path) -> None:
    directory = publish_large(tmp_path)
    free, limited = (run_limited(directory, limit) for limit in ("none", "RLIMIT_DATA"))
    assert free["writable"] is True
    assert free["messages"] == []
    assert free["pointer"] is True
    assert free["refused"] == ""
    assert limited["writable"] is False
    assert "read-only" in limited["refused"]
    assert limited["pointer"] is False
    (message,) = set(limited["messages"])
    assert message.startswith(f"{directory}: the system refuses private maps")
    for name in ("last", "column", "documents", "context"):
        assert limited[name] == free[name]
    assert free["last"] == [7, 7, 7, 7]
    assert limited["again"] == [7, 7, 7, 7]  # a write to a copy changed no row
    assert free["again"] == [5, 5, 5, 5]  # a write to a view stays visible in the process


def publish_large(tmp_path: Path) -> Path:
    """A cache of 40 rows whose features take more than 100 MB of address space."""
    length = 1 << 19
    content = make_content(1, 4, ["the context"], [(0, 1)] * 40)
    numbers = {"chosen_answer": -1, "question_token_starts": [], "question_token_stops": []}
    contexts = {"the context": {"text": "the context", "token_starts": [], "token_stops": []}}
    items = [document._replace(columns={**document.columns, **numbers}) for document in content.documents]
    (tables,) = chunks(content._replace(items=list(items), contexts=contexts), [40])
    schema = features_schema(length)
    columns = {"document": pa.array(range(40)), "start_positions": pa.array([9] * 40)}
    for field in schema:
        if pa.types.is_fixed_size_list(field.type):
            values = pa.array(np.full(40 * length, 7), field.type.value_type)
            columns[field.name] = pa.FixedSizeListArray.from_arrays(values, type=field.type)
        elif field.name not in columns:
            columns[field.name] = pa.array([0] * 40, field.type)
    arrays = [columns[field.name] for field in schema]
    writer = CacheWriter(tmp_path)
    writer.begin(settings(length))
    features = pa.RecordBatch.from_arrays(arrays, schema=schema)
    return writer.finish([writer.write_chunk(0, {**tables, "features": features})]).directory


def run_limited(directory: Path, limit: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(directory), limit],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result
