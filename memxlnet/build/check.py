"""The check of every build: on its first examples, encoder and tokenizer must agree bit for bit."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import Example
from memxlnet.encode.layout import TokenizerContent
from memxlnet.encode.tokens import ragged_arange
from memxlnet.errors import TokenizerError
from memxlnet.settings import EncodeSettings
from memxlnet.store.files import column_values

CHECKED_EXAMPLES = 4
"""Examples that are checked: enough to meet a layout that cannot be taken apart, at some milliseconds a build."""

_MAX_CHARACTERS = 20_000
_WINDOWS = 3

COLUMNS = ("input_ids", "attention_mask", "token_type_ids")


def check_against_transformers(
    tokenizer: Any, content: TokenizerContent, settings: EncodeSettings, examples: Sequence[Example]
) -> None:
    """Compare the encoder with the tokenizer's own pair call on a few examples.

    They are compared at the length that was asked for and at one that is short enough to cut the first of them into
    several windows. Memory tokens are left out on both sides: transformers does not insert them.

    Args:
        tokenizer: The transformers tokenizer that `content` was read from; its state is put back.
        content: The tokenizer's content.
        settings: What the rows look like.
        examples: The first examples of the build.

    Raises:
        TokenizerError: An id, mask, segment id or offset differs.
    """
    few = [e for e in examples[:CHECKED_EXAMPLES] if len(e.context) + len(e.question) <= _MAX_CHARACTERS]
    if not few:
        return
    layout = replace(content.layout, memory_read_ids=(), memory_write_ids=())
    backend = content.backend
    length = settings.max_seq_length - 2 * content.layout.num_memory_tokens
    first = few[0]
    context, question = (
        len(backend.encode(text, add_special_tokens=False)) for text in (first.context, first.question)
    )
    room = max(context // _WINDOWS, 2)
    for max_seq_length, stride, part in (
        (length, settings.doc_stride, few),
        (layout.overhead + question + room, room // 2, few[:1]),
    ):
        if max_seq_length < layout.overhead + 2 or stride >= max_seq_length - layout.overhead:
            continue
        cut = replace(
            settings, max_seq_length=max_seq_length, doc_stride=stride, on_bad_example="drop", max_n_segs=None
        )
        with _state_kept(tokenizer):
            _compare(tokenizer, content, Encoder(backend, layout, cut), cut, part)


@contextmanager
def _state_kept(tokenizer: Any) -> Iterator[None]:
    """Put padding and truncation of the backend back, which a call sets and leaves behind."""
    backend = tokenizer.backend_tokenizer
    padding, truncation = backend.padding, backend.truncation
    try:
        yield
    finally:
        backend.no_padding() if padding is None else backend.enable_padding(**padding)
        backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)


def _compare(
    tokenizer: Any, content: TokenizerContent, encoder: Encoder, settings: EncodeSettings, examples: Sequence[Example]
) -> None:
    tables = encoder.encode(examples)
    lost = set(tables["dropped"]["row"].to_pylist())
    kept = [example for example in examples if example.row not in lost]
    if not kept:
        return
    pair = [[example.question for example in kept], [example.context for example in kept]]
    expected = tokenizer(
        *(reversed(pair) if content.layout.context_first else pair),
        truncation="only_first" if content.layout.context_first else "only_second",
        max_length=settings.max_seq_length,
        stride=settings.doc_stride,
        padding="max_length",
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
        return_attention_mask=True,
        verbose=False,
    )
    features = tables["features"]
    found = {name: column_values(features[name]).reshape(features.num_rows, -1) for name in COLUMNS}
    found["offset_mapping"] = _offsets(tables, settings.max_seq_length)
    for name, values in found.items():
        _check_equal(name, np.asarray(expected[name]), values, tokenizer)


def _check_equal(name: str, expected: NDArray[Any], found: NDArray[Any], tokenizer: Any) -> None:
    if expected.shape == found.shape and bool((expected == found).all()):
        return
    place = "the number of rows"
    if expected.shape == found.shape:
        row, column, *_ = (int(index) for index in np.argwhere(expected != found)[0])
        place = f"row {row}, position {column}: transformers gives {expected[row, column]}, found {found[row, column]}"
    raise TokenizerError(
        f"tokenizer {type(tokenizer).__name__}: expected rows that can be put together from question and context "
        f"tokenized alone, found another {name} ({place}); such a tokenizer cannot be used"
    )


def _offsets(tables: dict[str, Any], length: int) -> NDArray[np.int32]:
    """int32[rows, length, 2]: the offset mapping of all rows of a chunk, from its columns."""
    features, documents, contexts = tables["features"], tables["documents"], tables["contexts"]
    offsets = np.zeros((features.num_rows, length, 2), np.int32)
    document = column_values(features["document"])
    question_bounds = documents["question_token_starts"].offsets.to_numpy()
    context_bounds = contexts["token_starts"].offsets.to_numpy()
    context = column_values(documents["context"])[document]
    parts = (
        (
            (contexts["token_starts"], contexts["token_stops"]),
            context_bounds[context] + column_values(features["context_token_start"]),
            column_values(features["context_token_count"]).astype(np.int64),
            column_values(features["context_row_start"]),
        ),
        (
            (documents["question_token_starts"], documents["question_token_stops"]),
            question_bounds[document],
            np.diff(question_bounds)[document],
            column_values(features["question_row_start"]),
        ),
    )
    for lists, source, counts, at in parts:
        within = ragged_arange(counts)
        rows = np.repeat(np.arange(len(counts)), counts)
        for side, values in enumerate(lists):
            offsets[rows, within + np.repeat(at, counts), side] = values.values.to_numpy()[
                within + np.repeat(source, counts)
            ]
    return offsets
