"""What must hold within and between the tables of a cache so that it can be read safely, checked in blocks of rows.

Every number that leads somewhere (a row of another table, a token, a character, an id of the vocabulary) must lead to
something that exists, nothing may repeat that is looked up, and the counts of the manifest must be those of the tables.
Whether values are the *right* ones shows only when the examples are encoded again: `memxlnet.maintain.reencode`.

RAM is that of a block, and at most 16 bytes a document: digests of what must not repeat, and two lengths of each
context.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from arrow_schemas import ALIGNMENTS
from memxlnet.errors import CacheDamagedError
from memxlnet.format.manifest import REBUILD
from memxlnet.format.padding import RowWidths
from memxlnet.format.paths import MANIFEST
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints, bounds_of
from memxlnet.format.text_table import text_hashes
from memxlnet.maintain.encoding_rules import Rules
from memxlnet.maintain.row_blocks import FeatureBlock, TextBlock, read_blocks, text_table

_REPEATED = 1000
"""Repeated hashes that are looked into: each is two equal texts, except for one chance in 2^64."""

BLOCK_VALUES = 1 << 20
"""Values of a token column that are checked at once."""

_FLAG, _TYPE = 1, 2**7 - 1


def check_relations(cache: PublishedCache, rules: Rules) -> None:
    """Check every value of a cache against what it leads to.

    Args:
        cache: The cache; its checksums are right.
        rules: What decides its rows.

    Raises:
        CacheDamagedError: A value is impossible; the message names file, row and column.
    """
    contexts = _check_contexts(cache)
    _check_distinct(cache, "contexts", "text")
    _check_distinct(cache, "documents", "id")
    documents = _Documents(cache, rules, contexts)
    for block in read_blocks(cache, "documents"):
        documents.check(block)
    documents.finish()


def _check_distinct(cache: PublishedCache, table: str, name: str) -> None:
    """Check that no text of a column repeats; 8 bytes a row are held."""
    hashes = text_hashes(text_table(cache, table), name)
    hashes.sort()
    repeated = set(np.unique(hashes[1:][hashes[1:] == hashes[:-1]])[:_REPEATED].tolist())
    if not repeated:
        return
    # Two texts of one hash need not be equal.
    seen: dict[str, int] = {}
    for block in read_blocks(cache, table):
        for at, text in enumerate(block.batch[name]):
            if xxhash.xxh3_64_intdigest(text.as_buffer()) in repeated:
                row = block.first_row + at
                first = seen.setdefault(text.as_py(), row)
                right = np.arange(block.batch.num_rows) != at
                block.demand(name, right | (first == row), partial(_no_repeat, first))


def _no_repeat(first: int, _: int) -> str:
    return f"another one than row {first} has"


class _Texts(NamedTuple):
    """int32[contexts] each: characters and tokens of the contexts."""

    characters: NDArray[np.int32]
    tokens: NDArray[np.int32]


def _check_contexts(cache: PublishedCache) -> _Texts:
    rows = cache.manifest.tables["contexts"].rows
    texts = _Texts(np.empty(rows, np.int32), np.empty(rows, np.int32))
    for block in read_blocks(cache, "contexts"):
        part = slice(block.first_row, block.first_row + block.batch.num_rows)
        texts.characters[part] = pc.utf8_length(block.batch["text"]).to_numpy()
        texts.tokens[part] = _check_tokens(block, "text", "token_starts", "token_stops")
    return texts


def _check_tokens(block: TextBlock, text: str, starts_name: str, stops_name: str) -> Ints:
    """Check the spans of the tokens of a text column; return int64[rows], their number."""
    (bounds, starts_values), (stop_bounds, stops_values) = block.lists(starts_name), block.lists(stops_name)
    counts: Ints = np.diff(bounds)
    stop_counts = np.diff(stop_bounds)
    block.demand(stops_name, counts == stop_counts, lambda at: f"{counts[at]} stops, one for each of {starts_name}")
    lengths = pc.utf8_length(block.batch[text]).to_numpy()
    starts, stops = starts_values.to_numpy(), stops_values.to_numpy()
    wrong = (starts < 0) | (stops < starts) | (stops > np.repeat(lengths.astype(np.int32), counts))
    token = int(np.argmax(wrong)) if wrong.any() else -1
    block.demand(
        f"{starts_name}, {stops_name}",
        (bounds[:-1] > token) | (token >= bounds[1:]),
        lambda at: f"spans within the {lengths[at]} characters of {text}",
        lambda at: f"{starts[token]} to {stops[token]} for token {token - bounds[at]}",
    )
    return counts


class _Limits(NamedTuple):
    """What segments may hold: int[n] each, of documents or of the documents of rows.

    Attributes:
        context_tokens: Tokens of the context.
        question_tokens: Tokens of the question.
        answers: 1 where there is a span of an answer, else 0.
    """

    context_tokens: NDArray[np.int32]
    question_tokens: Ints
    answers: Ints


class _Documents:
    """The check of documents and, along with each block of them, of their features."""

    def __init__(self, cache: PublishedCache, rules: Rules, contexts: _Texts):
        self._cache = cache
        self._rules = rules
        self._contexts = contexts
        self._widths = RowWidths(rules.layout, rules.encode.max_seq_length)
        self._used = 0
        self._segments = 0
        self._alignment = dict.fromkeys(ALIGNMENTS, 0)
        self._contradictions = 0
        self._without_segment = 0

    def check(self, block: TextBlock) -> None:
        """Check the next block of documents."""
        context = self._check_context(block)
        question_tokens = _check_tokens(block, "question", "question_token_starts", "question_token_stops")
        _check_golds(block)
        _check_span(block, "answer_char", self._contexts.characters[context])
        _check_span(block, "answer_token", self._contexts.tokens[context])
        first = self._check_segments(block)
        answers = _check_answer_segments(block)
        self._check_features(block, first, _Limits(self._contexts.tokens[context], question_tokens, answers))
        for entry in pc.value_counts(block.batch["alignment"]).to_pylist():
            self._alignment[entry["values"]] += entry["counts"]
        self._contradictions += int((pc.utf8_length(block.batch["contradiction"]).to_numpy() > 0).sum())
        unseen = (block.integers("chosen_answer") >= 0) & (block.integers("num_answer_segments") == 0)
        self._without_segment += int(unseen.sum())

    def finish(self) -> None:
        """Check what all documents together must give."""
        manifest, directory = self._cache.manifest, self._cache.directory
        counted = {
            "tables.features.rows": (self._segments, manifest.tables["features"].rows),
            "tables.contexts.rows": (self._used, manifest.tables["contexts"].rows),
            "alignment": (self._alignment, manifest.alignment),
            "contradictions": (self._contradictions, manifest.contradictions),
            "documents_without_answer_segment": (self._without_segment, manifest.documents_without_answer_segment),
        }
        for name, (expected, found) in counted.items():
            if expected != found:
                raise CacheDamagedError(
                    f"{directory / MANIFEST}, {name}: expected {expected}, as documents give it, found {found}",
                    hint=REBUILD,
                )

    def _check_context(self, block: TextBlock) -> Ints:
        context = block.integers("context")
        before = np.maximum.accumulate(np.concatenate([[self._used - 1], context]))
        # The next new context has the next number, so that no number of a used one is left out.
        most = np.minimum(before[:-1] + 1, len(self._contexts.tokens) - 1)
        block.demand(
            "context",
            (context >= 0) & (context <= most),
            lambda at: f"a row of contexts from 0 to {most[at]} (numbered in order of first use)",
        )
        self._used = int(before[-1]) + 1
        return context

    def _check_segments(self, block: TextBlock) -> Ints:
        """Check that segments follow each other; return int64[documents + 1], the rows with which they begin."""
        count, most = block.integers("num_segments"), self._cache.num_rows
        block.demand("num_segments", (count > 0) & (count <= most), lambda at: f"1 to {most}")
        first: Ints = self._segments + bounds_of(count)
        block.demand("first_segment", block.integers("first_segment") == first[:-1], first.item)
        block.demand("first_segment", first[1:] <= most, lambda at: f"all of its segments in the {most} of features")
        self._segments = int(first[-1])
        return first

    def _check_features(self, block: TextBlock, first: Ints, given: _Limits) -> None:
        """Check the features of a block of documents."""
        most = max(1, BLOCK_VALUES // self._rules.encode.max_seq_length)
        for shard in self._cache.features:
            for start in range(max(int(first[0]), shard.row_start), min(int(first[-1]), shard.row_stop), most):
                rows = np.arange(start, min(start + most, int(first[-1]), shard.row_stop))
                document = np.searchsorted(first, rows, side="right") - 1
                features = FeatureBlock(self._cache, rows, partial(_id_of, block, document))
                part = slice(start - shard.row_start, rows[-1] + 1 - shard.row_start)
                columns = {name: values[part] for name, values in shard.columns.items()}
                tokens, questions, answers = given
                of_rows = _Limits(tokens[document], questions[document], answers[document])
                limits = self._limits(columns, of_rows)
                limits["document"] = (document + block.first_row,) * 2
                limits["segment_index"] = (rows - first[document],) * 2
                for name, (least, greatest) in limits.items():
                    features.demand_within(name, columns[name], least, greatest)

    def _limits(self, columns: dict[str, NDArray[Any]], given: _Limits) -> dict[str, Any]:
        """Return the least and the most of each column but the numbers of document and segment.

        Texts, their memory tokens and all positions lie among the tokens that are left where padding is cut off.
        """
        layout, length = self._rules.layout, self._rules.encode.max_seq_length
        memory, held = layout.num_memory_tokens, columns["context_token_count"]
        context_row = (
            (len(layout.prefix), length - held - memory)
            if layout.pad_left
            else (0, length - held - memory - len(layout.suffix))
        )
        # Where the context lies wrong, its own limits show it: those that follow from it are looked at later.
        lengths = self._widths.lengths(columns)
        first = self._widths.shift(lengths)
        position = (first, first + lengths - 1)
        return {
            "input_ids": (0, self._rules.vocabulary_size - 1),
            "attention_mask": (0, _FLAG),
            "token_type_ids": (0, _TYPE),
            "context_token_count": (0, np.minimum(given.context_tokens, length)),
            "context_token_start": (0, given.context_tokens - held),
            "context_row_start": context_row,
            "question_row_start": (first + memory, first + lengths - given.question_tokens),
            "start_positions": position,
            "end_positions": position,
            "cls_index": position,
            "has_answer_in_segment": (0, given.answers),
        }


def _id_of(block: TextBlock, document: Ints, at: int) -> str:
    return str(block.batch["id"][int(document[at])].as_py())


def _check_golds(block: TextBlock) -> None:
    """Check golds, choice and alignment."""
    golds, starts = (np.diff(block.lists(name)[0]) for name in ("answer_texts", "answer_starts"))
    chosen = block.integers("chosen_answer")
    block.demand("answer_starts", starts == golds, lambda at: f"{golds[at]} offsets, one for each gold")
    block.demand("chosen_answer", (chosen >= -1) & (chosen < golds), lambda at: f"-1 to {golds[at] - 1}")
    known = np.logical_or.reduce([np.asarray(pc.equal(block.batch["alignment"], name)) for name in ALIGNMENTS])
    block.demand("alignment", known, lambda at: " or ".join(ALIGNMENTS))


def _check_answer_segments(block: TextBlock) -> Ints:
    """Check how many segments hold the whole answer; return int64[documents], 1 where one may hold it, else 0."""
    answers: Ints = ((block.integers("chosen_answer") >= 0) & (block.integers("answer_token_start") >= 0)).astype(int)
    count, most = block.integers("num_answer_segments"), answers * block.integers("num_segments")
    block.demand("num_answer_segments", (count >= 0) & (count <= most), lambda at: f"0 to {most[at]}")
    return answers


def _check_span(block: TextBlock, name: str, limit: NDArray[np.int32]) -> None:
    """Check the span of the answers: within the context, or -1 and -1."""
    start, stop = block.integers(f"{name}_start"), block.integers(f"{name}_stop")
    block.demand(
        f"{name}_start, {name}_stop",
        ((start == -1) & (stop == -1)) | ((start >= 0) & (start < stop) & (stop <= limit)),
        lambda at: f"-1 and -1, or a span within 0 to {limit[at]}, the length of the context",
        lambda at: f"{start[at]} to {stop[at]}",
    )
