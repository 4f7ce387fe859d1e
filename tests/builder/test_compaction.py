"""Compaction gives the bytes of a build from all files, or an error that says why it cannot."""

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memxlnet.errors import BuildError, CacheError, CacheNotFoundError, SourceError
from memxlnet.maintain.verify import verify
from tests.builder.parts import at_once, compacted, in_parts, rows_of, write_files
from tests.faults.processes import counted, names
from tests.support import example, write_json_lines

texts = st.text(alphabet="ab \u00e9e\u0301\u4e2d\U0001f600.", max_size=30)
contexts = st.sampled_from(["the lamp", "a", "", "x y z " * 30, "caf\u00e9 cafe\u0301 \U0001f600 " * 9]) | texts


@st.composite
def examples(draw: st.DrawFn) -> dict[str, Any]:
    context = draw(contexts)
    answers = []
    if context.strip() and draw(st.booleans()):
        start = draw(st.integers(0, len(context) - 1))
        answers = [(text, start) for text in [context[start : start + 5]] if text.strip()]
    kept = {"title": texts, "level": st.integers(-5, 5) | st.just(2**40), "tags": st.lists(texts, max_size=2)}
    fields = {name: draw(values) for name, values in kept.items() if draw(st.booleans())}
    return example(context, draw(texts), answers, **fields)


all_files = st.lists(st.lists(examples(), min_size=1, max_size=6), min_size=1, max_size=5)


@settings(max_examples=10)
@given(all_files, st.integers(1, 3), st.sampled_from([None, 5]), st.sampled_from(["all", ()]))
def test_the_bytes_are_those_of_a_build_of_all(
    files: list[list[dict[str, Any]]], files_per_part: int, max_shard_rows: int | None, keep: Any
) -> None:
    work: dict[str, Any] = {
        "on_bad_example": "drop",
        "max_shard_rows": max_shard_rows,
        "streaming_chunk_size": 2,
        "keep": keep,
    }
    named = {f"f{n}": [{**row, "id": f"{n}-{k}"} for k, row in enumerate(rows)] for n, rows in enumerate(files)}
    with tempfile.TemporaryDirectory() as folder:
        source = write_files(Path(folder, "data"), named)
        try:
            parts = in_parts(source, Path(folder, "parts"), files_per_part=files_per_part, **work)
        except BuildError as error:
            assume("examples were dropped" not in str(error))
            raise
        expected = at_once(source, Path(folder, "one"), **work)
        with counted() as made:
            assert compacted(parts, Path(folder, "two"), max_shard_rows=max_shard_rows) == expected
        assert made == []


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_files(tmp_path / "data", {name: rows_of(name) for name in "abc"})


Write = Callable[[Path], Any]


def write_partitions(folder: Path) -> Any:
    for year in ("2024", "2025"):
        (folder / f"year={year}").mkdir(parents=True)
        write_json_lines(folder / f"year={year}" / "a.jsonl", rows_of(year))
    return folder


def write_compressed(folder: Path) -> Any:
    folder.mkdir()
    for name in "ab":
        write_json_lines(folder / name, rows_of(name))
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    return str(folder / "*.jsonl.gz")


def write_list(folder: Path) -> Any:
    write_files(folder, {name: rows_of(name) for name in "ba"})
    return [folder / "b.jsonl", folder / "a.jsonl"]


def write_one(folder: Path) -> Any:
    return write_files(folder, {"only": rows_of("only")})


@pytest.mark.parametrize("write", [write_partitions, write_compressed, write_list, write_one])
def test_files_of_every_kind(tmp_path: Path, write: Write) -> None:
    named = write(tmp_path / "data")
    expected = at_once(named, tmp_path / "one")
    assert compacted(in_parts(named, tmp_path / "parts"), tmp_path / "two") == expected


@pytest.mark.parametrize(
    "options",
    [{"locate": "all"}, {"form": "records"}, {"columns": {"context": "context", "question": "question", "id": "id"}}],
)
def test_options_of_reading_are_those_of_the_parts(tmp_path: Path, source: Path, options: dict[str, Any]) -> None:
    expected = at_once(source, tmp_path / "one", **options)
    assert compacted(in_parts(source, tmp_path / "parts", **options), tmp_path / "two") == expected


def test_the_cache_is_found_where_it_exists_and_leaves_nothing(tmp_path: Path, source: Path) -> None:
    parts = in_parts(source, tmp_path / "caches")
    first = compacted(parts, tmp_path / "caches")
    before = names(tmp_path / "caches")
    assert compacted(parts, tmp_path / "caches") == first
    assert at_once(source, tmp_path / "caches") == first
    assert names(tmp_path / "caches") == before
    verify(tmp_path / "caches" / first[""].decode(), deep=True)


def test_files_that_changed_or_moved(tmp_path: Path, source: Path) -> None:
    parts = in_parts(source, tmp_path / "parts")
    write_files(tmp_path / "data", {"b": rows_of("b", 5)})
    with pytest.raises(SourceError, match=r"another one in place 2: .*b\.jsonl; build the parts again first"):
        compacted(parts, tmp_path / "two")
    write_files(tmp_path / "data", {"b": rows_of("b"), "d": rows_of("d")})
    with pytest.raises(SourceError, match=r"expected the 3 files of the parts.*found 4 files"):
        compacted(parts, tmp_path / "two")
    (tmp_path / "data" / "d.jsonl").unlink()
    source.parent.rename(tmp_path / "moved")
    with pytest.raises(SourceError, match="no file fits"):
        compacted(parts, tmp_path / "two")
    moved = tmp_path / "moved" / "*.jsonl"
    assert compacted(parts, tmp_path / "two", source=moved) == at_once(moved, tmp_path / "one")


def drop(rows: list[dict[str, Any]], *fields: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in fields} for row in rows]


@pytest.mark.parametrize(
    ("files", "changes", "message"),
    [
        ({"a": rows_of("a"), "b": rows_of("a", 1)}, {"on_repeated_id": "newest"}, "expected every id in one part"),
        ({"a": rows_of("a"), "b": drop(rows_of("b"), "id")}, {}, "expected examples with ids of their own"),
        ({"a": rows_of("a"), "b": drop(rows_of("b"), "answers")}, {}, "field 'answers', as a.jsonl has it, found none"),
    ],
    ids=["ids", "no ids", "no answers"],
)
def test_what_a_build_of_all_would_not_give_is_refused(
    tmp_path: Path, files: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    parts = in_parts(write_files(tmp_path / "data", files), tmp_path / "parts", **changes)
    with pytest.raises(BuildError, match=message):
        compacted(parts, tmp_path / "two")
    assert names(tmp_path / "two") == []


@pytest.mark.parametrize("labelled", ["", "b"])
def test_unlabelled_files_before_any_labelled_one(tmp_path: Path, labelled: str) -> None:
    files = {name: rows_of(name) if name in labelled else drop(rows_of(name), "answers") for name in "ab"}
    source = write_files(tmp_path / "data", files)
    assert compacted(in_parts(source, tmp_path / "parts"), tmp_path / "two") == at_once(source, tmp_path / "one")


def test_a_part_that_is_gone_or_another_one(tmp_path: Path, source: Path) -> None:
    parts = in_parts(source, tmp_path / "parts")
    first, second = (tmp_path / "parts" / part.cache for part in parts.parts.parts[:2])
    second.rename(tmp_path / "kept")
    with pytest.raises(CacheNotFoundError, match=second.name):
        compacted(parts, tmp_path / "two")
    (tmp_path / "kept").rename(tmp_path / "parts" / "aside")
    first.rename(second)
    with pytest.raises(CacheError):
        compacted(parts, tmp_path / "two")
