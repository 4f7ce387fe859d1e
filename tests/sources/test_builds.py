"""Builds from every kind of source: the same tables from the same examples, and no answer uncounted."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrow_schemas import TABLES
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.errors import ExampleError, SourceError
from memxlnet.format.manifest import Manifest, read_manifest
from memxlnet.maintain.verify import verify
from tests.golden.make_golden import golden_tokenizer
from tests.sources.test_files import COMPRESSIONS
from tests.sources.test_forms import FORMS
from tests.sources.test_forms import write as write_form
from tests.sources.test_places import ROWS, WAYS, texts, write, write_parts
from tests.support import example, slow_but


def build(source: Any, cache_dir: Path, **options: Any) -> Path:
    """Build, and give the directory of the cache."""
    settings_of_rows = {"max_seq_length": 64, "doc_stride": 16, "num_workers": 0, "progress": False}
    process_and_cache_dataset(
        source, "test", cache_dir, tokenizer=golden_tokenizer(), **{**settings_of_rows, **options}
    )
    (directory,) = (path for path in cache_dir.iterdir() if not path.name.startswith("."))
    return directory


def tables(directory: Path) -> dict[str, pa.Table]:
    """The tables of a cache, without the metadata that names it."""
    found = {}
    for table in TABLES:
        shards = [pa.ipc.open_file(str(path)).read_all() for path in sorted(directory.glob(f"{table}-*.arrow"))]
        found[table] = pa.concat_tables(shards).replace_schema_metadata().combine_chunks()
    return found


def manifest_of(directory: Path) -> Manifest:
    return read_manifest(directory)


@settings(max_examples=10)
@given(rows=st.lists(st.tuples(texts, texts), min_size=1, max_size=6), way=st.fixed_dictionaries(WAYS))
def test_the_same_examples_make_the_same_tables(
    rows: list[tuple[str, str]], way: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = [
        example(f"the {context}", f"who {question}", [("the", 0)], id=f"{number}")
        for number, (question, context) in enumerate(rows)
    ]
    folder = tmp_path_factory.mktemp("written")
    write_parts(folder / "data", written, **way)
    found = tables(build(folder / "data", folder / "files"))
    assert found == tables(build(written, folder / "list"))


QUICK = ["squad", "natural-questions", "coqa", "quac", "drop", "hotpotqa, yes", "hotpotqa without labels"]


@pytest.mark.parametrize("case", slow_but(QUICK, FORMS))
def test_every_answer_of_a_form_is_counted(case: str, tmp_path: Path) -> None:
    name, content, expected = FORMS[case]
    path = write_form(tmp_path, content)
    directory = build(path, tmp_path / "caches", max_seq_length=96)
    manifest = manifest_of(directory)
    counted = {status: count for status, count in manifest.alignment.items() if count}
    assert sum(counted.values()) == len(expected) == manifest.tables["documents"].rows
    assert manifest.contradictions == manifest.dropped_examples == 0
    kinds = {found.get("answer_kind") for found in expected} - {None, "absent"}
    assert kinds <= counted.keys()
    labelled = [found for found in expected if found.get("answers") is not None]
    assert counted.get("unlabelled", 0) == len(expected) - len(labelled)
    located = [
        found
        for found in labelled
        if not found.get("answer_kind")
        and (found["answers"]["text"] if isinstance(found["answers"], dict) else found["answers"])
    ]
    assert counted.get("exact", 0) == len(located)
    verify(directory, against=path)
    verify(build(path, tmp_path / "named", max_seq_length=96, form=name), against=path, form=name)


# Bad input: nothing is published


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], type[Exception], str]] = {
    "a row of the second file": (
        {"part-1.jsonl": [{**ROWS[5], "context": 3}]},
        {},
        ExampleError,
        r"part-1\.jsonl.*'5' \(row 0\):.*'context'",
    ),
    "two formats": ({"part-1.parquet": ROWS[5:]}, {}, SourceError, r"part-0\.jsonl.*part-1\.parquet"),
    "a column that is missing": (
        {},
        {"columns": {"question": "query", "context": "context"}},
        ExampleError,
        r"part-0\.jsonl, row 0: columns:.*'query'.*'question'",
    ),
    "a transform that raises": (
        {},
        {"transform": lambda row: 1 / 0},
        ExampleError,
        r"row 0: transform:.*ZeroDivisionError",
    ),
    "a transform that gives no mapping": ({}, {"transform": lambda row: 3}, ExampleError, "row 0: transform:"),
    "a repeated id": ({"part-1.jsonl": ROWS[:1]}, {}, ExampleError, r"part-1\.jsonl.*'0' \(row 0\):.*id"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_an_error_and_nothing_is_published(case: str, tmp_path: Path) -> None:
    files, options, error, message = BAD[case]
    for name, rows in {"part-0.jsonl": ROWS[:5], **files}.items():
        write(tmp_path / "data" / name, rows)
    with pytest.raises(error, match=message):
        build(tmp_path / "data", tmp_path / "caches", **options)
    assert not [path for path in tmp_path.glob("caches/*") if not path.name.startswith(".")]


def test_finished_chunks_stay_where_a_later_file_is_bad(tmp_path: Path) -> None:
    write(tmp_path / "data" / "part-0.jsonl", ROWS[:5])
    bad = write(tmp_path / "data" / "part-1.jsonl", [*ROWS[5:], {"id": "bad"}])
    with pytest.raises(ExampleError, match="'question'"):
        build(tmp_path / "data", tmp_path / "caches", streaming_chunk_size=2)
    assert len(list(tmp_path.glob("caches/.build-*/chunks/*.chunk"))) >= 4
    dropped = build(tmp_path / "data", tmp_path / "dropped", on_bad_example="drop")
    assert manifest_of(dropped).dropped_examples == 1
    assert "part-1.jsonl" in (dropped / "dropped.jsonl").read_text()
    assert str(bad) not in (dropped / "dropped.jsonl").read_text()


def test_a_compressed_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memxlnet.sources.json_files.MAX_VALUE", 1000)
    monkeypatch.setattr("memxlnet.sources.json_stream.MAX_VALUE", 1000)
    monkeypatch.setattr("memxlnet.sources.json_stream._READ_BYTES", 100)
    (tmp_path / "f.jsonl.gz").write_bytes(COMPRESSIONS[".gz"](b'{"id": "' + b"x" * 10**6))
    (tmp_path / "f.json.gz").write_bytes(COMPRESSIONS[".gz"](b'[{"id": "' + b"x" * 10**6))
    with pytest.raises(SourceError, match=r"f\.jsonl\.gz,.*1,000"):
        build(tmp_path / "f.jsonl.gz", tmp_path / "caches")
    with pytest.raises(SourceError, match=r"f\.json\.gz,.*1,000"):
        build(tmp_path / "f.json.gz", tmp_path / "caches")


def test_rows_of_a_parquet_file_may_have_more_columns(tmp_path: Path) -> None:
    more = [{**row, "embedding": [0.0] * 8, "title": "t"} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(more), tmp_path / "f.parquet")
    assert tables(build(tmp_path / "f.parquet", tmp_path / "a")) == tables(build(ROWS, tmp_path / "b"))
