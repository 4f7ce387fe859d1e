"""One running build: chunks read, encoded here or by workers, and handed to a cache manager."""

import logging
import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir, mkdtemp
from typing import Any

from arrow_schemas import DROPPED
from memxlnet.builder.build_directory import BuildDirectory
from memxlnet.builder.build_progress import Progress
from memxlnet.builder.cache_writer import CacheManager, CacheWriter
from memxlnet.builder.chunk_encoding import examples_digest, pack
from memxlnet.builder.chunk_files import ChunkReceipt, read_chunk
from memxlnet.builder.chunking import Chunk, read_chunks, shown_cut
from memxlnet.builder.deliveries import BuildScratch
from memxlnet.builder.in_process import LocalEncoder
from memxlnet.builder.in_workers import WORKER_BYTES, Dispatcher, ExecutorWorkers, OwnWorkers, Workers
from memxlnet.builder.label_counts import LabelCounts
from memxlnet.builder.loss_limits import LossesSoFar, LossLimits
from memxlnet.builder.memory_guard import MemoryGuard
from memxlnet.builder.shard_filling import FillingThreads, ShardWorkers
from memxlnet.builder.transformers_check import check_against_transformers
from memxlnet.builder.worker_pool import WorkerPool
from memxlnet.encode.cache_settings import CacheSettings
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import Example
from memxlnet.errors import BuildError, BuildOSError, SourceError, with_fields_of
from memxlnet.progress import Heartbeat
from memxlnet.settings import MAX_EAGER_EXAMPLES, BuildSettings
from memxlnet.sources import Source
from memxlnet.system_errors import hint_for

logger = logging.getLogger(__name__)

LARGE_EXAMPLES = 20_000
"""From this many examples on, worker processes are worth their start."""

LARGE_FILE = 8 * 2**20
"""Bytes of a source file that count as large: 20,000 questions of SQuAD in its official form."""

LARGE_COST = 750 * 2**20
"""Estimated bytes that a source of unknown size has cost when it counts as large: 20,000 questions of SQuAD."""

_FILLING_THREADS = 4


class Run:
    """The work of one build.

    Args:
        source: Where the examples come from.
        tokenizer: The transformers tokenizer, for the check on the first examples.
        settings: What is built.
        build: How the work is done.
        executor: Encodes the chunks; None encodes them here or in the package's worker processes.
        manager: Where the chunks go.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: Any,
        settings: CacheSettings,
        build: BuildSettings,
        executor: Executor | None,
        manager: CacheManager,
    ):
        self._source = source
        self._tokenizer = tokenizer
        self._build = build
        self._executor = executor
        self._manager = manager
        self._chunk_size = build.streaming_chunk_size
        self._settings = settings
        if not build.use_streaming:
            self._chunk_size = self._eager_chunk_size()
        self._settings = replace(settings, chunking=shown_cut(self._chunk_size, build))
        self._guard = MemoryGuard(build.max_memory_bytes)
        self._found: dict[int, ChunkReceipt | None] = {}
        self._kept: set[int] = set()
        self._receipts: dict[int, Any] = {}
        self._features = 0
        self._labels = LabelCounts()
        self._limits = LossLimits.of(build)
        self._losses = LossesSoFar(self._limits)
        self._uncounted: deque[ChunkReceipt] = deque()
        self._scratch: BuildScratch | None = None

    def run(self) -> tuple[int, Any]:
        """Encode every chunk that is not finished yet, then publish.

        Returns:
            The number of features of the whole result, and the manager's summary.
        """
        name = f"{self._settings.name}/{self._settings.split}"
        self._guard.check("this process, before any work,")
        begun = self._manager.begin(self._settings)
        self._scratch = self._manager.build_scratch if isinstance(self._manager, CacheWriter) else None
        if self._scratch is not None and self._build.rebuild:
            self._scratch.forget()
        receipts = begun.values() if isinstance(begun, Mapping) else ()
        self._found = dict.fromkeys(begun) | {r.index: r for r in receipts if isinstance(r, ChunkReceipt)}
        self._progress = Progress(name, self._total, self._build.progress, self._guard)
        with ExitStack() as stack:
            with closing(self._progress):
                workers = self._encode(stack)
            if not self._progress.examples:
                raise SourceError(f"{name}: expected at least one example, found none")
            with Heartbeat(lambda _: f"{name}: comparing the source with what it was"):
                self._source.check_unchanged()
            made_again = self._found.keys() - self._kept
            if made_again:
                logger.info(
                    "%s: %d chunks of an interrupted build held other examples: not used", name, len(made_again)
                )
            if self._has_chunk_files and isinstance(self._manager, CacheWriter):
                self._manager.share_work(_who_fill(workers, stack))
            else:
                stack.close()
            with Heartbeat(lambda _: f"{name}: publishing {self._progress.documents} documents"):
                self._check_losses(is_all=True)
                summary = self._manager.finish(self._done_receipts())
        self._labels.warn(name)
        return (_total_features(summary) if self._kept else self._features), summary

    @property
    def _total(self) -> int | None:
        """Number of examples, or more, where that is known."""
        known = [n for n in (self._settings.encode.max_examples, self._source.total) if n is not None]
        return min(known, default=None)

    def _eager_chunk_size(self) -> int:
        """Return the size of one chunk that holds everything, where that is little enough; else the streaming size."""
        return self._build.streaming_chunk_size if (self._total or 0) > MAX_EAGER_EXAMPLES else MAX_EAGER_EXAMPLES

    def _encode(self, stack: ExitStack) -> OwnWorkers | ExecutorWorkers | None:
        """Encode all chunks: here, by workers, or here until the source turns out to be large.

        Args:
            stack: Ends the workers.

        Returns:
            The workers, where there are any; they are idle.
        """
        chunks = self._chunks()
        most = self._most_workers()
        with closing(chunks):
            if not most:
                self._encode_here(chunks)
                return None
            # Workers load while this process reads and checks the first chunk.
            workers = self._open(most, stack) if self._is_large else None
            if workers is None:
                self._encode_here(_until(chunks, LARGE_COST))
            first = next(chunks, None)
            if first is not None:
                workers = workers or self._open(most, stack)
                self._encode_elsewhere(workers, chain([first], chunks), stack)
            return workers

    @property
    def _is_large(self) -> bool:
        """Whether it is known in advance that workers are worth their start."""
        if self._executor is not None or self._build.num_workers is not None:
            return True
        if self._total is not None:
            return self._total >= LARGE_EXAMPLES
        size = self._source.provenance().get("size")
        return isinstance(size, int) and size >= LARGE_FILE

    def _most_workers(self) -> int:
        """Return how many worker processes make sense: as many as cores, chunks and RAM allow; 0 to encode here."""
        chosen = self._build.num_workers
        if self._executor is not None:
            return chosen or 2 * (os.cpu_count() or 1)
        if chosen is None:
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            chosen = cores if cores > 1 else 0
        if self._total is not None:
            chosen = min(chosen, -(-self._total // self._chunk_size))
        fitting = self._guard.room // 4 // WORKER_BYTES
        if fitting < chosen:
            logger.info("max_memory_gb leaves room for %d of %d worker processes", fitting, chosen)
        return min(chosen, fitting)

    def _open(self, most: int, stack: ExitStack) -> OwnWorkers | ExecutorWorkers:
        if self._executor is not None:
            return ExecutorWorkers(self._executor, most, self._scratch)
        pool = WorkerPool(most)
        stack.callback(pool.close)
        return OwnWorkers(pool)

    def _chunks(self) -> Generator[Chunk, None, None]:
        """Yield the chunks that are not finished yet. The first chunk is checked against transformers before."""
        settings = self._settings
        for chunk in read_chunks(self._source, settings.encode, self._build, self._chunk_size, self._labels):
            if not chunk.index:
                examples = [example for example in chunk.examples if isinstance(example, Example)]
                check_against_transformers(self._tokenizer, settings.tokenizer, settings.encode, examples)
            elif chunk.index == 1 and not self._build.use_streaming:
                logger.info("use_streaming=False: too much for one chunk, streaming instead")
            if not self._is_finished(chunk):
                yield chunk

    def _is_finished(self, chunk: Chunk) -> bool:
        receipt = self._found.get(chunk.index)
        if receipt is None and chunk.index in self._found:
            self._count_kept(chunk, 0)  # a manager that gave no receipts answers for its chunks itself
            return True
        scratch = self._scratch if self._scratch is not None and self._scratch.has(chunk.index) else None
        if receipt is None and scratch is None:
            return False  # without the work of a digest
        examples = examples_digest(pack(chunk.examples, chunk.kept))
        if receipt is None or receipt.examples != examples:
            receipt = None if scratch is None else scratch.find(chunk.index, examples)
        if receipt is None:
            return False
        self._receipts[chunk.index] = receipt
        self._uncounted.append(receipt)
        self._count_kept(chunk, receipt.rows[DROPPED])
        return True

    def _count_kept(self, chunk: Chunk, num_dropped: int) -> None:
        self._kept.add(chunk.index)
        self._progress.add(len(chunk.examples), len(chunk.examples) - num_dropped)

    def _done(self, chunk: Chunk, receipt: Any, rows: Mapping[str, int]) -> None:
        if self._scratch is not None and self._executor is None:
            self._scratch.send(receipt)
        self._receipts[chunk.index] = receipt
        self._features += rows["features"]
        self._uncounted.append(receipt)
        self._progress.add(len(chunk.examples), rows["documents"])
        # Before the answers are counted: another thread may add chunks that were finished before.
        read, dropped = self._progress.read_and_dropped()
        self._count_answers()
        if read != self._total and self._losses.are_too_many(read, dropped, self._total):
            self._check_losses(is_all=False)

    def _count_answers(self) -> None:
        new = [self._uncounted.popleft() for _ in range(len(self._uncounted))]
        if self._limits.max_lost_answers is not None and isinstance(self._manager, CacheWriter):
            self._losses.add_answers(self._manager.chunks(self._settings, new))

    def _done_receipts(self) -> list[Any]:
        return [self._receipts[index] for index in sorted(self._receipts)]

    def _check_losses(self, is_all: bool) -> None:
        """Check what the chunks that are done have lost, where it is limited."""
        if self._limits.are_set and isinstance(self._manager, CacheWriter):
            name = f"{self._settings.name}/{self._settings.split}"
            chunks = self._manager.chunks(self._settings, self._done_receipts())
            self._limits.check_chunks(name, chunks, is_all)

    @property
    def _has_chunk_files(self) -> bool:
        """Whether workers may read and write the chunk files of the manager themselves."""
        return isinstance(self._manager, CacheWriter) and type(self._manager).write_chunk is CacheWriter.write_chunk

    def _encode_here(self, chunks: Iterator[Chunk]) -> None:
        content = self._settings.tokenizer
        encoder = Encoder(content.backend, content.layout, self._settings.encode)
        with closing(LocalEncoder(encoder, self._settings.encode, self._guard).run(chunks)) as encoded:
            for chunk, tables in encoded:
                receipt = self._manager.write_chunk(chunk.index, tables)
                self._done(chunk, receipt, {name: batch.num_rows for name, batch in tables.items()})

    def _encode_elsewhere(self, workers: Workers, chunks: Iterator[Chunk], stack: ExitStack) -> None:
        """Encode in workers. They write the chunk files themselves; another manager gets their content."""
        manager = self._manager
        if self._has_chunk_files and isinstance(manager, CacheWriter):
            directory = str(manager.build_directory(self._settings).path)
            with closing(Dispatcher(workers, directory, self._guard).run(chunks)) as done:
                for chunk, receipt in done:
                    self._done(chunk, receipt, receipt.rows)
            return
        scratch = BuildDirectory(stack.enter_context(_scratch_directory()))
        with scratch.errors():
            scratch.prepare(self._settings)
        order: deque[int] = deque()
        ready: dict[int, tuple[Chunk, ChunkReceipt]] = {}
        dispatcher = Dispatcher(workers, str(scratch.path), self._guard, in_order=True)
        with closing(dispatcher.run(_noted(chunks, order))) as done:
            for chunk, receipt in done:
                ready[chunk.index] = (chunk, receipt)
                while order and order[0] in ready:
                    self._hand_over(scratch, *ready.pop(order.popleft()))

    def _hand_over(self, scratch: BuildDirectory, chunk: Chunk, receipt: ChunkReceipt) -> None:
        self._done(chunk, self._manager.write_chunk(chunk.index, read_chunk(scratch.chunks, receipt)), receipt.rows)
        (scratch.chunks / receipt.file).unlink()


def _who_fill(workers: OwnWorkers | ExecutorWorkers | None, stack: ExitStack) -> ShardWorkers | None:
    """Return who fills shards: the workers, threads in place of workers that do not see them, or None without workers.

    Args:
        workers: Who encoded the chunks.
        stack: Ends the threads.
    """
    if workers is None or workers.can_fill:
        return workers
    threads = stack.enter_context(ThreadPoolExecutor(_FILLING_THREADS, "memxlnet-fill"))
    return FillingThreads(threads, 2 * _FILLING_THREADS)


@contextmanager
def _scratch_directory() -> Iterator[Path]:
    """Make a directory that is gone at the end, even where an executor still encodes a chunk into it."""
    try:
        path = Path(mkdtemp(prefix="memxlnet-"))
    except OSError as error:
        message = f"{gettempdir()}: expected a directory for temporary files that can be written: {error}"
        raise with_fields_of(BuildOSError(f"{message}; {hint_for(error)} or set TMPDIR"), error) from error
    try:
        yield path
    finally:
        # Under another name nothing is put into it while it is removed.
        with suppress(OSError):
            rmtree(path.rename(path.with_name(f"{path.name}.removed")), ignore_errors=True)


def _until(chunks: Iterator[Chunk], most_cost: int) -> Iterator[Chunk]:
    """Yield the first chunks, until they cost this much together."""
    cost = 0
    while cost < most_cost and (chunk := next(chunks, None)) is not None:
        yield chunk
        cost += chunk.cost


def _noted(chunks: Iterator[Chunk], order: deque[int]) -> Iterator[Chunk]:
    for chunk in chunks:
        order.append(chunk.index)
        yield chunk


def _total_features(summary: Any) -> int:
    found = summary.get("features") if isinstance(summary, Mapping) else getattr(summary, "features", None)
    if isinstance(found, bool) or not isinstance(found, int):
        raise BuildError(
            "cache manager: expected a summary with the number of all features in 'features', since begin() named "
            f"finished chunks; found {type(summary).__name__}"
        )
    return found
