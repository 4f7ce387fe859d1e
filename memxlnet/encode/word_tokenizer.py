"""Tokenizing texts word by word.

A tokenizer that splits at blanks and whose normalizer looks at single characters gives each word the same tokens
wherever it stands. `splits_into_words` recognizes such tokenizers (XLNet's and BERT's are) by their parts.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from memxlnet.encode.token_pool import TokenPool, from_encodings
from memxlnet.encode.unit_tokenizer import UNITS_PER_TEXT, Units, UnitTokenizer, code_points, parts, runs_of
from memxlnet.format.ragged import Ints, bounds_of

_SEPARATORS = " \t\n\r"

# Besides printable ASCII: Latin letters, signs and common punctuation, small Greek, Cyrillic and Arabic letters,
# mathematical operators and Chinese characters. Each stands for itself: none is a blank, is invisible, or joins its
# neighbours to one grapheme (as marks, joiners and some letters of other scripts do).
_SAFE_RANGES = (
    (0x21, 0x7E),
    (0xA1, 0xAC),
    (0xAE, 0x24F),
    (0x3B1, 0x3C9),
    (0x410, 0x44F),
    (0x60C, 0x60C),
    (0x61B, 0x61B),
    (0x61F, 0x61F),
    (0x621, 0x64A),
    (0x660, 0x669),
    (0x1EA0, 0x1EF9),
    (0x2010, 0x2027),
    (0x2030, 0x205E),
    (0x20A0, 0x20BF),
    (0x2200, 0x22FF),
    (0x4E00, 0x9FFF),
)

# Arabic vowel signs join the letter before them, of whose word they are; after a blank they would join the blank.
_MARKS = (0x64B, 0x652)

# Character by character on such text: none looks beyond a blank, and none changes where the blanks are.
_LOCAL_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD", "StripAccents", "Precompiled", "Lowercase", "BertNormalizer"}
_PLAIN_TEMPLATES = {"TemplateProcessing", "BertProcessing"}
_SPLITTING = {"WhitespaceSplit", "BertPreTokenizer"}
_WITHIN_WORDS = {"Punctuation", "Digits"}


def splits_into_words(backend: Tokenizer) -> bool:
    """Return whether a tokenizer's parts are known to treat every word of a text of safe characters alone."""
    splits = parts(backend.pre_tokenizer, "pretokenizers")
    added = backend.get_added_tokens_decoder().values()
    if not splits or any(token.normalized or any(map(str.isspace, token.content)) for token in added):
        return False
    # Byte fallback moves tokens beyond their word's characters; dropout is random.
    if getattr(backend.model, "byte_fallback", False) or getattr(backend.model, "dropout", None):
        return False
    # Other post-processors trim offsets by what a token looks like, which depends on where it was met first.
    if any(part["type"] not in _PLAIN_TEMPLATES for part in parts(backend.post_processor, "processors")):
        return False
    return (
        all(map(_is_local, parts(backend.normalizer, "normalizers")))
        and splits[0]["type"] in _SPLITTING
        and all(map(_is_within_words, splits[1:]))
        and _keeps_separators(backend)
    )


def _is_local(part: dict[str, Any]) -> bool:
    if part["type"] == "Replace":
        pattern = part["pattern"].get("String")
        return bool(pattern) and not any(character.isspace() for character in pattern)
    return part["type"] in _LOCAL_NORMALIZERS


def _is_within_words(part: dict[str, Any]) -> bool:
    if part["type"] == "Metaspace":
        return bool(part.get("prepend_scheme") == "always")
    return part["type"] in _WITHIN_WORDS


def _keeps_separators(backend: Tokenizer) -> bool:
    normalizer = backend.normalizer
    if normalizer is None:
        return True
    return all(normalizer.normalize_str(f"a{blank}b").split() == ["a", "b"] for blank in _SEPARATORS)


class WordTokenizer(UnitTokenizer):
    """Tokenizes texts, remembering the tokens of words.

    Args:
        backend: A Rust tokenizer that neither pads nor truncates and of which `splits_into_words` is true.
    """

    def __init__(self, backend: Tokenizer):
        super().__init__(backend, _safe_characters())

    def _are_unsafe(self, codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
        unsafe = super()._are_unsafe(codes)
        marks = np.flatnonzero((codes >= _MARKS[0]) & (codes <= _MARKS[1]))
        unsafe[marks] = (marks == 0) | (codes[marks - 1] <= ord(" "))
        return unsafe

    def _split(self, texts: list[str]) -> Units:
        joined = "\n".join(texts)
        at = _word_starts(code_points(joined))
        text_starts = bounds_of(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)
        text_of = np.searchsorted(text_starts, at, side="right") - 1
        return Units(joined.split(), at - text_starts[text_of], np.bincount(text_of, minlength=len(texts)))

    def _learn(self, units: list[str]) -> TokenPool:
        texts = list(map(" ".join, runs_of(units)))
        pool = from_encodings(self._backend, texts)
        counts = np.zeros(len(units), np.int64)
        starts, stops = pool.starts.copy(), pool.stops.copy()
        for number, text in enumerate(texts):
            at = _word_starts(code_points(text))
            tokens = slice(pool.bounds[number], pool.bounds[number + 1])
            word_of = np.searchsorted(at, pool.starts[tokens], side="right") - 1
            starts[tokens] -= at[word_of].astype(np.int32)
            stops[tokens] -= at[word_of].astype(np.int32)
            first = number * UNITS_PER_TEXT
            counts[first : first + len(at)] = np.bincount(word_of, minlength=len(at))
        return TokenPool(pool.ids, starts, stops, bounds_of(counts))


def _safe_characters() -> NDArray[np.bool_]:
    safe = np.zeros(max(last for _, last in _SAFE_RANGES) + 2, bool)
    for first, last in _SAFE_RANGES:
        safe[first : last + 1] = True
    safe[[ord(blank) for blank in _SEPARATORS]] = True
    return safe


def _word_starts(codes: NDArray[np.uint32]) -> Ints:
    """Return int64[words]: where the words of a text of safe characters begin, from its code points."""
    begins = codes > ord(" ")
    begins[1:] &= codes[:-1] <= ord(" ")
    return np.flatnonzero(begins)
