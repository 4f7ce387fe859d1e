"""What must hold within and between the tables of a cache, checked in blocks of rows.

A row is a function of settings, layout, the numbers of tokens of its context and question and the characters of its
answer, except for the ids of the two texts. So features are not only checked for their ranges: every column is computed
again and compared, and the ids of the texts must be in the vocabulary.

RAM is that of a block and of its contexts, and at most 16 bytes a document: digests of what must not repeat, and two
lengths of each context.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from arrow_schemas import ALIGNMENTS
from memxlnet.encode.answer_alignment import DROPPED, EXACT, NUMBER, REPAIRED, UNANSWERABLE, UNLABELLED, YES_NO
from memxlnet.encode.answer_labels import AnswerTokens
from memxlnet.encode.token_pool import TokenPool
from memxlnet.encode.windows import window_counts
from memxlnet.errors import CacheDamagedError
from memxlnet.format.manifest import REBUILD
from memxlnet.format.paths import MANIFEST
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints, bounds_of
from memxlnet.maintain.encoding_rules import Rules
from memxlnet.maintain.feature_relations import Segments, check_features
from memxlnet.maintain.row_blocks import Flags, TextBlock, read_blocks, take_rows

_REPEATED = 1000
"""Repeated hashes that are looked into: each is two equal texts, except for one chance in 2^64."""

PART_TOKENS = 1 << 20
"""Tokens of contexts that are held at once, some 50 MB with their texts."""


def check_relations(cache: PublishedCache, rules: Rules) -> None:
    """Check every value of a cache against the values that it must fit.

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
        for part in _parts(block, contexts.tokens):
            documents.check(part)
    documents.finish()


def _check_distinct(cache: PublishedCache, table: str, name: str) -> None:
    """Check that no text of a column repeats; 8 bytes a row are held."""
    hashes = np.empty(cache.manifest.tables[table].rows, np.uint64)
    for block in read_blocks(cache, table):
        stop = block.first_row + block.batch.num_rows
        texts = (xxhash.xxh3_64_intdigest(text.as_buffer()) for text in block.batch[name])
        hashes[block.first_row : stop] = np.fromiter(texts, np.uint64, block.batch.num_rows)
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


def _parts(block: TextBlock, context_tokens: NDArray[np.int32]) -> Iterator[TextBlock]:
    """Cut a block of documents so that the contexts of a part have some `PART_TOKENS` tokens, or it is one document."""
    # Not checked yet: any number serves for a missing context.
    context = np.clip(block.integers("context"), 0, max(len(context_tokens) - 1, 0))
    _, first = np.unique(context, return_index=True)
    tokens = np.zeros(len(context), np.int64)
    tokens[first] = context_tokens[context[first]]
    edges = np.flatnonzero(np.diff(np.cumsum(tokens) // PART_TOKENS)) + 1
    for start, stop in pairwise([0, *edges.tolist(), len(context)]):
        yield TextBlock(block.path, block.first_row + start, block.batch.slice(start, stop - start))


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


class _Documents:
    """The check of documents and, along with each block of them, of their features."""

    def __init__(self, cache: PublishedCache, rules: Rules, contexts: _Texts):
        self._cache = cache
        self._rules = rules
        self._contexts = contexts
        self._used = 0
        self._segments = 0
        self._alignment = dict.fromkeys(ALIGNMENTS, 0)
        self._contradictions = 0
        self._without_segment = 0

    def check(self, block: TextBlock) -> None:
        """Check the next block of documents."""
        context = self._check_context(block)
        questions = _check_tokens(block, "question", "question_token_starts", "question_token_stops")
        spanned = _check_answers(block)
        self._contradictions += self._check_contradictions(block)
        _check_characters(block, spanned, self._contexts.characters[context])
        answers = _check_answer_tokens(self._cache, block, context)
        segments = self._check_segments(block, self._contexts.tokens[context].astype(np.int64), questions, answers)
        holding = check_features(self._cache, self._rules, block, segments)
        found = block.integers("num_answer_segments")
        block.demand("num_answer_segments", found == holding, lambda at: f"{holding[at]}, as in features")
        for entry in pc.value_counts(block.batch["alignment"]).to_pylist():
            self._alignment[entry["values"]] += entry["counts"]
        self._without_segment += int((spanned & (holding == 0)).sum())

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
                    f"{directory / MANIFEST}, {name}: expected {expected}, as documents give it, found {found}; "
                    f"{REBUILD}"
                )

    def _check_contradictions(self, block: TextBlock) -> int:
        """Check where documents may contradict themselves, and count those that do."""
        found: Flags = pc.utf8_length(block.batch["contradiction"]).to_numpy() > 0
        block.demand(
            "contradiction",
            ~found | (self._rules.encode.on_contradiction != "error"),
            lambda at: "no text where contradictions are errors",
        )
        block.demand(
            "contradiction",
            ~found | np.asarray(pc.not_equal(block.batch["alignment"], UNLABELLED)),
            lambda at: f"no text for a document that is {UNLABELLED}",
        )
        return int(found.sum())

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

    def _check_segments(
        self, block: TextBlock, context_tokens: Ints, question_tokens: Ints, answers: AnswerTokens
    ) -> Segments:
        settings = self._rules.encode
        room = settings.max_seq_length - self._rules.layout.overhead - question_tokens
        block.demand(
            "question_token_starts",
            (context_tokens <= room) | (room > settings.doc_stride),
            lambda at: f"a question that leaves room for context in max_seq_length {settings.max_seq_length}",
            lambda at: f"{question_tokens[at]} tokens",
        )
        count = window_counts(context_tokens, room, settings.doc_stride)
        if settings.max_n_segs is not None:
            count = np.minimum(count, settings.max_n_segs)
        first = self._segments + bounds_of(count)
        most = self._cache.num_rows
        for name, right, expected in (
            ("num_segments", block.integers("num_segments") == count, count),
            ("first_segment", block.integers("first_segment") == first[:-1], first),
        ):
            block.demand(name, right, expected.item)
        block.demand("first_segment", first[1:] <= most, lambda at: f"all of its segments in the {most} of features")
        self._segments = int(first[-1])
        return Segments(first[:-1], count, room, context_tokens, question_tokens, answers)


def _check_answers(block: TextBlock) -> Flags:
    """Check golds, choice and alignment; return bool[documents], whether an answer has a span."""
    (bounds, texts), (starts_bounds, starts) = block.lists("answer_texts"), block.lists("answer_starts")
    golds, chosen = np.diff(bounds), block.integers("chosen_answer")
    demand = block.demand
    demand("answer_starts", np.diff(starts_bounds) == golds, lambda at: f"{golds[at]} offsets, one for each gold")
    demand("chosen_answer", (chosen >= -1) & (chosen < golds), lambda at: f"-1 to {golds[at] - 1}")
    spanned: Flags = chosen >= 0
    status = block.batch["alignment"]
    is_status = {name: np.asarray(pc.equal(status, name)) for name in ALIGNMENTS}
    known = np.logical_or.reduce(list(is_status.values()))
    demand("alignment", known, lambda at: " or ".join(ALIGNMENTS))
    for names, right, where in (
        ((UNANSWERABLE, UNLABELLED), golds == 0, "there is no gold"),
        ((DROPPED, YES_NO, NUMBER), ~spanned & (golds > 0), "none of the golds was chosen"),
    ):
        held = np.logical_or.reduce([is_status[name] for name in names])
        demand("alignment", held == right, partial(_only_where, names, where))
    detailed = is_status[REPAIRED] | is_status[DROPPED]
    demand(
        "alignment_detail",
        (pc.utf8_length(block.batch["alignment_detail"]).to_numpy() > 0) == detailed,
        lambda at: "a reason" if detailed[at] else "no text",
    )
    exact = np.flatnonzero(is_status[EXACT])
    gold = (bounds[:-1] + chosen)[exact]
    start, stop = np.full((2, len(golds)), -1, np.int64)
    start[exact] = starts.to_numpy()[gold]
    stop[exact] = start[exact] + pc.utf8_length(texts).to_numpy()[gold]
    for name, expected in (("answer_char_start", start), ("answer_char_stop", stop)):
        right = ~is_status[EXACT] | (block.integers(name) == expected)
        demand(name, right, expected.item)
    return spanned


def _only_where(names: Sequence[str], where: str, _: int) -> str:
    return f"{' or '.join(names)} where and only where {where}"


def _check_characters(block: TextBlock, spanned: Flags, limit: NDArray[np.int32]) -> None:
    start, stop = block.integers("answer_char_start"), block.integers("answer_char_stop")
    block.demand(
        "answer_char_start, answer_char_stop",
        np.where(spanned, (start >= 0) & (start < stop) & (stop <= limit), (start == -1) & (stop == -1)),
        lambda at: (
            f"a span within 0 to {limit[at]} (of the context)" if spanned[at] else "-1 and -1, as none is chosen"
        ),
        lambda at: f"{start[at]} to {stop[at]}",
    )


def _check_answer_tokens(cache: PublishedCache, block: TextBlock, context: Ints) -> AnswerTokens:
    """Find the tokens of the answers again, from their characters, and compare."""
    start, stop = block.integers("answer_char_start"), block.integers("answer_char_stop")
    asked = np.unique(context[start >= 0])
    texts, pool = _take_contexts(cache, asked)
    answers = AnswerTokens(texts, pool, np.arange(len(asked)), np.searchsorted(asked, context), start, stop)
    expected = answers.documents
    for name, values in (("answer_token_start", expected.start), ("answer_token_stop", expected.stop)):
        block.demand(name, block.integers(name) == values, values.item)
    return answers


def _take_contexts(cache: PublishedCache, rows: Ints) -> tuple[list[str], TokenPool]:
    """Return contexts and their tokens, without the ids."""
    if not rows.size:
        nothing = np.empty(0, np.int32)
        return [], TokenPool(nothing, nothing, nothing, np.zeros(1, np.int64))
    taken = take_rows(cache, "contexts", rows)
    bounds = taken["token_starts"].offsets.to_numpy()
    starts, stops = (taken[name].flatten().to_numpy() for name in ("token_starts", "token_stops"))
    return taken["text"].to_pylist(), TokenPool(starts, starts, stops, bounds - bounds[0])
