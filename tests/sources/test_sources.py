"""What the user names, read as a stream of raw examples; damage is an error that names the file, never a short read."""

import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.encode.examples import parse_example
from memxlnet.errors import ExampleError, SettingsError, SourceError, SourceNotFoundError
from memxlnet.sample import sample_file
from memxlnet.sources import KnownFile, Source, open_source, source_name
from memxlnet.sources.source_files import HashedFile
from tests.sources.test_files import Unhashed
from tests.support import SQUAD, example, need_real_data, slow, write_json_lines, xquad

Rows = list[dict[str, Any]]

EXAMPLES: Rows = [
    example("The river é of Paris.", "What?", [("river", 4)], id="a"),
    example("The river é of Paris.", " Who\u2028? ", [], id="b"),
    example("\U0001f600\r\n\t second", "Why?", [("second", 4), ("sec", 4)], id="c"),
]


def as_list(answers: Any) -> Any:
    """Answers as official SQuAD has them."""
    return [{"text": t, "answer_start": s} for t, s in zip(answers["text"], answers["answer_start"], strict=True)]


def nested(rows: Rows = EXAMPLES, **top: Any) -> dict[str, Any]:
    """Official SQuAD: one article a row, of one paragraph."""
    articles = [
        {
            "title": "T",
            "paragraphs": [
                {
                    "qas": [{"id": row["id"], "question": row["question"], "answers": as_list(row["answers"])}],
                    "context": row["context"],
                }
            ],
        }
        for row in rows
    ]
    return {**top, "data": articles}


def read(value: Any, split: str = "train", **options: Any) -> list[Any]:
    return list(open_source(value, split, **options).rows())


def plain(rows: list[Any]) -> Rows:
    """Rows with their answers in one form."""
    found = []
    for row in rows:
        answers = row["answers"]
        if isinstance(answers, list):
            answers = {"text": [a["text"] for a in answers], "answer_start": [a["answer_start"] for a in answers]}
        found.append({"id": row["id"], "question": row["question"], "context": row["context"], "answers": answers})
    return found


def batch(rows: Rows = EXAMPLES) -> pa.RecordBatch:
    answers = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
    columns = [(name, pa.string()) for name in ("id", "question", "context")]
    return pa.RecordBatch.from_pylist(rows, schema=pa.schema([*columns, ("answers", answers)]))


def write_json(path: Path, value: Any, **options: Any) -> Path:
    path.write_text(json.dumps(value, **options), encoding="utf-8")
    return path


def write_parquet(path: Path) -> Path:
    pq.write_table(pa.Table.from_batches([batch()]), path)
    return path


def write_arrow(path: Path, stream: bool, repeats: int = 1) -> Path:
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with path.open("wb") as file, new(file, batch().schema) as writer:
        for _ in range(repeats):
            writer.write_batch(batch())
    return path


FORMS: dict[str, Callable[[Path], Path]] = {
    "nested v1.1": lambda d: write_json(d / "f.json", nested(version="1.1")),
    "nested v2, version last": lambda d: write_json(d / "f.json", {**nested(), "version": "v2.0"}, indent=2),
    "flat array": lambda d: write_json(d / "f.json", EXAMPLES),
    "flat data": lambda d: write_json(d / "f.json", {"version": "x", "data": EXAMPLES}, ensure_ascii=False),
    "json lines named json": lambda d: write_json_lines(d / "f.json", EXAMPLES),
    "json lines": lambda d: write_json_lines(d / "f.jsonl", EXAMPLES),
    "ndjson": lambda d: write_json_lines(d / "f.ndjson", EXAMPLES),
    "suffix in capitals": lambda d: write_json_lines(d / "f.JSONL", EXAMPLES),
    "parquet": lambda d: write_parquet(d / "f.parquet"),
    "arrow file": lambda d: write_arrow(d / "f.arrow", stream=False),
    "arrow stream": lambda d: write_arrow(d / "f.arrow", stream=True),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_examples(form: str, tmp_path: Path) -> None:
    path = FORMS[form](tmp_path)
    assert plain(read(path)) == EXAMPLES
    assert plain(read(str(path))) == EXAMPLES
    source = open_source(path, "train")
    assert plain(list(source.rows())) == plain(list(source.rows())) == EXAMPLES
    assert source.name == source_name(path) == "f"
    source.check_unchanged()


def file_source(path: Path) -> Source:
    return open_source(path, "train")


@pytest.mark.parametrize("form", FORMS)
def test_counting_gives_the_number_of_examples_and_keeps_it(form: str, tmp_path: Path) -> None:
    source = file_source(FORMS[form](tmp_path))
    assert source.total is None
    assert source.count() == source.total == len(EXAMPLES)
    assert plain(list(source.rows())) == EXAMPLES


@pytest.mark.parametrize("size", [1, 2, 9, 10, 11, 12, 64])
def test_counting_meets_keys_on_the_border_of_two_blocks(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memxlnet.sources.formats._COUNT_BYTES", size)
    path = write_json_lines(tmp_path / "f.jsonl", [example("c" * number, id="x") for number in range(1, 30)])
    assert file_source(path).count() == 29


def test_counting_is_not_misled_by_the_key_within_texts(tmp_path: Path) -> None:
    rows = [example('its "question": and "question"', 'the "question"?', [('"question"', 4)], id='"question"')] * 3
    assert file_source(write_json_lines(tmp_path / "f.jsonl", rows)).count() == 3
    assert file_source(write_json(tmp_path / "f.json", nested(rows))).count() == 3
    # Only a text that is this word and nothing else looks like a key.
    more = write_json_lines(tmp_path / "more.jsonl", [{**EXAMPLES[0], "title": "question"}])
    assert file_source(more).count() == 2


def test_counting_parses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    # Only the first record is parsed, which decides the form.
    path.write_bytes(b'{"question": "q", "context": "c"}\n{"question": \n"question"\xff')
    assert file_source(path).count() == 3
    path.write_bytes(b"")
    assert file_source(path).count() == 0


@pytest.mark.parametrize("stream", [False, True])
def test_counting_an_arrow_file_of_many_batches(stream: bool, tmp_path: Path) -> None:
    assert file_source(write_arrow(tmp_path / "f.arrow", stream, repeats=7)).count() == 7 * len(EXAMPLES)


@pytest.mark.parametrize("name", ["f.parquet", "f.arrow"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"ARROW1\0\0 and no more", b"x" * 99])
def test_counting_garbage_is_an_error_that_names_it(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    source = file_source(tmp_path / name)
    with pytest.raises(SourceError, match=f"{name}:"):
        source.count()
    assert source.total is None


def test_counting_a_stream_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    path = write_arrow(tmp_path / "f.arrow", stream=True)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(SourceError, match="end marker"):
        file_source(path).count()


@pytest.mark.parametrize("form", ["json lines", "parquet", "arrow file"])
def test_counting_a_file_that_is_gone_is_an_error_that_names_it(form: str, tmp_path: Path) -> None:
    path = FORMS[form](tmp_path)
    source = file_source(path)
    path.unlink()
    with pytest.raises(SourceError, match=f"{path.name}:"):
        source.count()


@pytest.mark.real_data
def test_counting_real_data() -> None:
    need_real_data()
    for path in (SQUAD, xquad("en"), xquad("zh")):
        assert file_source(path).count() == sum(1 for _ in open_source(path, "train").rows())


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\n\n  \n\t\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_json_lines_with_blank_lines_and_a_byte_order_mark(ends: str, mark: bytes, tmp_path: Path) -> None:
    lines = ends.join(json.dumps(row) for row in EXAMPLES)
    path = tmp_path / "f.jsonl"
    for text in (lines, lines + ends, lines + "\n \n"):
        path.write_bytes(mark + text.encode())
        assert read(path) == EXAMPLES


def test_the_bundled_sample_is_read() -> None:
    articles = json.loads(sample_file().read_text(encoding="utf-8"))["data"]
    questions = [qa["question"] for article in articles for part in article["paragraphs"] for qa in part["qas"]]
    assert [row["question"] for row in read(sample_file())] == questions


def test_an_arrow_file_of_many_batches_and_more_columns(tmp_path: Path) -> None:
    made = batch().append_column("more", pa.array([[1], [2], [3]]))
    path = tmp_path / "f.arrow"
    with pa.ipc.new_file(path, made.schema) as writer:
        for _ in range(700):
            writer.write_batch(made)
    rows = read(path)
    assert len(rows) == 2100
    assert rows[:3] == rows[-3:] == EXAMPLES


def test_a_columnar_file_keeps_answers_as_a_list_of_structs(tmp_path: Path) -> None:
    rows = [{**row, "answers": as_list(row["answers"])} for row in EXAMPLES]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet")
    assert plain(read(tmp_path / "f.parquet")) == EXAMPLES


# Damage


def _legal(form: str, content: bytes) -> set[int]:
    """Lengths at which a cut is no damage: a JSON Lines file with fewer lines is a whole JSON Lines file."""
    if not form.startswith(("json lines", "ndjson")):
        return set()
    ends = [match.start() for match in re.finditer(rb"\n", content)]
    whole = {place for end in ends for place in (end, end + 1)}
    return whole if form == "json lines named json" else whole | {0}


QUICK = [("nested v1.1", 1), ("json lines", 1), ("parquet", 5), ("arrow stream", 5)]


@pytest.mark.parametrize(
    ("form", "every"),
    [*QUICK, *(slow(form, 1) for form in FORMS if form != "suffix in capitals" and (form, 1) not in QUICK)],
)
def test_a_file_that_was_cut_off_is_never_read_as_a_shorter_one(form: str, every: int, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    content = FORMS[form](tmp_path / "whole").read_bytes()
    suffix = {"parquet": ".parquet", "arrow file": ".arrow", "arrow stream": ".arrow", "ndjson": ".ndjson"}
    path = tmp_path / f"cut{suffix.get(form, '.jsonl' if form == 'json lines' else '.json')}"
    legal = _legal(form, content)
    find_known = Unhashed(path)
    for length in range(0, len(content), every):
        path.write_bytes(content[:length])
        if length in legal:
            lines = content[:length].split(b"\n")
            assert read(path, find_known=find_known) == [json.loads(line) for line in lines if line]
            continue
        with pytest.raises(SourceError, match=re.escape(str(path))):
            read(path, find_known=find_known)


def test_an_arrow_stream_cut_between_two_batches_is_damaged(tmp_path: Path) -> None:
    one = write_arrow(tmp_path / "one.arrow", stream=True).read_bytes()
    two = write_arrow(tmp_path / "two.arrow", stream=True, repeats=2)
    path = tmp_path / "cut.arrow"
    path.write_bytes(two.read_bytes()[: len(one) - 8])
    with pytest.raises(SourceError, match=r"cut\.arrow:.*end marker"):
        read(path)
    assert len(read(two)) == 6


_cuts = st.integers(0, 10_000)


@given(place=_cuts, byte=st.sampled_from(b'\x00"{}[],:x\\\xff9'))
def test_a_changed_byte_of_json_is_an_error_or_a_changed_value(
    place: int, byte: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever is written there: rows, or an error that names the file; no other exception."""
    content = bytearray(json.dumps(nested()).encode())
    content[place % len(content)] = byte
    path = tmp_path_factory.getbasetemp() / "changed.json"
    path.write_bytes(content)
    rows: list[Any] = []
    refused = ""
    try:
        rows = read(path, find_known=Unhashed(path))
    except SourceError as error:
        refused = str(error)
    if refused:
        assert str(path) in refused
        return
    json.loads(content)  # what is read without an error is no damaged file
    assert len(rows) <= len(EXAMPLES)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'[\n{"id": "a"},\n{"id": ]', "line 3, column 8"),
        (b'{"data": [{"paragraphs": [{"qas": [}]}]}', "line 1, column 36"),
        (b"", "line 1, column 1"),
        (b"  \n  ", "line 2"),
        (b'[{"id": "\xff"}]', "line 1, column 10"),
        (b'[{"id": "a"}] []', "line 1, column 15"),
        (b'[{"id": "a"},]', "line 1, column 14"),
        (b'[{"id": "a",}]', "line 1, column 13"),
        (b'{"data": [{"paragraphs": []},]}', "line 1, column 30"),
        (b"[" * 200_000, "line 1, column 2"),
        (b'[{"id": "a"}', "line 1, column"),
        (b"not json", "line 1, column"),
    ],
)
def test_malformed_json_names_the_file_and_the_place(content: bytes, place: str, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, {place}")
    assert "malformed JSON: " in str(caught.value)
    assert "b'" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_malformed_json_far_into_a_large_file_names_the_line(tmp_path: Path) -> None:
    lines = ["[", *(json.dumps({"id": str(n), "context": "x" * 300}) + "," for n in range(2000)), '{"id": oops}]']
    path = tmp_path / "f.json"
    path.write_text("\n".join(lines), encoding="utf-8")
    rows = open_source(path, "train").rows()
    with pytest.raises(SourceError, match="line 2002, column 8:"):
        list(rows)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": }', r"line 3, column 8:.*'\{\"id\": \}"),
        (b'{"id": "a"} {}', "line 3, column 13:"),
        (b'{"id": "\xff"}', r"line 3:.*0xff"),
        (b"[" * 200_000, r"line 3:.*'\[\[\["),
    ],
)
def test_a_malformed_line_names_the_line(line: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'{"id": "a"}\n\n' + line + b"\n")
    rows = open_source(path, "train").rows()
    assert next(rows) == {"id": "a"}
    with pytest.raises(SourceError, match=rf"^{re.escape(str(path))}, {message}"):
        next(rows)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"data": []}, "found 'data' without any record"),
        ({}, "found an empty object"),
        ("text", "found '\"'"),
        (3, "found '3'"),
    ],
)
def test_json_of_no_known_form_lists_the_known_ones(value: Any, found: str, tmp_path: Path) -> None:
    path = write_json(tmp_path / "f.json", value)
    with pytest.raises(SourceError) as caught:
        read(path)
    forms = "an array of records, an object with the array 'data', an object of records by their ids, or JSON Lines"
    assert str(caught.value).endswith(f"expected {forms}, {found}")
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("paragraph", "message"),
    [
        ({"context": "c"}, r"'qas'.*\['context'\]"),
        ({"context": "c", "qas": {}}, r"\['context', 'qas'\]"),
        (["c"], r"'qas'.*list$"),
        ({"context": "c", "qas": ["q"]}, r"'qas'.*str$"),
    ],
)
def test_a_malformed_paragraph_is_an_error_of_its_row(paragraph: Any, message: str, tmp_path: Path) -> None:
    good = {"context": "c", "qas": [{"id": "a"}]}
    path = write_json(tmp_path / "f.json", {"data": [{"paragraphs": [good, paragraph]}]})
    source = open_source(path, "train")
    rows = list(source.rows())
    assert len(rows) == 2
    with pytest.raises(ExampleError, match=rf"f\.json, row 1:.*{message}"):
        parse_example(1, rows[1], source.place)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"ARROW1\0\0", b"garbage" * 100, b"\xff" * 64])
def test_garbage_in_a_columnar_file_is_an_error_that_names_it(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"f{suffix}"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"^{re.escape(str(path))}:.*(Parquet|Arrow)"):
        read(path)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_text_that_is_no_utf8_in_a_columnar_file(suffix: str, tmp_path: Path) -> None:
    table = pa.table({"id": pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())})
    path = tmp_path / f"f{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(SourceError, match=re.escape(str(path))):
        read(path)


# Files and names


@pytest.mark.parametrize(
    "suffix", [".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".json.zst", ".csv"]
)
def test_a_missing_file_is_not_found(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"absent{suffix}"
    for name in (path, str(path)):
        with pytest.raises(SourceNotFoundError, match=re.escape(str(path))) as caught:
            open_source(name, "train")
        assert isinstance(caught.value, FileNotFoundError)


def test_a_device_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f.json")
    with pytest.raises(SourceError, match=r"f\.json:"):
        open_source(tmp_path / "f.json", "train")


@pytest.mark.parametrize("name", ["f.txt", "f"])
def test_an_unknown_suffix_lists_the_known_ones(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("x", encoding="utf-8")
    with pytest.raises(SourceError, match=r"\.json, \.jsonl, \.ndjson, \.parquet, \.arrow"):
        open_source(tmp_path / name, "train")


@pytest.mark.parametrize("name", ["", "  ", "/", "a\0b", "\ud800"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"^source:"):
        open_source(name, "train")


@pytest.mark.parametrize("split", ["", "\0", None, 3])
def test_what_is_no_split_is_refused(split: Any) -> None:
    with pytest.raises(SettingsError, match=r"^split:"):
        open_source(EXAMPLES, split)


def test_an_identity_of_a_file_is_refused(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "f.jsonl", EXAMPLES)
    with pytest.raises(SettingsError, match=r"^identity:"):
        open_source(path, "train", identity="mine")


# Digests


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the files that were read to be hashed."""
    paths: list[str] = []
    original = HashedFile._hash

    def counted(self: HashedFile, path: str) -> KnownFile:
        paths.append(path)
        return original(self, path)

    monkeypatch.setattr(HashedFile, "_hash", counted)
    return paths


def test_a_file_of_known_size_and_times_is_not_hashed_again(tmp_path: Path, hashed: list[str]) -> None:
    path = write_json_lines(tmp_path / "f.jsonl", EXAMPLES)
    first = open_source(path, "train")
    assert hashed == [str(path.resolve())]
    known = KnownFile(**first.provenance(), sha256=first.identity()["sha256"])
    asked: list[str] = []

    def find_known(name: str) -> KnownFile:
        asked.append(name)
        return known

    again = open_source(path, "train", find_known=find_known)
    assert again.identity() == first.identity()
    again.check_unchanged()
    assert plain(list(again.rows())) == EXAMPLES
    assert (asked, len(hashed)) == ([str(path.resolve())], 1)


@pytest.mark.parametrize("change", ["size", "times", "nothing recorded"])
def test_a_changed_file_is_hashed_again(change: str, tmp_path: Path, hashed: list[str]) -> None:
    path = write_json_lines(tmp_path / "f.jsonl", EXAMPLES)
    first = open_source(path, "train")
    known = KnownFile(**first.provenance(), sha256="0" * 64)
    if change == "size":
        write_json_lines(path, EXAMPLES[:2])
    elif change == "times":
        os.utime(path, ns=(known.mtime_ns, known.mtime_ns - 10**9 - 1))
    second = open_source(path, "train", find_known=lambda _: None if change == "nothing recorded" else known)
    assert len(hashed) == 2
    assert second.identity()["sha256"] != "0" * 64
    assert (second.identity() == first.identity()) == (change != "size")


def test_a_file_whose_old_times_were_put_back_is_hashed_again(tmp_path: Path, hashed: list[str]) -> None:
    path = write_json_lines(tmp_path / "f.jsonl", EXAMPLES)
    first = open_source(path, "train")
    known = KnownFile(**first.provenance(), sha256=first.identity()["sha256"])
    path.write_bytes(path.read_bytes().replace(b"river", b"RIVER"))
    os.utime(path, ns=(known.mtime_ns, known.mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (known.size, known.mtime_ns)
    assert open_source(path, "train", find_known=lambda _: known).identity() != first.identity()
    assert len(hashed) == 2


def test_the_identity_is_content_and_form_wherever_the_file_lies(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    paths = [tmp_path / "f.jsonl", tmp_path / "elsewhere" / "g.jsonl", tmp_path / "f.json"]
    for path in paths:
        write_json_lines(path, EXAMPLES)
    one, copy, other_form = (open_source(path, "train").identity() for path in paths)
    assert one == copy
    assert one["sha256"] == other_form["sha256"]
    assert one != other_form
    assert json.loads(json.dumps(one)) == one


@pytest.mark.parametrize("change", ["grown", "touched", "replaced"])
def test_a_file_that_changes_under_way_is_noticed(change: str, tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "f.jsonl", EXAMPLES)
    source = open_source(path, "train")
    source.check_unchanged()
    if change == "grown":
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(EXAMPLES[0]) + "\n")
    elif change == "touched":
        os.utime(path, ns=(1, 1))
    else:
        write_json_lines(tmp_path / "other", EXAMPLES).replace(path)
    with pytest.raises(SourceError, match=r"f\.jsonl:"):
        source.check_unchanged()


def test_a_file_that_disappears_under_way_is_noticed(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "f.jsonl", EXAMPLES)
    source = open_source(path, "train")
    path.unlink()
    with pytest.raises(SourceNotFoundError):
        source.check_unchanged()


# Objects


def test_a_list_is_read_as_it_is() -> None:
    source = open_source(EXAMPLES, "train")
    assert list(source.rows()) == EXAMPLES
    assert (source.total, source.name) == (3, "in-memory")


def test_an_iterable_without_a_length() -> None:
    class Twice:
        def __iter__(self) -> Iterator[dict[str, Any]]:
            return iter(EXAMPLES)

    source = open_source(Twice(), "train")
    assert source.total is None
    assert source.identity() == open_source(EXAMPLES, "train").identity()
    assert list(source.rows()) == EXAMPLES


@pytest.mark.parametrize("make", [iter, lambda rows: (row for row in rows), lambda rows: map(dict, rows)])
def test_a_one_shot_iterator_needs_an_identity(make: Callable[[Rows], Iterator[Any]]) -> None:
    with pytest.raises(SourceError, match="identity="):
        open_source(make(EXAMPLES), "train")
    source = open_source(make(EXAMPLES), "train", identity="version 1")
    assert source.identity() == {"kind": "iterable", "identity": "version 1"}
    assert list(source.rows()) == EXAMPLES


_values = st.one_of(st.text(max_size=3), st.none(), st.integers(-2, 2))


@given(
    one=st.lists(st.dictionaries(st.sampled_from(["id", "question", "context", "answers"]), _values), max_size=3),
    other=st.lists(st.dictionaries(st.sampled_from(["id", "question", "context", "answers"]), _values), max_size=3),
)
def test_iterables_have_the_same_identity_exactly_where_their_rows_are_equal(one: Rows, other: Rows) -> None:
    identities = [open_source(rows, "train").identity() for rows in (one, other)]
    assert (identities[0] == identities[1]) == (one == other)


def test_columns_that_no_cache_is_made_from_do_not_change_the_identity() -> None:
    more = [{**row, "title": object()} for row in EXAMPLES]
    assert open_source(more, "train").identity() == open_source(EXAMPLES, "train").identity()


def test_numpy_values_have_the_identity_of_lists() -> None:
    rows = [{**row, "answers": {"text": [], "answer_start": np.array([4, 2])}} for row in EXAMPLES]
    lists = [{**row, "answers": {"text": [], "answer_start": [4, 2]}} for row in EXAMPLES]
    assert open_source(rows, "train").identity() == open_source(lists, "train").identity()


def test_a_value_that_no_field_may_hold_is_an_error_when_its_row_is_read() -> None:
    rows = [EXAMPLES[0], {**EXAMPLES[1], "question": b"bytes"}]
    other = [EXAMPLES[0], {**EXAMPLES[1], "question": b"other"}]
    assert open_source(rows, "train").identity() != open_source(other, "train").identity()
    with pytest.raises(ExampleError, match=r"'question':.*bytes"):
        parse_example(1, rows[1], "in-memory")


@pytest.mark.parametrize("value", [3, None, b"bytes", {"id": "a"}, object()])
def test_what_is_no_source_lists_what_is_one(value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"^source:.*{type(value).__name__}"):
        open_source(value, "train")


def made_dataset() -> datasets.Dataset:
    return datasets.Dataset.from_list(EXAMPLES)


@pytest.mark.parametrize("formatted", [None, "numpy", "torch", "arrow"])
def test_a_dataset_is_read_whatever_its_format(formatted: str | None) -> None:
    dataset = made_dataset()
    source = open_source(dataset.with_format(formatted) if formatted else dataset, "train")
    assert plain(list(source.rows())) == EXAMPLES
    assert source.total == 3


def test_a_dataset_is_known_by_its_fingerprint() -> None:
    dataset = made_dataset()
    identity = open_source(dataset, "train").identity()
    assert identity == open_source(dataset, "validation").identity()
    assert identity != open_source(dataset.select([0, 2]), "train").identity()
    assert plain(read(dataset.select([2, 0]))) == [EXAMPLES[2], EXAMPLES[0]]


def test_an_iterable_dataset_is_read_as_a_stream() -> None:
    streamed = made_dataset().to_iterable_dataset()
    source = open_source(streamed, "train")
    assert plain(list(source.rows())) == EXAMPLES
    assert source.identity() == open_source(made_dataset().to_iterable_dataset(), "train").identity()
    assert source.identity() != open_source(made_dataset().select([0]).to_iterable_dataset(), "train").identity()
    assert open_source(streamed, "train", identity="v1").identity() == {"kind": "iterable", "identity": "v1"}


@pytest.mark.parametrize("streaming", [False, True])
def test_the_split_of_a_dataset_dict(streaming: bool) -> None:
    parts = {"train": made_dataset(), "dev": made_dataset().select([1])}
    if streaming:
        splits = datasets.IterableDatasetDict({name: part.to_iterable_dataset() for name, part in parts.items()})
    else:
        splits = datasets.DatasetDict(parts)
    assert plain(read(splits, "dev")) == [EXAMPLES[1]]
    assert plain(read(splits, "train")) == EXAMPLES
    with pytest.raises(SourceError, match=r"'test'.*'train', 'dev'"):
        open_source(splits, "test")


# A local dataset repository takes the path of a Hub dataset


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")
    folder = tmp_path / "organisation" / "set of questions"
    folder.mkdir(parents=True)
    write_json_lines(folder / "train.jsonl", EXAMPLES)
    write_json_lines(folder / "validation.jsonl", EXAMPLES[1:])
    monkeypatch.chdir(tmp_path)
    return "organisation/set of questions"


def test_a_repository_is_streamed_by_its_name_with_a_slash(repository: str) -> None:
    source = open_source(repository, "train")
    assert plain(list(source.rows())) == EXAMPLES
    assert plain(list(source.rows())) == EXAMPLES
    assert plain(read(repository, "validation")) == EXAMPLES[1:]
    assert source.name == source_name(repository) == "set of questions"


def test_a_repository_is_known_by_the_content_of_its_files(repository: str) -> None:
    train, validation = (open_source(repository, split).identity() for split in ("train", "validation"))
    assert train != validation
    assert json.loads(json.dumps(train)) == train
    assert train == {"kind": "file", "format": "jsonl", "sha256": train["sha256"]}
    assert open_source(repository, "train").identity() == train
    write_json_lines(Path(repository) / "train.jsonl", EXAMPLES[:1])
    assert open_source(repository, "train").identity() != train
    assert open_source(repository, "validation").identity() == validation


def test_a_repository_with_a_card_is_read_as_datasets_reads_it(repository: str) -> None:
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: validation.jsonl\n---\n"
    (Path(repository) / "README.md").write_text(card)
    source = open_source(repository, "train")
    assert plain(list(source.rows())) == EXAMPLES[1:]
    identity = source.identity()
    assert identity["kind"] == "hub"
    assert all(name.startswith("sha256:") for name in identity["files"])


def test_an_unknown_split_of_a_repository_lists_the_known_ones(repository: str) -> None:
    with pytest.raises(SourceError, match=r"'test'.*'train', 'validation'"):
        open_source(repository, "test")


def test_a_malformed_file_of_a_repository_is_an_error_of_the_source(repository: str) -> None:
    (Path(repository) / "train.jsonl").write_text('{"id": "a"}\n{"id": ', encoding="utf-8")
    with pytest.raises(SourceError, match=repository):
        read(repository, "train")


def test_an_absent_repository_is_not_found(repository: str) -> None:
    with pytest.raises(SourceError, match="nobody/nothing:"):
        open_source("nobody/nothing", "train")


def test_reading_a_stream_holds_no_whole_file(tmp_path: Path) -> None:
    """The first rows come before damage far after them is met."""
    path = tmp_path / "f.json"
    with io.StringIO() as text:
        text.write('{"data": [{"paragraphs": [')
        for number in range(3000):
            text.write(json.dumps({"context": "x" * 200, "qas": [{"id": str(number), "question": "q"}]}) + ",\n")
        path.write_text(text.getvalue() + "oops", encoding="utf-8")
    rows = open_source(path, "train").rows()
    assert [next(rows)["id"] for _ in range(100)] == [str(number) for number in range(100)]
    with pytest.raises(SourceError, match="line 3001, column 1:"):
        list(rows)
