"""Windows over tokenized texts, and the rows that they become: NumPy over a whole chunk, no Python per row."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memxlnet.encode.token_pool import TokenPool
from memxlnet.format.ragged import Ints, ragged_arange
from memxlnet.format.row_layout import RowLayout


class Windows(NamedTuple):
    """The segments of a chunk's documents, in order; all arrays are int64[segments].

    Attributes:
        document: Document of each segment.
        segment_index: Place of the segment in its document, from 0.
        token_start: First token of the context that it holds.
        token_count: Number of tokens of the context that it holds.
    """

    document: Ints
    segment_index: Ints
    token_start: Ints
    token_count: Ints


def window_counts(context_tokens: Ints, room: Ints, overlap: int) -> Ints:
    """Return the number of windows of each document, as `tokenizers` cuts them.

    Args:
        context_tokens: int64[documents], tokens of each context.
        room: int64[documents], tokens of context that a row of this document can hold; above `overlap` wherever the
            context is longer than that.
        overlap: Tokens that two consecutive windows share.
    """
    beyond = np.maximum(context_tokens - room, 0)
    step = np.maximum(room - overlap, 1)
    counts: Ints = 1 + -(-beyond // step)
    return counts


def cut_windows(context_tokens: Ints, room: Ints, overlap: int, max_windows: int | None) -> Windows:
    """Cut every document into windows, the first `max_windows` of them at most.

    Args:
        context_tokens: int64[documents], tokens of each context.
        room: int64[documents], tokens of context that a row of this document can hold.
        overlap: Tokens that two consecutive windows share.
        max_windows: Windows of a document that are kept; None keeps all.
    """
    counts = window_counts(context_tokens, room, overlap)
    if max_windows is not None:
        counts = np.minimum(counts, max_windows)
    document = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    index = ragged_arange(counts)
    start = index * (room - overlap)[document]
    return Windows(document, index, start, np.minimum(room[document], context_tokens[document] - start))


class Rows(NamedTuple):
    """Assembled rows.

    Attributes:
        input_ids: int32[segments, max_seq_length].
        attention_mask: int8[segments, max_seq_length], 1 on tokens and 0 on padding.
        token_type_ids: int8[segments, max_seq_length].
        cls_index: int64[segments], position of ``cls``.
        context_row_start: int64[segments], position of the context's first token.
        question_row_start: int64[segments], position of the question's first token.
    """

    input_ids: NDArray[np.int32]
    attention_mask: NDArray[np.int8]
    token_type_ids: NDArray[np.int8]
    cls_index: Ints
    context_row_start: Ints
    question_row_start: Ints


class _Piece(NamedTuple):
    """A run of positions of each row: constant ids, or one of the two texts."""

    ids: tuple[int, ...] | None
    types: tuple[int, ...]
    is_context: bool = False


def _pieces(layout: RowLayout) -> list[_Piece]:
    """Return the parts of a row in order, without padding."""
    reads, writes = layout.memory_read_ids, layout.memory_write_ids
    n = len(reads)
    first, second = layout.first_type, layout.second_type
    if layout.context_first:
        texts = [
            [_Piece(None, (first,), is_context=True), _Piece(writes, (first,) * n)],
            [_Piece(reads, (second,) * n), _Piece(None, (second,))],
        ]
    else:
        texts = [
            [_Piece(reads, (first,) * n), _Piece(None, (first,))],
            [_Piece(None, (second,), is_context=True), _Piece(writes, (second,) * n)],
        ]
    return [
        _Piece(layout.prefix, layout.prefix_types),
        *texts[0],
        _Piece(layout.middle, layout.middle_types),
        *texts[1],
        _Piece(layout.suffix, layout.suffix_types),
    ]


def assemble(
    layout: RowLayout,
    max_seq_length: int,
    windows: Windows,
    contexts: TokenPool,
    context_of: Ints,
    questions: TokenPool,
    question_of: Ints,
) -> Rows:
    """Assemble the rows of a chunk.

    Args:
        layout: What stands where in a row.
        max_seq_length: Tokens in a row.
        windows: The segments.
        contexts: Tokens of the contexts.
        context_of: int64[documents], context of each document.
        questions: Tokens of the questions.
        question_of: int64[documents], question of each document.
    """
    context, question = context_of[windows.document], question_of[windows.document]
    question_count = questions.counts[question]
    num_rows = len(windows.document)
    length = layout.overhead + windows.token_count + question_count
    position = max_seq_length - length if layout.pad_left else np.zeros(num_rows, np.int64)
    row_start = position.copy()
    ids = np.full((num_rows, max_seq_length), layout.pad_id, np.int32)
    types = _Types(num_rows, max_seq_length, layout.pad_type)
    starts: dict[bool, Ints] = {}
    cls_index: Ints | None = None
    every_row = np.arange(num_rows)
    for piece in _pieces(layout):
        if piece.ids is None:
            pool, text = (contexts, context) if piece.is_context else (questions, question)
            count = windows.token_count if piece.is_context else question_count
            source = pool.bounds[text] + (windows.token_start if piece.is_context else 0)
            starts[piece.is_context] = position
            _copy_ragged(ids, pool.ids, position, source, count)
            types.add(piece.types[0], position, position + count)
            position = position + count
            continue
        for token_id, token_type in zip(piece.ids, piece.types, strict=True):
            ids[every_row, position] = token_id
            types.add(token_type, position, position + 1)
            if token_id == layout.cls_id and (cls_index is None or layout.cls_last):
                cls_index = position
            position = position + 1
    if cls_index is None:
        raise ValueError("the layout of a row must hold its cls token")
    columns = np.arange(max_seq_length, dtype=np.int32)
    first, last = row_start[:, None].astype(np.int32), position[:, None].astype(np.int32)
    mask = (columns >= first) & (columns < last)
    return Rows(ids, mask.view(np.int8), types.finish(), cls_index, starts[True], starts[False])


def _copy_ragged(rows: NDArray[np.int32], pool: NDArray[np.int32], at: Ints, source: Ints, counts: Ints) -> None:
    """Copy ``counts[r]`` pool values from ``source[r]`` to position ``at[r]`` of row r, for all rows at once."""
    within = ragged_arange(counts)
    row_bases = np.arange(len(counts), dtype=np.int64) * rows.shape[1] + at
    rows.reshape(-1)[within + np.repeat(row_bases, counts)] = pool[within + np.repeat(source, counts)]


class _Types:
    """Segment ids of all rows, filled run by run; neighbouring runs of one value are written as one."""

    def __init__(self, num_rows: int, max_seq_length: int, pad_type: int):
        self._out = np.full((num_rows, max_seq_length), pad_type, np.int8)
        self._columns = np.arange(max_seq_length, dtype=np.int32)
        self._pad_type = pad_type
        self._run: tuple[int, Ints, Ints] | None = None

    def add(self, value: int, start: Ints, stop: Ints) -> None:
        if self._run is not None and self._run[0] == value:
            self._run = (value, self._run[1], stop)
            return
        self._write()
        self._run = (value, start, stop)

    def _write(self) -> None:
        if self._run is None or self._run[0] == self._pad_type:
            return
        value, start, stop = self._run
        first, last = start[:, None].astype(np.int32), stop[:, None].astype(np.int32)
        self._out[(self._columns >= first) & (self._columns < last)] = value

    def finish(self) -> NDArray[np.int8]:
        self._write()
        self._run = None
        return self._out
