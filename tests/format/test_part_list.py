"""The list of parts: what it refuses, and that it comes back as it was."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memxlnet.errors import CacheDamagedError, CacheMismatchError, CacheNotFoundError
from memxlnet.format.fingerprint import fingerprint_of
from memxlnet.format.part_list import (
    PartFile,
    PartList,
    PartRecord,
    decode_part_list,
    find_part_lists,
    listed_caches,
    read_part_list,
)
from memxlnet.format.sealed_json import seal
from tests.format.content import LAYOUT

CACHE = "a--test--0123456789abcdef"
PART = PartRecord(
    CACHE, "f" * 64, (PartFile("a.jsonl", "1" * 64),), 7, 4, 100, "e" * 32, "records", "all", ((0, 1), (2, 4))
)
PARTS = PartList(
    name="data",
    split="test",
    fields={
        "split": "test",
        "place": {"files": "/data"},
        "settings": {"max_seq_length": 24, "doc_stride": 3},
        "tokenizer": {"layout": LAYOUT.to_json()},
    },
    source="/data/*.jsonl",
    files_per_part=1,
    on_repeated_id="newest",
    parts=(PART, replace(PART, cache="b--test--0123456789abcdef", hidden=())),
    empty=(PartFile("d.jsonl", "2" * 64),),
    former=("c--test--0123456789abcdef",),
)


def written(directory: Path, content: bytes) -> Path:
    directory.mkdir()
    (directory / "parts.json").write_bytes(content)
    return directory


@pytest.mark.parametrize("source", ["/data/*.jsonl", ("/data/a", "/data/b")])
def test_a_list_comes_back_as_it_was(tmp_path: Path, source: Any) -> None:
    parts = replace(PARTS, source=source)
    directory = written(tmp_path / parts.directory_name, parts.encode())
    found = read_part_list(directory)
    assert found == parts
    assert found.encode() == parts.encode()
    assert (found.rows, found.documents, found.num_hidden, found.num_bytes) == (14, 8, 3, 200)
    assert list(find_part_lists(tmp_path)) == [(directory, parts)]
    assert listed_caches(tmp_path) == {part.cache for part in parts.parts}
    assert listed_caches(tmp_path, [directory]) == set()


def _without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content.pop(name)


def _with(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content.update(values)


def _with_fields(**values: Any) -> Callable[[dict[str, Any]], Any]:
    fields = {**PARTS.fields, **values}
    return _with(fields=fields, fingerprint=fingerprint_of(fields))


def _in_part(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["parts"][0].update(values)


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{f"no {name}": _without(name) for name in json.loads(PARTS.encode()) if name not in ("checksum", "version")},
    "no parts at all": _with(parts=[]),
    "another field": _with(other=1),
    "another fingerprint": _with(fingerprint="0" * 64),
    "a rule that is none": _with(on_repeated_id="number"),
    "no files per part": _with(files_per_part=0),
    "a bool of files per part": _with(files_per_part=True),
    "a former that is a path": _with(former=["../x"]),
    "fields that are a list": _with(fields=[]),
    "fields without settings": _with_fields(settings={}),
    "fields with a length as text": _with_fields(settings={"max_seq_length": "24", "doc_stride": 3}),
    "fields without a layout": _with_fields(tokenizer={}),
    "a source that is a number": _with(source=3),
    "a cache that is a path": _in_part(cache="../a--test--0123456789abcdef"),
    "a hidden cache": _in_part(cache=".build-a--test--0123456789abcdef"),
    "rows below 0": _in_part(rows=-1),
    "documents as text": _in_part(documents="4"),
    "hidden out of range": _in_part(hidden=[[3, 5]]),
    "hidden out of order": _in_part(hidden=[[2, 3], [0, 1]]),
    "answers of no kind": _in_part(answers_field="many"),
    "a form that is a number": _in_part(form=1),
    "files of another kind": _in_part(files=["a"]),
    "no files": _in_part(files=[]),
    "an empty file without a mark": _with(empty=[{"name": "d.jsonl", "mark": ""}]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_no_list_is_refused_even_with_a_right_checksum(damage: str) -> None:
    content = json.loads(PARTS.encode())
    del content["checksum"]
    DAMAGE[damage](content)
    with pytest.raises(CacheDamagedError, match=r"^here: .*; delete this directory and build the parts again"):
        decode_part_list(seal(content), "here")


def test_every_changed_byte_is_noticed() -> None:
    raw = PARTS.encode()
    for place in range(0, len(raw) - 1, 7):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        with pytest.raises((CacheDamagedError, CacheMismatchError)):
            decode_part_list(changed, "here")


@pytest.mark.parametrize(("version", "hint"), [(2, "upgrade memxlnet"), (0, "the memxlnet that wrote it")])
def test_another_version_is_a_mismatch(version: int, hint: str) -> None:
    content = {**json.loads(PARTS.encode()), "version": version}
    with pytest.raises(CacheMismatchError, match=f"expected version 1, found {version}; .*{hint}"):
        decode_part_list(seal(content), "here")


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"{}", CacheDamagedError), (seal({"format": "memxlnet-parts", "version": 2}), CacheMismatchError)],
    ids=["damaged", "newer"],
)
def test_a_list_that_cannot_be_read_may_name_any_cache(tmp_path: Path, content: bytes, error: type[Exception]) -> None:
    written(tmp_path / PARTS.directory_name, PARTS.encode())
    other = written(tmp_path / "other--test--0123456789abcdef.parts", content)
    assert [found for _, found in find_part_lists(tmp_path)] == [PARTS]
    with pytest.raises(error) as raised:
        listed_caches(tmp_path)
    assert "no cache is removed before this list can be read" in raised.value.__notes__[0]
    assert listed_caches(tmp_path, [other]) == {part.cache for part in PARTS.parts}
    (other / "parts.json").unlink()  # as a killed first build leaves it
    assert listed_caches(tmp_path) == {part.cache for part in PARTS.parts}


def test_what_is_missing_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(CacheNotFoundError, match="expected the directory of a list of parts, found none"):
        read_part_list(tmp_path / "x.parts")
    (tmp_path / "x.parts").mkdir()
    with pytest.raises(CacheNotFoundError, match=r"found no parts\.json in it"):
        read_part_list(tmp_path / "x.parts")
    assert list(find_part_lists(tmp_path)) == []
    assert list(find_part_lists(tmp_path / "none")) == []
