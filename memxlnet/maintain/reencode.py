"""Encode examples again, with the cache's own tokenizer and layout, and compare them with what the cache holds."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from arrow_schemas import DROPPED, KEPT
from memxlnet.encode.answer_alignment import DROPPED as DROPPED_ANSWER
from memxlnet.encode.answer_alignment import NUMBER, UNLABELLED, YES_NO, absent
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import ABSENT, BadExample, Example, bad_example, has_answers, parse_example
from memxlnet.encode.kept_values import plain_value
from memxlnet.encode.repeated_ids import Ids
from memxlnet.errors import CacheDamagedError, CacheMismatchError, ExampleError
from memxlnet.format.file_layout import column_values
from memxlnet.format.fingerprint import differing_fields
from memxlnet.format.manifest import REBUILD
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints, ragged_arange
from memxlnet.maintain.encoding_rules import Rules, read_dropped
from memxlnet.maintain.row_blocks import FeatureBlock, TextBlock, file_of, take_rows
from memxlnet.settings import EncodeSettings
from memxlnet.sources import Source
from memxlnet.system_errors import read_from

CHUNK_EXAMPLES = 256
"""Examples that are encoded at once at most."""

CHUNK_VALUES = 1 << 22
"""Values of a token column that are encoded at once at most, unless one document alone has more: some 100 MB."""


class Picked(NamedTuple):
    """One example that is encoded again.

    Attributes:
        example: The example, as the source gives it.
        document: Its row of documents, or -1 where the cache has it among the dropped ones.
        reported: Its entry in the report of dropped examples.
    """

    example: Example | BadExample
    document: int
    reported: BadExample | None


def check_against(cache: PublishedCache, rules: Rules, source: Source, sample: int | None) -> None:
    """Compare a cache with its source.

    Args:
        cache: A cache whose tables fit each other.
        rules: What decides its rows.
        source: The source, read once.
        sample: Examples that are encoded again, spread evenly; None encodes all of them.

    Raises:
        CacheMismatchError: The cache was made from another source; the message names the fields that differ.
        CacheDamagedError: A value differs from what encoding gives.
        SourceError: The source cannot be read, or changed meanwhile.
    """
    manifest = cache.manifest
    differences = differing_fields(manifest.fields.get("source", {}), source.identity(), "source.")
    if differences:
        raise CacheMismatchError(
            f"{cache.directory}: made from another source than {source.name}: {'; '.join(differences)}; verify it "
            "against the source that it was made from, or build a cache of this one"
        )
    _encode_again(cache, rules, _pick(cache, source, sample, rules.encode))
    source.check_unchanged()


def check_own(cache: PublishedCache, rules: Rules) -> None:
    """Encode the documents of a cache again, as it holds them, and compare every column.

    A document whose answer was dropped because it does not occur stays so: only the source shows whether the answer was
    looked up as whole words.

    Args:
        cache: A cache whose tables fit each other.
        rules: What decides its rows.

    Raises:
        CacheDamagedError: A value differs from what encoding gives.
    """
    _encode_again(cache, rules, _own(cache))


def _encode_again(cache: PublishedCache, rules: Rules, examples: Iterator[Picked]) -> None:
    # Every example was either kept or dropped when the cache was built, so none is an error here.
    encoder = Encoder(rules.tokenizer.backend, rules.layout, replace(rules.encode, on_bad_example="drop"))
    for chunk in _chunks(cache, examples):
        _compare(cache, chunk, encoder.encode([picked.example for picked in chunk]))


def _own(cache: PublishedCache) -> Iterator[Picked]:
    """Yield the documents of a cache as the examples that they were."""
    document = 0
    for batch in cache.documents.batches():
        for held in batch.to_pylist():
            texts, status = tuple(held["answer_texts"]), held["alignment"]
            kind = status if status in (YES_NO, NUMBER) else ""
            if status == DROPPED_ANSWER and held["alignment_detail"] == absent(texts).detail:
                kind = ABSENT
            example = Example(
                document,
                held["id"],
                held["question"],
                cache.contexts.text("text", held["context"]),
                texts,
                tuple(held["answer_starts"]),
                status != UNLABELLED,
                kind,
                held["contradiction"],
            )
            yield Picked(example, document, None)
            document += 1


def sample_rows(total: int, sample: int | None) -> Iterator[int]:
    """Yield rows of a source, in order and spread evenly from the first to the last; all of them for None."""
    if sample is None or sample >= total:
        yield from range(total)
    elif sample == 1:
        yield 0
    else:
        yield from (number * (total - 1) // (sample - 1) for number in range(sample))


def _pick(cache: PublishedCache, source: Source, sample: int | None, settings: EncodeSettings) -> Iterator[Picked]:
    """Read the source to its end, as far as the build did, and yield the examples of the sample."""
    total = cache.num_documents + cache.manifest.dropped_examples
    wanted = sample_rows(total, sample)
    dropped = read_dropped(cache)
    next_wanted, next_dropped = next(wanted, None), next(dropped, None)
    rows = document = 0
    rows_of_build = islice(source.rows(), min(settings.max_examples or total + 1, total + 1))
    entries: Iterator[Any] = _noted(read_from(source.name, rows_of_build))
    if (settings.on_bad_example, settings.on_repeated_id) != ("error", "error"):
        entries = _with_ids_checked(entries, source, settings, tuple(cache.manifest.kept))
    for row, entry in enumerate(entries):
        rows = row + 1
        reported = None
        if next_dropped is not None and next_dropped.row == row:
            reported, next_dropped = next_dropped, next(dropped, None)
        if row == next_wanted:
            next_wanted = next(wanted, None)
            if not isinstance(entry, Example | BadExample):
                raw, is_labelled = entry
                entry = _parse(row, raw, is_labelled, source, settings, tuple(cache.manifest.kept))
            yield Picked(entry, -1 if reported else document, reported)
        document += reported is None
    if rows != total:
        found = "more" if rows > total else rows
        raise CacheDamagedError(
            f"{cache.directory}: expected {total} examples, as documents and dropped examples say, found {found} in "
            f"{source.name}",
            hint=REBUILD,
        )


def _noted(rows: Iterator[Any]) -> Iterator[tuple[Any, bool]]:
    """Yield each row, and whether one so far has the field ``answers``."""
    is_labelled = False
    for raw in rows:
        is_labelled = is_labelled or has_answers(raw)
        yield raw, is_labelled


def _with_ids_checked(
    rows: Iterator[tuple[Any, bool]], source: Source, settings: EncodeSettings, kept: tuple[str, ...]
) -> Iterator[Example | BadExample]:
    """Yield all examples in order, as the build read them: some have another id than in the source, or a bad one."""
    ids = Ids(source.place, replace(settings, on_bad_example="drop"))
    block: list[Example | BadExample] = []
    characters = 0
    for row, (raw, is_labelled) in enumerate(rows):
        block.append(_parse(row, raw, is_labelled, source, settings, kept))
        characters += len(getattr(block[-1], "context", ""))
        if len(block) == CHUNK_EXAMPLES or characters > CHUNK_VALUES:
            yield from ids.check(block)
            block, characters = [], 0
    yield from ids.check(block)


def _parse(
    row: int, raw: Any, is_labelled: bool, source: Source, settings: EncodeSettings, kept: tuple[str, ...]
) -> Example | BadExample:
    try:
        example = parse_example(row, raw, source.place, settings.on_contradiction, is_labelled)
        return example._replace(kept={name: raw.get(name) for name in kept}) if kept else example
    except ExampleError as error:
        return bad_example(row, raw, error)


def _chunks(cache: PublishedCache, examples: Iterator[Picked]) -> Iterator[list[Picked]]:
    """Cut the sample into chunks by their number of examples and of segments."""
    length = cache.manifest.max_seq_length
    batch_rows = cache.manifest.tables["documents"].batch_rows
    held, segments = -1, np.zeros(0, np.int32)
    chunk: list[Picked] = []
    values = 0
    for picked in examples:
        batch, at = divmod(picked.document, batch_rows)
        if picked.document >= 0 and batch != held:
            held, segments = batch, column_values(cache.documents.batch(batch)["num_segments"])
        added = int(segments[at]) * length if picked.document >= 0 else 0
        if chunk and (len(chunk) == CHUNK_EXAMPLES or values + added > CHUNK_VALUES):
            yield chunk
            chunk, values = [], 0
        chunk.append(picked)
        values += added
    if chunk:
        yield chunk


def _compare(cache: PublishedCache, chunk: list[Picked], tables: dict[str, pa.RecordBatch]) -> None:
    _compare_dropped(cache, chunk, {entry["row"]: BadExample(**entry) for entry in tables[DROPPED].to_pylist()})
    kept = [picked for picked in chunk if picked.document >= 0]
    if not kept:
        return
    documents = np.array([picked.document for picked in kept], np.int64)
    found = take_rows(cache, "documents", documents)
    expected = tables["documents"]
    for name in expected.schema.names:
        if name not in ("context", "first_segment"):
            _compare_texts(cache, "documents", documents, name, expected[name], found)
    _compare_kept(cache, documents, [picked.example for picked in kept])
    _compare_contexts(cache, documents, column_values(expected["context"]), found, tables["contexts"])
    counts = column_values(expected["num_segments"]).astype(np.int64)
    rows = ragged_arange(counts) + np.repeat(column_values(found["first_segment"]), counts)
    owner = np.repeat(np.arange(len(kept)), counts)
    _compare_features(cache, rows, [picked.example.id for picked in kept], owner, documents, tables["features"])


def _compare_dropped(cache: PublishedCache, chunk: list[Picked], bad: dict[int, BadExample]) -> None:
    """Check that the same examples were dropped, under the same ids; reasons are for people, and not compared."""
    for picked in chunk:
        found, expected = picked.reported, bad.get(picked.example.row)
        if (found.id if found else None) != (expected.id if expected else None):
            kept = f"{picked.example.id!r:.120} kept"
            wanted = f"{expected.id!r:.120} dropped ({expected.reason})" if expected else kept
            held = f"{found.id!r:.120} dropped ({found.reason})" if found else f"row {picked.document} of documents"
            raise CacheDamagedError(
                f"{cache.directory}, example in row {picked.example.row} of the source: expected {wanted}, found "
                f"{held}",
                hint=REBUILD,
            )


def _compare_contexts(
    cache: PublishedCache, documents: Ints, numbers: Ints, found: pa.RecordBatch, expected: pa.RecordBatch
) -> None:
    """Compare contexts, and that documents of one context share its row.

    Args:
        cache: The cache.
        documents: int64[documents], their rows of the cache.
        numbers: int64[documents], rows of `expected`.
        found: The documents as the cache has them.
        expected: The contexts of the chunk, in order of first use.
    """
    held = column_values(found["context"])
    _, first = np.unique(numbers, return_index=True)
    rows = held[first]
    _compare_texts(cache, "documents", documents, "context", pa.array(rows[numbers], pa.int64()), found)
    contexts = take_rows(cache, "contexts", rows)
    for name in expected.schema.names:
        _compare_texts(cache, "contexts", rows, name, expected[name], contexts)


def _compare_kept(cache: PublishedCache, documents: Ints, examples: Sequence[Example | BadExample]) -> None:
    """Compare the kept columns with the fields of the examples, where these come from the source."""
    fields = [example.kept for example in examples if isinstance(example, Example) and example.kept]
    if not fields:
        return
    found = take_rows(cache, KEPT, documents)
    for name in found.schema.names:
        values = [plain_value(own[name]) for own in fields]
        right = np.array([_is_held(value, held) for value, held in zip(values, found[name], strict=True)], bool)
        if not right.all():
            at = int(np.argmin(right))
            row = int(documents[at])
            block = TextBlock(file_of(cache, KEPT, row), row - at, found)
            block.demand(name, right, lambda at, values=values: f"{values[at]!r:.200} (the source)")  # type: ignore[misc]


def _is_held(value: Any, held: pa.Scalar) -> bool:
    """Return whether a value of the source is the one that a column holds, in the type of the column."""
    try:
        (expected,) = pa.array([value], held.type).to_pylist()
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return repr(expected) == repr(held.as_py())  # NaN does not equal itself


def _compare_texts(
    cache: PublishedCache, table: str, rows: Ints, name: str, expected: pa.Array, found: pa.RecordBatch
) -> None:
    if expected.equals(found[name]):
        return
    right = np.array([expected[at].equals(found[name][at]) for at in range(len(rows))], bool)
    at = int(np.argmin(right))
    block = TextBlock(file_of(cache, table, int(rows[at])), int(rows[at]) - at, found)
    block.demand(name, right, lambda at: f"{expected[at].as_py()!r:.200} (encoded again)")


def _compare_features(
    cache: PublishedCache, rows: Ints, ids: list[str], owner: Ints, documents: Ints, expected: pa.RecordBatch
) -> None:
    """Compare all columns of some rows, shard by shard."""
    for shard in cache.features:
        # Rows ascend, so those of one shard lie together.
        (places,) = np.nonzero((rows >= shard.row_start) & (rows < shard.row_stop))
        if not places.size:
            continue
        part = slice(int(places[0]), int(places[-1]) + 1)
        block = FeatureBlock(cache, rows[part], partial(_id_of, ids, owner[part]))
        for name, values in shard.columns.items():
            held = values[rows[part] - shard.row_start]
            made = column_values(expected[name]).reshape(expected.num_rows, *values.shape[1:])[part]
            if name == "document":
                made = documents[made]
            block.demand_equal(name, held, made)


def _id_of(ids: list[str], owner: Ints, at: int) -> str:
    return ids[int(owner[at])]
