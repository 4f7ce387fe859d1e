"""From encoded chunks to a published cache: the cache manager that builds use unless they are given another."""

import contextlib
import errno
import logging
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from memxlnet.builder.build_directory import BuildDirectory
from memxlnet.builder.chunk_files import ChunkReceipt, finished_chunks, read_chunk, read_survey, write_chunk
from memxlnet.builder.chunks_to_shards import Chunks, Publisher
from memxlnet.builder.deliveries import BuildScratch, Scratch
from memxlnet.builder.shard_filling import Filling, ShardWorkers, StartFilling
from memxlnet.encode.cache_settings import CacheSettings
from memxlnet.errors import BuildError, BuildOSError, CacheDamagedError, TransferError
from memxlnet.format.manifest import Manifest
from memxlnet.format.paths import BUILD_PREFIX, as_directory, make_directory
from memxlnet.maintain.directory_swap import put_in_place, take_away
from memxlnet.maintain.lock import clear_leftovers, sole_builder
from memxlnet.progress import progress_bar
from memxlnet.settings import positive_int

logger = logging.getLogger(__name__)


class CacheManager(Protocol):
    """What a build asks of the place where its chunks go.

    A build calls `begin` once, then `write_chunk` for every chunk that is not finished yet, in ascending order of
    index and from one thread, then `finish` once. Nothing is called after an error.
    """

    def begin(self, settings: CacheSettings) -> Collection[int]:
        """Begin a build, and return the finished chunks of an interrupted one.

        Args:
            settings: Everything that decides the bytes of the result.

        Returns:
            The indices of finished chunks; they are not handed over again. A mapping from them to their
            `ChunkReceipt`s lets a chunk be made again whose examples changed; those receipts that still hold are then
            handed to `finish` like any other.
        """

    def write_chunk(self, index: int, tables: Mapping[str, pa.RecordBatch]) -> Any:
        """Store one chunk durably: once this returns, it must survive a crash.

        Args:
            index: Number of the chunk, from 0.
            tables: One record batch for each of ``features``, ``documents``, ``contexts`` and ``dropped``, in the
                schemas of `arrow_schemas`, and for ``kept`` where fields are kept, in the types of this chunk alone.
                Row numbers in them count from the chunk's start.

        Returns:
            A receipt: what `finish` needs to know of the chunk.
        """

    def finish(self, receipts: Sequence[Any]) -> Any:
        """Complete the build.

        Args:
            receipts: The receipts of the chunks in order of index. Chunks that `begin` named without a receipt have
                none.

        Returns:
            A summary. Where `begin` named finished chunks it must have the attribute (or key) ``features``, the
            number of features of the whole result.
        """


@dataclass(frozen=True)
class BuildSummary:
    """What a build made.

    Attributes:
        directory: The published cache.
        features: Number of segments.
        documents: Number of documents.
        contexts: Number of distinct contexts.
        num_bytes: Size of the cache in bytes, without the manifest.
        alignment: Documents by the outcome of their answer.
        documents_without_answer_segment: Documents with a span that no segment holds whole.
        contradictions: Documents whose labels contradicted each other in the source.
        dropped_examples: Examples that gave no document.
    """

    directory: Path
    features: int
    documents: int
    contexts: int
    num_bytes: int
    alignment: Mapping[str, int]
    documents_without_answer_segment: int
    contradictions: int
    dropped_examples: int

    @classmethod
    def of(cls, directory: Path, manifest: Manifest) -> "BuildSummary":
        """Return the summary of a published cache."""
        tables = manifest.tables
        return cls(
            directory=directory,
            features=tables["features"].rows,
            documents=tables["documents"].rows,
            contexts=tables["contexts"].rows,
            num_bytes=manifest.num_bytes,
            alignment=manifest.alignment,
            documents_without_answer_segment=manifest.documents_without_answer_segment,
            contradictions=manifest.contradictions,
            dropped_examples=manifest.dropped_examples,
        )


class CacheWriter:
    """Keeps the chunks of a build and publishes them into a cache directory.

    Args:
        cache_dir: The directory of all caches; created when the first build begins.
        max_shard_rows: Rows of a features shard at most; None for what an Arrow array may hold.
        scratch: A store that holds the chunks, too, until the cache is published.
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str],
        *,
        max_shard_rows: int | None = None,
        scratch: Scratch | None = None,
    ):
        self.cache_dir = as_directory("cache_dir", cache_dir)
        if max_shard_rows is not None:
            positive_int("max_shard_rows", max_shard_rows, " (or None for the limit of Arrow)")
        self._max_shard_rows = max_shard_rows
        self._settings: CacheSettings | None = None
        self._scratch = scratch
        self.build_scratch: BuildScratch | None = None
        """The place in the scratch store of the build that has begun."""
        self._workers: ShardWorkers | None = None

    def directory(self, settings: CacheSettings) -> Path:
        """Return where the cache of these settings is published."""
        return self.cache_dir / settings.directory_name

    def build_directory(self, settings: CacheSettings) -> BuildDirectory:
        """Return where the cache of these settings is built."""
        return BuildDirectory(self.cache_dir / f"{BUILD_PREFIX}{settings.directory_name}")

    @contextlib.contextmanager
    def lock(self, settings: CacheSettings, progress: bool | None = None) -> Iterator[None]:
        """Hold the lock of this cache's builder; wait, and show that, while another process holds it.

        The lock is the system's, on a file next to the build directory: it ends with the process that holds it.

        Args:
            settings: What is built.
            progress: Show a line while waiting; None shows it where standard error is a terminal.

        Raises:
            CacheDirectoryError: The cache directory cannot be created or written.
        """
        line = _WaitingLine(self.directory(settings), self.build_directory(settings), settings, progress)
        with contextlib.closing(line), sole_builder(self.cache_dir, settings.directory_name, line.show):
            line.close()
            yield

    def discard(self, settings: CacheSettings) -> None:
        """Remove what an interrupted build of this cache left; the published cache stays. Needs the lock.

        Raises:
            BuildOSError: The system failed.
        """
        build = self.build_directory(settings)
        with build.errors():
            take_away(build.path)

    def discard_leftovers(self, settings: CacheSettings) -> None:
        """Remove what a builder left that was killed after its last step, unless another one is running."""
        build, name = self.build_directory(settings).path, settings.directory_name
        clear_leftovers(self.cache_dir, name, build, lambda: self._empty_scratch(settings))

    def begin(self, settings: CacheSettings) -> Mapping[int, ChunkReceipt]:
        """Begin the build of a cache; finished chunks of an interrupted one are checked and kept."""
        make_directory(self.cache_dir)
        build = self.build_directory(settings)
        with build.errors():
            if build.path.exists() and build.state().get("fingerprint") != settings.fingerprint:
                logger.info("%s: an interrupted build of other settings is removed", build.path)
                self.discard(settings)
            build.prepare(settings)
            finished = finished_chunks(build.chunks)
            if self._scratch is not None:
                name = settings.directory_name
                self.build_scratch = self._scratch.of_build(name, settings.fingerprint, build.path)
        self._settings = settings
        if finished:
            logger.info("%s: resuming with %d finished chunks", build.path, len(finished))
        return finished

    def write_chunk(self, index: int, tables: Mapping[str, pa.RecordBatch]) -> ChunkReceipt:
        """Write one chunk durably.

        Raises:
            BuildOSError: The disk is full or failing, or cannot be written.
        """
        build = self.build_directory(self._begun())
        with build.errors():
            return write_chunk(build.chunks, index, tables)

    def share_work(self, workers: ShardWorkers | None) -> None:
        """Let workers that see the build's directory write the shards of features; None writes them here."""
        self._workers = workers

    def finish(self, receipts: Sequence[ChunkReceipt]) -> BuildSummary:
        """Publish all chunks, then remove them.

        Args:
            receipts: The receipts of all chunks of the cache, also of those that `begin` gave.

        Raises:
            BuildError: A chunk is missing, or the chunks hold no document.
            BuildOSError: The disk is full or failing, or cannot be written.
        """
        settings = self._begun()
        chunks = {receipt.index: receipt for receipt in receipts}
        missing = sorted(set(range(len(chunks))) - chunks.keys())
        if missing or not chunks:
            raise BuildError(f"{self.directory(settings)}: expected chunks without a gap, found none of {missing}")
        in_order = [chunks[index] for index in range(len(chunks))]
        return self.publish(settings, self.chunks(settings, in_order), self._filling(settings, in_order))

    def _filling(self, settings: CacheSettings, receipts: Sequence[ChunkReceipt]) -> StartFilling | None:
        workers = self._workers
        if workers is None:
            return None
        return lambda shards: Filling(workers, self.build_directory(settings).path, receipts, shards)

    def chunks(self, settings: CacheSettings, receipts: Sequence[ChunkReceipt]) -> Chunks:
        """Return the chunks of a build by their receipts, in order of index."""
        directory = self.build_directory(settings).chunks

        def read(tables: Collection[str]) -> Iterator[Mapping[str, pa.RecordBatch]]:
            for receipt in receipts:
                yield read_chunk(directory, receipt, tables)

        rows = {table: sum(receipt.rows[table] for receipt in receipts) for table in receipts[0].rows}
        surveys = (read_survey(directory, receipt) for receipt in receipts)
        return Chunks(rows, read, surveys, sum(receipt.table_bytes for receipt in receipts))

    def publish(
        self, settings: CacheSettings, chunks: Chunks, start_filling: StartFilling | None = None
    ) -> BuildSummary:
        """Publish the cache of a build that has begun, and end the build. Needs the lock.

        Args:
            settings: What the cache is made from, as given to `begin`.
            chunks: All its chunks.
            start_filling: As in `Publisher`.

        Raises:
            BuildError: The chunks hold no document.
            BuildOSError: The disk is full or failing, or cannot be written.
        """
        with self.build_directory(settings).errors():
            return self._publish(settings, chunks, start_filling)

    def _publish(self, settings: CacheSettings, chunks: Chunks, start_filling: StartFilling | None) -> BuildSummary:
        build = self.build_directory(settings)
        shutil.rmtree(build.staging, ignore_errors=True)
        self._check_space(chunks.num_bytes)
        # A name of its own: a worker that outlives its builder writes into no file of the next one.
        staging = build.staging / secrets.token_hex(8)
        staging.mkdir(parents=True)
        manifest = Publisher(chunks, settings, self._max_shard_rows, start_filling).publish(staging)
        final = self.directory(settings)
        try:
            put_in_place(staging, final)
        except CacheDamagedError as error:
            raise BuildOSError(
                f"{error.args[0]}: the system did not write what it was given; check the disk, and build again to "
                "resume after the finished chunks"
            ) from error
        build.remove_chunks()
        if self._scratch is None:
            self.discard(settings)
        self._settings = None
        return BuildSummary.of(final, manifest)

    def leave_scratch(self, settings: CacheSettings) -> None:
        """Remove the chunks of this machine's build from the scratch store, once its cache is where it belongs.

        Needs the lock. Where no build of this machine left any, those of another one stay: it may be running.

        Raises:
            BuildOSError: The system failed.
        """
        # The directory of a build outlasts its chunks in the store, so that it shows a kill in between.
        build = self.build_directory(settings)
        with build.errors():
            is_left = build.path.exists()
        if is_left:
            self._empty_scratch(settings)
            self.discard(settings)

    def _empty_scratch(self, settings: CacheSettings) -> None:
        self.build_scratch = None
        if self._scratch is not None:
            try:
                self._scratch.remove(settings.directory_name)
            except TransferError as error:
                logger.warning("the cache is published, and its chunks stay in the scratch store: %s", error)

    def _check_space(self, needed: int) -> None:
        """Check that the disk holds the cache besides what it is made from."""
        free = shutil.disk_usage(self.cache_dir).free
        if free < needed:
            raise OSError(
                errno.ENOSPC,
                f"publishing takes about {needed:,} bytes more, and {free:,} are free",
            )

    def _begun(self) -> CacheSettings:
        if self._settings is None:
            raise BuildError(f"{self.cache_dir}: expected begin(settings) before chunks are written or finished")
        return self._settings


class _WaitingLine:
    """The progress line of a process that waits for another builder: how many chunks that one has finished."""

    def __init__(self, cache: Path, build: BuildDirectory, settings: CacheSettings, progress: bool | None):
        self._cache = cache
        self._build = build
        self._name = f"{settings.name}/{settings.split}"
        self._shown = progress
        self._bar: Any = None

    def show(self) -> None:
        """Log once that it waits, and bring the line up to date."""
        if self._bar is None:
            logger.warning("%s: waiting for another process that builds it", self._cache)
            self._bar = progress_bar(f"waiting for {self._name}", self._shown, "chunk")
        self._bar.update(self._build.num_finished() - self._bar.n)
        self._bar.refresh()

    def close(self) -> None:
        """Remove the line."""
        if self._bar is not None:
            self._bar.close()
