"""A kill at any moment leaves no cache or a whole one, loses no finished chunk, and changes no byte of the result."""

import errno
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memxlnet.builder import chunk_files
from memxlnet.encode.encoder import Encoder
from memxlnet.errors import BuildError
from tests.builder.processes import build, build_until, published, rows, run, server, start
from tests.format.content import files_of

CHUNKS = 4


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ids of each chunk that is encoded from here on; those of the check of each build left out."""
    found: list[list[str]] = []
    plain = Encoder.tokenize

    def record(self: Encoder, chunk: Sequence[Any]) -> Any:
        found.append([example.id for example in chunk])
        return plain(self, chunk)

    monkeypatch.setattr(Encoder, "tokenize", record)
    monkeypatch.setattr("memxlnet.builder.running_build.check_against_transformers", lambda *_: None)
    return found


def chunk_names(cache_dir: Path) -> list[str]:
    return sorted(path.name for path in cache_dir.glob(".build-*/chunks/*.chunk"))


def expect_completion(
    cache_dir: Path, undisturbed: dict[str, bytes], encoded: list[list[str]], before: list[Path]
) -> None:
    """Complete the build: finished chunks are not made again, and the bytes are those of an undisturbed build."""
    finished = len(chunk_names(cache_dir))
    encoded.clear()
    build(cache_dir)
    assert len(encoded) == (0 if before else CHUNKS - finished)
    (directory,) = published(cache_dir)
    assert files_of(directory) == undisturbed


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_before_any_file_operation_is_survived(
    tmp_path: Path, undisturbed: dict[str, bytes], encoded: list[list[str]], every: int
) -> None:
    receiver, sender = server().Pipe(duplex=False)
    finished_seen = set()
    published_seen = set()
    for event in range(0, 1000, every):
        cache_dir = tmp_path / str(event)
        exit_code = run(build_until, cache_dir, event, sender)
        if exit_code == 0:
            operations = len(receiver.recv())
            assert event - every < operations <= event
            break
        assert exit_code == -signal.SIGKILL
        before = list(published(cache_dir))
        published_seen.add(len(before))
        finished_seen.add(len(chunk_names(cache_dir)))
        expect_completion(cache_dir, undisturbed, encoded, before)
    else:
        pytest.fail("the build never ends")
    assert len(finished_seen) > 1
    if every == 1:
        assert finished_seen == set(range(CHUNKS + 1))
        assert published_seen == {0, 1}


@pytest.mark.slow
def test_a_kill_at_a_random_moment_is_survived(
    tmp_path: Path, undisturbed: dict[str, bytes], encoded: list[list[str]]
) -> None:
    _, sender = server().Pipe(duplex=False)
    source = random.Random(5)
    for attempt in range(8):
        cache_dir = tmp_path / str(attempt)
        process = start(build_until, cache_dir, -1, sender)
        deadline = time.monotonic() + 60
        while not cache_dir.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(source.uniform(0, 0.12))
        process.kill()
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL)
        expect_completion(cache_dir, undisturbed, encoded, list(published(cache_dir)))


@pytest.mark.slow
def test_a_kill_again_and_again_still_ends(
    tmp_path: Path, undisturbed: dict[str, bytes], encoded: list[list[str]]
) -> None:
    receiver, sender = server().Pipe(duplex=False)
    assert run(build_until, tmp_path / "whole", -1, sender) == 0
    event = receiver.recv().index(1)  # the first operation after a chunk is finished; how many come before varies
    cache_dir = tmp_path / "killed"
    seen = []
    for _ in range(6):
        run(build_until, cache_dir, event, sender)
        seen.append(len(chunk_names(cache_dir)))
    assert seen == sorted(seen)  # no finished chunk is ever lost
    assert seen[0] == 1
    expect_completion(cache_dir, undisturbed, encoded, list(published(cache_dir)))


def interrupt(monkeypatch: pytest.MonkeyPatch, cache_dir: Path, after: int) -> None:
    """Let the disk fill up after some chunks."""
    plain = chunk_files.write_chunk

    def write(directory: Path, index: int, tables: Any) -> Any:
        if index == after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(directory, index, tables)

    with monkeypatch.context() as patched:
        patched.setattr("memxlnet.builder.cache_writer.write_chunk", write)
        with pytest.raises(BuildError, match="No space left on device"):
            build(cache_dir)
    assert len(chunk_names(cache_dir)) == after


@pytest.mark.parametrize("after", range(CHUNKS))
def test_finished_chunks_are_not_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes], encoded: list[list[str]], after: int
) -> None:
    interrupt(monkeypatch, tmp_path, after)
    assert not list(published(tmp_path))
    encoded.clear()
    build(tmp_path)
    ids = [row["id"] for row in rows()]
    assert encoded == [ids[start : start + 3] for start in range(3 * after, len(ids), 3)]
    (directory,) = published(tmp_path)
    assert files_of(directory) == undisturbed


def test_a_damaged_chunk_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes], encoded: list[list[str]]
) -> None:
    interrupt(monkeypatch, tmp_path, 3)
    (damaged,) = tmp_path.glob(".build-*/chunks/00000001.*.chunk")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    encoded.clear()
    build(tmp_path)
    ids = [row["id"] for row in rows()]
    assert encoded == [ids[3:6], ids[9:]]
    (directory,) = published(tmp_path)
    assert files_of(directory) == undisturbed


@pytest.mark.parametrize("changes", [{"streaming_chunk_size": 4}, {"use_streaming": False}])
def test_other_chunks_are_all_made_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: dict[str, bytes],
    encoded: list[list[str]],
    changes: dict[str, Any],
) -> None:
    interrupt(monkeypatch, tmp_path, 2)
    encoded.clear()
    build(tmp_path, **changes)
    ids = [row["id"] for row in rows()]
    assert [name for chunk in encoded for name in chunk] == ids
    (directory,) = published(tmp_path)
    assert files_of(directory) == undisturbed


def test_another_bound_keeps_the_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes], encoded: list[list[str]]
) -> None:
    interrupt(monkeypatch, tmp_path, 2)
    encoded.clear()
    build(tmp_path, max_memory_gb=7.0, progress=True)
    assert encoded == [[row["id"] for row in rows()][start : start + 3] for start in (6, 9)]
    (directory,) = published(tmp_path)
    assert files_of(directory) == undisturbed


def test_rebuild_uses_no_chunk_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes], encoded: list[list[str]]
) -> None:
    interrupt(monkeypatch, tmp_path, 3)
    encoded.clear()
    build(tmp_path, rebuild=True)
    assert len(encoded) == CHUNKS
    (directory,) = published(tmp_path)
    assert files_of(directory) == undisturbed
    assert not list(tmp_path.glob(".build-*/"))
