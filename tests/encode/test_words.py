"""The word-by-word path gives the tokens of the tokenizer itself, and knows where it may not be taken."""

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, XLNetTokenizerFast

from memxlnet.encode import unit_tokenizer, word_tokenizer
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.encode.token_pool import TokenPool, from_encodings
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.encode.word_tokenizer import WordTokenizer, splits_into_words
from memxlnet.sample import sample_tokenizer_directory
from tests.support import SQUAD, XLNET, need_real_data

BLANKS = " \t\n\r"
ARABIC = st.text(st.characters(min_codepoint=0x60C, max_codepoint=0x669), max_size=30)
JOINING = "\u064b\u0652\u0301\u200d\u093e\u0e33\u00a0\u3000\u00ad\u0600\u1161\x0b\x1c\x00\x85\u2028\ufe0f"
SAFE = st.characters(
    min_codepoint=0x21, max_codepoint=0x24F, exclude_characters="\x7f\u00ad", exclude_categories=["Cc"]
)
ALPHABET = st.one_of(
    st.sampled_from(BLANKS + "``''.,-ab\u2013\u2026\u00b4\u20ac"),
    SAFE,
    st.sampled_from(JOINING),
    st.characters(exclude_categories=["Cs"]),
)
TEXTS = st.lists(
    st.text(st.one_of(st.sampled_from(BLANKS + "abc``''"), SAFE), max_size=60)
    | st.text(ALPHABET, max_size=40)
    | st.lists(ARABIC, max_size=4).map(" ".join),
    max_size=8,
)


def bert_like() -> Tokenizer:
    letters = [chr(code) for code in range(0x21, 0x7F)]
    pieces = ["[UNK]", *letters, *(f"##{letter}" for letter in letters), "the", "##ing"]
    backend = Tokenizer(
        models.WordPiece({piece: n for n, piece in enumerate(dict.fromkeys(pieces))}, unk_token="[UNK]")
    )
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def xlnet_like() -> Tokenizer:
    return read_tokenizer(AutoTokenizer.from_pretrained(sample_tokenizer_directory())).backend


def assert_equal(found: TokenPool, expected: TokenPool) -> None:
    for name, ours, theirs in zip(TokenPool._fields, found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs, name)


BACKENDS = {"xlnet": xlnet_like(), "bert": bert_like()}


@pytest.mark.parametrize("kind", BACKENDS)
@given(batches=st.lists(TEXTS, min_size=1, max_size=3))
def test_same_tokens_as_the_tokenizer(kind: str, batches: list[list[str]]) -> None:
    backend = BACKENDS[kind]
    assert splits_into_words(backend)
    tokenizer = WordTokenizer(backend)
    for texts in batches:
        assert_equal(tokenizer.tokenize(texts), from_encodings(backend, texts))


@pytest.mark.slow
@pytest.mark.real_data
def test_same_tokens_with_the_real_vocabulary() -> None:
    need_real_data()
    tokenizer = XLNetTokenizerFast.from_pretrained(XLNET)
    configure_memory_tokens(tokenizer, 2)
    backend = read_tokenizer(tokenizer).backend

    @given(batches=st.lists(TEXTS, min_size=1, max_size=3))
    def check(batches: list[list[str]]) -> None:
        by_words = WordTokenizer(backend)
        for texts in batches:
            assert_equal(by_words.tokenize(texts), from_encodings(backend, texts))

    check()
    # Every character that the path is taken for, alone and at both ends of a word.
    assert splits_into_words(backend)
    by_words = WordTokenizer(backend)
    safe = [chr(code) for first, last in word_tokenizer._SAFE_RANGES for code in range(first, last + 1)]
    texts = [text for c in safe for text in (c, f"a {c}b {c} c{c} d", f"{c}\n{c}{c}\r\n{c}")]
    marks = [chr(code) for code in range(word_tokenizer._MARKS[0], word_tokenizer._MARKS[1] + 1)]
    texts += [f"a{one} \u0628{one}{two} \u0627{two}\u0644{one}\n\u0648{two}" for one in marks for two in marks]
    assert_equal(by_words.tokenize(texts), from_encodings(backend, texts))


def test_trimmed_offsets_are_left_to_the_tokenizer() -> None:
    backend = bert_like()
    assert splits_into_words(backend)
    backend.post_processor = processors.RobertaProcessing(("]", 1), ("[", 2), trim_offsets=True, add_prefix_space=True)
    assert not splits_into_words(backend)


@pytest.mark.parametrize(
    "text",
    [
        "\u0643\u062a\u064e\u0628\u064e \u0648\u0644\u062f\u064c",
        "\u0441\u043b\u043e\u0432\u043e \u043e \u0441\u043b\u043e\u0432\u0435",
    ],
)
def test_letters_of_other_scripts_take_the_path(text: str) -> None:
    tokenizer = WordTokenizer(BACKENDS["xlnet"])
    assert tokenizer._are_safe([text, f"{text} \u064b", f"\u064b{text}"]).tolist() == [True, False, False]


@pytest.mark.real_data
def test_most_real_texts_take_the_path() -> None:
    need_real_data()
    backend = read_tokenizer(XLNetTokenizerFast.from_pretrained(XLNET)).backend
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
    assert_equal(tokenizer.tokenize(lines), from_encodings(backend, lines))
    learned = sum(len(texts) for texts in calls)
    tokenizer.tokenize(lines)
    assert sum(len(texts) for texts in calls) == learned, "every word is known the second time"


@pytest.mark.parametrize("character", [*JOINING, "<", "["])
def test_texts_that_may_differ_are_left_to_the_tokenizer(character: str) -> None:
    backend = BACKENDS["xlnet"]
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


def test_words_are_forgotten_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_tokenizer, "MAX_UNITS", 10)
    tokenizer = WordTokenizer(BACKENDS["xlnet"])
    for start in range(0, 100, 7):
        texts = [" ".join(f"w{number}" for number in range(start, start + 9))]
        assert_equal(tokenizer.tokenize(texts), from_encodings(BACKENDS["xlnet"], texts))
    assert len(tokenizer._numbers) <= 10 + 9


def with_parts(**parts: Any) -> Tokenizer:
    backend = Tokenizer.from_str(BACKENDS["xlnet"].to_str())
    for name, part in parts.items():
        setattr(backend, name, part)
    return backend


@pytest.mark.parametrize(
    "backend",
    [
        with_parts(pre_tokenizer=pre_tokenizers.Metaspace()),
        with_parts(pre_tokenizer=pre_tokenizers.ByteLevel()),
        with_parts(
            pre_tokenizer=pre_tokenizers.Sequence(
                [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="first")]
            )
        ),
        with_parts(normalizer=normalizers.Strip()),
        with_parts(normalizer=normalizers.Prepend("x")),
        with_parts(normalizer=normalizers.Replace("a b", "c")),
        with_parts(normalizer=normalizers.Sequence([normalizers.NFKD(), normalizers.Nmt()])),
        with_parts(normalizer=normalizers.Replace("\t", "")),
    ],
)
def test_tokenizers_that_look_beyond_a_word_are_told(backend: Tokenizer) -> None:
    assert not splits_into_words(backend)


def test_an_added_token_that_is_normalized_rules_the_path_out() -> None:
    backend = with_parts()
    backend.add_tokens([AddedToken("Abc", normalized=True)])
    assert not splits_into_words(backend)
