import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from memxlnet.errors import SettingsError
from memxlnet.evaluate.collector import AnswerCollector
from memxlnet.evaluate.json_files import write_json_object
from memxlnet.evaluate.predictions import DocumentPrediction, logistic
from memxlnet.load.cache_dataset import CacheDataset
from tests.evaluate.helpers import balanced_logits, collected, perfectly_collected, random_logits, read_json, texts
from tests.evaluate.official_squad import as_articles, evaluate
from tests.support import WAIT_SECONDS, build, example


@pytest.fixture
def collector(dataset: CacheDataset) -> AnswerCollector:
    return collected(dataset, *balanced_logits(dataset, 3))


@pytest.fixture
def predictions(collector: AnswerCollector) -> list[DocumentPrediction]:
    found = list(collector.predictions())
    assert {bool(one.text) for one in found} == {True, False}
    return found


def test_predictions(collector: AnswerCollector, predictions: list[DocumentPrediction], tmp_path: Path) -> None:
    collector.write_predictions(tmp_path / "answers.json")
    found = read_json(tmp_path / "answers.json")
    assert found == {one.example_id: one.text for one in predictions} == dict(collector.answers())
    assert list(found) == [one.example_id for one in predictions]
    # As text that people can read.
    assert '"ïd-0": ' in (tmp_path / "answers.json").read_text(encoding="utf-8")


def test_n_best(collector: AnswerCollector, predictions: list[DocumentPrediction], tmp_path: Path) -> None:
    collector.write_n_best(str(tmp_path / "best.json"))
    found = read_json(tmp_path / "best.json")
    assert list(found) == [one.example_id for one in predictions]
    for one in predictions:
        entries = found[one.example_id]
        assert math.fsum(entry["probability"] for entry in entries) == pytest.approx(1)
        scores = [entry["score"] for entry in entries]
        assert scores == sorted(scores, reverse=True)
        (null,) = (entry for entry in entries if entry["char_start"] == -1)
        assert null == {
            "text": "",
            "char_start": -1,
            "char_stop": -1,
            "score": one.null_score,
            "probability": one.null_probability,
        }
        assert (entries[0] is null) == (one.text == "")
        spans = [entry for entry in entries if entry is not null]
        assert spans == [
            {name: getattr(span, name) for name in ("text", "char_start", "char_stop", "score", "probability")}
            for span in one.spans
        ]


def test_scores_that_json_cannot_hold(dataset: CacheDataset, tmp_path: Path) -> None:
    starts, ends = random_logits(dataset)
    collector = collected(dataset, starts - math.inf, ends)
    collector.write_n_best(tmp_path / "best.json")
    collector.write_no_answer_probabilities(tmp_path / "none.json")
    nothing = [{"text": "", "char_start": -1, "char_stop": -1, "score": None, "probability": 1.0}]
    names = list(dataset.get_all_documents())
    assert read_json(tmp_path / "best.json") == dict.fromkeys(names, nothing)
    assert read_json(tmp_path / "none.json") == dict.fromkeys(names, 1.0)


def test_probabilities_are_those_of_the_official_script(dataset: CacheDataset, tmp_path: Path) -> None:
    """Its default threshold leaves the answers alone; 0.5 is a difference of 0, whatever was answered before."""
    logits = balanced_logits(dataset, 3)
    articles = as_articles(texts((30, 3, 14, 1, 45)))
    files: list[Any] = []
    for threshold in (0.0, 1e6):
        collector = collected(dataset, *logits, null_threshold=threshold)
        collector.write_predictions(tmp_path / "answers.json")
        collector.write_no_answer_probabilities(tmp_path / "none.json")
        files.append((read_json(tmp_path / "answers.json"), read_json(tmp_path / "none.json")))
    (judged, probabilities), (always, same) = files
    assert probabilities == same
    assert all(always.values()) and not all(judged.values())  # noqa: PT018
    assert evaluate(articles, judged, probabilities) == evaluate(articles, judged)
    assert evaluate(articles, always, probabilities, 0.5) == evaluate(articles, judged)


def test_the_logistic_function() -> None:
    assert [logistic(value) for value in (-math.inf, -1e4, 0.0, 1e4, math.inf)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    for value in (-30.0, -1.0, 0.3, 5.0, 20.0):
        found = logistic(value)
        assert math.log(found / (1 - found)) == pytest.approx(value, rel=1e-6)


def test_dropped_examples_count_as_wrong(tokenizer: Any, tmp_path: Path) -> None:
    examples = texts((20, 12))
    long_question = " ".join(["why"] * 60)
    context = examples[0]["context"]
    lost = [
        example(context, long_question, [("the river", 0)], id="lost-ü"),
        example(context, long_question, [], id="lost-unanswerable"),
    ]
    bad = {"id": "no-context", "question": "Who?", "answers": {"text": ["x"], "answer_start": [0]}}
    dataset = build([lost[0], *examples, bad, lost[1]], tokenizer, tmp_path, on_bad_example="drop")
    assert dataset.manifest.dropped_examples == 3
    collector = perfectly_collected(dataset)
    ids = [one["id"] for one in examples]
    dropped = ["lost-ü", "no-context", "lost-unanswerable"]
    collector.write_predictions(tmp_path / "answers.json")
    answers = read_json(tmp_path / "answers.json")
    assert list(answers) == [*ids, *dropped]
    assert [answers[name] for name in dropped] == ["", "", ""]
    assert [one.example_id for one in collector.predictions()] == ids
    figures = evaluate(as_articles([*examples, *lost, bad | {"context": ""}]), answers)
    assert (figures["exact"], figures["total"]) == (100 * 4 / 6, 6)

    collector.write_no_answer_probabilities(tmp_path / "none.json")
    probabilities = read_json(tmp_path / "none.json")
    assert list(probabilities) == [*ids, *dropped]
    assert [probabilities[name] for name in dropped] == [1.0, 1.0, 1.0]
    collector.write_n_best(tmp_path / "best.json")
    best = read_json(tmp_path / "best.json")
    assert list(best) == [*ids, *dropped]
    assert [[entry["text"] for entry in best[name]] for name in dropped] == [[""]] * 3
    empty = AnswerCollector(dataset)
    assert dict(empty.answers(allow_missing=True)) == dict.fromkeys(dropped, "")


def test_a_document_keeps_its_answer_where_a_dropped_example_has_its_id(tokenizer: Any, tmp_path: Path) -> None:
    one = example("the river Rhine", "Who?", [("Rhine", 10)], id="twice")
    dataset = build([{"id": "twice", "question": "Who?"}, one], tokenizer, tmp_path, on_bad_example="drop")
    perfectly_collected(dataset).write_predictions(tmp_path / "answers.json")
    assert (tmp_path / "answers.json").read_bytes() == b'{\n"twice": "Rhine"\n}\n'


class TestWholeOrNotAtAll:
    def test_a_failure_leaves_what_was_there(self, collector: AnswerCollector, tmp_path: Path) -> None:
        path = tmp_path / "answers.json"
        path.write_text("before")

        def entries() -> Any:
            yield "one", "text"
            raise KeyError("in the middle")

        with pytest.raises(KeyError):
            write_json_object(path, entries())
        assert path.read_text() == "before"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_file_is_replaced(self, collector: AnswerCollector, tmp_path: Path) -> None:
        path = tmp_path / "answers.json"
        path.write_text("before")
        collector.write_predictions(path)
        collector.write_predictions(path)
        assert len(read_json(path)) == collector.cache.num_documents
        assert list(tmp_path.iterdir()) == [path]

    def test_no_entries_are_an_object(self, tmp_path: Path) -> None:
        write_json_object(tmp_path / "empty.json", [])
        assert read_json(tmp_path / "empty.json") == {}

    def test_no_number_that_json_has_not(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json_object(tmp_path / "a.json", [("a", math.nan)])
        assert list(tmp_path.iterdir()) == []

    def test_where_nothing_can_be_written(self, collector: AnswerCollector, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            collector.write_predictions(tmp_path / "none" / "answers.json")
        (tmp_path / "folder").mkdir()
        with pytest.raises(SettingsError, match=r"^path:.*folder"):
            collector.write_n_best(tmp_path / "folder")
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]

    def test_a_link_stays_and_what_it_leads_to_is_replaced(self, collector: AnswerCollector, tmp_path: Path) -> None:
        (tmp_path / "target.json").write_text("before")
        (tmp_path / "link.json").symlink_to("target.json")
        collector.write_predictions(tmp_path / "link.json")
        assert (tmp_path / "link.json").is_symlink()
        assert read_json(tmp_path / "target.json") == dict(collector.answers())

    def test_a_pipe_is_written_to(self, collector: AnswerCollector, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with ThreadPoolExecutor(1) as executor:
            read = executor.submit((tmp_path / "pipe").read_text, encoding="utf-8")
            collector.write_predictions(tmp_path / "pipe")
            assert json.loads(read.result(timeout=WAIT_SECONDS)) == dict(collector.answers())
        assert (tmp_path / "pipe").is_fifo()

    def test_long_and_relative_names(
        self, collector: AnswerCollector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        for name in ("a" * 250, "~/home.json"):
            collector.write_predictions(name)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a" * 250, "home.json"]

    @pytest.mark.parametrize("path", ["", ".", "a\0b", "\udc80", b"a", 3, None])
    def test_what_is_no_path(self, collector: AnswerCollector, path: Any) -> None:
        for write in (
            collector.write_predictions,
            collector.write_n_best,
            collector.write_no_answer_probabilities,
        ):
            with pytest.raises(SettingsError, match=r"^path:"):
                write(path)
