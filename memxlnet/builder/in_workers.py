"""Chunks handed to workers within a bound of RAM, and their receipts taken back."""

import logging
import secrets
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from memxlnet.builder.build_directory import BuildDirectory
from memxlnet.builder.chunk_encoding import examples_digest, pack
from memxlnet.builder.chunk_files import ChunkReceipt
from memxlnet.builder.chunking import Chunk
from memxlnet.builder.deliveries import ANSWERS, Delivery, SharedDirectory, ThroughFuture, sees
from memxlnet.builder.memory_guard import MemoryGuard
from memxlnet.builder.reported_errors import reported_error
from memxlnet.builder.shard_filling import fill_shards
from memxlnet.builder.worker_pool import WorkerDiedError, WorkerPool
from memxlnet.errors import BuildError, MemoryLimitError

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1

_LAG_WINDOWS = 4
"""Windows of chunks that may be done and wait for an older one, where chunks are used in their order."""

_FETCHES = 4
"""Chunks at most that are fetched at once."""

_FILLS_PER_WORKER = 4
"""Tasks of filling for each worker process, so that all end at about the same time."""

_MOST_PROBES = 16
"""Workers that are asked at most whether they see the build's directory; every task looks for itself besides."""

_PROBE_SECONDS = 2.0
"""How long the other answers are waited for after the first one."""

WORKER_BYTES = 64 * 2**20
"""Private memory of a worker that has loaded everything and encodes nothing."""


class Workers(Protocol):
    """Who encodes chunks."""

    @property
    def window(self) -> int:
        """Chunks that are handed over at once."""

    @property
    def idle_bytes(self) -> int:
        """Bytes that they take without work, and may not have taken yet."""

    def submit(self, directory: str, index: int, packed: bytes, part_cost: int) -> "Future[dict[str, Any]]":
        """Hand one chunk over; see `encode_chunk`."""

    def take(self, directory: str, index: int, result: Mapping[str, Any]) -> ChunkReceipt | None:
        """Put a chunk that came back into the build's directory; None to hand it over again."""

    def overlaps(self, index: int, result: Mapping[str, Any]) -> bool:
        """Return whether `take` of an answer takes long, and may run in a thread besides others."""

    def restart(self, window: int) -> bool:
        """End the work in flight and restart with room for `window` chunks; False for the caller's executor."""

    def close(self) -> None:
        """End the work in flight."""


class OwnWorkers:
    """The worker processes of a pool; one chunk each, and one more that waits."""

    def __init__(self, pool: WorkerPool):
        self._pool = pool
        self.window = pool.num_workers + 1
        self.num_fills = _FILLS_PER_WORKER * pool.num_workers
        self.idle_bytes = pool.num_workers * WORKER_BYTES
        self.submit = pool.submit

    @property
    def can_fill(self) -> bool:
        """Whether they see the directory of the build."""
        return True

    def fill(self, task: Mapping[str, Any]) -> "Future[dict[str, Any]]":
        """Hand the task to the next free process."""
        return self._pool.submit_task({"task": "fill", **task, "is_remote": False})

    def take(self, directory: str, index: int, result: Mapping[str, Any]) -> ChunkReceipt | None:
        """Return the receipt: the chunk lies in the directory already."""
        return ChunkReceipt(**result["receipt"])

    def overlaps(self, index: int, result: Mapping[str, Any]) -> bool:
        """Return False: nothing is left to do."""
        return False

    def restart(self, window: int) -> bool:
        """Kill the processes and start others, no more than needed."""
        self._pool.restart(min(window, self._pool.num_workers))
        return True

    def close(self) -> None:
        """Kill the processes."""
        self._pool.close()


class ExecutorWorkers:
    """An executor that the user brought: it stays the user's, also after errors.

    Args:
        executor: The executor.
        window: Chunks that it is given at once.
        delivery: How its chunks come back; None asks the workers whether they see the build's directory.
    """

    def __init__(self, executor: Executor, window: int, delivery: Delivery | None = None):
        self._executor = executor
        self.window = self.num_fills = window
        self.idle_bytes = 0
        self._delivery = delivery
        self._handed: dict[int, tuple[Delivery, str]] = {}
        self._pending: set[Future[dict[str, Any]]] = set()

    def submit(self, directory: str, index: int, packed: bytes, part_cost: int) -> "Future[dict[str, Any]]":
        """Submit the task of the delivery."""
        if self._delivery is None:
            self._delivery = self._probed(Path(directory))
        self._handed[index] = (self._delivery, examples_digest(packed))
        return self._submitted(*self._delivery.task(index, packed, part_cost))

    def take(self, directory: str, index: int, result: Mapping[str, Any]) -> ChunkReceipt | None:
        """Take a chunk as its delivery does."""
        delivery, examples = self._handed.pop(index)
        if "unseen" in result:
            self._go_through_futures(Path(directory))
            return None
        return delivery.take(index, examples, result)

    def overlaps(self, index: int, result: Mapping[str, Any]) -> bool:
        """Return whether a chunk has to be fetched or written; other answers change what is handed over next."""
        return "receipt" in result and self._handed[index][0].overlaps

    @property
    def can_fill(self) -> bool:
        """Whether all that encoded a chunk see the directory of the build."""
        return isinstance(self._delivery, SharedDirectory)

    def fill(self, task: Mapping[str, Any]) -> "Future[dict[str, Any]]":
        """Submit `fill_shards`."""
        return self._submitted(fill_shards, {**task, "is_remote": True})

    def _probed(self, directory: Path) -> Delivery:
        """Ask the workers whether they see the directory, as many as there are chunks at once."""
        shared = SharedDirectory(directory)
        probes = [self._submitted(sees, *shared.place) for _ in range(min(self.window, _MOST_PROBES))]
        # An executor that is shut down may cancel what it holds without notice to anyone who waits.
        while not any(probe.done() for probe in probes):
            wait(probes, _POLL_SECONDS, FIRST_COMPLETED)
        wait(probes, _PROBE_SECONDS)
        answers = [probe.result() for probe in probes if probe.done()]
        for probe in probes:
            # It may run; each later task looks for itself.
            probe.cancel()
        for answer in answers:
            if not isinstance(answer, dict) or "sees" not in answer:
                raise TypeError(f"the executor gave no answer to a probe, but {answer!r:.80}")
        return shared if all(answer["sees"] for answer in answers) else self._go_through_futures(directory)

    def _go_through_futures(self, directory: Path) -> Delivery:
        if not isinstance(self._delivery, ThroughFuture):
            logger.info("%s: not seen by all workers: chunks come back through their futures", directory)
            self._delivery = ThroughFuture(directory, self.window)
        return self._delivery

    def _submitted(self, work: Callable[..., dict[str, Any]], *arguments: Any) -> "Future[dict[str, Any]]":
        future = self._executor.submit(_call_uncached, secrets.token_hex(8), work, *arguments)
        if not isinstance(future, Future):
            raise TypeError(f"submit gave no concurrent.futures.Future, but {type(future).__name__}")
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    def restart(self, window: int) -> bool:
        """Return False: the executor belongs to the caller."""
        return False

    def close(self) -> None:
        """Cancel what has not begun."""
        for future in list(self._pending):
            future.cancel()


def _call_uncached(submission: str, work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Call a function with an argument that no other call has.

    Dask treats calls with equal arguments as one call, and answers with what an earlier build received as long as
    anything holds that: an error whose cause has gone, or the receipt of a chunk that was removed since.
    """
    return work(*arguments)


class Done(NamedTuple):
    """A chunk that is encoded and written."""

    chunk: Chunk
    receipt: ChunkReceipt


class Dispatcher:
    """Hands chunks to workers.

    Work in flight is bounded three times: in chunks, in estimated bytes, and by what is measured. Near the bound no
    chunk is handed over before another has come back; beyond it the work in flight is ended where that is possible,
    started again with half as many chunks at once, and then in ever smaller parts of a chunk.

    Args:
        workers: Who encodes.
        directory: The build's directory.
        guard: Watches the RAM.
        in_order: The chunks are used in their order: none is begun long before the oldest one is done.
    """

    def __init__(self, workers: Workers, directory: str, guard: MemoryGuard, in_order: bool = False):
        self._workers = workers
        self._directory = directory
        self._guard = guard
        self._window = workers.window
        self._lag = _LAG_WINDOWS * workers.window if in_order else None
        self._idle_use = guard.measure() + workers.idle_bytes
        self._part_cost = guard.bound
        self._pending: dict[Future[Any], Chunk] = {}
        self._fetches: set[Future[ChunkReceipt | None]] = set()
        self._again: deque[Chunk] = deque()
        self._reduced: list[Chunk] = []
        self._has_more = True

    def run(self, chunks: Iterator[Chunk]) -> Generator[Done, None, None]:
        """Encode all chunks in workers; yield them in the order in which they finish.

        Raises:
            ExampleError: An example is bad, and bad examples are errors.
            MemoryLimitError: Not even one chunk at a time, split, fits.
            BuildError: A worker ended or failed.
        """
        held: Chunk | None = None
        # Chunks are handed over while others are fetched; until they are done they count as in flight.
        self._fetching = ThreadPoolExecutor(_FETCHES, "memxlnet-fetch")
        try:
            while True:
                held = held or self._next(chunks)
                if held is None and not self._pending:
                    return
                if held is not None and self._admits(held):
                    self._submit(held)
                    held = None
                yield from self._collect(0 if held is None and self._has_more else _POLL_SECONDS)
        except BaseException:
            self._workers.close()
            raise
        finally:
            self._fetching.shutdown(cancel_futures=True)

    def _next(self, chunks: Iterator[Chunk]) -> Chunk | None:
        """Return the next chunk: one whose work was ended before, or one from the source."""
        if self._again:
            return self._again.popleft()
        found = next(chunks, None)
        self._has_more = found is not None
        return found

    def _submit(self, chunk: Chunk) -> None:
        try:
            packed = pack(chunk.examples, chunk.kept)
            future = self._workers.submit(self._directory, chunk.index, packed, self._part_cost)
        except Exception as error:
            # Executors raise what they like: RuntimeError after shutdown, Dask its own error, a fork server that
            # cannot load the main script EOFError.
            raise self._failed(chunk, error, is_refused=type(error) is RuntimeError) from error
        self._pending[future] = chunk

    def _admits(self, chunk: Chunk) -> bool:
        """Return whether one more chunk may be handed over now."""
        if not self._pending:
            self._make_room(chunk)
            return True
        planned = sum(chunk.cost for chunk in self._pending.values()) + chunk.cost
        if self._lag is not None and chunk.index - min(c.index for c in self._pending.values()) > self._lag:
            return False
        return (
            len(self._pending) < self._window
            and planned <= self._guard.bound - self._idle_use
            and not self._guard.is_near
        )

    def _make_room(self, chunk: Chunk) -> None:
        """Make a chunk small enough to be encoded alone: split it where it would take too much."""
        guard = self._guard
        # Workers keep memory of earlier work. New ones do not, but are worth their start only where much comes back.
        if guard.is_near and guard.release() > self._idle_use + guard.bound // 20 and guard.is_near:
            self._workers.restart(self._window)
            guard.measure()
        guard.check("what is held between two chunks")
        if min(chunk.cost, self._part_cost) > guard.room:
            self._part_cost = max(guard.room, 1)
            logger.info("%s is split: it may take %d bytes, and %d are left", chunk.shown(), chunk.cost, guard.room)

    def _collect(self, timeout: float) -> Iterator[Done]:
        """Yield what is done by now, waiting for it no longer than `timeout` seconds."""
        done, running = wait(self._pending, timeout, FIRST_COMPLETED)
        # An executor that is shut down may cancel what it holds without notice to anyone who waits.
        ended = [*done, *(future for future in running if future.cancelled())]
        for future in sorted(ended, key=lambda each: self._pending[each].index):
            chunk = self._pending[future]
            found = future.result() if future in self._fetches else self._taken(future)
            self._fetches.discard(future)
            if isinstance(found, Future):
                self._fetches.add(found)
                self._pending[found] = chunk
            elif found is None:
                self._again.append(chunk)
            else:
                yield Done(chunk, found)
            del self._pending[future]
        if self._guard.used > self._guard.bound and self._pending:
            self._reduce()

    def _reduce(self) -> None:
        """Take the work in flight back, as the bound is passed, and continue with less of it."""
        in_flight = sorted(self._pending.values(), key=lambda chunk: chunk.index)
        alone = len(in_flight) == 1
        if alone and (len(in_flight[0].examples) == 1 or self._part_cost == 1):
            raise MemoryLimitError(
                f"max_memory_gb: {in_flight[0].shown()} alone takes {self._guard.used / 2**30:.2f} GiB with all that "
                f"the process holds; expected at most {self._guard.bound / 2**30:g}; raise max_memory_gb"
            )
        if in_flight == self._reduced:
            return  # nothing more can be done until one of them is
        self._reduced = in_flight
        self._window = max(len(in_flight) // 2, 1)
        if alone:
            self._part_cost = max(min(self._part_cost, in_flight[0].cost) // 4, 1)
        if not self._workers.restart(self._window):
            return
        self._reduced = []
        self._pending.clear()
        self._again.extendleft(reversed(in_flight))
        logger.warning(
            "max_memory_gb was passed (%.2f GiB): continuing with %d chunks at once, in parts of %d bytes",
            self._guard.used / 2**30,
            self._window,
            self._part_cost,
        )
        self._guard.measure()

    def _taken(self, future: "Future[dict[str, Any]]") -> "ChunkReceipt | Future[ChunkReceipt | None] | None":
        """Return the receipt of a chunk, or what gives it when the chunk lies in the directory.

        None stands for a chunk that must be handed over again.
        """
        chunk = self._pending[future]
        try:
            result = future.result()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            raise self._failed(chunk, error) from error
        if not isinstance(result, dict) or not ANSWERS & result.keys():
            raise self._failed(chunk, TypeError(f"the executor gave no receipt, but {result!r:.80}"))
        if "error" in result:
            raise reported_error(chunk.shown(), result)
        if self._workers.overlaps(chunk.index, result):
            return self._fetching.submit(self._take, chunk.index, result)
        return self._take(chunk.index, result)

    def _take(self, index: int, result: Mapping[str, Any]) -> ChunkReceipt | None:
        with BuildDirectory(Path(self._directory)).errors():
            return self._workers.take(self._directory, index, result)

    def _failed(self, chunk: Chunk, error: BaseException, is_refused: bool = False) -> BuildError:
        """Return the error for workers that ended or could not be reached, or for an executor that takes no work."""
        others = [other.shown() for other in self._pending.values() if other is not chunk]
        if isinstance(error, WorkerDiedError):
            found = str(error)
        else:
            found = f"{type(error).__name__}: {error}".rstrip(": ")
            if isinstance(error, BrokenExecutor | EOFError | ConnectionError):
                found += (
                    " (a process of the executor was killed, likely out of memory, or could not start: a script needs "
                    "`if __name__ == '__main__':` around its calls)"
                )
        also = f"; in work besides: {', '.join(others)}" if others else ""
        hint = "fewer workers or smaller chunks where memory ran out"
        if is_refused or isinstance(error, CancelledError):
            hint = "an executor that is not shut down"
        return BuildError(
            f"{chunk.shown()}: {found}{also}; finished chunks are kept, build again to resume (with {hint})"
        )
