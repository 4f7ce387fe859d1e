"""From the logits of segments to one answer for each document."""

import math
import os
from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memxlnet.errors import CacheMismatchError, SettingsError
from memxlnet.evaluate.array_inputs import Floats
from memxlnet.evaluate.cache_argument import CacheLike, open_with_view
from memxlnet.evaluate.candidates import CandidateBuffer, PackedCandidates
from memxlnet.evaluate.data_table import DataTable
from memxlnet.evaluate.json_files import as_file, write_json_object
from memxlnet.evaluate.prediction_tables import n_best_table, predictions_table
from memxlnet.evaluate.predictions import (
    DocumentPrediction,
    Judgement,
    logistic,
    n_best_entries,
    no_answer_entry,
)
from memxlnet.evaluate.scoring import LogitReader
from memxlnet.format.joined import opened
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.encoding_rules import read_dropped
from memxlnet.settings import check_bool, positive_int

_SETTINGS = ("n_best", "max_answer_length", "null_threshold")


class AnswerCollector:
    """Joins the logits of all segments of a document: its n-best spans, the score of no answer, its answer.

    A span is a pair of a start and an end token of the context part of one segment, the end not before the start, and
    scores the start logit plus the end logit; the same tokens seen in several segments are one span with its best
    score. Spans whose text is empty or blank (tokens without characters, or blanks alone) are left out before the
    search. No answer scores the least sum at ``cls`` over the document's segments, as in the SQuAD post-processing of
    Hugging Face's examples. A document without any span, such as one whose context is blank, has no answer at any
    threshold; there, those examples put the word "empty" with a score of 0. The search is exact, and the result
    depends neither on the order of the rows nor on the batches. Everything is read from the columns of the cache;
    nothing is tokenized.

    RAM is some 15 bytes for each of the `n_best` spans of a document (18 while they are added), 9 bytes per document,
    one byte per row, and some 10 MB for contexts in which spans may be blank. A collector can be pickled
    to send it to another rank: it carries the path of the cache and what it has collected.

    Args:
        cache: A cache, a dataset over one, or the directory of a published one. A view stands for its documents alone:
            others are neither missing nor predicted, nor are dropped examples.
        n_best: Spans kept of a document.
        max_answer_length: Tokens of a span at most; None for any number.
        null_threshold: There is no answer where the score of no answer exceeds that of the best span by more.

    Raises:
        SettingsError: An argument is wrong.
        CacheError: The directory holds no cache, or a damaged one.
    """

    def __init__(
        self,
        cache: CacheLike,
        *,
        n_best: int = 20,
        max_answer_length: int | None = 30,
        null_threshold: float = 0.0,
    ):
        self.n_best = positive_int("n_best", n_best)
        hint = " (or None for any number of tokens)"
        limited = max_answer_length is not None
        self.max_answer_length = positive_int("max_answer_length", max_answer_length, hint) if limited else None
        self.null_threshold = _finite("null_threshold", null_threshold)
        found, held = open_with_view(cache)
        self._open(found)
        self._fingerprint: str = self.cache.manifest.fingerprint if held is None else getattr(cache, "fingerprint")  # noqa: B009
        # Rows outside of a view count as seen: nothing of them is missing, and none may be added.
        self._outside = None if held is None else ~np.repeat(held, self.cache.documents.column("num_segments"))
        self._seen: NDArray[np.bool_] = np.zeros(self.cache.num_rows, np.bool_)
        if self._outside is not None:
            self._seen |= self._outside
        self._null_scores: Floats = np.full(self.cache.num_documents, np.inf)
        self._buffer = CandidateBuffer(self.n_best)

    def _open(self, cache: PublishedCache) -> None:
        self.cache = cache
        self._reader = LogitReader(cache)

    def __getstate__(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in _SETTINGS},
            "directories": [str(directory.absolute()) for directory in self.cache.directories],
            "in_memory": self.cache.in_memory,
            "source": self.cache.source,
            "fingerprint": self.cache.manifest.fingerprint,
            "view": self._fingerprint,
            "outside": self._outside,
            "seen": self._seen,
            "null_scores": self._null_scores,
            "best": [tuple(block) for block in self._buffer.best()],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name in _SETTINGS:
            setattr(self, name, state[name])
        self._open(opened(state["directories"], state["in_memory"], state["source"]))
        self._fingerprint = self.cache.manifest.fingerprint
        self._check_fingerprint(state["fingerprint"], "a collector that was sent here")
        self._fingerprint, self._outside = state["view"], state["outside"]
        # Copies: what crossed a process border may be read-only, and what did not belongs to the caller.
        self._seen, self._null_scores = np.array(state["seen"]), np.array(state["null_scores"])
        self._buffer = CandidateBuffer(self.n_best, map(PackedCandidates._make, state["best"]))

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)!r}" for name in _SETTINGS)
        rows = len(self._seen) if self._outside is None else int(np.count_nonzero(~self._outside))
        seen = f"{rows - self.num_missing_rows} of {rows} rows"
        return f"{type(self).__name__}({str(self.cache.directory)!r}, {settings}; {seen})"

    @property
    def num_missing_rows(self) -> int:
        """Rows whose logits have not been added."""
        return len(self._seen) - int(np.count_nonzero(self._seen))

    def add(self, rows: Any, start_logits: Any, end_logits: Any) -> None:
        """Add the logits of some rows. Either all of them are taken, or none: an error leaves everything as it was.

        Args:
            rows: int64[B], rows of the cache, such as the ``rows`` of a step; -1 is a lane without a segment, whose
                logits are ignored. Rows may come in any order; one that comes again changes nothing, or, with other
                logits, adds the spans of these.
            start_logits: floating[B, width], any width that holds all real tokens of the rows, such as that of the
                step; cut on the padding side. A tensor (of any device, also bfloat16, also one that needs gradients),
                an array or nested sequences. Only the tokens of the context and ``cls`` are looked at; -inf
                rules a token out. Read, not kept.
            end_logits: The same for the end.

        Raises:
            RowIndexError: A row is out of range.
            SettingsError: A shape or type is wrong, or a logit is NaN, +inf or above 1e300.
            CacheDamagedError: A value of the cache cannot be.
        """
        checked = self._reader.check(rows, start_logits, end_logits)
        if self._outside is not None and self._outside[checked.rows].any():
            row = int(checked.rows[np.argmax(self._outside[checked.rows])])
            raise SettingsError(f"rows: expected rows of the documents of the view, found {row} of another document")
        # All of it first: a damaged text must not leave some of the rows added.
        for scored in list(checked.search(self.n_best, self.max_answer_length)):
            np.minimum.at(self._null_scores, scored.document, scored.null_score)
            self._buffer.add(scored.spans)
        self._seen[checked.rows] = True

    def merge(self, other: "AnswerCollector") -> None:
        """Merge what another collector has collected, such as that of another rank; the other stays as it is.

        Raises:
            SettingsError: It is not a collector, or has other settings.
            CacheMismatchError: It is over another cache.
        """
        if not isinstance(other, AnswerCollector):
            raise SettingsError(f"other: expected an AnswerCollector, found {type(other).__name__}")
        for name in _SETTINGS:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise SettingsError(
                    f"other: {name}: expected {mine!r} as in this collector, found {theirs!r}; make the collectors of "
                    "all ranks with the same settings"
                )
        self._check_fingerprint(other._fingerprint, f"the collector over {other.cache.directory}")
        self._seen |= other._seen
        np.minimum(self._null_scores, other._null_scores, out=self._null_scores)
        for block in other._buffer.best():
            self._buffer.add(block.unpacked())

    def _check_fingerprint(self, found: str, whose: str) -> None:
        expected = self._fingerprint
        if found != expected:
            raise CacheMismatchError(
                f"{self.cache.directory}: expected a collector over this cache (fingerprint {expected[:16]}), found "
                f"{whose} (fingerprint {found[:16]}); evaluate with the same cache on all ranks"
            )

    def predictions(self, *, allow_missing: bool = False) -> Iterator[DocumentPrediction]:
        """Return what is predicted of each document, in the order of the source.

        Args:
            allow_missing: Continue where rows are missing: documents of which no segment was seen are skipped, of
                others what was seen counts.

        Returns:
            An iterator over what was collected until this call.

        Raises:
            SettingsError: Rows are missing.
            CacheDamagedError: A value of the cache cannot be.
        """
        return self._judgement(allow_missing).predictions()

    def answers(self, *, allow_missing: bool = False) -> Iterator[tuple[str, str]]:
        """Yield the id and answer (empty for no answer) of each document, in the order of the source.

        Examples that were dropped when the cache was built (`on_bad_example="drop"`) come last, with an empty answer:
        the official metric counts them as it counts any other wrong answer, and does not skip them.

        Args:
            allow_missing: As in `predictions`.

        Raises:
            SettingsError: Rows are missing.
            CacheDamagedError: A value of the cache cannot be.
        """
        return self._with_dropped(self._judgement(allow_missing).answers(), "")

    def predictions_table(self, *, allow_missing: bool = False) -> DataTable:
        """Return a table of `predictions`: a row for each document, in the order of the source.

        Args:
            allow_missing: As in `predictions`.

        Returns:
            The fields of `DocumentPrediction` without its spans, and ``char_start``, ``char_stop`` (half-open, Unicode
            code points of the context), ``row`` and ``step`` of the answer; null for no answer.

        Raises:
            SettingsError: Rows are missing.
            CacheDamagedError: A value of the cache cannot be.
        """
        return predictions_table(self.predictions(allow_missing=allow_missing))

    def n_best_table(self, *, allow_missing: bool = False) -> DataTable:
        """Return a table of the n-best spans of each document, best first; documents in the order of the source.

        RAM is that of the table and of some documents.

        Args:
            allow_missing: As in `predictions`.

        Returns:
            ``id``, ``rank`` (from 0) and the fields of `AnswerSpan`: ``row`` and ``step`` are the segment whose logits
            gave the score, and its place in the document.

        Raises:
            SettingsError: Rows are missing.
            CacheDamagedError: A value of the cache cannot be.
        """
        return n_best_table(self.predictions(allow_missing=allow_missing))

    def write_predictions(self, path: str | os.PathLike[str], *, allow_missing: bool = False) -> None:
        """Write `answers` as the official SQuAD 2.0 evaluation script takes them: JSON, ``{id: text}``.

        Args:
            path: The file, UTF-8; replaced whole or not at all.
            allow_missing: As in `predictions`.

        Raises:
            SettingsError: Rows are missing, or `path` is not a path.
            OSError: The file cannot be written.
        """
        file = as_file(path)
        write_json_object(file, self.answers(allow_missing=allow_missing))

    def write_no_answer_probabilities(self, path: str | os.PathLike[str], *, allow_missing: bool = False) -> None:
        """Write the file that the official SQuAD 2.0 evaluation script takes as ``--na-prob-file``.

        It holds ``{id: probability}``: the logistic function of `DocumentPrediction.null_score_difference`, so that the
        script's default threshold of 1 leaves the answers as they are and 0.5 is a `null_threshold` of 0. The
        script itself empties the answers whose probability lies above its threshold, and looks for the best one.
        Dropped examples have the probability 1.

        Args:
            path: The file; replaced whole or not at all.
            allow_missing: As in `predictions`.

        Raises:
            SettingsError: Rows are missing, or `path` is not a path.
            OSError: The file cannot be written.
        """
        file, judged = as_file(path), self._judgement(allow_missing)
        entries = (
            (judged.example_id(document), logistic(float(judged.differences[document]))) for document in judged.seen()
        )
        write_json_object(file, self._with_dropped(entries, 1.0))

    def write_n_best(self, path: str | os.PathLike[str], *, allow_missing: bool = False) -> None:
        """Write the n-best spans and no answer of each document as JSON, ``{id: [entry, ...]}``, best first.

        An entry has ``text``, ``char_start`` and ``char_stop`` (half-open, Unicode code points of the context),
        ``score`` and ``probability`` (a softmax over the document's entries). No answer is the entry with an empty
        text and the characters -1; its score is null where it is not finite, and where the example was dropped.

        Args:
            path: The file, UTF-8; replaced whole or not at all.
            allow_missing: As in `predictions`.

        Raises:
            SettingsError: Rows are missing, or `path` is not a path.
            OSError: The file cannot be written.
        """
        file, judged = as_file(path), self._judgement(allow_missing)
        entries = ((one.example_id, n_best_entries(one)) for one in judged.predictions())
        write_json_object(file, self._with_dropped(entries, [no_answer_entry(-math.inf, 1.0)]))

    def _judgement(self, allow_missing: bool) -> Judgement:
        if not check_bool("allow_missing", allow_missing) and not self._seen.all():
            raise self._missing()
        # A copy: what is added later must not reach what is being read.
        return Judgement(self.cache, self._buffer.best(), self._null_scores.copy(), self.null_threshold)

    def _missing(self) -> SettingsError:
        rows = np.flatnonzero(~self._seen)
        documents = np.unique(self._reader.documents_of(rows))
        first = self.cache.documents.text("id", int(documents[0]))
        return SettingsError(
            f"{self.cache.directory}: expected the logits of all {len(self._seen)} rows, found none for {len(rows)} "
            f"rows of {len(documents)} documents, the first of them {first!r:.120} (row {rows[0]}); read every "
            "segment with create_evaluation_dataloader and merge the collectors of all ranks, or pass "
            "allow_missing=True"
        )

    def _with_dropped(self, entries: Iterator[tuple[str, Any]], value: Any) -> Iterator[tuple[str, Any]]:
        """Yield the entries, then those of dropped examples; a document with the id of one stands for both."""
        dropped = dict.fromkeys(example.id for example in read_dropped(self.cache)) if self._outside is None else {}
        for example_id, found in entries:
            dropped.pop(example_id, None)
            yield example_id, found
        for example_id in dropped:
            yield example_id, value


def _finite(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise SettingsError(f"{name}: expected a finite number, found {value!r}")
    return float(value)
