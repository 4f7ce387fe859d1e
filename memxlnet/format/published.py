"""An opened cache: its structure checked against the manifest, its tables as NumPy views."""

import contextlib
import copy
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from arrow_schemas import (
    KEPT,
    FileMetadata,
    diff,
    features_schema,
    is_kept_type,
    kept_schema,
    table_schema,
    with_metadata,
)
from memxlnet.errors import CacheDamagedError, CacheNotFoundError, CacheOSError, SettingsError
from memxlnet.format.file_layout import column_width, file_identity, numpy_type, values_buffer
from memxlnet.format.ipc_messages import READ_ERRORS, check_messages, check_start, damaged
from memxlnet.format.kept_table import KeptTable
from memxlnet.format.lazy_features import LazyFeatures, ShardSource
from memxlnet.format.manifest import REBUILD, Manifest, ShardRecord, read_manifest, reading
from memxlnet.format.mapping import MappedFile
from memxlnet.format.paths import MANIFEST, TOKENIZER, kind_and_cache
from memxlnet.format.text_table import TextTable
from memxlnet.system_errors import LIMITS

logger = logging.getLogger(__name__)

Read = TypeVar("Read")


class FeatureShard:
    """One features file: every column contiguous, as a view of the map.

    Attributes:
        row_start: First row of the table that the shard holds.
        row_stop: One after the last row.
        document_start: First document of its cache: what is added to the documents of its rows. 0, except where several
            caches are joined.
        writable: Whether the views can be written (privately).
        columns: Views by name; token columns are [rows, max_seq_length], all others [rows].
    """

    def __init__(self, mapped: MappedFile, reader: Any, record: ShardRecord, max_seq_length: int):
        self.row_start, self.row_stop = record.row_start, record.row_stop
        self.document_start = 0
        self.writable = mapped.writable
        rows = record.row_stop - record.row_start
        schema = features_schema(max_seq_length)
        if reader.num_record_batches != 1:
            raise damaged(mapped.path, "one record batch", reader.num_record_batches)
        batch = reader.get_batch(0)
        if batch.num_rows != rows:
            raise damaged(mapped.path, f"{rows} rows (manifest)", batch.num_rows)
        self._mapped = mapped
        self._offsets: dict[str, int] = {}
        self.columns: dict[str, NDArray[Any]] = {}
        for index, field in enumerate(schema):
            column = batch.column(index)
            buffer = values_buffer(column)
            wanted = column_width(field.type) * rows
            offset = buffer.address - mapped.buffer.address if buffer is not None else -1
            if buffer is None or buffer.size != wanted or not 0 <= offset <= mapped.size - wanted:
                found = "none" if buffer is None else f"{buffer.size} at {offset}"
                raise damaged(mapped.path, f"a buffer of {wanted} bytes for column {field.name}", found)
            if any(part is not None for part in column.buffers()[:-1]):
                raise damaged(mapped.path, f"no nulls in column {field.name}", "a validity bitmap")
            self.columns[field.name] = _view(mapped, field.type, rows, offset)
            self._offsets[field.name] = offset

    def shifted(self, rows: int, documents: int) -> "FeatureShard":
        """Return the same shard after other rows and documents."""
        shard = copy.copy(self)
        shard.row_start, shard.row_stop = self.row_start + rows, self.row_stop + rows
        shard.document_start = self.document_start + documents
        return shard

    def take(self, name: str, places: Any) -> NDArray[Any]:
        """Return values of a column at places of this shard: a copy, or a view for a slice where nothing is added."""
        taken: NDArray[Any] = self.columns[name][places]
        return taken + self.document_start if self.document_start and name == "document" else taken

    def advise(self, option: int, name: str, start: int, stop: int) -> None:
        """Advise the system how the pages of some rows of a column will be read (madvise).

        Args:
            option: Such as `mmap.MADV_WILLNEED`.
            name: The column.
            start: The first row, counted from the first of the shard.
            stop: The one after the last.
        """
        width = self.columns[name][:1].nbytes
        self._mapped.advise(option, self._offsets[name] + start * width, (stop - start) * width)


def _view(mapped: MappedFile, kind: pa.DataType, rows: int, offset: int) -> NDArray[Any]:
    if pa.types.is_fixed_size_list(kind):
        values = mapped.array(numpy_type(kind.value_type), rows * kind.list_size, offset)
        return values.reshape(rows, kind.list_size)
    return mapped.array(numpy_type(kind), rows, offset)


class PublishedCache:
    """A published cache, opened for reading.

    Opening checks manifest, file sizes, schemas, fingerprints, row ranges and buffers; it costs the number of shards,
    not the number of rows. It takes no lock, creates no file and needs no write permission.

    Args:
        directory: The published directory.
        in_memory: Read the files into RAM instead of mapping them.
        source: Brings the features files here; None where all of them are. With a source the cache is lazy: only the
            other files are opened and checked now, and each shard of features when it is first read.

    Attributes:
        features: The shards of features; of a lazy cache each access may wait for the file.
        documents: The documents, one row per example.
        contexts: The distinct contexts.
        kept: Further fields of the examples, one row per document; None where the cache keeps none.

    Raises:
        CacheNotFoundError: There is no cache.
        CacheMismatchError: The cache has another format version.
        CacheDamagedError: A file is missing, swapped, truncated or structurally damaged.
        CacheOSError: A file cannot be opened, mapped or read; a `CacheDirectoryError` where access stops it.
    """

    def __init__(self, directory: Path, in_memory: bool = False, source: ShardSource | None = None):
        self.directory = directory
        self.in_memory = in_memory
        self.source = source
        while_it_stays(directory, self._open)

    def _open(self) -> None:
        directory = self.directory
        self._files: list[tuple[MappedFile, Any]] = []
        self.manifest: Manifest = read_manifest(directory)
        if self.source is None and kind_and_cache(directory)[0] == "lazy":
            raise CacheNotFoundError(
                f"{directory}: expected a cache whose files are all here, found one that was pulled with lazy=True; "
                "pull it without"
            )
        for record in self.manifest.files:
            _check_size(directory / record.file, record.bytes)
        self.features = self._open_features()
        if self.source is None and not all(shard.writable for shard in self.features):
            logger.warning("%s: the system refuses private maps; using read-only ones, tensors are copies", directory)
        self.documents = self._open_texts("documents")
        self.contexts = self._open_texts("contexts")
        self.kept = self._open_kept() if KEPT in self.manifest.tables else None

    def __repr__(self) -> str:
        shown = ", ".join(repr(str(directory)) for directory in self.directories)
        return f"{type(self).__name__}({shown}, {self.num_rows} rows, {self.num_documents} documents)"

    def check_messages(self) -> None:
        """Check that reading the files from their start gives the same as reading from their footers.

        Raises:
            CacheDamagedError: A file was not written whole.
        """
        for mapped, reader in self._files:
            check_messages(mapped.path, mapped.buffer, reader)

    @property
    def num_rows(self) -> int:
        """Number of segments."""
        return self.manifest.tables["features"].rows

    @property
    def num_documents(self) -> int:
        """Number of documents."""
        return self.manifest.tables["documents"].rows

    def segments(self, start: int, stop: int) -> pa.RecordBatch:
        """Return rows of features that follow each other: views of the map, unless they lie in several shards.

        Args:
            start: The first row.
            stop: The one after the last; above `start`.
        """
        schema = features_schema(self.manifest.max_seq_length)
        shards = list(self.shards_of(start, stop))
        pieces = [slice(max(start - shard.row_start, 0), stop - shard.row_start) for shard in shards]
        columns = []
        for field in schema:
            found = [shard.take(field.name, piece) for shard, piece in zip(shards, pieces, strict=True)]
            values = pa.array((found[0] if len(found) == 1 else np.concatenate(found)).reshape(-1))
            is_list = pa.types.is_fixed_size_list(field.type)
            columns.append(pa.FixedSizeListArray.from_arrays(values, type=field.type) if is_list else values)
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def shards_of(self, start: int, stop: int) -> Iterator[FeatureShard]:
        """Yield the shards that hold rows of features that follow each other; a lazy cache fetches no other ones.

        Args:
            start: The first row.
            stop: The one after the last; above `start`.
        """
        for number, record in enumerate(self.manifest.tables["features"].shards):
            if record.row_start < stop and record.row_stop > start:
                yield self.features[number]

    def kept_column(self, argument: str, name: object, *others: str) -> KeptTable:
        """Return the kept columns, among them one of single values that an argument names.

        Args:
            argument: Name of the argument, for messages.
            name: The column.
            others: What else the argument takes, for messages.

        Raises:
            SettingsError: There is no such column, or it holds lists or structs.
        """
        kept = self.manifest.kept
        if self.kept is None or not isinstance(name, str) or name not in kept:
            shown = f"one of the kept columns {', '.join(kept)}" if kept else "a column of a cache built with keep="
            words = f"{', '.join(map(repr, others))} or " if others else ""
            raise SettingsError(f"{argument}: expected {words}{shown}, found {name!r:.120}")
        if pa.types.is_nested(self.kept.schema.field(name).type):
            raise SettingsError(f"{argument}: expected a column of single values, found {name!r} of {kept[name]}")
        return self.kept

    @property
    def directories(self) -> tuple[Path, ...]:
        """Where the files lie: this directory alone, except where several caches are joined."""
        return (self.directory,)

    @property
    def sources(self) -> tuple[str, ...]:
        """Name of the source; one for each cache where several are joined."""
        return (self.manifest.name,)

    def source_of(self, document: int) -> str:
        """Return the name of the source that a document is of."""
        return self.manifest.name

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer that made the cache, as the Rust tokenizer reads it."""
        return self.directory / TOKENIZER

    def _open_features(self) -> Sequence[FeatureShard]:
        self._check_ranges("features")
        count = len(self.manifest.tables["features"].shards)
        source = self.source
        if source is None:
            return [self._open_feature_shard(number) for number in range(count)]
        return LazyFeatures(count, lambda number: source.shard(number, lambda: self._open_feature_shard(number)))

    def _open_feature_shard(self, number: int) -> FeatureShard:
        record = self.manifest.tables["features"].shards[number]
        mapped, reader, _ = self._open_shard("features", number, record)
        return FeatureShard(mapped, reader, record, self.manifest.max_seq_length)

    def _open_texts(self, name: str) -> TextTable:
        mapped, reader, _ = self._open_batches(name)
        return TextTable(mapped, reader, self.manifest.tables[name])

    def _open_kept(self) -> KeptTable:
        mapped, reader, schema = self._open_batches(KEPT)
        return KeptTable(mapped, reader, self.manifest.tables[KEPT], schema)

    def _open_batches(self, name: str) -> tuple[MappedFile, Any, pa.Schema]:
        table = self.manifest.tables[name]
        self._check_ranges(name)
        if len(table.shards) != 1 or not table.batch_rows:
            raise damaged(self.directory, f"one shard of {name} in batches of a row count", f"{len(table.shards)}")
        mapped, reader, schema = self._open_shard(name, 0, table.shards[0])
        batches = -(-table.rows // table.batch_rows)
        if reader.num_record_batches != batches:
            raise damaged(mapped.path, f"{batches} record batches (manifest)", reader.num_record_batches)
        return mapped, reader, schema

    def _check_ranges(self, name: str) -> None:
        table = self.manifest.tables[name]
        row = 0
        for record in table.shards:
            if record.row_start != row or record.row_stop <= row:
                raise damaged(self.directory, f"{record.file} to hold rows from {row}", f"from {record.row_start}")
            row = record.row_stop
        if row != table.rows or not row:
            raise damaged(self.directory, f"{table.rows} rows of {name} in its shards, at least one", row)

    def _open_shard(self, table: str, number: int, record: ShardRecord) -> tuple[MappedFile, Any, pa.Schema]:
        path = self.directory / record.file
        _check_size(path, record.bytes)
        with self._with_limits():
            mapped = MappedFile(path, self.in_memory)
        if mapped.size != record.bytes:
            raise damaged(path, f"{record.bytes} bytes (manifest)", mapped.size)
        metadata = FileMetadata(table, number, record.row_start, record.row_stop, self.manifest.fingerprint)
        try:
            reader = pa.ipc.open_file(mapped.buffer)
            # A name that is not UTF-8 is found only here, when it is read.
            expected = self._kept_schema(reader.schema) if table == KEPT else self._schema(table)
            differences = diff(with_metadata(expected, metadata), reader.schema)
        except READ_ERRORS as error:
            raise damaged(path, "an Arrow IPC file", error) from error
        if differences:
            shown = "; ".join(map(str, differences[:5]))
            raise CacheDamagedError(f"{path}: not the file that the manifest names: {shown}", hint=REBUILD)
        check_start(path, mapped.buffer, reader.schema)
        if table != "features" or self.source is None:  # else the map would stay for as long as the cache
            self._files.append((mapped, reader))
        return mapped, _GuardedReader(path, reader), reader.schema.remove_metadata()

    def _schema(self, table: str) -> pa.Schema:
        return table_schema(table, self.manifest.max_seq_length)

    def _kept_schema(self, found: pa.Schema) -> pa.Schema:
        """Return the schema that the kept columns must have: their types are known by their text alone."""
        types = {field.name: field.type for field in found}
        for name, text in self.manifest.kept.items():
            kind = types.get(name)
            if kind is None or str(kind) != text or not is_kept_type(kind):
                raise pa.ArrowInvalid(f"kept column {name!r}: expected {text} (manifest), found {kind}")
        return kept_schema({name: types[name] for name in self.manifest.kept})

    @contextlib.contextmanager
    def _with_limits(self) -> Iterator[None]:
        """Add to an error of a limit of the system how many files a cache takes, and how it takes fewer."""
        try:
            yield
        except CacheOSError as error:
            if error.errno not in LIMITS:
                raise
            shards = [record for table in self.manifest.tables.values() for record in table.shards]
            error.add_note(
                f"or build the cache in fewer shards (a larger max_shard_rows): {len(self._files)} of its "
                f"{len(shards)} are open, which take a file each and {sum(record.bytes for record in shards):,} bytes "
                f"of {'memory' if self.in_memory else 'address space'} together"
            )
            raise


class _GuardedReader:
    """A reader that reports damage as such."""

    def __init__(self, path: Path, reader: Any):
        self._path = path
        self._reader = reader

    @property
    def num_record_batches(self) -> int:
        return int(self._reader.num_record_batches)

    def get_batch(self, index: int) -> pa.RecordBatch:
        try:
            return self._reader.get_batch(index)
        except READ_ERRORS as error:
            raise damaged(self._path, f"record batch {index}", error) from error


_OPEN_ATTEMPTS = 10
_OPEN_PAUSE = 0.005


def while_it_stays(directory: Path, read: Callable[[], Read]) -> Read:
    """Read a cache, and again where a rebuild put another one into its place; a damaged one stays as it is.

    What is read is of one cache, even where files of both fit the same manifest.
    """
    for _ in range(_OPEN_ATTEMPTS):
        before = file_identity(directory / MANIFEST)
        try:
            found = read()
        except (CacheNotFoundError, CacheDamagedError):
            time.sleep(_OPEN_PAUSE)
            if file_identity(directory / MANIFEST) == before:
                raise
        else:
            # Where it was removed meanwhile, what was read is whole.
            if file_identity(directory / MANIFEST) in (before, None):
                return found
    return read()


def _check_size(path: Path, size: int) -> None:
    with reading(path):
        try:
            found = path.stat().st_size
        except FileNotFoundError:
            raise damaged(path, f"a file of {size} bytes (manifest)", "none") from None
    if found != size:
        raise damaged(path, f"{size} bytes (manifest)", found)
