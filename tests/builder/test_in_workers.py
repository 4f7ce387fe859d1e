"""Chunks handed to workers: never more at once than the bounds allow, each back exactly once, every error raised."""

import errno
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Future, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memxlnet import errors
from memxlnet.builder import in_workers as dispatch
from memxlnet.builder.chunk_encoding import unpack
from memxlnet.builder.chunk_files import ChunkReceipt
from memxlnet.builder.chunking import Chunk
from memxlnet.builder.deliveries import SharedDirectory
from memxlnet.builder.in_workers import Dispatcher, ExecutorWorkers
from memxlnet.builder.memory_guard import NEAR, MemoryGuard
from memxlnet.builder.worker_pool import WorkerDiedError
from memxlnet.encode.examples import Example
from memxlnet.errors import (
    BuildError,
    BuildOSError,
    ExampleError,
    MemoryLimitError,
    MemxlnetError,
    SourceError,
    TokenizerError,
    TransferError,
)
from tests.support import WAIT_SECONDS

BOUND = 1000
ROWS = {"features": 1, "documents": 1, "contexts": 1, "dropped": 0}


def chunk(index: int, cost: int = 10, size: int = 4) -> Chunk:
    return Chunk(index, [Example(row, f"{index}.{row}", "", "", (), ()) for row in range(size)], cost)


def done(index: int) -> dict[str, Any]:
    return {"receipt": asdict(ChunkReceipt(index, f"{index}.chunk", 1, ROWS, ""))}


class Workers:
    """Workers whose work is done when the test asks for it; each chunk holds `needs` bytes, split ones less."""

    def __init__(self, window: int = 3, restarts: bool = True, idle: int = 100):
        self.window = window
        self.idle = idle
        self.idle_bytes = 0
        self.needs: Callable[[int, int], int] = lambda index, part_cost: 0
        self.flying: dict[int, tuple[Future[dict[str, Any]], int]] = {}
        self.submitted: list[tuple[int, int]] = []
        self.restarted: list[int] = []
        self.most = self.closed = 0
        self.slow = False
        self._restarts = restarts

    def submit(self, directory: str, index: int, packed: bytes, part_cost: int) -> "Future[dict[str, Any]]":
        assert directory == "folder"
        assert unpack(packed) == chunk(index, size=len(unpack(packed))).examples
        assert index not in self.flying
        future: Future[dict[str, Any]] = Future()
        self.flying[index] = future, part_cost
        self.submitted.append((index, part_cost))
        self.most = max(self.most, len(self.flying))
        return future

    def finish(self, index: int) -> None:
        self.flying.pop(index)[0].set_result(done(index))

    def fail(self, index: int, error: BaseException | dict[str, Any]) -> None:
        future, _ = self.flying.pop(index)
        future.set_result(error) if isinstance(error, dict) else future.set_exception(error)

    def take(self, directory: str, index: int, result: Mapping[str, Any]) -> ChunkReceipt | None:
        return ChunkReceipt(**result["receipt"])

    def overlaps(self, index: int, result: Mapping[str, Any]) -> bool:
        return self.slow

    def restart(self, window: int) -> bool:
        if self._restarts:
            for future, _ in self.flying.values():
                future.cancel()
            self.flying.clear()
            self.restarted.append(window)
        return self._restarts

    def close(self) -> None:
        self.closed += 1

    @property
    def used(self) -> int:
        return self.idle + sum(self.needs(index, part) for index, (_, part) in self.flying.items())


class Guard(MemoryGuard):
    """Measures fake workers; `release` gives nothing back."""

    def __init__(self, workers: Workers, bound: int = BOUND):
        super().__init__(bound)
        self._workers = workers

    @property
    def used(self) -> int:
        return self._workers.used

    def measure(self) -> int:
        return self.used

    def release(self) -> int:
        return self.used


@pytest.fixture
def each_wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[bool], None]], None]:
    """Calls a function wherever the dispatcher waits, with whether it has nothing else to do."""
    return lambda step: monkeypatch.setattr(dispatch, "wait", waiting(step))


def waiting(step: Callable[[bool], None]) -> Any:
    def stepped(pending: Any, timeout: float, when: str) -> Any:
        step(timeout > 0)
        return wait(pending, 0, when)

    return stepped


def run(workers: Workers, chunks: list[Chunk] | Iterator[Chunk], guard: MemoryGuard | None = None) -> list[int]:
    """The chunks in the order in which they come back."""
    found = []
    for entry in Dispatcher(workers, "folder", guard or Guard(workers)).run(iter(chunks)):
        assert entry.receipt == ChunkReceipt(entry.chunk.index, f"{entry.chunk.index}.chunk", 1, ROWS, "")
        found.append(entry.chunk.index)
    return found


EachWait = Callable[[Callable[[bool], None]], None]


def finish_first(workers: Workers) -> Callable[[bool], None]:
    def step(idle: bool) -> None:
        if idle and workers.flying:
            workers.finish(next(iter(workers.flying)))

    return step


# --- bounds


@pytest.mark.parametrize("window", [1, 3, 50])
def test_no_more_chunks_are_in_work_than_the_window_holds(each_wait: EachWait, window: int) -> None:
    workers = Workers(window)
    each_wait(finish_first(workers))
    assert run(workers, [chunk(index) for index in range(20)]) == list(range(20))
    assert workers.most == min(window, 20)
    assert workers.restarted == []
    assert workers.closed == 0


def test_no_chunk_is_an_end() -> None:
    assert run(Workers(), []) == []


def test_chunks_are_read_no_further_ahead_than_one(each_wait: EachWait) -> None:
    workers = Workers(3)
    read: list[int] = []

    def source() -> Iterator[Chunk]:
        for index in range(20):
            read.append(index)
            yield chunk(index)

    def step(idle: bool) -> None:
        assert len(read) <= len(workers.submitted) + 1
        finish_first(workers)(idle)

    each_wait(step)
    run(workers, source())


def test_bytes_in_work_stay_below_what_is_left_of_the_bound(each_wait: EachWait) -> None:
    workers = Workers(window=50, idle=400)
    costs = [100, 100, 300, 250, 250, 100, 100, 100, 100, 100, 100, 599, 2]

    def step(idle: bool) -> None:
        flying = sum(costs[index] for index in workers.flying)
        assert flying <= BOUND - 400
        assert not idle or flying > 0
        finish_first(workers)(idle)

    each_wait(step)
    assert run(workers, [chunk(index, cost) for index, cost in enumerate(costs)]) == list(range(len(costs)))
    assert workers.most == 6


def test_a_chunk_beyond_what_is_left_goes_alone_and_split(each_wait: EachWait) -> None:
    workers = Workers(window=50, idle=400)
    costs = [10, 700, 10, 10]

    def step(idle: bool) -> None:
        assert 1 not in workers.flying or len(workers.flying) == 1
        finish_first(workers)(idle)

    each_wait(step)
    assert run(workers, [chunk(index, cost) for index, cost in enumerate(costs)]) == [0, 1, 2, 3]
    assert dict(workers.submitted)[0] == BOUND
    assert dict(workers.submitted)[1] == 600


def test_near_the_bound_nothing_more_is_taken_up_before_something_is_done(each_wait: EachWait) -> None:
    workers = Workers(window=50)
    workers.needs = lambda index, part_cost: 400
    waits: list[int] = []

    def step(idle: bool) -> None:
        assert len(workers.flying) <= 2
        if len(workers.flying) == 2:
            assert NEAR * BOUND <= workers.used <= BOUND
            waits.append(len(workers.submitted))
            if len(waits) % 3 == 0:  # it waits as long as it takes
                workers.finish(min(workers.flying))
        else:
            finish_first(workers)(idle)

    each_wait(step)
    assert run(workers, [chunk(index) for index in range(6)]) == list(range(6))
    assert workers.restarted == []
    assert len(set(waits)) == 5


def test_a_process_that_is_near_the_bound_by_itself_still_ends(each_wait: EachWait) -> None:
    workers = Workers(window=50, idle=900)
    each_wait(finish_first(workers))
    assert run(workers, [chunk(index, 300) for index in range(6)]) == list(range(6))
    assert workers.most == 1
    # The use at the beginning is what it is: no restart would lower it.
    assert workers.restarted == []
    assert {part for _, part in workers.submitted} == {100}


def test_what_workers_keep_of_earlier_work_is_freed_by_a_restart(each_wait: EachWait) -> None:
    workers = Workers(window=2)
    guard = Guard(workers)

    def step(idle: bool) -> None:
        if idle and workers.flying:
            workers.finish(min(workers.flying))
            workers.idle = 900  # held back by the C library of a worker

    plain = workers.restart

    def restart(window: int) -> bool:
        workers.idle = 100
        return plain(window)

    workers.restart = restart  # type: ignore[method-assign]
    each_wait(step)
    assert run(workers, [chunk(index) for index in range(5)], guard) == list(range(5))
    assert workers.restarted


# --- beyond the bound


def test_beyond_the_bound_work_is_taken_back_and_done_with_less_at_once(each_wait: EachWait) -> None:
    workers = Workers(window=6)
    workers.needs = lambda index, part_cost: 300 if len(workers.flying) > 3 else 100
    each_wait(finish_first(workers))
    found = run(workers, [chunk(index) for index in range(12)])
    assert sorted(found) == list(range(12))
    assert workers.restarted[0] == 2
    before = [index for index, _ in workers.submitted[:4]]
    assert before == [0, 1, 2, 3]
    again = [index for index, _ in workers.submitted[4:]]
    assert sorted(again) == list(range(12))
    assert workers.closed == 0


def test_one_chunk_alone_is_split_until_it_fits(each_wait: EachWait) -> None:
    workers = Workers(window=4)
    workers.needs = lambda index, part_cost: min(40 * part_cost, 8000)
    each_wait(finish_first(workers))
    assert sorted(run(workers, [chunk(index, 200) for index in range(5)])) == list(range(5))
    parts = [part for _, part in workers.submitted]
    assert parts[0] == BOUND
    assert parts[-1] * 40 <= BOUND - 100
    assert parts == sorted(parts, reverse=True)
    assert all(window == 1 for window in workers.restarted)


def test_an_example_that_fits_in_no_way_is_named(each_wait: EachWait) -> None:
    workers = Workers(window=4)
    workers.needs = lambda index, part_cost: 2000 if index == 2 else 10
    each_wait(finish_first(workers))
    with pytest.raises(MemoryLimitError, match=r"^max_memory_gb:.*'2\.0'"):
        run(workers, [chunk(index, 10, size=1) for index in range(5)])
    assert workers.closed == 1
    assert workers.submitted[-1][0] == 2
    assert len(workers.flying) == 1


def test_examples_that_fit_in_no_way_end_after_a_few_attempts(each_wait: EachWait) -> None:
    workers = Workers(window=4)
    workers.needs = lambda index, part_cost: 2000
    each_wait(finish_first(workers))
    with pytest.raises(MemoryLimitError, match=r"^max_memory_gb:.*'0\.0'"):
        run(workers, [chunk(0, 2**28)], Guard(workers))
    assert len(workers.submitted) < 20


def test_a_process_beyond_the_bound_without_work_is_an_error(each_wait: EachWait) -> None:
    workers = Workers(window=4)

    def step(idle: bool) -> None:
        finish_first(workers)(idle)
        if len(workers.submitted) > 5:
            workers.idle = BOUND + 1

    each_wait(step)
    with pytest.raises(MemoryLimitError, match=r"^max_memory_gb:(?!.*'\d+\.0')"):
        run(workers, [chunk(index) for index in range(20)])
    assert workers.closed == 1


def test_work_that_cannot_be_taken_back_is_waited_for(each_wait: EachWait) -> None:
    workers = Workers(window=6, restarts=False)
    workers.needs = lambda index, part_cost: 200
    each_wait(finish_first(workers))
    assert run(workers, [chunk(index) for index in range(12)]) == list(range(12))
    assert [index for index, _ in workers.submitted] == list(range(12))


costs = st.lists(st.integers(1, 1500), max_size=12)


@settings(max_examples=200)
@given(st.integers(0, 2**32), costs, st.integers(1, 6), st.integers(0, 900), st.floats(0.1, 3), st.booleans())
def test_every_chunk_comes_back_once_or_the_bound_is_an_error(
    seed: int, costs: list[int], window: int, idle: int, factor: float, restarts: bool
) -> None:
    workers = Workers(window, restarts, idle)
    # An estimate that is off by `factor`; the parts of a split chunk take what they may take.
    workers.needs = lambda index, part_cost: int(factor * min(costs[index], max(part_cost, costs[index] // 4)))
    source = random.Random(seed)
    steps = 0

    def step(waits: bool) -> None:
        nonlocal steps
        steps += 1
        assert steps < 1000, "it never ends"
        assert len(workers.flying) <= window
        planned = sum(costs[index] for index in workers.flying)
        assert len(workers.flying) <= 1 or planned <= BOUND - idle
        for index in source.sample(sorted(workers.flying), source.randint(0, len(workers.flying))):
            workers.finish(index)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dispatch, "wait", waiting(step))
        found: list[int] = []
        try:
            dispatcher = Dispatcher(workers, "folder", Guard(workers))
            found.extend(entry.chunk.index for entry in dispatcher.run(map(chunk, range(len(costs)), costs)))
        except MemoryLimitError:
            assert workers.closed == 1
            assert factor > 1 or max(costs) + idle > BOUND
            assert len(found) == len(set(found))
        else:
            assert sorted(found) == list(range(len(costs)))
            assert workers.flying == {}
            assert workers.closed == 0


def test_real_threads_give_every_chunk_once() -> None:
    with ThreadPoolExecutor(4) as pool:
        workers = Workers(5)
        submit = workers.submit

        def submit_in_thread(directory: str, index: int, packed: bytes, part_cost: int) -> Any:
            future = submit(directory, index, packed, part_cost)
            pool.submit(workers.finish, index)
            return future

        workers.submit = submit_in_thread  # type: ignore[method-assign]
        assert sorted(run(workers, [chunk(index) for index in range(200)])) == list(range(200))


@pytest.mark.parametrize("window", [1, 3, 6])
def test_chunks_are_handed_over_while_others_are_fetched_and_no_more_than_the_window(window: int) -> None:
    workers = Workers(window)
    workers.slow = True
    given: list[int] = []
    back: list[int] = []
    changed = threading.Condition()
    submit, take = workers.submit, workers.take

    def submit_done(directory: str, index: int, packed: bytes, part_cost: int) -> Any:
        future = submit(directory, index, packed, part_cost)
        workers.finish(index)
        with changed:
            given.append(index)
            changed.notify_all()
        assert len(given) - len(back) <= window
        return future

    def take_late(directory: str, index: int, result: Mapping[str, Any]) -> ChunkReceipt | None:
        with changed:  # until as many are in flight as may be
            assert changed.wait_for(lambda: len(given) in (20, len(back) + window), WAIT_SECONDS)
        return take(directory, index, result)

    workers.submit, workers.take = submit_done, take_late  # type: ignore[method-assign]
    for entry in Dispatcher(workers, "folder", Guard(workers)).run(map(chunk, range(20))):
        assert len(given) - len(back) <= window
        with changed:
            back.append(entry.chunk.index)
    assert sorted(back) == list(range(20))
    assert workers.closed == 0


# --- errors


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BuildError("another chunk"), BuildError),
        (TransferError("the store is gone"), TransferError),
        (OSError(errno.ENOSPC, "No space left"), BuildOSError),
        (ZeroDivisionError("mine"), ZeroDivisionError),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_chunk_that_cannot_be_taken_is_an_error(
    each_wait: EachWait, slow: bool, error: Exception, kind: type[Exception]
) -> None:
    workers = Workers(3)
    workers.slow = slow
    take = workers.take

    def fail(directory: str, index: int, result: Mapping[str, Any]) -> ChunkReceipt | None:
        if index == 4:
            raise error
        return take(directory, index, result)

    workers.take = fail  # type: ignore[method-assign]
    each_wait(finish_first(workers))
    with pytest.raises(kind) as caught:
        run(workers, [chunk(index) for index in range(9)])
    assert type(caught.value) is kind
    assert getattr(caught.value, "errno", None) == getattr(error, "errno", None)
    assert workers.closed == 1


def failed(name: str, message: str) -> dict[str, Any]:
    return {"error": name, "message": message, "traceback": "Traceback of the worker"}


@pytest.mark.parametrize(
    ("found", "kind", "message"),
    [
        (failed("ExampleError", "example 'x': bad"), ExampleError, "^example 'x': bad"),
        (failed("TokenizerError", "the tokenizer failed"), TokenizerError, "^the tokenizer failed"),
        (failed("MemoryLimitError", "too much"), MemoryLimitError, "^too much"),
        (failed("MemoryError", ""), MemoryLimitError, r"'1\.0'.*\bnum_workers\b"),
        (failed("OSError", "[Errno 28] full"), BuildError, r"'1\.0'.*OSError: \[Errno 28\] full\b"),
        (failed("Exception", "any"), BuildError, r"'1\.0'.*Exception: any\b"),
        (failed("__name__", "any"), BuildError, r"'1\.0'.*__name__: any\b"),
        (failed("KeyboardInterrupt", ""), BuildError, r"'1\.0'.*KeyboardInterrupt\b"),
        (WorkerDiedError("killed"), BuildError, r"'1\.0'.*\bkilled\b"),
        (BrokenProcessPool("ended"), BuildError, r"'1\.0'.*BrokenProcessPool: ended\b.*__main__"),
        (CancelledError(), BuildError, r"'1\.0'.*CancelledError\b"),
        (ZeroDivisionError("mine"), BuildError, r"'1\.0'.*ZeroDivisionError: mine\b"),
    ],
    ids=lambda value: value["error"] if isinstance(value, dict) else "",
)
def test_an_error_of_a_worker_names_its_chunk(
    each_wait: EachWait, found: Any, kind: type[MemxlnetError], message: str
) -> None:
    workers = Workers(3)

    def step(idle: bool) -> None:
        if idle and 1 in workers.flying:
            workers.fail(1, found)

    each_wait(step)
    with pytest.raises(kind, match=message) as caught:
        run(workers, [chunk(index) for index in range(6)])
    assert type(caught.value) is kind
    assert workers.closed == 1
    if isinstance(found, dict):
        assert found["message"] in str(caught.value)
        (note,) = caught.value.__notes__
        assert note.startswith("in a worker, chunk 1 (examples '1.0', '1.1', '1.2' and 1 more):\nTraceback of")
    else:
        assert caught.value.__cause__ is found
        assert "in work besides: chunk 0 (" in str(caught.value)
        assert ", chunk 2 (" in str(caught.value)
        assert "finished chunks are kept, build again to resume" in str(caught.value)


def test_every_error_of_memxlnet_keeps_its_class(each_wait: EachWait) -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MemxlnetError)]
    assert len(kinds) > 15
    for kind in kinds:
        workers = Workers(1)
        each_wait(lambda idle, workers=workers, kind=kind: workers.fail(0, failed(kind.__name__, "why")))  # type: ignore[misc]
        with pytest.raises(kind, match="why") as caught:
            run(workers, [chunk(0)])
        assert type(caught.value) is kind


def test_an_interruption_stays_one(each_wait: EachWait) -> None:
    workers = Workers(1)
    each_wait(lambda idle: workers.fail(0, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(workers, [chunk(0)])
    assert workers.closed == 1


@pytest.mark.parametrize("error", [RuntimeError("cannot schedule new futures after shutdown"), BrokenExecutor("gone")])
def test_workers_that_refuse_work_are_an_error(error: Exception) -> None:
    workers = Workers()

    def refuse(*_: Any) -> Any:
        raise error

    workers.submit = refuse  # type: ignore[assignment, method-assign]
    with pytest.raises(BuildError, match=type(error).__name__) as caught:
        run(workers, [chunk(0)])
    assert caught.value.__cause__ is error
    assert workers.closed == 1


def test_an_error_of_the_source_ends_the_work() -> None:
    def source() -> Iterator[Chunk]:
        yield chunk(0)
        raise SourceError("torn")

    workers = Workers()
    with pytest.raises(SourceError, match="torn"):
        run(workers, source())
    assert workers.closed == 1


def test_who_stops_listening_ends_the_work(each_wait: EachWait) -> None:
    workers = Workers()
    each_wait(finish_first(workers))
    running: Any = Dispatcher(workers, "folder", Guard(workers)).run(chunk(index) for index in range(9))
    assert next(running).chunk.index == 0
    assert workers.closed == 0
    running.close()
    assert workers.closed == 1


# --- an executor of the user


def test_an_executor_is_left_open_and_what_has_not_begun_is_cancelled(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        blocker: Future[None] = Future()
        executor.submit(blocker.result)
        workers = ExecutorWorkers(executor, 7, SharedDirectory(tmp_path))
        futures = [workers.submit("folder", index, b"", 1) for index in range(3)]
        assert workers.window == 7
        assert not workers.restart(1)
        workers.close()
        assert all(future.cancelled() for future in futures)
        blocker.set_result(None)
        assert executor.submit(int, "3").result() == 3
        # What cannot be unpacked comes back as data.
        (tmp_path / "chunks").mkdir()
        assert workers.submit("folder", 0, b"", 1).result()["error"] == "BuildError"
