import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import CacheMismatchError, SettingsError
from memxlnet.evaluate.comparing_texts import SQUAD, normalize_answer
from memxlnet.evaluate.metrics import squad_metrics
from memxlnet.evaluate.score_tables import errors_table
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.joining import concatenate
from memxlnet.sample import sample_file
from tests.evaluate import official_scripts
from tests.evaluate import official_squad as official
from tests.evaluate.helpers import perfectly_collected, texts
from tests.load.helpers import sample_tokenizer
from tests.support import build, example, in_quarters, need_real_data, xquad

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


def test_other_ids(dataset: CacheDataset, tmp_path: Path) -> None:
    answers = {one["id"]: "" for one in texts((30, 3, 14, 1, 45))}
    others = {f"x{number}": "" for number in range(7)}
    with pytest.raises(SettingsError, match=r"^predictions:.* found 7 others among 13: 'x0', .* 'x4' and 2 more"):
        squad_metrics(answers | others, dataset)
    figures = squad_metrics(answers, dataset)
    assert squad_metrics(answers | others, dataset, allow_other=True) == figures
    view = dataset.select(["ïd-2", "ïd-0"])
    assert squad_metrics(answers, view)["total"] == 2
    with pytest.raises(SettingsError, match="found 1 others among 2: 'x'"):
        squad_metrics({"ïd-0": "", "x": ""}, view, allow_missing=True)


def test_ids_of_dropped_examples_are_known(tmp_path: Path) -> None:
    bad = dict(example("x", id="bad"), question=None)
    dataset = build([example("x", id="good"), bad], TOKENIZER, tmp_path, on_bad_example="drop")
    assert dataset.manifest.dropped_examples == 1
    assert squad_metrics({"good": "", "bad": ""}, dataset)["total"] == 1


def test_a_run_over_another_cache(dataset: CacheDataset, another: CacheDataset) -> None:
    collector = perfectly_collected(another)
    with pytest.raises(CacheMismatchError, match=r"^predictions: expected a run over .*dict\(collector.answers\(\)\)"):
        squad_metrics(collector, dataset)
    assert squad_metrics(dict(collector.answers()), dataset) == squad_metrics(collector, another)


@pytest.mark.parametrize("by", ["answer_step", "segments", "source"])
def test_groups_by_places(dataset: CacheDataset, by: str) -> None:
    answers = {one["id"]: ["w0.15", "", "x"][number % 3] for number, one in enumerate(texts((30, 3, 14, 1, 45)))}
    members: dict[Any, list[str]] = {}
    for name in answers:
        segments = [dataset[row] for row in dataset.get_document_segments(name)]
        steps = [segment["segment_index"] for segment in segments if segment["has_answer_in_segment"]]
        value = {"answer_step": min(steps, default=None), "segments": len(segments), "source": segments[0]["source"]}[
            by
        ]
        members.setdefault(value, []).append(name)
    assert squad_metrics(answers, dataset, by=by) == {
        value: squad_metrics(answers, dataset.select(names)) for value, names in members.items()
    }


def test_sources_of_joined_caches(tmp_path: Path) -> None:
    parts = [build([example("x", id=name)], TOKENIZER, tmp_path / name) for name in ("a", "b")]
    found = squad_metrics({"a": "", "b": "x"}, concatenate(parts), by="source")
    assert [figures["exact"] for figures in found.values()] == [100, 0]
    assert len(set(found)) == 2


def test_a_kept_column_with_the_name_of_a_place(tmp_path: Path) -> None:
    dataset = build([example("x", id="1", segments=3)], TOKENIZER, tmp_path, keep=["segments"])
    with pytest.raises(SettingsError, match=r"^by: expected one meaning of 'segments'"):
        squad_metrics({"1": ""}, dataset, by="segments")
    with pytest.raises(SettingsError, match=r"^by: expected 'answer_step', 'segments', 'source' or one of .*'other'"):
        squad_metrics({"1": ""}, dataset, by="other")


def answered_only(dataset: CacheDataset) -> CacheDataset:
    return dataset.filter(lambda document: bool(document["answer_texts"]))


@pytest.mark.parametrize("rule", sorted(official_scripts.RULES, key=str), ids=str)
def test_equals_the_other_official_scripts(
    rule: tuple[Any, Any], every_gold: tuple[list[dict[str, Any]], CacheDataset]
) -> None:
    examples, dataset = every_gold
    golds = {one["id"]: one["answers"]["text"] for one in examples if one["answers"]["text"]}
    predictions = {name: ("a river", "x born", "", "The.")[number % 4] for number, name in enumerate(golds)}
    expected = official_scripts.evaluate(golds, predictions, official_scripts.RULES[rule])
    found = squad_metrics(predictions, answered_only(dataset), normalization=rule[0], language=rule[1])
    assert found == {"exact": expected["exact_match"], "f1": expected["f1"], "total": len(golds)}


def test_equals_the_script_of_mrqa_on_its_own_golds(tmp_path: Path) -> None:
    context = "The U.S. Navy sailed to Rome in 1898."
    answers = [["Rome", "the city of Rome"], ["United States Navy", "U.S. Navy"], ["1898", "in the year 1898", "98"]]
    places = [[[24, 27]], [[4, 12]], [[32, 35]]]
    questions: list[dict[str, Any]] = [
        {"qid": f"q{n}", "question": "What?", "answers": golds, "detected_answers": [{"text": "", "char_spans": spans}]}
        for n, (golds, spans) in enumerate(zip(answers, places, strict=True))
    ]
    header = {"header": {"dataset": "X", "split": "dev"}}
    dataset = build([header, {"context": context, "qas": questions}], TOKENIZER, tmp_path)
    golds: dict[str, list[str]] = {one["qid"]: one["answers"] for one in questions}
    predictions = {"q0": "city Rome", "q1": "United States", "q2": "98"}
    expected = official_scripts.evaluate(golds, predictions, official_scripts.normalized_v1)
    figures = {"exact": expected["exact_match"], "f1": expected["f1"], "total": 3}
    assert squad_metrics(predictions, dataset, normalization="mrqa", golds=golds | {"other": []}) == figures
    assert squad_metrics(predictions, dataset, normalization="mrqa") != figures
    found = errors_table(predictions, dataset, normalization="mrqa", golds=golds).to_list()
    assert {one["id"]: one["golds"] for one in found} == {name: golds[name] for name in ("q0", "q1")}


def test_given_golds_label_a_document(tmp_path: Path) -> None:
    rows = [example("Rome.", "Where?", [("Rome", 0)], id="a"), example("Rome.", "What?", [], id="b")]
    dataset = build([*rows, {**rows[0], "id": "c", "answers": None}], TOKENIZER, tmp_path)
    answers = {"a": "Rome", "b": "x", "c": "Rome"}
    found = squad_metrics(answers, dataset, golds={"a": [], "b": ("x", "y"), "c": ["Rome"]})
    assert [found[name] for name in ("exact", "total", "HasAns_total")] == pytest.approx([200 / 3, 3, 2])
    assert squad_metrics(answers, dataset, golds={"a": [], "b": ["x"]})["unlabelled_total"] == 1


@pytest.mark.parametrize(
    ("golds", "message"),
    [
        ([["x"]], "expected a mapping of lists of texts by id, found list"),
        ({"0": ["x"]}, "expected a list of texts for each labelled document of .* found none for '1'; give an empty"),
        ({"0": ["x"], "1": "x"}, "expected a list of texts for '1', found 'x'"),
        ({"0": ["x"], "1": [None]}, "expected a list of texts for '1', found [None]"),
    ],
)
def test_wrong_golds(golds: Any, message: str, tmp_path: Path) -> None:
    dataset = build(of_golds([["x"], []]), TOKENIZER, tmp_path)
    with pytest.raises(SettingsError, match=f"^golds: {message.replace('[', '.')}"):
        squad_metrics({"0": "", "1": ""}, dataset, golds=golds)


def test_other_scripts_need_golds(every_gold: tuple[list[dict[str, Any]], CacheDataset]) -> None:
    predictions = {one["id"]: "" for one in every_gold[0]}
    with pytest.raises(SettingsError, match=r"^normalization: expected a gold answer .*'mlqa'.*'0'.*'squad'"):
        squad_metrics(predictions, every_gold[1], normalization="mlqa", language="de")


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("language", ["en", "ar", "hi", "zh"])
def test_equals_the_official_scripts_on_real_questions(language: str, tmp_path: Path) -> None:
    need_real_data()
    dataset = build(xquad(language), TOKENIZER, tmp_path, max_seq_length=256, doc_stride=64)
    golds = {
        qa["id"]: [answer["text"] for answer in qa["answers"]]
        for qa in official.questions(official.read_articles(xquad(language)))
    }
    cuts = {name: texts[0][number % 5 :] + " x" * (number % 2) for number, (name, texts) in enumerate(golds.items())}
    for rule in (("squad-v1.1", None), ("mrqa", None), ("mlqa", language)):
        expected = official_scripts.evaluate(golds, cuts, official_scripts.RULES[rule])
        found = squad_metrics(cuts, dataset, normalization=rule[0], language=rule[1])
        assert found == {"exact": expected["exact_match"], "f1": expected["f1"], "total": 1190}
    assert squad_metrics(cuts, dataset) == official.evaluate(official.read_articles(xquad(language)), cuts)
