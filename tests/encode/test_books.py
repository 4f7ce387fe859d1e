"""Long contexts that examples of several chunks share: their tokens and their normal form are made once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.builder import chunking, running_build
from memxlnet.encode import answer_alignment, encoder
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.normal_form import normal_form
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.settings import EncodeSettings
from tests.encode.oracle import make_example
from tests.styles import make, shared
from tests.support import build, example

BOOK = "the caf\u00e9 of the river " * 40
SETTINGS = EncodeSettings(max_seq_length=32, doc_stride=4)


@contextmanager
def long_from(characters: int) -> Iterator[list[str]]:
    """Keep contexts of at least this length; gives the long texts that are tokenized or normalized inside."""
    made: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "LONG_TEXT", characters)
        plain_tokenize = Encoder._tokenize

        def tokenize(self: Encoder, texts: list[str], examples: Any) -> Any:
            made.extend(f"tokens of {text[:8]}" for text in texts if len(text) >= characters)
            return plain_tokenize(self, texts, examples)

        def noted(text: str) -> Any:
            made.append(f"normal form of {text[:8]}")
            return normal_form(text)

        patch.setattr(Encoder, "_tokenize", tokenize)
        patch.setattr(answer_alignment, "normal_form", noted)
        yield made


contexts = st.sampled_from(["", "the river", "in Paris", "the caf\u00e9 of ", "1990 was the capital of the river"])
chunks = st.lists(
    st.lists(st.tuples(contexts, st.sampled_from(["who", "what is", "river"]), st.integers(-9, 40)), max_size=4),
    max_size=5,
)


@given(chunks, st.integers(0, 14), st.sampled_from(["xlnet", "roberta-untrimmed"]))
def test_what_is_kept_changes_no_table(raw: list[list[tuple[str, str, int]]], characters: int, name: str) -> None:
    content = read_tokenizer(shared(name))
    with long_from(max(characters, 1)):
        keeping = Encoder(content.backend, content.layout, SETTINGS)
        for part in raw:
            entries = [
                make_example(context, question, [("caf\u0065\u0301", at), ("river", at)], row=row)
                for row, (context, question, at) in enumerate(part)
            ]
            fresh = Encoder(content.backend, content.layout, SETTINGS)
            assert keeping.encode(entries) == fresh.encode(entries)


def test_a_text_is_made_once_for_all_chunks_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [example(BOOK, f"what is {number}", [("of the", 7 * number)], id=str(number)) for number in range(12)]
    rows += [example(f"Paris {BOOK}", "who", [("of the", 3)], id="other"), {**rows[0], "id": "again"}]
    monkeypatch.setattr(chunking, "MAX_CHUNK_COST", 1)
    monkeypatch.setattr(running_build, "check_against_transformers", lambda *_: None)  # it has an encoder of its own
    with long_from(100) as made:
        dataset = build(rows, make("xlnet"), tmp_path, streaming_chunk_size=1, num_workers=0)
    once = ["tokens of the caf\u00e9", "normal form of the caf\u00e9"]
    other = ["tokens of Paris th", "normal form of Paris th"]
    assert sorted(made) == sorted([*once, *other, *once])
    assert dataset.cache.manifest.alignment["repaired"] >= 12


def test_a_text_is_let_go_before_another_is_tokenized() -> None:
    content = read_tokenizer(shared("xlnet"))
    with long_from(100):
        keeping = Encoder(content.backend, content.layout, SETTINGS)
        keeping.tokenize([make_example(BOOK)])
        assert keeping._book is not None
        held = []
        plain = keeping._tokenize_texts
        keeping._tokenize_texts = lambda texts: (held.append(keeping._book), plain(texts))[1]  # type: ignore[func-returns-value]
        keeping.tokenize([make_example("the river")])
        assert held == [None]
        assert keeping._book is None
