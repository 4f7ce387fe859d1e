"""Exports: every value arrives, in a format that other tools open, whole or not at all."""

import datetime
import errno
import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from memxlnet.cache import Cache
from memxlnet.errors import ExportError, ExportOSError, SettingsError
from memxlnet.export import export as exporting
from memxlnet.export import exported_file
from memxlnet.export.export import ExportFormat
from memxlnet.format.file_layout import column_values
from memxlnet.parts import Parts
from tests.builder.parts import in_parts, write_files
from tests.builder.parts import rows_of as rows_of_file
from tests.load.helpers import sample_tokenizer, varied_examples
from tests.support import SQUAD, example, need_real_data, slow, xquad

FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

KINDS: dict[str, list[Any]] = {
    "number": [1, None, 3],
    "float": [0.5, float("nan"), None],
    "flag": [True, False, None],
    "text": ["a\u2028b", "", "\U0001f600 <script>"],
    "bytes": [b"\x00\xff", None, b""],
    "day": [datetime.date(2025, 1, 2), None, datetime.date(1, 1, 1)],
    "moment": [datetime.datetime(2025, 1, 2, 3, 4, 5, 6), None, None],
    "decimal": [Decimal("1.50"), None, Decimal("2.25")],
    "list": [[1, 2], [], None],
    "struct": [{"a": 1, "b": "x"}, {"a": None, "b": "y"}, None],
    "empty": [None, None, None],
}


def kept_rows() -> list[dict[str, Any]]:
    rows = [example(f"Number {n} stands here.", "Which?", [("Number", 0)], id=f"q{n}") for n in range(3)]
    return [row | {name: values[n] for name, values in KINDS.items()} for n, row in enumerate(rows)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Several shards, whose borders are not those of the files that are written."""
    directory = tmp_path_factory.mktemp("varied")
    return Cache.build(
        varied_examples(), sample_tokenizer(), cache_dir=directory, max_seq_length=48, doc_stride=12, max_shard_rows=17
    )


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    directory = tmp_path_factory.mktemp("kept")
    return Cache.build(
        kept_rows(), sample_tokenizer(), cache_dir=directory, max_seq_length=48, doc_stride=12, keep="all"
    )


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exported_file, "ROWS_OF_A_FILE", 40)
    monkeypatch.setattr(exported_file, "ROWS_AT_ONCE", 7)


def features(cache: Cache) -> dict[str, np.ndarray[Any, Any]]:
    batch = cache.segments(0, cache.num_rows)
    return {name: column_values(batch[name]) for name in batch.schema.names}


def rows_of(table: pa.Table) -> str:
    return repr(table.to_pylist())  # NaN does not equal itself


def texts(cache: Cache) -> dict[str, pa.Table]:
    return {
        "documents": pa.Table.from_batches(exported_file.document_batches(cache)),
        "contexts": pa.Table.from_batches(cache.contexts.batches()),
    }


@pytest.mark.parametrize("name", ["cache", "kept"])
def test_parquet_holds_every_value(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    found: Cache = request.getfixturevalue(name)
    place = found.export("parquet", tmp_path / "out")
    files = sorted(place.glob("features-*.parquet"))
    assert len(files) == -(-found.num_rows // 40)
    table = pa.concat_tables(map(pq.read_table, files))
    for column, values in features(found).items():
        assert np.array_equal(column_values(table[column].combine_chunks()), values)
    for kind, expected in texts(found).items():
        assert rows_of(pq.read_table(place / f"{kind}.parquet")) == rows_of(expected)
    joined = duckdb.sql(
        f"select count(*), sum(len(input_ids)), count(distinct d.id) from '{place}/features-*.parquet' f "
        f"join (select id, row_number() over () - 1 as row from '{place}/documents.parquet') d on f.document = d.row"
    ).fetchall()
    assert joined == [(found.num_rows, found.num_rows * 48, found.num_documents)]


@pytest.mark.parametrize("name", ["cache", "kept"])
def test_json_lines_hold_every_value(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    found: Cache = request.getfixturevalue(name)
    place = found.export("jsonl", tmp_path / "out")
    lines = {path.stem: list(map(json.loads, path.read_bytes().split(b"\n")[:-1])) for path in place.iterdir()}
    assert {kind: len(rows) for kind, rows in lines.items()} == {
        "features": found.num_rows,
        "documents": found.num_documents,
        "contexts": found.contexts.num_rows,
    }
    for column, values in features(found).items():
        assert np.array_equal(np.ravel([row[column] for row in lines["features"]]), values)
    for kind, expected in texts(found).items():
        names = [name for name in expected.column_names if name not in KINDS]
        assert [{name: row[name] for name in names} for row in lines[kind]] == expected.select(names).to_pylist()


def test_values_that_json_lacks(kept: Cache, tmp_path: Path) -> None:
    place = kept.export("jsonl", tmp_path / "out")
    first, second = map(json.loads, (place / "documents.jsonl").read_bytes().split(b"\n")[:2])
    assert {name: first[name] for name in KINDS} == {
        **{name: values[0] for name, values in KINDS.items()},
        "bytes": "AP8=",
        "day": "2025-01-02",
        "moment": "2025-01-02T03:04:05.000006",
        "decimal": "1.50",
    }
    assert (second["float"], second["struct"]) == (None, {"a": None, "b": "y"})


def test_safetensors_hold_every_tensor(cache: Cache, tmp_path: Path) -> None:
    place = cache.export("safetensors", tmp_path / "out")
    files = [load_file(path) for path in sorted(place.glob("*.safetensors"))]
    for column, values in features(cache).items():
        assert np.array_equal(np.concatenate([file[column].ravel() for file in files]), values)
        assert files[0][column].dtype == values.dtype
    assert (place / "documents.jsonl").stat().st_mode == (place / "features-00000.safetensors").stat().st_mode


def flat(path: Path) -> Iterator[dict[str, Any]]:
    for article in json.loads(path.read_bytes())["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield {**question, "title": article.get("title"), "context": paragraph["context"]}


@pytest.mark.parametrize("source", [slow(SQUAD), xquad("zh"), *(slow(xquad(one)) for one in ("ar", "hi", "en"))])
def test_squad_comes_back(source: Path, tmp_path: Path) -> None:
    need_real_data()
    settings: dict[str, Any] = {"cache_dir": tmp_path, "max_seq_length": 384, "doc_stride": 64, "keep": "all"}
    built = Cache.build(source, sample_tokenizer(), **settings)
    place = built.export("squad", tmp_path / "again.json")
    assert list(flat(place)) == list(flat(source))
    again = Cache.build(place, sample_tokenizer(), **settings)
    assert built.segments(0, built.num_rows).equals(again.segments(0, again.num_rows))
    assert {kind: rows_of(table) for kind, table in texts(built).items()} == {
        kind: rows_of(table) for kind, table in texts(again).items()
    }


def test_squad_of_unlabelled_documents(tmp_path: Path) -> None:
    rows = [{"id": "a", "question": "Who?", "context": "Anna came."}]
    built = Cache.build(rows, sample_tokenizer(), cache_dir=tmp_path, max_seq_length=48, doc_stride=12)
    place = built.export("squad", tmp_path / "out.json")
    paragraph = {"context": "Anna came.", "qas": [{"id": "a", "question": "Who?"}]}
    assert json.loads(place.read_bytes()) == {"version": "1.1", "data": [{"paragraphs": [paragraph]}]}


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        ([float("nan"), float("nan"), 1.5], [None, 1.5]),
        ([None, float("nan"), None], [None]),
        ([["a", "b"], ["a", "b"], ["a"]], [["a", "b"], ["a"]]),
        ([[float("nan")], [float("nan")], []], [[None], []]),
        ([{"en": "a"}, {"en": "a"}, {"en": "null"}], [{"en": "a"}, {"en": "null"}]),
        (["null", "null", None], ["null", None]),
    ],
)
def test_titles_that_are_no_text(titles: list[Any], expected: list[Any], tmp_path: Path) -> None:
    rows = [
        example("Anna came.", "Who?", [("Anna", 0)], id=str(n)) | {"title": title} for n, title in enumerate(titles)
    ]
    built = Cache.build(rows, sample_tokenizer(), cache_dir=tmp_path, max_seq_length=48, doc_stride=12, keep=["title"])
    place = built.export("squad", tmp_path / "out.json")
    articles = json.loads(place.read_bytes())["data"]
    assert [article.get("title") for article in articles] == expected
    assert all("title" in article for article, title in zip(articles, expected, strict=True) if title is not None)
    assert [question["id"] for question in flat(place)] == ["0", "1", "2"]


def test_squad_refuses_what_it_cannot_hold(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cache.manifest.alignment, "yes_no", 2)
    with pytest.raises(ExportError, match="spans of text, which SQuAD's form holds, found 2 yes_no; export to jsonl"):
        cache.export("squad", tmp_path / "out.json")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_disk_that_keeps_something_else(
    kind: ExportFormat, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(exporting, "sync", damage)
    with pytest.raises(ExportError, match="check the disk, and export again"):
        cache.export(kind, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", FORMATS)
def test_a_full_disk(kind: ExportFormat, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(exporting, "sync", fail)
    with pytest.raises(
        ExportOSError, match=r"cannot be written: No space left .*; make room and export again"
    ) as found:
        cache.export(kind, tmp_path / "out")
    assert found.value.errno == errno.ENOSPC
    assert pickle.loads(pickle.dumps(found.value)).errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from memxlnet.export import export as exporting
from memxlnet.format.published import PublishedCache
exporting.sync = lambda path: os._exit(9)
exporting.export(PublishedCache(Path(sys.argv[1])), sys.argv[2], sys.argv[3])
"""


@pytest.mark.parametrize("kind", ["jsonl", "squad"])
def test_what_a_killed_export_leaves_goes_with_the_next_one(kind: ExportFormat, cache: Cache, tmp_path: Path) -> None:
    arguments = [str(cache.directory), kind, str(tmp_path / "out")]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, timeout=100)
    left = {path.suffix for path in tmp_path.iterdir()}
    assert (killed.returncode, left) == (9, {".tmp", ".lock"})
    cache.export("squad" if kind == "jsonl" else "jsonl", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_live_export_to_the_same_place(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def export_again(path: Path) -> None:
        if path.parent == tmp_path:
            with pytest.raises(
                SettingsError, match=r"no other process exports, found .*out.json'; wait for it"
            ) as found:
                cache.export("squad", tmp_path / "out.json")
            refused.append(str(found.value))

    monkeypatch.setattr(exporting, "sync", export_again)
    cache.export("squad", tmp_path / "out.json")
    assert refused
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def a_file(root: Path) -> Path:
    (root / "there").write_bytes(b"x")
    return root / "there"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda root: ("csv", root / "out"), "format: expected 'parquet' or .* found 'csv'"),
        (lambda root: (None, root / "out"), "format: expected"),
        (lambda root: ("jsonl", a_file(root)), "output: expected a path where nothing is, found .*there"),
        (lambda root: ("squad", root), "output: expected a path where nothing is"),
        (lambda root: ("parquet", root / "no" / "out"), "output: expected a path in an existing directory"),
        (lambda root: ("parquet", "s3://bucket/out"), "output: expected a local path"),
        (lambda root: ("parquet", ""), "output: expected"),
        (lambda root: ("parquet", 5), "output: expected"),
    ],
)
def test_wrong_arguments(cache: Cache, tmp_path: Path, arguments: Callable[[Path], Any], message: str) -> None:
    kind, output = arguments(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SettingsError, match=message):
        cache.export(kind, output)
    assert sorted(tmp_path.iterdir()) == before


def test_the_place_without_a_name(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cache.export("jsonl") == tmp_path / f"{cache.directory.name}.jsonl"
    assert cache.export("squad") == tmp_path / f"{cache.directory.name}.json"
    with pytest.raises(SettingsError, match="remove it, or choose another"):
        cache.export("jsonl")


def content(place: Path) -> Any:
    """What is exported, by file: the values where row groups, or the order of metadata, may differ; else the bytes."""
    if place.is_file():
        return place.read_bytes()
    return {path.name: content_of(path) for path in place.iterdir()}


def content_of(path: Path) -> Any:
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return table.schema, rows_of(table)
    if path.suffix == ".safetensors":
        return {name: (values.dtype, values.tolist()) for name, values in load_file(path).items()}
    return path.read_bytes()


@settings(max_examples=8)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from([None, 3]), st.sampled_from(["all", ()]))
def test_parts_are_exported_as_the_compacted_cache(counts: list[int], max_shard_rows: int | None, keep: Any) -> None:
    files = {
        f"f{n}": [row | ({"level": n} if n != 1 else {"title": "x"}) for row in rows_of_file(f"f{n}", count)]
        for n, count in enumerate(counts)
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = write_files(root / "data", files)
        parts = Parts(in_parts(source, root / "parts", max_shard_rows=max_shard_rows, keep=keep).directory)
        whole = parts.compact(root / "one")
        for kind in FORMATS:
            found, expected = parts.export(kind, root / f"a-{kind}"), whole.export(kind, root / f"b-{kind}")
            assert content(found) == content(expected)


def with_contexts(place: Path) -> Any:
    """What an export holds, whatever the order of the contexts; each document with the text of its own."""
    files = content(place)
    if not isinstance(files, dict):
        return files
    contexts = [name for name in files if name.startswith("contexts")]
    for name in contexts:
        read, documents = (
            pq.read_table if name.endswith(".parquet") else pyarrow.json.read_json,
            name.replace("context", "document"),
        )
        texts = [row["text"] for row in read(place / name).to_pylist()]
        rows = read(place / documents).to_pylist()
        files[name], files[documents] = sorted(texts), repr([row | {"context": texts[row["context"]]} for row in rows])
    return files


@settings(max_examples=5)
@given(
    st.lists(st.sets(st.integers(0, 5), min_size=1).map(sorted), min_size=2, max_size=4),
    st.sampled_from([None, 3]),
    st.sampled_from(["all", ()]),
)
def test_hidden_documents_of_parts_are_left_out(ids: list[list[int]], max_shard_rows: int | None, keep: Any) -> None:
    rows = [[rows_of_file("f", 6)[one] | {"level": f"{n}/{one}"} for one in some] for n, some in enumerate(ids)]
    # What counts is the last example of each id.
    last = {one: n for n, some in enumerate(ids) for one in some}
    shown = [[row for one, row in zip(some, rows[n], strict=True) if last[one] == n] for n, some in enumerate(ids)]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        found, expected = (
            Parts(
                in_parts(
                    write_files(root / name, {f"f{n}": some for n, some in enumerate(files) if some}),
                    root / f"{name}-parts",
                    name="same",
                    on_repeated_id="newest",
                    max_shard_rows=max_shard_rows,
                    keep=keep,
                ).directory
            )
            for name, files in (("all", rows), ("shown", shown))
        )
        assert found.list.num_hidden == sum(map(len, ids)) - len(last)
        for kind in FORMATS:
            places = found.export(kind, root / f"a-{kind}"), expected.export(kind, root / f"b-{kind}")
            assert with_contexts(places[0]) == with_contexts(places[1])
