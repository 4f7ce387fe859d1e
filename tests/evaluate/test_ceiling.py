"""Perfect logits, from the loader to the official metric: what they reach is the ceiling."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.errors import SettingsError
from memxlnet.evaluate.ceiling import AnswerCeiling, answer_ceiling
from memxlnet.evaluate.metrics import squad_metrics
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.maintain.encoding_rules import read_dropped
from memxlnet.sample import sample_file
from tests.evaluate.helpers import perfectly_collected, read_json
from tests.evaluate.official_squad import as_articles, evaluate, questions, read_articles
from tests.styles import shared
from tests.support import SQUAD, build, example, slow, slow_but, xquad


def assert_reaches_the_ceiling(
    dataset: CacheDataset, articles: list[Any], folder: Path, **options: Any
) -> AnswerCeiling:
    """The official exact match of perfect logits, counted in questions, is what is left of all of them."""
    ceiling = answer_ceiling(dataset)
    collector = perfectly_collected(dataset, **options)
    collector.write_predictions(folder / "answers.json")
    answers = read_json(folder / "answers.json")
    asked = questions(articles)
    assert set(answers) == {qa["id"] for qa in asked}
    official = evaluate(articles, answers)
    dropped = {bad.id for bad in read_dropped(dataset.cache)}
    lost = sum(bool(qa["answers"]) for qa in asked if qa["id"] in dropped)
    wrong = ceiling.dropped + ceiling.yes_no + ceiling.number + ceiling.unreachable + ceiling.inexact
    assert official["exact"] == 100.0 * (len(asked) - wrong - lost) / len(asked)
    assert official.get("NoAns_exact", 100.0) == 100.0
    assert ceiling.dropped_examples == len(dropped) == len(asked) - ceiling.documents
    assert ceiling.answerable == official.get("HasAns_total", 0) - lost
    # The same over the cache alone, which knows nothing of dropped examples.
    found = squad_metrics(answers, dataset)
    assert found["exact"] == ceiling.exact_match == 100.0 * (ceiling.documents - wrong) / ceiling.documents
    if not dropped:
        assert found == official
    (folder / "answers.json").unlink()
    return ceiling


@pytest.mark.parametrize(
    "options",
    [
        slow({}),
        {"lanes": "refilled", "batch_size": 5, "num_workers": 1},
        {"use_time_step_major": False, "batch_size": 7},
    ],
)
def test_the_sample(options: dict[str, Any], tokenizer: Any, tmp_path: Path) -> None:
    configure_memory_tokens(tokenizer, 4)
    dataset = build(sample_file(), tokenizer, tmp_path / "cache", max_seq_length=128, doc_stride=32)
    ceiling = assert_reaches_the_ceiling(dataset, read_articles(sample_file()), tmp_path, **options)
    assert ceiling.documents == 96
    assert ceiling.exact_match is not None
    assert ceiling.exact_match > 90


SETTINGS: list[Any] = [
    {"max_n_segs": 1},
    {"max_n_segs": 2, "max_shard_rows": 11},
    {"doc_stride": 24, "max_seq_length": 48, "max_n_segs": 2, "on_bad_example": "drop"},
    slow({"doc_stride": 2, "max_seq_length": 52}),
    slow({"doc_stride": 30, "max_seq_length": 56, "on_bad_example": "drop"}),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_what_segments_cost(settings: dict[str, Any], tokenizer: Any, tmp_path: Path) -> None:
    dataset = build(sample_file(), tokenizer, tmp_path / "cache", **settings)
    ceiling = assert_reaches_the_ceiling(dataset, read_articles(sample_file()), tmp_path)
    assert ceiling.unreachable + ceiling.dropped_examples > 0


LAYOUTS = ["xlnet", "xlnet-padded-right", "bert-uncased", "bert-padded-left", "roberta"]


@pytest.mark.parametrize("style", slow_but(["bert-padded-left", "roberta"], LAYOUTS))
@pytest.mark.parametrize("memory_tokens", [slow(0), 3])
def test_every_layout(style: str, memory_tokens: int, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"max_seq_length": 192, "doc_stride": 60, "on_bad_example": "drop"}
    dataset = build(sample_file(), shared(style, memory_tokens), tmp_path / "cache", max_examples=40, **settings)
    articles = cut(read_articles(sample_file()), 40)
    assert len(dataset) > 100
    assert_reaches_the_ceiling(dataset, articles, tmp_path)


def cut(articles: list[Any], count: int) -> list[Any]:
    """The first questions only."""
    flat = questions(articles)[:count]
    return [{"paragraphs": [{"qas": flat}]}]


class TestEachOutcome:
    CONTEXT = "The river Rhine was born in 1990s Germany, the capital of nobody and of nothing at all."

    @pytest.fixture
    def examples(self) -> list[dict[str, Any]]:
        at = self.CONTEXT.index
        whole = self.CONTEXT[:-1]
        given: dict[str, list[tuple[str, int]]] = {
            "right": [("Rhine", at("Rhine"))],
            "unanswerable": [],
            "unreachable": [(whole, 0)],
            "inexact": [("apita", at("apita"))],
            "inexact-but-another-gold": [("apita", at("apita")), ("Capital!", 0)],
            "dropped": [("Danube", 3)],
            "yes-no": [("yes", -1), ("True", -1)],
            "number": [("1,991", -1)],
            "dropped-article": [(" the,", 10**6)],
            "article": [("The", 0)],
            "article-and-another": [("The", 0), ("nowhere", 3)],
        }
        return [example(self.CONTEXT, "Who?", pairs, id=name) for name, pairs in given.items()]

    def test_is_counted(self, examples: list[dict[str, Any]], tmp_path: Path) -> None:
        dataset = build(examples, shared("xlnet"), tmp_path / "cache", max_seq_length=24, doc_stride=8)
        ceiling = assert_reaches_the_ceiling(dataset, as_articles(examples), tmp_path)
        assert ceiling == AnswerCeiling(
            documents=11,
            unlabelled=0,
            answerable=10,
            dropped=1,
            yes_no=1,
            number=1,
            unreachable=1,
            inexact=2,
            exact_match=100 * 5 / 11,
            dropped_examples=0,
        )
        answers = dict(perfectly_collected(dataset).answers())
        assert answers["right"].strip() == "Rhine"
        assert {answers[name] for name in ("unanswerable", "unreachable", "dropped")} == {""}
        assert "capital" in answers["inexact"]

    def test_opens_what_is_at_hand(self, examples: list[dict[str, Any]], tokenizer: Any, tmp_path: Path) -> None:
        dataset = build(examples, tokenizer, tmp_path)
        assert answer_ceiling(dataset) == answer_ceiling(dataset.cache) == answer_ceiling(str(dataset.directory))
        with pytest.raises(SettingsError, match=r"^cache:.*int$"):
            answer_ceiling(3)  # type: ignore[arg-type]


UNICODE = (
    "e\u0301te\u0301 \U0001f468\u200d\U0001f469\u200d\U0001f467 nai\u0308ve \u0928\u092e\u0938\u094d\u0924\u0947 "
    "\u0645\u0631\u062d\u0628\u0627 \U0001f600\U0001f3fd \u1112\u1161\u11ab zero\u200bwidth \u4e2d\u6587. "
)


@pytest.mark.parametrize("style", ["xlnet-sample", "bert-uncased", "bert-accents", "roberta"])
def test_texts_are_cut_in_code_points(style: str, tmp_path: Path) -> None:
    context = UNICODE * 4
    words = UNICODE.split()
    examples: list[dict[str, Any]] = []
    for number, word in enumerate(words):
        start = context.rindex(word)
        examples.append(example(context, "Who?", [(word, start)], id=f"{word}-{number}"))
    dataset = build(examples, shared(style), tmp_path / "cache", max_seq_length=96, doc_stride=40)
    ceiling = assert_reaches_the_ceiling(dataset, as_articles(examples), tmp_path)
    assert (ceiling.dropped, ceiling.unreachable) == (0, 0)
    for one, raw in zip(perfectly_collected(dataset).predictions(), examples, strict=True):
        best = one.spans[0]
        assert best.text == one.text == context[best.char_start : best.char_stop]
        (word,), (start,) = raw["answers"]["text"], raw["answers"]["answer_start"]
        # Tokenizers that strip accents end a token before the marks at its end.
        while unicodedata.category(word[-1]).startswith("M"):
            word = word[:-1]
        assert word in one.text
        assert best.char_start <= start < start + len(word) <= best.char_stop


@pytest.mark.real_data
class TestRealData:
    @pytest.mark.parametrize(
        ("settings", "lost"),
        [
            slow({"max_seq_length": 384, "doc_stride": 128}, set()),
            slow({"max_seq_length": 80, "doc_stride": 16, "max_n_segs": 1}, {"unreachable"}),
            slow({"max_seq_length": 64, "doc_stride": 3}, {"unreachable"}),
            slow({"max_seq_length": 64, "doc_stride": 20, "on_bad_example": "drop"}, {"dropped_examples"}),
        ],
        ids=str,
    )
    def test_squad(self, settings: dict[str, Any], lost: set[str], xlnet: Any, tmp_path: Path) -> None:
        articles = read_articles(SQUAD)
        dataset = build(SQUAD, xlnet, tmp_path / "cache", **settings)
        options: dict[str, Any] = {"batch_size": 64, "metadata": False}
        ceiling = assert_reaches_the_ceiling(dataset, articles, tmp_path, **options)
        assert {name for name in ("dropped", "unreachable", "dropped_examples") if getattr(ceiling, name)} >= lost
        assert ceiling.documents + ceiling.dropped_examples == 6078
        # XLNet's tokens meet the golds of SQuAD so well that nothing else is lost.
        assert (ceiling.dropped, ceiling.inexact) == (0, 0)

    @pytest.mark.slow
    @pytest.mark.parametrize("language", ["hi", "ar", "zh"])
    def test_xquad(self, language: str, xlnet: Any, tmp_path: Path) -> None:
        dataset = build(xquad(language), xlnet, tmp_path / "cache", max_seq_length=256, doc_stride=64)
        articles = json.loads(xquad(language).read_text(encoding="utf-8"))["data"]
        ceiling = assert_reaches_the_ceiling(dataset, articles, tmp_path, batch_size=64, metadata=False)
        assert (ceiling.documents, ceiling.answerable) == (1190, 1190)
        # The vocabulary of another language: tokens that hold more than the answer, or not its last mark.
        assert 0 < ceiling.inexact < 400
