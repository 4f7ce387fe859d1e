"""Publishing: chunk files become shards of contiguous columns, with RAM for one chunk at a time."""

import contextlib
import json
import operator
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from arrow_schemas import (
    ALIGNMENTS,
    DROPPED,
    KEPT,
    TABLES,
    FileMetadata,
    contexts_schema,
    documents_schema,
    features_schema,
    filled_type,
    joined_type,
    kept_schema,
    with_metadata,
)
from memxlnet.builder.chunk_survey import ChunkSurvey
from memxlnet.builder.context_numbering import batch_rows, number_contexts
from memxlnet.builder.kept_columns import fitted, nested_bytes
from memxlnet.builder.shard_filling import FeatureShard, Filling, StartFilling
from memxlnet.encode.cache_settings import CacheSettings
from memxlnet.errors import BuildError
from memxlnet.format.checksums import file_digest
from memxlnet.format.file_layout import FileSink, column_values, created, lay_out
from memxlnet.format.manifest import FileRecord, Manifest, ShardRecord, TableRecord, write_manifest
from memxlnet.format.paths import DROPPED_REPORT, TOKENIZER, shard_name, sync, write_file
from memxlnet.format.ragged import Ints

DOCUMENTS_BATCH_ROWS = 1024
"""Rows of a record batch of documents at most: some 400 KB."""

CONTEXTS_BATCH_ROWS = 64
"""Rows of a record batch of contexts at most: one is checked whole before its first text is read."""

MAX_BATCH_BYTES = 16 * 2**20
"""Bytes of a record batch of documents or contexts, unless a single row is larger: giant rows stand in smaller ones."""

_SYNC_SECONDS = 0.25
"""How often a file that is being written is made durable, so that little is left at its end."""

_BUFFER_BYTES = 1 << 20
"""Written at once: each write takes the interpreter's lock, for which other threads wait."""

MAX_LIST_VALUES = 2**31 - 1
"""Values below one Arrow array: larger ones are refused by the writer."""


class Chunks(NamedTuple):
    """The chunks of a cache, wherever they lie.

    Attributes:
        rows: Rows of all chunks together by table, the dropped examples included.
        read: Yields the named tables of each chunk, in order; called several times. Row numbers in them count from the
            chunk's start.
        surveys: The survey of each chunk, in order; read once.
        num_bytes: About the bytes of the cache.
    """

    rows: Mapping[str, int]
    read: Callable[[Collection[str]], Iterator[Mapping[str, pa.RecordBatch]]]
    surveys: Iterable[ChunkSurvey]
    num_bytes: int


class Publisher:
    """Writes the files of one cache into a staging directory, the manifest last.

    Args:
        chunks: The chunks, all of them.
        settings: What the cache is made from.
        max_shard_rows: Rows of a features shard at most; None for what an Arrow array may hold.
        start_filling: Has workers fill the shards of features that are laid out; None fills them here.
    """

    def __init__(
        self,
        chunks: Chunks,
        settings: CacheSettings,
        max_shard_rows: int | None,
        start_filling: StartFilling | None = None,
    ):
        self._start_filling = start_filling
        self._filling: Filling | None = None
        self._read = chunks.read
        self._surveys = chunks.surveys
        self._totals = chunks.rows
        self._settings = settings
        most = MAX_LIST_VALUES // settings.encode.max_seq_length
        self._shard_rows = min(max_shard_rows or most, most)

    def publish(self, staging: Path) -> Manifest:
        """Write all files, make them durable, then write the manifest.

        Args:
            staging: An empty directory.

        Raises:
            BuildError: The chunks hold no document.
            OSError: The disk is full or cannot be written.
        """
        totals = self._totals
        if not totals["documents"]:
            raise BuildError(
                f"{self._settings.name}/{self._settings.split}: expected at least one document, found none: all "
                f"{totals[DROPPED]} examples were dropped"
            )
        with ThreadPoolExecutor(2 * len(TABLES), "memxlnet-publish") as self._pool:
            try:
                return self._publish(staging, totals)
            except BaseException:
                if self._filling is not None:
                    self._filling.cancel()
                raise

    def _publish(self, staging: Path, totals: Mapping[str, int]) -> Manifest:
        # Workers fill the features meanwhile. A finished file is made durable and read for its checksum in the
        # background.
        shards = self._lay_out(staging, totals["features"])
        if self._start_filling is not None:
            self._filling = self._start_filling(shards)
        survey = _surveyed(self._surveys, totals)
        features = self._publish_features(shards, survey)
        contexts = self._pool.submit(self._publish_contexts, staging, survey)
        documents = self._publish_documents(staging, survey)
        pending = {"features": features, "documents": documents, "contexts": contexts.result()}
        schema = self._kept_schema() if self._settings.encode.keep else pa.schema([])
        if schema.names:
            pending[KEPT] = self._publish_kept(staging, totals["documents"], schema)
        tables = {name: table.record() for name, table in pending.items()}
        files = [self._write_file(staging, TOKENIZER, self._settings.tokenizer.backend_json.encode())]
        if totals[DROPPED]:
            files.append(self._write_file(staging, DROPPED_REPORT, b"".join(self._dropped_lines())))
        sync(staging)
        *alignment, contradictions, without_segment = survey.outcomes.tolist()
        manifest = Manifest(
            name=self._settings.name,
            split=self._settings.split,
            fingerprint=self._settings.fingerprint,
            fields=self._settings.fields,
            tables=tables,
            files=tuple(files),
            alignment=dict(zip(ALIGNMENTS, alignment, strict=True)),
            documents_without_answer_segment=without_segment,
            contradictions=contradictions,
            dropped_examples=totals[DROPPED],
            vocabulary_size=self._settings.tokenizer.vocabulary_size,
            provenance=self._settings.provenance,
            kept={column.name: str(column.type) for column in schema},
        )
        write_manifest(staging, manifest)
        sync(staging)
        return manifest

    def _metadata(self, table: str, shard: int, row_start: int, row_stop: int) -> FileMetadata:
        return FileMetadata(table, shard, row_start, row_stop, self._settings.fingerprint)

    def _lay_out(self, staging: Path, total: int) -> list[FeatureShard]:
        schema = features_schema(self._settings.encode.max_seq_length)
        shards: list[FeatureShard] = []
        for start in range(0, total, self._shard_rows):
            stop = min(start + self._shard_rows, total)
            metadata = self._metadata("features", len(shards), start, stop)
            path = staging / shard_name("features", metadata.shard)
            offsets = lay_out(path, with_metadata(schema, metadata), stop - start)
            shards.append(FeatureShard(str(path), start, stop, offsets))
        return shards

    def _publish_features(self, shards: Sequence[FeatureShard], survey: "_Survey") -> "_PendingTable":
        if self._filling is None:
            self._fill(shards, survey)
        files = [(Path(shard.path), shard.row_start, shard.row_stop) for shard in shards]
        return self._pend(self._shard_rows, files, self._filling.finished() if self._filling else ())

    def _fill(self, shards: Sequence[FeatureShard], survey: "_Survey") -> None:
        with contextlib.ExitStack() as stack:
            descriptors = []
            for shard in shards:
                descriptors.append(os.open(shard.path, os.O_WRONLY | os.O_CLOEXEC))
                stack.callback(os.close, descriptors[-1])
            for chunk, first in zip(self._read(("features",)), survey.firsts, strict=True):
                for shard, descriptor in zip(shards, descriptors, strict=True):
                    shard.write(descriptor, chunk["features"], first.features, first.documents)

    def _pend(
        self, batch_rows: int, files: list[tuple[Path, int, int]], filled: Iterable[Sequence[Path]] = ()
    ) -> "_PendingTable":
        """Have the files of a table made durable in the background.

        Args:
            batch_rows: Rows of a record batch.
            files: Each file, its first row and the row after its last one.
            filled: Yields files of which a part was filled; all are whole at its end.
        """
        return _PendingTable(files[-1][2], batch_rows, self._pool.submit(_finished_shards, files, filled))

    def _publish_documents(self, staging: Path, survey: "_Survey") -> "_PendingTable":
        batches = self._documents(survey)
        return self._write(staging, documents_schema(), "documents", survey.document_bytes, batches)

    def _documents(self, survey: "_Survey") -> Iterator[pa.RecordBatch]:
        for chunk, first in zip(self._read(("documents",)), survey.firsts, strict=True):
            documents = chunk["documents"]
            contexts = survey.context_rows[first.contexts + column_values(documents["context"])]
            first_segments = first.features + column_values(documents["first_segment"])
            yield _replace(_replace(documents, "context", contexts), "first_segment", first_segments)

    def _publish_contexts(self, staging: Path, survey: "_Survey") -> "_PendingTable":
        return self._write(
            staging, contexts_schema(), "contexts", survey.context_bytes, self._contexts(survey), CONTEXTS_BATCH_ROWS
        )

    def _contexts(self, survey: "_Survey") -> Iterator[pa.RecordBatch]:
        written = 0
        for chunk, first in zip(self._read(("contexts",)), survey.firsts, strict=True):
            contexts = chunk["contexts"]
            numbers = survey.context_rows[first.contexts : first.contexts + contexts.num_rows]
            new = np.flatnonzero(numbers >= written)
            if new.size:
                written += new.size
                yield contexts if new.size == contexts.num_rows else contexts.take(pa.array(new))

    def _kept_schema(self) -> pa.Schema:
        """Return the schema of the kept columns: the types of all chunks together."""
        keep = self._settings.encode.keep
        types: dict[str, pa.DataType] = {} if keep == "all" else dict.fromkeys(keep, pa.null())
        for chunk in self._read((KEPT,)):
            for column in chunk[KEPT].schema:
                joined = joined_type(types.get(column.name, pa.null()), column.type)
                if joined is None:
                    raise BuildError(
                        f"kept column {column.name!r}: expected one type, found {types[column.name]} and {column.type} "
                        "in two chunks"
                    )
                types[column.name] = joined
        return kept_schema({name: filled_type(kind) for name, kind in types.items()})

    def _publish_kept(self, staging: Path, total: int, schema: pa.Schema) -> "_PendingTable":
        sizes = np.empty(total, np.int64)
        row = 0
        for kept in self._read_kept(schema):
            sizes[row : row + kept.num_rows] = nested_bytes(kept)
            row += kept.num_rows
        return self._write(staging, schema, KEPT, sizes, self._read_kept(schema))

    def _read_kept(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for chunk in self._read((KEPT, "documents")):
            yield fitted(chunk[KEPT], schema, chunk["documents"]["id"])

    def _write(
        self,
        staging: Path,
        schema: pa.Schema,
        table: str,
        sizes: Ints,
        batches: Iterable[pa.RecordBatch],
        most_rows: int = DOCUMENTS_BATCH_ROWS,
    ) -> "_PendingTable":
        """Write a table of texts.

        Args:
            staging: Where its file goes.
            schema: Its schema.
            table: Its name.
            sizes: int64[rows], the bytes of each row.
            batches: All its rows.
            most_rows: Rows of a record batch of the file at most.
        """
        rows = batch_rows(sizes, most_rows, MAX_BATCH_BYTES)
        written = threading.Event()
        try:
            with BatchWriter(staging, schema, self._metadata(table, 0, 0, len(sizes)), rows) as writer:
                pending = self._pend(rows, [(writer.path, 0, len(sizes))], _until(written, writer.path))
                for batch in batches:
                    writer.add(batch)
        finally:
            written.set()
        return pending

    def _dropped_lines(self) -> Iterator[bytes]:
        for chunk in self._read((DROPPED,)):
            for row in chunk[DROPPED].to_pylist():
                yield json.dumps(row, ensure_ascii=False).encode() + b"\n"

    def _write_file(self, staging: Path, name: str, content: bytes) -> FileRecord:
        write_file(staging / name, content)
        return finished_file(staging / name)


class _FirstRows(NamedTuple):
    """The first rows of a chunk, counted over all chunks."""

    features: int
    documents: int
    contexts: int


class _Survey(NamedTuple):
    """What is known of all chunks together.

    Attributes:
        firsts: The first rows of each chunk.
        context_rows: int64[contexts of all chunks], the row of each in the published table.
        context_bytes: int64[rows of that table], their bytes.
        document_bytes: int64[documents], the bytes of their rows.
        outcomes: int64[ALIGNMENTS + 2], as in `ChunkSurvey`.
    """

    firsts: Sequence[_FirstRows]
    context_rows: Ints
    context_bytes: Ints
    document_bytes: Ints
    outcomes: Ints


def _surveyed(surveys: Iterable[ChunkSurvey], totals: Mapping[str, int]) -> _Survey:
    """Assign rows to the contexts of all chunks, and join the surveys of the chunks."""
    context_bytes, document_bytes = (np.empty(totals[table], np.int64) for table in ("contexts", "documents"))
    outcomes = np.zeros(len(ALIGNMENTS) + 2, np.int64)
    firsts = []

    def digests() -> Iterator[Ints]:
        first = _FirstRows(0, 0, 0)
        for found in surveys:
            firsts.append(first)
            rows = found.features, len(found.document_bytes), len(found.context_bytes)
            first = _FirstRows(*map(operator.add, first, rows))
            context_bytes[firsts[-1].contexts : first.contexts] = found.context_bytes
            document_bytes[firsts[-1].documents : first.documents] = found.document_bytes
            outcomes[:] += found.outcomes
            yield found.context_digests

    context_rows = number_contexts(digests(), totals["contexts"])
    distinct = np.empty(int(context_rows.max()) + 1, np.int64)
    distinct[context_rows] = context_bytes
    return _Survey(firsts, context_rows, distinct, document_bytes, outcomes)


class _PendingTable(NamedTuple):
    """A table whose files are being made durable."""

    rows: int
    batch_rows: int
    shards: "Future[tuple[ShardRecord, ...]]"

    def record(self) -> TableRecord:
        """Wait for the files; return the table as the manifest records it."""
        return TableRecord(self.rows, self.batch_rows, self.shards.result())


def finished_file(path: Path) -> FileRecord:
    """Make a file durable and record its size and checksum."""
    with ThreadPoolExecutor(1, "memxlnet-sync") as thread:
        synced = thread.submit(sync, path)
        record = FileRecord(path.name, path.stat().st_size, file_digest(path))
        synced.result()
    return record


def _finished_shards(
    files: Sequence[tuple[Path, int, int]], filled: Iterable[Sequence[Path]]
) -> tuple[ShardRecord, ...]:
    for paths in filled:
        # The disk takes what is there while the rest is filled.
        for path in paths:
            sync(path)
    records = ((finished_file(path), rows) for path, *rows in files)
    return tuple(ShardRecord(record.file, record.bytes, record.xxh3_128, *rows) for record, rows in records)


def _until(written: threading.Event, path: Path) -> Iterator[list[Path]]:
    """Yield a file from time to time while it is written."""
    while not written.wait(_SYNC_SECONDS):
        yield [path]


def _replace(batch: pa.RecordBatch, name: str, values: Ints) -> pa.RecordBatch:
    index = batch.schema.get_field_index(name)
    return batch.set_column(index, batch.schema.field(index), pa.array(values, batch.schema.field(index).type))


class BatchWriter:
    """Writes a table in record batches of a fixed row count that never follows the batches that come in."""

    def __init__(self, staging: Path, schema: pa.Schema, metadata: FileMetadata, batch_rows: int):
        self.path = staging / shard_name(metadata.table, metadata.shard)
        self._schema = with_metadata(schema, metadata)
        self.batch_rows = batch_rows
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0

    def __enter__(self) -> "BatchWriter":
        with contextlib.ExitStack() as stack:
            sink = FileSink(stack.enter_context(created(self.path)))
            stream = pa.BufferedOutputStream(pa.PythonFile(sink, mode="w"), _BUFFER_BYTES)
            # Also after an error: else it writes what it holds when it is collected, into whichever file has the
            # descriptor by then.
            stack.callback(stream.close)
            self._writer = pa.ipc.new_file(stream, self._schema)
            self._file = stack.pop_all()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                if self._pending_rows:
                    self._write(self._pending_rows)
                self._writer.close()
        finally:
            self._file.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch."""
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        while self._pending_rows >= self.batch_rows:
            self._write(self.batch_rows)

    def _write(self, num_rows: int) -> None:
        taken: list[pa.RecordBatch] = []
        wanted = num_rows
        while wanted:
            batch = self._pending.pop(0)
            if batch.num_rows > wanted:
                self._pending.insert(0, batch.slice(wanted))
                batch = batch.slice(0, wanted)
            taken.append(batch)
            wanted -= batch.num_rows
        self._pending_rows -= num_rows
        # Joining copies rows into buffers of their own; those of one batch would leave a trace of it in the file, so
        # that no rows are joined to them.
        merged = pa.Table.from_batches([*taken, taken[0].slice(0, 0)]).combine_chunks()
        self._writer.write_table(merged.replace_schema_metadata(self._schema.metadata), max_chunksize=num_rows)
