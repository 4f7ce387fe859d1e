"""Publishing: chunk files become shards of contiguous columns, with RAM for one chunk at a time."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrow_schemas import (
    ALIGNMENTS,
    DROPPED,
    KEPT,
    FileMetadata,
    contexts_schema,
    documents_schema,
    features_schema,
    filled_type,
    joined_type,
    kept_schema,
    with_metadata,
)
from memxlnet.builder.context_numbering import batch_rows, number_contexts, row_bytes
from memxlnet.builder.kept_columns import fitted, nested_bytes
from memxlnet.encode.cache_settings import CacheSettings
from memxlnet.errors import BuildError
from memxlnet.format.checksums import file_digest
from memxlnet.format.file_layout import FileSink, column_values, column_width, created, lay_out, write_values
from memxlnet.format.manifest import FileRecord, Manifest, ShardRecord, TableRecord, write_manifest
from memxlnet.format.paths import DROPPED_REPORT, TOKENIZER, shard_name, sync, write_file
from memxlnet.format.ragged import Ints

DOCUMENTS_BATCH_ROWS = 1024
"""Rows of a record batch of documents at most: some 400 KB."""

CONTEXTS_BATCH_ROWS = 64
"""Rows of a record batch of contexts at most: one is checked whole before its first text is read."""

MAX_BATCH_BYTES = 16 * 2**20
"""Bytes of a record batch of documents or contexts, unless a single row is larger: giant rows stand in smaller ones."""

MAX_LIST_VALUES = 2**31 - 1
"""Values below one Arrow array: larger ones are refused by the writer."""


class Chunks(NamedTuple):
    """The chunks of a cache, wherever they lie.

    Attributes:
        rows: Rows of all chunks together by table, the dropped examples included.
        read: Yields the tables of each chunk, in order; called several times. Row numbers in them count from the
            chunk's start.
        num_bytes: About the bytes of the cache.
    """

    rows: Mapping[str, int]
    read: Callable[[], Iterator[Mapping[str, pa.RecordBatch]]]
    num_bytes: int


class Publisher:
    """Writes the files of one cache into a staging directory, the manifest last.

    Args:
        chunks: The chunks, all of them.
        settings: What the cache is made from.
        max_shard_rows: Rows of a features shard at most; None for what an Arrow array may hold.
    """

    def __init__(self, chunks: Chunks, settings: CacheSettings, max_shard_rows: int | None):
        self._read = chunks.read
        self._totals = chunks.rows
        self._settings = settings
        most = MAX_LIST_VALUES // settings.encode.max_seq_length
        self._shard_rows = min(max_shard_rows or most, most)
        self._alignment = dict.fromkeys(ALIGNMENTS, 0)
        self._without_segment = 0
        self._contradictions = 0

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
        with ThreadPoolExecutor(1, "memxlnet-publish") as self._pool:
            return self._publish(staging, totals)

    def _publish(self, staging: Path, totals: Mapping[str, int]) -> Manifest:
        context_rows = number_contexts((chunk["contexts"]["text"] for chunk in self._read()), totals["contexts"])
        # A finished file is made durable and read for its checksum in the background, while the next is written.
        pending = {
            "features": self._publish_features(staging, totals["features"]),
            "documents": self._publish_documents(staging, totals["documents"], context_rows),
            "contexts": self._publish_contexts(staging, context_rows),
        }
        schema = self._kept_schema() if self._settings.encode.keep else pa.schema([])
        if schema.names:
            pending[KEPT] = self._publish_kept(staging, totals["documents"], schema)
        tables = {name: table.record() for name, table in pending.items()}
        files = [self._write_file(staging, TOKENIZER, self._settings.tokenizer.backend_json.encode())]
        if totals[DROPPED]:
            files.append(self._write_file(staging, DROPPED_REPORT, b"".join(self._dropped_lines())))
        sync(staging)
        manifest = Manifest(
            name=self._settings.name,
            split=self._settings.split,
            fingerprint=self._settings.fingerprint,
            fields=self._settings.fields,
            tables=tables,
            files=tuple(files),
            alignment=self._alignment,
            documents_without_answer_segment=self._without_segment,
            contradictions=self._contradictions,
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

    def _publish_features(self, staging: Path, total: int) -> "_PendingTable":
        schema = features_schema(self._settings.encode.max_seq_length)
        shards: list[_FeatureShard] = []
        with contextlib.ExitStack() as stack:
            for start in range(0, total, self._shard_rows):
                stop = min(start + self._shard_rows, total)
                metadata = self._metadata("features", len(shards), start, stop)
                shards.append(_FeatureShard(staging, with_metadata(schema, metadata), metadata))
                stack.callback(shards[-1].close)
            document_base = row_base = 0
            for chunk in self._read():
                features = chunk["features"]
                for shard in shards:
                    shard.write(features, row_base, document_base)
                row_base += features.num_rows
                document_base += chunk["documents"].num_rows
        return self._pend(total, self._shard_rows, [(shard.path, shard.metadata) for shard in shards])

    def _pend(self, rows: int, batch_rows: int, files: list[tuple[Path, FileMetadata]]) -> "_PendingTable":
        shards = [self._pool.submit(_finished_shard, path, metadata) for path, metadata in files]
        return _PendingTable(rows, batch_rows, shards)

    def _publish_documents(self, staging: Path, total: int, context_rows: Ints) -> "_PendingTable":
        metadata = self._metadata("documents", 0, 0, total)
        sizes = np.empty(total, np.int64)
        row = 0
        for chunk in self._read():
            sizes[row : row + chunk["documents"].num_rows] = row_bytes(chunk["documents"])
            row += chunk["documents"].num_rows
        rows = batch_rows(sizes, DOCUMENTS_BATCH_ROWS, MAX_BATCH_BYTES)
        del sizes
        writer = BatchWriter(staging, documents_schema(), metadata, rows)
        with writer:
            context_base = row_base = 0
            for chunk in self._read():
                documents = chunk["documents"]
                contexts = context_rows[context_base + column_values(documents["context"])]
                documents = _replace(documents, "context", contexts)
                documents = _replace(documents, "first_segment", row_base + column_values(documents["first_segment"]))
                self._count(documents)
                writer.add(documents)
                context_base += chunk["contexts"].num_rows
                row_base += chunk["features"].num_rows
        return self._pend(writer.metadata.row_stop, writer.batch_rows, [(writer.path, writer.metadata)])

    def _count(self, documents: pa.RecordBatch) -> None:
        for entry in documents["alignment"].value_counts().to_pylist():
            self._alignment[entry["values"]] += entry["counts"]
        self._contradictions += pc.sum(pc.not_equal(documents["contradiction"], "")).as_py() or 0
        has_span = column_values(documents["chosen_answer"]) >= 0
        self._without_segment += int((has_span & (column_values(documents["num_answer_segments"]) == 0)).sum())

    def _publish_contexts(self, staging: Path, context_rows: Ints) -> "_PendingTable":
        total = int(context_rows.max()) + 1
        sizes = np.empty(total, np.int64)
        base = 0
        for chunk in self._read():
            contexts = chunk["contexts"]
            sizes[context_rows[base : base + contexts.num_rows]] = row_bytes(contexts)
            base += contexts.num_rows
        rows = batch_rows(sizes, CONTEXTS_BATCH_ROWS, MAX_BATCH_BYTES)
        del sizes
        writer = BatchWriter(staging, contexts_schema(), self._metadata("contexts", 0, 0, total), rows)
        with writer:
            base = written = 0
            for chunk in self._read():
                contexts = chunk["contexts"]
                new = np.flatnonzero(context_rows[base : base + contexts.num_rows] >= written)
                base += contexts.num_rows
                if new.size:
                    written += new.size
                    writer.add(contexts if new.size == contexts.num_rows else contexts.take(pa.array(new)))
        return self._pend(writer.metadata.row_stop, writer.batch_rows, [(writer.path, writer.metadata)])

    def _kept_schema(self) -> pa.Schema:
        """Return the schema of the kept columns: the types of all chunks together."""
        keep = self._settings.encode.keep
        types: dict[str, pa.DataType] = {} if keep == "all" else dict.fromkeys(keep, pa.null())
        for chunk in self._read():
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
        rows = batch_rows(sizes, DOCUMENTS_BATCH_ROWS, MAX_BATCH_BYTES)
        del sizes
        with BatchWriter(staging, schema, self._metadata(KEPT, 0, 0, total), rows) as writer:
            for kept in self._read_kept(schema):
                writer.add(kept)
        return self._pend(total, writer.batch_rows, [(writer.path, writer.metadata)])

    def _read_kept(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for chunk in self._read():
            yield fitted(chunk[KEPT], schema, chunk["documents"]["id"])

    def _dropped_lines(self) -> Iterator[bytes]:
        for chunk in self._read():
            for row in chunk[DROPPED].to_pylist():
                yield json.dumps(row, ensure_ascii=False).encode() + b"\n"

    def _write_file(self, staging: Path, name: str, content: bytes) -> FileRecord:
        write_file(staging / name, content)
        return finished_file(staging / name)


class _PendingTable(NamedTuple):
    """A table whose files are being made durable."""

    rows: int
    batch_rows: int
    shards: "list[Future[ShardRecord]]"

    def record(self) -> TableRecord:
        """Wait for the files; return the table as the manifest records it."""
        return TableRecord(self.rows, self.batch_rows, tuple(shard.result() for shard in self.shards))


def finished_file(path: Path) -> FileRecord:
    """Make a file durable and record its size and checksum."""
    sync(path)
    return FileRecord(path.name, path.stat().st_size, file_digest(path))


def _finished_shard(path: Path, metadata: FileMetadata) -> ShardRecord:
    record = finished_file(path)
    return ShardRecord(record.file, record.bytes, record.xxh3_128, metadata.row_start, metadata.row_stop)


def _replace(batch: pa.RecordBatch, name: str, values: Ints) -> pa.RecordBatch:
    index = batch.schema.get_field_index(name)
    return batch.set_column(index, batch.schema.field(index), pa.array(values, batch.schema.field(index).type))


class _FeatureShard:
    """One features file: laid out at once, then filled column by column, chunk by chunk."""

    def __init__(self, staging: Path, schema: pa.Schema, metadata: FileMetadata):
        self.path = staging / shard_name("features", metadata.shard)
        self.metadata = metadata
        self._offsets: Mapping[str, int] = lay_out(self.path, schema, metadata.row_stop - metadata.row_start)
        self._widths = {field.name: column_width(field.type) for field in schema}
        self._descriptor = os.open(self.path, os.O_WRONLY)

    def write(self, features: pa.RecordBatch, row_base: int, document_base: int) -> None:
        """Write the rows of a chunk that belong to this shard; the chunk begins at row `row_base` of the table."""
        start = max(self.metadata.row_start, row_base)
        stop = min(self.metadata.row_stop, row_base + features.num_rows)
        if start >= stop:
            return
        part = features.slice(start - row_base, stop - start)
        for index, name in enumerate(part.schema.names):
            values = column_values(part.column(index))
            if name == "document":
                values = values + document_base
            place = self._offsets[name] + (start - self.metadata.row_start) * self._widths[name]
            write_values(self._descriptor, values, place)

    def close(self) -> None:
        os.close(self._descriptor)


class BatchWriter:
    """Writes a table in record batches of a fixed row count that never follows the batches that come in."""

    def __init__(self, staging: Path, schema: pa.Schema, metadata: FileMetadata, batch_rows: int):
        self.path = staging / shard_name(metadata.table, metadata.shard)
        self.metadata = metadata
        self._schema = with_metadata(schema, metadata)
        self.batch_rows = batch_rows
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0

    def __enter__(self) -> "BatchWriter":
        with contextlib.ExitStack() as stack:
            sink = FileSink(stack.enter_context(created(self.path)))
            self._writer = pa.ipc.new_file(pa.PythonFile(sink, mode="w"), self._schema)
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
        # Taking the rows copies them into buffers of their own, so that no trace of the incoming batches is left.
        merged = pa.Table.from_batches(taken).combine_chunks().take(pa.array(np.arange(num_rows)))
        self._writer.write_table(merged.replace_schema_metadata(self._schema.metadata), max_chunksize=num_rows)
