"""How a tokenizer lays a pair out in a row, and the tokenizer's content in the form in which a cache keeps it."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import Unigram

from memxlnet.encode.memory_tokens import check_fast, find_memory_tokens
from memxlnet.encode.special_tokens import read_cls, read_pad
from memxlnet.encode.token_pool import tokenizer_errors
from memxlnet.errors import TokenizerError
from memxlnet.format.row_layout import RowLayout


@dataclass(frozen=True)
class TokenizerContent:
    """A tokenizer as a cache keeps it: content only, no path, no state.

    Attributes:
        backend_json: The Rust tokenizer as JSON, padding and truncation cleared.
        layout: How it lays a pair out.
        vocabulary_size: Rows that a model's embedding must have.
    """

    backend_json: str
    layout: RowLayout
    vocabulary_size: int

    @cached_property
    def sha256(self) -> str:
        """The digest of `backend_json`, in hexadecimal."""
        return hashlib.sha256(self.backend_json.encode()).hexdigest()

    @cached_property
    def backend(self) -> Tokenizer:
        """The Rust tokenizer, in the state that the encoder needs: it neither pads nor truncates."""
        backend = Tokenizer.from_str(self.backend_json)
        backend.encode_special_tokens = self.layout.split_special_tokens
        return backend


def to_transformers(content: TokenizerContent) -> Any:
    """Return the `transformers.PreTrainedTokenizerFast` of a content: what `read_tokenizer` read, in another object."""
    import transformers  # takes a second, which no build needs

    layout = content.layout
    backend = Tokenizer.from_str(content.backend_json)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=backend.id_to_token(layout.pad_id),
        cls_token=backend.id_to_token(layout.cls_id),
        padding_side="left" if layout.pad_left else "right",
        truncation_side="right",
        split_special_tokens=layout.split_special_tokens,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    tokenizer._pad_token_type_id = layout.pad_type  # as the classes of transformers set it, which has no argument
    return tokenizer


def read_tokenizer(tokenizer: Any, insert_memory_tokens: bool = True) -> TokenizerContent:
    """Read content and row layout off a transformers fast tokenizer, which stays as it is.

    Args:
        tokenizer: A transformers fast tokenizer with pair support.
        insert_memory_tokens: False leaves memory tokens out of the rows even where the tokenizer has them.

    Raises:
        TokenizerError: It is slow, has no pad or cls token, truncates on the left, or its rows cannot be assembled
            from the two texts tokenized alone.
    """
    check_fast(tokenizer)
    backend, backend_json = _copy_backend(tokenizer)
    pad_id = read_pad(tokenizer)
    if tokenizer.truncation_side != "right":
        raise TokenizerError(
            f"tokenizer: expected truncation_side 'right', found {tokenizer.truncation_side!r}; windows are cut from "
            "the left to the right, set tokenizer.truncation_side = 'right'"
        )
    if tokenizer.padding_side not in ("left", "right"):
        raise TokenizerError(f"tokenizer: expected padding_side 'left' or 'right', found {tokenizer.padding_side!r}")
    pad_left = tokenizer.padding_side == "left"
    added = backend.get_added_tokens_decoder()
    reads, writes = find_memory_tokens({token.content: token_id for token_id, token in added.items()})
    if not insert_memory_tokens:
        reads, writes = (), ()
    template = _template(backend)
    cls = read_cls(tokenizer, template["prefix"], template["middle"], template["suffix"])
    layout = RowLayout(
        context_first=pad_left,
        pad_left=pad_left,
        pad_id=pad_id,
        pad_type=int(tokenizer.pad_token_type_id),
        cls_id=cls.token_id,
        cls_last=cls.is_last,
        memory_read_ids=reads,
        memory_write_ids=writes,
        split_special_tokens=bool(getattr(tokenizer, "split_special_tokens", False)),
        **template,
    )
    highest = _highest_id(backend, added)
    backend.encode_special_tokens = layout.split_special_tokens
    content = TokenizerContent(backend_json, layout, highest + 1)
    content.__dict__["backend"] = backend  # parsed once: a vocabulary takes 60 ms
    return content


def _highest_id(backend: Tokenizer, added: Iterable[int]) -> int:
    """Return the largest id: a vocabulary may have gaps, and an embedding needs a row for each id."""
    size = backend.get_vocab_size(with_added_tokens=False)
    # Where all ids below the size are taken there is no other. Making the dictionary of all pieces takes far longer.
    dense = isinstance(backend.model, Unigram) or None not in map(backend.model.id_to_token, range(size))
    model_ids = (size - 1,) if dense else backend.get_vocab(with_added_tokens=False).values()
    return int(max(0, *added, *model_ids))


def _copy_backend(tokenizer: Any) -> tuple[Tokenizer, str]:
    """Return a copy of the backend without the padding and truncation that transformers leaves set; and its JSON."""
    original = tokenizer.backend_tokenizer
    try:
        backend = _with_shared_model(original)
        if _added_tokens(backend) != _added_tokens(original):
            backend = Tokenizer.from_str(original.to_str())
            backend.no_padding()
            backend.no_truncation()
        # Once and no more: writing a large vocabulary takes as long as tokenizing a small data set.
        backend_json = backend.to_str()
    except Exception as error:
        raise TokenizerError(
            f"tokenizer: cannot be written as tokenizer.json: {error}; parts written in Python cannot be cached"
        ) from error
    if backend.post_processor is not None:
        _refuse_window_dependent_offsets(json.loads(backend.post_processor.__getstate__()))
    return backend, backend_json


def _with_shared_model(original: Tokenizer) -> Tokenizer:
    """Return a tokenizer of the same parts and added tokens; it saves parsing the vocabulary, which takes 40 ms."""
    backend = Tokenizer(original.model)
    for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        if getattr(original, name) is not None:
            setattr(backend, name, getattr(original, name))
    # One call for all: each call reads all added tokens of the tokenizer once more. Each keeps its own `special`.
    backend.add_tokens([token for _, token in sorted(original.get_added_tokens_decoder().items())])
    return backend


def _added_tokens(backend: Tokenizer) -> dict[int, str]:
    """Return the added tokens with their flags, by id: all that differs in copies that share parts and model."""
    return {token_id: repr(token) for token_id, token in backend.get_added_tokens_decoder().items()}


def _refuse_window_dependent_offsets(processor: Any) -> None:
    """Refuse a post-processor whose offsets depend on where a window begins.

    With ``trim_offsets`` and ``add_prefix_space`` both on, `tokenizers` takes one blank less off the first token of
    every window, so that one token has different offsets in different segments.
    """
    if not isinstance(processor, dict):
        return
    for part in processor.get("processors", ()):
        _refuse_window_dependent_offsets(part)
    if processor.get("trim_offsets") and processor.get("add_prefix_space"):
        raise TokenizerError(
            f"tokenizer: expected offsets that do not depend on the window, found a {processor.get('type')} "
            "post-processor with trim_offsets and add_prefix_space; set tokenizer.backend_tokenizer.post_processor to "
            "one without the second, such as tokenizers.processors.RobertaProcessing(sep, cls, add_prefix_space=False)"
        )


_LARGEST_TYPE = 127
"""Segment ids are int8."""


def _has(backend: Tokenizer, token_id: int) -> bool:
    return backend.id_to_token(token_id) is not None


_PROBES = ("a", "the", "0", ".", "\u4e2d")


def _template(backend: Tokenizer) -> dict[str, Any]:
    """Read the template of a pair off an encoded one: the special tokens around the texts, and all segment ids."""
    for probe in _PROBES:
        with tokenizer_errors(f"tokenizer: it failed on the pair of texts {probe!r}, {probe!r}"):
            encoding = backend.encode(probe, probe)
        sides: list[int | None] = encoding.sequence_ids
        if any(side is not None and side > 1 for side in sides):
            raise TokenizerError(
                f"tokenizer: expected sequence ids 0 and 1 for a pair of texts, found {sides}: a post-processor after "
                "the template counts each of its parts as a text; put the template last in "
                "tokenizer.backend_tokenizer.post_processor (tokenizers.processors.Sequence)"
            )
        if 0 in sides and 1 in sides:
            break
    else:
        raise TokenizerError("tokenizer: expected tokens for a pair of texts, found none for any probe; is it trained?")
    first, second = sides.index(0), sides.index(1)
    first_stop, second_stop = first + sides.count(0), second + sides.count(1)
    if sides != [None] * first + [0] * (first_stop - first) + [None] * (second - first_stop) + [1] * (
        second_stop - second
    ) + [None] * (len(sides) - second_stop):
        raise TokenizerError(f"tokenizer: expected a pair as first text, then second text, found the order {sides}")
    ids, types = tuple(encoding.ids), tuple(encoding.type_ids)
    beyond = [kind for kind in types if kind > _LARGEST_TYPE]
    if beyond:
        raise TokenizerError(
            f"tokenizer: expected segment ids of at most {_LARGEST_TYPE} in the template of a pair, found {beyond[0]}; "
            "set tokenizer.backend_tokenizer.post_processor to a template with smaller ones"
        )
    unknown = [
        token_id for token_id, side in zip(ids, sides, strict=True) if side is None and not _has(backend, token_id)
    ]
    if unknown:
        raise TokenizerError(
            f"tokenizer: expected tokens of the vocabulary in the template of a pair, found the id {unknown[0]}, "
            "which no token has; set tokenizer.backend_tokenizer.post_processor to a template with the right ids"
        )
    return {
        "prefix": ids[:first],
        "middle": ids[first_stop:second],
        "suffix": ids[second_stop:],
        "prefix_types": types[:first],
        "middle_types": types[first_stop:second],
        "suffix_types": types[second_stop:],
        "first_type": types[first],
        "second_type": types[second],
    }
