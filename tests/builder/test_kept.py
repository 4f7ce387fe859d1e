"""Kept columns: further fields of the examples as a table of the cache."""

import datetime
import json
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrow_schemas import KEPT
from memxlnet import Cache
from memxlnet.errors import CacheDamagedError, CacheMismatchError, ExampleError, MemxlnetError, SettingsError
from memxlnet.maintain.verify import verify
from memxlnet.settings import EncodeSettings
from tests.format.content import files_of
from tests.golden.make_golden import golden_tokenizer
from tests.support import SQUAD, long_examples, short, write_json_lines

BUILD: dict[str, Any] = {"max_seq_length": 32, "doc_stride": 8, "progress": False, "num_workers": 0}


def build(rows: Any, cache_dir: Path, **changes: Any) -> Cache:
    return Cache.build(rows, golden_tokenizer(), cache_dir=cache_dir, **{**BUILD, **changes})


def examples(values: list[Any], name: str = "field") -> list[dict[str, Any]]:
    """One example for each value; no field where the value is `...`."""
    made = long_examples(len(values), words=20)
    return [one if value is ... else {**one, name: value} for one, value in zip(made, values, strict=True)]


def kept_of(cache: Cache) -> list[dict[str, Any]]:
    assert cache.kept is not None
    return [cache.kept.values(row) for row in range(cache.num_documents)]


MOMENT = datetime.datetime(2020, 2, 29, 1, 2, 3, 4)
ROME = datetime.timezone(datetime.timedelta(hours=1))

VALUES: list[tuple[list[Any], str, list[Any] | None]] = [
    (["a", None, "b", ..., ""], "large_string", ["a", None, "b", None, ""]),
    ([1, 2, None, -3, 2**62], "int64", None),
    ([1, 2.5, None, math.inf, -0.0], "double", [1.0, 2.5, None, math.inf, -0.0]),
    ([True, None, False, True, True], "bool", None),
    ([b"a", b"", None, b"\xff", b"b"], "large_binary", None),
    ([None, None, None, None, None], "large_string", None),
    ([[], None, ["a"], [None], ["b", "c"]], "large_list<item: large_string>", None),
    ([[], None, [], [], []], "large_list<item: large_string>", None),
    ([[1], [2.5], None, [None], []], "large_list<item: double>", [[1.0], [2.5], None, [None], []]),
    (
        [{"b": 1}, {"a": "x"}, None, {}, {"b": None}],
        "struct<a: large_string, b: int64>",
        [{"a": None, "b": 1}, {"a": "x", "b": None}, None, {"a": None, "b": None}, {"a": None, "b": None}],
    ),
    ([{"a": [{"b": 1}]}, None, None, None, None], "struct<a: large_list<item: struct<b: int64>>>", None),
    ([MOMENT, None, MOMENT, MOMENT, MOMENT], "timestamp[us]", None),
    ([MOMENT.date(), None, MOMENT.date(), None, None], "date32[day]", None),
    ([MOMENT.time(), None, None, None, None], "time64[us]", None),
    ([datetime.timedelta(1, 2), None, None, None, None], "duration[us]", None),
    ([Decimal("1.25"), Decimal(100), None, None, None], "decimal128(5, 2)", [Decimal("1.25"), Decimal("100.00")]),
    ([np.int32(1), np.float32(0.5), None, None, np.array(3)], "double", [1.0, 0.5, None, None, 3.0]),
    (
        [np.datetime64("2020-01-01T00:00:00", "ns"), pd.Timestamp(MOMENT), np.datetime64("NaT"), None, None],
        "timestamp[us]",
        [datetime.datetime(2020, 1, 1), MOMENT, None, None, None],
    ),
    ([np.array([1, 2]), [3], (4,), None, None], "large_list<item: int64>", [[1, 2], [3], [4], None, None]),
]


@pytest.mark.parametrize(("values", "kind", "expected"), VALUES, ids=lambda value: str(value)[:30])
def test_values_come_back(tmp_path: Path, values: list[Any], kind: str, expected: list[Any] | None) -> None:
    rows = examples(values)
    cache = build(rows, tmp_path / "one", keep=["field"], identity="1")
    wanted = [None if one is ... else one for one in values] if expected is None else expected
    wanted += [None] * (len(values) - len(wanted))
    assert kept_of(cache) == [{"field": value} for value in wanted]
    assert cache.manifest.kept == {"field": kind}
    verify(cache.directory, deep=True, against=rows, sample=None, identity="1")
    # Every value in a chunk of its own, and first ones that have no type yet.
    for size in (1, 2):
        again = build(rows, tmp_path / str(size), keep=["field"], identity="1", streaming_chunk_size=size)
        assert files_of(again.directory) == files_of(cache.directory)


def test_nan_comes_back(tmp_path: Path) -> None:
    rows = examples([math.nan, 1.0, None])
    cache = build(rows, tmp_path, keep=["field"], identity="1")
    first, *rest = kept_of(cache)
    assert math.isnan(first["field"])
    assert rest == [{"field": 1.0}, {"field": None}]
    verify(cache.directory, against=rows, sample=None, identity="1")
    assert sum(cache.stats(by="field").values.values()) == 3


scalars = st.none() | st.text(max_size=5)
numbers = st.none() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False)
nested = st.none() | st.dictionaries(st.sampled_from("ab"), st.none() | st.lists(st.integers(-9, 9), max_size=3))


@settings(max_examples=15)
@given(st.lists(st.tuples(scalars, numbers, nested), min_size=1, max_size=12), st.data())
def test_the_bytes_do_not_depend_on_the_work(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[Any, Any, Any]], data: st.DataObject
) -> None:
    rows = long_examples(len(values), words=12)
    for row, found in zip(rows, values, strict=True):
        row |= dict(zip(("text", "number", "nested"), found, strict=True))
    one = build(rows, tmp_path_factory.mktemp("one"), keep="all")
    size, workers = data.draw(st.integers(1, 5)), data.draw(st.booleans())
    with ThreadPoolExecutor(2) as executor:
        options: dict[str, Any] = {"executor": executor, "num_workers": None} if workers else {}
        two = build(rows, tmp_path_factory.mktemp("two"), keep="all", streaming_chunk_size=size, **options)
    assert files_of(one.directory) == files_of(two.directory)
    for row, held in zip(rows, kept_of(two), strict=True):
        assert held["text"] == row["text"]
        assert held["number"] == row["number"]


@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_give_the_same_bytes(tmp_path: Path, workers: int) -> None:
    rows = examples([None, "a", 5 * "b", None, "c", "d", "e"], "title")
    one = build(rows, tmp_path / "one", keep=["title"])
    two = build(rows, tmp_path / "two", keep=["title"], num_workers=workers, streaming_chunk_size=2)
    assert files_of(one.directory) == files_of(two.directory)


def test_dropped_examples_have_no_row(tmp_path: Path) -> None:
    rows = examples(["a", "b", "c", "d"], "title")
    rows[1]["context"] = None
    rows[2]["question"] = "which " * 40
    for size, workers in ((1, 0), (4, 0), (2, 1)):
        options = {"streaming_chunk_size": size, "num_workers": workers, "on_bad_example": "drop"}
        cache = build(rows, tmp_path / f"{size} {workers}", keep=["title"], **options)
        assert [row["title"] for row in kept_of(cache)] == ["a", "d"]


def test_many_rows_stand_in_batches_of_the_content_alone(tmp_path: Path) -> None:
    rows = [{**one, "n": number} for number, one in enumerate(long_examples(1100, words=3))]
    rows[7]["long"] = "x" * 2**25
    cache = build(rows, tmp_path, keep="all")
    assert cache.kept is not None
    assert cache.manifest.tables[KEPT].batch_rows < 1024
    assert [row["n"] for row in kept_of(cache)] == list(range(1100))
    assert cache.kept.rows(5, 700)["n"].to_pylist() == list(range(5, 700))


@pytest.mark.parametrize("keep", [[], None, ()])
def test_a_cache_without_kept_columns_is_as_before(tmp_path: Path, keep: Any) -> None:
    rows = examples(["a", 1], "title")
    one, two = build(rows, tmp_path / "one"), build(rows, tmp_path / "two", keep=keep)
    assert files_of(one.directory) == files_of(two.directory)
    assert two.kept is None
    raw = json.loads((two.directory / "manifest.json").read_bytes())
    assert "kept" not in raw
    assert "keep" not in raw["fields"]["settings"]


def test_names_are_part_of_the_fingerprint_in_any_order(tmp_path: Path) -> None:
    rows = [{**one, "a": 1, "b": "x"} for one in long_examples(3)]
    found = [build(rows, tmp_path, keep=keep) for keep in (["a", "b"], ("b", "a"), {"a"}, "all", [])]
    assert len({one.directory for one in found}) == 4
    assert found[0].directory == found[1].directory
    assert found[0].manifest.settings["keep"] == ["a", "b"]
    assert found[0].manifest.kept == found[3].manifest.kept == {"a": "int64", "b": "large_string"}


def test_all_where_nothing_is_further(tmp_path: Path) -> None:
    cache = build(long_examples(3), tmp_path, keep="all")
    assert cache.kept is None
    assert KEPT not in cache.manifest.tables
    verify(cache.directory, deep=True, against=long_examples(3))


def test_content_of_kept_fields_is_content_of_the_source(tmp_path: Path) -> None:
    rows = examples(["a", "b"], "title")
    one = build(rows, tmp_path, keep=["title"])
    rows[1]["title"] = "c"
    assert build(rows, tmp_path, keep=["title"]).directory != one.directory
    with pytest.raises(CacheMismatchError):
        verify(one.directory, against=rows)


def test_missing_times_of_pandas_are_null(tmp_path: Path) -> None:
    values = [pd.Timestamp(MOMENT), pd.NaT, None, [pd.NaT]]
    assert [row["field"] for row in kept_of(build(examples(values[:3]), tmp_path, keep=["field"]))] == [
        MOMENT,
        None,
        None,
    ]
    assert kept_of(build(examples(values[3:]), tmp_path, keep=["field"])) == [{"field": [None]}]


def test_a_view_of_bytes_is_kept_as_bytes(tmp_path: Path) -> None:
    cache = build(examples([memoryview(b"a\xff"), memoryview(b"")]), tmp_path, keep=["field"])
    assert kept_of(cache) == [{"field": b"a\xff"}, {"field": b""}]


@pytest.mark.parametrize("size", [1, 2, 10])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_type_that_changes_is_an_error_of_the_example(tmp_path: Path, size: int, workers: int) -> None:
    rows = examples([None, "a", "b", 5, "c"], "title")
    with pytest.raises(
        ExampleError,
        match=r"example 'id-3' \(row 3\): keep: field 'title': .*large_string as in the examples from 'id-1' on, "
        r"found int64: 5",
    ):
        build(rows, tmp_path, keep=["title"], streaming_chunk_size=size, num_workers=workers, on_bad_example="drop")


BAD_VALUES: list[tuple[list[Any], str]] = [
    (["a", 2**64], r"id-1.*large_string.*found int64"),
    ([1, 2**64], r"id-1.*int64"),
    ([[1, "a"]], r"id-0.*items are of the types int64 and large_string"),
    ([object()], r"id-0.*a value that Arrow has a type for, found object"),
    ([{1: 2}], r"id-0.*texts as the keys"),
    (["a", "\ud800"], r"id-1"),
    ([{"a": 1}, {"a": "x"}], r"id-1.*struct<a: int64>.*struct<a: large_string>"),
    ([True, 1], r"id-1.*bool.*int64"),
    ([2**60 + 1, 0.5], r"id-0.*double"),
    ([np.datetime64(1, "ns")], "id-0.*whole microseconds"),
    ([pd.Timestamp(1, unit="ns")], "id-0.*whole microseconds"),
    ([{"a": 2**60 + 1}, {"a": 0.5}], r"id-0.*double"),
]


@pytest.mark.parametrize(("values", "message"), BAD_VALUES, ids=short)
@pytest.mark.parametrize("size", [1, 10])
def test_values_without_a_type_are_errors(tmp_path: Path, values: list[Any], message: str, size: int) -> None:
    with pytest.raises(MemxlnetError, match=message):
        build(
            examples(values), tmp_path, keep=["field"], identity="1", streaming_chunk_size=size, on_bad_example="drop"
        )


def test_a_name_that_the_first_example_lacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = examples(["a", ..., "b", ...], "title")
    with pytest.raises(ExampleError, match=r"id-0.*expected a field 'titel', found 'title'"):
        build(rows, tmp_path, keep=["titel"], on_bad_example="drop")
    assert [row["title"] for row in kept_of(build(rows, tmp_path, keep=["title"]))] == ["a", None, "b", None]
    assert "2 of 4 examples have no field 'title'" in caplog.text


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("title", "keep: expected a list of names"),
        (["id"], r"keep: .*\['id'\]"),
        (["title", "answers", "context"], r"\['answers', 'context'\]"),
        (["input_ids"], "input_ids"),
        (["alignment"], "alignment"),
        (["offset_mapping"], "offset_mapping"),
        (["a", "b", "a"], r"\['a'\] more than once"),
        ([1], "keep: expected a string"),
        ([""], "keep: expected a non-empty string"),
        (["a\0"], "NUL"),
        (5, "keep: expected a list of names"),
        (iter(["a"]), "keep: expected a list of names"),
    ],
)
def test_names_that_cannot_be_kept_are_refused_at_once(keep: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        EncodeSettings(keep=keep)


@pytest.mark.parametrize("name", ["alignment", "rows", "", " ", 5, "\ud800", "title\0"], ids=ascii)
def test_all_refuses_a_name_of_something_else(tmp_path: Path, name: Any) -> None:
    with pytest.raises(ExampleError, match="keep='all'"):
        build(examples(["a"], name), tmp_path, keep="all", identity="1")


def parquet(rows: list[dict[str, Any]], directory: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), directory / "rows.parquet")
    return directory / "rows.parquet"


def csv_file(rows: list[dict[str, Any]], directory: Path) -> Path:
    path = directory / "rows.csv"
    lines = [",".join(rows[0])]
    for row in rows:
        cells = [json.dumps(value) if isinstance(value, dict) else str(value) for value in row.values()]
        lines.append(",".join('"' + cell.replace('"', '""') + '"' for cell in cells))
    path.write_text("\n".join(lines))
    return path


SOURCES: dict[str, Any] = {
    "iterable": lambda rows, directory: rows,
    "datasets": lambda rows, directory: datasets.Dataset.from_list(rows),
    "table": lambda rows, directory: pa.Table.from_pylist(rows),
    "parquet": parquet,
    "csv": csv_file,
    "jsonl": lambda rows, directory: write_json_lines(directory / "rows.jsonl", rows),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("keep", [["title"], "all"], ids=str)
def test_every_source_gives_its_fields(tmp_path: Path, kind: str, keep: Any) -> None:
    source = SOURCES[kind](examples(["a", "b", ""], "title"), tmp_path)
    cache = build(source, tmp_path / "caches", keep=keep)
    assert kept_of(cache) == [{"title": "a"}, {"title": "b"}, {"title": ""}]
    verify(cache.directory, deep=True, against=source, sample=None)
    assert len(files_of(build(source, tmp_path / "none").directory)) + 1 == len(files_of(cache.directory))


def test_a_transform_gives_fields(tmp_path: Path) -> None:
    rows = examples(["a", "b"], "title")

    def transform(example: dict[str, Any]) -> dict[str, Any]:
        return {**example, "length": len(example["context"]), "title": example["title"].upper()}

    cache = build(rows, tmp_path, keep=["title", "length"], transform=transform)
    assert [row["title"] for row in kept_of(cache)] == ["A", "B"]
    assert all(isinstance(row["length"], int) for row in kept_of(cache))


def test_an_interrupted_build_resumes(tmp_path: Path) -> None:
    rows = examples([None, 1, 2, 0.5, None, 3], "n")
    whole = build(rows, tmp_path / "whole", keep=["n"], streaming_chunk_size=2)
    broken = [*rows[:4], {**rows[4], "context": None}, rows[5]]
    with pytest.raises(ExampleError):
        build(broken, tmp_path / "broken", keep=["n"], streaming_chunk_size=2, identity="1")
    fixed = build(rows, tmp_path / "broken", keep=["n"], streaming_chunk_size=2, identity="1")
    assert kept_of(fixed) == kept_of(whole)
    assert fixed.manifest.kept == {"n": "double"}


def test_it_travels_and_opens_without_the_library(tmp_path: Path) -> None:
    rows = [{**one, "title": title, "n": [1]} for one, title in zip(long_examples(3), ("a", None, "a"), strict=True)]
    cache = build(rows, tmp_path / "caches", keep="all")
    cache.push(f"file://{tmp_path}/store", progress=False)
    pulled = Cache.pull(f"file://{tmp_path}/store", tmp_path / "pulled", progress=False)
    assert kept_of(pulled) == kept_of(cache)
    file = cache.directory / cache.manifest.tables[KEPT].shards[0].file
    table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    assert table.to_pylist() == kept_of(cache)
    with duckdb.connect() as database:
        database.register("kept", table)
        found = database.sql("SELECT title, count(*) FROM kept GROUP BY title ORDER BY title").fetchall()
    assert sorted(found, key=str) == sorted([("a", 2), (None, 1)], key=str)
    loaded = datasets.load_dataset("arrow", data_files={"train": [str(file)]}, cache_dir=str(tmp_path / "hf"))
    assert list(loaded["train"]) == kept_of(cache)


@pytest.mark.real_data
def test_titles_of_squad(tmp_path: Path, xlnet: Any) -> None:
    cache = Cache.build(SQUAD, xlnet, cache_dir=tmp_path, keep=["title"], progress=False)
    articles = json.loads(SQUAD.read_text())["data"]
    wanted = [one["title"] for one in articles for paragraph in one["paragraphs"] for _ in paragraph["qas"]]
    assert [row["title"] for row in kept_of(cache)] == wanted
    assert cache.stats(by="title").values == Counter(wanted)
    cache.verify(against=SQUAD)


def damaged(cache: Cache, change: Any) -> None:
    path = cache.directory / "kept-00000.arrow"
    path.write_bytes(change(path.read_bytes()))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    rows = examples(["one title", "two titles", "three"], "title")
    cache = build(rows, tmp_path, keep=["title"])
    raw = (cache.directory / "kept-00000.arrow").read_bytes()
    damaged(cache, lambda content: content[:-8])
    with pytest.raises(CacheDamagedError, match="kept-00000"):
        Cache(cache.directory)
    damaged(cache, lambda _: raw.replace(b"two titles", b"TWO titles"))
    with pytest.raises(CacheDamagedError, match="checksum"):
        verify(cache.directory)
    (cache.directory / "kept-00000.arrow").unlink()
    with pytest.raises(CacheDamagedError, match="kept-00000"):
        Cache(cache.directory)


def test_a_file_of_another_cache_is_refused(tmp_path: Path) -> None:
    one = build(examples(["a", "b"], "title"), tmp_path / "one", keep=["title"])
    two = build(examples(["c", "d"], "title"), tmp_path / "two", keep=["title"])
    damaged(one, lambda _: (two.directory / "kept-00000.arrow").read_bytes())
    with pytest.raises(CacheDamagedError, match=r"kept-00000.*fingerprint"):
        Cache(one.directory)


def test_a_wrong_value_is_found_against_the_source(tmp_path: Path) -> None:
    rows = examples(["a", "b", "c"], "title")
    made = build(rows, tmp_path, keep=["title"], identity="1")
    rows[1]["title"] = "other"
    with pytest.raises(CacheDamagedError, match=r"kept-00000.arrow, row 1, title: expected 'other'.*found 'b'"):
        verify(made.directory, against=rows, sample=None, identity="1")
