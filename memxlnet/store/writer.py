"""From encoded chunks to a published cache: the cache manager that builds use unless they are given another."""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import filelock
import pyarrow as pa

from memxlnet.errors import BuildError, CacheDirectoryError, MemxlnetError
from memxlnet.settings import positive_int
from memxlnet.store.chunk_files import ChunkReceipt, finished_chunks, write_chunk
from memxlnet.store.identity import CacheSettings
from memxlnet.store.manifest import Manifest
from memxlnet.store.paths import (
    BUILD_PREFIX,
    RETIRED_PREFIX,
    as_directory,
    make_directory,
    sync,
    write_durably,
)
from memxlnet.store.publish import Publisher

logger = logging.getLogger(__name__)

_STATE = "build.json"
_WAIT_SECONDS = 1.0


class CacheManager(Protocol):
    """What a build asks of the place where its chunks go.

    A build calls `begin` once, then `write_chunk` for every chunk that is not finished yet, in ascending order of
    index and from one thread, then `finish` once. Nothing is called after an error.
    """

    def begin(self, settings: CacheSettings) -> Collection[int]:
        """Take up a build and name the chunks that are finished already, from an interrupted one.

        Args:
            settings: Everything that decides the bytes of the result.

        Returns:
            The indices of finished chunks; they are not handed over again.
        """

    def write_chunk(self, index: int, tables: Mapping[str, pa.RecordBatch]) -> Any:
        """Take one chunk; when this returns, it must survive a crash.

        Args:
            index: Number of the chunk, from 0.
            tables: One record batch for each of ``features``, ``documents``, ``contexts`` and ``dropped``, in the
                schemas of `arrow_schemas`. Row numbers in them count from the chunk's start.

        Returns:
            A receipt; whatever `finish` needs to know of the chunk.
        """

    def finish(self, receipts: Sequence[Any]) -> Any:
        """Complete the build.

        Args:
            receipts: The receipts of this build's `write_chunk` calls, in order of index. Chunks that `begin` named
                have none.

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
        num_bytes: Size of the cache in bytes, manifest aside.
        alignment: Documents by the outcome of their answer.
        documents_without_answer_segment: Documents with a span that no segment holds whole.
        dropped_examples: Examples that gave no document.
    """

    directory: Path
    features: int
    documents: int
    contexts: int
    num_bytes: int
    alignment: Mapping[str, int]
    documents_without_answer_segment: int
    dropped_examples: int

    @classmethod
    def of(cls, directory: Path, manifest: Manifest) -> "BuildSummary":
        """The summary of a published cache."""
        tables = manifest.tables
        return cls(
            directory=directory,
            features=tables["features"].rows,
            documents=tables["documents"].rows,
            contexts=tables["contexts"].rows,
            num_bytes=manifest.num_bytes,
            alignment=manifest.alignment,
            documents_without_answer_segment=manifest.documents_without_answer_segment,
            dropped_examples=manifest.dropped_examples,
        )


class CacheWriter:
    """Keeps the chunks of a build and publishes them into a cache directory.

    Args:
        cache_dir: The directory of all caches; created when the first build begins.
        max_shard_rows: Rows of a features shard at most; None for what an Arrow array may hold.
    """

    def __init__(self, cache_dir: str | os.PathLike[str], *, max_shard_rows: int | None = None):
        self.cache_dir = as_directory("cache_dir", cache_dir)
        if max_shard_rows is not None:
            positive_int("max_shard_rows", max_shard_rows, " (or None for the limit of Arrow)")
        self._max_shard_rows = max_shard_rows
        self._settings: CacheSettings | None = None
        self._finished: dict[int, ChunkReceipt] = {}

    def directory(self, settings: CacheSettings) -> Path:
        """Where the cache of these settings is published."""
        return self.cache_dir / settings.directory_name

    def _build_directory(self, settings: CacheSettings) -> Path:
        return self.cache_dir / f"{BUILD_PREFIX}{settings.directory_name}"

    @contextlib.contextmanager
    def lock(self, settings: CacheSettings) -> Iterator[None]:
        """Be the only builder of this cache; waits, and says so, while another process is.

        The lock is the system's, on a file beside the build directory: it ends with the process that holds it.

        Raises:
            CacheDirectoryError: The cache directory cannot be created or written.
        """
        make_directory(self.cache_dir)
        lock = filelock.FileLock(f"{self._build_directory(settings)}.lock")
        waited = False
        while True:
            try:
                lock.acquire(timeout=_WAIT_SECONDS)
                break
            except filelock.Timeout:
                if not waited:
                    logger.warning("%s: waiting for another process that builds it", self.directory(settings))
                waited = True
            except OSError as error:
                raise CacheDirectoryError(f"{self.cache_dir}: cannot be locked: {error}") from error
        try:
            yield
        finally:
            lock.release()

    def discard(self, settings: CacheSettings) -> None:
        """Remove what an interrupted build of this cache left; the published cache stays. Needs the lock."""
        shutil.rmtree(self._build_directory(settings), ignore_errors=True)

    def discard_leftovers(self, settings: CacheSettings) -> None:
        """Remove what a builder left that was killed behind its last step, unless another one is at work."""
        build = self._build_directory(settings)
        if not build.exists() or not os.access(self.cache_dir, os.W_OK):
            return
        # Another builder at work is a Timeout, which is an OSError like that of a lock file which is not ours to open.
        with contextlib.suppress(OSError), filelock.FileLock(f"{build}.lock", timeout=0):
            self.discard(settings)

    def begin(self, settings: CacheSettings) -> Collection[int]:
        """Take up the build of a cache; finished chunks of an interrupted one are checked and kept."""
        make_directory(self.cache_dir)
        with _told(self._build_directory(settings)):
            return self._begin(settings)

    def _begin(self, settings: CacheSettings) -> Collection[int]:
        build = self._build_directory(settings)
        state = {"fingerprint": settings.fingerprint, "chunking": settings.chunking}
        if build.exists() and _read_state(build) != state:
            logger.info("%s: an interrupted build with other chunks is removed and started again", build)
            shutil.rmtree(build)
        (build / "chunks").mkdir(parents=True, exist_ok=True)
        write_durably(build / _STATE, json.dumps(state).encode())
        self._settings = settings
        self._finished = finished_chunks(build / "chunks")
        if self._finished:
            logger.info("%s: going on after %d finished chunks", build, len(self._finished))
        return self._finished.keys()

    def write_chunk(self, index: int, tables: Mapping[str, pa.RecordBatch]) -> ChunkReceipt:
        """Write one chunk durably.

        Raises:
            BuildError: The disk is full or cannot be written.
        """
        build = self._build_directory(self._begun())
        with _told(build):
            return write_chunk(build / "chunks", index, tables)

    def finish(self, receipts: Sequence[ChunkReceipt]) -> BuildSummary:
        """Publish all chunks, then remove them.

        Raises:
            BuildError: A chunk is missing, the chunks hold no document, or the disk is full or cannot be written.
            SourceError: Document ids repeat.
        """
        settings = self._begun()
        with _told(self._build_directory(settings)):
            return self._publish(settings, receipts)

    def _publish(self, settings: CacheSettings, receipts: Sequence[ChunkReceipt]) -> BuildSummary:
        chunks = self._finished | {receipt.index: receipt for receipt in receipts}
        missing = sorted(set(range(len(chunks))) - chunks.keys())
        if missing or not chunks:
            raise BuildError(f"{self.directory(settings)}: expected chunks without a gap, found none of {missing}")
        build = self._build_directory(settings)
        staging = build / "cache"
        if staging.exists():
            shutil.rmtree(staging)
        staging.mkdir()
        ordered = [chunks[index] for index in range(len(chunks))]
        manifest = Publisher(build / "chunks", ordered, settings, self._max_shard_rows).publish(staging)
        final = self.directory(settings)
        self._replace(final, staging)
        shutil.rmtree(build)
        self._settings = None
        return BuildSummary.of(final, manifest)

    def _begun(self) -> CacheSettings:
        if self._settings is None:
            raise BuildError(f"{self.cache_dir}: expected begin(settings) before chunks are written or finished")
        return self._settings

    def _replace(self, final: Path, staging: Path) -> None:
        """Put a finished cache into its place; one that stood there is unlinked: what a reader has mapped stays."""
        retired = self.cache_dir / f"{RETIRED_PREFIX}{final.name}"
        shutil.rmtree(retired, ignore_errors=True)  # of a builder that was killed right here
        if final.exists():
            final.rename(retired)
        staging.rename(final)
        sync(self.cache_dir)
        shutil.rmtree(retired, ignore_errors=True)


@contextlib.contextmanager
def _told(build: Path) -> Iterator[None]:
    """Tell an error of the system with the directory and the way out."""
    try:
        yield
    except MemxlnetError:
        raise
    except OSError as error:
        raise BuildError(
            f"{build}: cannot be written: {error.strerror or error}; what is finished is kept, so make room or "
            "restore access and build again to go on"
        ) from error


def _read_state(build: Path) -> object:
    try:
        return json.loads((build / _STATE).read_bytes())
    except (OSError, ValueError):
        return None
