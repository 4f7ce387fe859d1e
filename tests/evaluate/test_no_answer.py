import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import SettingsError
from memxlnet.evaluate.metrics import squad_metrics
from memxlnet.evaluate.no_answer import best_threshold
from memxlnet.load.cache_dataset import CacheDataset
from tests.evaluate import official_squad as official
from tests.evaluate.helpers import balanced_logits, collected, read_json
from tests.load.helpers import sample_tokenizer
from tests.support import SQUAD, build, example, in_quarters, need_real_data

GOLDS = [[], ["x"], [], ["the"], ["x y", "z"], ["y"], [], ["x y z"]]
ANSWERS = st.sampled_from(["", "x", "x y", "the", "w"])
PROBABILITIES = st.sampled_from([0, 0.0, 0.25, 0.5, 1 / 3, 0.7, 1.0])


@pytest.fixture(scope="module")
def golds(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], CacheDataset]:
    examples = [
        example("The x y z.", f"Who {number}?", [(text, 0) for text in found], id=str(number), half=number % 2)
        for number, found in enumerate(GOLDS)
    ]
    dataset = build(examples, sample_tokenizer(), tmp_path_factory.mktemp("golds"), keep=["half"])
    return examples, dataset


def drawn(data: st.DataObject) -> tuple[dict[str, str], dict[str, float]]:
    ids = [str(number) for number in range(len(GOLDS))]
    answers = {name: data.draw(ANSWERS) for name in ids}
    return answers, {name: data.draw(PROBABILITIES) for name in data.draw(st.permutations(ids))}


@in_quarters
@given(data=st.data(), threshold=PROBABILITIES)
def test_equals_the_official_script(
    golds: tuple[list[Any], CacheDataset], quarter: int, data: st.DataObject, threshold: float
) -> None:
    examples, dataset = golds
    answers, probabilities = drawn(data)
    found = squad_metrics(answers, dataset, no_answer_probabilities=probabilities, no_answer_threshold=threshold)
    articles = official.as_articles(examples)
    assert found == official.evaluate_with_probabilities(articles, answers, probabilities, threshold)
    by_half = squad_metrics(
        answers, dataset, no_answer_probabilities=probabilities, no_answer_threshold=threshold, by="half"
    )
    for half in (0, 1):
        names = [name for name in probabilities if int(name) % 2 == half]
        own = [article for article in articles if article["paragraphs"][0]["qas"][0]["id"] in names]
        expected = official.evaluate_with_probabilities(
            own, {name: answers[name] for name in names}, {name: probabilities[name] for name in names}, threshold
        )
        assert by_half[half] == expected


@in_quarters
@given(data=st.data(), metric=st.sampled_from(["f1", "exact"]))
def test_the_best_threshold_is_reached_and_none_is_better(
    golds: tuple[list[Any], CacheDataset], quarter: int, data: st.DataObject, metric: Any
) -> None:
    examples, dataset = golds
    answers, probabilities = drawn(data)
    found = best_threshold(answers, probabilities, dataset, metric=metric)
    reached = {
        threshold: official.evaluate(official.as_articles(examples), answers, probabilities, threshold)[metric]
        for threshold in {0.0, *probabilities.values()}
    }
    best = max(reached.values())
    lowest = min(threshold for threshold, value in reached.items() if value > best - 1e-9)
    assert found[:2] == (lowest, metric)
    assert found.score == pytest.approx(best)


def test_of_a_collector_and_its_file(dataset: CacheDataset, tmp_path: Any) -> None:
    collector = collected(dataset, *balanced_logits(dataset))
    collector.write_no_answer_probabilities(tmp_path / "no_answer.json")
    probabilities = read_json(tmp_path / "no_answer.json")
    best = best_threshold(collector, probabilities, dataset, metric="exact")
    found = squad_metrics(collector, dataset, no_answer_probabilities=probabilities, no_answer_threshold=best.threshold)
    assert found["exact"] == best.score >= squad_metrics(collector, dataset)["exact"]
    table = squad_metrics(
        collector,
        dataset,
        no_answer_probabilities=probabilities,
        no_answer_threshold=best.threshold,
        per_example=True,
    ).to_list()
    assert 100 * sum(row["exact"] for row in table) / len(table) == found["exact"]
    assert all(row["prediction"] == "" for row in table if probabilities[row["id"]] > best.threshold)


def ones(**changes: Any) -> dict[str, Any]:
    return {**{str(number): 0.5 for number in range(len(GOLDS))}, **changes}


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([0.5], "expected a mapping of numbers by id, found list"),
        ({"0": 0.5}, r"expected one for each of the 8 documents.*found none for 7 of them.*'1'"),
        (ones(other=0.5, more=0.5), "found 2 others among 10: 'other', 'more'; pass allow_other=True"),
        (ones(**{"3": 1.5, "4": -0.1}), r"expected numbers from 0 to 1, found 2 others.*1.5 for '3'; .*exp\(-d\)"),
        (ones(**{"3": float("nan")}), "found 1 others.*nan"),
        (ones(**{"3": True}), "found 1 others.*True"),
        (ones(**{"3": 10**400}), "found 1 others.*1000"),
        (ones(**{"3": "0.5"}), "found 1 others.*'0.5'"),
    ],
)
def test_wrong_probabilities(golds: tuple[list[Any], CacheDataset], probabilities: Any, message: str) -> None:
    answers = dict.fromkeys(ones(), "x")
    for call in (
        lambda: squad_metrics(answers, golds[1], no_answer_probabilities=probabilities),
        lambda: best_threshold(answers, probabilities, golds[1]),
    ):
        with pytest.raises(SettingsError, match=f"^no_answer_probabilities: .*{message}"):
            call()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"no_answer_threshold": 0.5}, "^no_answer_threshold: expected no_answer_probabilities with 0.5, found None"),
        ({"no_answer_threshold": 2, "no_answer_probabilities": ones()}, "^no_answer_threshold: .*found 2"),
        ({"per_example": 1}, "^per_example: "),
    ],
)
def test_wrong_options(golds: tuple[list[Any], CacheDataset], options: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        squad_metrics(dict.fromkeys(ones(), "x"), golds[1], **options)


def test_other_scripts_know_no_probabilities(golds: tuple[list[Any], CacheDataset]) -> None:
    view = golds[1].filter(lambda document: bool(document["answer_texts"]))
    answers = dict.fromkeys(ones(), "x")
    with pytest.raises(SettingsError, match=r"^no_answer_probabilities: .*'mrqa'.*normalization='squad'"):
        squad_metrics(answers, view, no_answer_probabilities=ones(), normalization="mrqa")
    with pytest.raises(SettingsError, match=r"^metric: expected 'f1' or 'exact', found 'em'$"):
        best_threshold(answers, ones(), view, metric="em")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.real_data
def test_real_questions(tmp_path: Any) -> None:
    need_real_data()
    dataset = build(SQUAD, sample_tokenizer(), tmp_path, max_seq_length=384, doc_stride=128)
    articles = official.read_articles(SQUAD)
    source = random.Random(0)
    answers, probabilities = {}, {}
    for qa in official.questions(articles):
        texts = [answer["text"] for answer in qa["answers"]] or ["the answer"]
        answers[qa["id"]] = source.choice([*texts, f"{texts[0]} more", "", texts[0][:5]])
        probabilities[qa["id"]] = round(source.random() * (0.5 if qa["answers"] else 1), source.choice([1, 8]))
    found = squad_metrics(answers, dataset, no_answer_probabilities=probabilities, no_answer_threshold=0.4)
    assert found == official.evaluate_with_probabilities(articles, answers, probabilities, 0.4)
