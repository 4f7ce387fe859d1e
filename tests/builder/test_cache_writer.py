"""From chunks to a published directory: whole or not at all, at any failure."""

import contextlib
import errno
import gc
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from arrow_schemas import FileMetadata
from memxlnet.builder import chunks_to_shards as publish_module
from memxlnet.builder import shard_filling
from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.builder.chunk_files import ChunkReceipt
from memxlnet.builder.chunks_to_shards import BatchWriter
from memxlnet.errors import BuildError, BuildOSError, CacheDirectoryError, SettingsError
from memxlnet.format import paths
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.verify import verify_bytes
from tests.format.content import (
    Content,
    Dropped,
    chunks,
    files_of,
    make_content,
    publish,
    read_tables,
    settings,
    tables_of,
)

CONTENT = make_content(1, 4, ["a", "b"], [(0, 3), (1, 2), (0, 1), None, (1, 4)])
ROOT = Path(__file__).parent.parent.parent


def begun(cache_dir: Path, content: Content = CONTENT) -> tuple[CacheWriter, list[ChunkReceipt]]:
    """A writer, and the receipts of all chunks: those that were finished before, and those that are written now."""
    writer = CacheWriter(cache_dir)
    finished = writer.begin(settings(content.length))
    return writer, [
        finished[index] if index in finished else writer.write_chunk(index, tables)
        for index, tables in enumerate(chunks(content, [2]))
    ]


def names(cache_dir: Path) -> list[str]:
    return sorted(path.name for path in cache_dir.iterdir())


def test_nothing_is_published_before_the_end(tmp_path: Path) -> None:
    writer, receipts = begun(tmp_path)
    name = settings(4).directory_name
    assert name == f"made-up--test--{settings(4).fingerprint[:16]}"
    assert names(tmp_path) == [f".build-{name}"]
    summary = writer.finish(receipts)
    assert names(tmp_path) == [name]
    assert summary.directory == tmp_path / name == writer.directory(settings(4))
    assert (summary.features, summary.documents, summary.contexts, summary.dropped_examples) == (10, 4, 2, 1)
    assert summary.num_bytes == sum(len(content) for content in files_of(summary.directory).values()) - len(
        files_of(summary.directory)["manifest.json"]
    )
    assert sum(summary.alignment.values()) == 4


def test_a_gap_in_the_chunks_is_an_error(tmp_path: Path) -> None:
    writer, receipts = begun(tmp_path)
    for given, missing in (([receipts[0], receipts[2]], r"\[1\]"), ([], r"\[\]")):
        with pytest.raises(BuildError, match=missing):
            writer.finish(given)
    writer.finish(receipts)


def test_calls_out_of_order_are_errors(tmp_path: Path) -> None:
    writer = CacheWriter(tmp_path / "caches")
    with pytest.raises(BuildError, match=r"begin\(settings\)"):
        writer.write_chunk(0, {})
    with pytest.raises(BuildError, match=r"begin\(settings\)"):
        writer.finish([])
    assert not (tmp_path / "caches").exists()


def test_a_source_of_dropped_examples_alone_is_an_error(tmp_path: Path) -> None:
    content = CONTENT._replace(items=[Dropped(0, "a", "why"), Dropped(1, "b", "why")])
    writer, receipts = begun(tmp_path, content)
    with pytest.raises(BuildError, match=r"^made\sup/test:.*\b2\b"):
        writer.finish(receipts)
    assert not writer.directory(settings(4)).exists()


@pytest.mark.parametrize("step", ["lay_out", "write_values", "sync", "write_manifest", "rename"])
def test_a_failed_publication_publishes_nothing_and_loses_no_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    expected = files_of(publish(CONTENT, tmp_path / "undisturbed", [2]).directory)
    writer, receipts = begun(tmp_path / "caches")
    module = {"rename": Path, "write_values": shard_filling}.get(step, publish_module)
    monkeypatch.setattr(module, step, fail)
    with pytest.raises(BuildOSError) as caught:
        writer.finish(receipts)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert names(tmp_path / "caches") == [f".build-{settings(4).directory_name}"]
    again = CacheWriter(tmp_path / "caches")
    finished = again.begin(settings(4))
    assert list(finished.values()) == receipts
    assert files_of(again.finish(list(finished.values())).directory) == expected


@pytest.mark.parametrize("table", ["documents", "contexts"])
def test_an_error_while_a_file_is_made_durable_before_its_end_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    failed = threading.Event()

    def sync(path: Path) -> None:
        # The system gives an error once: the sync at the end would not see it.
        if path.name.startswith(table) and not failed.is_set():
            failed.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        paths.sync(path)

    def slow(*arguments: Any) -> None:
        failed.wait(30)
        add(*arguments)

    add = BatchWriter.add
    monkeypatch.setattr(publish_module, "_SYNC_SECONDS", 0)
    monkeypatch.setattr(publish_module, "sync", sync)
    monkeypatch.setattr(BatchWriter, "add", slow)
    writer, receipts = begun(tmp_path)
    with pytest.raises(BuildOSError, match="Input/output error"):
        writer.finish(receipts)
    assert names(tmp_path) == [f".build-{settings(4).directory_name}"]


def test_a_writer_that_failed_writes_into_no_other_file(tmp_path: Path) -> None:
    batch = next(chunks(CONTENT, [len(CONTENT.items)]))["contexts"]
    writer = BatchWriter(tmp_path, batch.schema, FileMetadata("contexts", 0, 0, 1, "f"), 1)
    with contextlib.suppress(ZeroDivisionError), writer:
        writer.add(batch)
        1 / 0  # noqa: B018
    with (tmp_path / "other").open("wb"):  # it has the descriptor now
        del writer
        gc.collect()
    assert (tmp_path / "other").read_bytes() == b""


def test_a_failed_replacement_leaves_the_published_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = publish(CONTENT, tmp_path, [2]).directory
    before = files_of(directory)
    writer, receipts = begun(tmp_path)

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(publish_module, "write_manifest", fail)
        with pytest.raises(BuildError, match="No space left"):
            writer.finish(receipts)
    verify_bytes(directory)
    assert files_of(directory) == before


def test_a_published_file_is_never_written_again(tmp_path: Path) -> None:
    directory = publish(CONTENT, tmp_path, [2]).directory
    inodes = {path.name: path.stat().st_ino for path in directory.iterdir()}
    kept = [path.open("rb") for path in directory.iterdir()]  # holds the inodes
    publish(CONTENT, tmp_path, [1])
    assert not {path.stat().st_ino for path in directory.iterdir()} & set(inodes.values())
    for file in kept:
        file.close()


def test_finished_chunks_are_kept_however_the_build_cuts_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, receipts = begun(tmp_path)
    writer = CacheWriter(tmp_path)
    with caplog.at_level(logging.INFO, "memxlnet"):
        assert writer.begin(settings(4, chunking="other chunks")) == dict(enumerate(receipts))
    assert "resuming with 3 finished chunks" in caplog.text


def test_a_build_of_other_settings_is_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer, _ = begun(tmp_path)
    build = writer.build_directory(settings(4))
    (build.path / "build.json").write_text('{"fingerprint": "another"}')
    with caplog.at_level(logging.INFO, "memxlnet"):
        assert not CacheWriter(tmp_path).begin(settings(4))
    assert "an interrupted build of other settings is removed" in caplog.text
    assert not list(build.chunks.iterdir())


def test_the_build_directory_holds_what_workers_need(tmp_path: Path) -> None:
    writer = CacheWriter(tmp_path)
    build = writer.build_directory(settings(4))
    assert build.state() == {}
    assert build.num_finished() == 0
    with pytest.raises(BuildError, match=r"build\.json"):
        build.read_encoder()
    _, receipts = begun(tmp_path)
    assert build.num_finished() == len(receipts) == 3
    assert build.state()["fingerprint"] == settings(4).fingerprint
    # A tokenizer that the Rust side refuses is named by its path.
    with pytest.raises(BuildError, match=r"tokenizer\.json"):
        build.read_encoder()


def test_a_chunk_that_was_finished_but_is_no_longer_wanted_is_left_out(tmp_path: Path) -> None:
    expected = files_of(publish(CONTENT._replace(items=CONTENT.items[:4]), tmp_path / "short", [2]).directory)
    writer, receipts = begun(tmp_path / "long")
    assert files_of(writer.finish(receipts[:2]).directory) == expected
    assert names(tmp_path / "long") == [settings(4).directory_name]


@pytest.mark.parametrize("content", [b"", b"{", b"null", b'{"fingerprint":"x"}', b"\xff"])
def test_a_build_directory_of_unknown_state_is_emptied(tmp_path: Path, content: bytes) -> None:
    begun(tmp_path)
    (state,) = tmp_path.glob(".build-*/build.json")
    state.write_bytes(content)
    assert not CacheWriter(tmp_path).begin(settings(4))


def test_discard_removes_the_chunks_and_leaves_the_cache(tmp_path: Path) -> None:
    directory = publish(CONTENT, tmp_path, [2]).directory
    writer, _ = begun(tmp_path)
    writer.discard(settings(4))
    assert names(tmp_path) == [directory.name]
    assert not CacheWriter(tmp_path).begin(settings(4))


def test_a_directory_without_a_manifest_in_the_way_is_replaced(tmp_path: Path) -> None:
    directory = publish(CONTENT, tmp_path, [2]).directory
    (directory / "manifest.json").unlink()
    (directory / "features-00000.arrow").write_bytes(b"half")
    assert read_tables(PublishedCache(publish(CONTENT, tmp_path, [2]).directory)) == tables_of(CONTENT)
    assert names(tmp_path) == [directory.name]


def test_one_builder_at_a_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memxlnet.maintain.lock.WAIT_SECONDS", 0.05)
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with CacheWriter(tmp_path).lock(settings(4)):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(30)
    # Another cache of the same directory is not held up.
    with CacheWriter(tmp_path).lock(settings(4, split="other")):
        pass
    threading.Timer(0.3, leave.set).start()
    with caplog.at_level(logging.WARNING, "memxlnet"), CacheWriter(tmp_path).lock(settings(4)):
        assert leave.is_set()
    assert [f"{settings(4).directory_name}: waiting for another process" in text for text in caplog.messages] == [True]
    thread.join()


HOLDER = """
import sys, time
from memxlnet.builder.cache_writer import CacheWriter
from tests.format.content import settings
with CacheWriter(sys.argv[1]).lock(settings(4)):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    with CacheWriter(tmp_path).lock(settings(4)):
        pass


def test_bad_cache_directories_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cache_dir"):
        CacheWriter("")
    (tmp_path / "file").write_bytes(b"")
    writer = CacheWriter(tmp_path / "file")
    with pytest.raises(CacheDirectoryError, match="/file:"):
        writer.begin(settings(4))
    with pytest.raises(CacheDirectoryError, match="/file:"), writer.lock(settings(4)):
        pass
