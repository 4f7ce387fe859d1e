"""Files that are built as parts: each is encoded once, and the list follows the files."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memxlnet import Parts
from memxlnet.builder.repeats_across_parts import IdDigests
from memxlnet.errors import (
    CacheDamagedError,
    CacheMismatchError,
    CacheNotFoundError,
    ExampleError,
    SettingsError,
    SourceError,
    SourceNotFoundError,
)
from memxlnet.format.part_list import find_part_lists, read_part_list
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.old_caches import find_old_caches
from memxlnet.maintain.part_lists import prune_parts, remove_part_list
from memxlnet.maintain.retention import remove_expired_caches
from memxlnet.sources import FormOptions
from tests.builder.parts import at_once, compacted, in_parts, rows_of, write_files
from tests.faults.processes import counted, names
from tests.support import example, short, write_json_lines

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_files(tmp_path / "data", {name: rows_of(name) for name in NAMES})


def files(found: Any) -> list[list[str]]:
    return [[file.name.removesuffix(".jsonl") for file in part.files] for part in found.parts.parts]


def test_each_file_is_a_part_in_the_order_of_names(tmp_path: Path, source: Path) -> None:
    found = in_parts(source, tmp_path / "caches")
    assert files(found) == [["a"], ["b"], ["c"], ["d"]]
    assert found.built == [part.cache for part in found.parts.parts]
    assert read_part_list(found.directory) == found.parts
    assert found.directory.name.startswith("data--test--")
    assert names(tmp_path / "caches") == sorted([found.directory.name, *found.built])
    assert [part.documents for part in found.parts.parts] == [4] * 4


def test_only_what_is_new_is_encoded(tmp_path: Path, source: Path) -> None:
    first = in_parts(source, tmp_path / "caches")
    write_files(tmp_path / "data", {"bb": rows_of("bb")})
    with counted() as made:
        second = in_parts(source, tmp_path / "caches")
    assert len(made) == 1
    assert files(second) == [["a"], ["b"], ["bb"], ["c"], ["d"]]
    assert second.directory == first.directory
    assert [part for part in second.parts.parts if part.cache not in second.built] == list(first.parts.parts)
    list_before = (second.directory / "parts.json").stat()
    with counted() as made:
        third = in_parts(source, tmp_path / "caches")
    assert (made, third.built, third.parts) == ([], [], second.parts)
    assert (second.directory / "parts.json").stat().st_mtime_ns == list_before.st_mtime_ns


def test_a_changed_file_replaces_its_part_and_one_that_is_gone_drops_out(tmp_path: Path, source: Path) -> None:
    first = in_parts(source, tmp_path / "caches")
    write_files(tmp_path / "data", {"b": rows_of("b", 5)})
    (tmp_path / "data" / "c.jsonl").unlink()
    with counted() as made:
        second = in_parts(source, tmp_path / "caches")
    assert len(made) == 1
    assert files(second) == [["a"], ["b"], ["d"]]
    assert second.parts.parts[1].documents == 5
    left = {first.parts.parts[1].cache, first.parts.parts[2].cache}
    assert set(second.parts.former) == left
    assert left <= set(names(tmp_path / "caches"))
    assert {path.name for path in prune_parts(second.directory)} == left
    assert not left & set(names(tmp_path / "caches"))
    assert read_part_list(second.directory).former == ()
    # As it was: what is still there is found, and only what was pruned is encoded.
    write_files(tmp_path / "data", {name: rows_of(name) for name in NAMES})
    with counted() as made:
        third = in_parts(source, tmp_path / "caches")
    assert len(made) == 2
    assert third.parts.parts == first.parts.parts


def test_a_part_is_found_by_content_whatever_its_file_is_called(tmp_path: Path, source: Path) -> None:
    in_parts(source, tmp_path / "caches")
    (tmp_path / "data" / "b.jsonl").rename(tmp_path / "data" / "e.jsonl")
    with counted() as made:
        found = in_parts(source, tmp_path / "caches")
    assert made == []
    assert files(found) == [["a"], ["c"], ["d"], ["e"]]
    shutil.rmtree(found.directory)
    (tmp_path / "data" / "e.jsonl").rename(tmp_path / "data" / "b.jsonl")
    with counted() as made:
        assert files(in_parts(source, tmp_path / "caches")) == [["a"], ["b"], ["c"], ["d"]]
    assert made == []


@pytest.mark.parametrize(
    ("change", "expected", "encoded"),
    [
        ("add z", [["a", "b"], ["c", "d"], ["e", "z"]], 1),
        ("add aa", [["a", "aa"], ["b"], ["c", "d"], ["e"]], 2),
        ("add 0", [["0"], ["a", "b"], ["c", "d"], ["e"]], 1),
        ("remove a", [["b"], ["c", "d"], ["e"]], 1),
        ("remove c", [["a", "b"], ["d"], ["e"]], 1),
        ("change c", [["a", "b"], ["c", "d"], ["e"]], 1),
    ],
)
def test_parts_of_several_files_change_alone(
    tmp_path: Path, source: Path, change: str, expected: list[list[str]], encoded: int
) -> None:
    write_files(tmp_path / "data", {"e": rows_of("e")})
    first = in_parts(source, tmp_path / "caches", files_per_part=2)
    assert files(first) == [["a", "b"], ["c", "d"], ["e"]]
    what, name = change.split()
    if what == "remove":
        (tmp_path / "data" / f"{name}.jsonl").unlink()
    else:
        write_files(tmp_path / "data", {name: rows_of(name, 3)})
    with counted() as made:
        second = in_parts(source, tmp_path / "caches", files_per_part=2)
    assert files(second) == expected
    assert len(made) == encoded


def sources(folder: Path) -> dict[str, Any]:
    return {
        "glob": folder / "*.jsonl",
        "text": str(folder / "*.jsonl"),
        "directory": folder,
        "list": [folder / "a.jsonl", folder / "b.jsonl", folder / "c.jsonl", folder / "d.jsonl"],
        "url": f"file://{folder}/*.jsonl",
    }


@pytest.mark.parametrize("kind", ["glob", "text", "directory", "list", "url"])
def test_every_way_to_name_files_keeps_its_list(tmp_path: Path, source: Path, kind: str) -> None:
    named = sources(source.parent)[kind]
    first = in_parts(named, tmp_path / "caches")
    assert files(first) == [["a"], ["b"], ["c"], ["d"]]
    assert first.parts.name == "data"
    write_files(source.parent, {"e": rows_of("e")})
    if kind == "list":
        named = [*named, source.parent / "e.jsonl"]
    second = in_parts(named, tmp_path / "caches")
    assert second.directory == first.directory
    assert (files(second)[-1], len(second.built)) == (["e"], 1)


def test_a_list_with_a_name_is_found_wherever_the_files_lie(tmp_path: Path, source: Path) -> None:
    first = in_parts(source, tmp_path / "caches", name="nightly")
    assert first.directory.name.startswith("nightly--test--")
    source.parent.rename(tmp_path / "moved")
    second = in_parts(tmp_path / "moved" / "*.jsonl", tmp_path / "caches", name="nightly")
    assert (second.directory, second.built) == (first.directory, [])


def test_other_settings_are_another_list(tmp_path: Path, source: Path) -> None:
    first = in_parts(source, tmp_path / "caches")
    second = in_parts(source, tmp_path / "caches", doc_stride=2)
    assert first.directory != second.directory
    assert len(second.built) == 4


def test_directories_with_values_in_their_names_give_fields(tmp_path: Path) -> None:
    for year in ("2024", "2025"):
        (tmp_path / "data" / f"year={year}").mkdir(parents=True)
        write_json_lines(tmp_path / "data" / f"year={year}" / "a.jsonl", rows_of(year))
    first = in_parts(tmp_path / "data", tmp_path / "caches")
    assert [part.files[0].name for part in first.parts.parts] == ["year=2024/a.jsonl", "year=2025/a.jsonl"]
    with counted() as made:
        assert in_parts(tmp_path / "data", tmp_path / "caches").parts == first.parts
    assert made == []


# --- ids


def test_an_id_in_two_files_is_an_error_that_names_both(tmp_path: Path, source: Path) -> None:
    first = in_parts(source, tmp_path / "caches")
    write_files(tmp_path / "data", {"e": [*rows_of("e"), *rows_of("b", 1)]})
    with pytest.raises(ExampleError, match=r"'b-0' of e\.jsonl: its id is that of an example of b\.jsonl"):
        in_parts(source, tmp_path / "caches")
    assert read_part_list(first.directory) == first.parts


def test_the_newest_document_of_an_id_counts(tmp_path: Path, source: Path) -> None:
    write_files(tmp_path / "data", {"e": [*rows_of("b", 2), *rows_of("e"), *rows_of("a", 1)]})
    write_files(tmp_path / "data", {"f": rows_of("b", 1)})
    found = in_parts(source, tmp_path / "caches", on_repeated_id="newest")
    assert [part.hidden for part in found.parts.parts] == [((0, 1),), ((0, 2),), (), (), ((0, 1),), ()]
    assert found.parts.num_hidden == 4
    (tmp_path / "data" / "f.jsonl").unlink()
    again = in_parts(source, tmp_path / "caches", on_repeated_id="newest")
    assert [part.hidden for part in again.parts.parts] == [((0, 1),), ((0, 2),), (), (), ()]


@pytest.mark.parametrize("rule", ["error", "newest"])
def test_examples_without_ids_are_refused(tmp_path: Path, rule: str) -> None:
    rows = [example("the lamp", "who"), example("the keeper", "who")]
    source = write_files(tmp_path / "data", {"a": rows, "b": rows_of("b")})
    assert in_parts(source, tmp_path / "caches").parts.documents == 6
    write_files(tmp_path / "data", {"c": rows[:1]})
    with pytest.raises(ExampleError, match=r"'doc_0' of c\.jsonl.*an example without one has.*add them"):
        in_parts(source, tmp_path / "caches", on_repeated_id=rule)


def test_an_id_twice_in_one_file_is_an_error_of_that_file(tmp_path: Path, source: Path) -> None:
    write_files(tmp_path / "data", {"b": [*rows_of("b"), *rows_of("b", 1)]})
    with pytest.raises(ExampleError, match=r"b\.jsonl, example 'b-0' \(row 4\): its id is that of row 0"):
        in_parts(source, tmp_path / "caches", on_repeated_id="newest")
    # What was finished is found.
    write_files(tmp_path / "data", {"b": rows_of("b")})
    with counted() as made:
        in_parts(source, tmp_path / "caches")
    assert len(made) == 3


# --- refusals


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"max_examples": 3}, SettingsError, "max_examples: expected None for parts"),
        ({"files_per_part": 0}, SettingsError, "files_per_part: expected an integer above 0"),
        ({"on_repeated_id": "number"}, SettingsError, "on_repeated_id: expected 'error' or 'newest'"),
        ({"transform": lambda row: row}, SettingsError, "identity: expected a text"),
        ({"revision": "main"}, SettingsError, "revision: applies to Hub datasets only"),
        ({"name": ""}, SettingsError, "name: expected a non-empty string"),
        ({"num_workers": -1}, SettingsError, "num_workers"),
    ],
    ids=short,
)
def test_what_cannot_be_done_with_parts_is_refused_at_once(
    tmp_path: Path, source: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        in_parts(source, tmp_path / "caches", **changes)
    assert not (tmp_path / "caches").exists()


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("squad", SettingsError, r"expected files for parts .* found squad"),
        ([{"id": "a"}], SettingsError, r"expected files for parts .* found a list"),
        ([], SettingsError, r"expected files for parts .* found a list"),
        (3, SettingsError, r"expected files for parts .* found a int"),
        ("nowhere/*.jsonl", SourceNotFoundError, "no file fits this pattern"),
        (Path("nowhere"), SourceNotFoundError, "no such file"),
    ],
    ids=str,
)
def test_what_is_no_files_is_refused(tmp_path: Path, source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        in_parts(source, tmp_path / "caches")


@pytest.mark.parametrize("files_per_part", [1, 2])
@pytest.mark.parametrize("empty", ["a", "b", "bcd"])
def test_files_without_examples_have_no_part(
    tmp_path: Path, source: Path, empty: str, files_per_part: int, caplog: pytest.LogCaptureFixture
) -> None:
    for name, content in zip(empty, (b"", b"\n\n", b" "), strict=False):
        (source.parent / f"{name}.jsonl").write_bytes(content)
    found = in_parts(source, tmp_path / "caches", files_per_part=files_per_part)
    alone = [name for name in empty if files_per_part == 1 or (name in "cd" and "d" in empty)]
    assert [file.name for file in found.parts.empty] == [f"{name}.jsonl" for name in alone]
    assert [name for group in files(found) for name in group] == [name for name in NAMES if name not in alone]
    assert ("no examples" in caplog.text) == bool(alone)
    assert in_parts(source, tmp_path / "caches", files_per_part=files_per_part).parts == found.parts
    assert compacted(found, tmp_path / "one") == at_once(source, tmp_path / "two")
    write_files(tmp_path / "data", {name: rows_of(name) for name in empty})
    filled = in_parts(source, tmp_path / "caches", files_per_part=files_per_part)
    assert (filled.parts.empty, filled.parts.documents) == ((), 16)


def test_no_example_and_no_file_are_errors(tmp_path: Path, source: Path) -> None:
    first = in_parts(source, tmp_path / "caches")
    write_files(tmp_path / "data", {name: [] for name in NAMES})
    with pytest.raises(SourceError, match=r"a\.jsonl, b\.jsonl, c\.jsonl: expected examples, found none"):
        in_parts(source, tmp_path / "caches")
    for path in source.parent.iterdir():
        path.unlink()
    for named in (source, source.parent):
        with pytest.raises(SourceNotFoundError):
            in_parts(named, tmp_path / "caches")
    assert read_part_list(first.directory) == first.parts


def test_files_of_two_forms_are_refused(tmp_path: Path, source: Path) -> None:
    squad = {"paragraphs": [{"context": "the lamp", "qas": [{"id": "x", "question": "who", "answers": []}]}]}
    write_files(tmp_path / "data", {"e": [squad]})
    with pytest.raises(SourceError, match=r"e\.jsonl: expected files that are read as those before"):
        in_parts(source, tmp_path / "caches")


def test_a_damaged_list_is_an_error_with_the_way_to_mend_it(tmp_path: Path, source: Path) -> None:
    found = in_parts(source, tmp_path / "caches")
    path = found.directory / "parts.json"
    path.write_text(path.read_text().replace("a.jsonl", "b.jsonl", 1))
    with pytest.raises(CacheDamagedError, match="delete this directory and build the parts again"):
        in_parts(source, tmp_path / "caches")
    shutil.rmtree(found.directory)
    with counted() as made:
        assert in_parts(source, tmp_path / "caches").parts == found.parts
    assert made == []


def test_a_cache_that_a_list_names_is_built_again_where_it_is_gone(tmp_path: Path, source: Path) -> None:
    found = in_parts(source, tmp_path / "caches")
    shutil.rmtree(tmp_path / "caches" / found.parts.parts[1].cache)
    with counted() as made:
        assert in_parts(source, tmp_path / "caches").parts == found.parts
    assert len(made) == 1


def test_a_part_that_is_removed_before_its_list_is_written_is_built_again(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = in_parts(source, tmp_path / "undisturbed").parts
    write = IdDigests.write

    def remove_former(self: IdDigests, cache: PublishedCache) -> str:
        remove_expired_caches(tmp_path / "caches", older_than="1s")
        os.utime(cache.directory / "manifest.json", (0, 0))
        return write(self, cache)

    monkeypatch.setattr(IdDigests, "write", remove_former)
    found = in_parts(source, tmp_path / "caches")
    assert found.parts == expected
    monkeypatch.undo()
    assert in_parts(source, tmp_path / "caches").parts == expected


# --- removal


def test_a_listed_cache_is_not_old(tmp_path: Path, source: Path) -> None:
    found = in_parts(source, tmp_path / "caches")
    write_files(tmp_path / "data", {"b": rows_of("b", 5)})
    in_parts(source.parent / "b.jsonl", tmp_path / "caches", name="alone")
    assert find_old_caches(tmp_path / "caches") == []
    in_parts(source, tmp_path / "caches")
    assert [old.path.name for old in find_old_caches(tmp_path / "caches")] == [found.parts.parts[1].cache]


def test_the_list_is_removed_with_the_caches_that_no_other_list_names(tmp_path: Path, source: Path) -> None:
    first = in_parts(source, tmp_path / "caches")
    second = in_parts([source.parent / "b.jsonl"], tmp_path / "caches", name="alone")
    assert remove_part_list(first.directory) == 3
    assert names(tmp_path / "caches") == sorted([second.directory.name, second.parts.parts[0].cache])
    assert remove_part_list(second.directory, caches=False) == 0
    assert names(tmp_path / "caches") == [second.parts.parts[0].cache]


def test_the_list_holds_no_credentials(tmp_path: Path, source: Path) -> None:
    found = in_parts(f"file://{source.parent}/*.jsonl", tmp_path / "caches", token="secret-token")
    assert "secret-token" not in (found.directory / "parts.json").read_text()
    assert json.loads((found.directory / "parts.json").read_text())["source"] == f"file://{source.parent}/*.jsonl"


def test_options_of_reading_are_part_of_the_list(tmp_path: Path, source: Path) -> None:
    plain = in_parts(source, tmp_path / "caches")
    assert FormOptions().locate == "first"
    other = in_parts(source, tmp_path / "caches", locate="all")
    assert plain.directory != other.directory


def test_a_list_under_another_name_is_pruned_where_it_lies(tmp_path: Path, source: Path) -> None:
    found = in_parts(source, tmp_path / "caches")
    write_files(tmp_path / "data", {"b": rows_of("b", 5)})
    newer = in_parts(source, tmp_path / "caches")
    renamed = found.directory.rename(tmp_path / "caches" / "mine.parts")
    assert [path.name for path in prune_parts(renamed)] == [found.parts.parts[1].cache]
    assert not found.directory.exists()
    assert read_part_list(renamed) == replace(newer.parts, former=())


@pytest.mark.parametrize(
    "call",
    [
        prune_parts,
        remove_part_list,
        lambda directory: find_old_caches(directory.parent),
        lambda directory: remove_expired_caches(directory.parent, keep=1),
    ],
    ids=["prune", "remove", "old", "expired"],
)
def test_nothing_is_removed_beside_a_damaged_list(tmp_path: Path, source: Path, call: Any) -> None:
    caches = tmp_path / "caches"
    first = in_parts(source, caches)
    other = in_parts([source.parent / "b.jsonl"], caches, name="alone")
    write_files(tmp_path / "data", {"b": rows_of("b", 5)})
    in_parts(source, caches)
    (other.directory / "parts.json").write_text("{}")
    before = names(caches)
    with pytest.raises(CacheDamagedError, match=f"^{other.directory}"):
        call(first.directory)
    assert names(caches) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda directory: (directory / "notes.txt").write_text("mine"), r"files of a list only, found notes\.txt"),
        (lambda directory: (directory / "below").mkdir(), "files of a list only, found below"),
        (
            lambda directory: (
                directory.rename(directory.with_name("moved")).rename(directory.parent.parent / "moved")
                and directory.symlink_to(directory.parent.parent / "moved")
            ),
            "expected the directory of a list itself, found a symbolic link",
        ),
    ],
    ids=["file", "directory", "link"],
)
def test_a_list_that_is_more_than_a_list_stays(tmp_path: Path, source: Path, change: Any, message: str) -> None:
    found = in_parts(source, tmp_path / "caches")
    change(found.directory)
    with pytest.raises(CacheNotFoundError, match=message):
        remove_part_list(found.directory)
    assert read_part_list(found.directory) == found.parts
    assert len(names(tmp_path / "caches")) == 5


def test_what_an_unfinished_first_build_left_goes_and_blocks_no_build(tmp_path: Path, source: Path) -> None:
    caches = tmp_path / "caches"
    found = in_parts(source, caches)
    (found.directory / "parts.json").unlink()
    assert list(find_part_lists(caches)) == []
    assert remove_part_list(found.directory) == 0
    assert names(caches) == sorted(found.built)
    found.directory.mkdir()
    assert in_parts(source, caches).parts == found.parts
    for name in ("mine.parts", "nothing"):
        (caches / name).mkdir()
        with pytest.raises(CacheNotFoundError, match=r"found no parts\.json in it"):
            remove_part_list(caches / name)
        assert (caches / name).is_dir()


@pytest.mark.parametrize("field", ["rows", "documents"])
def test_a_list_with_other_counts_than_its_caches_is_found_out(tmp_path: Path, source: Path, field: str) -> None:
    caches = tmp_path / "caches"
    found = in_parts(source, caches)
    first, *others = found.parts.parts
    values: dict[str, Any] = {field: 10**15}
    changed = replace(first, **values)
    forged = replace(found.parts, parts=(changed, *others))
    (found.directory / "parts.json").write_bytes(forged.encode())
    with pytest.raises(CacheMismatchError, match=f"{first.cache}: expected .*{10**15}"):
        Parts(found.directory).dataset()
    with pytest.raises(CacheMismatchError, match=str(10**15)):
        Parts(found.directory).compact()
    assert in_parts(source, caches).parts == found.parts
