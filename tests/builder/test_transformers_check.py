"""Each build compares its first examples with transformers and stops where they differ."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from memxlnet.builder import transformers_check
from memxlnet.builder.transformers_check import (
    HARD_TEXTS,
    PLAIN_CONTEXT,
    PLAIN_QUESTION,
    added_token_texts,
    check_against_transformers,
)
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.encode import word_tokenizer
from memxlnet.encode.examples import Example
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.errors import TokenizerError
from memxlnet.settings import EncodeSettings
from tests.encode.families import FAMILIES, family
from tests.golden.make_golden import golden_tokenizer
from tests.styles import STYLES, make
from tests.support import example, long_examples, need_real_data, short, slow, slow_but

EXAMPLES = [Example(0, "a", "who lit the lamp", "the lamp of the harbour was lit by a keeper " * 3, (), ())]
SETTINGS = EncodeSettings(max_seq_length=20, doc_stride=4)


def run(tokenizer: Any, settings: EncodeSettings = SETTINGS, examples: list[Example] = EXAMPLES) -> None:
    check_against_transformers(tokenizer, read_tokenizer(tokenizer), settings, examples)


def test_a_tokenizer_that_can_be_taken_apart_passes_and_keeps_its_state() -> None:
    tokenizer = golden_tokenizer()
    run(tokenizer)
    assert tokenizer.backend_tokenizer.padding is None
    assert tokenizer.backend_tokenizer.truncation is None
    tokenizer(["lamp"], padding="max_length", max_length=9, truncation=True)
    padding, truncation = tokenizer.backend_tokenizer.padding, tokenizer.backend_tokenizer.truncation
    run(tokenizer)
    assert (tokenizer.backend_tokenizer.padding, tokenizer.backend_tokenizer.truncation) == (padding, truncation)


def test_builds_in_threads_check_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)

    def compare(*_: object) -> None:
        with pytest.raises(threading.BrokenBarrierError):  # another thread never comes
            both.wait(0.2)

    monkeypatch.setattr(transformers_check, "_compare", compare)
    tokenizer = golden_tokenizer()
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(run, [tokenizer] * 2)) == [None] * 2


@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "token_type_ids", "offset_mapping"])
def test_every_difference_is_found(name: str) -> None:
    tokenizer = golden_tokenizer()
    content = read_tokenizer(tokenizer)

    class Other:
        """The same tokenizer, but one value of what it gives is another."""

        backend_tokenizer = tokenizer.backend_tokenizer

        def __call__(self, *arguments: Any, **options: Any) -> Any:
            found = dict(tokenizer(*arguments, **options))
            found[name] = np.array(found[name])
            found[name][-1, -5] += 1
            return found

    with pytest.raises(TokenizerError, match=rf"\bOther\b.*\b{name}\b.*\b13\b"):
        check_against_transformers(Other(), content, SETTINGS, EXAMPLES)


class _OtherTypes:
    """A tokenizer whose segment ids differ in one window: the first of a document, or a later one."""

    def __init__(self, tokenizer: Any, is_first: bool):
        self.backend_tokenizer = tokenizer.backend_tokenizer
        self.model_input_names = tokenizer.model_input_names
        self._tokenizer = tokenizer
        self._is_first = is_first

    def __call__(self, *texts: Any, **options: Any) -> Any:
        found = dict(self._tokenizer(*texts, **options))
        samples = found["overflow_to_sample_mapping"]
        row = next(row for row, sample in enumerate(samples) if (samples.index(sample) == row) == self._is_first)
        found["token_type_ids"][row][found["attention_mask"][row].index(1)] += 1
        return found


@pytest.mark.parametrize(
    ("name", "is_first", "is_compared"),
    [
        ("bert-cased", True, True),
        ("bert-cased", False, True),
        ("xlnet", True, True),
        ("xlnet", False, True),  # not named by its tokenizer, but taken by its model
        ("xlm-roberta", True, True),
        ("xlm-roberta", False, False),
        ("t5", True, True),
        ("t5", False, False),
        ("gpt2", False, True),
    ],
)
def test_segment_ids_are_compared_wherever_transformers_gives_those_of_the_template(
    name: str, is_first: bool, is_compared: bool
) -> None:
    tokenizer = make(name)
    content = read_tokenizer(tokenizer)
    other = _OtherTypes(tokenizer, is_first)
    if not is_compared:
        check_against_transformers(other, content, SETTINGS, EXAMPLES)
        return
    with pytest.raises(TokenizerError, match="token_type_ids"):
        check_against_transformers(other, content, SETTINGS, EXAMPLES)


@pytest.mark.parametrize("name", ["xlm-roberta", "camembert", "t5", "pegasus"])
def test_segment_ids_that_a_tokenizer_names_are_compared_until_it_names_them_no_more(name: str) -> None:
    tokenizer = make(name)
    tokenizer.model_input_names = [*tokenizer.model_input_names, "token_type_ids"]
    with pytest.raises(TokenizerError, match=r"token_type_ids.*tokenizer\.model_input_names"):
        run(tokenizer)
    tokenizer.model_input_names.remove("token_type_ids")
    run(tokenizer)


class Watched:
    """A tokenizer that keeps the texts of each call, and may give other ids where one of them holds a text."""

    def __init__(self, tokenizer: Any, wrong_on: tuple[str, str] | None = None):
        self.backend_tokenizer = tokenizer.backend_tokenizer
        self._tokenizer = tokenizer
        self._wrong_on = wrong_on
        self.lengths: list[tuple[int, int]] = []
        self.pairs: list[tuple[str, str]] = []
        self.windows: Counter[tuple[str, str]] = Counter()

    def __call__(self, contexts: list[str], questions: list[str], **options: Any) -> Any:
        found = dict(self._tokenizer(contexts, questions, **options))
        self.lengths.append((options["max_length"], len(found["input_ids"])))
        pairs = list(zip(questions, contexts, strict=True))
        self.pairs += pairs
        self.windows.update(pairs[sample] for sample in found["overflow_to_sample_mapping"])
        if self._wrong_on in pairs:
            row = found["overflow_to_sample_mapping"].index(pairs.index(self._wrong_on))
            found["input_ids"][row][-1] += 1
        return found


def test_a_difference_in_later_windows_is_found_at_any_length() -> None:
    """A context that fits one row is cut into windows for the check alone."""
    tokenizer = golden_tokenizer()
    watched = Watched(tokenizer)
    settings = EncodeSettings(max_seq_length=64, doc_stride=4)
    check_against_transformers(watched, read_tokenizer(tokenizer), settings, EXAMPLES)
    assert watched.lengths[0][0] == 62  # less two memory tokens
    assert all(length < 62 and rows > len(HARD_TEXTS) for length, rows in watched.lengths[1:])
    assert sum(context == EXAMPLES[0].context for _, context in watched.pairs) == 2
    assert watched.windows[PLAIN_QUESTION, EXAMPLES[0].context] >= 3


@pytest.mark.parametrize("text", HARD_TEXTS, ids=short)
@pytest.mark.parametrize("as_question", [True, False])
def test_every_hard_text_is_compared_whatever_the_data_is(text: str, as_question: bool) -> None:
    tokenizer = golden_tokenizer()
    pair = (text, PLAIN_CONTEXT) if as_question else (PLAIN_QUESTION, text)
    with pytest.raises(TokenizerError, match="input_ids") as caught:
        check_against_transformers(Watched(tokenizer, pair), read_tokenizer(tokenizer), SETTINGS, [])
    assert f"{pair[0]!r:.60}" in str(caught.value)
    assert f"{pair[1]!r:.200}" in str(caught.value)


def test_the_beginnings_of_long_texts_are_compared() -> None:
    """However long they are, and however long a question is: none is left out, and none takes long."""
    tokenizer = golden_tokenizer()
    content = read_tokenizer(tokenizer)
    huge = [Example(row, f"{row}", f"who {row} " * 10**4, f"lamp {row} " * 10**5, (), ()) for row in range(6)]
    watched = Watched(tokenizer)
    check_against_transformers(watched, content, EncodeSettings(max_seq_length=384, doc_stride=4), huge)
    assert max(len(text) for pair in watched.pairs for text in pair) < 5000
    assert sum(len(text) for pair in watched.pairs for text in pair) < 50_000
    for one in huge[: transformers_check.CHECKED_EXAMPLES]:
        question, context = (
            one.question[: transformers_check.MAX_QUESTION],
            one.context[: transformers_check.MAX_CONTEXT],
        )
        assert {(question, context), (question, PLAIN_CONTEXT)} <= set(watched.pairs)
    # A row of 20 tokens has no room for these questions.
    with pytest.raises(TokenizerError, match="input_ids"):
        run_wrong_on(tokenizer, (huge[3].question[: transformers_check.MAX_QUESTION], PLAIN_CONTEXT), huge)


def run_wrong_on(tokenizer: Any, pair: tuple[str, str], examples: list[Example]) -> None:
    check_against_transformers(Watched(tokenizer, pair), read_tokenizer(tokenizer), SETTINGS, examples)


def test_texts_of_added_tokens_are_compared() -> None:
    tokenizer = golden_tokenizer()
    watched = Watched(tokenizer)
    check_against_transformers(watched, read_tokenizer(tokenizer), SETTINGS, [])
    for token in ("[MEM_READ_0]", "<sep>", "<cls>"):
        for side in zip(*watched.pairs, strict=True):
            assert any(f"a {token} b{token}c" in text for text in side)


def test_many_added_tokens_are_not_all_compared() -> None:
    tokenizer = golden_tokenizer()
    tokenizer.add_tokens([f"added{number}" for number in range(2000)])
    assert max(map(len, added_token_texts(tokenizer.backend_tokenizer))) < 1000
    run(tokenizer)


@pytest.mark.parametrize("last", [0x3000, 0x2000, 0x10FFFF])
def test_texts_that_are_wrongly_held_simple_are_found(last: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of the encoder that no word of the data shows."""
    tokenizer = make("xlnet-sample")
    monkeypatch.setattr(word_tokenizer, "_SAFE_RANGES", ((0x21, 0x7E), (0xA0, last)))
    assert word_tokenizer.splits_into_words(tokenizer.backend_tokenizer)
    content = read_tokenizer(tokenizer)
    with pytest.raises(TokenizerError):
        check_against_transformers(tokenizer, content, SETTINGS, EXAMPLES)


@pytest.mark.parametrize("settings", [SETTINGS, slow(EncodeSettings(max_seq_length=384, doc_stride=128))], ids=short)
@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("memory_tokens", [slow(0), 1])
def test_a_tokenizer_that_is_right_passes(name: str, memory_tokens: int, settings: EncodeSettings) -> None:
    run(make(name, memory_tokens), settings)


@pytest.mark.real_data
@pytest.mark.parametrize("name", slow_but(["xlnet", "llama-3"], FAMILIES))
def test_a_tokenizer_of_every_family_passes(name: str) -> None:
    need_real_data()
    run(family(name), EncodeSettings(max_seq_length=128, doc_stride=32))


def test_a_build_stops_before_a_chunk_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_check, "_offsets", lambda tables, length: np.zeros((1, 1, 2), np.int32))
    with pytest.raises(TokenizerError, match="offset_mapping"):
        process_and_cache_dataset(
            long_examples(3), "test", tmp_path, max_seq_length=32, doc_stride=8, tokenizer=golden_tokenizer()
        )
    assert not list(tmp_path.glob(".build-*/chunks/*.chunk"))
    assert not list(tmp_path.glob("[!.]*"))


def test_a_build_of_long_texts_alone_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [example("lamp " * 5000, "who", id="huge")]
    settings = {"max_seq_length": 32, "doc_stride": 8, "tokenizer": golden_tokenizer()}
    made = process_and_cache_dataset(rows, "test", tmp_path / "right", **settings)
    assert made == 1 + -(-(5000 - 26) // (26 - 8))
    monkeypatch.setattr(transformers_check, "_offsets", lambda tables, length: np.zeros((1, 1, 2), np.int32))
    with pytest.raises(TokenizerError, match="offset_mapping"):
        process_and_cache_dataset(rows, "test", tmp_path / "wrong", **settings)


def test_a_tokenizer_that_fails_on_a_text_of_the_check_is_refused() -> None:
    backend = Tokenizer(WordLevel({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "the": 4}, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    special = [("[CLS]", 1), ("[SEP]", 2)]
    backend.post_processor = TemplateProcessing(pair="[CLS] $A [SEP] $B [SEP]", special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", cls_token="[CLS]")
    content = read_tokenizer(tokenizer)
    with pytest.raises(TokenizerError, match=r"\[UNK\]"):
        check_against_transformers(tokenizer, content, EncodeSettings(max_seq_length=32), [])


def test_a_tokenizer_whose_pair_call_fails_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make("bert-cased")

    def fail(self: Any, *_: Any, **__: Any) -> Any:
        raise ValueError("boxes")

    content = read_tokenizer(tokenizer)
    monkeypatch.setattr(type(tokenizer), "__call__", fail)
    with pytest.raises(TokenizerError, match="boxes"):
        check_against_transformers(tokenizer, content, EncodeSettings(max_seq_length=32, doc_stride=8), [])
