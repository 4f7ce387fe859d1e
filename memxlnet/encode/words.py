"""Tokenizing texts word by word, each distinct word once.

A tokenizer that splits at blanks and whose normalizer looks at single characters gives each word the same tokens
wherever it stands. `splits_into_words` tells such tokenizers (XLNet's and BERT's are) from their parts; `WordTokenizer`
then looks words up instead of tokenizing them again, several times faster. Texts with any character for which that
does not hold for certain go through the tokenizer as they are. That both give the same is what the tests compare with
transformers, and what every build checks.
"""

import json
from itertools import compress, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from memxlnet.encode.tokens import Ints, TokenPool, bounds_of, concatenate, from_encodings, ragged_arange

_SEPARATORS = " \t\n\r"

# Beside printable ASCII: Latin letters, signs and common punctuation, small Greek letters, mathematical operators and
# Chinese characters. Each stands for itself: none is a blank, is invisible, or joins its neighbours to one grapheme (as
# marks, joiners and some letters of other scripts do).
_SAFE_RANGES = (
    (0x21, 0x7E),
    (0xA1, 0xAC),
    (0xAE, 0x24F),
    (0x3B1, 0x3C9),
    (0x1EA0, 0x1EF9),
    (0x2010, 0x2027),
    (0x2030, 0x205E),
    (0x20A0, 0x20BF),
    (0x2200, 0x22FF),
    (0x4E00, 0x9FFF),
)

# Character by character on such text: none looks beyond a blank, and none changes where the blanks are.
_LOCAL_NORMALIZERS = {"NFC", "NFD", "NFKC", "NFKD", "StripAccents", "Precompiled", "Lowercase", "BertNormalizer"}
_SPLITTING = {"WhitespaceSplit", "BertPreTokenizer"}
_WITHIN_WORDS = {"Punctuation", "Digits"}

MAX_WORDS = 200_000
"""Distinct words that are remembered, some 30 MB; beyond, they are forgotten and learned again."""

MAX_TOKENS = 1_000_000
"""Tokens of the words that are remembered: words may be long."""

_WORDS_PER_TEXT = 256


def splits_into_words(backend: Tokenizer) -> bool:
    """Whether a tokenizer's parts are known to treat every word of a text of safe characters alone."""
    content = [_state(part) for part in (backend.normalizer, backend.pre_tokenizer)]
    added = backend.get_added_tokens_decoder().values()
    if content[1] is None or any(token.normalized or any(map(str.isspace, token.content)) for token in added):
        return False
    # Byte fallback moves tokens beyond their word's characters; dropout is random.
    if getattr(backend.model, "byte_fallback", False) or getattr(backend.model, "dropout", None):
        return False
    splits = _parts(content[1], "pretokenizers")
    return (
        all(map(_is_local, _parts(content[0], "normalizers")))
        and [part["type"] in _SPLITTING for part in splits[:1]] == [True]
        and all(map(_is_within_words, splits[1:]))
        and _keeps_separators(backend)
    )


def _state(part: Any) -> Any:
    return None if part is None else json.loads(part.__getstate__())


def _parts(content: Any, key: str) -> list[dict[str, Any]]:
    if content is None:
        return []
    return [leaf for part in content[key] for leaf in _parts(part, key)] if content["type"] == "Sequence" else [content]


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


class _Numbers(dict[str, int]):
    """Words by the order in which they were first asked for; asking for a new one numbers it."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


class WordTokenizer:
    """Tokenizes texts, remembering the tokens of words.

    Args:
        backend: A Rust tokenizer that neither pads nor truncates and of which `splits_into_words` is true.
    """

    def __init__(self, backend: Tokenizer):
        self._backend = backend
        # A text with a character that begins an added token may hold one: it goes through the tokenizer whole.
        added = {token.content[0] for token in backend.get_added_tokens_decoder().values() if token.content}
        self._safe = _safe_characters(added)
        self._forget()

    def _forget(self) -> None:
        self._numbers = _Numbers()
        empty = np.zeros(0, np.int32)
        self._words = TokenPool(empty, empty, empty, np.zeros(1, np.int64))

    def tokenize(self, texts: list[str]) -> TokenPool:
        """The tokens of texts, exactly as the tokenizer gives them."""
        joined = "\n".join(texts)
        codes = _code_points(joined)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + 1  # a text and the line break behind it
        unsafe = np.flatnonzero(~self._safe[np.minimum(codes, len(self._safe) - 1)])
        by_words = np.ones(len(texts), bool)
        by_words[np.searchsorted(np.cumsum(lengths), unsafe, side="right")] = False
        if by_words.all():
            return self._by_words(joined, codes, lengths)
        fast = list(compress(texts, by_words))
        slow = list(compress(texts, ~by_words))
        kept = codes[np.repeat(by_words, lengths)[: len(codes)]]
        if not by_words[-1]:
            kept = kept[:-1]
        pools = concatenate(
            self._by_words("\n".join(fast), kept, lengths[by_words]), from_encodings(self._backend, slow)
        )
        place = np.empty(len(texts), np.int64)
        place[np.flatnonzero(by_words)] = np.arange(len(fast))
        place[np.flatnonzero(~by_words)] = np.arange(len(fast), len(texts))
        return pools.take(place) if fast and slow else pools

    def _by_words(self, joined: str, codes: NDArray[np.uint32], lengths: Ints) -> TokenPool:
        """The tokens of texts, joined by line breaks; `lengths` counts these in."""
        words = joined.split()
        at = _word_starts(codes)
        text_starts = bounds_of(lengths)
        numbers = self._look_up(words)
        counts = self._words.counts[numbers]
        source = ragged_arange(counts) + np.repeat(self._words.bounds[numbers], counts)
        text_of = np.searchsorted(text_starts, at, side="right") - 1
        shift = np.repeat(at - text_starts[text_of], counts).astype(np.int32)
        per_text = np.bincount(text_of, counts, len(lengths)).astype(np.int64)
        return TokenPool(
            self._words.ids[source],
            self._words.starts[source] + shift,
            self._words.stops[source] + shift,
            bounds_of(per_text),
        )

    def _look_up(self, words: list[str]) -> Ints:
        if len(self._numbers) > MAX_WORDS or len(self._words.ids) > MAX_TOKENS:
            self._forget()
        before = len(self._numbers)
        numbers = np.fromiter(map(self._numbers.__getitem__, words), np.int64, len(words))
        new = list(islice(self._numbers, before, None))
        if new:
            try:
                self._words = concatenate(self._words, self._learn(new))
            except BaseException:
                self._forget()
                raise
        return numbers

    def _learn(self, words: list[str]) -> TokenPool:
        """The tokens of new words: tokenized many to a text, which costs less than a text for each."""
        runs = [words[start : start + _WORDS_PER_TEXT] for start in range(0, len(words), _WORDS_PER_TEXT)]
        texts = [" ".join(run) for run in runs]
        pool = from_encodings(self._backend, texts)
        counts = np.zeros(len(words), np.int64)
        starts, stops = pool.starts.copy(), pool.stops.copy()
        for number, text in enumerate(texts):
            at = _word_starts(_code_points(text))
            tokens = slice(pool.bounds[number], pool.bounds[number + 1])
            word_of = np.searchsorted(at, pool.starts[tokens], side="right") - 1
            starts[tokens] -= at[word_of].astype(np.int32)
            stops[tokens] -= at[word_of].astype(np.int32)
            first = number * _WORDS_PER_TEXT
            counts[first : first + len(at)] = np.bincount(word_of, minlength=len(at))
        return TokenPool(pool.ids, starts, stops, bounds_of(counts))


def _safe_characters(added: set[str]) -> NDArray[np.bool_]:
    """bool[code points]: which characters a text may hold; the last entry stands for all beyond."""
    safe = np.zeros(max(last for _, last in _SAFE_RANGES) + 2, bool)
    for first, last in _SAFE_RANGES:
        safe[first : last + 1] = True
    safe[[ord(blank) for blank in _SEPARATORS]] = True
    safe[[ord(character) for character in added if ord(character) < len(safe)]] = False
    return safe


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.dtype("<u4"))


def _word_starts(codes: NDArray[np.uint32]) -> Ints:
    """int64[words]: where the words of a text of safe characters begin, from its code points."""
    begins = codes > ord(" ")
    begins[1:] &= codes[:-1] <= ord(" ")
    return np.flatnonzero(begins)
