"""Spans without a text are no answers: tokens of no width, blanks alone, whole contexts of blanks."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memxlnet.errors import CacheDamagedError
from memxlnet.evaluate import shown_text
from memxlnet.evaluate.collector import AnswerCollector
from memxlnet.evaluate.context_places import PlaceReader
from memxlnet.evaluate.shown_text import ShownText
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.sources import open_source
from tests.encode.families import family
from tests.evaluate.helpers import Logits, assert_predicted, collected, expected_of, places, random_logits
from tests.styles import make
from tests.support import build, example, need_real_data, slow, xquad

BLANKS = ("   ", " \t ", "\n\n", "\u3000 ", " ")


def blank_texts() -> list[dict[str, Any]]:
    """Contexts of many blanks; one of blanks alone, and one in which a lone word stands among them."""
    texts = [
        "".join(f"{BLANKS[(number + place) % len(BLANKS)]}w{place}" for place in range(24)) + "  "
        for number in range(3)
    ]
    texts += ["   \t  \u3000 ", " " * 30 + "lone" + " " * 30, "no blanks at the ends"]
    return [example(text, "Who is?", id=f"id-{number}") for number, text in enumerate(texts)]


@pytest.fixture(scope="module", params=["roberta", "roberta-untrimmed", "xlnet", "bert-uncased"])
def blanks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CacheDataset:
    root = tmp_path_factory.mktemp("blanks")
    return build(blank_texts(), make(request.param), root, max_seq_length=40, doc_stride=10)


def blank_first(dataset: CacheDataset, seed: int) -> tuple[Logits, Logits]:
    """Logits whose best spans are all blank wherever the tokens allow it."""
    starts, ends = random_logits(dataset, seed, 3)
    for row, place in enumerate(places(dataset)):
        for token, (start, stop) in zip(place.tokens, place.offsets, strict=True):
            if not place.context[start:stop].strip():
                starts[row, token] += 50
                ends[row, token] += 50
    return starts, ends


@pytest.mark.parametrize(("n_best", "max_answer_length"), [(1, 30), (20, 30), (5, 1), (300, None), (3, 2)])
def test_the_best_spans_are_those_with_a_text(
    blanks: CacheDataset, n_best: int, max_answer_length: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = blank_first(blanks, n_best)
    expected = expected_of(places(blanks), *logits, n_best, max_answer_length)
    for held in (1, 1 << 20):
        monkeypatch.setattr(shown_text, "HELD_TOKENS", held)
        order = np.random.default_rng(held).permutation(len(blanks))
        collector = collected(blanks, *logits, order, 7, n_best=n_best, max_answer_length=max_answer_length)
        assert_predicted(collector.predictions(), expected, 0.0)
        assert all(span.text.strip() for one in collector.predictions() for span in one.spans)


def test_no_answer_is_measured_against_the_best_span_with_a_text(blanks: CacheDataset) -> None:
    logits = blank_first(blanks, 0)
    found = {one.example_id: one for one in collected(blanks, *logits).predictions()}
    for one in found.values():
        if one.spans:
            assert one.null_score_difference == one.null_score - one.spans[0].score
            assert one.text in ("", one.spans[0].text)
    assert sum(bool(one.text) for one in found.values()) > 1


def test_a_context_of_blanks_has_no_answer_at_any_threshold(blanks: CacheDataset) -> None:
    collector = collected(blanks, *blank_first(blanks, 0), null_threshold=1e9)
    found = {one.example_id: one for one in collector.predictions()}["id-3"]
    assert (found.text, found.spans, found.score) == ("", (), -math.inf)
    assert (found.null_score_difference, found.null_probability) == (math.inf, 1.0)
    assert dict(collector.answers())["id-3"] == ""
    others = [text for name, text in collector.answers() if name != "id-3"]
    assert all(text.strip() for text in others)


def test_texts_that_have_no_blank_spans_cost_one_look(tmp_path: Path) -> None:
    dataset = build([example("the river of Paris " * 20, id="a")], make("bert-uncased"), tmp_path)
    shown = ShownText(dataset.cache)
    read = PlaceReader(dataset.cache).read(np.arange(len(dataset)))
    assert shown.of_rows(read) is None
    dataset.cache.contexts.text = lambda *_: pytest.fail("read again")  # type: ignore[method-assign]
    assert shown.of_rows(read) is None


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("token_starts", lambda values: values * 0 + 10**6, r"token_starts\b.*\b1000000\b"),
        ("token_stops", lambda values: values * 0 - 1, r"token_stops\b.*-1\b"),
        ("token_stops", lambda values: values[:-1], r"token_stops\b.*\btoken_starts\b"),
        (None, lambda values: values[:5], r"\b5\b"),
    ],
)
def test_damaged_offsets_are_refused_and_nothing_is_added(
    name: str | None, change: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = build(blank_texts()[:1], make("roberta"), tmp_path, max_seq_length=40, doc_stride=10)
    real = dataset.cache.contexts.numbers

    def numbers(column: str, row: int) -> Any:
        return change(real(column, row)) if name in (column, None) else real(column, row)

    monkeypatch.setattr(dataset.cache.contexts, "numbers", numbers)
    collector = AnswerCollector(dataset)
    with pytest.raises(CacheDamagedError, match=rf"\bcontexts, row 0:.*{message}"):
        collector.add(range(len(dataset)), *random_logits(dataset))
    assert collector.num_missing_rows == len(dataset)
    assert list(collector.predictions(allow_missing=True)) == []


@pytest.mark.real_data
@pytest.mark.parametrize("language", [slow("ar"), "zh"])
@pytest.mark.parametrize("name", ["roberta", slow("xlm-roberta")])
def test_real_texts(name: str, language: str, tmp_path: Path) -> None:
    need_real_data()
    rows = [row for _, row in zip(range(12), open_source(xquad(language), "test").rows(), strict=False)]
    dataset = build(rows, family(name), tmp_path, max_seq_length=128, doc_stride=32)
    logits = blank_first(dataset, 1)
    expected = expected_of(places(dataset), *logits, 20, 5)
    found = list(collected(dataset, *logits, max_answer_length=5).predictions())
    assert_predicted(found, expected, 0.0)
