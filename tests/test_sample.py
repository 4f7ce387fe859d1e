import hashlib
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memxlnet.data.qa_datasets import create_dataset_from_cache
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.sample import sample_file, sample_tokenizer_directory
from memxlnet.sample.train_tokenizer import SPECIAL_TOKENS, TOKENIZER_CONFIG, read_texts, train

TOKENIZER_SHA256 = "1ea85c35afdcf0b47fd08e71a23f8ccc891ac6a7c4bea05e3f63c40add7ca63b"


@pytest.fixture(scope="module")
def articles() -> list[dict[str, Any]]:
    content = json.loads(sample_file().read_text(encoding="utf-8"))
    assert content["version"] == "v2.0"
    found: list[dict[str, Any]] = content["data"]
    return found


def _questions(articles: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for article in articles:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield paragraph["context"], question


def test_two_dozen_long_documents(articles: list[dict[str, Any]]) -> None:
    assert len(articles) == 24
    assert len({article["title"] for article in articles}) == 24
    contexts = [paragraph["context"] for article in articles for paragraph in article["paragraphs"]]
    assert len(set(contexts)) == len(contexts) == 24
    assert all(context.count("\n") >= 8 for context in contexts)
    assert all(context == context.strip() for context in contexts)


def test_every_answer_stands_at_its_offset_in_code_points(articles: list[dict[str, Any]]) -> None:
    answers = 0
    for context, question in _questions(articles):
        for answer in [*question["answers"], *question.get("plausible_answers", [])]:
            start, text = answer["answer_start"], answer["text"]
            assert context[start : start + len(text)] == text != ""
            answers += 1
    assert answers > 96


def test_ids_and_questions_are_unique(articles: list[dict[str, Any]]) -> None:
    questions = [question for _, question in _questions(articles)]
    assert len(questions) == 96
    assert len({question["id"] for question in questions}) == 96
    assert len({question["question"] for question in questions}) == 96
    assert all(question["question"].strip() for question in questions)


def test_about_a_quarter_is_unanswerable(articles: list[dict[str, Any]]) -> None:
    questions = [question for _, question in _questions(articles)]
    assert all(question["is_impossible"] == (not question["answers"]) for question in questions)
    assert 0.2 <= sum(question["is_impossible"] for question in questions) / len(questions) <= 0.33
    assert any(len(question["answers"]) > 1 for question in questions)


def test_some_is_neither_ascii_nor_nfc(articles: list[dict[str, Any]]) -> None:
    contexts = list(dict.fromkeys(context for context, _ in _questions(articles)))
    assert sum(not context.isascii() for context in contexts) >= 8
    assert any(not unicodedata.is_normalized("NFC", context) for context in contexts)
    assert any(ord(character) > 0xFFFF for context in contexts for character in context)
    scripts = {
        unicodedata.name(character).split()[0] for context in contexts for character in context if character.isalpha()
    }
    assert {"LATIN", "GREEK", "DEVANAGARI", "ARABIC", "CJK"} <= scripts
    moved = [
        (context, answer)
        for context, question in _questions(articles)
        for answer in question["answers"]
        if len(unicodedata.normalize("NFC", context[: answer["answer_start"]])) != answer["answer_start"]
    ]
    assert moved, "no answer whose offset would differ in NFC"


@pytest.mark.parametrize("memory_tokens", [0, 4])
def test_nearly_all_documents_have_five_segments(tmp_path: Path, tokenizer: Any, memory_tokens: int) -> None:
    if memory_tokens:
        configure_memory_tokens(tokenizer, memory_tokens)
    dataset = create_dataset_from_cache(
        sample_file(), "sample", tmp_path, max_seq_length=128, doc_stride=32, tokenizer=tokenizer
    )
    counts = dataset.documents.num_segments
    assert len(counts) == 96
    assert (counts >= 5).sum() >= 95
    outcomes = {name: count for name, count in dataset.manifest.alignment.items() if count}
    assert outcomes == {"exact": 73, "unanswerable": 23}
    held = {item["example_id"] for item in dataset[:] if item["has_answer_in_segment"]}
    assert len(held) == 73


class TestTokenizer:
    def test_is_the_committed_one(self) -> None:
        """Training gives another vocabulary each time, and every id in a golden test with it."""
        content = (sample_tokenizer_directory() / "tokenizer.json").read_bytes()
        assert hashlib.sha256(content).hexdigest() == TOKENIZER_SHA256

    def test_has_the_layout_of_xlnet(self, tokenizer: Any) -> None:
        assert tokenizer.is_fast
        assert (tokenizer.padding_side, tokenizer.truncation_side) == ("left", "right")
        assert len(tokenizer) == 2000
        assert tuple(tokenizer.convert_ids_to_tokens(list(range(9)))) == SPECIAL_TOKENS
        encoded = tokenizer("Salt", "Where?", return_token_type_ids=True)
        assert tokenizer.convert_ids_to_tokens(encoded["input_ids"][-2:]) == ["<sep>", "<cls>"]
        assert encoded["token_type_ids"][-1] == 2

    def test_its_files_agree_with_the_script(self) -> None:
        config = json.loads((sample_tokenizer_directory() / "tokenizer_config.json").read_text(encoding="utf-8"))
        assert config == TOKENIZER_CONFIG
        names = {path.name for path in sample_tokenizer_directory().iterdir()}
        assert names == {"tokenizer.json", "tokenizer_config.json"}

    def test_knows_nearly_all_of_the_sample(self, tokenizer: Any) -> None:
        ids = [
            token
            for text in read_texts(sample_file())
            for token in tokenizer(text, add_special_tokens=False)["input_ids"]
        ]
        assert ids.count(tokenizer.unk_token_id) / len(ids) < 0.01

    def test_the_script_trains_one_of_the_same_layout(self) -> None:
        trained = train(list(read_texts(sample_file())), 600)
        assert [trained.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(9))
        pair = trained.encode("Salt", "Where?")
        assert pair.tokens[-2:] == ["<sep>", "<cls>"]
        assert pair.type_ids[-1] == 2
