"""`verify` finds values that cannot be read safely, and with `deep` all that are wrong, whatever the checksums say."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from arrow_schemas import FileMetadata, table_schema, with_metadata
from memxlnet.builder import chunks_to_shards as publish_module
from memxlnet.errors import CacheDamagedError, CacheMismatchError
from memxlnet.format import text_table
from memxlnet.format.published import PublishedCache
from memxlnet.maintain import relations
from memxlnet.maintain.row_blocks import FeatureBlock
from memxlnet.maintain.verify import verify, verify_bytes
from tests.format.forging import Rows, forge, seal, set_value, write_report
from tests.golden.make_golden import CACHE
from tests.styles import make
from tests.support import build, example, in_quarters, long_examples, told_by
from tests.test_architecture import loaded_after

FEATURES = table_schema("features", 16)
CELLS = [(name, row) for name in FEATURES.names for row in range(10)]
LIMITS = {"int8": 2**7, "int32": 2**31, "int64": 2**63}
SEEDS = int(os.environ.get("MEMXLNET_DAMAGE_SEEDS", "150"))


def refused(directory: Path, place: str, error: type[Exception] = CacheDamagedError, *, deep: bool = False) -> None:
    """Check that the bytes are right and the values are not; `place` is a pattern of file, row and column."""
    verify_bytes(directory)
    with pytest.raises(error, match=place) as caught:
        verify(directory, deep=deep)
    assert str(directory) in str(caught.value)


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A copy of the golden cache: ten segments of four documents over three contexts, one example dropped."""
    return Path(shutil.copytree(CACHE, tmp_path / "golden"))


@pytest.fixture(scope="module")
def made_large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of several shards and batches: every third context is one of an earlier batch."""
    rows = long_examples(8, words=30)
    for number in (3, 6):
        rows[number] |= {"context": rows[0]["context"], "answers": {"text": [], "answer_start": []}}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(publish_module, "DOCUMENTS_BATCH_ROWS", 3)
        patched.setattr(publish_module, "CONTEXTS_BATCH_ROWS", 2)
        return build(rows, make("xlnet-sample"), tmp_path_factory.mktemp("large"), max_shard_rows=11).directory


@pytest.fixture
def large(made_large: Path, tmp_path: Path) -> Path:
    """A copy that may be altered."""
    return Path(shutil.copytree(made_large, tmp_path / "large"))


def test_sealing_alone_changes_nothing(golden: Path, large: Path) -> None:
    for directory in (golden, large):
        before = {path.name: path.read_bytes() for path in directory.iterdir()}
        for table in ("features", "documents", "contexts"):
            forge(directory, table, lambda rows: None)
        verify(directory)
        assert (directory / "manifest.json").stat().st_size == len(before["manifest.json"])


@in_quarters
@given(st.sampled_from(CELLS), st.data())
def test_any_other_value_in_features_is_found(quarter: int, cell: tuple[str, int], data: st.DataObject) -> None:
    name, row = cell
    kind = FEATURES.field(name).type
    listed = pa.types.is_fixed_size_list(kind)
    limit = LIMITS[str(kind.value_type if listed else kind)]
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(shutil.copytree(CACHE, Path(folder, "golden")))
        values = PublishedCache(directory).features[0].columns[name][row].tolist()
        position = data.draw(st.integers(0, 15))
        old = values[position] if listed else values
        near = st.integers(max(old - 20, -limit), min(old + 20, limit - 1)) | st.integers(-limit, limit - 1)
        new = data.draw(near.filter(lambda value: value != old))
        changed = [new if at == position else value for at, value in enumerate(values)] if listed else new
        set_value(directory, "features", row, name, changed)
        refused(directory, rf"features-00000\.arrow, row {row} \(id '\w+'\), ", deep=True)


FAR = 2**62
"""A number that leads to no row, token or character."""

FAR_FEATURES = [
    ("input_ids", [-1] * 16),
    ("input_ids", [24] * 16),
    ("attention_mask", [2] * 16),
    ("token_type_ids", [-1] * 16),
    *((name, value) for name in ("start_positions", "end_positions", "cls_index") for value in (-1, 16)),
    *(("document", value) for value in (-1, 1, 4, FAR)),
    *(("segment_index", value) for value in (-1, 0, 5)),
    *(
        (name, value)
        for name in ("context_token_start", "context_token_count", "context_row_start")
        for value in (-1, 99)
    ),
    *(("question_row_start", value) for value in (-1, 17)),
    *(("has_answer_in_segment", value) for value in (-1, 2)),
]


@pytest.mark.parametrize(("name", "value"), FAR_FEATURES, ids=str)
def test_features_that_lead_nowhere(golden: Path, name: str, value: Any) -> None:
    set_value(golden, "features", 2, name, value)
    refused(golden, rf"features-00000\.arrow, row 2 \(id 'exact'\), (context_token_start|{name})")


IN_PADDING: dict[tuple[str, int], list[tuple[str, int]]] = {
    ("xlnet", 0): [("context_row_start", -1), ("context_row_start", 23), ("question_row_start", 23)],
    ("bert-padded-left", 2): [("context_row_start", 0), ("context_row_start", 21), ("question_row_start", 23)],
    ("bert-uncased", 2): [("context_row_start", -1), ("context_row_start", 20), ("question_row_start", 1)],
}
"""By the style of the tokenizer and its memory tokens: columns and values that lead outside of the real tokens."""


@pytest.mark.parametrize("style", IN_PADDING, ids=str)
def test_places_outside_of_the_real_tokens_of_a_row(style: tuple[str, int], tmp_path: Path) -> None:
    """Where padding is cut off, nothing is there."""
    rows = [
        example("the keeper of the lamp was old and the river was wide", "the lamp", [("lamp", 18)], id="long"),
        example("the river", "who is", [], id="short"),
    ]
    dataset = build(rows, make(*style), tmp_path, max_seq_length=24, doc_stride=4)
    last = dataset.cache.num_rows - 1
    padding = 2 if dataset.manifest.layout.pad_left else 22
    positions = [(name, padding) for name in ("cls_index", "start_positions", "end_positions", "question_row_start")]
    for number, (name, value) in enumerate([*IN_PADDING[style], *positions]):
        copied = Path(shutil.copytree(dataset.directory, tmp_path / str(number)))
        set_value(copied, "features", last, name, value)
        refused(copied, rf"row {last} \(id 'short'\), {name}")
    many = {"question_token_starts": [0] * 19, "question_token_stops": [0] * 19}
    forge(dataset.directory, "documents", lambda documents: documents[1].update(many))
    refused(dataset.directory, rf"row {last} \(id 'short'\), question_row_start")


DOCUMENTS: list[tuple[int, dict[str, Any], str]] = [
    *((row, {"context": value}, "context") for row, value in ((0, -1), (1, 2), (3, 3), (3, FAR))),
    (2, {"question_token_starts": [0]}, "question_token_stops"),
    (2, {"question_token_starts": [-1, 3]}, "question_token_starts"),
    (2, {"question_token_stops": [2, 7]}, "question_token_starts"),
    (2, {"question_token_stops": [2, 2]}, "question_token_starts"),
    (2, {"question": "By"}, "question_token_starts"),
    *((0, {"num_segments": value}, "num_segments") for value in (-1, 0, 11)),
    (1, {"num_segments": 2}, "first_segment"),
    (2, {"first_segment": 5}, "first_segment"),
    (0, {"answer_starts": [35]}, "answer_starts"),
    *((0, {"chosen_answer": value}, "chosen_answer") for value in (-2, 2)),
    (0, {"alignment": "fine"}, "alignment"),
    (1, {"answer_char_start": 7}, "answer_char_start"),
    (1, {"answer_char_stop": 25}, "answer_char_start"),
    (2, {"answer_char_start": 0}, "answer_char_start"),
    (1, {"answer_token_start": -1}, "answer_token_start"),
    (1, {"answer_token_stop": 7}, "answer_token_start"),
    (2, {"answer_token_start": 0}, "answer_token_start"),
    (0, {"chosen_answer": -1}, "num_answer_segments"),
    *((0, {"num_answer_segments": value}, "num_answer_segments") for value in (-1, 6)),
    (2, {"num_answer_segments": 1}, "num_answer_segments"),
]
"""A row, what is changed in it, and the column that is named: values that lead nowhere."""

WRONG_DOCUMENTS: list[tuple[int, dict[str, Any]]] = [
    (1, {"question_token_starts": [0], "question_token_stops": [0]}),
    (3, {"chosen_answer": 0}),
    (0, {"chosen_answer": 1}),
    *((0, {"alignment": value}) for value in ("unanswerable", "dropped", "repaired", "yes_no", "unlabelled")),
    *((2, {"alignment": value}) for value in ("dropped", "exact")),
    (3, {"alignment": "number"}),
    (0, {"contradiction": "x"}),
    (0, {"alignment_detail": "x"}),
    (1, {"alignment_detail": ""}),
    (0, {"answer_texts": ["189", "in 1898"]}),
    (0, {"answer_starts": [34, 32]}),
    (1, {"answer_token_start": 0}),
    (0, {"answer_token_start": 7}),
    (1, {"answer_char_stop": 9}),
    (1, {"answer_char_start": 7, "answer_char_stop": 8}),
    (0, {"num_answer_segments": 1}),
]
"""Values that could be read, but that the encoder does not give."""


@pytest.mark.parametrize(("row", "changes", "column"), DOCUMENTS, ids=lambda value: str(value)[:40])
def test_documents_that_lead_nowhere(golden: Path, row: int, changes: dict[str, Any], column: str) -> None:
    forge(golden, "documents", lambda rows: rows[row].update(changes))
    # A document with more segments is wrong where the next one begins.
    refused(golden, rf"documents-00000\.arrow, row ({row}|{row + 1}) \(id '[\w ]+'\), {column}")


@pytest.mark.parametrize(("row", "changes"), WRONG_DOCUMENTS, ids=lambda value: str(value)[:40])
def test_documents_that_the_encoder_does_not_give(golden: Path, row: int, changes: dict[str, Any]) -> None:
    def recount(content: dict[str, Any]) -> None:
        """Let the counts of the manifest follow, so that only encoding again finds the change."""
        documents = PublishedCache(CACHE).documents.batch(0).to_pylist()
        documents[row] |= changes
        for name in content["alignment"]:
            content["alignment"][name] = sum(document["alignment"] == name for document in documents)

    forge(golden, "documents", lambda rows: rows[row].update(changes))
    seal(golden, recount)
    refused(
        golden, rf"documents-00000\.arrow, row {row} |manifest\.json, (contradictions|documents_without)", deep=True
    )


@pytest.mark.parametrize(
    ("row", "changes", "column"),
    [
        (2, {"token_starts": [0]}, "token_stops"),
        (2, {"token_starts": [0, 9]}, "token_starts"),
        (2, {"token_stops": [3, 9]}, "token_starts"),
        (1, {"token_starts": [0, 2, 8, 10, -13, 17]}, "token_starts"),
        (1, {"text": "A cafe\u0301 \U0001f600 by the harbou"}, "token_starts"),
        (2, {"text": "The lamp of the harbour was lit in 1898 . The keeper was a keeper of the lamp ."}, "text"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_contexts_that_cannot_be(golden: Path, row: int, changes: dict[str, Any], column: str) -> None:
    forge(golden, "contexts", lambda rows: rows[row].update(changes))
    refused(golden, rf"contexts-00000\.arrow, row {row}, {column}")


def test_ids_that_repeat_are_found_across_batches(golden: Path, large: Path) -> None:
    set_value(golden, "documents", 2, "id", "exact")
    refused(golden, r"documents-00000\.arrow, row 2 \(id 'exact'\), id: expected another one than row 0 has")
    set_value(large, "documents", 7, "id", "id-1")
    refused(large, r"documents-00000\.arrow, row 7 \(id 'id-1'\), id: expected another one than row 1 has")


def test_two_texts_of_one_hash_are_no_repetition(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xxhash, "xxh3_64_intdigest", lambda _: 7)
    verify(golden)
    set_value(golden, "documents", 3, "id", "repaired")
    refused(golden, r"row 3 \(id 'repaired'\), id: expected another one than row 1 has")


def _swap(one: int, two: int) -> Callable[[Rows], None]:
    def edit(rows: Rows) -> None:
        rows[one], rows[two] = rows[two], rows[one]

    return edit


def test_contexts_in_another_order_are_found(large: Path) -> None:
    assert PublishedCache(large).documents.column("context").tolist() == [0, 1, 2, 0, 3, 4, 0, 5]
    set_value(large, "documents", 4, "context", 4)
    refused(large, r"documents-00000\.arrow, row 4 .*, context: expected a row of contexts from 0 to 3 .*, found 4")


def test_rows_in_another_order_are_found(golden: Path, large: Path) -> None:
    forge(golden, "features", _swap(1, 2))
    refused(golden, r"features-00000\.arrow, row 1 ")
    forge(large, "documents", _swap(1, 2))
    refused(large, r"documents-00000\.arrow, row 1 ")


def test_a_row_too_many_or_too_few_is_found(golden: Path, large: Path, tmp_path: Path) -> None:
    """The counts of the manifest follow the tables, so that only the other tables show it."""
    copies = [Path(shutil.copytree(large, tmp_path / name)) for name in ("a", "b", "c", "d")]
    forge(copies[0], "features", lambda rows: rows.append(rows[-1]))
    refused(copies[0], r"manifest\.json, tables\.features\.rows: expected \d+, as documents give it, found \d+")
    forge(copies[1], "features", lambda rows: rows.__delitem__(-1))
    refused(copies[1], r"documents-00000\.arrow, row 7 .*, first_segment: expected all of its segments in the \d+ of")
    forge(copies[2], "contexts", lambda rows: rows.append({**rows[0], "text": rows[0]["text"] + "."}))
    refused(copies[2], r"manifest\.json, tables\.contexts\.rows: expected 6, as documents give it, found 7")
    forge(copies[3], "contexts", lambda rows: rows.__delitem__(-1))
    refused(copies[3], r"documents-00000\.arrow, row 7 .*, context: expected a row of contexts from 0 to 4")
    forge(golden, "documents", lambda rows: rows.__delitem__(-1))
    refused(golden, "expected")


@pytest.mark.parametrize("row", [0, 10, 11, 12, 21, 22, -1])
def test_every_shard_and_block_is_read(large: Path, row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relations, "BLOCK_VALUES", 64 * 3)
    verify(large)
    shards = PublishedCache(large).features
    assert [shard.row_stop - shard.row_start for shard in shards[:2]] == [11, 11]
    row %= shards[-1].row_stop
    set_value(large, "features", row, "segment_index", 99)
    refused(large, rf"features-0000{row // 11}\.arrow, row {row} \(id 'id-\d'\), segment_index: expected \d, found 99")


def test_no_more_than_a_block_is_checked_at_once(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = FeatureBlock.demand_within

    def count(block: FeatureBlock, name: str, *arguments: Any) -> None:
        if name == "input_ids":
            sizes.append(len(block.rows))
        plain(block, name, *arguments)

    monkeypatch.setattr(FeatureBlock, "demand_within", count)
    monkeypatch.setattr(relations, "BLOCK_VALUES", 64 * 2)
    verify(large)
    assert max(sizes) == 2
    assert sum(sizes) == PublishedCache(large).num_rows


def test_no_batch_is_kept(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("kept")

    monkeypatch.setattr(text_table, "_parts", refuse)
    verify(large)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda content: content["alignment"].update(exact=2, repaired=0),
            "alignment: expected .*'exact': 1.*'exact': 2",
        ),
        (lambda content: content.update(documents_without_answer_segment=1), "documents_without_.*expected 0.*found 1"),
        (lambda content: content.update(contradictions=1), "contradictions: expected 0, .*found 1"),
        (lambda content: content.update(vocabulary_size=25), "vocabulary_size: expected 24, .*found 25"),
        (lambda content: content.update(vocabulary_size=23), "expected 0 to 22"),
        (lambda content: content["fields"].update(algorithm_version=0), "algorithm_version: expected 3, found 0"),
        (lambda content: content["fields"]["settings"].update(doc_stride=99), "doc_stride"),
        (lambda content: content["fields"]["settings"].update(doc_stride=3), "expected"),
        (lambda content: content["fields"]["settings"].update(max_n_segs=1), "num_segments: expected 1"),
        (lambda content: content["fields"]["settings"].update(max_examples=4), "max_examples: expected at most 4 ex"),
        (lambda content: content["fields"]["settings"].update(on_bad_example="error"), "dropped_examples: expected 0"),
        (lambda content: content["fields"]["settings"].update(unknown=1), "unknown"),
        (lambda content: content["fields"]["settings"].update(insert_memory_tokens=5), "insert_memory_tokens"),
        (lambda content: content["fields"]["tokenizer"]["layout"].update(pad_id="x"), "the id 'x'"),
        (lambda content: content["fields"]["tokenizer"]["layout"].update(pad_type=200), "the id 200"),
        (lambda content: content["fields"]["tokenizer"]["layout"].update(prefix=5), "layout"),
        (lambda content: content["fields"]["tokenizer"]["layout"].update(cls_id=7), "cls_id 7"),
        (lambda content: content["fields"]["tokenizer"]["layout"].update(cls_last=1), "cls_last 1"),
        (lambda content: content["fields"]["tokenizer"]["layout"].update(middle_types=[]), "middle_types"),
        (lambda content: content["fields"]["tokenizer"]["layout"].update(memory_read_ids=[]), "memory tokens"),
        (lambda content: content["fields"]["tokenizer"]["layout"].update(pad_left=1), "pad_left 1"),
        (
            lambda content: content["fields"]["tokenizer"]["layout"].update(pad_left=False),
            "row 0 .*, question_row_start: expected 1 to 4",
        ),
        (
            lambda content: content["fields"]["tokenizer"].update(sha256="0" * 64),
            r"tokenizer\.json: expected the sha256",
        ),
        (
            lambda content: content["fields"]["tokenizer"].update(sha256=None),
            r"tokenizer\.json: expected the sha256 None",
        ),
        (lambda content: content["files"].__delitem__(0), r"files: expected tokenizer\.json among them"),
    ],
)
def test_a_manifest_that_does_not_fit_is_found(
    golden: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    seal(golden, change)
    version = "algorithm_version" in message
    refused(golden, message, CacheMismatchError if version else CacheDamagedError, deep=True)


ENTRY = {"row": 4, "id": "bad", "reason": "why"}
LINE = json.dumps(ENTRY) + "\n"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "expected 1 lines, one for each dropped example, found 0"),
        ([{**ENTRY, "row": 3}, ENTRY], "expected 1 lines, one for each dropped example, found 2"),
        ([ENTRY, ENTRY], "line 2: expected a row from 5 to 4"),
        ([{**ENTRY, "row": 5}], "line 1: expected a row from 0 to 4, in ascending order"),
        ([{**ENTRY, "row": -1}], "line 1: expected a row from 0 to 4"),
        ([{**ENTRY, "row": True}], "line 1: expected JSON as"),
        ([{**ENTRY, "row": "4"}], "line 1: expected JSON as"),
        ([{**ENTRY, "id": None}], "line 1: expected JSON as"),
        ([{**ENTRY, "reason": 5}], "line 1: expected JSON as"),
        ([{"row": 4, "id": "bad"}], "line 1: expected JSON as"),
        ([{**ENTRY, "more": 1}], "line 1: expected JSON as"),
        (["[]\n"], "line 1: expected JSON as"),
        (["{\n"], "line 1: expected JSON as"),
        (["[" * 100_000 + "\n"], "line 1: expected JSON as"),
        ([LINE[:-1]], "line 1: expected JSON as"),
        ([LINE.replace(" ", "")], "line 1: expected JSON as"),
        ([LINE.replace("why", "\\ud800")], "line 1: expected JSON as"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_report_of_dropped_examples_that_does_not_fit_is_found(golden: Path, lines: list[Any], message: str) -> None:
    write_report(golden, [ENTRY])
    verify(golden)
    write_report(golden, lines)
    refused(golden, rf"dropped\.jsonl(, |: ){re.escape(message)}")


def test_a_report_is_there_where_and_only_where_examples_were_dropped(golden: Path, large: Path) -> None:
    seal(golden, lambda content: content.update(dropped_examples=0))
    refused(golden, r"dropped\.jsonl: expected no such report \(manifest\), found one")
    seal(large, lambda content: content.update(dropped_examples=2))
    refused(large, r"dropped\.jsonl: expected the report of 2 dropped examples \(manifest\), found none")


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"model":null}', b"\xff", b"[" * 100_000], ids=str)
def test_a_file_that_is_no_tokenizer_is_found(golden: Path, raw: bytes) -> None:
    (golden / "tokenizer.json").write_bytes(raw)
    refused_at = r"tokenizer\.json: expected a tokenizer, found"
    seal(golden, lambda content: content["fields"]["tokenizer"].update(sha256=hashlib.sha256(raw).hexdigest()))
    refused(golden, refused_at)


def test_a_tokenizer_that_truncates_is_found(golden: Path) -> None:
    path = golden / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(5)
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    seal(golden, lambda content: content["fields"]["tokenizer"].update(sha256=found))
    refused(golden, r"tokenizer\.json: expected a tokenizer, found one that pads or truncates")


def test_it_starts_light() -> None:
    loaded = loaded_after("import memxlnet.maintain.verify")
    assert "pyarrow" in loaded
    assert loaded & {"torch", "transformers", "datasets"} == set()


@pytest.mark.parametrize("column", ["id", "question_token_starts", "context"])
def test_nulls_are_found(golden: Path, column: str) -> None:
    path = golden / "documents-00000.arrow"
    table = pa.ipc.open_file(path).read_all()
    index = table.schema.get_field_index(column)
    kind = table.schema.field(index).type
    batch = table.combine_chunks().to_batches()[0]
    if pa.types.is_large_list(kind):
        values = pa.array([None] * len(batch[index].values), kind.value_type)
        array = pa.Array.from_buffers(kind, len(batch), batch[index].buffers()[:2], children=[values])
    else:
        array = pa.array([None, *batch[index].to_pylist()[1:]], kind)
    columns = [array if at == index else part for at, part in enumerate(batch.columns)]
    metadata = FileMetadata.decode(table.schema.metadata)
    schema = with_metadata(table_schema("documents", 16), metadata)
    with pa.ipc.new_file(path, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    seal(golden)
    with pytest.raises(CacheDamagedError, match=rf"documents-00000\.arrow, record batch 0: .*nulls in column {column}"):
        verify(golden)


@pytest.mark.slow
def test_damage_below_the_checksums_never_ends_the_process(golden: Path) -> None:
    outcomes = told_by("tests.format.forging", golden, 0, SEEDS)
    finished = [entry for entry in outcomes if "file" in entry]
    assert [entry["seed"] for entry in finished] == list(range(SEEDS))
    assert len([entry for entry in finished if entry["error"]]) > SEEDS // 2


@pytest.mark.parametrize("style", ["bert-uncased", "bert-padded-left", "xlnet-padded-right", "roberta"])
@pytest.mark.parametrize("memory", [0, 2])
def test_caches_of_every_layout_are_right(style: str, memory: int, tmp_path: Path) -> None:
    rows = [
        *long_examples(4, words=20),
        example("", "what is it", id="empty"),
        example("the river", "", [("river", 4)], id="no question"),
        example("the river " * 30, "the " * 60, id="too long"),
    ]
    dataset = build(rows, make(style, memory), tmp_path, on_bad_example="drop", doc_stride=8)
    assert dataset.manifest.dropped_examples == 1
    verify(dataset.directory, deep=True)
    verify(dataset.directory, against=rows, sample=None)
    assert dataset.cache.num_documents == 6


def test_labels_of_windows_that_hold_other_tokens_of_the_answer(tmp_path: Path) -> None:
    """Answers of one character of three tokens, cut between these: each window has its own label."""
    context = "\u4e2d\u6587 \u0939\u093f  \u4e2d" * 4
    rows = [
        example(context, "is", [(context[at], at)], id=f"{at}")
        for at in range(len(context))
        if not context[at].isspace()
    ]
    dataset = build(rows, make("roberta"), tmp_path, max_seq_length=20, doc_stride=1)
    verify(dataset.directory, deep=True)
    features = [
        (int(shard.columns["document"][row]), int(shard.columns["start_positions"][row]))
        for shard in dataset.cache.features
        for row in np.flatnonzero(shard.columns["has_answer_in_segment"])
    ]
    several = {document for document, _ in features if sum(one == document for one, _ in features) > 1}
    assert len(several) > 1
    row = int(np.flatnonzero(dataset.cache.features[0].columns["has_answer_in_segment"])[0])
    at = int(dataset.cache.features[0].columns["end_positions"][row])
    for name in ("start_positions", "end_positions"):
        copied = Path(shutil.copytree(dataset.directory, tmp_path / name))
        set_value(copied, "features", row, name, at + 1)
        refused(copied, rf"features-00000\.arrow, row {row} .*, {name}", deep=True)
