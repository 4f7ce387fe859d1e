"""The page as a file: what it holds, and what is refused."""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memxlnet import Cache, compare_runs, concatenate, metric_intervals, squad_metrics
from memxlnet.errors import CacheDamagedError, CacheOSError, MissingLibraryError, SettingsError
from memxlnet.load.statistics import read_statistics
from memxlnet.report.documents import DocumentReader, choose, compare
from memxlnet.report.page import write_report
from memxlnet.report.scores import LABELS, read_labels, score, step_groups
from tests.report.helpers import HOSTILE, LONG, data_of, examples, predictions
from tests.support import SQUAD, build, long_examples, short, slow

OUTCOMES = {
    "late": "exact",
    "early": "exact",
    "unreachable": "unreachable",
    "repaired": "repaired",
    "dropped": "dropped",
    "unanswerable": "unanswerable",
    "contradiction": "unanswerable",
    "unlabelled": "unlabelled",
    "yes": "yes_no",
    "number": "number",
    "empty": "unanswerable",
}


@pytest.fixture(scope="session")
def data(written: Path) -> dict[str, Any]:
    found: dict[str, Any] = data_of(written.read_text(encoding="utf-8"))
    return {**found, "by_id": {one["id"]: one for one in found["documents"]}}


def test_every_document_is_there_with_its_texts(data: dict[str, Any]) -> None:
    assert len(data["documents"]) == len(examples())
    for raw in examples():
        shown = data["by_id"][raw["id"]]
        assert shown["question"] == raw["question"]
        assert data["contexts"][shown["context"]] == raw["context"]
        golds = raw["answers"] or {"text": [], "answer_start": []}
        assert [gold[:2] for gold in shown["golds"]] == [
            list(pair) for pair in zip(golds["text"], golds["answer_start"], strict=True)
        ]
        assert all(stands == (raw["context"][at : at + len(gold)] == gold) for gold, at, stands in shown["golds"])
    assert {name: data["by_id"][name]["label"] for name in OUTCOMES} == OUTCOMES
    assert data["by_id"]["contradiction"]["contradiction"]


def test_segments_are_those_of_the_dataset(data: dict[str, Any], dataset: Any) -> None:
    rows = {segment["row"]: segment for one in data["documents"] for segment in one["segments"]}
    assert sorted(rows) == list(range(len(dataset)))
    for row, segment in rows.items():
        item = dataset[row]
        real = np.flatnonzero(item["attention_mask"].numpy())
        assert segment["ids"] == item["input_ids"][real[0] : real[-1] + 1].tolist()
        assert segment["first"] == real[0]
        assert segment["label"] == [int(item["start_positions"]), int(item["end_positions"])]
        start, count = segment["context"]
        offsets = item["offset_mapping"].numpy()[start : start + count]
        expected = [int(offsets[:, 0].min()), int(offsets[:, 1].max())] if count else [0, 0]
        assert segment["characters"] == expected
        assert segment["holds"] == item["has_answer_in_segment"]
        assert {str(token) for token in segment["ids"]} <= data["vocabulary"].keys()


def test_verdicts_and_places(data: dict[str, Any]) -> None:
    first = {name: one["runs"][0] for name, one in data["by_id"].items()}
    assert first["late"]["verdict"] == "partly correct"
    assert first["early"]["verdict"] == "wrong"
    assert first["unanswerable"]["verdict"] == "false answer"
    assert first["contradiction"]["verdict"] == "correct: no answer"
    assert first["dropped"]["verdict"] == "missed"
    assert (first["unlabelled"]["verdict"], first["unlabelled"]["text"]) == ("unlabelled", None)
    assert (first["repaired"]["times"], first["repaired"]["places"]) == (0, [])
    # "word9" stands at the border of a word once, and begins ten others.
    at = LONG.index("word9 ")
    assert first["early"]["places"] == [[at, at + 5]]
    hostile = data["by_id"][examples()[0]["id"]]["runs"][0]
    assert (hostile["verdict"], hostile["places"]) == ("correct", [[7, 7 + len(HOSTILE)]])


def test_figures_are_those_of_the_official_metric(dataset: Any) -> None:
    labelled = read_labels(dataset.cache)
    for texts in predictions():
        run = score(dataset.cache, "predictions", "run", texts)
        expected = squad_metrics(texts, dataset.cache)
        for prefix, chosen in (
            ("", np.ones(len(run.f1), bool)),
            ("HasAns_", labelled.answered),
            ("NoAns_", ~labelled.answered),
        ):
            found = run.figures(chosen)
            assert found == pytest.approx({name: expected[prefix + name] for name in ("exact", "f1", "total")})


def test_labels_are_those_of_the_statistics(dataset: Any) -> None:
    labelled, statistics = read_labels(dataset.cache), read_statistics(dataset.cache)
    steps, counts = np.unique(labelled.step[labelled.step >= 0], return_counts=True)
    assert dict(zip(steps.tolist(), counts.tolist(), strict=True)) == statistics.answer_time_steps
    assert int((labelled.label == LABELS.index("unreachable")).sum()) == statistics.without_answer_segment
    groups = step_groups(labelled)
    assert sum(chosen.sum() for chosen in groups.values()) == len(examples()) - 1  # all but the unlabelled one
    assert groups["no segment"].sum() == 4
    assert max(sum(chosen) for chosen in zip(*groups.values(), strict=True)) == 1


def test_documents_are_spread_over_all_outcomes(dataset: Any) -> None:
    labelled = read_labels(dataset.cache)
    runs = [score(dataset.cache, "predictions", "run", texts) for texts in predictions()]
    every = choose(labelled, runs, 1000)
    assert sorted(every.tolist()) == list(range(len(examples())))
    assert choose(labelled, runs, 5).tolist() == every[:5].tolist()
    few = choose(labelled, [], len(set(labelled.label.tolist())))
    assert sorted(labelled.label[few].tolist()) == sorted(set(labelled.label.tolist()))
    assert compare(runs).tolist() == [{"late": 1, "early": 1}.get(one["id"], 0) for one in examples()]


def test_worst_errors_come_first(data: dict[str, Any]) -> None:
    found = [one["runs"][0]["score"] for one in data["documents"]]
    scores = [2 if score is None else score["f1"] for score in found]
    assert scores == sorted(scores)


def test_documents_stop_at_a_number_of_bytes(dataset: Any) -> None:
    labelled = read_labels(dataset.cache)
    reader = DocumentReader(dataset.cache, labelled, [])
    chosen = choose(labelled, [], 100)
    assert len(reader.read(chosen, most_bytes=1).documents) == 1
    some = reader.read(chosen, most_bytes=20_000)
    assert 1 < len(some.documents) < len(examples())
    assert (some.is_full, reader.read(chosen).is_full) == (True, False)
    assert some.numbers == sorted(chosen[: len(some.numbers)].tolist())


@pytest.mark.usefixtures("no_plots")
def test_a_page_says_how_many_documents_it_holds(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = DocumentReader.read
    one = write_report(small.cache, tmp_path / "one.html", documents=1).read_text()
    assert "1 of 4 documents, spread over all outcomes" in one
    assert len(data_of(one)["documents"]) == 1
    assert "--documents" in one
    monkeypatch.setattr("memxlnet.report.page.DocumentReader.read", lambda self, chosen: read(self, chosen, 1))
    full = write_report(small.cache, tmp_path / "full.html").read_text()
    assert "1 of 4 documents, spread over all outcomes; a page holds 16 MB" in full
    monkeypatch.undo()
    assert "All 4 documents" in write_report(small.cache, tmp_path / "all.html").read_text()


def test_the_same_input_gives_the_same_page(small: Any, tmp_path: Path) -> None:
    pages = [write_report(small.cache, tmp_path / f"{number}.html").read_bytes() for number in range(2)]
    assert pages[0] == pages[1]
    assert sorted(tmp_path.iterdir()) == [tmp_path / "0.html", tmp_path / "1.html"]


def test_no_text_of_the_data_is_markup(written: Path) -> None:
    page = written.read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img" not in page
    assert "<b>" not in page
    assert "//" not in page.split("<script>")[0].replace("http://www.w3.org/", "").replace("https://", "")


def n_best(texts: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """A list for each text, in which it is the most probable and stands last."""
    return {
        name: [{"text": "other", "probability": 0.25, "start_logit": 1.0}, {"text": text, "probability": 0.75}]
        for name, text in texts.items()
    }


@pytest.mark.usefixtures("no_plots")
def test_n_best_lists_are_scored_by_their_most_probable_entry(dataset: Any, tmp_path: Path, data: Any) -> None:
    first, second = predictions()
    lists = n_best(first)
    at = LONG.rindex("word7")  # within another word, and not where it stands first
    lists["late"][1] |= {"text": "word7", "char_start": at, "char_stop": at + 5}
    lists["early"][1] |= {"char_start": 0, "char_stop": 5}  # not its place
    lists["unanswerable"][1] |= {"char_start": LONG.rindex("word149"), "char_stop": 10**30}  # no place of its length
    file = tmp_path / "lists.json"
    file.write_text(json.dumps(lists))
    page = write_report(dataset.cache, tmp_path / "x.html", predictions=file, against=second).read_text()
    found = {one["id"]: one for one in data_of(page)["documents"]}
    for name in first.keys() - {"late"}:
        shown, expected = found[name]["runs"][0], data["by_id"][name]["runs"][0]
        assert shown | {"n_best": []} == expected
        assert shown["n_best"] == [[first[name], 0.75], ["other", 0.25]]
        assert found[name]["runs"][1] == data["by_id"][name]["runs"][1]
    assert found["late"]["runs"][0]["places"] == [[at, at + 5]]
    assert found["unlabelled"]["runs"][0]["n_best"] == []


def test_intervals_and_the_comparison_are_those_of_the_library(dataset: Any, written: Path) -> None:
    page = re.sub(r"<[^>]*>", " ", written.read_text(encoding="utf-8").split('id="distributions"')[0])
    first, second = predictions()
    intervals = metric_intervals(first, dataset.cache) | {
        f"second {name}": each for name, each in metric_intervals(second, dataset.cache).items()
    }
    assert len(intervals) == 12
    for each in intervals.values():
        assert f"{each.low:.2f} to {each.high:.2f}" in page
    both = compare_runs(first, second, dataset.cache)
    for each in (both.exact_difference, both.f1_difference):
        assert f"{each.value:+.2f}  {each.low:+.2f} to {each.high:+.2f}" in re.sub(r"\s+", "  ", page).replace(
            "  to  ", " to "
        )
    for name, value in (("exact", both.mcnemar_exact), ("mid-P", both.mcnemar_mid_p)):
        assert re.search(rf"McNemar, {name}: p\s+{value:.4f}", page)


@pytest.mark.usefixtures("no_plots")
def test_joined_caches(small: Any, tmp_path: Path, tokenizer: Any) -> None:
    rows = [{**one, "id": f"more-{one['id']}"} for one in long_examples(2, 30)]
    joined = concatenate([small, build(rows, tokenizer, tmp_path / "other")]).cache
    page = write_report(joined, tmp_path / "x.html").read_text()
    assert [one["id"] for one in data_of(page)["documents"]] == [
        *(f"id-{at}" for at in range(4)),
        "more-id-0",
        "more-id-1",
    ]
    assert all(data_of(page)["vocabulary"].values())


# --- bad input


BAD_PREDICTIONS = {
    "[]": "predictions: {file}: expected one JSON object, "
    "{{id: text}} or {{id: [{{text, probability}}, ...]}}, found list",
    "{": "predictions: {file}: expected a JSON file of predictions, "
    "{{id: text}} or {{id: [{{text, probability}}, ...]}}, found another one: ",
    '{"id-0": null}': "predictions: {file}: expected a text for 'id-0', found None",
    '{"id-0": "", "id-0": "a"}': "predictions: {file}: expected each id, and each field of an entry, "
    "once, found 'id-0' again in {{'id-0': 'a'}}; keep one of them",
    '{"id-0": [{"text": "a", "text": "b", "probability": 1}]}': "predictions: {file}: expected each id, and each field "
    "of an entry, once, found 'text' again in {{'text': 'b', 'probability': 1}}; keep one of them",
    '{"id-0": "\\ud800"}': "predictions: {file}: expected valid Unicode for 'id-0', found '\\ud800' (half ",
    '{"id-0": []}': "predictions: {file}: expected an n-best list for 'id-0', found an empty list",
    '{"id-0": [{"text": "", "probability": 1}], "id-1": "a"}': "predictions: {file}: expected an n-best list for "
    "'id-1', found 'a'",
    '{"id-0": "a", "id-1": [{"text": "", "probability": 1}]}': "predictions: {file}: expected a text for 'id-1', ",
    '{"id-0": [{"text": "a"}]}': "predictions: {file}: expected text and probability in entry 0 of 'id-0', ",
    '{"id-0": [{"text": 3, "probability": 1}]}': "predictions: {file}: expected a text for entry 0 of 'id-0', found 3",
    '{"id-0": [{"text": "", "probability": 1.5}]}': "predictions: {file}: expected a probability from 0 to 1 in entry "
    "0 of 'id-0', found 1.5",
    '{"id-0": [{"text": "", "probability": NaN}]}': "predictions: {file}: expected a probability from 0 to 1 in entry ",
    "[" * 100_000: "predictions: {file}: expected a JSON file of predictions, "
    "{{id: text}} or {{id: [{{text, probability}}, ...]}}, found another one: ",
    '{"id-0": ""}': "predictions: expected one for each labelled document of {cache}, found none for 3 of them: "
    "'id-1', 'id-2', 'id-3'; give an empty text for no answer",
    json.dumps({f"id-{number}": "" for number in range(11)}): "predictions: expected predictions for the documents of "
    "{cache}, found 7 of 11 for other ids: 'id-4', 'id-5', 'id-6', 'id-7', 'id-8', ...; use the predictions and the "
    "cache of one source",
}


@pytest.mark.parametrize("content", BAD_PREDICTIONS, ids=short)
def test_predictions_that_do_not_fit(small: Any, tmp_path: Path, content: str) -> None:
    file = tmp_path / "predictions.json"
    file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        write_report(small.cache, tmp_path / "report.html", predictions=file)
    assert str(caught.value).startswith(BAD_PREDICTIONS[content].format(file=file, cache=small.directory))
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictions": "none.json"}, r"^predictions: .*none\.json: expected a file that can be read: No such file"),
        (
            {"predictions": 3},
            r"^predictions: expected a mapping of texts or n-best lists by id, or a JSON file of one, found 3",
        ),
        ({"predictions": {"id-0": 3}}, r"^predictions: expected a text for 'id-0', found 3"),
        ({"against": {}}, r"^against: expected predictions as well, found None"),
        ({"documents": 0}, r"^documents: "),
        ({"replace": 1}, r"^replace: "),
    ],
)
def test_arguments_that_are_wrong(small: Any, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        write_report(small.cache, tmp_path / "report.html", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_plots")
def test_predictions_for_dropped_examples_are_no_others(tmp_path: Path, tokenizer: Any) -> None:
    rows = [{"question": "Q?", "context": "A b c.", "id": "good", "answers": {"text": ["b"], "answer_start": [2]}}]
    rows.append({**rows[0], "id": "<i>bad</i>", "question": "word " * 200})
    cache = build(rows, tokenizer, tmp_path, on_bad_example="drop").cache
    page = write_report(cache, tmp_path / "x.html", predictions={"good": "b", "<i>bad</i>": ""}).read_text()
    assert "&lt;i&gt;bad&lt;/i&gt;" in page
    assert "<i>" not in page


@pytest.mark.usefixtures("no_plots")
def test_a_file_that_exists_is_kept(small: Any, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(
        SettingsError, match=r"^path: expected a file that does not exist, found .*; pass replace=True$"
    ):
        write_report(small.cache, path)
    assert path.read_text() == "mine"
    assert write_report(small.cache, path, replace=True).read_text().startswith("<!doctype html>")
    linked = tmp_path / "linked.json"
    linked.symlink_to(path)
    for argument, options in (
        ("predictions", {"predictions": linked}),
        ("against", {"predictions": {}, "against": str(path)}),
    ):
        with pytest.raises(
            SettingsError, match=f"^path: expected another file than the {argument}, found .*report.html"
        ):
            write_report(small.cache, path, replace=True, **options)
    assert path.read_text().startswith("<!doctype html>")
    with pytest.raises(SettingsError, match=r"^path: expected a file in a directory that exists, .*create it first$"):
        write_report(small.cache, tmp_path / "none" / "report.html")
    with pytest.raises(SettingsError, match=r"^path: expected the name of a file, found the directory"):
        write_report(small.cache, tmp_path, replace=True)


@pytest.mark.usefixtures("no_plots")
def test_a_disk_that_fails(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(CacheOSError, match=r"report\.html: cannot be written: No space left on device; make room$"):
        write_report(small.cache, path, replace=True)
    assert [each.read_text() for each in tmp_path.iterdir()] == ["mine"]


@pytest.mark.usefixtures("no_plots")
def test_a_link_stays(small: Any, tmp_path: Path) -> None:
    (tmp_path / "there.html").write_text("mine")
    link = tmp_path / "link.html"
    link.symlink_to("there.html")
    assert write_report(small.cache, link, replace=True) == link
    assert link.is_symlink()
    assert (tmp_path / "there.html").read_text().startswith("<!doctype html>")
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_a_file(small: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(SettingsError, match=r"^path: expected the name of a file, found the device or pipe"):
            write_report(small.cache, path, replace=True)
    with pytest.raises(CacheOSError, match=r"cannot be written: File name too long; choose a shorter path$"):
        write_report(small.cache, tmp_path / ("x" * 300))


def test_ids_that_several_joined_caches_hold(small: Any, tmp_path: Path, tokenizer: Any) -> None:
    other = build([{**one, "question": "Again?"} for one in long_examples(2, 30)], tokenizer, tmp_path / "other")
    with pytest.raises(SettingsError, match=r"^cache: expected each id once, found 'id-0' in "):
        write_report(concatenate([small, other]).cache, tmp_path / "page.html")


def test_a_damaged_cache(small: Any, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(small.directory, tmp_path / small.directory.name))
    cache = Cache.open(copied)
    (copied / "tokenizer.json").write_text("{")
    with pytest.raises(CacheDamagedError, match=r"tokenizer\.json: expected the sha256 .* \(fingerprint\), found "):
        cache.report(tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("library", ["jinja2", "matplotlib.figure"])
def test_a_library_that_is_missing(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(
        MissingLibraryError, match=rf"expected {library.split('.')[0]}, found none; .*memxlnet\[report\]"
    ):
        write_report(small.cache, tmp_path / "report.html")


@pytest.mark.parametrize("answers", [None, slow({"text": [], "answer_start": []})], ids=["unlabelled", "unanswerable"])
def test_a_cache_without_any_answer(tmp_path: Path, tokenizer: Any, answers: Any) -> None:
    rows = [{**row, "answers": answers} for row in long_examples(2, 9)]
    cache = build(rows, tokenizer, tmp_path).cache
    texts = {"id-0": "word0x1", "id-1": ""}
    page = write_report(cache, tmp_path / "x.html", predictions=texts).read_text(encoding="utf-8")
    assert ("no document is labelled" in page) == (answers is None)
    verdicts = [one["runs"][0]["verdict"] for one in data_of(page)["documents"]]
    assert verdicts == (["false answer", "correct: no answer"] if answers else ["unlabelled"] * 2)


@pytest.mark.usefixtures("no_plots")
def test_kept_values_are_shown(tmp_path: Path, tokenizer: Any) -> None:
    rows = [
        {**row, "title": "<i>a title</i>", "year": number or None} for number, row in enumerate(long_examples(2, 9))
    ]
    cache = build(rows, tokenizer, tmp_path, keep=["title", "year"]).cache
    page = write_report(cache, tmp_path / "x.html").read_text(encoding="utf-8")
    found = [one["kept"] for one in data_of(page)["documents"]]
    assert found == [{"title": "<i>a title</i>"}, {"title": "<i>a title</i>", "year": "1"}]
    assert "<i>" not in page


@pytest.mark.usefixtures("no_plots")
def test_runs_of_the_same_name_are_distinguished(small: Any, tmp_path: Path) -> None:
    texts = {f"id-{number}": "" for number in range(4)}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "predictions.json").write_text(json.dumps(texts))
    path = Cache.open(small.directory).report(
        tmp_path / "x.html",
        predictions=tmp_path / "a" / "predictions.json",
        against=tmp_path / "b" / "predictions.json",
    )
    assert data_of(path.read_text())["runs"] == ["predictions (predictions)", "predictions (against)"]


@pytest.mark.slow
@pytest.mark.real_data
def test_squad(xlnet: Any, tmp_path: Path) -> None:
    dataset = build(SQUAD, xlnet, tmp_path, max_seq_length=384, doc_stride=128)
    golds = {item["example_id"]: item["chosen_answer_text"] for item in dataset if not item["segment_index"]}
    path = write_report(dataset.cache, tmp_path / "report.html", predictions=golds, against=dict.fromkeys(golds, ""))
    assert path.stat().st_size < 5_000_000
    page = path.read_text(encoding="utf-8")
    assert "200 of 6,078 documents" in page
    documents = data_of(page)["documents"]
    assert len(documents) == 200
    assert {one["runs"][0]["verdict"] for one in documents} == {"correct", "correct: no answer"}
    assert {one["runs"][1]["verdict"] for one in documents} == {"missed", "correct: no answer"}
    assert all(one["span"] in one["runs"][0]["places"] for one in documents if one["span"])
