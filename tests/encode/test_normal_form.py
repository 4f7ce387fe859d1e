"""The map from a normal form to the source, against the definition of a cluster applied character by character."""

import sys
import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memxlnet.encode import normal_form as module
from memxlnet.encode.normal_form import normal_form
from tests.support import slow

# Marks, Hangul in parts and whole, Indic vowels that compose, halfwidth letters, ligatures and signs that decompose.
HARD = (
    "ae b\u0301\u0323\u00e9\u1100\u1161\u11a8\uac00\uac01\u09c7\u09be\u09d7\u0dd9\u0dcf\u0dca\uffa1\uffc2"
    "\ufb01\u2460\u0f71\u0f73\u0340\U0001d15e\U0001d15f\U00011099\U000110ba\U0001f600\u4e2d\uf900"
)

texts = st.text(HARD, max_size=12) | st.text(st.characters(codec="utf-8"), max_size=12)


def by_definition(text: str) -> tuple[str, list[int], list[int]]:
    normal, starts, stops = "", [], []
    for start, stop in clusters(text):
        piece = unicodedata.normalize("NFKD", text[start:stop])
        normal += piece
        starts += [start] * len(piece)
        stops += [stop] * len(piece)
    return normal, starts, stops


def clusters(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for index in range(1, len(text) + 1):
        if index == len(text) or not joins(text[start:index], text[index]):
            yield start, index
            start = index


def joins(cluster: str, character: str) -> bool:
    if unicodedata.combining(unicodedata.normalize("NFKD", character)[0]):
        return True
    together = unicodedata.normalize("NFKC", cluster + character)
    return together != unicodedata.normalize("NFKC", cluster) + unicodedata.normalize("NFKC", character)


@given(texts)
@example("")
@example("\u0301a")
@example("\u1161\u1100\u1161\u11a8\u11a8")
def test_the_map_is_that_of_the_definition(text: str) -> None:
    found = normal_form(text)
    assert (found.text, list(found.starts), list(found.stops)) == by_definition(text)


def test_every_character_that_composes_is_known() -> None:
    """Over all characters of this Python's Unicode."""
    parts = [unicodedata.decomposition(chr(code)).split() for code in range(sys.maxunicode + 1)]
    pairs = {chr(int(part[1], 16)) for part in parts if len(part) == 2 and part[0][0] != "<"}
    assert pairs <= module._second_starters()


# Letters of most scripts; then Han and Hangul; then compatibility forms and the planes after the first.
@pytest.mark.parametrize("codes", [range(0x80, 0x3400), slow(range(0x3400, 0xD800)), slow(range(0xE000, 0x30000))])
def test_what_decomposes_to_no_such_character_begins_a_cluster_after_anything(codes: range) -> None:
    befores = ["a", "\u1100", "\uac00"]
    for code in codes:
        kind = module._kind(chr(code))
        if not kind.joins and not kind.may_compose:
            assert not any(joins(before, chr(code)) for before in befores), hex(code)


@pytest.mark.parametrize(
    "unit", ["caf\u00e9 ", "\u0915\u093f\u0924\u093e\u092c ", "\u1112\u1161\u11ab\u1100\u1173\u11af "]
)
def test_a_long_text_is_looked_at_without_a_call_for_each_character(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    class Counting:
        combining = staticmethod(unicodedata.combining)
        decomposition = staticmethod(unicodedata.decomposition)

        @staticmethod
        def normalize(form: str, text: str) -> str:
            nonlocal calls
            calls += 1
            return unicodedata.normalize(form, text)  # type: ignore[arg-type]

    normal_form("\u00e9")
    monkeypatch.setattr(module, "unicodedata", Counting)
    text = unit * 500
    found = normal_form(text)
    assert calls < 60
    assert (found.text, list(found.starts), list(found.stops)) == by_definition(text)
