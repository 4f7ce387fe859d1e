"""Tokenizing texts unit by unit (words, or pieces of a pattern), each distinct unit once.

Some tokenizers cut a text into units first and give each unit the same tokens wherever it stands. A `UnitTokenizer`
looks such units up instead of tokenizing them again, several times faster. Texts for which that does not hold for
certain go through the tokenizer as they are. That both give the same is what the tests compare with transformers, and
what every build checks.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import compress, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer

from memxlnet.encode.token_pool import TokenPool, concatenate, from_encodings
from memxlnet.format.ragged import Ints, bounds_of, ragged_arange

MAX_UNITS = 200_000
"""Distinct units that are remembered, some 30 MB; beyond, they are forgotten and learned again."""

MAX_TOKENS = 1_000_000
"""Tokens of the units that are remembered: units may be long."""

UNITS_PER_TEXT = 256
"""New units that are tokenized as one text, which costs less than a text for each."""

_CODE_POINTS = 0x110000


class Units(NamedTuple):
    """The units of some texts, end to end.

    Attributes:
        units: Their texts.
        starts: int64[units], first character of each in its text.
        counts: int64[texts], number of units of each text.
    """

    units: list[str]
    starts: Ints
    counts: Ints


class _Numbers(dict[str, int]):
    """Units by the order in which they were first asked for; asking for a new one numbers it."""

    def __missing__(self, unit: str) -> int:
        number = self[unit] = len(self)
        return number


class UnitTokenizer(ABC):
    """Tokenizes texts, remembering the tokens of units.

    Args:
        backend: A Rust tokenizer that neither pads nor truncates.
        safe: bool[code points]: the characters of texts that are split; the last entry stands for all beyond.
    """

    def __init__(self, backend: Tokenizer, safe: NDArray[np.bool_]):
        self._backend = backend
        self._safe = safe
        self._added = _AddedTokens(backend.get_added_tokens_decoder().values())
        self._forget()

    @abstractmethod
    def _split(self, texts: list[str]) -> Units:
        """Split texts that `_are_safe` accepts."""

    @abstractmethod
    def _learn(self, units: list[str]) -> TokenPool:
        """Return the tokens of new units."""

    def _are_safe(self, texts: list[str]) -> NDArray[np.bool_]:
        """Return bool[texts]: whether a text can be split. It holds safe characters alone and no added token."""
        codes = code_points("\n".join(texts))
        unsafe = self._are_unsafe(codes)
        self._added.mark(codes, unsafe)
        found = np.ones(len(texts), bool)
        stops = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)  # each with the line break after it
        found[np.searchsorted(stops, np.flatnonzero(unsafe), side="right")] = False
        return found

    def _are_unsafe(self, codes: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Return bool[characters]: those that keep a text from being split."""
        unsafe: NDArray[np.bool_] = ~self._safe[np.minimum(codes, len(self._safe) - 1)]
        return unsafe

    def _forget(self) -> None:
        self._numbers = _Numbers()
        empty = np.zeros(0, np.int32)
        self._known = TokenPool(empty, empty, empty, np.zeros(1, np.int64))

    def tokenize(self, texts: list[str]) -> TokenPool:
        """Return the tokens of texts, exactly as the tokenizer gives them."""
        by_units = self._are_safe(texts)
        if by_units.all():
            return self._by_units(texts)
        pools = concatenate(
            self._by_units(list(compress(texts, by_units))),
            from_encodings(self._backend, list(compress(texts, ~by_units))),
        )
        place = np.empty(len(texts), np.int64)
        place[np.argsort(~by_units, kind="stable")] = np.arange(len(texts))
        return pools.take(place) if by_units.any() else pools

    def _by_units(self, texts: list[str]) -> TokenPool:
        units, starts, per_text = self._split(texts)
        numbers = self._look_up(units)
        counts = self._known.counts[numbers]
        source = ragged_arange(counts) + np.repeat(self._known.bounds[numbers], counts)
        shift = np.repeat(starts, counts).astype(np.int32)
        return TokenPool(
            self._known.ids[source],
            self._known.starts[source] + shift,
            self._known.stops[source] + shift,
            bounds_of(counts)[bounds_of(per_text)],
        )

    def _look_up(self, units: list[str]) -> Ints:
        if len(self._numbers) > MAX_UNITS or len(self._known.ids) > MAX_TOKENS:
            self._forget()
        before = len(self._numbers)
        numbers = np.fromiter(map(self._numbers.__getitem__, units), np.int64, len(units))
        new = list(islice(self._numbers, before, None))
        if new:
            try:
                self._known = concatenate(self._known, self._learn(new))
            except BaseException:
                self._forget()
                raise
        return numbers


class _AddedTokens:
    """Where an added token may stand in a text: wherever its first two characters do."""

    def __init__(self, added: Iterable[AddedToken]):
        contents = [token.content for token in added if token.content]
        self._begins = np.zeros(_CODE_POINTS, bool)
        self._begins[[ord(content[0]) for content in contents]] = True
        self._single = np.array(sorted({ord(content) for content in contents if len(content) == 1}), np.int64)
        pairs = {_CODE_POINTS * ord(content[0]) + ord(content[1]) for content in contents if len(content) > 1}
        self._pairs = np.array(sorted(pairs), np.int64)

    def mark(self, codes: NDArray[np.uint32], found: NDArray[np.bool_]) -> None:
        """Set `found` to true where a token may begin."""
        at = np.flatnonzero(self._begins[codes])
        first = codes[at].astype(np.int64)
        second = codes[np.minimum(at + 1, len(codes) - 1)]
        found[at] |= np.isin(first, self._single) | np.isin(_CODE_POINTS * first + second, self._pairs)


def parts(part: Any, key: str) -> list[dict[str, Any]]:
    """Return the state of a tokenizer's part, or of the parts that its sequence holds under `key`; empty for None."""
    return [] if part is None else _leaves(json.loads(part.__getstate__()), key)


def _leaves(content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    if content["type"] != "Sequence":
        return [content]
    return [leaf for part in content[key] for leaf in _leaves(part, key)]


def runs_of(units: list[str]) -> list[list[str]]:
    """Return the units in runs of `UNITS_PER_TEXT`."""
    return [units[start : start + UNITS_PER_TEXT] for start in range(0, len(units), UNITS_PER_TEXT)]


def code_points(text: str) -> NDArray[np.uint32]:
    """Return uint32[characters]; the text must not hold half of a surrogate pair."""
    return np.frombuffer(text.encode("utf-32-le"), np.dtype("<u4"))
