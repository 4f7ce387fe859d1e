"""`verify` against the source: another source is named, and any other value is told."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrow_schemas import table_schema
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.encode.encoder import Encoder
from memxlnet.errors import CacheDamagedError, CacheMismatchError, SettingsError, SourceError
from memxlnet.format.published import PublishedCache
from memxlnet.maintain import reencode
from memxlnet.maintain import verify as verify_module
from memxlnet.maintain.reencode import sample_rows
from memxlnet.maintain.verify import verify
from memxlnet.sources import form_names
from tests.format.content import read_tables
from tests.format.forging import forge, seal, set_value, write_report
from tests.golden.make_golden import CACHE, EXAMPLES, golden_tokenizer
from tests.sources.test_forms import FORMS
from tests.support import SQUAD, build, example, in_quarters, long_examples, write_json_lines

GOLDEN: dict[str, Any] = {"against": EXAMPLES, "identity": "golden 1", "sample": None}
TABLES = {"features": 10, "documents": 4, "contexts": 3}
CELLS = [
    (name, column, row) for name in TABLES for column in table_schema(name, 16).names for row in range(TABLES[name])
]


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CACHE, tmp_path / "golden"))


def refused(directory: Path, message: str, **arguments: Any) -> None:
    verify(directory)
    with pytest.raises(CacheDamagedError, match=message) as caught:
        verify(directory, **{**GOLDEN, **arguments})
    assert str(directory) in str(caught.value)


@pytest.mark.parametrize("sample", [None, 1, 2, 3, 4, 5, 100])
def test_the_golden_cache_fits_its_examples(sample: int | None) -> None:
    verify(CACHE, **{**GOLDEN, "sample": sample})
    verify(CACHE, **{**GOLDEN, "against": iter(EXAMPLES), "sample": sample})


def another(value: Any, kind: pa.DataType, data: st.DataObject) -> Any:
    if pa.types.is_fixed_size_list(kind):
        at = data.draw(st.integers(0, len(value) - 1))
        return [another(old, kind.value_type, data) if place == at else old for place, old in enumerate(value)]
    if pa.types.is_large_list(kind):
        if value and data.draw(st.booleans()):
            at = data.draw(st.integers(0, len(value) - 1))
            return [another(old, kind.value_type, data) if place == at else old for place, old in enumerate(value)]
        return (
            value[:-1]
            if value and data.draw(st.booleans())
            else [*value, "x" if kind.value_type == pa.large_string() else 0]
        )
    if pa.types.is_large_string(kind):
        return data.draw(st.sampled_from([value + "x", value[:-1] if value else "y", value.swapcase() + "\u00e9"]))
    return data.draw(st.integers(value - 3, value + 3).filter(lambda new: new != value and -128 <= new < 128))


@in_quarters
@given(st.sampled_from(CELLS), st.data())
def test_any_other_value_anywhere_is_told(quarter: int, cell: tuple[str, str, int], data: st.DataObject) -> None:
    table, column, row = cell
    kind = table_schema(table, 16).field(column).type
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(shutil.copytree(CACHE, Path(folder, "golden")))
        value = read_tables(PublishedCache(directory))[table][row][column]
        set_value(directory, table, row, column, another(value, kind, data))
        with pytest.raises(CacheDamagedError) as caught:
            verify(directory, **GOLDEN)
        assert str(directory) in str(caught.value)


def test_what_only_encoding_can_tell(golden: Path, tmp_path: Path) -> None:
    """Values that fit all others: the messages name file, row, id and column."""
    changes: list[tuple[str, int, str, Any, str]] = [
        (
            "features",
            5,
            "input_ids",
            [5, 5, 5, 5, 15, 19, 1, 14, 7, 10, 23, 4, 22, 17, 4, 3],
            "position 6: expected 0, found 1",
        ),
        ("documents", 2, "question", "by who", "expected 'By who' (encoded again), found 'by who'"),
        ("documents", 2, "question_token_stops", [1, 6], "expected [2, 6] (encoded again), found [1, 6]"),
        ("documents", 1, "answer_starts", [1], "expected [0] (encoded again), found [1]"),
        ("documents", 3, "alignment_detail", "none", "expected 'no gold answer occurs in the context'"),
        ("documents", 0, "id", "other", "expected 'exact' (encoded again), found 'other'"),
        ("contexts", 2, "text", "The lamp", "expected 'the lamp' (encoded again), found 'The lamp'"),
        ("contexts", 2, "token_starts", [1, 4], "expected [0, 4] (encoded again), found [1, 4]"),
    ]
    for number, (table, row, column, value, message) in enumerate(changes):
        directory = Path(shutil.copytree(golden, tmp_path / str(number)))
        set_value(directory, table, row, column, value)
        verify(directory)
        with pytest.raises(CacheDamagedError) as caught:
            verify(directory, **GOLDEN)
        told = str(caught.value)
        assert f"{table}-00000.arrow, row {row}" in told
        assert column in told
        assert message in told


def test_dropped_examples_are_accounted_for(golden: Path) -> None:
    write_report(golden, [{"row": 4, "id": "other", "reason": "x"}])
    refused(golden, r"row 4 of the source: expected 'bad' dropped \(.*'context'.*\), found 'other' dropped \(x\)")
    write_report(golden, [{"row": 1, "id": "repaired", "reason": "x"}])
    refused(golden, r"row 1 of the source: expected 'repaired' kept, found 'repaired' dropped \(x\)")
    write_report(golden, [{"row": 4, "id": "bad", "reason": "worded otherwise"}])
    verify(golden, **GOLDEN)


@pytest.mark.parametrize(
    ("rows", "found"), [(EXAMPLES[:4], "4"), (EXAMPLES[:0], "0"), ([*EXAMPLES, EXAMPLES[0]], "more")], ids=len
)
def test_a_source_of_another_length_is_told(golden: Path, rows: list[Any], found: str) -> None:
    refused(golden, f"expected 5 examples, .*found {found} in in-memory", against=rows, sample=1)


def test_other_examples_under_the_same_identity_are_told(golden: Path) -> None:
    rows = [{**EXAMPLES[2], "id": "another"}, *EXAMPLES[1:]]
    refused(golden, r"documents-00000\.arrow, row 0 \(id 'exact'\), id: expected 'another'", against=rows)
    # An id that repeats drops the second example, as in the build.
    refused(golden, "row 2 of the source: expected 'unanswerable' dropped", against=[EXAMPLES[2], *EXAMPLES[1:]])


def test_another_source_is_a_mismatch_and_names_the_field(tmp_path: Path, tokenizer: Any) -> None:
    rows = long_examples(3)
    file = write_json_lines(tmp_path / "one.jsonl", rows)
    directory = build(str(file), tokenizer, tmp_path / "caches").directory
    verify(directory, against=file)
    moved = file.rename(tmp_path / "moved.jsonl")
    verify(directory, against=str(moved), sample=None)
    other = write_json_lines(tmp_path / "other.jsonl", rows[:2])
    with pytest.raises(
        CacheMismatchError, match=r"another source than other: source\.sha256: expected '\w{64}', found"
    ):
        verify(directory, against=other)
    with pytest.raises(CacheMismatchError, match=r"source\.kind: expected 'file', found 'iterable'"):
        verify(directory, against=rows)
    with pytest.raises(CacheMismatchError, match=r"source\.identity: expected 'golden 1', found 'golden 2'"):
        verify(CACHE, against=EXAMPLES, identity="golden 2")


def test_it_takes_what_a_build_takes(tmp_path: Path, tokenizer: Any) -> None:
    rows = long_examples(5, words=40)
    made = datasets.Dataset.from_list(rows)
    verify(build(made, tokenizer, tmp_path / "dataset").directory, against=made, sample=None)
    verify(build(rows, tokenizer, tmp_path / "list").directory, against=rows, sample=None)


@pytest.mark.parametrize("changes", [{"max_examples": 4}, {"max_n_segs": 2}, {"max_examples": 50}])
def test_settings_are_honoured(tmp_path: Path, tokenizer: Any, changes: dict[str, int]) -> None:
    rows = [*long_examples(4), {"id": "bad"}, *long_examples(7)[4:]]
    directory = build(rows, tokenizer, tmp_path, on_bad_example="drop", **changes).directory
    for sample in (1, 2, 5, None):
        verify(directory, against=rows, sample=sample)


@given(st.integers(1, 300), st.integers(1, 300) | st.none())
def test_the_sample_is_spread_from_the_first_to_the_last(total: int, sample: int | None) -> None:
    rows = list(sample_rows(total, sample))
    assert len(rows) == min(total, sample or total)
    assert rows == sorted(set(rows))
    assert rows[0] == 0
    assert rows[-1] == (total - 1 if sample != 1 else 0)
    steps = {second - first for first, second in pairwise(rows)}
    assert not steps or max(steps) - min(steps) <= 1


def test_only_the_sample_is_encoded_in_chunks(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = long_examples(20, words=30)
    directory = build(rows, tokenizer, tmp_path, max_shard_rows=7).directory
    sizes: list[list[str]] = []
    plain = Encoder.tokenize

    def count(self: Encoder, chunk: Any) -> Any:
        sizes.append([entry.id for entry in chunk])
        return plain(self, chunk)

    monkeypatch.setattr(Encoder, "tokenize", count)
    verify(directory, against=rows, sample=3)
    assert sizes == [["id-0", "id-9", "id-19"]]
    monkeypatch.setattr(reencode, "CHUNK_EXAMPLES", 6)
    sizes.clear()
    verify(directory, against=rows, sample=None)
    assert [len(chunk) for chunk in sizes] == [6, 6, 6, 2]
    monkeypatch.setattr(reencode, "CHUNK_VALUES", 1)
    sizes.clear()
    verify(directory, against=rows, sample=4)
    assert [len(chunk) for chunk in sizes] == [1, 1, 1, 1]


def test_the_source_is_read_once_and_never_held(tmp_path: Path, tokenizer: Any) -> None:
    rows = long_examples(6, words=40)
    process_and_cache_dataset(
        rows, "test", tmp_path, tokenizer=tokenizer, identity="mine", max_seq_length=64, doc_stride=16
    )
    (directory,) = (path for path in tmp_path.iterdir() if path.is_dir())

    def stream() -> Iterator[Any]:
        yield from rows

    verify(directory, against=stream(), identity="mine")
    with pytest.raises(SourceError, match="one-shot iterator"):
        verify(directory, against=stream())


def test_a_context_that_documents_share_is_compared_for_each(tmp_path: Path, tokenizer: Any) -> None:
    context = "One context of several documents stands here."
    rows = [example(context, f"Question {n}?", id=f"{n}") for n in range(3)] + [example("Another one.", id="3")]
    directory = build(rows, tokenizer, tmp_path).directory
    verify(directory, against=rows, sample=None)

    def edit(contexts: list[dict[str, Any]]) -> None:
        contexts[0]["text"] = context.upper()

    forge(directory, "contexts", edit)
    verify(directory)
    with pytest.raises(CacheDamagedError, match=r"contexts-00000\.arrow, row 0, text: expected 'One context"):
        verify(directory, against=rows, sample=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample": 0}, "sample: expected an integer above 0 .*found 0"),
        ({"sample": True}, "sample: expected"),
        ({"sample": 1.5}, "sample: expected"),
        ({"sample": "all"}, "sample: expected"),
        ({"identity": "x"}, "identity: belongs to a source"),
        ({"config_name": "x"}, "config_name: belongs to a source"),
        ({"revision": "x"}, "revision: belongs to a source"),
        ({"token": "secret"}, "token: belongs to a source"),
        ({"against": 5}, "against: .*expected a file, a Hub name"),
        ({"against": ""}, "^against: source:"),
        ({"against": {"a": 1}}, "against: .*found dict"),
        ({"against": "x.json", "identity": "y"}, "against: identity: applies to iterables only"),
        ({"against": [], "revision": "y"}, "against: revision: applies to Hub"),
        ({"against": [], "identity": ""}, "against: identity: expected"),
    ],
    ids=str,
)
def test_wrong_arguments_are_told_before_any_work(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    def work(*_: Any) -> None:
        raise AssertionError("worked")

    monkeypatch.setattr(verify_module, "_check_bytes", work)
    with pytest.raises(SettingsError, match=message) as caught:
        verify(CACHE, **arguments)
    assert "secret" not in str(caught.value)


def test_a_source_is_not_given_by_position() -> None:
    with pytest.raises(TypeError):
        verify(CACHE, EXAMPLES)  # type: ignore[call-arg, arg-type]


def test_damage_is_told_before_a_mismatch(golden: Path) -> None:
    seal(golden, lambda content: content.update(documents_without_answer_segment=3))
    with pytest.raises(CacheDamagedError, match="documents_without_answer_segment"):
        verify(golden, against=EXAMPLES, identity="other")


@pytest.mark.slow
def test_real_data(tmp_path: Path, xlnet: Any) -> None:
    directory = build(SQUAD, xlnet, tmp_path, max_seq_length=384, doc_stride=128).directory
    verify(directory, against=SQUAD)
    verify(directory, against=SQUAD, sample=None)
    set_value(directory, "documents", 17, "question", "Which one?" + "x" * 300)
    verify(directory)
    with pytest.raises(CacheDamagedError, match=r"documents-00000\.arrow, row 17 .*, question: expected"):
        verify(directory, against=SQUAD, sample=None)


# Deep: the documents of the cache itself


def test_the_golden_cache_is_what_its_own_documents_give() -> None:
    verify(CACHE, deep=True)


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "message"),
    [
        (
            "features",
            5,
            "input_ids",
            [5, 5, 5, 5, 15, 19, 1, 14, 7, 10, 23, 4, 22, 17, 4, 3],
            r"features-.*, row 5 \(id '.*'\), input_ids, position 6: expected 0, found 1",
        ),
        ("documents", 2, "question_token_stops", [1, 6], r"expected \[2, 6\] \(encoded again\), found \[1, 6\]"),
        (
            "documents",
            1,
            "answer_starts",
            [1],
            "alignment_detail: expected 'answer 0 found at 2 as its NFKD equal, given at 1'",
        ),
        ("contexts", 2, "token_starts", [1, 4], r"expected \[0, 4\] \(encoded again\), found \[1, 4\]"),
    ],
)
def test_a_value_that_its_own_texts_do_not_give_is_reported(
    golden: Path, table: str, row: int, column: str, value: Any, message: str
) -> None:
    set_value(golden, table, row, column, value)
    with pytest.raises(CacheDamagedError, match=message):
        verify(golden, deep=True)


@pytest.mark.parametrize("form", [name for name in FORMS if FORMS[name][0] in form_names()])
def test_documents_of_every_outcome_are_encoded_again(form: str, tmp_path: Path) -> None:
    kind, content, _ = FORMS[form]
    path = tmp_path / "f.json"
    path.write_text(json.dumps(content))
    tokenizer = golden_tokenizer()
    process_and_cache_dataset(
        path,
        cache_dir=tmp_path / "caches",
        tokenizer=tokenizer,
        form=kind,
        max_seq_length=256,
        doc_stride=16,
        on_bad_example="drop",
        on_contradiction="answers",
    )
    (directory,) = (found for found in (tmp_path / "caches").iterdir() if not found.name.startswith("."))
    verify(directory, deep=True)


def test_it_takes_a_bool() -> None:
    with pytest.raises(SettingsError, match="deep: expected True or False, found 1"):
        verify(CACHE, deep=1)  # type: ignore[arg-type]
