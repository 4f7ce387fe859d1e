"""How many tokens of rows are real, read of the number columns of a cache. NumPy only."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from memxlnet.errors import CacheDamagedError
from memxlnet.format.manifest import REBUILD
from memxlnet.format.padding import CONTEXT_PLACES, RowWidths
from memxlnet.format.published import PublishedCache
from memxlnet.load.epoch_plan import EpochSize
from memxlnet.load.seeded_random import Ints, Order

_ROWS_AT_ONCE = 1 << 16

_BATCHES_AT_ONCE = 1 << 12


def row_lengths(cache: PublishedCache, chosen: Ints | None = None) -> NDArray[np.int32]:
    """Return int32[rows], the real tokens of rows, special and memory tokens included.

    Args:
        cache: The cache.
        chosen: int64[rows], the rows in any order; None for all.

    Raises:
        CacheDamagedError: A row cannot be as long as its columns say.
    """
    lengths = _reader(cache)
    found = np.empty(cache.num_rows if chosen is None else len(chosen), np.int32)
    for start in range(0, len(found), _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, len(found))
        found[start:stop] = lengths(np.arange(start, stop) if chosen is None else chosen[start:stop])
    return found


def last_row_lengths(cache: PublishedCache, first_segment: Ints, num_segments: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return int32[documents], the real tokens of the last row of each document; nothing is read of other rows.

    Args:
        cache: The cache.
        first_segment: int64[documents], the first rows.
        num_segments: int32[documents], the number of rows.

    Raises:
        CacheDamagedError: A row cannot be as long as its columns say.
    """
    lengths = _reader(cache)
    found = np.empty(len(first_segment), np.int32)
    for start in range(0, len(found), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        found[part] = lengths(first_segment[part] + num_segments[part] - 1)
    return found


def batches_size(
    lengths: NDArray[np.int32], order: Order | None, size: int, batches: int, widths: RowWidths, first_segment: Ints
) -> EpochSize:
    """Return what an epoch of batches of rows costs.

    Args:
        lengths: int32[rows], the real tokens of all rows.
        order: int[rows], the order of the rows; None for their own.
        size: Rows of a batch; the last one may have fewer.
        batches: Number of batches; rows after them are left out.
        widths: How wide batches are.
        first_segment: int64[documents], the first rows of documents, ascending.
    """
    rows = min(batches * size, len(lengths))
    left = np.arange(rows, len(lengths)) if order is None else order[rows:]
    own_first = first_segment[np.searchsorted(first_segment, left, side="right") - 1]
    begun = len(first_segment) - int(np.count_nonzero(own_first == left))
    tokens = real = 0
    for begin in range(0, rows, _BATCHES_AT_ONCE * size):
        part = slice(begin, min(begin + _BATCHES_AT_ONCE * size, rows))
        own = (lengths[part] if order is None else lengths[order[part]]).astype(np.int64)
        starts = np.arange(0, len(own), size)
        longest = np.maximum.reduceat(own, starts)
        tokens += int(np.diff(starts, append=len(own)) @ widths.width(longest))
        real += int(own.sum())
    return EpochSize(begun, rows, 0, batches, tokens, real)


def _reader(cache: PublishedCache) -> Callable[[Ints], Ints]:
    """Return what gives the lengths of rows in any order."""
    return partial(_lengths_of, cache) if cache.source is None else _LengthsByTexts(cache)


class _LengthsByTexts:
    """The lengths of the rows of a lazy cache, as its documents and contexts give them: no shard is needed.

    Args:
        cache: The cache.

    Raises:
        CacheDamagedError: A document has no context.
    """

    def __init__(self, cache: PublishedCache):
        self._cache = cache
        self._first, context = cache.documents.columns("first_segment", "context")
        self._questions = cache.documents.list_lengths("question_token_starts")
        tokens = cache.contexts.list_lengths("token_starts")
        wrong = np.flatnonzero((context < 0) | (context >= len(tokens)))
        if len(wrong):
            raise CacheDamagedError(
                f"{cache.directory}, document {wrong[0]}: expected one of {len(tokens)} contexts, found "
                f"{context[wrong[0]]}",
                hint=REBUILD,
            )
        self._contexts = tokens[context]

    def __call__(self, rows: Ints) -> Ints:
        """Return int64[rows], the lengths of rows."""
        manifest = self._cache.manifest
        document = np.searchsorted(self._first, rows, side="right") - 1
        beside = manifest.layout.overhead + self._questions[document].astype(np.int64)
        room = manifest.max_seq_length - beside
        start = (rows - self._first[document]) * (room - manifest.settings["doc_stride"])
        lengths: Ints = beside + np.minimum(room, self._contexts[document] - start)
        _check(self._cache, rows, lengths)
        return lengths


def _lengths_of(cache: PublishedCache, rows: Ints) -> Ints:
    """Return int64[rows], the lengths of some rows in any order."""
    if (rows[1:] >= rows[:-1]).all():
        return _lengths(cache, rows)
    order = np.argsort(rows, kind="stable")
    found = np.empty(len(rows), np.int64)
    found[order] = _lengths(cache, rows[order])
    return found


def _lengths(cache: PublishedCache, rows: Ints) -> Ints:
    """Return int64[rows], the lengths of some rows, ascending."""
    manifest = cache.manifest
    widths = RowWidths(manifest.layout, manifest.max_seq_length)
    lengths = np.concatenate([widths.lengths(places) for places in _places(cache, rows)])
    _check(cache, rows, lengths)
    return lengths


def _check(cache: PublishedCache, rows: Ints, lengths: Ints) -> None:
    most = cache.manifest.max_seq_length
    wrong = np.flatnonzero((lengths < 1) | (lengths > most))
    if len(wrong):
        raise CacheDamagedError(
            f"{cache.directory}, row {rows[wrong[0]]}: expected 1 to {most} tokens, found {lengths[wrong[0]]}",
            hint=REBUILD,
        )


def _places(cache: PublishedCache, rows: Ints) -> Iterator[dict[str, NDArray[np.int32]]]:
    """Yield the columns that give the lengths, shard after shard."""
    for number, record in enumerate(cache.manifest.tables["features"].shards):
        begin, end = np.searchsorted(rows, [record.row_start, record.row_stop])
        if begin < end:
            shard = cache.features[number]
            yield {name: shard.columns[name][rows[begin:end] - shard.row_start] for name in CONTEXT_PLACES}
