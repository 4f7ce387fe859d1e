"""Chunks that come back through futures, from workers that do not see the build's directory."""

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from memxlnet.builder import deliveries
from memxlnet.errors import BuildError
from tests.builder.hiding import blind, has_entries
from tests.builder.processes import build, content
from tests.builder.scripts.injected import chunk_files

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def test_workers_without_the_directory_change_no_byte(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    with blind(tmp_path / "cache") as executor:
        build(tmp_path / "cache", executor=executor)
        build(tmp_path / "cache", executor=executor, streaming_chunk_size=1, num_workers=1, rebuild=True)
        assert not any(executor.map(has_entries, [str(tmp_path / "cache")] * 2))
    assert content(tmp_path / "cache") == undisturbed


class Answering(ThreadPoolExecutor):
    """Changes the answers to chunks, given their number from 0, the answer and the answers before."""

    def __init__(self, change: Callable[[int, dict[str, Any], list[dict[str, Any]]], Any]):
        super().__init__(1)
        self.answers: list[dict[str, Any]] = []
        self.tasks: list[Any] = []
        self._change = change

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.tasks.append(args)

        def changed() -> Any:
            answer = fn(*args, **kwargs)
            if "sees" in answer:
                return {"sees": False}
            if "receipt" not in answer:
                return answer
            self.answers.append(answer)
            return self._change(len(self.answers) - 1, answer, self.answers)

        return super().submit(changed)


def with_byte_flipped(answer: dict[str, Any]) -> dict[str, Any]:
    content = bytearray(answer["chunk"])
    content[-1] ^= 1
    return {**answer, "chunk": bytes(content)}


def of_other_examples(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "receipt": {**answer["receipt"], "examples": "0" * 32}}


BAD_ANSWERS: dict[str, tuple[Callable[[int, dict[str, Any], list[dict[str, Any]]], Any], str]] = {
    "twice": (lambda number, answer, before: before[0], "found that of chunk 0"),
    "damaged": (lambda number, answer, before: with_byte_flipped(answer), "expected .* bytes with the checksum"),
    "torn": (
        lambda number, answer, before: {**answer, "chunk": answer["chunk"][:-8]},
        "expected .* bytes with the checksum",
    ),
    "none": (lambda number, answer, before: {**answer, "chunk": b""}, "found 0 with"),
    "short": (lambda number, answer, before: {**answer, "chunk": b"few"}, "found 3 with"),
    "missing": (lambda number, answer, before: {**answer, "chunk": None}, "found a NoneType"),
    "foreign": (lambda number, answer, before: of_other_examples(answer), "expected examples with the digest"),
    "unlike": (lambda number, answer, before: {"receipt": {"index": 1}}, "expected the receipt of a worker"),
    "path": (
        lambda number, answer, before: {**answer, "receipt": {**answer["receipt"], "file": "../../x.chunk"}},
        "expected the receipt of a worker",
    ),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_an_answer_that_is_not_that_of_the_chunk_is_refused(
    tmp_path: Path, undisturbed: dict[str, bytes], name: str
) -> None:
    change, message = BAD_ANSWERS[name]
    executor = Answering(lambda number, answer, before: change(number, answer, before) if number else answer)
    with executor, pytest.raises(BuildError, match=message):
        build(tmp_path, executor=executor)
    assert len(chunk_files(tmp_path)) == 1
    build(tmp_path, num_workers=0)
    assert content(tmp_path) == undisturbed


def test_the_encoder_is_sent_to_each_worker_and_no_more(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    deliveries._packed_encoders.clear()
    with Answering(lambda number, answer, before: answer) as executor:
        build(tmp_path, executor=executor, streaming_chunk_size=1, num_workers=2)
        assert sum(len(task[3]) > 0 for task in executor.tasks if task[1] is deliveries.encode_and_return) == 2
    assert content(tmp_path) == undisturbed


def test_a_worker_that_lacks_the_encoder_gets_it(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    asked: list[int] = []

    class Forgetting(Answering):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            if len(self.tasks) == 3:  # as in a process that starts only now
                deliveries._packed_encoders.clear()
                asked.append(1)
            return super().submit(fn, *args, **kwargs)

    with Forgetting(lambda number, answer, before: answer) as executor:
        build(tmp_path, executor=executor, streaming_chunk_size=1, num_workers=1)
    assert asked
    assert content(tmp_path) == undisturbed


def test_a_worker_that_stops_seeing_the_directory_costs_nothing(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = deliveries.sees, iter(range(100))
    monkeypatch.setattr(deliveries, "sees", lambda *place: {"sees": plain(*place)["sees"] and next(calls) < 2})
    with ThreadPoolExecutor(2) as executor:
        build(tmp_path, executor=executor)
    assert content(tmp_path) == undisturbed
    assert next(calls) > 2


def test_another_directory_of_the_same_path_is_not_taken_for_the_builds(tmp_path: Path) -> None:
    (tmp_path / "chunks").mkdir()
    directory, token = deliveries.SharedDirectory(tmp_path).place
    assert deliveries.sees(directory, token) == {"sees": True}
    assert deliveries.sees(directory, "0" * 32) == {"sees": False}
    assert deliveries.encode_where_seen(directory, "0" * 32, 0, b"", 1, os.getpid()) == {"unseen": directory}
    deliveries.SharedDirectory(tmp_path)
    assert deliveries.sees(directory, token) == {"sees": False}


def test_an_executor_that_answers_a_probe_with_something_else_is_an_error(tmp_path: Path) -> None:
    class Odd(Executor):
        def submit(self, *_: Any, **__: Any) -> "Future[Any]":
            future: Future[Any] = Future()
            future.set_result("yes")
            return future

    with pytest.raises(BuildError, match="'yes'"):
        build(tmp_path, executor=Odd())
