"""The piece-by-piece path gives the tokens of the tokenizer itself, and knows where it may not be taken."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors

from memxlnet.encode import piece_tokenizer, unit_tokenizer
from memxlnet.encode.piece_tokenizer import PieceTokenizer, splits_into_pieces
from memxlnet.encode.token_pool import TokenPool, from_encodings
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.sources import open_source
from tests.styles import SPLIT_PATTERNS, make, roberta_style
from tests.support import SQUAD, need_real_data, slow_but, xquad

KINDS = {
    **{name: make(name) for name in ("roberta", "modernbert", "llama3", "qwen2")},
    "roberta-trimmed-alone": roberta_style(trim_offsets=True, add_prefix_space=False),
}
BACKENDS = {name: read_tokenizer(tokenizer).backend for name, tokenizer in KINDS.items()}

kinds = pytest.mark.parametrize("kind", BACKENDS)

SAFE = [chr(code) for code in np.flatnonzero(piece_tokenizer._stable_characters()[:-1]).tolist()]

# What patterns and normalizers are hard on: blanks of all kinds, contractions, digits, marks, what NFC changes or
# orders, what folds to ASCII, joiners, characters of other planes, newer scripts, controls.
ALPHABET = st.one_of(
    st.sampled_from(" \t\n\r"),
    st.sampled_from(" '''sStTrRevVElLdDmM"),
    st.sampled_from("\u00a0\u1680\u2003\u2028\u3000\u200b\u180e\x0b\x0c\x1c\x85\x00"),
    st.sampled_from("019\u0663\u0968\u00b2\u2460\u3007\u4e00"),
    st.sampled_from("a\u0301\u0327e\u0323\u0308\u212b\u0344\u1e9b\uac00\u1100\u1161\u11a8\ufb01\u0f73\u0915\u093c"),
    st.sampled_from("\u017f\u0149\ufb05\u212a\u0130\u00df\u1e9e\u2019"),
    st.sampled_from("\u200c\u200d\ufe0f\u00ad\U0001f468\U0001d400\U00020000\u1c90\u20c0\ua7f6"),
    st.sampled_from(SAFE),
    st.characters(exclude_categories=["Cs"]),
)
TEXTS = st.lists(
    st.text(st.sampled_from(" \n\t'sTre09,.ab\u00e9\u4e2d\u0627"), max_size=60) | st.text(ALPHABET, max_size=30),
    max_size=8,
)


def assert_equal(found: TokenPool, expected: TokenPool) -> None:
    for name, ours, theirs in zip(TokenPool._fields, found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs, name)


@kinds
@given(batches=st.lists(TEXTS, min_size=1, max_size=3))
def test_same_tokens_as_the_tokenizer(kind: str, batches: list[list[str]]) -> None:
    backend = BACKENDS[kind]
    tokenizer = PieceTokenizer(backend)
    for texts in batches:
        assert_equal(tokenizer.tokenize(texts), from_encodings(backend, texts))


@kinds
@pytest.mark.parametrize("step", [97, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_every_character_that_the_path_is_taken_for(kind: str, step: int) -> None:
    texts = [f"{c} a{c} {c}b '{c}a's{c}'{c}l1{c}23{c}{c}4 \t{c} \n{c}\r\n {c}{c}" for c in SAFE[::step]]
    assert_equal(PieceTokenizer(BACKENDS[kind]).tokenize(texts), from_encodings(BACKENDS[kind], texts))
    assert_equal(PieceTokenizer(BACKENDS[kind]).tokenize(SAFE[::step]), from_encodings(BACKENDS[kind], SAFE[::step]))


@pytest.mark.real_data
@pytest.mark.parametrize("kind", slow_but(["roberta", "qwen2"], BACKENDS))
@pytest.mark.parametrize("source", slow_but(["zh"], ["squad", "en", "ar", "zh", "hi"]))
def test_every_text_of_the_real_files(kind: str, source: str) -> None:
    need_real_data()
    rows = list(open_source(SQUAD if source == "squad" else xquad(source), "dev").rows())
    texts = list(dict.fromkeys(row[name] for row in rows for name in ("context", "question")))
    tokenizer = PieceTokenizer(BACKENDS[kind])
    for start in range(0, len(texts), 700):
        some = texts[start : start + 700]
        assert_equal(tokenizer.tokenize(some), from_encodings(BACKENDS[kind], some))


def _asked(backend: Tokenizer, texts: list[str]) -> list[str]:
    """The texts that are left to the tokenizer; all tokens are compared."""
    asked: list[str] = []

    class Recording:
        def __getattr__(self, name: str) -> Any:
            return getattr(backend, name)

        def encode_batch(self, some: list[str], **options: Any) -> Any:
            asked.extend(some)
            return backend.encode_batch(some, **options)

    tokenizer = PieceTokenizer(cast(Tokenizer, Recording()))
    assert_equal(tokenizer.tokenize(texts), from_encodings(backend, texts))
    return asked


@kinds
@pytest.mark.parametrize(
    "text", ["plain", "", " \n", "it's 2024, \u4e2d\u6587\u3002", "\u0645\u0631\u062d\u0628\u0627"]
)
def test_usual_texts_are_taken_apart(kind: str, text: str) -> None:
    assert _asked(BACKENDS[kind], [text]) == []


@kinds
@pytest.mark.parametrize("text", ["\x00", "a\x1cb", "\u017f", "\U0001f600", "'\u017f", "a <s> b", "\u1c90"])
def test_texts_that_may_differ_are_left_to_the_tokenizer(kind: str, text: str) -> None:
    assert _asked(BACKENDS[kind], [f"one {text} two", "one two"]) == [f"one {text} two"]


@pytest.mark.parametrize("text", ["e\u0301", "\u212b", "a\u0327\u0301", "\u1100\u1161"])
def test_a_text_that_the_normalizer_changes_is_left_to_the_tokenizer(text: str) -> None:
    assert _asked(BACKENDS["qwen2"], [text]) == [text]
    assert _asked(BACKENDS["llama3"], [text]) == []


def test_added_tokens_leave_texts_with_their_first_two_characters_to_the_tokenizer() -> None:
    backend = Tokenizer.from_str(BACKENDS["modernbert"].to_str())
    backend.add_tokens([AddedToken(" " * number, normalized=True) for number in range(2, 5)])
    backend.add_tokens(
        [AddedToken("\u20ac", normalized=False), AddedToken("xyz", lstrip=True, rstrip=True, single_word=True)]
    )
    apart = ["one two", "x y", "yx", "[one]"]
    left = ["one  two", "a\u20acb", " xyz ", "xya", "  ", "<s>", "one   two    three"]
    assert _asked(backend, [*apart, *left, "x", "yz"]) == left


def test_pieces_are_forgotten_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_tokenizer, "MAX_UNITS", 10)
    tokenizer = PieceTokenizer(BACKENDS["llama3"])
    for start in range(0, 100, 7):
        texts = [" ".join(f"w{chr(97 + number % 26)}\u00e9" for number in range(start, start + 9))]
        assert_equal(tokenizer.tokenize(texts), from_encodings(BACKENDS["llama3"], texts))
    assert len(tokenizer._numbers) <= 10 + 18


def test_a_failure_leaves_no_half_learned_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = PieceTokenizer(BACKENDS["llama3"])
    with monkeypatch.context() as patch:
        patch.setattr(tokenizer, "_learn", lambda new: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            tokenizer.tokenize(["one two"])
    assert_equal(tokenizer.tokenize(["one two"]), from_encodings(BACKENDS["llama3"], ["one two"]))


def _split(pattern: Any = SPLIT_PATTERNS["llama3"], behavior: str = "isolated", invert: bool = False) -> Any:
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(
        pattern if behavior == "text" else Regex(pattern), behavior.replace("text", "isolated")
    )
    if invert:
        split.invert = True
    return pre_tokenizers.Sequence([split, to_bytes])


PARTS: dict[str, Callable[[Tokenizer], Any]] = {
    "no pre-tokenizer": lambda b: setattr(b, "pre_tokenizer", None),
    "words": lambda b: setattr(b, "pre_tokenizer", pre_tokenizers.WhitespaceSplit()),
    "no bytes": lambda b: setattr(
        b, "pre_tokenizer", pre_tokenizers.Split(Regex(SPLIT_PATTERNS["llama3"]), "isolated")
    ),
    "a blank before": lambda b: setattr(b, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "no pieces": lambda b: setattr(b, "pre_tokenizer", pre_tokenizers.ByteLevel(False, use_regex=False)),
    "another pattern": lambda b: setattr(b, "pre_tokenizer", _split(r"\p{L}+")),
    "a text as pattern": lambda b: setattr(b, "pre_tokenizer", _split(SPLIT_PATTERNS["llama3"], "text")),
    "pieces removed": lambda b: setattr(b, "pre_tokenizer", _split(behavior="removed")),
    "inverted": lambda b: setattr(b, "pre_tokenizer", _split(invert=True)),
    "split twice": lambda b: setattr(b, "pre_tokenizer", pre_tokenizers.Sequence([pre_tokenizers.Digits(), _split()])),
    "lower case": lambda b: setattr(b, "normalizer", normalizers.Lowercase()),
    "NFKC": lambda b: setattr(b, "normalizer", normalizers.Sequence([normalizers.NFC(), normalizers.NFKC()])),
    "trimmed twice": lambda b: setattr(
        b, "post_processor", processors.Sequence([processors.ByteLevel(trim_offsets=True, add_prefix_space=False)] * 2)
    ),
    "trimmed less": lambda b: setattr(b, "post_processor", processors.ByteLevel(trim_offsets=True)),
    "dropout": lambda b: setattr(b.model, "dropout", 0.5),
    "a mark within words": lambda b: setattr(b.model, "continuing_subword_prefix", "##"),
    "a mark at ends": lambda b: setattr(b.model, "end_of_word_suffix", "</w>"),
    "normalized token": lambda b: b.add_tokens([AddedToken("\u212b", normalized=True)]),
}


@pytest.mark.parametrize("change", PARTS)
def test_tokenizers_that_look_beyond_a_piece_are_recognized(change: str) -> None:
    backend = Tokenizer.from_str(BACKENDS["llama3"].to_str())
    assert splits_into_pieces(backend)
    PARTS[change](backend)
    assert not splits_into_pieces(backend)


def test_a_vocabulary_without_some_byte_is_recognized() -> None:
    content = BACKENDS["llama3"].to_str().replace('"\u0100":', '"no byte":')
    assert not splits_into_pieces(Tokenizer.from_str(content))
