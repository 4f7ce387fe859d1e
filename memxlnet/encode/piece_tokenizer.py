"""Tokenizing texts piece by piece.

Byte-level BPE cuts a text into pieces by a pattern and merges within each piece alone: the same piece has the same
tokens wherever it stands. `splits_into_pieces` recognizes such tokenizers by their parts: the patterns are those of
GPT-2 (RoBERTa's and ModernBERT's too), Llama 3 and Qwen 2. The pieces are found by Python's `re`, several times faster
than in the tokenizer, on characters whose class no Unicode version since 3.2 has changed.
"""

import re
import unicodedata
from functools import cache
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE

from memxlnet.encode.token_pool import TokenPool
from memxlnet.encode.unit_tokenizer import Units, UnitTokenizer, parts, runs_of
from memxlnet.errors import TokenizerError
from memxlnet.format.ragged import bounds_of

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace("{1,3}", "")

# Each takes every character, so that pieces lie end to end.
_PATTERNS = {_GPT2, _LLAMA3, _QWEN2}

_BLANKS = "\t\n\r"
_LEFT_OUT = {"Cc", "Cn", "Co", "Cs"}  # controls, unassigned, private and half characters
_FOLDED = "\u017f"  # a long s, which is an s where case is ignored

_POST_PROCESSORS = {"ByteLevel", "RobertaProcessing", "BertProcessing", "TemplateProcessing"}


class _Rules(NamedTuple):
    """How a tokenizer makes pieces and offsets."""

    pattern: str
    normalizes: bool
    trims: bool


def splits_into_pieces(backend: Tokenizer) -> bool:
    """Return whether a tokenizer's parts are known to treat every piece of a text of safe characters alone."""
    return _rules(backend) is not None


def _rules(backend: Tokenizer) -> _Rules | None:
    pattern = _pattern(backend)
    normalizers = {part["type"] for part in parts(backend.normalizer, "normalizers")}
    if pattern is None or not normalizers <= {"NFC"} or not _merges_bytes(backend):
        return None
    processors = parts(backend.post_processor, "processors")
    trimming = [part for part in processors if part.get("trim_offsets")]
    if not {part["type"] for part in processors} <= _POST_PROCESSORS or len(trimming) > 1:
        return None
    # NFC leaves the texts that are split as they are; a token's content only where it is ASCII.
    added = backend.get_added_tokens_decoder().values()
    if any(part["add_prefix_space"] for part in trimming) or any(
        t.normalized and not t.content.isascii() for t in added
    ):
        return None
    return _Rules(pattern, bool(normalizers), bool(trimming))


def _pattern(backend: Tokenizer) -> str | None:
    """Return the pattern that cuts a text into pieces, before bytes become characters and nothing else happens."""
    *before, last = parts(backend.pre_tokenizer, "pretokenizers") or [{"type": ""}]
    if last["type"] != "ByteLevel" or last["add_prefix_space"] or last["use_regex"] == bool(before):
        return None
    if not before:
        return _GPT2
    pattern: str = before[0].get("pattern", {}).get("Regex", "")
    is_split = len(before) == 1 and before[0]["type"] == "Split"
    if is_split and before[0]["behavior"] == "Isolated" and not before[0]["invert"] and pattern in _PATTERNS:
        return pattern
    return None


def _merges_bytes(backend: Tokenizer) -> bool:
    """Return whether the model gives every byte to one token, without chance or own marks."""
    model = backend.model
    return (
        isinstance(model, BPE)
        and not (model.dropout or model.continuing_subword_prefix or model.end_of_word_suffix or model.byte_fallback)
        and None not in map(model.token_to_id, pre_tokenizers.ByteLevel.alphabet())
    )


class PieceTokenizer(UnitTokenizer):
    """Tokenizes texts, remembering the tokens of pieces.

    Args:
        backend: A Rust tokenizer that neither pads nor truncates and of which `splits_into_pieces` is true.
    """

    def __init__(self, backend: Tokenizer):
        super().__init__(backend, _stable_characters())
        rules = _rules(backend)
        if rules is None:
            raise TokenizerError("tokenizer: expected byte-level BPE that splits by a known pattern, found another")
        self._rules = rules
        self._find = re.compile(_translated(rules.pattern)).findall
        # The model alone, over pieces whose bytes are characters already, with blanks between them.
        self._merging = Tokenizer(backend.model)
        self._merging.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self._shapes = np.zeros((0, 3), np.int32)

    def _are_safe(self, texts: list[str]) -> NDArray[np.bool_]:
        safe = super()._are_safe(texts)
        if self._rules.normalizes:
            safe &= np.array([unicodedata.is_normalized("NFC", text) for text in texts], bool)
        return safe

    def _split(self, texts: list[str]) -> Units:
        found = list(map(self._find, texts))
        pieces = list(chain.from_iterable(found))
        bounds = bounds_of(np.fromiter(map(len, pieces), np.int64, len(pieces)))
        counts = np.fromiter(map(len, found), np.int64, len(found))
        return Units(pieces, bounds[:-1] - np.repeat(bounds[bounds_of(counts)[:-1]], counts), counts)

    def _learn(self, units: list[str]) -> TokenPool:
        runs = ("\0".join(run).encode().decode("latin-1").translate(_byte_characters()) for run in runs_of(units))
        encodings = self._merging.encode_batch_fast(list(runs), add_special_tokens=False)
        ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), np.int32, sum(map(len, encodings)))
        num_bytes, leading, trailing = self._shapes_of(ids).T
        data = np.frombuffer("".join(units).encode(), np.uint8)
        token_bounds = bounds_of(num_bytes)
        if token_bounds[-1] != len(data):
            raise TokenizerError(f"tokenizer: expected tokens of {len(data)} bytes, found {token_bounds[-1]}")
        character_of = np.cumsum(data & 0xC0 != 0x80) - 1  # of each byte: a continuation begins with the bits 10
        starts, stops = character_of[token_bounds[:-1]], character_of[token_bounds[1:] - 1] + 1
        unit_bounds = bounds_of(np.fromiter(map(len, units), np.int64, len(units)))
        unit_of = np.searchsorted(unit_bounds, starts, side="right") - 1
        if self._rules.trims:
            starts = np.minimum(starts + leading, stops)
            stops = np.maximum(stops - trailing, starts)
        shift = unit_bounds[unit_of]
        return TokenPool(
            ids,
            (starts - shift).astype(np.int32),
            (stops - shift).astype(np.int32),
            bounds_of(np.bincount(unit_of, minlength=len(units))),
        )

    def _shapes_of(self, ids: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return int32[tokens, 3]: number of bytes, of blanks among them at the start, and at the end."""
        distinct = np.unique(ids)
        if distinct[-1] >= len(self._shapes):
            larger = np.zeros((int(distinct[-1]) + 1, 3), np.int32)
            larger[: len(self._shapes)] = self._shapes
            self._shapes = larger
        blank = _byte_characters()[ord(" ")]
        new = distinct[self._shapes[distinct, 0] == 0].tolist()
        for number in new:
            token = str(self._merging.id_to_token(number))
            length = len(token)
            self._shapes[number] = length, length - len(token.lstrip(blank)), length - len(token.rstrip(blank))
        return self._shapes[ids]


@cache
def _byte_characters() -> dict[int, str]:
    """Return the character that byte-level BPE has for each byte; a blank for NUL, which parts pieces."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    found = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return found | {0: " "}


@cache
def _stable_categories() -> dict[str, list[int]]:
    """Return the characters of each general category that had it in Unicode 3.2 already."""
    found: dict[str, list[int]] = {}
    for code in range(0x10000):
        category = unicodedata.category(chr(code))
        if category not in _LEFT_OUT and category == unicodedata.ucd_3_2_0.category(chr(code)):
            found.setdefault(category, []).append(code)
    return found


@cache
def _stable_characters() -> NDArray[np.bool_]:
    safe = np.zeros(0x10001, bool)
    safe[list(chain.from_iterable(_stable_categories().values()))] = True
    safe[[ord(blank) for blank in _BLANKS]] = True
    safe[ord(_FOLDED)] = False
    return safe


def _translated(pattern: str) -> str:
    """Return a pattern in the syntax of `re`: with ranges of stable characters for classes."""
    for name in "LN":
        ranges = _ranges(name)
        pattern = re.sub(rf"(\[[^\]]*)\\p{{{name}}}", lambda match: match[1] + ranges, pattern)  # noqa: B023
        pattern = pattern.replace(rf"\p{{{name}}}", f"[{ranges}]")
    return pattern


@cache
def _ranges(name: str) -> str:
    """Return the stable characters of the categories of one letter, as ranges of a set in `re`."""
    codes = np.array(sorted(chain.from_iterable(v for k, v in _stable_categories().items() if k[0] == name)))
    gaps = np.flatnonzero(np.diff(codes) > 1)
    firsts, lasts = codes[np.append(0, gaps + 1)], codes[np.append(gaps, -1)]
    return "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in zip(firsts, lasts, strict=True))
