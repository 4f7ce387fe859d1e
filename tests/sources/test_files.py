"""Files in every format, compressed or not, and names: what is a file, and how it is read."""

import bz2
import errno
import gzip
import itertools
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.encode.examples import parse_example
from memxlnet.errors import ExampleError, SourceError, SourceNotFoundError
from memxlnet.sources import KnownFile, is_file_name, open_source
from memxlnet.sources.json_files import read_json, read_json_lines
from memxlnet.sources.source_files import HashedFile
from tests.support import example

ROWS = [
    example("A contèxt  with blanks \u00a0and 😀.", "Whö?", [("blanks", 16)], id="ä"),
    example("Nothing.", "Why?", [], id="b"),
]


def compress_zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    return bytes(sink.getvalue().to_pybytes())


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": compress_zstd,
}


def _arrow(rows: list[dict[str, Any]], stream: bool) -> bytes:
    table, sink = pa.Table.from_pylist(rows), pa.BufferOutputStream()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue().to_pybytes())


class Unhashed:
    """Reports every file as known, so that many small files need not wait for the clock."""

    def __init__(self, path: Path):
        self._path = path

    def __call__(self, path: str) -> KnownFile:
        status = self._path.stat()
        return KnownFile(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, "0" * 64)


FORMATS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".json": lambda rows: json.dumps(rows).encode(),
    ".jsonl": lambda rows: "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode(),
    ".parquet": _parquet,
    ".arrow": lambda rows: _arrow(rows, stream=True),
    ".feather": lambda rows: _arrow(rows, stream=False),
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("suffix", FORMATS)
class TestCompressed:
    def test_rows_count_and_name_are_those_of_the_plain_file(
        self, suffix: str, compression: str, tmp_path: Path
    ) -> None:
        path = tmp_path / f"data.v1{suffix}{compression}"
        path.write_bytes(COMPRESSIONS[compression](FORMATS[suffix](ROWS)))
        source = open_source(str(path), "train")
        assert list(source.rows()) == ROWS
        assert source.name == "data.v1"
        assert source.count() == len(ROWS)
        assert source.identity()["format"] == suffix[1:]

    def test_the_content_gives_the_format_where_the_name_does_not(
        self, suffix: str, compression: str, tmp_path: Path
    ) -> None:
        if suffix == ".arrow":
            pytest.skip("a stream of Arrow begins with nothing that is its own")
        path = tmp_path / "part-00000"
        path.write_bytes(COMPRESSIONS[compression](FORMATS[suffix](ROWS)))
        assert list(open_source(str(path), "train").rows()) == ROWS

    def test_what_is_cut_off_is_an_error(self, suffix: str, compression: str, tmp_path: Path) -> None:
        whole = COMPRESSIONS[compression](FORMATS[suffix](ROWS))
        path = tmp_path / f"f{suffix}{compression}"
        for length in range(1, len(whole), 1 + len(whole) // 7):
            path.write_bytes(whole[:length])
            if suffix == ".jsonl" and not compression:
                continue
            with pytest.raises(SourceError, match=rf"f\{suffix}"):
                list(open_source(path, "train", find_known=Unhashed(path)).rows())


LINES = [json.dumps(row).encode() + b"\n" for row in ROWS]


@pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESSIONS if suffix])
class TestSeveralStreams:
    def test_streams_after_each_other_are_one_file(self, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"f.jsonl{suffix}"
        path.write_bytes(b"".join(map(COMPRESSIONS[suffix], LINES)) + (b"" if suffix == ".zst" else bytes(8)))
        assert list(open_source(path, "train").rows()) == ROWS

    def test_what_follows_and_is_no_stream_is_an_error(self, suffix: str, tmp_path: Path) -> None:
        first, second = map(COMPRESSIONS[suffix], LINES)
        path = tmp_path / f"f.jsonl{suffix}"
        for rest in (b"X" + second[1:], b"garbage", second[:3], second[:-3]):
            path.write_bytes(first + rest)
            with pytest.raises(SourceError, match=rf"f\.jsonl\{suffix}:"):
                list(open_source(path, "train", find_known=Unhashed(path)).rows())


@pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESSIONS if suffix])
def test_a_wrong_suffix_is_an_error(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"f.json{suffix}"
    path.write_bytes(json.dumps(ROWS).encode())
    with pytest.raises(SourceError, match=rf"f\.json\{suffix}:.*suffix"):
        list(open_source(path, "train").rows())


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["squad.csv", "a/b/c", "./squad", "../squad", "~/squad", "/no/such", "data/squad.json.gz", "x.zst", "s.xlsx"],
    )
    def test_what_looks_like_a_path_is_never_asked_for_on_the_hub(self, name: str) -> None:
        with pytest.raises(SourceNotFoundError):
            open_source(name, "train")

    @pytest.mark.parametrize("name", ["squad", "rajpurkar/squad_v2", "a.b/c-d", "squad_v1.1"])
    def test_a_name_on_the_hub_is_not_that_of_a_file(self, name: str) -> None:
        assert not is_file_name(name)

    def test_a_file_that_exists_is_that_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "squad").write_text(json.dumps(ROWS))
        assert list(open_source("squad", "train").rows()) == ROWS


# One language of JSON


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def _read(reader: Callable[[HashedFile], Any], path: Path) -> Any:
    try:
        return list(reader(HashedFile(path)))
    except SourceError:
        return "refused"


@given(
    records=st.lists(st.fixed_dictionaries({"id": JSON, "more": JSON}), min_size=1, max_size=4), escapes=st.booleans()
)
def test_both_readers_read_what_json_reads(
    records: list[Any], escapes: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    lines = [json.dumps(record, ensure_ascii=True if escapes else _has_surrogates(record)) for record in records]
    contents = {"a.json": f"[{', '.join(lines)}]", "b.json": "\n".join(lines), "c.jsonl": "\n".join(lines)}
    expected = repr([json.loads(line) for line in lines])
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
        found = _read(read_json_lines if name.endswith("jsonl") else read_json, folder / name)
        assert repr(found) == expected, name


def _has_surrogates(value: Any) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in json.dumps(value, ensure_ascii=False))


@given(text=st.text('{}[]",:\\ntrue 019.-eNaI\u00e9', max_size=24), block=st.sampled_from([1, 2, 5, 64]))
def test_a_record_is_accepted_where_json_accepts_it(
    text: str, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    line = '{"id": ' + text.replace("\n", " ") + "}"
    folder = tmp_path_factory.getbasetemp()
    try:
        expected: Any = repr([json.loads(line)])
    except ValueError:
        expected = "'refused'"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memxlnet.sources.json_stream._READ_BYTES", block)
        for name, content in {"d.json": f"[{line}]", "e.jsonl": line}.items():
            (folder / name).write_text(content, encoding="utf-8")
            found = _read(read_json_lines if name.endswith("jsonl") else read_json, folder / name)
            if name == "d.json" and expected == "'refused'" and found != "refused":
                assert repr(json.loads(f"[{line}]")) == repr(found)  # such as `1}, {"a": 2`: two records of an array
            else:
                assert repr(found) == expected, name


@pytest.mark.parametrize("name", ["f.json", "f.jsonl"])
class TestStrangeValues:
    def rows(self, tmp_path: Path, name: str, record: str) -> list[Any]:
        path = tmp_path / name
        path.write_bytes(record.encode())
        return list(open_source(path, "train").rows())

    def test_numbers_that_are_not_read_do_not_matter(self, tmp_path: Path, name: str) -> None:
        record = '{"id": "a", "x": [NaN, Infinity, -Infinity, 1e999, ' + "9" * 9000 + "]}"
        (found,) = self.rows(tmp_path, name, record)
        assert found["id"] == "a"

    def test_half_of_a_surrogate_pair_is_an_error_of_its_example(self, tmp_path: Path, name: str) -> None:
        record = '{"id": "a", "question": "q", "context": "x \\ud800 y", "answers": []}'
        (found,) = self.rows(tmp_path, name, record)
        with pytest.raises(ExampleError, match=r"'a' \(row 0\):.*'context'.*surrogate"):
            parse_example(0, found, name)

    def test_a_byte_order_mark_is_not_part_of_the_text(self, tmp_path: Path, name: str) -> None:
        assert self.rows(tmp_path, name, '\ufeff{"id": "a"}') == [{"id": "a"}]


@pytest.mark.parametrize(
    "content",
    [
        {"id": "x", "version": "1", "data": [{"title": "t", "id": "y", "paragraphs": [{"qas": [ROWS[1]]}]}]},
        {"data": [{"paragraphs": [{"qas": [ROWS[1]]}], "context": "of the article"}], "title": "t"},
    ],
)
def test_official_squad_is_recognised_by_its_whole_shape(content: Any, tmp_path: Path) -> None:
    if "id" in content:
        del content["id"]
    (tmp_path / "f.json").write_text(json.dumps(content))
    assert [row["id"] for row in open_source(tmp_path / "f.json", "train").rows()] == ["b"]


PASSAGE = {"passage": "a b", "qa_pairs": []}
PAIR = {"query_id": "q", "question": "Q?", "answer": {"number": "", "spans": ["a"], "date": {}}}


@pytest.mark.parametrize("broken", range(3))
@pytest.mark.parametrize("marks", [{}, {"version": "1"}])
def test_an_object_of_records_is_read_to_its_end(broken: int, marks: dict[str, str], tmp_path: Path) -> None:
    records: list[Any] = [{**PASSAGE, "qa_pairs": [{**PAIR, "query_id": name}]} for name in "abc"]
    records[broken] = {"passage": "x"}
    path = tmp_path / "f.json"
    path.write_text(json.dumps(marks | dict(enumerate(records)) | {"last": 1}))
    rows = list(open_source(path, "train", form="drop").rows())
    assert [isinstance(row, ExampleError) for row in rows] == [number == broken for number in range(3)]


@pytest.mark.parametrize("second", ["data", "Data"])
def test_two_arrays_of_records_are_an_error(second: str, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(f'{{"data": {json.dumps(ROWS)}, "{second}": {json.dumps(ROWS)}}}')
    with pytest.raises(SourceError, match=rf"f\.json:.*'data'.*'{second}'"):
        list(open_source(path, "train").rows())


def test_one_record_may_have_any_fields_before_its_own(tmp_path: Path) -> None:
    record = {"version": 1, "title": "t", "data": "no list", **ROWS[0]}
    (tmp_path / "f.json").write_text(json.dumps(record, indent=1))
    assert list(read_json(HashedFile(tmp_path / "f.json"))) == [record]


def test_an_object_that_is_a_record_and_holds_records_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text(json.dumps({"data": ROWS, **ROWS[0]}))
    with pytest.raises(SourceError, match="both"):
        list(read_json(HashedFile(tmp_path / "f.json")))


@pytest.mark.parametrize("number", range(3))
def test_a_file_that_the_system_cannot_look_at_is_an_error_of_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path, plain, calls = tmp_path / "rows.jsonl", os.stat, itertools.count()
    path.write_text("{}\n")

    def failing(target: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if target == path and next(calls) == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return plain(target, *arguments, **options)

    monkeypatch.setattr(os, "stat", failing)
    with pytest.raises(SourceError, match=r"rows.jsonl: cannot be read.*Input/output error"):
        HashedFile(path).known()
