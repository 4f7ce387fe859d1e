"""The logits of some rows, checked as a whole and then searched in blocks of rows."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memxlnet.errors import CacheDamagedError, SettingsError
from memxlnet.evaluate.array_inputs import LARGEST_LOGIT, Floats, as_lane_rows, as_logits
from memxlnet.evaluate.candidates import Candidates, number_type
from memxlnet.evaluate.context_places import PlaceReader, RowPlaces
from memxlnet.evaluate.shown_text import ShownText
from memxlnet.evaluate.span_search import best_spans, rows_at_once
from memxlnet.format.manifest import REBUILD
from memxlnet.format.padding import RowWidths
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints

_CHECKED_AT_ONCE = 1 << 20
"""Logits that are checked at once: 8 MiB as float64."""


class LogitReader:
    """Reads the logits of rows of a cache.

    Args:
        cache: The cache.
    """

    def __init__(self, cache: PublishedCache):
        self._cache = cache
        self._places = PlaceReader(cache)
        self._widths = RowWidths(cache.manifest.layout, cache.manifest.max_seq_length)
        self._shown_text = ShownText(cache)

    def documents_of(self, rows: Ints) -> Ints:
        """Return int64[rows], the documents of rows in range."""
        return self._places.read(rows).document

    def check(self, rows: Any, start_logits: Any, end_logits: Any) -> "CheckedLogits":
        """Check the logits of lanes; lanes without a segment are left out.

        Args:
            rows: int64[B], -1 for a lane without a segment.
            start_logits: floating[B, width], the width of the step.
            end_logits: floating[B, width].

        Raises:
            RowIndexError: A row is out of range.
            SettingsError: A shape or type is wrong, or a logit that counts is NaN or too large.
            CacheDamagedError: A value of the cache cannot be.
        """
        lanes = as_lane_rows(rows, self._cache.num_rows)
        length = self._cache.manifest.max_seq_length
        starts = as_logits("start_logits", start_logits, len(lanes), length)
        ends = as_logits("end_logits", end_logits, len(lanes), length)
        width = starts.shape[1]
        if ends.shape[1] != width:
            raise SettingsError(f"end_logits: expected the width of start_logits, {width}, found {ends.shape[1]}")
        active = np.flatnonzero(lanes >= 0)
        places = self._cut(lanes[active], self._places.read(lanes[active]), width)
        checked = CheckedLogits(lanes[active], active, starts, ends, places, self._shown_text, self._cache.num_rows)
        most = max(_CHECKED_AT_ONCE // length, 1)
        for block in _blocks(len(active), most):
            for name, logits in (("start_logits", starts), ("end_logits", ends)):
                self._check_values(name, checked.rows[block], logits[active[block]], checked.places.take(block))
        return checked

    def _cut(self, rows: Ints, places: RowPlaces, width: int) -> RowPlaces:
        """Return the places in rows that are cut to a width."""
        lengths = self._widths.lengths(places._asdict())
        self._check_lengths(rows, lengths, places.cls_index)
        short = np.flatnonzero(lengths > width)
        if len(short):
            row, length = rows[short[0]], lengths[short[0]]
            raise SettingsError(
                f"start_logits: row {row}: expected a width of at least {length}, the tokens of the row, found "
                f"{width}; pass the logits of the step that the rows are of"
            )
        shift = self._widths.shift(width)
        return places._replace(cls_index=places.cls_index - shift, context_row_start=places.context_row_start - shift)

    def _check_lengths(self, rows: Ints, lengths: Ints, cls_index: Ints) -> None:
        """Check that rows are not longer than they are stored, and that ``cls`` is among their real tokens."""
        most = self._widths.max_seq_length
        first = self._widths.shift(lengths)
        wrong = np.flatnonzero((lengths > most) | (cls_index < first) | (cls_index >= first + lengths))
        if len(wrong):
            at = wrong[0]
            raise CacheDamagedError(
                f"{self._cache.directory}, row {rows[at]}: expected cls among at most {most} tokens, found it at "
                f"{cls_index[at]} and {lengths[at]} tokens from {first[at]}",
                hint=REBUILD,
            )

    def _check_values(self, name: str, rows: Ints, logits: NDArray[Any], places: RowPlaces) -> None:
        read = np.hstack([_windows(logits, places), _at_cls(logits, places)[:, None]])
        # Not "above": a comparison with NaN is never true.
        wrong = ~(read <= LARGEST_LOGIT)
        if not wrong.any():
            return
        at, place = np.argwhere(wrong)[0].tolist()
        is_cls = place == read.shape[1] - 1
        token = places.cls_index[at] if is_cls else places.context_row_start[at] + place
        example_id = self._cache.documents.text("id", int(places.document[at]))
        raise SettingsError(
            f"{name}: row {rows[at]} (document {example_id!r:.120}), token {token}: expected a number of at most "
            f"{LARGEST_LOGIT} or -inf, found {read[at, place]}; a model that gives such logits has diverged or "
            "overflowed: nothing of this call was added"
        )


class ScoredRows(NamedTuple):
    """What was found in a block of rows.

    Attributes:
        document: int64[rows], their documents.
        null_score: float64[rows], start plus end logit of ``cls``.
        spans: The best spans of each row.
    """

    document: Ints
    null_score: Floats
    spans: Candidates


class CheckedLogits(NamedTuple):
    """Logits that can be searched without an error.

    Attributes:
        rows: int64[rows], the rows that have logits.
        lanes: int64[rows], their lanes.
        starts: floating[lanes, width], as handed over.
        ends: floating[lanes, width], as handed over.
        places: Where the context stands in the rows as they are cut.
        shown_text: Decides which spans have a text.
        num_rows: Rows of the cache.
    """

    rows: Ints
    lanes: Ints
    starts: NDArray[Any]
    ends: NDArray[Any]
    places: RowPlaces
    shown_text: ShownText
    num_rows: int

    def search(self, n_best: int, max_answer_length: int | None) -> Iterator[ScoredRows]:
        """Find the best spans of all rows that have a text, a block of bounded memory at a time.

        Args:
            n_best: Spans wanted of a row.
            max_answer_length: Tokens of a span at most; None for any number.

        Raises:
            CacheDamagedError: A value of the cache cannot be.
        """
        width, kind = int(self.places.context_token_count.max(initial=0)), number_type(self.num_rows)
        for block in _blocks(len(self.rows), rows_at_once(width, n_best, max_answer_length)):
            places, lanes = self.places.take(block), self.lanes[block]
            starts, ends = self.starts[lanes], self.ends[lanes]
            shown = self.shown_text.of_rows(places)
            found = best_spans(_windows(starts, places), _windows(ends, places), n_best, max_answer_length, shown)
            first_token = places.context_token_start[found.row]
            spans = Candidates(
                document=places.document[found.row].astype(kind),
                start=(first_token + found.start).astype(np.int32),
                stop=(first_token + found.stop).astype(np.int32),
                score=found.score,
                row=self.rows[block][found.row].astype(kind),
            )
            yield ScoredRows(places.document, _at_cls(starts, places) + _at_cls(ends, places), spans)


def _blocks(count: int, most: int) -> Iterator[slice]:
    return (slice(start, start + most) for start in range(0, count, most))


def _windows(logits: NDArray[Any], places: RowPlaces) -> Floats:
    """Return float64[rows, width], the context's part of each row from its first token on, -inf after it."""
    count = places.context_token_count[:, None]
    token = np.arange(int(count.max(initial=0)))
    inside = token < count
    taken = np.take_along_axis(logits, np.where(inside, places.context_row_start[:, None] + token, 0), 1)
    return np.where(inside, taken.astype(np.float64), -np.inf)


def _at_cls(logits: NDArray[Any], places: RowPlaces) -> Floats:
    """Return float64[rows], the logits of ``cls``."""
    return np.take_along_axis(logits, places.cls_index[:, None], 1)[:, 0].astype(np.float64)
