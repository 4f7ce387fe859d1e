"""Tables of documents and of their golds: where each stands in its context, and in which segments."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from memxlnet.encode.answer_alignment import Alignment, Context, align
from memxlnet.encode.answer_labels import AnswerTokens
from memxlnet.encode.token_pool import TokenPool
from memxlnet.evaluate.cache_argument import CacheLike, open_with_view
from memxlnet.evaluate.context_places import PlaceReader
from memxlnet.evaluate.data_table import DataTable, table_of
from memxlnet.format.answer_steps import answer_steps
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints, bounds_of, ragged_arange

_GOLDS_AT_ONCE = 1 << 12

_GOLD_COLUMNS = ("id", "context", "answer_texts", "answer_starts", "chosen_answer")


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.large_list(_required("item", kind))


DOCUMENTS_SCHEMA = pa.schema(
    [
        _required("id", pa.large_string()),
        _required("question", pa.large_string()),
        _required("golds", _list(pa.large_string())),
        _required("alignment", pa.large_string()),
        _required("alignment_detail", pa.large_string()),
        _required("source", pa.string()),
        _required("row", pa.int64()),
        _required("segments", pa.int32()),
        pa.field("answer_step", pa.int32()),
        _required("has_answer_in_segment", _list(pa.bool_())),
    ]
)
"""Columns of the table of documents, before the kept columns."""

GOLDS_SCHEMA = pa.schema(
    [
        _required("id", pa.large_string()),
        _required("gold", pa.int32()),
        _required("text", pa.large_string()),
        _required("given_start", pa.int32()),
        _required("chosen", pa.bool_()),
        _required("alignment", pa.string()),
        pa.field("char_start", pa.int32()),
        pa.field("char_stop", pa.int32()),
        pa.field("row", pa.int64()),
        pa.field("step", pa.int32()),
        _required("has_answer_in_segment", _list(pa.bool_())),
    ]
)
"""Columns of the table of golds."""


def documents_table(cache: CacheLike) -> DataTable:
    """Return a row for each document of a cache or view, in the order of the cache.

    Args:
        cache: A cache, a dataset over one or a view of it, or the directory of a published one.

    Raises:
        SettingsError: `cache` is not one of these.
        CacheDamagedError: A file of the cache is damaged.
    """
    opened, held = open_with_view(cache)
    schema = DOCUMENTS_SCHEMA
    for field in opened.kept.schema if opened.kept is not None else ():
        name = field.name if field.name not in DOCUMENTS_SCHEMA.names else f"kept_{field.name}"
        schema = schema.append(pa.field(name, field.type))
    steps, batches, first = answer_steps(opened), [], 0
    for batch in opened.documents.batches():
        found = _documents_batch(opened, batch, first, steps[first : first + batch.num_rows], schema)
        part = slice(first, first + batch.num_rows)
        batches.append(found if held is None else found.filter(pa.array(held[part])))
        first = part.stop
    return table_of(schema, batches)


def _documents_batch(cache: PublishedCache, batch: pa.RecordBatch, first: int, steps: Any, schema: pa.Schema) -> Any:
    counts = np.asarray(batch["num_segments"]).astype(np.int64)
    rows = int(batch["first_segment"][0].as_py())
    holds = _has_answer(cache, rows, rows + int(counts.sum()))
    columns = [
        batch["id"],
        batch["question"],
        batch["answer_texts"],
        batch["alignment"],
        batch["alignment_detail"],
        pa.array([cache.source_of(document) for document in range(first, first + batch.num_rows)], pa.string()),
        batch["first_segment"],
        batch["num_segments"],
        pa.array(steps, mask=steps < 0),
        _lists(counts, pa.array(holds), pa.bool_()),
    ]
    if cache.kept is not None:
        kept = cache.kept.rows(first, first + batch.num_rows).combine_chunks()
        columns += [column.chunk(0) for column in kept.columns]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _lists(counts: Ints, values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return lists of these lengths, whose values lie end to end."""
    return pa.LargeListArray.from_arrays(pa.array(bounds_of(counts)), values, type=_list(kind))


def _has_answer(cache: PublishedCache, start: int, stop: int) -> Any:
    """Return bool[rows], whether the rows hold the chosen answer whole."""
    parts = [
        shard.columns["has_answer_in_segment"][max(start - shard.row_start, 0) : max(stop - shard.row_start, 0)]
        for shard in cache.shards_of(start, stop)
    ]
    return np.concatenate(parts).astype(np.bool_)


class _Gold(NamedTuple):
    """A gold answer: of which document, as given and as found."""

    example_id: str
    number: int
    text: str
    given: int
    chosen: bool
    found: Alignment
    document: int
    context: int


def golds_table(cache: CacheLike) -> DataTable:
    """Return a row for each gold answer of a cache or view, in the order of the cache.

    Args:
        cache: A cache, a dataset over one or a view of it, or the directory of a published one.

    Raises:
        SettingsError: `cache` is not one of these.
        CacheDamagedError: A file of the cache is damaged.
    """
    opened, held = open_with_view(cache)
    places, counts = PlaceReader(opened), opened.documents.column("num_segments").astype(np.int64)
    firsts = opened.documents.column("first_segment")
    golds = _read_golds(opened, held)
    batches = []
    while some := list(islice(golds, _GOLDS_AT_ONCE)):
        batches.append(_golds_batch(opened, places, some, firsts, counts))
    return table_of(GOLDS_SCHEMA, batches)


def _read_golds(cache: PublishedCache, held: Any) -> Iterator[_Gold]:
    """Yield all golds; the last context stays decoded, as documents that share one follow closely."""
    context, number, document = Context(""), -1, -1
    for batch in cache.documents.batches():
        columns = (batch[name].to_pylist() for name in _GOLD_COLUMNS)
        for example_id, own, texts, starts, chosen in zip(*columns, strict=True):
            document += 1
            if not texts or not (held is None or held[document]):
                continue
            if own != number:
                context, number = Context(cache.contexts.text("text", own)), own
            for place, (text, given) in enumerate(zip(texts, starts, strict=True)):
                # Of several golds the first that is found is chosen, each as it is found alone.
                found = align(context, (text,), (given,))
                yield _Gold(example_id, place, text, given, place == chosen, found, document, own)


def _golds_batch(cache: PublishedCache, places: PlaceReader, golds: list[_Gold], firsts: Ints, counts: Ints) -> Any:
    """Return some golds, each with the segments that hold it whole, by the rule of the labels."""
    contexts, context_of = np.unique([gold.context for gold in golds], return_inverse=True)
    starts, stops = (np.array([getattr(gold.found, name) for gold in golds], np.int64) for name in ("start", "stop"))
    tokens = _answer_tokens(cache, contexts.tolist(), context_of, starts, stops)
    document = np.array([gold.document for gold in golds], np.int64)
    segments = counts[document]
    each = np.repeat(np.arange(len(golds)), segments)
    step = ragged_arange(segments)
    rows = firsts[document][each] + step
    found = places.read(rows)
    holds = tokens.in_windows(each, found.context_token_start, found.context_token_count).start >= 0
    first = np.full(len(golds), -1, np.int64)
    holders = np.flatnonzero(holds)
    first[each[holders[::-1]]] = step[holders[::-1]]  # of several, the last that is written is the first
    nowhere = first < 0
    columns = [
        pa.array([gold.example_id for gold in golds], pa.large_string()),
        pa.array([gold.number for gold in golds], pa.int32()),
        pa.array([gold.text for gold in golds], pa.large_string()),
        pa.array([gold.given for gold in golds], pa.int32()),
        pa.array([gold.chosen for gold in golds], pa.bool_()),
        pa.array([gold.found.status for gold in golds], pa.string()),
        pa.array(starts, pa.int32(), mask=starts < 0),
        pa.array(stops, pa.int32(), mask=starts < 0),
        pa.array(firsts[document] + first, pa.int64(), mask=nowhere),
        pa.array(first, pa.int32(), mask=nowhere),
        _lists(segments, pa.array(holds), pa.bool_()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=GOLDS_SCHEMA)


def _answer_tokens(
    cache: PublishedCache, contexts: list[int], context_of: Ints, starts: Ints, stops: Ints
) -> AnswerTokens:
    texts = [cache.contexts.text("text", number) for number in contexts]
    opens, closes = (
        [cache.contexts.numbers(name, number) for number in contexts] for name in ("token_starts", "token_stops")
    )
    bounds = bounds_of(np.array([len(values) for values in opens], np.int64))
    every = np.concatenate(opens)
    pool = TokenPool(np.zeros(len(every), np.int32), every, np.concatenate(closes), bounds)
    return AnswerTokens(texts, pool, np.arange(len(texts)), context_of, starts, stops)
