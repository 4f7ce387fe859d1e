"""Which builds get workers, and how many."""

import os
from pathlib import Path
from typing import Any

import pytest

from memxlnet.builder import running_build
from memxlnet.builder.worker_pool import WorkerPool
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.settings import BuildSettings
from tests.golden.make_golden import golden_tokenizer
from tests.support import long_examples, write_json_lines


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the pools that are opened; they are real."""
    found: list[int] = []
    plain = WorkerPool

    def record(num_workers: int) -> Any:
        found.append(num_workers)
        return plain(num_workers)

    monkeypatch.setattr(running_build, "WorkerPool", record)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    return found


class Opened(Exception):  # noqa: N818 - no failure
    """Raised in place of opening a pool, with its size."""


@pytest.fixture
def no_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pool is opened; the build ends with `Opened`."""

    def refuse(num_workers: int) -> Any:
        raise Opened(num_workers)

    monkeypatch.setattr(running_build, "WorkerPool", refuse)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


def build(rows: Any, cache_dir: Path, **settings: Any) -> int:
    settings = {"max_seq_length": 64, "doc_stride": 16, "streaming_chunk_size": 4, **settings}
    return process_and_cache_dataset(rows, "test", cache_dir, tokenizer=golden_tokenizer(), progress=False, **settings)


def test_a_small_source_is_encoded_in_this_process(tmp_path: Path, pools: list[int]) -> None:
    build(long_examples(9, 40), tmp_path / "list")
    build(write_json_lines(tmp_path / "rows.jsonl", long_examples(9, 40)), tmp_path / "file")
    build(iter(long_examples(9, 40)), tmp_path / "iterator", identity="nine")
    assert pools == []


@pytest.mark.usefixtures("no_pools")
def test_a_large_source_gets_a_worker_for_each_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_build, "LARGE_EXAMPLES", 9)
    with pytest.raises(Opened, match=r"^2$"):
        build(long_examples(9, 40), tmp_path / "list")
    monkeypatch.setattr(running_build, "LARGE_FILE", 1000)
    with pytest.raises(Opened, match=r"^2$"):
        build(write_json_lines(tmp_path / "rows.jsonl", long_examples(9, 40)), tmp_path / "file")


def test_a_source_of_unknown_size_gets_workers_once_it_turns_out_to_be_large(
    tmp_path: Path, pools: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    features = build(iter(long_examples(20, 40)), tmp_path / "small", identity="some")
    assert pools == []
    monkeypatch.setattr(running_build, "LARGE_COST", 1)
    assert build(iter(long_examples(20, 40)), tmp_path / "large", identity="some") == features
    assert pools == [2]
    (one,), (two,) = ([*(tmp_path / name).iterdir()] for name in ("small", "large"))
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in two.iterdir()
    }


def test_one_core_encodes_alone(tmp_path: Path, pools: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_build, "LARGE_EXAMPLES", 9)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    build(long_examples(9, 40), tmp_path)
    assert pools == []


@pytest.mark.usefixtures("no_pools")
def test_there_are_no_more_workers_than_chunks(tmp_path: Path) -> None:
    with pytest.raises(Opened, match=r"^3$"):
        build(long_examples(9, 40), tmp_path, num_workers=8)


@pytest.mark.usefixtures("no_pools")
def test_workers_that_do_not_fit_are_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_build, "WORKER_BYTES", int(BuildSettings().max_memory_bytes * 0.2))
    with pytest.raises(Opened, match=r"^1$"):
        build(long_examples(12, 40), tmp_path, num_workers=8)
    monkeypatch.setattr(running_build, "WORKER_BYTES", BuildSettings().max_memory_bytes)
    assert build(long_examples(11, 40), tmp_path, num_workers=8)
