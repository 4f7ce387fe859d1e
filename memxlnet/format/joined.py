"""Several caches as one: their rows, documents and contexts one after the other, over the same maps."""

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from arrow_schemas import TABLES, joined_type, kept_schema
from memxlnet.errors import CacheMismatchError, SettingsError
from memxlnet.format.fingerprint import differing_fields, fingerprint_of
from memxlnet.format.kept_table import KeptTable
from memxlnet.format.lazy_features import ShardSource
from memxlnet.format.manifest import Manifest, TableRecord
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints
from memxlnet.format.text_table import TextTable, text_hashes

_NULL_ROWS = 1 << 16
"""Rows of a batch of nulls."""


class JoinedTable(TextTable):
    """One table of several caches.

    Args:
        tables: That of each.
        shifts: What is added to numbers of a column, for each cache: those that count rows of other tables.
    """

    def __init__(self, tables: Sequence[TextTable], shifts: Mapping[str, Sequence[int]]):
        self._tables = tables
        self._shifts = shifts
        self._starts = list(accumulate((table.num_rows for table in tables), initial=0))[:-1]
        self._first_batches = list(accumulate((table.num_batches for table in tables), initial=0))

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self._starts[-1] + self._tables[-1].num_rows

    @property
    def num_batches(self) -> int:
        """Number of record batches."""
        return self._first_batches[-1]

    def _place(self, row: int) -> tuple[int, int]:
        which = bisect_right(self._starts, row) - 1
        return which, row - self._starts[which]

    def text(self, name: str, row: int) -> str:
        """Return a value of a text column."""
        which, local = self._place(row)
        return self._tables[which].text(name, local)

    def texts(self, name: str, row: int) -> list[str]:
        """Return a value of a column of text lists."""
        which, local = self._place(row)
        return self._tables[which].texts(name, local)

    def numbers(self, name: str, row: int) -> NDArray[np.int32]:
        """Return a value of a column of number lists: int32[items], a read-only view."""
        which, local = self._place(row)
        return self._tables[which].numbers(name, local)

    def number(self, name: str, row: int) -> int:
        """Return a value of a number column."""
        which, local = self._place(row)
        return self._tables[which].number(name, local) + self._shift(name, which)

    def columns(self, *names: str) -> list[NDArray[Any]]:
        """Return whole number columns: copies, of the columns' own types."""
        parts = [table.columns(*names) for table in self._tables]
        for which, columns in enumerate(parts):
            for name, column in zip(names, columns, strict=True):
                column += self._shift(name, which)
        return [np.concatenate(columns) for columns in zip(*parts, strict=True)]

    def batch(self, number: int) -> pa.RecordBatch:
        """Return one record batch, checked in full.

        Raises:
            CacheDamagedError: It is damaged.
        """
        which = bisect_right(self._first_batches, number) - 1
        batch = self._tables[which].batch(number - self._first_batches[which])
        columns = [
            pc.add(column, pa.scalar(shift, column.type)) if (shift := self._shift(name, which)) else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    def _shift(self, name: str, which: int) -> int:
        shifts = self._shifts.get(name)
        return shifts[which] if shifts else 0


class JoinedKept(KeptTable):
    """The kept columns of several caches: all that one of them has, null where a cache has it not.

    Args:
        caches: The caches, at least one of which keeps something.
        schema: The columns.
    """

    def __init__(self, caches: Sequence[PublishedCache], schema: pa.Schema):
        self._tables = [cache.kept for cache in caches]
        self._counts = [cache.num_documents for cache in caches]
        self._starts = list(accumulate(self._counts, initial=0))[:-1]
        self.schema = schema

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return sum(self._counts)

    def values(self, row: int, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Return the values of a document by name, as Python values; None for a null.

        Args:
            row: The document.
            names: Columns; None for all.

        Raises:
            CacheDamagedError: The record batch is damaged.
        """
        which = bisect_right(self._starts, row) - 1
        table = self._tables[which]
        found: dict[str, Any] = dict.fromkeys(self.names if names is None else names)
        if table is not None:
            found |= table.values(row - self._starts[which], [name for name in found if name in table.names])
        return found

    def rows(self, start: int, stop: int) -> pa.Table:
        """Return the rows of some documents that follow each other.

        Args:
            start: The first document.
            stop: The one after the last; above `start`.
        """
        parts = []
        for table, first, count in zip(self._tables, self._starts, self._counts, strict=True):
            low, high = max(start - first, 0), min(stop - first, count)
            if low < high:
                parts.append(self._widened(None if table is None else table.rows(low, high), high - low))
        return pa.concat_tables(parts)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the record batches in order, each checked in full and none kept: RAM for one."""
        for table, count in zip(self._tables, self._counts, strict=True):
            if table is None:
                yield from self._widened(None, count).to_batches(_NULL_ROWS)
                continue
            for batch in table.batches():
                yield from self._widened(pa.Table.from_batches([batch]), batch.num_rows).to_batches()

    def _widened(self, table: pa.Table | None, count: int) -> pa.Table:
        """Return rows of one cache with all columns."""
        columns = []
        for field in self.schema:
            if table is None or field.name not in table.schema.names:
                columns.append(pa.nulls(count, field.type))
            elif table.schema.field(field.name).type == field.type:
                columns.append(table[field.name])
            else:
                columns.append(_as_type(table[field.name], field))
        return pa.Table.from_arrays(columns, schema=self.schema)


def _as_type(column: pa.ChunkedArray, field: pa.Field) -> pa.Array:
    try:
        return pa.array(column.to_pylist(), field.type)
    except pa.ArrowException as error:
        raise CacheMismatchError(
            f"kept column {field.name!r}: expected values of the type {field.type}, as another joined cache has "
            f"it, found {column.type} ({error}); keep it as one type in all of them"
        ) from error


class JoinedCache(PublishedCache):
    """Several caches of one row layout, tokenizer and length, as one; nothing is copied.

    Args:
        caches: The caches, in order; joined ones are taken apart.

    Attributes:
        caches: The caches.

    Raises:
        CacheMismatchError: Their rows do not fit together; the message names the field, and between which caches.
        SettingsError: One of them is lazy.
    """

    caches: tuple[PublishedCache, ...]

    def __init__(self, caches: Sequence[PublishedCache]):
        parts: list[PublishedCache] = []
        for one in caches:
            parts += one.caches if isinstance(one, JoinedCache) else [one]
        self.caches = tuple(parts)
        self.source = None
        for one in parts:
            if one.source is not None:
                raise SettingsError(
                    f"cannot join {one.directory}: expected caches whose files are all here, found one that was pulled "
                    "with lazy=True; pull it without"
                )
        for other in self.caches[1:]:
            check_rows_fit(self.caches[0], other)
        self.directory = Path(os.path.commonpath([cache.directory for cache in self.caches]))
        self.in_memory = all(cache.in_memory for cache in self.caches)
        rows, documents, contexts = (
            list(accumulate((cache.manifest.tables[name].rows for cache in self.caches), initial=0))
            for name in ("features", "documents", "contexts")
        )
        self._starts = documents[:-1]
        schema = _joined_schema(self.caches)
        self.manifest = _joined_manifest(self.caches, schema)
        self.features = [
            shard.shifted(row, document)
            for cache, row, document in zip(self.caches, rows, documents, strict=False)
            for shard in cache.features
        ]
        shifts = {"context": contexts[:-1], "first_segment": rows[:-1]}
        self.documents = JoinedTable([cache.documents for cache in self.caches], shifts)
        self.contexts = JoinedTable([cache.contexts for cache in self.caches], {})
        self.kept = JoinedKept(self.caches, schema) if len(schema) else None

    @property
    def directories(self) -> tuple[Path, ...]:
        """The directories of the caches, in order."""
        return tuple(cache.directory for cache in self.caches)

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer that made the caches."""
        return self.caches[0].tokenizer_file

    def check_messages(self) -> None:
        """Check that reading the files from their start gives the same as reading from their footers."""
        for cache in self.caches:
            cache.check_messages()

    def source_of(self, document: int) -> str:
        """Return the name of the cache that a document is of, as in `sources`."""
        return self.sources[bisect_right(self._starts, document) - 1]

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the caches: that of the source, with the split and a number where others have the same name."""
        names = [cache.manifest.name for cache in self.caches]
        if len(set(names)) < len(names):
            names = [f"{cache.manifest.name}/{cache.manifest.split}" for cache in self.caches]
        counts, seen = Counter(names), Counter[str]()
        for place, name in enumerate(names):
            seen[name] += 1
            names[place] = f"{name}#{seen[name]}" if counts[name] > 1 else name
        return tuple(names)


def _joined_schema(caches: Sequence[PublishedCache]) -> pa.Schema:
    """Return the kept columns of several caches.

    Raises:
        CacheMismatchError: No type holds the values of a column in all of them.
    """
    types: dict[str, tuple[pa.DataType, PublishedCache]] = {}
    for cache in caches:
        for field in () if cache.kept is None else cache.kept.schema:
            kind, first = types.get(field.name, (field.type, cache))
            both = joined_type(kind, field.type)
            if both is None:
                raise CacheMismatchError(
                    f"cannot join {cache.directory} to {first.directory}: kept column {field.name!r}: expected {kind}, "
                    f"found {field.type}; keep it as one type in both"
                )
            types[field.name] = both, first
    return kept_schema({name: kind for name, (kind, _) in types.items()})


def opened(
    directories: Sequence[str | os.PathLike[str]], in_memory: bool = False, source: ShardSource | None = None
) -> PublishedCache:
    """Open one cache, or several as one; a lazy one is alone, with what brings its shards."""
    return joined([PublishedCache(Path(directory).absolute(), in_memory, source) for directory in directories])


def joined(caches: Sequence[PublishedCache]) -> PublishedCache:
    """Return one cache as it is, or several as one; as `JoinedCache`."""
    return caches[0] if len(caches) == 1 else JoinedCache(caches)


def context_numbers(cache: PublishedCache) -> Ints:
    """Return int64[contexts], equal numbers for equal texts, of which one cache has each once, several perhaps more.

    Two texts of one hash get one number, too.
    """
    if len(cache.directories) == 1:
        return np.arange(cache.contexts.num_rows)
    return numbered(text_hashes(cache.contexts, "text"))


def numbered(values: NDArray[Any]) -> Ints:
    """Return int64[n], the number of each value by its first place: 0, 1, 2, ... where none comes again."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    numbers: Ints = np.argsort(np.argsort(first))[inverse]
    return numbers


def repeated_ids(cache: PublishedCache, held: NDArray[np.bool_] | None = None) -> Ints:
    """Return int64[n, 2], pairs of documents with the same id, the earlier one first; 16 bytes a document are held.

    A document stands at most once on each side: of three with one id there are two pairs.

    Args:
        cache: The cache.
        held: bool[documents], those among which ids are compared; None for all.
    """
    hashes = text_hashes(cache.documents, "id")
    order = np.argsort(hashes, kind="stable")
    if held is not None:
        order = order[held[order]]
    same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    pairs: list[tuple[int, int]] = []
    # Two texts of one hash need not be equal.
    seen: dict[str, int] = {}
    for document in order[np.union1d(same, same + 1)].tolist():
        text = cache.documents.text("id", document)
        if text in seen:
            pairs.append((seen[text], document))
        seen[text] = document
    return np.array(pairs, np.int64).reshape(-1, 2)


def check_rows_fit(one: PublishedCache, other: PublishedCache) -> None:
    """Check that two caches have rows of the same length, layout and tokenizer.

    Raises:
        CacheMismatchError: They differ; the message names the fields.
    """
    different = differing_fields(_row_fields(one.manifest), _row_fields(other.manifest))
    if different:
        raise CacheMismatchError(
            f"cannot join {other.directory} to {one.directory}: {'; '.join(different[:5])}; build them with the same "
            "tokenizer and settings"
        )


def _row_fields(manifest: Manifest) -> dict[str, Any]:
    """Return what rows depend on, besides their texts."""
    return {"max_seq_length": manifest.max_seq_length, "tokenizer": manifest.fields["tokenizer"]}


def _joined_manifest(caches: Sequence[PublishedCache], kept: pa.Schema) -> Manifest:
    """Return the manifest that all of the caches would have together: of the settings those in which they agree."""
    manifests = [cache.manifest for cache in caches]
    first = manifests[0]
    settings = {
        name: value
        for name, value in first.settings.items()
        if all(other.settings.get(name) == value for other in manifests)
    }
    fields = {
        **first.fields,
        "settings": settings,
        "source": {"kind": "joined", "fingerprints": [manifest.fingerprint for manifest in manifests]},
        "split": "+".join(dict.fromkeys(manifest.split for manifest in manifests)),
    }
    return replace(
        first,
        name="+".join(dict.fromkeys(manifest.name for manifest in manifests)),
        split=fields["split"],
        fingerprint=fingerprint_of(fields),
        fields=fields,
        tables={name: _joined_table([manifest.tables[name] for manifest in manifests]) for name in TABLES},
        files=(),
        alignment={name: sum(manifest.alignment[name] for manifest in manifests) for name in first.alignment},
        **{
            name: sum(getattr(manifest, name) for manifest in manifests)
            for name in ("documents_without_answer_segment", "contradictions", "dropped_examples")
        },
        provenance={},
        kept={field.name: str(field.type) for field in kept},
    )


def _joined_table(tables: Sequence[TableRecord]) -> TableRecord:
    starts = list(accumulate((table.rows for table in tables), initial=0))
    shards = tuple(
        replace(shard, row_start=shard.row_start + start, row_stop=shard.row_stop + start)
        for table, start in zip(tables, starts, strict=False)
        for shard in table.shards
    )
    return TableRecord(starts[-1], tables[0].batch_rows, shards)
