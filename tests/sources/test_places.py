"""Where examples come from besides one file: several files, directories, stores, tables, slices, second readings."""

import contextlib
import functools
import http.server
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memxlnet.encode.examples import parse_example
from memxlnet.errors import ExampleError, SettingsError, SourceError, SourceNotFoundError
from memxlnet.redaction import Redactor
from memxlnet.sources import Source, open_source, shown_name, source_name
from tests.sources.test_files import COMPRESSIONS, FORMATS
from tests.support import example

ROWS = [example(f"Context {number} é.", f"Q{number}?", [("Context", 0)], id=f"{number}") for number in range(10)]


def write(path: Path, rows: list[Any], compression: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(COMPRESSIONS[compression](FORMATS[path.suffix](rows)))
    return path.rename(path.with_name(path.name + compression))


WAYS: dict[str, st.SearchStrategy[Any]] = {
    "files": st.integers(1, 5),
    "compression": st.sampled_from(sorted(COMPRESSIONS)),
    "suffix": st.sampled_from(sorted(FORMATS)),
}
"""Ways to write examples; see `write_parts`."""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def write_parts(folder: Path, rows: list[Any], files: int, compression: str, suffix: str) -> None:
    """Write rows as so many files of a format, or fewer where there are not as many rows."""
    size = -(-len(rows) // files)
    for start in range(0, len(rows), size):
        write(folder / f"part-{start:03}{suffix}", rows[start : start + size], compression)


def read(named: Any, split: str = "train", **options: Any) -> list[Any]:
    return list(open_source(named, split, **options).rows())


# Several files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of JSON Lines in a directory, as a writer leaves them."""
    for number, rows in enumerate((ROWS[:3], ROWS[3:4], ROWS[4:])):
        write(tmp_path / "data" / f"part-{number}.jsonl", rows)
    for name in ("_SUCCESS", ".hidden.jsonl", "_temporary/part-0.jsonl", "part-9.jsonl.tmp", "README.md", "LICENSE"):
        other = tmp_path / "data" / name
        other.parent.mkdir(exist_ok=True)
        other.write_text("nothing to read")
    return tmp_path / "data"


NAMED: dict[str, Callable[[Path], Any]] = {
    "directory": lambda folder: folder,
    "directory as a string": str,
    "glob": lambda folder: str(folder / "part-*.jsonl"),
    "recursive glob": lambda folder: f"{folder.parent}/**/part-?.jsonl",
    "list": lambda folder: [folder / f"part-{number}.jsonl" for number in range(3)],
    "list of strings and globs": lambda folder: [str(folder / "part-0.jsonl"), str(folder / "part-[12].jsonl")],
    "url": lambda folder: f"file://{folder}",
    "glob in a url": lambda folder: f"file://{folder}/part-?.jsonl",
}


@pytest.mark.parametrize("named", NAMED)
class TestSeveralFiles:
    def test_they_are_read_in_order(self, named: str, folder: Path) -> None:
        if named == "recursive glob":
            (folder / "_temporary" / "part-0.jsonl").unlink()
        source = open_source(NAMED[named](folder), "train")
        assert list(source.rows()) == list(source.rows()) == ROWS
        source.check_unchanged()
        assert json.loads(json.dumps(source.identity())) == source.identity()
        assert source.name == source_name(NAMED[named](folder))
        assert source.count() == len(ROWS)

    def test_a_row_is_named_by_its_file(self, named: str, folder: Path) -> None:
        if named == "recursive glob":
            (folder / "_temporary" / "part-0.jsonl").unlink()
        source = open_source(NAMED[named](folder), "train")
        list(source.rows())
        places = [source.place(row) for row in range(10)]
        assert [(name.rpartition("/")[2], number) for name, number in places] == [
            *(("part-0.jsonl", number) for number in range(3)),
            ("part-1.jsonl", 0),
            *(("part-2.jsonl", number) for number in range(6)),
        ]

    def test_a_change_of_one_is_another_identity(self, named: str, folder: Path) -> None:
        if named == "recursive glob":
            (folder / "_temporary" / "part-0.jsonl").unlink()
        before = open_source(NAMED[named](folder), "train")
        identity = before.identity()
        write(folder / "part-1.jsonl", ROWS[4:5])
        assert open_source(NAMED[named](folder), "train").identity() != identity
        with pytest.raises(SourceError, match=r"part-1\.jsonl:"):
            before.check_unchanged()


def test_a_bad_row_is_named_by_its_file(folder: Path) -> None:
    write(folder / "part-1.jsonl", [{"id": "x", "question": 3, "context": "c", "answers": []}])
    source = open_source(folder, "train")
    rows = list(source.rows())
    with pytest.raises(ExampleError, match=r"part-1\.jsonl.*'x' \(row 0\):.*'question'"):
        parse_example(3, rows[3], source.place)


def test_the_same_content_is_the_same_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    moved = folder.rename(tmp_path / "moved")
    assert open_source(moved, "train").identity() == open_source(str(moved / "part-*.jsonl"), "train").identity()


def test_files_of_two_formats_are_refused(folder: Path) -> None:
    write(folder / "part-3.parquet", ROWS)
    with pytest.raises(SourceError, match=r"part-0\.jsonl.*part-3\.parquet"):
        open_source(folder, "train")


@pytest.mark.parametrize("named", ["*.jsonl", "**/*.jsonl", ""], ids=["glob", "recursive glob", "directory"])
def test_a_file_that_a_link_leads_to_as_well_is_refused(folder: Path, named: str) -> None:
    (folder / "part-9.jsonl").symlink_to(folder / "part-0.jsonl")
    with pytest.raises(SettingsError, match=r"^source:.*part-0\.jsonl"):
        open_source(f"{folder}/{named}", "train")


def test_a_recursive_glob_that_a_link_leads_round_is_refused(folder: Path) -> None:
    (folder / "round").symlink_to(folder)
    with pytest.raises(SettingsError, match=r"^source:"):
        open_source(f"{folder}/**/*.jsonl", "train")


@pytest.mark.parametrize("name", ["a" * 300, "a" * 300 + ".jsonl", "/tmp/" + "a/" * 3000 + "f.jsonl"])
def test_a_path_that_is_too_long_is_not_found(name: str) -> None:
    with pytest.raises(SourceNotFoundError, match="File name too long"):
        open_source(name, "train")


def test_a_file_named_twice_is_refused(folder: Path) -> None:
    path = str(folder / "part-0.jsonl")
    with pytest.raises(SettingsError, match=rf"^source:.*{path}"):
        open_source([path, path], "train")


@pytest.mark.parametrize("named", ["nothing-*.jsonl", "empty"])
def test_no_file_is_an_error(named: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceNotFoundError):
        open_source(str(tmp_path / named), "train")


def test_a_pattern_that_fits_a_directory_is_refused(folder: Path) -> None:
    (folder / "more").mkdir()
    with pytest.raises(SourceError, match=rf"^{folder}/\*:.*{folder}/more"):
        open_source(f"{folder}/*", "train")


def test_partitions_are_fields(tmp_path: Path) -> None:
    for language in ("de", "en"):
        write(tmp_path / "data" / f"lang={language}" / "part-0.parquet", [{**ROWS[0], "id": language}])
    columns = {"id": "lang", "question": "question", "context": "context", "answers": "answers"}
    assert [row["id"] for row in read(tmp_path / "data", columns=columns)] == ["de", "en"]
    assert [row["lang"] for row in read(tmp_path / "data")] == ["de", "en"]
    identity = open_source(tmp_path / "data", "train").identity()
    assert identity["partitions"] == [{"lang": "de"}, {"lang": "en"}]


def test_partitions_are_decoded_as_they_were_written(tmp_path: Path) -> None:
    for name in ("k=a%20b", "k=__HIVE_DEFAULT_PARTITION__"):
        write(tmp_path / "data" / name / "part-0.jsonl", ROWS[:1])
    assert [row["k"] for row in read(tmp_path / "data")] == [None, "a b"]


def test_directories_that_links_lead_to_are_read_once(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "more.jsonl", [{**ROWS[0], "id": "more"}])
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "linked-again").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    assert [row["id"] for row in read(folder)] == ["more", *(row["id"] for row in ROWS)]


@pytest.mark.parametrize("name", ["pipe", "pipe.jsonl"])
def test_a_pipe_in_a_directory_is_an_error(name: str, folder: Path) -> None:
    os.mkfifo(folder / name)
    with pytest.raises(SourceError, match=f"/{name}:"):
        open_source(folder, "train")


def test_a_name_in_a_directory_that_is_no_text_is_an_error(folder: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.jsonl")).touch()
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(SettingsError, match="Unicode"):
        open_source(folder, "train")


def test_a_file_named_in_two_ways_is_refused(folder: Path) -> None:
    (folder / "link.jsonl").symlink_to(folder / "part-0.jsonl")
    for other in (folder / "link.jsonl", folder / ".." / folder.name / "part-0.jsonl"):
        with pytest.raises(SettingsError, match=r"^source:.*part-0\.jsonl"):
            open_source([folder / "part-0.jsonl", other], "train")


def test_a_directory_of_splits_is_read_split_by_split(tmp_path: Path) -> None:
    write(tmp_path / "data" / "train-v2.0.json", ROWS[:4])
    write(tmp_path / "data" / "dev-v2.0.json", ROWS[4:])
    assert read(tmp_path / "data") == ROWS[:4]
    assert read(tmp_path / "data", "validation") == ROWS[4:]
    with pytest.raises(SourceError, match="'test'"):
        open_source(tmp_path / "data", "test")


@pytest.mark.parametrize("name", ["train-1.JSONL", "train-1.csv", "part-1.jsonl"])
def test_a_file_that_belongs_to_no_split_is_an_error(name: str, tmp_path: Path) -> None:
    for other in ("train-0.jsonl", "train-2.jsonl", "test.jsonl"):
        write(tmp_path / "data" / other, ROWS)
    (tmp_path / "data" / name).write_text("id,question,context\n")
    with pytest.raises(SourceError, match=rf"split.*{name}"):
        open_source(tmp_path / "data", "train")


def test_partitions_of_a_directory_of_splits_are_fields(tmp_path: Path) -> None:
    write(tmp_path / "data" / "train" / "lang=en" / "f.jsonl", ROWS[:1])
    assert read(tmp_path / "data") == [{**ROWS[0], "lang": "en"}]


@pytest.mark.parametrize(
    ("names", "found"), [(("train", "test"), "'test', 'train'"), (("train", "part"), "none, 'train'")]
)
def test_the_splits_of_a_directory_in_a_store_are_not_mixed(names: Any, found: str) -> None:
    store = fsspec.filesystem("memory")
    for name in names:
        store.pipe(f"/splits-{names[1]}/{name}-0.jsonl", FORMATS[".jsonl"](ROWS))
    with pytest.raises(SourceError, match=found):
        open_source(f"memory://splits-{names[1]}", "train")
    assert read(f"memory://splits-{names[1]}/train-*.jsonl") == ROWS


def test_what_save_to_disk_wrote_is_that_dataset(tmp_path: Path) -> None:
    dataset = datasets.Dataset.from_list(ROWS)
    dataset.select([3, 1, 2]).save_to_disk(tmp_path / "one")
    assert [row["id"] for row in read(tmp_path / "one")] == ["3", "1", "2"]
    datasets.DatasetDict({"a": dataset, "b": dataset.select([0])}).save_to_disk(tmp_path / "two")
    assert len(read(tmp_path / "two", "a")) == 10
    assert [row["id"] for row in read(tmp_path / "two", "b")] == ["0"]
    assert open_source(tmp_path / "two", "a").name == source_name(tmp_path / "two") == "two"
    with pytest.raises(SourceError, match=r"'c'.*'a', 'b'"):
        open_source(tmp_path / "two", "c")
    (tmp_path / "one" / "state.json").write_text("{")
    with pytest.raises(SourceError, match=str(tmp_path / "one")):
        open_source(tmp_path / "one", "train")


# CSV


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_cells_are_texts_as_they_stand(suffix: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": ["007", "NA", "3"],
            "question": ["1.50", "null", ' "Who"?\r\n'],
            "context": ["true", "A, b\tc\nd", "é  \u2028"],
            "answer_text": ["true", "", "é"],
            "answer_start": [0, None, 0],
        }
    ).astype({"answer_start": "Int64"})
    path = tmp_path / f"f{suffix}"
    frame.to_csv(path, index=False, sep="," if suffix == ".csv" else "\t")
    found = [parse_example(number, row, "f") for number, row in enumerate(read(path))]
    assert [one.id for one in found] == ["007", "NA", "3"]
    assert [one.question for one in found] == ["1.50", "null", ' "Who"?\r\n']
    assert [one.context for one in found] == ["true", "A, b\tc\nd", "é  \u2028"]
    assert [(one.answer_texts, one.answer_starts) for one in found] == [(("true",), (0,)), ((), ()), (("é",), (0,))]


def test_answers_may_be_json_in_a_cell(tmp_path: Path) -> None:
    answers = [json.dumps(row["answers"]) for row in ROWS]
    frame = pd.DataFrame(
        {**{name: [row[name] for row in ROWS] for name in ("id", "question", "context")}, "answers": answers}
    )
    frame.to_csv(tmp_path / "f.csv", index=False)
    assert read(tmp_path / "f.csv") == ROWS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "CSV"),
        ("id,question\n1,2,3\n", r"CSV.*Expected 2 columns, got 3"),
        ("id,id\n1,2\n", r"\['id'\]"),
        ("id\n\xff\n", "CSV"),
    ],
)
def test_a_broken_csv_is_an_error(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(SourceError, match=rf"f\.csv:.*{message}"):
        read(tmp_path / "f.csv")


def test_a_csv_without_a_header_names_the_fields_it_has(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("1,Who?,Text\n2,Why?,Text\n")
    (row,) = read(tmp_path / "f.csv")
    with pytest.raises(ExampleError, match=r"'question'.*'1', 'Who\?', 'Text'"):
        parse_example(0, row, "f.csv")


@pytest.mark.parametrize("cell", ["--5", "-", "9" * 5000, "5.0", "1e3"])
def test_a_cell_that_is_no_offset_is_an_error_of_its_row(cell: str, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(f"id,question,context,answer_text,answer_start\na,Q?,c,c,{cell}\n")
    (row,) = read(tmp_path / "f.csv")
    with pytest.raises(ExampleError, match="offset"):
        parse_example(0, row, "f.csv")


def test_a_cell_of_deeply_nested_answers_is_an_error_of_its_row(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("id,question,context,answers\na,Q?,c," + "[" * 200_000)
    (row,) = read(tmp_path / "f.csv")
    with pytest.raises(ExampleError, match="'answers':"):
        parse_example(0, row, "f.csv")


def test_an_unknown_user_is_not_found() -> None:
    for named in ("~no-such-user/f.json", Path("~no-such-user")):
        with pytest.raises(SourceNotFoundError, match="~no-such-user"):
            open_source(named, "train")


# Tables in memory


TABLES: dict[str, Callable[[], Any]] = {
    "pyarrow": lambda: pa.Table.from_pylist(ROWS),
    "record batch": lambda: pa.Table.from_pylist(ROWS).to_batches()[0],
    "pandas": lambda: pd.DataFrame(ROWS),
    "polars": lambda: pl.DataFrame(ROWS),
}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_read_as_the_list_of_its_rows(table: str) -> None:
    source = open_source(TABLES[table](), "train")
    assert list(source.rows()) == list(source.rows()) == ROWS
    assert source.total == len(ROWS)
    assert source.identity() == open_source(ROWS, "train").identity()
    assert source.name == "in-memory"
    source.check_unchanged()


def test_a_stream_of_batches_needs_an_identity() -> None:
    def stream() -> pa.RecordBatchReader:
        return pa.Table.from_pylist(ROWS).to_reader(max_chunksize=3)

    with pytest.raises(SourceError, match="identity="):
        open_source(stream(), "train")
    assert read(stream(), identity="v1") == ROWS


class Stream:
    """A table that can be read once, of a library that is not known."""

    def __init__(self, error: Exception | None = None):
        self._reader = pa.Table.from_pylist(ROWS).to_reader()
        self._error = error

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        if self._error:
            raise self._error
        return self._reader.__arrow_c_stream__(requested_schema)


def test_any_stream_is_read_once_where_it_has_an_identity() -> None:
    assert read(Stream(), identity="v1") == ROWS
    with pytest.raises(SourceError, match=r"^in-memory:.*gone"):
        open_source(Stream(RuntimeError("gone")), "train")


def test_a_value_that_python_cannot_hold_is_an_error_of_the_source(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS).append_column("when", pa.array([2**50] * 10).cast(pa.timestamp("ms")))
    pq.write_table(table, tmp_path / "f.parquet")
    for named in (table, tmp_path / "f.parquet"):
        with pytest.raises(SourceError, match="out of range"):
            read(named, columns={"question": "question", "context": "context"})


def test_a_frame_with_a_repeated_column_is_refused() -> None:
    frame = pd.DataFrame(ROWS)
    frame.columns = pd.Index(["id", "question", "context", "id"])
    with pytest.raises((SourceError, SettingsError), match="id"):
        open_source(frame, "train")
    table = pa.table([["1"], ["2"]], names=["id", "id"])
    with pytest.raises(SourceError, match=r"\['id'\]"):
        open_source(table, "train")


# What a datasets object says of itself


def test_a_transform_of_a_dataset_is_honoured() -> None:
    dataset = datasets.Dataset.from_list(ROWS)

    def shout(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {**batch, "question": [text.upper() + "!" for text in batch["question"]]}

    source = open_source(dataset.with_transform(shout), "train")
    assert [row["question"] for row in source.rows()] == [row["question"].upper() + "!" for row in ROWS]
    assert source.identity() != open_source(dataset, "train").identity()


def test_the_view_of_a_dataset_is_what_is_read() -> None:
    dataset = datasets.Dataset.from_list(ROWS)
    assert [row["id"] for row in read(dataset.select([4, 2]))] == ["4", "2"]
    assert [row["id"] for row in read(dataset.filter(lambda row: row["id"] > "7"))] == ["8", "9"]
    shuffled = dataset.shuffle(seed=3)
    assert [row["id"] for row in read(shuffled)] == shuffled["id"]
    hidden = dataset.with_format("numpy", columns=["id", "question"])
    assert set(read(hidden)[0]) == {"id", "question"}
    shown = dataset.with_format("numpy", columns=["id", "question"], output_all_columns=True)
    assert read(shown) == ROWS


def test_a_transform_of_a_dataset_that_raises_is_an_error_of_the_source() -> None:
    def fail(batch: Any) -> Any:
        raise KeyError("nothing")

    with pytest.raises(SourceError, match="KeyError"):
        read(datasets.Dataset.from_list(ROWS).with_transform(fail))


# Slices


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("train[:3]", range(3)),
        ("train[8:]", range(8, 10)),
        ("train[-2:]", range(8, 10)),
        ("train[:20%]", range(2)),
        ("train[30%:50%]", range(3, 5)),
        ("train[2:4]+train[:1]", [2, 3, 0]),
        ("train[:100]", range(10)),
        ("train[4:4]", []),
    ],
)
@pytest.mark.parametrize("kind", ["list", "files", "dataset", "dict", "saved"])
def test_a_slice_is_that_of_datasets(spec: str, expected: Any, kind: str, folder: Path, tmp_path: Path) -> None:
    dataset = datasets.Dataset.from_list(ROWS)
    dataset.save_to_disk(tmp_path / "saved")
    named: Any = {
        "list": ROWS,
        "files": folder,
        "dataset": dataset,
        "dict": datasets.DatasetDict({"train": dataset}),
        "saved": tmp_path / "saved",
    }[kind]
    source = open_source(named, spec)
    rows = list(source.rows())
    assert [row["id"] for row in rows] == [str(number) for number in expected]
    if kind == "files":
        numbers = [int(source.place(row)[0][-7]) for row in range(len(rows))]
        assert numbers == [0 if number < 3 else 1 if number == 3 else 2 for number in expected]
    elif kind != "files":
        assert source.total == len(rows)


@pytest.mark.parametrize("spec", ["train[", "train[:3", "train[x]", "train[1:2:3]", "train[:200%]", "a[:1]+b[:1]"])
def test_a_slice_that_cannot_be_read_is_refused(spec: str) -> None:
    with pytest.raises(SettingsError, match=r"^split:"):
        open_source(ROWS, spec)


def test_a_slice_that_needs_the_number_of_rows_needs_a_second_reading() -> None:
    for named in (iter(ROWS), pa.Table.from_pylist(ROWS).to_reader()):
        with pytest.raises(SettingsError, match=r"^split: 'train\[:50%\]'"):
            open_source(named, "train[:50%]", identity="v1")
    assert read(iter(ROWS), "train[2:4]", identity="v1") == ROWS[2:4]


def test_a_slice_that_does_not_fit_the_number_of_rows_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^split:.*dropremainder.*\b10\b"):
        read(ROWS, "train[:10%](pct1_dropremainder)")


# Second readings


class Wandering:
    """Gives other rows at each reading."""

    def __init__(self, *readings: list[Any]):
        self.readings = list(readings)
        self.taken = 0

    def __iter__(self) -> Iterator[Any]:
        for row in self.readings.pop(0):
            self.taken += 1
            yield row


@pytest.mark.parametrize("second", [ROWS[::-1], ROWS[:5], [*ROWS, example("c", id="more")], []])
def test_other_rows_at_the_second_reading_are_refused(second: list[Any]) -> None:
    source = open_source(Wandering(ROWS, second), "train")
    source.identity()
    list(source.rows())
    with pytest.raises(SourceError, match="10"):
        source.check_unchanged()


def test_the_same_rows_at_the_second_reading_pass() -> None:
    source = open_source(Wandering(ROWS, ROWS), "train")
    source.identity()
    list(source.rows())
    source.check_unchanged()


def test_max_examples_bounds_every_reading() -> None:
    items = Wandering(ROWS, ROWS)
    source = open_source(items, "train", max_examples=3)
    source.identity()
    assert [row["id"] for row in source.rows()] == ["0", "1", "2"]
    source.check_unchanged()
    assert items.taken == 6


# Stores


@contextlib.contextmanager
def running_server(handler: Callable[..., Any]) -> Iterator[str]:
    """Run a server on this machine, and give its host and port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"127.0.0.1:{running.server_address[1]}"
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    with running_server(functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))) as address:
        yield f"http://{address}"


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("compression", ["", ".gz"])
def test_a_file_over_http(server: str, folder: Path, suffix: str, compression: str) -> None:
    write(folder / f"more{suffix}", ROWS, compression)
    source = open_source(f"{server}/more{suffix}{compression}", "train")
    assert list(source.rows()) == ROWS
    assert source.name == "more"
    source.check_unchanged()


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_GET(self) -> None:
        self.send_error(int(self.path[1:4]))

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments: Any) -> None:
        """Not wanted."""


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://user:SECRET@{}/404.jsonl", SourceNotFoundError),
        ("http://{}/404.jsonl?token=SECRET", SourceNotFoundError),
        ("http://{}/403.jsonl?token=SECRET&x=SECRETS", SourceError),
        ("http://user:SECRET@{}/500.jsonl?token=SECRET", SourceError),
        ("http://user:SECRET@127.0.0.1:1/f.jsonl?token=SECRET", SourceError),
        ("zip://f.jsonl::http://user:SECRET@{}/500.zip?token=SECRET", SourceError),
        ("nothing://user:SECRET@{}/f.jsonl?token=SECRET", SettingsError),
    ],
)
def test_no_error_shows_credentials(url: str, kind: type[Exception]) -> None:
    with running_server(Refusing) as address, pytest.raises(kind) as caught:
        open_source(url.format(address), "train")
    assert kind is not SourceError or not isinstance(caught.value, SourceNotFoundError)
    assert "SECRET" not in " ".join(f"{error}" for error in chain(caught.value))


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        ("https://user:SECRET@host/f.json?token=SECRET", "https://host/f.json"),
        ("zip://f.json::https://user:SECRET@host/f.zip?SECRET", "zip://f.json::https://host/f.zip"),
        ("hf://datasets/a/b@main/f.json", "hf://datasets/a/b@main/f.json"),
        ("https://user:SEC/RET@host/f.json", "https://host/f.json"),
        ("https://user:SEC?RET@host/f.json", "https://host/f.json"),
        ("https://host:8080/a@b/f.json", "https://host:8080/a@b/f.json"),
        ("https://host/f.json;token=SECRET", "https://host/f.json"),
        ("https://host/f.json#token=SECRET", "https://host/f.json"),
        ("file:///x.zip::https://user:SECRET@host/f.json", "file:///x.zip::https://host/f.json"),
        ("file:///a b/f?.json", "file:///a b/f?.json"),
        (["s3://KEY:SECRET@bucket/f.json", Path("g@h.json")], "s3://bucket/f.json, g@h.json"),
        ([{}], "the source"),
    ],
)
def test_what_is_shown_of_a_name(named: Any, shown: str) -> None:
    assert shown_name(named) == shown


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://KEY:SECRET@bucket/*", "bucket"),
        ("ftp://user:SECRET@example/", "example"),
        ("zip://*.json::ftp://user:SECRET@example", "example"),
        ("https://user:SECRET@host/train.jsonl.gz?token=SECRET", "train"),
    ],
)
def test_the_name_of_a_cache_holds_no_credentials(url: str, name: str) -> None:
    assert source_name(url) == name


def test_a_secret_is_hidden_in_and_out_of_its_quotes() -> None:
    redact = Redactor({"secrets": ["p%40ssw0rd"]})
    assert redact("p%40ssw0rd, p@ssw0rd") == "***, ***"


def test_files_over_http_may_differ_in_their_query_alone(server: str) -> None:
    files = [f"{server}/part-{number}.jsonl?id={number}" for number in (0, 1)]
    assert read(files) == ROWS[:4]
    same = [f"{server}/part-0.jsonl?id={number}" for number in (0, 1)]
    assert read(same) == ROWS[:3] * 2
    with pytest.raises(SettingsError, match=r"^source:.*http://[^?]*part-0\.jsonl"):
        open_source(same[:1] * 2, "train")


def test_a_file_over_http_that_is_missing(server: str) -> None:
    with pytest.raises(SourceNotFoundError, match=r"nothing\.jsonl:") as caught:
        open_source(f"{server}/nothing.jsonl?token=secret", "train")
    assert "secret" not in str(caught.value)


@pytest.fixture
def memory() -> Iterator[Any]:
    store = fsspec.filesystem("memory")
    store.pipe("/qa/part-0.jsonl", FORMATS[".jsonl"](ROWS[:5]))
    store.pipe("/qa/part-1.jsonl", FORMATS[".jsonl"](ROWS[5:]))
    yield store
    with contextlib.suppress(FileNotFoundError):
        store.rm("/qa", recursive=True)


@pytest.mark.parametrize(
    "named", ["memory://qa", "memory://qa/*.jsonl", ["memory://qa/part-0.jsonl", "memory://qa/part-1.jsonl"]]
)
def test_files_of_a_store(named: Any, memory: Any) -> None:
    source = open_source(named, "train")
    assert list(source.rows()) == ROWS
    identity = source.identity()
    memory.pipe("/qa/part-1.jsonl", FORMATS[".jsonl"](ROWS[5:] + ROWS[:1]))
    with pytest.raises(SourceError, match=r"part-1\.jsonl:"):
        source.check_unchanged()
    assert open_source(named, "train").identity() != identity


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("memory://nothing.jsonl", SourceNotFoundError, r"nothing\.jsonl"),
        ("nothing://a/b.jsonl", SettingsError, r"^source:.*'nothing'"),
        ("memory://no/*.jsonl", SourceNotFoundError, r"no/\*\.jsonl"),
    ],
)
def test_a_url_that_cannot_be_read(url: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_source(url, "train")


# Whatever the files, the same examples


@settings(max_examples=20)
@given(rows=st.lists(st.tuples(texts, texts.filter(bool)), min_size=1, max_size=7), way=st.fixed_dictionaries(WAYS))
def test_every_way_to_write_examples_is_read_as_the_same(
    rows: list[tuple[str, str]], way: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = [
        example(context, question, [(context[:1], 0)] if context[:1].strip() else [], id=f"{number}")
        for number, (question, context) in enumerate(rows)
    ]
    folder = tmp_path_factory.mktemp("written")
    write_parts(folder, written, **way)
    source: Source = open_source(folder, "train")
    found = [parse_example(number, row, "w") for number, row in enumerate(source.rows())]
    assert found == [parse_example(number, row, "w") for number, row in enumerate(written)]
