"""A chunk of examples in, one record batch per table out.

Each distinct context and question of the chunk is tokenized once, alone, through the Rust tokenizer; windows are cut
and rows assembled in NumPy. For a tokenizer whose layout `read_tokenizer` accepts, the rows equal those of the
transformers pair call bit for bit.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer

from arrow_schemas import DROPPED, contexts_schema, documents_schema, dropped_schema, features_schema
from memxlnet.encode import answer_alignment
from memxlnet.encode.answer_labels import AnswerTokens, Labels
from memxlnet.encode.examples import ABSENT, BadExample, Example, shown_example
from memxlnet.encode.piece_tokenizer import PieceTokenizer, splits_into_pieces
from memxlnet.encode.token_pool import TokenPool, concatenate, from_encodings, tokenizer_errors
from memxlnet.encode.windows import Rows, Windows, assemble, cut_windows
from memxlnet.encode.word_tokenizer import WordTokenizer, splits_into_words
from memxlnet.errors import ExampleError
from memxlnet.format.file_layout import numpy_type
from memxlnet.format.ragged import Ints, bounds_of
from memxlnet.format.row_layout import RowLayout
from memxlnet.settings import EncodeSettings

LONG_TEXT = 1 << 16
"""Characters above which a context is kept for the next chunk: many chunks may ask about a book."""


class _Book(NamedTuple):
    """A long context with what was made of it: some 20 bytes a character."""

    context: answer_alignment.Context
    tokens: TokenPool


class TokenizedChunk(NamedTuple):
    """A chunk that is tokenized but not yet assembled.

    Attributes:
        examples: Its examples.
        dropped: The dropped ones.
        contexts: The tokens of the distinct contexts in order of first use.
        questions: The tokens of the distinct questions likewise.
        books: Those long contexts that other chunks share, by their text.
    """

    examples: list[Example]
    dropped: list[BadExample]
    contexts: TokenPool
    questions: TokenPool
    books: dict[str, answer_alignment.Context]


class Encoder:
    """Turns chunks of examples into record batches; the same chunk always gives the same batches.

    The last context of a chunk is kept with its tokens and its normal form where it is long, so that the next chunk
    need not make them again; it is released before another text is tokenized. That takes a tenth of the RAM that
    encoding the text took.

    Args:
        backend: A Rust tokenizer that neither pads nor truncates.
        layout: How it lays a pair out.
        settings: What the rows look like.

    Raises:
        SettingsError: The rows have no room, or the overlap is too large.
    """

    def __init__(self, backend: Tokenizer, layout: RowLayout, settings: EncodeSettings):
        layout.check(settings)
        self._tokenize_texts = _text_tokenizer(backend)
        self._layout = layout
        self._settings = settings
        self._book: _Book | None = None

    def encode(self, chunk: Sequence[Example | BadExample]) -> dict[str, pa.RecordBatch]:
        """Encode one chunk: `tokenize`, then `assemble`."""
        return self.assemble(self.tokenize(chunk))

    def tokenize(self, chunk: Sequence[Example | BadExample]) -> TokenizedChunk:
        """Tokenize the distinct contexts and questions of a chunk: the part that runs outside of Python's lock.

        Args:
            chunk: Its examples, and those that were found bad before.

        Raises:
            TokenizerError: The tokenizer failed on a text.
        """
        examples = [example for example in chunk if isinstance(example, Example)]
        dropped = [example for example in chunk if isinstance(example, BadExample)]
        contexts = list(dict.fromkeys(example.context for example in examples))
        questions = dict.fromkeys(example.question for example in examples)
        book = self._book
        if book is not None and book.context.text not in contexts:
            book = self._book = None
        new = [text for text in contexts if book is None or text != book.context.text]
        # One call for both keeps all cores of the tokenizer busy.
        pools = self._tokenize([*new, *questions], examples).split(len(new))
        pool = pools[0] if book is None else _inserted(book.tokens, contexts.index(book.context.text), pools[0])
        books = [found for found in (book, self._keep(contexts, examples, pool)) if found is not None]
        return TokenizedChunk(examples, dropped, pool, pools[1], {found.context.text: found.context for found in books})

    def _keep(self, contexts: list[str], examples: list[Example], pool: TokenPool) -> _Book | None:
        """Keep the last context of a chunk for the next one where it is long."""
        last = examples[-1].context if examples else ""
        if len(last) < LONG_TEXT:
            self._book = None
        elif self._book is None or self._book.context.text != last:
            self._book = _Book(answer_alignment.Context(last), pool.take(np.array([contexts.index(last)])))
        return self._book

    def assemble(self, chunk: TokenizedChunk) -> dict[str, pa.RecordBatch]:
        """Cut windows, find the answers and assemble the rows of a chunk.

        Returns:
            One record batch for each table and one for the dropped examples. Row numbers in them
            (``features.document``, ``documents.context``, ``documents.first_segment``) count from the chunk's start.

        Raises:
            ExampleError: A question leaves no room for context, and bad examples are errors.
        """
        examples, dropped, contexts, questions, books = chunk
        context_of, question_of = _numbers(e.context for e in examples), _numbers(e.question for e in examples)
        room = self._settings.max_seq_length - self._layout.overhead - questions.counts[question_of]
        bad = self._find_bad(examples, contexts.counts[context_of], room)
        if bad:
            dropped = sorted([*dropped, *bad])
            lost = {example.row for example in bad}
            kept = np.array([example.row not in lost for example in examples], bool)
            examples = [example for example in examples if example.row not in lost]
            context_of, question_of, room = context_of[kept], question_of[kept], room[kept]
        batches = self._encode_good(examples, contexts, context_of, questions, question_of, room, books)
        batches[DROPPED] = pa.RecordBatch.from_arrays(
            [
                pa.array([example.row for example in dropped], pa.int64()),
                pa.array([example.id for example in dropped], pa.large_string()),
                pa.array([example.reason for example in dropped], pa.large_string()),
            ],
            schema=dropped_schema(),
        )
        return batches

    def _encode_good(
        self,
        examples: list[Example],
        contexts: TokenPool,
        context_of: Ints,
        questions: TokenPool,
        question_of: Ints,
        room: Ints,
        books: dict[str, answer_alignment.Context],
    ) -> dict[str, pa.RecordBatch]:
        settings = self._settings
        windows = cut_windows(contexts.counts[context_of], room, settings.doc_stride, settings.max_n_segs)
        rows = assemble(self._layout, settings.max_seq_length, windows, contexts, context_of, questions, question_of)
        used, context_rows = _renumber(context_of, len(contexts.bounds) - 1)
        texts = [examples[at].context for at in np.unique(context_rows, return_index=True)[1].tolist()]
        alignments, tokens = _align(examples, texts, books, contexts, used, context_rows)
        features, holding = _features_batch(settings.max_seq_length, windows, rows, tokens)
        documents = _documents_batch(
            examples, questions, question_of, context_rows, windows, alignments, tokens.documents, holding
        )
        return {
            "features": features,
            "documents": documents,
            "contexts": _contexts_batch(texts, contexts, used),
        }

    def _find_bad(self, examples: list[Example], context_tokens: Ints, room: Ints) -> list[BadExample]:
        """Return the examples whose rows cannot be made; raise for the first one where bad examples are errors."""
        settings = self._settings
        # A context that fits needs no window, so that neither room nor overlap matter, as in transformers.
        bad = np.flatnonzero((context_tokens > room) & (room <= settings.doc_stride))
        found = []
        for number in bad.tolist():
            example = examples[number]
            question = settings.max_seq_length - self._layout.overhead - int(room[number])
            reason = (
                f"{shown_example(example.id, example.row)}: its question of {question} tokens leaves room for "
                f"{max(int(room[number]), 0)} tokens of context in max_seq_length {settings.max_seq_length}; "
                f"expected more than doc_stride {settings.doc_stride} (the overlap) for a context of "
                f"{int(context_tokens[number])} tokens"
            )
            if settings.on_bad_example == "error":
                raise ExampleError(f"{reason}; raise max_seq_length, lower doc_stride or use on_bad_example='drop'")
            found.append(BadExample(example.row, example.id, reason))
        return found

    def _tokenize(self, texts: list[str], examples: list[Example]) -> TokenPool:
        ids = [example.id for example in examples[:3]]
        more = f" and {len(examples) - 3} more" if len(examples) > 3 else ""
        with tokenizer_errors(f"the tokenizer failed on a chunk with the examples {', '.join(map(repr, ids))}{more}"):
            return self._tokenize_texts(texts)


def _text_tokenizer(backend: Tokenizer) -> Callable[[list[str]], TokenPool]:
    """Return the fastest way to the tokens of texts that a tokenizer allows."""
    if splits_into_words(backend):
        return WordTokenizer(backend).tokenize
    if splits_into_pieces(backend):
        return PieceTokenizer(backend).tokenize
    return partial(from_encodings, backend)


def _inserted(one: TokenPool, place: int, others: TokenPool) -> TokenPool:
    """Return the pool of many texts with that of one more at its place among them."""
    before, after = others.split(place)
    return concatenate(concatenate(before, one), after) if place else concatenate(one, others)


def _numbers(texts: Iterable[str]) -> Ints:
    """Return the number of each text among the distinct ones, in order of first use."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(text, len(seen)) for text in texts], np.int64)


def _renumber(numbers: Ints, total: int) -> tuple[Ints, Ints]:
    """Return the numbers that are in use in order of first use, and `numbers` counted among them.

    The order must not depend on dropped examples before: another chunk size would part them from these.
    """
    used, first = np.unique(numbers, return_index=True)
    used = used[np.argsort(first)]
    place = np.zeros(total, np.int64)
    place[used] = np.arange(len(used))
    return used, place[numbers]


def _align(
    examples: list[Example],
    texts: list[str],
    books: dict[str, answer_alignment.Context],
    contexts: TokenPool,
    used: Ints,
    context_of: Ints,
) -> tuple[list[answer_alignment.Alignment], AnswerTokens]:
    """Find the answers of a chunk in characters and in tokens; one that no token holds is dropped.

    Args:
        examples: The documents.
        texts: Their distinct contexts.
        books: Those of these, and others, that are looked at already.
        contexts: The tokens of these and of others.
        used: int64[texts], the place of each of these among `contexts`.
        context_of: int64[documents], the text of each document.
    """
    looked_up = [books.get(text) or answer_alignment.Context(text) for text in texts]
    alignments = [
        _align_one(example, looked_up[text]) for example, text in zip(examples, context_of.tolist(), strict=True)
    ]
    starts, stops = (np.array([found[side] for found in alignments], np.int64) for side in (3, 4))
    tokens = AnswerTokens(texts, contexts, used, context_of, starts, stops)
    for number in np.flatnonzero((starts >= 0) & (tokens.documents.start < 0)).tolist():
        found = alignments[number]
        reason = f"answer {found.chosen} at {found.start}: no token of the context overlaps it"
        alignments[number] = answer_alignment.Alignment(answer_alignment.DROPPED, reason)
    return alignments, tokens


def _align_one(example: Example, context: answer_alignment.Context) -> answer_alignment.Alignment:
    if not example.labelled:
        return answer_alignment.Alignment(answer_alignment.UNLABELLED)
    if example.answer_kind:
        if example.answer_kind == ABSENT:
            return answer_alignment.absent(example.answer_texts)
        return answer_alignment.Alignment(example.answer_kind)
    return answer_alignment.align(context, example.answer_texts, example.answer_starts)


def _features_batch(
    max_seq_length: int, windows: Windows, rows: Rows, tokens: AnswerTokens
) -> tuple[pa.RecordBatch, Ints]:
    """Return the features table, and int64[segments]: 1 where the segment holds the answer."""
    labels = tokens.in_windows(windows.document, windows.token_start, windows.token_count)
    holds = labels.start >= 0
    shift = rows.context_row_start - windows.token_start
    schema = features_schema(max_seq_length)
    columns: dict[str, NDArray[Any]] = {
        "input_ids": rows.input_ids,
        "attention_mask": rows.attention_mask,
        "token_type_ids": rows.token_type_ids,
        "start_positions": np.where(holds, labels.start + shift, rows.cls_index),
        "end_positions": np.where(holds, labels.stop - 1 + shift, rows.cls_index),
        "document": windows.document,
        "segment_index": windows.segment_index,
        "cls_index": rows.cls_index,
        "context_token_start": windows.token_start,
        "context_token_count": windows.token_count,
        "context_row_start": rows.context_row_start,
        "question_row_start": rows.question_row_start,
        "has_answer_in_segment": holds,
    }
    arrays = [_fixed_width_array(columns[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema), holds.astype(np.int64)


def _fixed_width_array(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind.value_type), type=kind)
    return pa.array(values.astype(numpy_type(kind), copy=False), kind)


def _documents_batch(
    examples: list[Example],
    questions: TokenPool,
    question_of: Ints,
    context_rows: Ints,
    windows: Windows,
    aligned: list[answer_alignment.Alignment],
    labels: Labels,
    holding: Ints,
) -> pa.RecordBatch:
    schema = documents_schema()
    num_segments = np.bincount(windows.document, minlength=len(examples))
    answer_bounds = bounds_of(np.array([len(example.answer_texts) for example in examples], np.int64))
    columns: dict[str, Any] = {
        "id": [example.id for example in examples],
        "question": [example.question for example in examples],
        "question_token_starts": _take_texts(questions, question_of, questions.starts),
        "question_token_stops": _take_texts(questions, question_of, questions.stops),
        "context": context_rows,
        "first_segment": np.cumsum(num_segments) - num_segments,
        "num_segments": num_segments,
        "answer_texts": (answer_bounds, list(chain.from_iterable(e.answer_texts for e in examples))),
        "answer_starts": (answer_bounds, list(chain.from_iterable(e.answer_starts for e in examples))),
        "chosen_answer": [found.chosen for found in aligned],
        "answer_char_start": [found.start for found in aligned],
        "answer_char_stop": [found.stop for found in aligned],
        "answer_token_start": labels.start,
        "answer_token_stop": labels.stop,
        "num_answer_segments": np.bincount(windows.document, holding, len(examples)),
        "alignment": [found.status for found in aligned],
        "alignment_detail": [found.detail for found in aligned],
        "contradiction": [example.contradiction for example in examples],
    }
    return pa.RecordBatch.from_arrays([_array(columns[field.name], field.type) for field in schema], schema=schema)


def _contexts_batch(texts: list[str], contexts: TokenPool, used: Ints) -> pa.RecordBatch:
    schema = contexts_schema()
    columns = {
        "text": texts,
        "token_starts": _take_texts(contexts, used, contexts.starts),
        "token_stops": _take_texts(contexts, used, contexts.stops),
    }
    return pa.RecordBatch.from_arrays([_array(columns[field.name], field.type) for field in schema], schema=schema)


def _take_texts(pool: TokenPool, texts: Ints, values: NDArray[np.int32]) -> tuple[Ints, NDArray[np.int32]]:
    """Return the bounds and values of one list per entry of `texts`."""
    counts = pool.counts[texts]
    bounds = bounds_of(counts)
    if len(texts) == len(pool.counts) and np.array_equal(texts, np.arange(len(texts))):
        return bounds, values
    within = np.arange(bounds[-1]) + np.repeat(pool.bounds[texts] - bounds[:-1], counts)
    return bounds, values[within]


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """Return an array of `kind` from a list, a NumPy array, or the bounds and values of a list column."""
    if isinstance(values, tuple):
        bounds, items = values
        return pa.LargeListArray.from_arrays(pa.array(bounds, pa.int64()), pa.array(items, kind.value_type), type=kind)
    if isinstance(values, np.ndarray):
        return pa.array(values.astype(numpy_type(kind), copy=False), kind)
    return pa.array(values, kind)
