import sys
from typing import Any

import pandas
import polars
import pyarrow as pa
import pytest

from memxlnet import Cache
from memxlnet.errors import MissingLibraryError, SettingsError
from memxlnet.evaluate.data_table import DataTable
from memxlnet.evaluate.metrics import squad_metrics
from memxlnet.evaluate.score_tables import errors_table
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.sample import sample_file
from tests.evaluate.helpers import balanced_logits, collected, texts
from tests.load.helpers import sample_tokenizer
from tests.support import build, example, need_real_data, xquad

LONG = " ".join(f"word{number} caf\u00e9{number}." for number in range(60))


def mixed_examples() -> list[dict[str, Any]]:
    """Golds of every kind: several, repeated, repaired, in another normal form, absent, none; one unlabelled."""
    return [
        example(LONG, answers=[("word50", LONG.index("word50")), ("caf\u00e91.", LONG.index("caf\u00e91."))], id="two"),
        example(LONG, answers=[("word7", 3)], id="moved"),
        example(LONG, answers=[("cafe\u030117", 0), ("nowhere", 5), ("word17", LONG.index("word17"))], id="decomposed"),
        example(LONG, answers=[("nowhere", 5)], id="absent"),
        example(LONG, answers=[("yes", 0)], id="yes"),
        example(LONG, id="none"),
        example(LONG, answers=[(LONG[:200], 0)], id="longer than a segment"),
        {"id": "unlabelled", "question": "Who?", "context": LONG, "answers": None},
    ]


@pytest.fixture(scope="module", params=["one shard", "many shards"])
def mixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CacheDataset:
    options = {} if request.param == "one shard" else {"max_shard_rows": 4}
    root = tmp_path_factory.mktemp("mixed")
    rows = [dict(one, title=f"t{number}", segments=number) for number, one in enumerate(mixed_examples())]
    return build(rows, sample_tokenizer(), root, max_seq_length=48, keep=["title", "segments"], **options)


def holders(dataset: CacheDataset, name: str) -> list[bool]:
    return [bool(dataset[row]["has_answer_in_segment"]) for row in dataset.get_document_segments(name)]


def test_documents(mixed: CacheDataset) -> None:
    cache = Cache(mixed.directory)
    rows = cache.documents_table().to_list()
    assert [row["id"] for row in rows] == [one["id"] for one in mixed_examples()]
    for number, row in enumerate(rows):
        holds = holders(mixed, row["id"])
        assert (row["has_answer_in_segment"], row["segments"]) == (holds, len(holds))
        assert row["answer_step"] == (holds.index(True) if any(holds) else None)
        assert row["row"] == mixed.get_document_segments(row["id"])[0]
        assert (row["title"], row["kept_segments"], row["source"]) == (f"t{number}", number, "in-memory")
    chosen = mixed.select(["none", "two"])
    assert [row["id"] for row in cache.documents_table(chosen).to_list()] == ["two", "none"]


def test_golds(mixed: CacheDataset) -> None:
    rows = Cache(mixed.directory).golds_table().to_list()
    expected = [
        (one["id"], number, text, start)
        for one in mixed_examples()
        for number, (text, start) in enumerate(
            zip(*((one["answers"] or {}).get(name, []) for name in ("text", "answer_start")), strict=True)
        )
    ]
    assert [(row["id"], row["gold"], row["text"], row["given_start"]) for row in rows] == expected
    alignments = ["exact", "exact", "repaired", "repaired", "dropped", "exact", "dropped", "yes_no", "exact"]
    assert [row["alignment"] for row in rows] == alignments
    found = {
        (row["id"], row["text"]): LONG[slice(row["char_start"], row["char_stop"])] for row in rows if row["char_stop"]
    }
    assert found.pop(("decomposed", "cafe\u030117")) == "caf\u00e917"
    assert all(text == name[1] for name, text in found.items())
    assert len(found) == 5
    last = rows[-1]
    assert (last["char_start"], last["char_stop"], last["row"], last["step"]) == (0, 200, None, None)
    check_chosen(mixed, rows)
    two = [row for row in rows if row["id"] == "two"]
    assert two[1]["step"] == 0 < two[0]["step"]
    view = mixed.select(["moved"])
    assert [row["id"] for row in Cache(mixed.directory).golds_table(view).to_list()] == ["moved"]


def check_chosen(dataset: CacheDataset, rows: list[dict[str, Any]]) -> None:
    """The chosen golds stand where the labels of the cache are, and each other one that has a place has a holder's."""
    for row in rows:
        segments = dataset.get_document_segments(row["id"])
        holds = row["has_answer_in_segment"]
        assert len(holds) == len(segments)
        first = holds.index(True) if any(holds) else None
        assert (row["step"], row["row"]) == (first, None if first is None else segments[first])
        if row["chosen"]:
            segment = dataset[segments[0]]
            assert holds == holders(dataset, row["id"])
            assert (row["char_start"], row["char_stop"]) == tuple(segment["chosen_answer_char_span"])
            assert row["text"] == segment["chosen_answer_text"]


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("language", ["ar", "hi", "zh"])
def test_golds_of_real_questions(language: str, tmp_path: Any) -> None:
    need_real_data()
    dataset = build(xquad(language), sample_tokenizer(), tmp_path, max_seq_length=256, doc_stride=64)
    check_chosen(dataset, Cache(dataset.directory).golds_table().to_list())


def test_golds_in_blocks(monkeypatch: pytest.MonkeyPatch, dataset: CacheDataset) -> None:
    expected = Cache(dataset.directory).golds_table()
    monkeypatch.setattr("memxlnet.evaluate.document_tables._GOLDS_AT_ONCE", 2)
    assert Cache(dataset.directory).golds_table().to_arrow() == expected.to_arrow().combine_chunks()


def test_a_cache_without_golds(tmp_path: Any) -> None:
    cache = Cache(build([example("x y", id="1")], sample_tokenizer(), tmp_path).directory)
    assert len(cache.golds_table()) == 0
    assert "has_answer_in_segment" in cache.golds_table().column_names


def test_a_view_of_another_cache(dataset: CacheDataset, another: CacheDataset) -> None:
    for method in ("documents_table", "golds_table"):
        with pytest.raises(SettingsError, match=r"^dataset: "):
            getattr(Cache(dataset.directory), method)(another)


def test_predictions_and_n_best(dataset: CacheDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memxlnet.evaluate.prediction_tables._DOCUMENTS_AT_ONCE", 4)
    collector = collected(dataset, *balanced_logits(dataset), n_best=3)
    predictions = list(collector.predictions())
    rows, best = collector.predictions_table().to_list(), collector.n_best_table().to_list()
    assert [row["id"] for row in rows] == [one.example_id for one in predictions]
    assert {bool(one.text) for one in predictions} == {True, False}
    steps = dataset.gather(slice(None), ["segment_index"])["segment_index"].tolist()
    for one, row in zip(predictions, rows, strict=True):
        for name in ("text", "score", "null_score", "null_score_difference", "null_probability"):
            assert row[name] == getattr(one, name)
        first = one.spans[0]
        place = (first.char_start, first.char_stop, first.row, first.step) if one.text else (None,) * 4
        assert (row["char_start"], row["char_stop"], row["row"], row["step"]) == place
    spans = [(one.example_id, rank, span) for one in predictions for rank, span in enumerate(one.spans)]
    assert [(row.pop("id"), row.pop("rank")) for row in best] == [(name, rank) for name, rank, _ in spans]
    assert best == [{name: vars(span)[name] for name in row} for (_, _, span), row in zip(spans, best, strict=True)]
    assert all(span.step == steps[span.row] for _, _, span in spans)
    with pytest.raises(SettingsError, match="allow_missing=True"):
        collected(dataset, *balanced_logits(dataset), order=[0]).n_best_table()


def test_scores_and_errors(dataset: CacheDataset) -> None:
    examples = texts((30, 3, 14, 1, 45))
    answers = dict.fromkeys((one["id"] for one in examples), "")
    answers |= {"ïd-0": "The w0.15!", "ïd-1": "w1.1 more", "ïd-2": "the river", "again": "other words"}
    table = squad_metrics(answers, dataset, per_example=True)
    rows = {row["id"]: row for row in table.to_list()}
    outcomes = ["right", "partial", "answered", "unanswered", "unanswered", "wrong"]
    assert [row["outcome"] for row in rows.values()] == outcomes
    figures = squad_metrics(answers, dataset)
    for name in ("exact", "f1"):
        assert sum(row[name] for row in rows.values()) * 100 / 6 == pytest.approx(figures[name])
    documents = {row["id"]: row for row in Cache(dataset.directory).documents_table().to_list()}
    for name, row in rows.items():
        own = documents[name]
        assert row["prediction"] == answers[name]
        for column in ("golds", "question", "segments", "answer_step"):
            assert row[column] == own[column]
    errors = errors_table(answers, dataset).to_list()
    assert [row["id"] for row in errors] == ["ïd-2", "ïd-3", "ïd-4", "again", "ïd-1"]


def test_what_other_libraries_get(dataset: CacheDataset) -> None:
    table = Cache(dataset.directory).documents_table()
    arrow = table.to_arrow()
    assert isinstance(arrow, pa.Table)
    assert pa.table(table) == arrow
    assert table.to_pandas()["id"].tolist() == table.to_polars()["id"].to_list() == arrow["id"].to_pylist()
    assert isinstance(table.to_pandas(), pandas.DataFrame)
    assert isinstance(table.to_polars(), polars.DataFrame)
    assert repr(table).startswith(f"DataTable({len(table)} rows: id, question, golds")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_missing_library(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    table = DataTable(pa.table({"x": [1]}))
    with pytest.raises(MissingLibraryError, match=f"expected {library}, .*pip install {library}"):
        getattr(table, f"to_{library}")()


def test_the_sample(tmp_path: Any) -> None:
    dataset = build(sample_file(), sample_tokenizer(), tmp_path, max_seq_length=128)
    check_chosen(dataset, Cache(dataset.directory).golds_table().to_list())
