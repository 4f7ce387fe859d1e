"""Features computed again: settings, layout, tokens and answers give all of them except the ids of the two texts."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memxlnet.encode.answer_labels import AnswerTokens
from memxlnet.encode.token_pool import TokenPool
from memxlnet.encode.windows import Windows, assemble
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints, bounds_of
from memxlnet.maintain.encoding_rules import Rules
from memxlnet.maintain.row_blocks import ANY_ID, FeatureBlock, TextBlock

BLOCK_VALUES = 1 << 20
"""Values of a token column that are compared at once: some 30 MB with all that is computed for them."""


class Segments(NamedTuple):
    """What decides the segments of some documents; all arrays are int64[documents].

    Attributes:
        first: First segment, as a row of features.
        number: Number of segments.
        room: Tokens of context that a segment can hold.
        context_tokens: Tokens of the context.
        question_tokens: Tokens of the question.
        answers: The tokens of their answers.
    """

    first: Ints
    number: Ints
    room: Ints
    context_tokens: Ints
    question_tokens: Ints
    answers: AnswerTokens


def check_features(cache: PublishedCache, rules: Rules, block: TextBlock, segments: Segments) -> Ints:
    """Check the features of a block of documents; return int64[documents], how many segments hold the answer."""
    holding = np.zeros(len(segments.first), np.int64)
    stop = int(segments.first[-1] + segments.number[-1])
    most = max(1, BLOCK_VALUES // rules.encode.max_seq_length)
    for shard in cache.features:
        for start in range(max(int(segments.first[0]), shard.row_start), min(stop, shard.row_stop), most):
            rows = np.arange(start, min(start + most, stop, shard.row_stop))
            document = np.searchsorted(segments.first, rows, side="right") - 1
            expected = _computed(rules, segments, rows, document)
            expected["document"] = document + block.first_row
            features = FeatureBlock(cache, rows, partial(_id_of, block, document))
            for name, values in shard.columns.items():
                found = values[rows[0] - shard.row_start : rows[-1] + 1 - shard.row_start]
                right = found == expected[name]
                if name == "input_ids":
                    in_vocabulary = (found >= 0) & (found < rules.vocabulary_size)
                    right = np.where(expected[name] == ANY_ID, in_vocabulary, right)
                features.demand(name, found, expected[name], right)
            holding += np.bincount(document[expected["has_answer_in_segment"] > 0], minlength=len(holding))
    return holding


def _id_of(block: TextBlock, document: Ints, at: int) -> str:
    return str(block.batch["id"][int(document[at])].as_py())


def _computed(rules: Rules, segments: Segments, rows: Ints, document: Ints) -> dict[str, NDArray[Any]]:
    """Return the columns of some rows except `document`; ids of the texts are `ANY_ID`."""
    encode = rules.encode
    index = rows - segments.first[document]
    token_start = index * (segments.room - encode.doc_stride)[document]
    token_count = np.minimum(segments.room[document], segments.context_tokens[document] - token_start)
    windows = Windows(document, index, token_start, token_count)
    each = np.arange(len(segments.first))
    contexts, questions = (_unknown(counts) for counts in (segments.context_tokens, segments.question_tokens))
    made = assemble(rules.layout, encode.max_seq_length, windows, contexts, each, questions, each)
    labels = segments.answers.in_windows(document, token_start, token_count)
    holds = labels.start >= 0
    shift = made.context_row_start - token_start
    return {
        **made._asdict(),
        "start_positions": np.where(holds, labels.start + shift, made.cls_index),
        "end_positions": np.where(holds, labels.stop - 1 + shift, made.cls_index),
        "segment_index": index,
        "context_token_start": token_start,
        "context_token_count": token_count,
        "has_answer_in_segment": holds.astype(np.int8),
    }


def _unknown(counts: Ints) -> TokenPool:
    """Return a pool of texts of which only the number of tokens is known: one value for all of them, without RAM."""
    bounds = bounds_of(counts)
    ids = np.broadcast_to(np.int32(ANY_ID), (int(bounds[-1]),))
    return TokenPool(ids, ids, ids, bounds)
