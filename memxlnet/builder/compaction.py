"""Compaction: the caches of parts become one cache, with the bytes of a build from all files at once.

Nothing is encoded. Each part is read back as chunks, which go through the same publishing as those of a build.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from arrow_schemas import DROPPED, KEPT, TABLES, dropped_schema
from memxlnet.builder.cache_writer import BuildSummary, CacheWriter
from memxlnet.builder.chunk_survey import ChunkSurvey
from memxlnet.builder.chunks_to_shards import Chunks
from memxlnet.builder.repeats_across_parts import document_rows, open_part, shown_files
from memxlnet.encode.cache_settings import CacheSettings
from memxlnet.encode.examples import generated_id, shown_example
from memxlnet.errors import BuildError, CacheNotFoundError, SourceError
from memxlnet.format.file_layout import column_values
from memxlnet.format.manifest import known_files, read_manifest
from memxlnet.format.part_list import PartList
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints
from memxlnet.maintain.encoding_rules import read_content, read_dropped
from memxlnet.maintain.row_blocks import TextBlock, read_blocks, take_rows
from memxlnet.progress import Heartbeat
from memxlnet.settings import EncodeSettings
from memxlnet.sources import Files, open_files
from memxlnet.system_errors import source_errors

_FILE_FIELDS = ("kind", "format", "sha256", "partitions")
"""Fields of a source's identity that come from its files; the others say how they are read."""

_BUILD_ALL = "build one cache from all files instead"


def compact_parts(
    directory: Path,
    parts: PartList,
    cache_dir: Path,
    *,
    source: Any = None,
    token: str | None = None,
    max_shard_rows: int | None = None,
    progress: bool | None = None,
) -> BuildSummary:
    """Join the caches of parts into one cache whose bytes are those of a build from all files.

    Args:
        directory: Directory of the caches of the parts.
        parts: The parts.
        cache_dir: Where the cache is published.
        source: The files; None opens those that the list names.
        token: Credentials for the Hub, for ``hf://``.
        max_shard_rows: Rows of a features shard at most; None for what an Arrow array may hold.
        progress: Show a line while another process builds the cache.

    Raises:
        SourceError: The files are no longer those of the parts, or cannot be read.
        BuildError: A build from all files would give other values or none: an id repeats, an example has no id, or
            only some files have answers; or the disk is full.
        CacheError: A part is missing or damaged, or the directory cannot be written.
    """
    writer = CacheWriter(cache_dir, max_shard_rows=max_shard_rows)
    _check_one_build(directory, parts)
    named = source if source is not None else parts.source if isinstance(parts.source, str) else list(parts.source)
    with source_errors(parts.name), Heartbeat(lambda _: f"{parts.name}: comparing the files with those of its parts"):
        files = open_files(named, parts.split, token, known_files(directory))
        _check_files(directory, parts, files)
    settings = _settings_of_all(directory, parts, files)
    with writer.lock(settings, progress):
        try:
            found = read_manifest(writer.directory(settings))
            if found.fingerprint == settings.fingerprint:
                return BuildSummary.of(writer.directory(settings), found)
        except CacheNotFoundError:
            pass
        found_chunks = _PartChunks(directory, parts)
        surveys = map(ChunkSurvey.of, found_chunks.read())
        chunks = Chunks(found_chunks.rows(), found_chunks.read, surveys, parts.num_bytes)
        files.check_unchanged()
        writer.begin(settings)
        with Heartbeat(lambda _: f"{parts.name}: publishing {parts.documents} documents"):
            return writer.publish(settings, chunks)


def reading_fields(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a source's identity that say how its files are read."""
    return {name: value for name, value in source.items() if name not in _FILE_FIELDS}


def _check_one_build(directory: Path, parts: PartList) -> None:
    """Check what would make a build from all files end with an error or other values, as far as the list shows it.

    Raises:
        BuildError: It would.
    """
    if parts.num_hidden:
        raise BuildError(
            f"{directory / parts.directory_name}: expected every id in one part to be compacted, found "
            f"{parts.num_hidden} documents whose id a later part has; a build from all files refuses them: remove "
            "the older examples from the files and build the parts again"
        )
    labelled = ""
    for part in parts.parts:
        if labelled and part.answers_field != "all":
            raise BuildError(
                f"{directory / part.cache}: expected rows with the field 'answers', as {labelled} has it, found "
                f"{part.answers_field} in {shown_files(part)}; a build from all files takes such rows as bad: add the "
                f"field, or keep the parts"
            )
        if part.answers_field != "none":
            labelled = labelled or shown_files(part)


def _check_files(directory: Path, parts: PartList, files: Files) -> None:
    # Files without examples change no row, wherever they are.
    empty = {file.mark for file in parts.empty}
    expected = [file.mark for part in parts.parts for file in part.files if file.mark not in empty]
    there = [place for place, mark in enumerate(files.marks) if mark not in empty]
    marks = [files.marks[place] for place in there]
    if marks == expected:
        return
    at = next((n for n, (one, other) in enumerate(zip(expected, marks, strict=False)) if one != other), None)
    found = f"{len(marks)} files" if at is None else f"another one in place {at + 1}: {files.paths[there[at]]}"
    raise SourceError(
        f"{directory / parts.directory_name}: expected the {len(expected)} files of the parts, with the same content "
        f"and in the same order, found {found}; build the parts again first"
    )


def _settings_of_all(directory: Path, parts: PartList, files: Files) -> CacheSettings:
    """Return what a build from all files would be made from."""
    first = open_part(directory, parts.parts[0])
    fields = first.manifest.fields
    if "format" not in fields["source"]:
        raise BuildError(
            f"{first.directory}: expected files that are identified by their own content, found a form that reads "
            f"other files as well; {_BUILD_ALL}"
        )
    return CacheSettings(
        name=files.name,
        split=parts.split,
        encode=EncodeSettings(**fields["settings"]),
        source={**reading_fields(fields["source"]), **files.identity()},
        tokenizer=read_content(first),
        provenance=files.provenance(),
    )


class _PartChunks:
    """The caches of parts, read back as chunks: one for each record batch of documents. One part is open at a time."""

    def __init__(self, directory: Path, parts: PartList):
        self._directory = directory
        self._parts = parts
        self._names_differ = _names_differ(parts)

    def rows(self) -> dict[str, int]:
        """Return the rows of all chunks by table, and check that no example depends on its row."""
        totals = dict.fromkeys((*TABLES, DROPPED), 0)
        for cache, base in self._opened():
            _check_ids(cache, base)
            manifest = cache.manifest
            if manifest.dropped_examples and not self._names_differ:
                raise BuildError(
                    f"{cache.directory}: expected files with distinct names to compact parts with dropped examples, "
                    f"whose reports name them, found one name twice; {_BUILD_ALL}"
                )
            totals["features"] += cache.num_rows
            totals["documents"] += cache.num_documents
            totals["contexts"] += sum(len(_contexts_of(block)[0]) for block in read_blocks(cache, "documents"))
            totals[DROPPED] += manifest.dropped_examples
        return totals

    def read(self, _: Collection[str] = ()) -> Iterator[Mapping[str, pa.RecordBatch]]:
        """Yield all tables of each chunk, in order: most are views of the caches."""
        for cache, base in self._opened():
            dropped: pa.RecordBatch | None = _dropped(cache, base)
            for block in read_blocks(cache, "documents"):
                yield {**_chunk(cache, block), DROPPED: dropped if dropped is not None else _dropped_batch([])}
                dropped = None

    def _opened(self) -> Iterator[tuple[PublishedCache, int]]:
        """Yield each part, and the examples of all files before it."""
        base = 0
        for part in self._parts.parts:
            cache = open_part(self._directory, part)
            yield cache, base
            base += cache.num_documents + cache.manifest.dropped_examples


def _names_differ(parts: PartList) -> bool:
    names = [os.path.basename(file.name) for part in parts.parts for file in part.files]  # noqa: PTH119 - or of a URL
    return len(set(names)) == len(names)


def _check_ids(cache: PublishedCache, base: int) -> None:
    """Check that no example has an id that was made from its row: a build from all files counts other rows.

    Raises:
        BuildError: One has.
    """
    if not base:
        return
    found = [(example.id, example.row) for example in read_dropped(cache)]
    rows = document_rows(cache)
    for block in read_blocks(cache, "documents"):
        ids = block.batch["id"].to_pylist()
        found += zip(ids, rows[block.first_row : block.first_row + len(ids)].tolist(), strict=True)
        for identity, row in found:
            if identity == generated_id(row):
                raise BuildError(
                    f"{cache.directory}: expected examples with ids of their own to be compacted, found {identity!r}, "
                    f"the id that an example without one has; {_BUILD_ALL}"
                )
        found = []


def _contexts_of(block: TextBlock) -> tuple[Ints, Ints]:
    """Return the contexts of some documents in order of first use, and the place of each document's among them."""
    contexts, firsts, inverse = np.unique(block.integers("context"), return_index=True, return_inverse=True)
    order = np.argsort(firsts)
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return contexts[order], places[inverse]


def _chunk(cache: PublishedCache, block: TextBlock) -> dict[str, pa.RecordBatch]:
    contexts, places = _contexts_of(block)
    firsts = block.integers("first_segment")
    start = int(firsts[0])
    stop = int(firsts[-1]) + int(column_values(block.batch["num_segments"])[-1])
    documents = _replace(_replace(block.batch, "context", places), "first_segment", firsts - start)
    return {
        "features": _features(cache, start, stop, block.first_row),
        "documents": documents,
        "contexts": take_rows(cache, "contexts", contexts),
        KEPT: _kept(cache, block),
    }


def _kept(cache: PublishedCache, block: TextBlock) -> pa.RecordBatch:
    """Return the kept columns of some documents; one without any value has no type yet, as in a build."""
    if cache.kept is None:
        return pa.RecordBatch.from_arrays([], schema=pa.schema([]))
    rows = block.batch.num_rows
    table = cache.kept.rows(block.first_row, block.first_row + rows).combine_chunks()
    (kept,) = table.to_batches()
    columns = [pa.nulls(rows) if column.null_count == rows else column for column in kept.columns]
    return pa.RecordBatch.from_arrays(columns, names=kept.schema.names)


def _features(cache: PublishedCache, start: int, stop: int, first_document: int) -> pa.RecordBatch:
    rows = cache.segments(start, stop)
    return _replace(rows, "document", column_values(rows["document"]) - first_document)


def _dropped(cache: PublishedCache, base: int) -> pa.RecordBatch:
    """Return the dropped examples of a part as a build from all files counts their rows."""
    rows = []
    for example in read_dropped(cache):
        # Where the encoder refused it, the reason begins with its row in the source; else with its place in a file.
        rest = example.reason.removeprefix(f"{shown_example(example.id, example.row)}: ")
        is_counted = rest != example.reason
        row = example.row + base
        reason = f"{shown_example(example.id, row)}: {rest}" if is_counted else example.reason
        rows.append({"row": row, "id": example.id, "reason": reason})
    return _dropped_batch(rows)


def _dropped_batch(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=dropped_schema())


def _replace(batch: pa.RecordBatch, name: str, values: Ints) -> pa.RecordBatch:
    index = batch.schema.get_field_index(name)
    return batch.set_column(index, batch.schema.field(index), pa.array(values, pa.int64()))
