"""Texts tokenized word by word have the tokens that they have whole, and what may differ is left to the tokenizer."""

import json
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram, WordLevel, WordPiece

from memxlnet.encode import unit_tokenizer, word_tokenizer
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.encode.token_pool import TokenPool, concatenate, from_encodings
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.encode.word_tokenizer import WordTokenizer, splits_into_words
from tests.encode.oracle import fragments
from tests.styles import WORDS, make
from tests.support import SQUAD, in_quarters, slow_but

Parts = Any


def backend(name: str) -> Tokenizer:
    found: Tokenizer = make(name).backend_tokenizer
    found.no_padding()
    found.no_truncation()
    return found


def built(normalizer: Parts = None, *splits: Parts, kind: str = "wordpiece") -> Tokenizer:
    """A tokenizer of single characters and a few words, of the parts that are given."""
    characters = [chr(code) for code in (*range(33, 127), *range(161, 592)) if code != 173]
    pieces = ["[UNK]", *WORDS, *characters]
    if kind == "unigram":
        made = Tokenizer(Unigram([(piece, -1.0 - index / 64) for index, piece in enumerate([*pieces, "▁"])], unk_id=0))
    else:
        vocabulary = {piece: number for number, piece in enumerate([*pieces, *(f"##{c}" for c in characters)])}
        made = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=30))
    if normalizer is not None:
        made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.Sequence(list(splits)) if splits else pre_tokenizers.BertPreTokenizer()
    return made


def metaspace() -> Any:
    return pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")


WORD_WISE: dict[str, Tokenizer] = {
    **{name: backend(name) for name in ("xlnet", "xlnet-sample", "bert-uncased", "bert-cased", "bert-accents")},
    "nfkc": built(normalizers.NFKC()),
    "nfkd": built(normalizers.NFKD(), pre_tokenizers.WhitespaceSplit()),
    "nfd-lowercase": built(normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])),
    "replace": built(normalizers.Replace("é", " and "), pre_tokenizers.WhitespaceSplit()),
    "digits": built(None, pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(individual_digits=True)),
    "punctuation": built(None, pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()),
    "nothing-left": built(normalizers.Replace("o", "")),
    "unigram": built(normalizers.NFKD(), pre_tokenizers.WhitespaceSplit(), metaspace(), kind="unigram"),
}
QUICK = ["xlnet", "xlnet-sample", "bert-uncased", "nfkd", "punctuation", "unigram", "nothing-left"]
"""Those of the quick tests."""


def rows(pool: TokenPool) -> list[list[tuple[int, int, int]]]:
    """(id, start, stop) of the tokens of each text."""
    tokens = list(zip(pool.ids.tolist(), pool.starts.tolist(), pool.stops.tolist(), strict=True))
    return [tokens[start:stop] for start, stop in zip(pool.bounds, pool.bounds[1:], strict=False)]


def whole(tokenizer: Tokenizer, texts: list[str]) -> list[list[tuple[int, int, int]]]:
    encodings = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    return [
        [(number, start, stop) for number, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)]
        for encoding in encodings
    ]


# Marks and joiners, blanks that are not split at, controls, what other scripts put together.
JOINING = "\u064b\u0652\u0301\u200d\u093e\u0e33\u00a0\u3000\u00ad\u0600\u1161\x0b\x1c\x00\x85\u2028\ufe0f"

safe_letters = st.one_of(
    st.sampled_from("ab\u00b4\u00a8\u00bd\u00df\u0130\u01c4\u0149\u017f\u2026\u2018\u201d\u20ac`'\"\\.,-()0129"),
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="<["),
    st.characters(min_codepoint=0xA1, max_codepoint=0x24F),
    st.characters(min_codepoint=0x2010, max_codepoint=0x205E),
    st.characters(min_codepoint=0x20A0, max_codepoint=0x20C0),
)
blanks = st.sampled_from([" o ", " ", "  ", "\n", "\r\n", "\r", "\t", " \t "])
arabic = st.text(st.characters(min_codepoint=0x60C, max_codepoint=0x669), max_size=30)
safe_parts = st.one_of(st.text(safe_letters, max_size=5), st.sampled_from(WORDS), blanks)
safe_texts = st.lists(safe_parts, max_size=14).map("".join)
any_letters = st.one_of(st.sampled_from(JOINING), st.characters(exclude_categories=["Cs"]))
any_texts = st.lists(st.one_of(safe_parts, fragments, st.text(any_letters, max_size=5)), max_size=10).map("".join)
arabic_texts = st.lists(arabic, max_size=4).map(" ".join)
calls_of_texts = st.lists(st.lists(st.one_of(safe_texts, any_texts, arabic_texts), max_size=6), min_size=1, max_size=3)


@pytest.mark.parametrize("name", WORD_WISE)
def test_the_parts_are_known(name: str) -> None:
    assert splits_into_words(WORD_WISE[name])


@pytest.mark.parametrize("name", slow_but(QUICK, WORD_WISE))
@in_quarters
@given(calls=calls_of_texts)
def test_word_by_word_is_as_whole(name: str, quarter: int, calls: list[list[str]]) -> None:
    """Whatever was learned from earlier calls."""
    tokenizer = WORD_WISE[name]
    remembering = WordTokenizer(tokenizer)
    for texts in calls:
        found = remembering.tokenize(texts)
        assert rows(found) == whole(tokenizer, texts)
        assert [found.ids.dtype, found.starts.dtype, found.stops.dtype] == [np.int32] * 3


@pytest.mark.parametrize("name", slow_but(["xlnet", "bert-uncased", "nothing-left"], WORD_WISE))
def test_every_character_alone_within_a_word_and_between_words(name: str) -> None:
    tokenizer = WORD_WISE[name]
    fast = WordTokenizer(tokenizer)
    codes = [*range(0x800), *range(0x2000, 0x2100), *range(0x3000, 0x3100), 0xFEFF, 0xFFFD, 0x1F600, 0x10FFFF]
    texts = [text for code in codes for text in (chr(code), f"a{chr(code)}b", f"of {chr(code)} in{chr(code)}\n")]
    assert rows(fast.tokenize(texts)) == whole(tokenizer, texts)


@pytest.mark.parametrize("limit", [0, 1, 5, 10])
def test_forgetting_changes_nothing(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_tokenizer, "MAX_UNITS", limit)
    remembering = WordTokenizer(WORD_WISE["xlnet"])
    calls = [["the river of Paris"], ["Paris", "the capital is Paris"], ["the"], [], ["of the river"]]
    calls += [[" ".join(f"w{number}" for number in range(start, start + 9))] for start in range(0, 100, 7)]
    for texts in calls:
        assert rows(remembering.tokenize(texts)) == whole(WORD_WISE["xlnet"], texts)
    assert len(remembering._numbers) <= limit + 9


@pytest.mark.parametrize("name", ["xlnet", "bert-cased", "nothing-left"])
def test_more_new_words_than_are_learned_at_once(name: str) -> None:
    texts = [" ".join(f"w{number}a" for number in range(start, start + 300)) for start in (0, 200, 800)]
    texts.append("a " * 300)
    assert rows(WordTokenizer(WORD_WISE[name]).tokenize(texts)) == whole(WORD_WISE[name], texts)


def test_words_are_tokenized_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = WORD_WISE["xlnet"]
    remembering = WordTokenizer(tokenizer)
    remembering.tokenize(["the river of Paris", "of Paris"])
    monkeypatch.setattr(remembering, "_backend", None)  # nothing may ask it again
    assert rows(remembering.tokenize(["Paris of the\nriver"])) == whole(tokenizer, ["Paris of the\nriver"])
    with pytest.raises(AttributeError):
        remembering.tokenize(["Paris and more"])


@pytest.mark.parametrize("character", [*JOINING, "<", "["])
def test_texts_that_may_differ_are_left_to_the_tokenizer(character: str) -> None:
    backend = WORD_WISE["xlnet-sample"]
    asked: list[str] = []

    class Recording:
        def __getattr__(self, name: str) -> Any:
            if name == "get_added_tokens_decoder":
                return lambda: {9: AddedToken("<t>", normalized=False), 10: AddedToken("[t]", normalized=False)}
            return getattr(backend, name)

        def encode_batch(self, texts: list[str], **options: Any) -> Any:
            asked.extend(texts)
            return backend.encode_batch(texts, **options)

    text = f"one {character}two three"
    WordTokenizer(cast(Tokenizer, Recording())).tokenize([text, "one two"])
    assert text in asked


@pytest.mark.parametrize(
    "text",
    [
        "\u0643\u062a\u064e\u0628\u064e \u0648\u0644\u062f\u064c",
        "\u0441\u043b\u043e\u0432\u043e \u043e \u0441\u043b\u043e\u0432\u0435",
    ],
)
def test_letters_of_other_scripts_are_taken_word_by_word(text: str) -> None:
    tokenizer = WordTokenizer(WORD_WISE["xlnet-sample"])
    assert tokenizer._are_safe([text, f"{text} \u064b", f"\u064b{text}"]).tolist() == [True, False, False]


def test_an_added_token_is_found_wherever_it_stands() -> None:
    tokenizer = built()
    tokenizer.add_tokens([AddedToken("born", normalized=False), AddedToken("é1", normalized=False, single_word=True)])
    assert splits_into_words(tokenizer)
    texts = ["unborn", "the born", "reborner", "é1", "aé1", "(é1)", "the é 1"]
    assert rows(WordTokenizer(tokenizer).tokenize(texts)) == whole(tokenizer, texts)
    assert any(number == tokenizer.token_to_id("born") for number, _, _ in whole(tokenizer, texts)[0])


def _with_added(token: AddedToken) -> Tokenizer:
    made = built()
    made.add_tokens([token])
    return made


def _trimming() -> Tokenizer:
    made = built()
    made.post_processor = processors.RobertaProcessing(("]", 1), ("[", 2), trim_offsets=True, add_prefix_space=True)
    return made


NOT_WORD_WISE: dict[str, Tokenizer] = {
    "roberta": backend("roberta"),
    "roberta-untrimmed": backend("roberta-untrimmed"),
    "metaspace alone": built(None, metaspace(), kind="unigram"),
    "prefix of the first word only": built(
        None,
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first"),
        kind="unigram",
    ),
    "whitespace with a regex": built(None, pre_tokenizers.Whitespace()),
    "split on something": built(None, pre_tokenizers.Split(Regex("a"), "isolated")),
    "byte level after the blanks": built(None, pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel()),
    "strip": built(normalizers.Strip()),
    "prepend": built(normalizers.Prepend("x")),
    "a pattern with a blank": built(normalizers.Replace("a b", "c")),
    "a pattern that is a regex": built(normalizers.Replace(Regex("a.b"), "c")),
    "an empty pattern": built(normalizers.Replace("", "x")),
    "blanks that are taken out": built(normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", "")])),
    "tabs that are taken out": built(normalizers.Replace("\t", "")),
    "another normalizer": built(normalizers.Sequence([normalizers.NFKD(), normalizers.Nmt()])),
    "trimmed offsets": _trimming(),
    "an added token that is normalized": _with_added(AddedToken("born", normalized=True)),
}


@pytest.mark.parametrize("name", NOT_WORD_WISE)
def test_other_parts_are_not_taken_apart(name: str) -> None:
    assert not splits_into_words(NOT_WORD_WISE[name])


def test_dropout_and_a_missing_pre_tokenizer_are_not_taken_apart() -> None:
    dropping = Tokenizer(BPE({"a": 0}, [], dropout=0.5))
    dropping.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert not splits_into_words(dropping)
    assert not splits_into_words(Tokenizer(WordLevel({"a": 0}, unk_token="a")))


def test_pools_are_put_together_in_order() -> None:
    tokenizer = WORD_WISE["bert-cased"]
    first, second = ["the river", ""], ["of", "", "Paris is"]
    joined = concatenate(from_encodings(tokenizer, first), from_encodings(tokenizer, second))
    assert rows(joined) == whole(tokenizer, [*first, *second])
    assert rows(joined.take(np.array([4, 0, 0, 3]))) == whole(tokenizer, ["Paris is", "the river", "the river", ""])
    assert rows(joined.take(np.zeros(0, np.int64))) == []


@pytest.mark.real_data
def test_the_real_vocabulary_word_by_word(xlnet: Any) -> None:
    tokenizer = xlnet.backend_tokenizer
    assert splits_into_words(tokenizer)
    assert json.loads(tokenizer.to_str())["model"]["type"] == "Unigram"
    texts = [f"of {chr(code)} in{chr(code)}the {chr(code)}" for code in (*range(0x250), *range(0x2000, 0x2100))]
    assert rows(WordTokenizer(tokenizer).tokenize(texts)) == whole(tokenizer, texts)


@pytest.mark.real_data
def test_most_real_texts_are_taken_word_by_word(xlnet: Any) -> None:
    backend = read_tokenizer(xlnet).backend
    calls: list[list[str]] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(backend, name)

        def encode_batch(self, texts: list[str], **options: Any) -> Any:
            calls.append(texts)
            return backend.encode_batch(texts, **options)

    text = SQUAD.read_text(encoding="utf-8")[2000:200_000].replace("[", "(").replace("<", "(")
    tokenizer = WordTokenizer(cast(Tokenizer, Counting()))
    lines = [text[start : start + 500].encode("ascii", "ignore").decode() for start in range(0, len(text), 500)]
    assert rows(tokenizer.tokenize(lines)) == whole(backend, lines)
    learned = sum(len(texts) for texts in calls)
    tokenizer.tokenize(lines)
    assert sum(len(texts) for texts in calls) == learned, "every word is known the second time"


@pytest.mark.slow
@pytest.mark.real_data
def test_the_real_vocabulary_with_memory_tokens(xlnet: Any) -> None:
    configure_memory_tokens(xlnet, 2)
    backend = read_tokenizer(xlnet).backend

    @given(calls=calls_of_texts)
    def check(calls: list[list[str]]) -> None:
        remembering = WordTokenizer(backend)
        for texts in calls:
            assert rows(remembering.tokenize(texts)) == whole(backend, texts)

    check()
    assert splits_into_words(backend)
    # Every character that is taken word by word, alone and at both ends of a word.
    safe = [chr(code) for first, last in word_tokenizer._SAFE_RANGES for code in range(first, last + 1)]
    texts = [text for c in safe for text in (c, f"a {c}b {c} c{c} d", f"{c}\n{c}{c}\r\n{c}")]
    marks = [chr(code) for code in range(word_tokenizer._MARKS[0], word_tokenizer._MARKS[1] + 1)]
    texts += [f"a{one} \u0628{one}{two} \u0627{two}\u0644{one}\n\u0648{two}" for one in marks for two in marks]
    assert rows(WordTokenizer(backend).tokenize(texts)) == whole(backend, texts)
