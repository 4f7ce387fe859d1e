"""Write, publish, map: the identity for arbitrary content, and the same bytes however it was cut into chunks."""

import json
import tempfile
from collections import Counter
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrow_schemas import ALIGNMENTS, FileMetadata
from memxlnet.builder import chunks_to_shards as publish_module
from memxlnet.builder.cache_writer import BuildSummary
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.verify import verify_bytes
from tests.format.content import (
    Content,
    contents,
    cuts,
    files_of,
    make_content,
    publish,
    read_tables,
    read_with_pyarrow,
    settings,
    tables_of,
)
from tests.support import in_quarters

shard_rows = st.none() | st.integers(1, 8)


@in_quarters
@given(contents(), cuts(), shard_rows, st.integers(1, 4), st.integers(1, 3))
def test_what_is_written_is_what_is_read_and_counted(
    quarter: int,
    content: Content,
    sizes: list[int],
    max_shard_rows: int | None,
    documents_batch: int,
    contexts_batch: int,
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(publish_module, "DOCUMENTS_BATCH_ROWS", documents_batch),
        mock.patch.object(publish_module, "CONTEXTS_BATCH_ROWS", contexts_batch),
    ):
        summary = publish(content, Path(folder), sizes, max_shard_rows)
        expected = tables_of(content)
        verify_bytes(summary.directory)
        for in_memory in (False, True):
            assert read_tables(PublishedCache(summary.directory, in_memory)) == expected
        cache = PublishedCache(summary.directory)
        assert read_with_pyarrow(cache) == expected
        assert cache.documents.column("first_segment").tolist() == [
            row["first_segment"] for row in expected["documents"]
        ]
        rows = len(expected["features"])
        wanted = min(max_shard_rows or rows, rows)
        assert [shard.row_stop - shard.row_start for shard in cache.features[:-1]] == [wanted] * ((rows - 1) // wanted)
        assert (summary.features, summary.documents, summary.contexts) == (
            rows,
            len(content.documents),
            len(expected["contexts"]),
        )
        check_counts(cache, summary, content)


def check_counts(cache: PublishedCache, summary: BuildSummary, content: Content) -> None:
    """Check that counts and the report of dropped examples follow the content."""
    counts = Counter(document.columns["alignment"] for document in content.documents)
    assert cache.manifest.alignment == {name: counts[name] for name in ALIGNMENTS}
    without = sum(
        document.columns["chosen_answer"] >= 0 and document.columns["num_answer_segments"] == 0
        for document in content.documents
    )
    assert cache.manifest.documents_without_answer_segment == without
    assert cache.manifest.dropped_examples == summary.dropped_examples == len(content.dropped)
    report = cache.directory / "dropped.jsonl"
    assert report.exists() == bool(content.dropped)
    if content.dropped:
        lines = report.read_text(encoding="utf-8").split("\n")[:-1]
        assert [json.loads(line) for line in lines] == [entry._asdict() for entry in content.dropped]


@pytest.mark.slow
@given(contents(), cuts(), cuts(), shard_rows)
def test_other_chunks_give_the_same_bytes(
    content: Content, some: list[int], others: list[int], max_shard_rows: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        one = publish(content, Path(folder, "one"), some, max_shard_rows)
        two = publish(content, Path(folder, "two"), others, max_shard_rows, chunking="other chunks")
        assert one.directory.name == two.directory.name
        assert files_of(one.directory) == files_of(two.directory)
        assert sorted(path.name for path in Path(folder, "one").iterdir()) == [one.directory.name]


def test_a_table_beyond_what_one_arrow_array_may_hold_gets_more_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make_content(1, 4, ["a", "b"], [(0, 3), (1, 3), (0, 4)])
    monkeypatch.setattr(publish_module, "MAX_LIST_VALUES", 15)  # three rows of four values
    cache = PublishedCache(publish(content, tmp_path, [2]).directory)
    assert [(shard.row_start, shard.row_stop) for shard in cache.features] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert [record.file for record in cache.manifest.tables["features"].shards] == [
        "features-00000.arrow",
        "features-00001.arrow",
        "features-00002.arrow",
        "features-00003.arrow",
    ]
    assert read_tables(cache) == tables_of(content)
    # A limit that the user sets higher than Arrow's does not lift it.
    wider = publish(content, tmp_path / "wider", [2], max_shard_rows=5)
    assert files_of(wider.directory) == files_of(cache.directory)


def test_every_file_holds_what_it_is(tmp_path: Path) -> None:
    content = make_content(2, 4, ["a", "b"], [(0, 3), (1, 2)])
    cache = PublishedCache(publish(content, tmp_path, [1], max_shard_rows=3).directory)
    fingerprint = settings(4).fingerprint
    assert cache.manifest.fingerprint == fingerprint
    expected = {
        "features-00000.arrow": FileMetadata("features", 0, 0, 3, fingerprint),
        "features-00001.arrow": FileMetadata("features", 1, 3, 5, fingerprint),
        "documents-00000.arrow": FileMetadata("documents", 0, 0, 2, fingerprint),
        "contexts-00000.arrow": FileMetadata("contexts", 0, 0, 2, fingerprint),
    }
    found = {
        path.name: FileMetadata.decode(pa.ipc.open_file(path).schema.metadata)
        for path in cache.directory.glob("*.arrow")
    }
    assert found == expected


def test_features_are_one_record_batch_of_contiguous_columns(tmp_path: Path) -> None:
    content = make_content(3, 5, ["a"], [(0, 5)] * 4)
    cache = PublishedCache(publish(content, tmp_path, [1]).directory)
    reader = pa.ipc.open_file(cache.directory / "features-00000.arrow")
    assert reader.num_record_batches == 1
    assert cache.features[0].columns["input_ids"].shape == (20, 5)
    assert cache.features[0].columns["input_ids"].flags.c_contiguous
    assert [values.dtype.name for values in cache.features[0].columns.values()] == [
        *("int32", "int8", "int8", "int64", "int64", "int64"),
        *("int32",) * 6,
        "int8",
    ]


def test_documents_are_in_batches_of_a_fixed_row_count(tmp_path: Path) -> None:
    contexts_of = [f"context {number}" for number in range(130)]
    content = make_content(4, 1, contexts_of, [(number % 130, 1) for number in range(1030)])
    cache = PublishedCache(publish(content, tmp_path, [700]).directory)
    documents = pa.ipc.open_file(cache.directory / "documents-00000.arrow")
    assert [documents.get_batch(n).num_rows for n in range(documents.num_record_batches)] == [1024, 6]
    contexts = pa.ipc.open_file(cache.directory / "contexts-00000.arrow")
    assert [contexts.get_batch(n).num_rows for n in range(contexts.num_record_batches)] == [64, 64, 2]
    assert read_tables(cache) == tables_of(content)
