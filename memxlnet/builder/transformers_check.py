"""The check of every build: on its first examples and on hard texts, encoder and tokenizer must agree bit for bit."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import Example
from memxlnet.encode.token_pool import tokenizer_errors
from memxlnet.encode.tokenizer_content import TokenizerContent
from memxlnet.errors import TokenizerError
from memxlnet.format.file_layout import column_values
from memxlnet.format.ragged import ragged_arange
from memxlnet.format.row_layout import RowLayout
from memxlnet.settings import EncodeSettings

CHECKED_EXAMPLES = 4
"""Examples that are checked besides the hard texts."""

MAX_CONTEXT, MAX_QUESTION = 2_000, 200
"""Characters of an example that are checked: its beginning, so that the check takes no longer for long texts."""

_ROOM = 12
"""Tokens of context in a row, at least, where short texts are cut into several windows."""

TYPES = "token_type_ids"
COLUMNS = ("input_ids", "attention_mask", TYPES)

_lock = threading.Lock()
"""Held while calls set padding and truncation: builds in several threads may share a tokenizer."""


def check_against_transformers(
    tokenizer: Any, content: TokenizerContent, settings: EncodeSettings, examples: Sequence[Example]
) -> None:
    """Compare the encoder with the tokenizer's own pair call.

    The texts are the beginnings of the first examples, and texts that are known to be hard, as questions and as
    contexts. They are compared at the length that was asked for and at lengths that cut them into several windows.
    Memory tokens are left out on both sides: transformers does not insert them. Segment ids that the tokenizer does
    not name among its model's inputs are compared where transformers gives those of the template (see `RowLayout`).

    Args:
        tokenizer: The transformers tokenizer that `content` was read from; its state is restored.
        content: The tokenizer's content.
        settings: What the rows look like.
        examples: The first examples of the build, none where it has none.

    Raises:
        TokenizerError: An id, mask, segment id or offset differs.
    """
    few = [(one.question[:MAX_QUESTION], one.context[:MAX_CONTEXT]) for one in examples[:CHECKED_EXAMPLES]]
    hard = [*HARD_TEXTS, *added_token_texts(content.backend)]
    # All hard texts as one and each of them alone: a simple text may be tokenized in another way than a hard one.
    joined = [(hard[at], blank.join(hard)) for at, blank in ((4, " "), (5, ""))]
    contexts = [*(context for _, context in few[:1]), *hard, *CHARACTER_TEXTS]
    as_contexts = [(PLAIN_QUESTION, context) for context in contexts]
    as_questions = [(question, PLAIN_CONTEXT) for question in (*(question for question, _ in few), *hard)]
    length = settings.max_seq_length - 2 * content.layout.num_memory_tokens
    layout = replace(content.layout, memory_read_ids=(), memory_write_ids=())
    with _lock, _state_kept(tokenizer):
        for pairs, max_seq_length, stride in (
            ([*few, *joined], length, settings.doc_stride),
            # Lengths that drop none of them, however long a question is.
            (as_contexts, layout.overhead + _longest_question(content, as_contexts) + _ROOM, _ROOM // 2),
            (as_questions, layout.overhead + _longest_question(content, as_questions) + _ROOM, _ROOM // 2),
        ):
            cut = replace(
                settings, max_seq_length=max_seq_length, doc_stride=stride, on_bad_example="drop", max_n_segs=None
            )
            _compare(tokenizer, content, Encoder(content.backend, layout, cut), cut, pairs)


def _longest_question(content: TokenizerContent, pairs: Sequence[tuple[str, str]]) -> int:
    """Return the number of tokens of the longest question."""
    questions = list({question for question, _ in pairs})
    with tokenizer_errors("tokenizer: it failed on texts of the check"):
        return max(map(len, content.backend.encode_batch(questions, add_special_tokens=False)))


@contextmanager
def _state_kept(tokenizer: Any) -> Iterator[None]:
    """Restore padding and truncation of the backend, which a call leaves set."""
    backend = tokenizer.backend_tokenizer
    padding, truncation = backend.padding, backend.truncation
    try:
        yield
    finally:
        backend.no_padding() if padding is None else backend.enable_padding(**padding)
        backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)


def _compare(
    tokenizer: Any,
    content: TokenizerContent,
    encoder: Encoder,
    settings: EncodeSettings,
    pairs: Sequence[tuple[str, str]],
) -> None:
    examples = [Example(row, f"{row}", question, context, (), ()) for row, (question, context) in enumerate(pairs)]
    tables = encoder.encode(examples)
    lost = set(tables["dropped"]["row"].to_pylist())
    kept = [pair for row, pair in enumerate(pairs) if row not in lost]
    if not kept:
        return
    questions, contexts = (list(texts) for texts in zip(*kept, strict=True))
    with tokenizer_errors(f"tokenizer {type(tokenizer).__name__}: a call with pairs of texts failed"):
        expected = tokenizer(
            *((contexts, questions) if content.layout.context_first else (questions, contexts)),
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
    found = {"overflow_to_sample_mapping": column_values(features["document"])}
    found |= {name: column_values(features[name]).reshape(features.num_rows, -1) for name in COLUMNS}
    found["offset_mapping"] = _offsets(tables, settings.max_seq_length)
    given = {name: np.asarray(expected[name]) for name in found}
    if not _has_types_in_every_window(tokenizer, content.layout) and given[TYPES].shape == found[TYPES].shape:
        first = column_values(features["segment_index"]) == 0
        given[TYPES] = np.where(first[:, None], given[TYPES], found[TYPES])
    for name, values in found.items():
        difference = _first_difference(given[name], values)
        if difference is not None:
            row, place = difference
            question, context = kept[int(found["overflow_to_sample_mapping"][row])]
            raise TokenizerError(
                f"tokenizer {type(tokenizer).__name__}: expected rows that can be put together from question and "
                f"context tokenized alone, found another {name} ({place}) for the question {question!r:.60} and the "
                f"context {context!r:.200} at max_seq_length {settings.max_seq_length}; "
                f"{_advice(name, content.layout)}"
            )


def _has_types_in_every_window(tokenizer: Any, layout: RowLayout) -> bool:
    """Return whether all segment ids are compared, or those of the first windows alone.

    transformers gives the texts of later windows 0 and 1 whatever the template has. That matters where the model takes
    segment ids, and can only be compared where the two are the same.
    """
    return _has_types_of_sides(layout) or TYPES in tokenizer.model_input_names


def _has_types_of_sides(layout: RowLayout) -> bool:
    return (layout.first_type, layout.second_type) == (0, 1)


def _advice(name: str, layout: RowLayout) -> str:
    if name != TYPES or _has_types_of_sides(layout):
        return "such a tokenizer cannot be used"
    return (
        "transformers gives the texts of later windows other segment ids than the template has: if the model takes no "
        f"{TYPES}, take them out of tokenizer.model_input_names"
    )


def _first_difference(expected: NDArray[Any], found: NDArray[Any]) -> tuple[int, str] | None:
    """Return the row of the first value that differs, and what it is."""
    if expected.shape[1:] != found.shape[1:]:
        return 0, f"transformers gives the shape {expected.shape}, found {found.shape}"
    rows = min(len(expected), len(found))
    differing = np.argwhere(expected[:rows] != found[:rows])
    if differing.size:
        row, *place = differing[0].tolist()
        position = f", position {place[0]}" if place else ""
        at = (row, *place[:1])
        return row, f"row {row}{position}: transformers gives {expected[at]}, found {found[at]}"
    if len(expected) != len(found):
        return len(found) - 1, f"the number of rows: transformers gives {len(expected)}, found {len(found)}"
    return None


def _offsets(tables: dict[str, Any], length: int) -> NDArray[np.int32]:
    """Return int32[rows, length, 2]: the offset mapping of all rows of a chunk, from its columns."""
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


PLAIN_QUESTION: Final = "Who was it?"


PLAIN_CONTEXT: Final = "The lamp of the harbour was lit in 1898 by (one) keeper; it's still there."


HARD_TEXTS: Final = (
    "",
    " ",
    ".",
    "  leading and trailing blanks \t\n ",
    "two  blanks,   three,\tone tab,\r\nlines\n\n\nand \u00a0\u3000\u2003\u200b others",
    "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m Vi\u1ec7t Nam \u1e69",
    "cafe\u0301 nai\u0308ve A\u030angstro\u0308m Vie\u0323\u0302t s\u0307\u0323",
    "\u0301first a mark, then \ufb01ve \u2460 \u00bd \uff21\uff22 \u2122 \u0130\u0131 \u00df \u01c5 \u2126",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \U0001f1eb\U0001f1f7 ok\u200dok \u2764\ufe0f",
    "\u5728136\u6b21\u6bd4\u8d5b\u4e2d\uff0c \u4ed6 scored 24 \u5206\u3002\u30ab\u3099\u30ac \uac00\u1100\u1161",
    "\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u0651\u0629\u060c \u0648 \ufefb \u0661\u0662\u0663 \u0640",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0915\u094d\u0937 \u0958 \u0967\u0968 \u0e44\u0e17\u0e22 \u0b95\u0bcb",
    "\x00null \x01\x1b[0m \x7f \x85 \ufeff \ufffd \ufffe \u0378 \ue000 \U000e0001 \u202eright \u00adsoft",
    "unbrokenword" * 12,
    "0123456789" * 4 + " 3.14159 1,000,000 1990s 50% $5 #1",
    "... --- ``quoted'' \"yes\" 'no' (a)[b]{c}<d> a/b a_b a@b.c \u201chi\u201d \u2026 \u2014 !?!?!? '''",
    "don't we'll I'M O'Neil rock'n'roll e-mail U.S.A. iPhone \u2581low \u0120low ##ing",
)
"""Each is used as a context and as a question."""


_HARD_CHARACTERS = (
    "\t\n\r\v\x0c\x1c\x85\u00a0\u1680\u2003\u2028\u202f\u3000"
    "\x00\x01\x7f\u00ad\u200b\u200c\u200d\u2060\ufeff\ufffd\ufffe\u0378\ue000"
    "\u0301\u0327\u0345\u0640\u064e\u093c\u094d\u09be\u0e33\u0f71\u1161\u3099\uff9e\ufe0f\U0001f3fd"
    "\u00e9\u0130\u00df\u01c5\u0344\u03a3\u2126\u2581\u0120\u4e2d\uac00\ufb01\uff21\U0001f600\U00020000"
)


CHARACTER_TEXTS: Final = tuple(f"ab{one}c {one}{one} {one}d" for one in _HARD_CHARACTERS)
"""One hard character each, so that none hides another: a text with one may be tokenized in another way as a whole."""


_ADDED_TOKENS = 12


def added_token_texts(backend: Tokenizer) -> list[str]:
    """Make texts in which the first and the last added tokens of a tokenizer stand, also within words."""
    contents = [token.content for token in backend.get_added_tokens_decoder().values()]
    some = list(dict.fromkeys([*contents[:_ADDED_TOKENS], *contents[-_ADDED_TOKENS:]]))
    if not some:
        return []
    return [
        "".join(f"a {token} b{token}c " for token in some),
        "".join(some),
        some[0],
        " ".join(token[:-1] for token in some),
    ]
