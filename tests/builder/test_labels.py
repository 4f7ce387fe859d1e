"""Unlabelled and contradicting examples: what a build counts and warns of, what is trained on and predicted."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memxlnet import answer_ceiling, create_dataloader, create_evaluation_dataloader, squad_metrics, verify
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.errors import BuildError, CacheDamagedError, ExampleError, SettingsError
from memxlnet.evaluate.collector import AnswerCollector
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from memxlnet.maintain.encoding_rules import read_dropped
from memxlnet.sources import open_source
from tests.format.content import files_of
from tests.format.forging import forge
from tests.golden.make_golden import golden_tokenizer
from tests.support import build, example, slow, write_json_lines

CONTEXT = "The lamp of the harbour was lit in 1898 . The keeper was a keeper of the lamp ."
LAMP = [("lamp", 4)]


def row(name: str, answers: Any = LAMP, **fields: Any) -> dict[str, Any]:
    found = example(CONTEXT, "who", answers or (), id=name, **fields)
    return found if answers is not None else {**found, "answers": None}


LABELLED = [row("exact"), row("unanswerable", []), row("flagged", [], is_impossible=True)]
UNLABELLED = [row("test 0", None), row("test 1", None, is_impossible=False)]
OTHER_KINDS = [row("yes", [("Yes", -1)]), row("number", [("1,024", 0)]), row("kind", LAMP, answer_kind="yes_no")]
CONTRADICTIONS = [
    row("both", is_impossible=True),
    row("neither", [], is_impossible=False),
    row("blank", [("", -1)]),
    row("some blank", [*LAMP, (" ", 0)]),
]
EVERYTHING = [*LABELLED, *CONTRADICTIONS, *OTHER_KINDS, *UNLABELLED]
SETTINGS: dict[str, Any] = {"max_seq_length": 20, "doc_stride": 4, "progress": False}


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, "memxlnet"):
        yield


def built(rows: Any, folder: Path, **changes: Any) -> CacheDataset:
    return build(rows, golden_tokenizer(), folder, **{**SETTINGS, **changes})


def alignments(dataset: CacheDataset) -> dict[str, str]:
    documents = dataset.cache.documents
    return {documents.text("id", at): documents.text("alignment", at) for at in range(dataset.cache.num_documents)}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# --- contradictions


@pytest.mark.parametrize(
    ("policy", "both", "workers"),
    [
        *(("unanswerable", "unanswerable", 0), slow("unanswerable", "unanswerable", 2)),
        *(("answers", "exact", 0), ("answers", "exact", 2)),
    ],
)
def test_contradictions_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, policy: str, both: str, workers: int
) -> None:
    dataset = built(EVERYTHING, tmp_path, on_contradiction=policy, num_workers=workers, streaming_chunk_size=3)
    assert alignments(dataset) == {
        **{"exact": "exact", "unanswerable": "unanswerable", "flagged": "unanswerable"},
        **{"both": both, "neither": "unanswerable", "blank": "unanswerable", "some blank": "exact"},
        **{"yes": "yes_no", "number": "number", "kind": "yes_no"},
        **{"test 0": "unlabelled", "test 1": "unlabelled"},
    }
    assert dataset.manifest.contradictions == 4
    assert {name: list(alignments(dataset).values()).count(name) for name in dataset.manifest.alignment} == (
        dataset.manifest.alignment
    )
    assert "4 contradictions, 0 examples dropped" in caplog.text
    assert warnings(caplog) == [
        "in-memory/test: examples whose labels contradict each other, kept as on_contradiction says: 4: 'both', "
        "'neither', 'blank', 'some blank'",
        "in-memory/test: unlabelled examples ('answers' is null or missing), on which nothing can be trained: 2; the "
        "first has the fields 'question', 'context', 'answers', 'id'",
    ]
    verify(dataset.directory, against=EVERYTHING, sample=None)


def test_nothing_is_said_where_nothing_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = built([*LABELLED, *OTHER_KINDS], tmp_path)
    assert (dataset.manifest.contradictions, dataset.manifest.alignment["unlabelled"]) == (0, 0)
    assert warnings(caplog) == []


@pytest.mark.parametrize("bad", CONTRADICTIONS, ids=lambda bad: str(bad["id"]))
def test_a_contradiction_is_a_bad_example_by_default(tmp_path: Path, bad: dict[str, Any]) -> None:
    rows = [*LABELLED, bad]
    with pytest.raises(ExampleError, match=rf"'{bad['id']}'.*\bon_contradiction="):
        built(rows, tmp_path)
    dataset = built(rows, tmp_path, on_bad_example="drop")
    assert [entry.id for entry in read_dropped(dataset.cache)] == [bad["id"]]
    assert (dataset.manifest.contradictions, dataset.manifest.dropped_examples) == (0, 1)
    verify(dataset.directory, against=rows, sample=None)


def test_the_first_ids_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [row(f"id-{number}", [("", -1)]) for number in range(13)]
    built(rows, tmp_path, on_contradiction="answers")
    (warning,) = warnings(caplog)
    assert "says: 13: 'id-0'," in warning
    assert warning.endswith("'id-9' and 3 more ('memxlnet show CACHE --contradictions' lists them)")


def test_what_a_source_drops_on_the_way_is_no_flag_any_more(tmp_path: Path) -> None:
    """Every reader hands the flags on, and they are part of the identity."""
    rows = [row("a", is_impossible=True), row("b", [("yes", -1)], answer_kind="yes_no", is_impossible=None)]
    table = pa.Table.from_pylist([{"is_impossible": None, "answer_kind": None, **one} for one in rows])
    pq.write_table(table, tmp_path / "x.parquet")
    with pa.ipc.new_file(tmp_path / "x.arrow", table.schema) as writer:
        writer.write_table(table)
    write_json_lines(tmp_path / "x.jsonl", rows)
    for source in (rows, *(tmp_path / f"x.{suffix}" for suffix in ("parquet", "arrow", "jsonl"))):
        found = list(open_source(source, "test").rows())
        assert [one.get("is_impossible") for one in found] == [True, None]
        assert [one.get("answer_kind") for one in found] == [None, "yes_no"]
    identities = [
        open_source([{**row("a"), **fields}], "test").identity()["sha256"]
        for fields in ({}, {"is_impossible": None}, {"is_impossible": True}, {"answer_kind": "number"})
    ]
    assert len(set(identities)) == 4


# --- unlabelled


def test_a_test_set_is_built_and_predicted_but_not_trained_on(tmp_path: Path) -> None:
    rows = [{name: value for name, value in one.items() if name != "answers"} for one in (row("0"), row("1"))]
    dataset = built(rows, tmp_path)
    assert alignments(dataset) == {"0": "unlabelled", "1": "unlabelled"}
    verify(dataset.directory, against=rows, sample=None)
    for options in ({}, {"lanes": "refilled"}, {"use_time_step_major": False}):
        with pytest.raises(SettingsError) as caught:
            create_dataloader(dataset, **options)
        assert str(caught.value) == (
            "dataset: expected labelled documents, found 2 of 2 unlabelled, the first of them '0': no answer to train "
            "on was given; evaluation=True reads them for predictions"
        )
    with pytest.raises(SettingsError, match="unlabelled"):
        TimeStepMajorDataLoader(dataset)
    with pytest.raises(SettingsError, match="unlabelled"):
        squad_metrics({"0": "", "1": ""}, dataset)
    ceiling = answer_ceiling(dataset)
    assert (ceiling.unlabelled, ceiling.answerable, ceiling.exact_match) == (2, 0, None)
    answers = [predicted(dataset, use_time_step_major=kind) for kind in (True, False)]
    assert answers[0] == answers[1] == {"0": "The", "1": "The"}


def predicted(dataset: CacheDataset, **options: Any) -> dict[str, str]:
    """The answers of a model that points to the first token of each context."""
    collector = AnswerCollector(dataset)
    for found in create_evaluation_dataloader(dataset, 2, metadata=False, **options):
        for step in found if options["use_time_step_major"] else [found]:
            rows = step["rows"].numpy()
            logits = np.zeros((len(rows), dataset.manifest.max_seq_length))
            firsts = dataset.gather(np.maximum(rows, 0), ["context_row_start", "segment_index"])
            logits[np.arange(len(rows)), firsts["context_row_start"].numpy()] = 9 - firsts["segment_index"].numpy()
            collector.add(rows, logits, logits)
    return dict(collector.answers())


def test_figures_leave_unlabelled_documents_out(tmp_path: Path) -> None:
    mixed = built([*LABELLED, *OTHER_KINDS, *UNLABELLED], tmp_path / "mixed")
    plain = built([*LABELLED, *OTHER_KINDS], tmp_path / "plain")
    answers = {"exact": "lamp", "unanswerable": "", "flagged": "x", "yes": "yes", "number": "", "kind": ""}
    figures = squad_metrics(answers, plain)
    assert squad_metrics(answers, mixed) == {**figures, "unlabelled_total": 2}
    assert (figures["exact"], figures["HasAns_total"], figures["total"]) == (50.0, 4, 6)
    ceilings = [answer_ceiling(dataset) for dataset in (mixed, plain)]
    assert [found.unlabelled for found in ceilings] == [2, 0]
    assert {(found.yes_no, found.number, found.answerable, found.exact_match) for found in ceilings} == {
        (2, 1, 4, 50.0)
    }
    with pytest.raises(SettingsError, match=r"\b2\b.*\b8\b.*unlabelled.*'test\s0'"):
        create_dataloader(mixed)


def test_answers_are_missing_everywhere_or_nowhere(tmp_path: Path) -> None:
    misspelt = {**row("misspelt", None), "answer": [{"text": "lamp", "answer_start": 4}]}
    del misspelt["answers"]
    rows = [row("null", None), row("plain"), misspelt, row("null again", None)]
    with pytest.raises(ExampleError, match=r"'misspelt'.*'answers'"):
        built(rows, tmp_path)
    dataset = built(rows, tmp_path, on_bad_example="drop")
    assert alignments(dataset) == {"null": "unlabelled", "plain": "exact", "null again": "unlabelled"}
    for sample in (None, 1, 2):
        verify(dataset.directory, against=rows, sample=sample)


def test_a_misspelt_field_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{**row(str(number)), "answer": []} for number in range(3)]
    for one in rows:
        del one["answers"]
    built(rows, tmp_path)
    (warning,) = warnings(caplog)
    assert warning.endswith("trained: 3; the first has the fields 'question', 'context', 'id', 'answer'")


# --- resumed, and damaged


def test_a_resumed_build_counts_all_examples(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"on_contradiction": "answers", "streaming_chunk_size": 4, "num_workers": 0}

    def stop(*_: Any) -> None:
        raise BuildError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr("memxlnet.builder.cache_writer.CacheWriter.finish", stop)
        with pytest.raises(BuildError, match="stopped"):
            built(EVERYTHING, tmp_path / "resumed", **settings)
    assert warnings(caplog) == []
    resumed = built(EVERYTHING, tmp_path / "resumed", **settings)
    assert "resuming with 3 finished chunks" in caplog.text
    assert len(warnings(caplog)) == 2
    assert "on_contradiction says: 4: 'both'" in warnings(caplog)[0]
    assert files_of(resumed.directory) == files_of(built(EVERYTHING, tmp_path / "at once", **settings).directory)


@pytest.mark.parametrize(
    ("at", "changes", "message"),
    [
        ("some blank", {"contradiction": ""}, r"\bcontradictions:.*\b3\b.*\b4\b"),
        ("test 0", {"contradiction": "x"}, r"\bcontradictions:.*\b5\b.*\b4\b"),
        ("test 0", {"alignment": "unanswerable"}, r"\balignment:.*'unlabelled': 1\b"),
        ("yes", {"alignment": "number"}, r"\balignment:.*'number': 2\b"),
    ],
)
def test_what_does_not_fit_is_damage(tmp_path: Path, at: str, changes: dict[str, str], message: str) -> None:
    directory = built(EVERYTHING, tmp_path, on_contradiction="answers").directory
    forge(directory, "documents", lambda rows: next(row for row in rows if row["id"] == at).update(changes))
    with pytest.raises(CacheDamagedError, match=message):
        verify(directory)


def test_another_label_is_found_against_the_source(tmp_path: Path) -> None:
    """A row that is unlabelled and one that is unanswerable look alike but for their alignment."""
    rows = [row("a", None), row("b")]
    process_and_cache_dataset(rows, "test", tmp_path, tokenizer=golden_tokenizer(), identity="same", **SETTINGS)
    (directory,) = (path for path in tmp_path.iterdir() if path.is_dir())
    with pytest.raises(CacheDamagedError, match=r"'a'.*alignment:.*'unanswerable'"):
        verify(directory, against=[row("a", []), row("b")], identity="same", sample=None)
