"""Shards filled by workers: every row has its place, whoever writes it and when; a failure publishes nothing."""

import errno
import json
import random
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.builder import deliveries, in_workers, shard_filling
from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.builder.shard_filling import fill_shards
from memxlnet.encode.encoder import Encoder
from memxlnet.errors import BuildError, BuildOSError
from tests.builder.processes import build, content
from tests.format.content import Content, chunks, contents, cuts, files_of, make_content, publish, settings
from tests.support import in_quarters

POOL = ThreadPoolExecutor(1)

CONTENT = make_content(2, 6, ["a", "b", "c"], [(n % 3, 1 + n % 4) for n in range(12)])


class Shuffled:
    """Workers that hold all tasks, and do them in any order once there are `count`."""

    def __init__(self, num_fills: int, seed: int = 0, change: Callable[[dict[str, Any]], object] | None = None):
        self.num_fills = num_fills
        self.tasks: list[dict[str, Any]] = []
        self._order = random.Random(seed)
        self._change = change
        self._waiting: list[tuple[dict[str, Any], Future[dict[str, Any]]]] = []

    def fill(self, task: Mapping[str, Any]) -> "Future[dict[str, Any]]":
        self.tasks.append(json.loads(json.dumps({**task, "is_remote": self._order.random() < 0.5})))
        future: Future[dict[str, Any]] = Future()
        self._waiting.append((self.tasks[-1], future))
        POOL.submit(self._work)
        return future

    def _work(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._order.shuffle(waiting)
        for task, future in waiting:
            if self._change is not None:
                answer = self._change(task)
                if answer is not None:
                    future.set_result(answer)  # type: ignore[arg-type]
                    continue
            future.set_result(json.loads(json.dumps(fill_shards(task))))


def filled(found: Content, cache_dir: Path, sizes: list[int], workers: Shuffled, shard_rows: int | None) -> Path:
    writer = CacheWriter(cache_dir, max_shard_rows=shard_rows)
    begun = writer.begin(settings(found.length))
    receipts = [
        begun[index] if index in begun else writer.write_chunk(index, tables)
        for index, tables in enumerate(chunks(found, sizes))
    ]
    writer.share_work(workers)
    return writer.finish(receipts).directory


@in_quarters
@given(contents(), cuts(), st.integers(1, 5), st.sampled_from([None, 1, 2, 5, 13]), st.integers(0, 2**16))
def test_workers_change_no_byte(
    quarter: int, found: Content, sizes: list[int], window: int, shard_rows: int | None, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        expected = files_of(publish(found, Path(one), sizes, max_shard_rows=shard_rows).directory)
        assert files_of(filled(found, Path(two), sizes, Shuffled(window, seed), shard_rows)) == expected


def test_a_task_names_only_the_shards_of_its_rows(tmp_path: Path) -> None:
    workers = Shuffled(4)
    filled(CONTENT, tmp_path, [1], workers, 3)
    assert len(workers.tasks) == 4
    shards = [len(task["shards"]) for task in workers.tasks]
    assert sum(shards) <= 10 + len(workers.tasks)
    assert [piece[0] for task in workers.tasks for piece in task["pieces"]] == list(range(12))


def gone_chunk(task: dict[str, Any]) -> None:
    Path(task["directory"], "chunks", task["pieces"][0][1]).unlink(missing_ok=True)


def gone_shard(task: dict[str, Any]) -> None:
    Path(task["shards"][0]["path"]).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (gone_chunk, BuildOSError, r"expected a chunk of .* bytes"),
        (gone_shard, BuildOSError, r"cannot be written: No such file"),
        (
            lambda task: {"rows": 10**6},
            BuildError,
            r"^chunks 0 to \d+, .*: expected \d+ rows .*found \{'rows",
        ),
        (lambda task: 7, BuildError, r"^chunks 0 to .*found 7"),
        (lambda task: 1 / 0, BuildError, r"^chunks 0 to .*"),
    ],
)
def test_a_failure_publishes_nothing_and_keeps_the_chunks(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], kind: type[BuildError], text: str
) -> None:
    class Failing(Shuffled):
        def _work(self) -> None:
            waiting, self._waiting = self._waiting, []
            for task, future in waiting:
                try:
                    answer = change(task)
                except ZeroDivisionError as error:
                    future.set_exception(error)
                else:
                    future.set_result(fill_shards(task) if answer is None else answer)  # type: ignore[arg-type]

    with pytest.raises(kind, match=text) as raised:
        filled(CONTENT, tmp_path, [3], Failing(2), 7)
    if kind is BuildOSError:
        assert raised.value.errno == errno.ENOENT  # type: ignore[attr-defined]
    assert [path.name for path in tmp_path.iterdir()] == [f".build-{settings(CONTENT.length).directory_name}"]
    expected = files_of(publish(CONTENT, tmp_path / "other", [3], max_shard_rows=7).directory)
    assert files_of(filled(CONTENT, tmp_path, [3], Shuffled(2), 7)) == expected


def test_a_task_that_outlives_its_builder_makes_and_changes_no_file(tmp_path: Path) -> None:
    late: list[dict[str, Any]] = []
    directory = filled(CONTENT, tmp_path, [3], Shuffled(2, change=late.append), 7)
    before = files_of(directory)
    for task in late:
        assert fill_shards(task)["error"] == "BuildOSError"
    assert files_of(directory) == before
    assert [path.name for path in tmp_path.iterdir()] == [directory.name]


# --- whole builds


def test_a_worker_that_is_killed_meanwhile_ends_the_build_which_resumes(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = in_workers.OwnWorkers.fill

    def kill(self: in_workers.OwnWorkers, task: Mapping[str, Any]) -> "Future[dict[str, Any]]":
        for worker in self._pool._all:
            worker.process.kill()
        return fill(self, task)

    with monkeypatch.context() as patched:
        patched.setattr(in_workers.OwnWorkers, "fill", kill)
        with pytest.raises(BuildError, match=r"^chunks 0 to 0, .*killed by signal 9.*finished chunks are kept"):
            build(tmp_path, num_workers=2)
    assert len(list(tmp_path.glob(".build-*/chunks/*.chunk"))) == 4
    monkeypatch.setattr("memxlnet.builder.running_build.check_against_transformers", lambda *_: None)
    monkeypatch.setattr(Encoder, "tokenize", _never)
    build(tmp_path, num_workers=0)
    assert content(tmp_path) == undisturbed


def _never(*_: Any) -> Any:
    raise AssertionError("expected nothing to be encoded")


def test_an_executor_fills_shards_durably(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[dict[str, Any]] = []

    def note(task: Mapping[str, Any]) -> dict[str, Any]:
        done.append(dict(task))
        return fill_shards(task)

    monkeypatch.setattr(in_workers, "fill_shards", note)
    with ThreadPoolExecutor(2) as executor:
        build(tmp_path, executor=executor)
    assert content(tmp_path) == undisturbed
    assert done
    assert all(task["is_remote"] for task in done)


def test_threads_fill_shards_where_no_worker_sees_them(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def note(task: Mapping[str, Any]) -> dict[str, Any]:
        threads.append(threading.current_thread().name)
        return fill_shards(task)

    monkeypatch.setattr(shard_filling, "fill_shards", note)
    monkeypatch.setattr(deliveries, "sees", lambda *_: {"sees": False})
    monkeypatch.setattr(in_workers, "sees", lambda *_: {"sees": False})
    with ThreadPoolExecutor(2) as executor:
        build(tmp_path, executor=executor)
    assert content(tmp_path) == undisturbed
    assert threads
    assert all(name.startswith("memxlnet-fill") for name in threads)


def test_a_manager_of_the_users_own_publishes_by_itself(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    class Noting(CacheWriter):
        def write_chunk(self, index: int, tables: Mapping[str, Any]) -> Any:
            return super().write_chunk(index, tables)

        def share_work(self, workers: Any) -> None:
            raise AssertionError("expected no workers")

    build(tmp_path, cache_manager=Noting(tmp_path, max_shard_rows=20), max_shard_rows=None, num_workers=2)
    assert content(tmp_path) == undisturbed
