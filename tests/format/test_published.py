"""Opening refuses a missing, swapped, truncated, extended or foreign file, and costs the number of shards."""

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrow_schemas import FileMetadata, features_schema, with_metadata
from memxlnet.errors import CacheDamagedError, CacheNotFoundError
from memxlnet.format import published as cache_module
from memxlnet.format.file_layout import lay_out
from memxlnet.format.manifest import read_manifest
from memxlnet.format.mapping import MappedFile
from memxlnet.format.published import PublishedCache
from memxlnet.format.text_table import TextTable
from tests.format.content import make_content, publish, read_tables, settings, tables_of

# Two shards of features of one size, so that only their metadata shows which is which.
CONTENT = make_content(1, 4, ["a", "b"], [(0, 3), (1, 2), (0, 1)])
SHARDS = ("contexts-00000.arrow", "documents-00000.arrow", "features-00000.arrow", "features-00001.arrow")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(CONTENT, tmp_path_factory.mktemp("caches"), [2], max_shard_rows=3).directory


@pytest.fixture
def cache(published: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(published, tmp_path / published.name))


@pytest.mark.parametrize("name", [*SHARDS, "tokenizer.json"])
def test_a_missing_file_is_named(cache: Path, name: str) -> None:
    (cache / name).unlink()
    with pytest.raises(CacheDamagedError, match=name):
        PublishedCache(cache)


@pytest.mark.parametrize("name", SHARDS)
def test_a_truncated_file_is_named_wherever_it_ends(cache: Path, name: str) -> None:
    content = (cache / name).read_bytes()
    for size in sorted({0, 1, 8, len(content) - 1, *range(0, len(content), 97)}):
        os.truncate(cache / name, 0)
        (cache / name).write_bytes(content[:size])
        with pytest.raises(CacheDamagedError, match=rf"{name}:.*\b{len(content)}\b.*\b{size}\b"):
            PublishedCache(cache)


@pytest.mark.parametrize("name", SHARDS)
def test_an_extended_file_is_named(cache: Path, name: str) -> None:
    with (cache / name).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CacheDamagedError, match=name):
        PublishedCache(cache)


def test_two_swapped_shards_are_named(cache: Path) -> None:
    one, two = (cache / name for name in ("features-00000.arrow", "features-00001.arrow"))
    assert one.stat().st_size == two.stat().st_size
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    with pytest.raises(CacheDamagedError, match=r"features-00000\.arrow:.*memxlnet\.row_start.*'0'.*'3'"):
        PublishedCache(cache)


@pytest.mark.parametrize("name", SHARDS)
def test_a_file_of_another_cache_is_named(cache: Path, tmp_path: Path, name: str) -> None:
    other = publish(CONTENT, tmp_path / "other", [2], max_shard_rows=3, split="other").directory
    assert (other / name).stat().st_size == (cache / name).stat().st_size
    shutil.copy(other / name, cache / name)
    with pytest.raises(CacheDamagedError, match=rf"{name}:.*memxlnet\.fingerprint"):
        PublishedCache(cache)


@pytest.mark.parametrize("name", SHARDS)
def test_a_foreign_file_of_the_same_size_is_named(cache: Path, name: str) -> None:
    size = (cache / name).stat().st_size
    for content in (bytes(size), b"ARROW1\0\0" + bytes(size - 14) + b"ARROW1", b"\xff" * size):
        (cache / name).write_bytes(content)
        with pytest.raises(CacheDamagedError, match=f"{name}:.*Arrow"):
            PublishedCache(cache)


@pytest.mark.parametrize("name", SHARDS)
def test_a_directory_in_place_of_a_file_is_named(cache: Path, name: str) -> None:
    (cache / name).unlink()
    (cache / name).mkdir()
    with pytest.raises(CacheDamagedError, match=name):
        PublishedCache(cache)


@given(st.sampled_from(SHARDS), st.data())
def test_a_hole_in_the_structure_is_never_another_error(
    published: Path, tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    cache = Path(shutil.copytree(published, tmp_path_factory.mktemp("damaged") / "cache"))
    content = bytearray((cache / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 8))
    content[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    (cache / name).write_bytes(content)
    outcome = None
    try:
        opened = PublishedCache(cache)
        opened.documents.validate()
        opened.contexts.validate()
    except CacheDamagedError as error:
        outcome = str(error)
    assert outcome is None or name in outcome


def replace_features(cache: Path, schema: pa.Schema, batches: list[pa.RecordBatch]) -> int:
    """Write another file in place of the first features shard; return its size."""
    path = cache / "features-00000.arrow"
    path.unlink()
    with pa.ipc.new_file(str(path), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return path.stat().st_size


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("two batches", r"batch.*\b2"),
        ("fewer rows", r"\b3\b.*rows.*\b2"),
        ("nulls", "null"),
        ("compressed", "buffer"),
        ("column less", "has_answer_in_segment:.*int8"),
        ("column more", "extra:.*int8"),
        ("wider", r"input_ids.*\[4\].*\[5\]"),
    ],
)
def test_a_file_of_another_structure_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    rows = tables_of(CONTENT)["features"][:3]
    schema = with_metadata(features_schema(4), FileMetadata("features", 0, 0, 3, settings(4).fingerprint))
    batch = pa.RecordBatch.from_pylist(rows, schema=schema)
    batches = [batch]
    if kind == "two batches":
        batches = [batch.slice(0, 1), batch.slice(1)]
    elif kind == "fewer rows":
        batches = [batch.slice(0, 2)]
    elif kind == "nulls":
        batches = [batch.set_column(3, schema.field(3), pa.array([1, None, 3], pa.int64()))]
    elif kind == "column less":
        schema = schema.remove(len(schema) - 1)
        batches = [batch.select(schema.names).replace_schema_metadata(schema.metadata)]
    elif kind == "column more":
        schema = schema.append(pa.field("extra", pa.int8(), nullable=False))
        batches = [pa.RecordBatch.from_arrays([*batch.columns, pa.array([1, 2, 3], pa.int8())], schema=schema)]
    elif kind == "wider":
        schema = with_metadata(features_schema(5), FileMetadata("features", 0, 0, 3, settings(4).fingerprint))
        wider = ("input_ids", "attention_mask", "token_type_ids")
        batches = [
            pa.RecordBatch.from_pylist([{**row, **{n: [*row[n], 0] for n in wider}} for row in rows], schema=schema)
        ]
    if kind == "compressed":
        path = cache / "features-00000.arrow"
        path.unlink()
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(str(path), schema, options=options) as writer:
            writer.write_batch(batch)
    else:
        replace_features(cache, schema, batches)
    # The size is checked before anything else, so that check has to pass here.
    monkeypatch.setattr(cache_module, "_check_size", lambda path, size: None)
    monkeypatch.setattr(MappedFile, "__init__", pretending_size(cache, MappedFile.__init__))
    with pytest.raises(CacheDamagedError, match=message):
        PublishedCache(cache)


def pretending_size(cache: Path, plain: Any) -> Any:
    """Give a file the size that the manifest names."""
    sizes = {record.file: record.bytes for record in read_manifest(cache).all_files()}

    def init(self: MappedFile, path: Path, in_memory: bool = False) -> None:
        plain(self, path, in_memory)
        self.size = sizes[path.name]

    return init


def test_opening_reads_no_rows(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("read")

    monkeypatch.setattr(TextTable, "_batch", refuse)
    opened = PublishedCache(cache)
    with pytest.raises(AssertionError, match=r"^read$"):
        opened.documents.text("id", 0)


def test_opening_maps_each_shard_once_whatever_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped: list[str] = []
    plain = MappedFile.__init__

    def count(self: MappedFile, path: Path, in_memory: bool = False) -> None:
        mapped.append(path.name)
        plain(self, path, in_memory)

    monkeypatch.setattr(MappedFile, "__init__", count)
    for documents in (10, 400):
        content = make_content(1, 2, ["a"], [(0, 5)] * documents)
        directory = publish(content, tmp_path / str(documents), [100]).directory
        mapped.clear()
        PublishedCache(directory)
        assert mapped == ["features-00000.arrow", "documents-00000.arrow", "contexts-00000.arrow"]


def test_opening_costs_no_more_for_a_hundred_times_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages touched, not time: a laid-out file is sparse, and opening it reads next to nothing of it."""
    schema = with_metadata(features_schema(384), FileMetadata("features", 0, 0, 300_000, "f"))
    monkeypatch.setattr("memxlnet.format.file_layout._reserve", lambda descriptor, size: None)
    path = tmp_path / "features-00000.arrow"
    lay_out(path, schema, 300_000)
    before = resident_kib()
    file = MappedFile(path)
    batch = pa.ipc.open_file(file.buffer).get_batch(0)
    assert batch.num_rows == 300_000
    values = file.array("int32", 384, batch.column(0).flatten().buffers()[1].address - file.buffer.address)
    assert values.tolist() == [0] * 384
    assert resident_kib() - before < 4096
    path.unlink()


def resident_kib() -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs /proc/self/status")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


def test_a_cache_can_be_read_without_permission_to_write(cache: Path) -> None:
    for path in (*cache.iterdir(), cache):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert read_tables(PublishedCache(cache)) == tables_of(CONTENT)
        assert sorted(path.name for path in cache.parent.iterdir()) == [cache.name]
    finally:
        cache.chmod(0o755)


def test_a_cache_may_be_moved_and_renamed(cache: Path, tmp_path: Path) -> None:
    moved = cache.rename(tmp_path / "any name")
    assert read_tables(PublishedCache(moved)) == tables_of(CONTENT)


def test_its_counts_and_tokenizer(published: Path) -> None:
    opened = PublishedCache(published)
    assert (opened.num_rows, opened.num_documents) == (6, 3)
    assert opened.tokenizer_file == published / "tokenizer.json"
    assert opened.tokenizer_file.read_text() == '{"model":null}'


def test_a_row_that_a_damaged_value_points_to_is_never_read(published: Path) -> None:
    contexts = PublishedCache(published).contexts
    for row in (-(10**9), 10**9, 2**62):
        with pytest.raises(CacheDamagedError, match="contexts"):
            contexts.text("text", row)


def test_a_missing_cache(tmp_path: Path) -> None:
    with pytest.raises(CacheNotFoundError):
        PublishedCache(tmp_path / "none")
