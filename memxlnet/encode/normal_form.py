"""The Unicode normal form (NFKD) of a text, with a map back to the characters of the source."""

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memxlnet.encode.unit_tokenizer import code_points

NORMAL_FORM: Final = "NFKD"

_COMPOSITES = (range(0x3400), range(0xF900, 0x20000))
"""Where all characters are that are composed of two, except syllables of Hangul: 20 ms to look at."""

_HANGUL_VOWELS, _HANGUL_FINALS = range(0x1161, 0x1176), range(0x11A8, 0x11C3)


class NormalForm(NamedTuple):
    """A normal form and its map.

    A cluster is a starter with the combining marks after it and whatever composes with it: reordering and composition
    stay within one, so its normal form is found alone.

    Attributes:
        text: The normal form.
        starts: int[characters of it], first character of the cluster of each in the source.
        stops: int[characters of it], one after the last character of that cluster.
    """

    text: str
    starts: Sequence[int] | NDArray[np.int32]
    stops: Sequence[int] | NDArray[np.int32]


def normal_form(text: str) -> NormalForm:
    """Normalize a text; linear in its length, without a step of Python for each character."""
    if text.isascii():
        return NormalForm(text, range(len(text)), range(1, len(text) + 1))
    begins, lengths = _clusters(text)
    firsts = np.flatnonzero(begins).astype(np.int32)
    sizes = np.add.reduceat(lengths, firsts)  # characters of the normal form of each cluster
    stops = np.append(firsts[1:], np.int32(len(text)))
    return NormalForm(unicodedata.normalize(NORMAL_FORM, text), np.repeat(firsts, sizes), np.repeat(stops, sizes))


def _clusters(text: str) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return what the map is made from.

    Returns:
        bool[characters], whether a cluster begins with each; and int64[characters], how many characters its normal
        form has.
    """
    codes = code_points(text)
    begins, lengths = np.ones(len(text), bool), np.ones(len(text), np.int64)
    places = np.flatnonzero(codes >= 0x80)
    distinct, kind_of = np.unique(codes[places], return_inverse=True)
    kinds = [_kind(chr(code)) for code in distinct.tolist()]
    lengths[places] = np.array([kind.length for kind in kinds])[kind_of]
    begins[places] = ~np.array([kind.joins for kind in kinds])[kind_of]
    begins[:1] = True
    # Few characters depend on what is before them, which the characters before may have joined.
    for place in places[np.array([kind.may_compose for kind in kinds])[kind_of]].tolist():
        start = place - 1
        while start > 0 and not begins[start]:
            start -= 1
        begins[place] = place == 0 or not _composes(text[start:place], text[place])
    return begins, lengths


class _Kind(NamedTuple):
    """What is known of a character wherever it stands.

    Attributes:
        length: Characters of its normal form.
        joins: Whether it always belongs to the cluster before it: combining marks do, also those that show only when
            decomposed.
        may_compose: Whether it may compose with the cluster before it: the vowels and final consonants of Hangul, some
            vowel signs of Indic scripts (Unicode Standard Annex 15, section 9).
    """

    length: int
    joins: bool
    may_compose: bool


@lru_cache(1 << 16)
def _kind(character: str) -> _Kind:
    normal = unicodedata.normalize(NORMAL_FORM, character)
    joins = unicodedata.combining(normal[0]) > 0
    return _Kind(len(normal), joins, not joins and normal[0] in _second_starters())


@cache
def _second_starters() -> frozenset[str]:
    """Return the characters that are not combining marks and compose with one before them, and perhaps others."""
    found = set(map(chr, (*_HANGUL_VOWELS, *_HANGUL_FINALS)))
    for code in chain(*_COMPOSITES):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and parts[0][0] != "<":
            found.add(chr(int(parts[1], 16)))
    return frozenset(found)


@lru_cache(1 << 12)
def _composes(cluster: str, character: str) -> bool:
    together = unicodedata.normalize("NFKC", cluster + character)
    return together != unicodedata.normalize("NFKC", cluster) + unicodedata.normalize("NFKC", character)
