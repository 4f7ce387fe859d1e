"""The calls that build a cache: what they return, what they refuse, where they write."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pyarrow as pa
import pytest

from arrow_schemas import ALIGNMENTS, DROPPED, TABLES, table_schema
from memxlnet import Cache, Parts, create_dataset_from_cache
from memxlnet.builder import chunk_encoding as tasks
from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.builder.chunk_files import ChunkReceipt
from memxlnet.builder.chunks_to_shards import Publisher
from memxlnet.data.process import StreamingSquadProcessor, process_and_cache_dataset
from memxlnet.data.streaming import create_streaming_processor
from memxlnet.encode.cache_settings import CacheSettings
from memxlnet.errors import (
    BuildError,
    CacheDamagedError,
    CacheDirectoryError,
    ExampleError,
    MemoryLimitError,
    SettingsError,
    SourceError,
    SourceNotFoundError,
    TokenizerError,
)
from memxlnet.format.manifest import read_manifest
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.encoding_rules import read_dropped
from memxlnet.maintain.verify import verify
from memxlnet.settings import BuildSettings, EncodeSettings
from memxlnet.sources import SourceOptions
from tests.builder.processes import published
from tests.format.content import files_of
from tests.golden.make_golden import golden_tokenizer
from tests.support import ROOT, WAIT_SECONDS, example, long_examples, short, slow, slow_but, write_json_lines


def build(rows: Any, cache_dir: Any, split: str = "test", **changes: Any) -> int:
    arguments = {
        "max_seq_length": 32,
        "doc_stride": 8,
        "tokenizer": golden_tokenizer(),
        "progress": False,
        **changes,
    }
    return process_and_cache_dataset(rows, split, cache_dir, **arguments)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# --- what is returned and recorded


def test_the_number_of_features_is_returned(tmp_path: Path) -> None:
    features = build(long_examples(7, words=50), tmp_path)
    (directory,) = published(tmp_path)
    cache = PublishedCache(directory)
    assert features == cache.num_rows == read_manifest(directory).tables["features"].rows > 7
    assert build(long_examples(7, words=50), tmp_path) == features  # found
    assert build(long_examples(7, words=50), tmp_path, rebuild=True) == features


@pytest.mark.parametrize(("wanted", "expected"), [(1, 1), (3, 3), (7, 7), (8, 7), (None, 7)])
@pytest.mark.parametrize("chunk", slow_but([2], [2, 3, 100]))
def test_max_examples_is_exact(tmp_path: Path, wanted: int | None, expected: int, chunk: int) -> None:
    rows = [example("the lamp", id=str(number)) for number in range(7)]
    assert build(rows, tmp_path, max_examples=wanted, streaming_chunk_size=chunk) == expected
    (directory,) = published(tmp_path)
    cache = PublishedCache(directory)
    assert [cache.documents.text("id", row) for row in range(cache.num_documents)] == list("0123456")[:expected]


def test_the_outcome_of_every_example_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        example("the lamp was lit", "who", [("lamp", 4)], id="exact"),
        example("the lamp was lit", "who", [("lamp", 0)], id="repaired"),
        example("the lamp was lit", "who", [("keeper", 0)], id="lost"),
        example("the lamp was lit", "who", id="unanswerable"),
        example("lamp " * 60, "who", [("lamp " * 29 + "lamp", 0)], id="too long"),
        {"id": "bad", "question": "who", "context": 5, "answers": []},
        example("lamp " * 60, "who " * 40, id="no room"),
    ]
    with caplog.at_level("INFO", "memxlnet"):
        features = build(rows, tmp_path, on_bad_example="drop", streaming_chunk_size=2)
    (directory,) = published(tmp_path)
    manifest = read_manifest(directory)
    counted = {"exact": 2, "repaired": 1, "dropped": 1, "unanswerable": 1}
    assert manifest.alignment == {**dict.fromkeys(ALIGNMENTS, 0), **counted}
    assert manifest.documents_without_answer_segment == 1
    assert manifest.dropped_examples == 2
    dropped = [json.loads(line) for line in (directory / "dropped.jsonl").read_text().splitlines()]
    assert [(entry["row"], entry["id"]) for entry in dropped] == [(5, "bad"), (6, "no room")]
    assert "field 'context': expected text, found int" in dropped[0]["reason"]
    assert "its question of 40 tokens leaves room for 0 tokens of context" in dropped[1]["reason"]
    (summary,) = (message for message in caplog.messages if " features of " in message)
    assert f"{features} features of 5 documents over 2 contexts, {manifest.num_bytes} bytes, in " in summary
    assert "answers: 2 exact, 1 repaired, 1 dropped, 1 unanswerable, 0 unlabelled, 0 yes_no, 0 number, " in summary
    assert summary.endswith("1 in no segment, 0 contradictions, 2 examples dropped")


# --- cache managers


class InMemory:
    """The least that a cache manager is; keeps everything in lists."""

    def __init__(self, finished: Collection[int] = (), summary: Any = None):
        self.finished = finished
        self.summary = summary
        self.calls: list[str] = []
        self.chunks: dict[int, Mapping[str, pa.RecordBatch]] = {}
        self.settings: CacheSettings | None = None

    def begin(self, settings: CacheSettings) -> Collection[int]:
        self.calls.append("begin")
        self.settings = settings
        return self.finished

    def write_chunk(self, index: int, tables: Mapping[str, pa.RecordBatch]) -> str:
        self.calls.append(f"write {index}")
        self.chunks[index] = tables
        return f"receipt {index}"

    def finish(self, receipts: Sequence[Any]) -> Any:
        self.calls.append(f"finish {', '.join(receipts)}")
        return self.summary


def test_a_cache_manager_of_the_user_gets_every_chunk(tmp_path: Path) -> None:
    rows = long_examples(5, words=50)
    manager = InMemory()
    features = build(rows, tmp_path / "unused", cache_manager=manager, streaming_chunk_size=2)
    assert not (tmp_path / "unused").exists()
    assert manager.calls == [
        "begin",
        "write 0",
        "write 1",
        "write 2",
        "finish receipt 0, receipt 1, receipt 2",
    ]
    assert features == sum(chunk["features"].num_rows for chunk in manager.chunks.values())
    assert manager.settings is not None
    assert (manager.settings.name, manager.settings.split) == ("in-memory", "test")
    for chunk in manager.chunks.values():
        assert set(chunk) == {*TABLES, DROPPED}
        for name, batch in chunk.items():
            assert batch.schema.equals(table_schema(name, 32))
            batch.validate(full=True)
    ids = [name for chunk in manager.chunks.values() for name in chunk["documents"]["id"].to_pylist()]
    assert ids == [row["id"] for row in rows]
    # Row numbers count from the chunk's start.
    assert manager.chunks[2]["features"]["document"].to_pylist() == [0] * manager.chunks[2]["features"].num_rows
    assert manager.chunks[1]["documents"]["first_segment"].to_pylist()[0] == 0


def test_what_the_manager_gets_is_what_would_be_published(tmp_path: Path) -> None:
    rows = long_examples(5, words=50)
    manager = InMemory()
    build(rows, tmp_path, cache_manager=manager, streaming_chunk_size=2)
    build(rows, tmp_path / "caches", streaming_chunk_size=2)
    assert manager.settings is not None
    writer = CacheWriter(tmp_path / "relayed")
    writer.begin(manager.settings)
    writer.finish([writer.write_chunk(index, chunk) for index, chunk in manager.chunks.items()])
    (one,), (two,) = published(tmp_path / "caches"), published(tmp_path / "relayed")
    assert files_of(one) == files_of(two)


@pytest.mark.parametrize("how", ["workers", "threads"])
def test_what_workers_encode_is_handed_over_in_order_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = [*long_examples(9, words=50), {"id": "bad"}, example("lamp " * 60, "who " * 40, id="no room")]
    work: dict[str, Any] = {"streaming_chunk_size": 2, "on_bad_example": "drop"}
    here, elsewhere = InMemory(), InMemory()
    features = build(rows, tmp_path / "unused", cache_manager=here, num_workers=0, **work)
    with ThreadPoolExecutor(3) as executor:
        work |= {"num_workers": 2} if how == "workers" else {"executor": executor}
        assert build(rows, tmp_path / "unused", cache_manager=elsewhere, **work) == features
    assert elsewhere.calls == here.calls
    assert list(elsewhere.chunks) == list(here.chunks) == list(range(6))
    for index, tables in here.chunks.items():
        assert list(elsewhere.chunks[index]) == list(tables)
        for name, batch in tables.items():
            found = elsewhere.chunks[index][name]
            assert found.schema.equals(batch.schema, check_metadata=True)
            assert found.to_pylist() == batch.to_pylist()
            found.validate(full=True)
    # Nothing is left, and what was handed over outlives its file.
    assert not names(tmp_path)


class Slow(InMemory):
    """Notes which threads call it, and from how many at once."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[str] = set()

    def write_chunk(self, index: int, tables: Mapping[str, pa.RecordBatch]) -> str:
        self.threads.add(threading.current_thread().name)
        time.sleep(0.01)
        return super().write_chunk(index, tables)


def test_chunks_that_are_done_out_of_order_are_handed_over_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tasks.encode_in_parts

    def encode(encoder: Any, settings: Any, examples: Any, part_cost: int) -> Any:
        time.sleep(0.1 if examples[0].row % 3 == 0 else 0)
        return plain(encoder, settings, examples, part_cost)

    monkeypatch.setattr(tasks, "encode_in_parts", encode)
    manager = Slow()
    with ThreadPoolExecutor(4) as executor:
        rows = long_examples(13, words=30)
        build(rows, tmp_path, cache_manager=manager, executor=executor, streaming_chunk_size=1)
    assert list(manager.chunks) == list(range(13))
    assert manager.threads == {threading.current_thread().name}


def test_a_writer_with_a_write_of_its_own_is_asked_to_write(tmp_path: Path) -> None:
    class Noting(CacheWriter):
        noted: ClassVar[list[int]] = []

        def write_chunk(self, index: int, tables: Mapping[str, pa.RecordBatch]) -> ChunkReceipt:
            self.noted.append(index)
            return super().write_chunk(index, tables)

    rows = long_examples(5, words=50)
    work: dict[str, Any] = {"streaming_chunk_size": 2, "num_workers": 2}
    build(rows, tmp_path / "unused", cache_manager=Noting(tmp_path / "noted"), **work)
    assert Noting.noted == [0, 1, 2]
    build(rows, tmp_path / "plain", num_workers=0)
    (one,), (two,) = published(tmp_path / "noted"), published(tmp_path / "plain")
    assert files_of(one) == files_of(two)


class Summary:
    features = 123


@pytest.mark.parametrize(
    ("summary", "workers"),
    [(Summary(), 0), ({"features": 123}, 2), slow(Summary(), 2), slow({"features": 123}, 0)],
    ids=short,
)
def test_finished_chunks_of_a_manager_are_not_made_again(tmp_path: Path, summary: Any, workers: int) -> None:
    manager = InMemory(finished=[0, 2], summary=summary)
    rows = long_examples(5, words=50)
    assert build(rows, tmp_path, cache_manager=manager, streaming_chunk_size=2, num_workers=workers) == 123
    assert manager.calls == ["begin", "write 1", "finish receipt 1"]
    assert manager.chunks[1]["documents"]["id"].to_pylist() == ["id-2", "id-3"]


@pytest.mark.parametrize("summary", [None, {}, {"features": "many"}, {"features": True}, {"features": 1.0}, object()])
def test_a_count_is_never_guessed(tmp_path: Path, summary: Any) -> None:
    manager = InMemory(finished=[0], summary=summary)
    with pytest.raises(BuildError, match="'features'"):
        build(long_examples(5, words=50), tmp_path, cache_manager=manager, streaming_chunk_size=2)


@pytest.mark.parametrize("lacking", [["begin"], ["write_chunk"], ["finish"], ["begin", "write_chunk", "finish"]])
def test_a_manager_that_lacks_a_method_is_refused(tmp_path: Path, lacking: list[str]) -> None:
    methods = {
        name: None if name in lacking else getattr(InMemory, name) for name in ("begin", "write_chunk", "finish")
    }
    manager = type("Partial", (), methods)()
    with pytest.raises(SettingsError, match=rf"^cache_manager:.*{', '.join(lacking)} on Partial"):
        build(long_examples(1), tmp_path, cache_manager=manager)
    assert not names(tmp_path)


class Failing(InMemory):
    def write_chunk(self, index: int, tables: Mapping[str, pa.RecordBatch]) -> str:
        super().write_chunk(index, tables)
        if index == 1:
            raise RuntimeError("of the manager")
        return "receipt"


@pytest.mark.parametrize("how", ["here", "workers", "threads"])
def test_nothing_is_called_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    manager = Failing()
    rows = long_examples(40, words=50)
    with ThreadPoolExecutor(3) as executor:
        kinds: dict[str, dict[str, Any]] = {
            "here": {"num_workers": 0},
            "workers": {"num_workers": 2},
            "threads": {"executor": executor},
        }
        with pytest.raises(RuntimeError, match="of the manager"):
            build(rows, tmp_path / "unused", cache_manager=manager, streaming_chunk_size=2, **kinds[how])
    assert manager.calls == ["begin", "write 0", "write 1"]
    assert not names(tmp_path)
    assert not [child for child in psutil.Process().children() if "memxlnet.builder.worker" in child.cmdline()]


def test_an_error_of_the_source_reaches_the_caller_and_finishes_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[Any]:
        yield from long_examples(3, words=50)
        raise ZeroDivisionError("of the source")

    manager = InMemory()
    with pytest.raises(ZeroDivisionError, match="of the source"):
        build(rows(), tmp_path, cache_manager=manager, streaming_chunk_size=1, identity="x")
    assert not [call for call in manager.calls if call.startswith("finish")]


# --- StreamingSquadProcessor


def test_the_processor_builds_the_same_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = long_examples(5, words=50)
    features = build(rows, tmp_path / "plain", max_examples=4, max_n_segs=2)
    processor = StreamingSquadProcessor(golden_tokenizer(), 32, 8, streaming_chunk_size=2, progress=False)
    manager = CacheWriter(tmp_path / "processed")
    made = processor.process_dataset_streaming(rows, "test", max_examples=4, max_n_segs=2, cache_manager=manager)
    assert made == features
    (one,), (two,) = published(tmp_path / "plain"), published(tmp_path / "processed")
    assert files_of(one) == files_of(two)
    monkeypatch.chdir(tmp_path)
    assert processor.process_dataset_streaming(rows, "test", max_examples=4, max_n_segs=2) == features
    (three,) = published(tmp_path / "memxlnet-cache")
    assert files_of(three) == files_of(one)
    custom = InMemory()
    assert processor.process_dataset_streaming(iter(rows), "test", 4, custom, 2, identity="x") == features


@pytest.mark.parametrize(
    "changes",
    [{"max_seq_length": 0}, {"doc_stride": -1}, {"streaming_chunk_size": 0}, {"max_memory_gb": 0}, {"progress": "yes"}],
)
def test_the_processor_refuses_bad_settings_at_once(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(changes))):
        StreamingSquadProcessor(golden_tokenizer(), **changes)


# --- rebuild


def test_rebuild_builds_again(tmp_path: Path) -> None:
    rows = long_examples(3, words=50)
    build(rows, tmp_path)
    (directory,) = published(tmp_path)
    before, inodes = files_of(directory), {path.name: path.stat().st_ino for path in directory.iterdir()}
    kept = [path.open("rb") for path in directory.iterdir()]  # so that no inode is given out again
    build(rows, tmp_path, rebuild=True)
    assert files_of(directory) == before
    assert all(path.stat().st_ino != inodes[path.name] for path in directory.iterdir())
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {directory.name}
    for file in kept:
        file.close()


@pytest.mark.parametrize("damage", ["manifest", "shard"])
def test_a_damaged_cache_is_an_error_and_rebuild_replaces_it(tmp_path: Path, damage: str) -> None:
    rows = long_examples(3, words=50)
    features = build(rows, tmp_path)
    (directory,) = published(tmp_path)
    before = files_of(directory)
    victim = directory / ("manifest.json" if damage == "manifest" else "features-00000.arrow")
    victim.write_bytes(victim.read_bytes()[:-5])
    with pytest.raises(CacheDamagedError, match=victim.name):
        build(rows, tmp_path)
    assert build(rows, tmp_path, rebuild=True) == features
    assert files_of(directory) == before


# --- bad input


def test_no_example_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="in-memory/test"):
        build([], tmp_path)
    with pytest.raises(SourceError, match="rows"):
        build(write_json_lines(tmp_path / "rows.jsonl", []), tmp_path / "caches")
    assert not list(published(tmp_path / "caches"))


def test_examples_that_are_all_dropped_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"\b2\b"):
        build([{"id": "a"}, 5], tmp_path, on_bad_example="drop")
    assert not list(published(tmp_path))


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "3"])
def test_max_examples_must_be_a_number_above_zero(tmp_path: Path, number: Any) -> None:
    with pytest.raises(SettingsError, match=r"^max_examples:"):
        build(long_examples(2), tmp_path, max_examples=number)
    assert not names(tmp_path)


def test_a_bad_example_is_named_and_nothing_is_published(tmp_path: Path) -> None:
    rows = [*long_examples(4, words=50), {"id": "bad", "question": "who", "answers": []}]
    with pytest.raises(ExampleError, match=r"'bad' \(row 4\):.*'context'"):
        build(rows, tmp_path, streaming_chunk_size=2)
    assert not list(published(tmp_path))


WORK = slow_but(
    [{"streaming_chunk_size": 2}, {"num_workers": 1}],
    [*({"streaming_chunk_size": size} for size in (100, 2, 1)), {"num_workers": 1}],
)


@pytest.mark.parametrize("work", WORK, ids=str)
def test_a_repeated_id_is_named_with_both_rows(tmp_path: Path, work: dict[str, Any]) -> None:
    rows = [example("the lamp", id=name) for name in ("a", "b", "c", "b", "d", "a")]
    with pytest.raises(ExampleError, match=r"^in-memory, example 'b' \(row 3\):.*row 1;.*on_repeated_id="):
        build(rows, tmp_path, **work)
    assert not list(published(tmp_path))


REPEATED = ["a", "b", "a", "a#2", "b", "a", "c", "a#2", "b#2"]


@pytest.mark.parametrize("work", WORK, ids=str)
@pytest.mark.parametrize(
    ("policy", "ids", "dropped"),
    [
        ({"on_repeated_id": "number"}, ["a", "b", "a#2", "a#2#2", "b#2", "a#3", "c", "a#2#3", "b#2#2"], []),
        (
            {"on_bad_example": "drop"},
            ["a", "b", "a#2", "c", "b#2"],
            [(2, "a", 0), (4, "b", 1), (5, "a", 0), (7, "a#2", 3)],
        ),
    ],
)
def test_repeated_ids_are_numbered_or_dropped(
    tmp_path: Path, work: dict[str, Any], policy: dict[str, Any], ids: list[str], dropped: list[tuple[int, str, int]]
) -> None:
    rows = [example("the lamp", id=name) for name in REPEATED]
    build(rows, tmp_path, **policy, **work)
    (directory,) = published(tmp_path)
    cache = PublishedCache(directory)
    assert [cache.documents.text("id", row) for row in range(cache.num_documents)] == ids
    reasons = [
        (row, name, f"in-memory, example {name!r} (row {row}): its id is that of row {first}")
        for row, name, first in dropped
    ]
    assert [tuple(entry) for entry in read_dropped(cache)] == reasons
    verify(directory, against=rows, sample=None)


def test_an_interrupted_build_knows_the_ids_of_its_finished_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [example(f"the lamp {number}", id=f"{number % 4}") for number in range(6)]
    work: dict[str, Any] = {"streaming_chunk_size": 2, "on_repeated_id": "number", "num_workers": 0}
    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(rows[:4], tmp_path, identity="v1", **work)
    build(rows, tmp_path, identity="v1", **work)
    (directory,) = published(tmp_path)
    cache = PublishedCache(directory)
    assert [cache.documents.text("id", row) for row in range(6)] == ["0", "1", "2", "3", "0#2", "1#2"]


def test_an_id_may_clash_with_that_of_a_row_without_one(tmp_path: Path) -> None:
    rows = [example("the lamp", id="doc_2"), example("the lamp"), example("the lamp")]
    with pytest.raises(ExampleError, match=r"'doc_2' \(row 2\):.*row 0;"):
        build(rows, tmp_path)
    build(rows[1:], tmp_path)
    (directory,) = published(tmp_path)
    cache = PublishedCache(directory)
    assert [cache.documents.text("id", row) for row in range(2)] == ["doc_0", "doc_1"]


def test_an_example_beyond_the_bound_is_named(tmp_path: Path) -> None:
    rows = [example("the lamp", id="small"), example("lamp " * 3_000_000, id="giant")]
    with pytest.raises(MemoryLimitError, match=r"'giant' \(row 1\):.*max_memory_gb"):
        build(rows, tmp_path, max_memory_gb=2)
    assert not list(published(tmp_path))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bound_that_this_process_passes_already_is_an_error_before_any_work(tmp_path: Path, workers: int) -> None:
    with pytest.raises(MemoryLimitError, match=r"^max_memory_gb:.*0\.01"):
        build(long_examples(2), tmp_path / "caches", max_memory_gb=0.01, num_workers=workers)
    assert not list(published(tmp_path / "caches"))
    assert not list(tmp_path.glob("caches/.build-*/"))


def test_a_source_that_changes_during_the_build_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_json_lines(tmp_path / "rows.jsonl", long_examples(9, words=30))
    plain = CacheWriter.write_chunk

    def write(self: CacheWriter, index: int, tables: Any) -> Any:
        if index == 1:
            with source.open("a") as file:
                file.write("\n")
        return plain(self, index, tables)

    with monkeypatch.context() as patched:
        patched.setattr(CacheWriter, "write_chunk", write)
        with pytest.raises(SourceError, match=r"rows\.jsonl:"):
            build(source, tmp_path / "caches", streaming_chunk_size=2)
    assert not list(published(tmp_path / "caches"))
    build(source, tmp_path / "caches", streaming_chunk_size=2)
    assert len(list(published(tmp_path / "caches"))) == 1


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"max_seq_length": 5}, SettingsError, r"^max_seq_length:.*7"),
        ({"max_seq_length": 0}, SettingsError, "^max_seq_length:"),
        ({"doc_stride": 27}, SettingsError, r"^doc_stride:.*27"),
        ({"doc_stride": -1}, SettingsError, "^doc_stride:"),
        ({"streaming_chunk_size": 0}, SettingsError, "^streaming_chunk_size:"),
        ({"max_memory_gb": -1}, SettingsError, "^max_memory_gb:"),
        ({"max_n_segs": 0}, SettingsError, "^max_n_segs:"),
        ({"max_shard_rows": 0}, SettingsError, "^max_shard_rows:"),
        ({"use_streaming": 1}, SettingsError, "^use_streaming:"),
        ({"rebuild": "yes"}, SettingsError, "^rebuild:"),
        ({"progress": 1}, SettingsError, "^progress:"),
        ({"on_bad_example": "ignore"}, SettingsError, "^on_bad_example:"),
        ({"insert_memory_tokens": None}, SettingsError, "^insert_memory_tokens:"),
        ({"identity": 5}, SettingsError, "^identity:"),
        ({"tokenizer": None}, TokenizerError, r"^tokenizer:.*None"),
        ({"tokenizer": "xlnet-base-cased"}, TokenizerError, r"^tokenizer:.*xlnet-base-cased"),
        ({"split": ""}, SettingsError, r"^split:.*''"),
        ({"split": None}, SettingsError, r"^split:.*None"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_arguments_are_errors_before_any_work(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(long_examples(2), tmp_path / "caches", **changes)
    assert not (tmp_path / "caches").exists()


def test_a_missing_file_is_an_error_before_any_work(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", str(tmp_path / "missing.parquet")):
        with pytest.raises(SourceNotFoundError, match="missing"):
            build(path, tmp_path / "caches")
    assert not (tmp_path / "caches").exists()


def test_a_cache_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    for cache_dir in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CacheDirectoryError, match=rf"^{cache_dir}:"):
            build(long_examples(2), cache_dir)
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_directory_without_permission_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(CacheDirectoryError):
            build(long_examples(2), tmp_path)
    finally:
        tmp_path.chmod(0o755)


# --- names


NAMES = [
    "..",
    "../..",
    "../outside",
    "/outside",
    "a/../../outside",
    "a b\\c",
    "\u4e2d\u6587",
    ".hidden",
    "-",
    "x" * 150,
]


@pytest.mark.parametrize("name", slow_but(["..", "/outside"], NAMES))
def test_no_name_leads_out_of_the_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    # A name of an object reaches the directory's name as that of a Hub dataset does.
    monkeypatch.setattr("memxlnet.sources.opening.IN_MEMORY", name)
    cache_dir = tmp_path / "deep" / "caches"
    for split in ("test", "../../../outside", "/outside", "..", "\u4e2d"):
        build(long_examples(2), cache_dir, split=split)
    assert names(tmp_path) == {"deep"}
    assert names(tmp_path / "deep") == {"caches"}
    assert not Path("/outside").exists()
    directories = list(published(cache_dir))
    assert len(directories) == 5
    assert {read_manifest(directory).name for directory in directories} == {name}
    assert {read_manifest(directory).split for directory in directories} == {
        "test",
        "../../../outside",
        "/outside",
        "..",
        "\u4e2d",
    }


ODD_FILES = ["rows..jsonl", "-- .jsonl", "\u4e2d\u6587.jsonl", "a;b$(c).jsonl", "..jsonl.jsonl"]


@pytest.mark.parametrize("name", slow_but(["-- .jsonl", "a;b$(c).jsonl"], ODD_FILES))
def test_odd_names_of_files_are_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    source = write_json_lines(tmp_path / "data" / name, long_examples(2))
    build(source, tmp_path / "caches")
    assert names(tmp_path) == {"data", "caches"}
    (directory,) = published(tmp_path / "caches")
    assert read_manifest(directory).provenance["path"] == str(source)


@pytest.mark.parametrize("name", ["", " ", "a\0b", "\ud800", "/", "..", "../.."])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"^source:"):
        build(name, tmp_path / "caches")
    assert not (tmp_path / "caches").exists()


@pytest.mark.parametrize("value", [5, None, {"id": "a"}, b"bytes", object()])
def test_objects_that_are_no_source_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"^source:.*{type(value).__name__}"):
        build(value, tmp_path / "caches")


def test_a_one_shot_iterator_needs_an_identity(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="identity="):
        build(iter(long_examples(2)), tmp_path)
    assert build(iter(long_examples(2)), tmp_path, identity="once") > 0


# --- progress

QUIET = """
import sys
from pathlib import Path
from memxlnet.data.process import process_and_cache_dataset
from tests.golden.make_golden import golden_tokenizer
from tests.support import long_examples
for progress in (None, False, True):
    process_and_cache_dataset(
        long_examples(3, words=20), f"shown {progress}", Path(sys.argv[1]), max_seq_length=32, doc_stride=8,
        tokenizer=golden_tokenizer(), progress=progress,
    )
"""


@pytest.mark.slow
def test_the_bar_is_quiet_where_there_is_no_terminal(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", QUIET, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=True,
    )
    assert len(list(published(tmp_path))) == 3
    assert done.stdout == ""
    assert "in-memory/shown True: 100%" in done.stderr
    assert "shown None" not in done.stderr
    assert "shown False" not in done.stderr


def test_the_bar_counts_examples(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build(long_examples(5, words=20), tmp_path, progress=True, streaming_chunk_size=2)
    shown = capfd.readouterr().err
    assert "in-memory/test: 100%" in shown
    assert "5/5" in shown
    build(long_examples(5, words=20), tmp_path / "other", progress=None)
    assert capfd.readouterr().err == ""


# --- readable by others


def test_others_may_read_a_cache(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        build(long_examples(2), tmp_path)
    finally:
        os.umask(before)
    (directory,) = published(tmp_path)
    assert directory.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o644}


OF_A_BUILD = {
    *(field.name for kind in (EncodeSettings, BuildSettings, SourceOptions) for field in fields(kind)),
    *("executor", "scratch", "scratch_options"),
} - {"use_streaming"}

DOORS: dict[str, tuple[list[Callable[..., Any]], set[str]]] = {
    "Cache.build": ([Cache.build], set()),
    "Parts.build": ([Parts.build], {"max_examples", "config_name", "revision"}),  # files, all of each
    "process_and_cache_dataset": ([process_and_cache_dataset], set()),
    "create_dataset_from_cache": ([create_dataset_from_cache], {"token"}),  # hub_token
    "StreamingSquadProcessor": (
        [StreamingSquadProcessor, StreamingSquadProcessor.process_dataset_streaming],
        set(),
    ),
    "create_streaming_processor": (
        [create_streaming_processor, StreamingSquadProcessor.process_dataset_streaming],
        set(),
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_every_call_that_builds_takes_all_settings_of_a_build(door: str) -> None:
    calls, without = DOORS[door]
    assert OF_A_BUILD - {name for call in calls for name in signature(call).parameters} == without


def test_the_function_makes_the_processor_that_the_class_makes(tmp_path: Path) -> None:
    assert signature(create_streaming_processor) == signature(StreamingSquadProcessor)
    processor = create_streaming_processor(golden_tokenizer(), 32, 8, streaming_chunk_size=2, on_repeated_id="number")
    assert isinstance(processor, StreamingSquadProcessor)
    rows = long_examples(2, words=50) * 2
    assert processor.process_dataset_streaming(rows, "test", cache_manager=CacheWriter(tmp_path / "processed"))
    (made,) = published(tmp_path / "processed")
    assert read_manifest(made).tables["documents"].rows == 4
