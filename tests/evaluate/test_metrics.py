import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import SettingsError
from memxlnet.evaluate.comparing_texts import SQUAD, normalize_answer
from memxlnet.evaluate.metrics import squad_metrics
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.sample import sample_file
from tests.evaluate import official_squad as official
from tests.evaluate.helpers import texts
from tests.load.helpers import sample_tokenizer
from tests.support import build, example, in_quarters

ANSWERS = st.text(st.sampled_from("aAn theThÉé.,'\u2019\u0130\u00a0\u3000\U0001f600\t-x9"), max_size=14)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Answer, an\tX!", "answer x"),
        ("a-the", "athe"),
        ("the", ""),
        ("...", ""),
        ("Thé a an", "thé"),
        ("\u2019s a\u00a0b", "\u2019s b"),
        ("theatre panthean", "theatre panthean"),
    ],
)
def test_the_normal_form(text: str, expected: str) -> None:
    assert normalize_answer(text) == expected


@given(ANSWERS, ANSWERS)
def test_equals_the_official_functions(gold: str, predicted: str) -> None:
    assert normalize_answer(gold) == official.normalized(gold)
    golds = [gold] if official.normalized(gold) else [""]
    expected = (function(golds[0], predicted) for function in (official.compute_exact, official.compute_f1))
    assert SQUAD.score([gold], predicted) == tuple(expected)


TEXTS = ["the river", "The", "born", "x", "River.", "..."]
GOLDS = st.lists(st.sampled_from(TEXTS), max_size=3)
WORDS = st.sampled_from(["", "the river", "river", "a", "born x", "!"])
TOKENIZER = sample_tokenizer()


def of_golds(golds: Iterable[Iterable[str]]) -> list[dict[str, Any]]:
    """Examples with these golds."""
    return [
        example("The river x born.", f"Who {number}?", [(text, 0) for text in found], id=str(number))
        for number, found in enumerate(golds)
    ]


@pytest.fixture(scope="module")
def every_gold(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], CacheDataset]:
    """Examples with none, each and each pair of the golds, and a cache of them."""
    examples = of_golds([(), *((one,) for one in TEXTS), *itertools.permutations(TEXTS, 2)])
    return examples, build(examples, TOKENIZER, tmp_path_factory.mktemp("golds"))


@in_quarters
@given(data=st.data())
def test_equals_the_official_script(
    every_gold: tuple[list[dict[str, Any]], CacheDataset], quarter: int, data: st.DataObject
) -> None:
    examples, dataset = every_gold
    predictions = {one["id"]: data.draw(WORDS) for one in examples} | {"another": "id"}
    assert squad_metrics(predictions, dataset, allow_other=True) == official.evaluate(
        official.as_articles(examples), predictions
    )


@pytest.mark.slow
@given(data=st.data(), golds=st.lists(GOLDS, min_size=1, max_size=5))
def test_any_golds(data: st.DataObject, golds: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    examples = of_golds(golds)
    dataset = build(examples, TOKENIZER, tmp_path_factory.mktemp("golds"))
    predictions = {one["id"]: data.draw(WORDS) for one in examples} | {"another": "id"}
    assert squad_metrics(predictions, dataset, allow_other=True) == official.evaluate(
        official.as_articles(examples), predictions
    )


def test_the_sample(tmp_path: Path) -> None:
    dataset = build(sample_file(), TOKENIZER, tmp_path)
    articles = official.read_articles(sample_file())
    ids = list(dataset.get_all_documents())
    predictions = {name: ("The answer", "", "1990")[number % 3] for number, name in enumerate(ids)}
    for number, qa in enumerate(official.questions(articles)):
        if number % 2 and qa["answers"]:
            predictions[qa["id"]] = qa["answers"][-1]["text"] + (" more" if number % 4 == 1 else "")
    found = squad_metrics(predictions, dataset.directory)
    assert found == official.evaluate(articles, predictions)
    assert found["total"] == 96 == found["HasAns_total"] + found["NoAns_total"]
    assert 0 < found["exact"] < found["f1"] < 100


def test_a_kind_that_no_document_has_is_left_out(tmp_path: Path) -> None:
    dataset = build([example("x", id="1")], TOKENIZER, tmp_path)
    expected = {"exact": 100.0, "f1": 100.0, "total": 1}
    assert squad_metrics({"1": ""}, dataset) == expected | {f"NoAns_{name}": found for name, found in expected.items()}


def test_missing_predictions(dataset: CacheDataset) -> None:
    answers = {one["id"]: "" for one in texts((30, 3, 14, 1, 45)) if one["id"] not in ("ïd-1", "ïd-3")}
    with pytest.raises(SettingsError, match=r"^predictions:.*\b6\b.*\b2\b.*'ïd-1'.*allow_missing=True"):
        squad_metrics(answers, dataset)
    assert squad_metrics(answers, dataset, allow_missing=True)["total"] == 4
    with pytest.raises(SettingsError, match=r"^predictions:.*\b6\b.*\b6\b.*'ïd-0'"):
        squad_metrics({}, dataset, allow_missing=True)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([("ïd-0", "")], "list$"),
        ({"ïd-0": None}, "'ïd-0'.*None$"),
        ({"ïd-0": ["x"]}, r"'ïd-0'.*\['x'\]$"),
    ],
)
def test_wrong_predictions(dataset: CacheDataset, predictions: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=f"^predictions:.*{message}"):
        squad_metrics(predictions, dataset, allow_missing=True)
