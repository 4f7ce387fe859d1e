"""The manifest refuses whatever it did not write itself; each abuse that was tried is kept here."""

import copy
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import (
    CacheDamagedError,
    CacheDirectoryError,
    CacheError,
    CacheMismatchError,
    CacheNotFoundError,
)
from memxlnet.format.checksums import digest
from memxlnet.format.fingerprint import canonical_json, fingerprint_of
from memxlnet.format.manifest import (
    FileRecord,
    KnownFile,
    find_caches,
    known_files,
    read_manifest,
    write_manifest,
)
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.verify import verify_bytes
from tests.format.content import files_of, make_content, publish, settings, tables_of

CONTENT = make_content(1, 4, ["a", "b"], [(0, 3), None, (1, 2)])


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(CONTENT, tmp_path_factory.mktemp("caches"), [2], max_shard_rows=3).directory


@pytest.fixture
def cache(published: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return copy_of(published, tmp_path / published.name)


def copy_of(published: Path, directory: Path) -> Path:
    directory.mkdir()
    for name, content in files_of(published).items():
        (directory / name).write_bytes(content)
    return directory


def content_of(directory: Path) -> Any:
    return json.loads((directory / "manifest.json").read_bytes())


def sealed(content: dict[str, Any]) -> bytes:
    """A manifest as a forger would write it: with a checksum that fits."""
    unsealed = {name: value for name, value in content.items() if name != "checksum"}
    try:
        checksum = digest(canonical_json(unsealed))
    except UnicodeEncodeError:
        checksum = "none fits"
    return json.dumps({**unsealed, "checksum": checksum}).encode()


def test_it_is_read_as_it_was_written(published: Path, tmp_path: Path) -> None:
    manifest = read_manifest(published)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert (tmp_path / "manifest.json").read_bytes() == (published / "manifest.json").read_bytes() == manifest.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_it_holds_what_the_cache_is(published: Path) -> None:
    manifest = read_manifest(published)
    expected = settings(4)
    tables = tables_of(CONTENT)
    assert (manifest.name, manifest.split, manifest.fingerprint) == ("made up", "test", expected.fingerprint)
    assert manifest.fields == json.loads(json.dumps(expected.fields))
    assert manifest.settings == expected.encode.fields()
    assert manifest.layout == expected.tokenizer.layout
    assert {name: table.rows for name, table in manifest.tables.items()} == {
        name: len(rows) for name, rows in tables.items()
    }
    assert manifest.vocabulary_size == 7
    assert manifest.dropped_examples == 1
    assert manifest.provenance == {"path": "/nowhere"}
    named = {record.file: record.bytes for record in manifest.all_files()}
    sizes = {path.name: path.stat().st_size for path in published.iterdir() if path.name != "manifest.json"}
    assert named == sizes
    assert set(sizes) == {
        "contexts-00000.arrow",
        "documents-00000.arrow",
        "dropped.jsonl",
        "features-00000.arrow",
        "features-00001.arrow",
        "tokenizer.json",
    }
    assert manifest.num_bytes == sum(sizes.values())


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place of a JSON value but the root."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in entries:
        yield (*path, key)
        yield from places(below, (*path, key))


def parent_of(content: Any, place: tuple[str | int, ...]) -> Any:
    for key in place[:-1]:
        content = content[key]
    return content


def test_every_field_that_is_removed_is_missed(cache: Path) -> None:
    original = content_of(cache)
    for place in list(places(original)):
        content = copy.deepcopy(original)
        del parent_of(content, place)[place[-1]]
        (cache / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
        expected = CacheMismatchError if place == ("schema_version",) else CacheDamagedError
        with pytest.raises(expected, match=r"manifest\.json"):
            read_manifest(cache)


def test_every_field_that_is_altered_is_noticed(cache: Path) -> None:
    original = content_of(cache)
    for place in list(places(original)):
        content = copy.deepcopy(original)
        parent = parent_of(content, place)
        value = parent[place[-1]]
        parent[place[-1]] = value + 1 if isinstance(value, int) else f"{value}x" if isinstance(value, str) else "x"
        (cache / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
        expected = CacheMismatchError if place == ("schema_version",) else CacheDamagedError
        with pytest.raises(expected, match=r"manifest\.json"):
            read_manifest(cache)


def test_every_field_that_a_forger_removes_is_missed(cache: Path) -> None:
    original = content_of(cache)
    for place in list(places(original)):
        if place in (("schema_version",), ("checksum",)) or place[0] == "provenance":
            continue
        content = copy.deepcopy(original)
        del parent_of(content, place)[place[-1]]
        (cache / "manifest.json").write_bytes(sealed(content))
        # A file that is no longer listed is not looked for; everything else is.
        if place[0] == "files" and len(place) == 2:
            continue
        with pytest.raises(CacheDamagedError):
            PublishedCache(cache)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, 2**64, 10**400, -1])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["..", "../x", "/etc/passwd", "manifest.json", "a" * 300, "\0", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data(), anything, st.booleans())
def test_only_cache_errors_come_out_of_an_altered_manifest(
    published: Path, data: st.DataObject, value: Any, forged: bool
) -> None:
    original = content_of(published)
    place = data.draw(st.sampled_from(list(places(original))))
    content = copy.deepcopy(original)
    parent_of(content, place)[place[-1]] = value
    with tempfile.TemporaryDirectory() as folder:
        directory = copy_of(published, Path(folder, "cache"))
        raw = sealed(content) if forged else json.dumps(content).encode()
        (directory / "manifest.json").write_bytes(raw)
        outcome = outcome_of(directory)
        # Equal JSON is the one alteration that changes nothing; a forged one may change what nothing depends on.
        if canonical_json_or_none(content) != canonical_json(original) and not forged:
            assert outcome is not None
        list(find_caches(Path(folder)))
        known_files(Path(folder))("/nowhere")


def canonical_json_or_none(content: Any) -> bytes | None:
    try:
        return canonical_json(content)
    except UnicodeEncodeError:
        return None


def outcome_of(directory: Path) -> CacheError | None:
    """Open, verify and read; any error but a `CacheError` passes."""
    try:
        PublishedCache(directory)
        verify_bytes(directory)
    except CacheError as error:
        return error
    return None


@given(st.data())
def test_only_cache_errors_come_out_of_altered_bytes(published: Path, data: st.DataObject) -> None:
    original = (published / "manifest.json").read_bytes()
    raw = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        kind = data.draw(st.sampled_from(["replace", "insert", "delete", "cut"]))
        if kind == "replace":
            raw[at] = data.draw(st.integers(0, 255))
        elif kind == "insert":
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        elif kind == "delete":
            del raw[at]
        else:
            del raw[at:]
            break
        if not raw:
            break
    with tempfile.TemporaryDirectory() as folder:
        directory = copy_of(published, Path(folder, "cache"))
        (directory / "manifest.json").write_bytes(raw)
        outcome = outcome_of(directory)
        assert (outcome is None) == (bytes(raw) == original)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"{",
        b"\xff\xfe",
        b'"\\ud800"',
        b'{"format":"memxlnet-cache"',
        b'{"format":"another format","schema_version":2}',
        b"[" * 100_000,
        b'{"format":"memxlnet-cache","schema_version":2,"checksum":"\\ud800"}',
        b'{"format":"memxlnet-cache","schema_version":2,"x":"\\ud800"}',
        b'{"format":"memxlnet-cache","schema_version":2,"x":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"format":"memxlnet-cache","schema_version":2,"x":' + b"1" * 5000 + b"}",
    ],
    ids=lambda raw: raw[:60].decode("latin1"),
)
def test_other_content_is_no_manifest(cache: Path, raw: bytes) -> None:
    (cache / "manifest.json").write_bytes(raw)
    expected = (CacheDamagedError, CacheMismatchError) if b'"format":"memxlnet' in raw else CacheDamagedError
    with pytest.raises(expected, match=r"manifest\.json"):
        read_manifest(cache)
    assert not list(find_caches(cache.parent))


@pytest.mark.parametrize("version", [0, 1, 3, 99, "2", 2.5, None, [2]])
def test_another_version_is_a_mismatch(cache: Path, version: Any) -> None:
    content = {**content_of(cache), "schema_version": version}
    (cache / "manifest.json").write_bytes(sealed(content))
    with pytest.raises(CacheMismatchError, match=r"schema_version\b.*2"):
        PublishedCache(cache)


@pytest.mark.parametrize(
    "name",
    ["../features-00000.arrow", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\0b", 5, None, ["x"], "x" * 300],
)
@pytest.mark.parametrize("kind", ["files", "features", "contexts"])
def test_a_file_name_that_leaves_the_directory_is_refused(cache: Path, name: Any, kind: str) -> None:
    content = content_of(cache)
    records = content["files"] if kind == "files" else content["tables"][kind]["shards"]
    records[0]["file"] = name
    (cache / "manifest.json").write_bytes(sealed(content))
    with pytest.raises(CacheDamagedError, match=r"Error\(.file:"):
        read_manifest(cache)


def test_fields_must_have_the_fingerprint(cache: Path) -> None:
    content = content_of(cache)
    content["fields"]["settings"]["doc_stride"] = 2
    (cache / "manifest.json").write_bytes(sealed(content))
    with pytest.raises(CacheDamagedError, match=r"Error\(.fingerprint:"):
        read_manifest(cache)


def test_without_a_manifest_there_is_no_cache(cache: Path, tmp_path: Path) -> None:
    (cache / "manifest.json").unlink()
    with pytest.raises(CacheNotFoundError, match=r"manifest\.json"):
        read_manifest(cache)
    with pytest.raises(CacheNotFoundError, match=r"manifest\.json"):
        PublishedCache(cache)
    with pytest.raises(CacheNotFoundError):
        PublishedCache(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CacheNotFoundError):
        PublishedCache(tmp_path / "file")


def test_what_cannot_be_read_is_not_taken_for_nothing(cache: Path) -> None:
    (cache / "manifest.json").unlink()
    (cache / "manifest.json").symlink_to("manifest.json")
    with pytest.raises(CacheDirectoryError, match="Too many levels"):
        read_manifest(cache)
    (cache / "manifest.json").unlink()
    (cache / "manifest.json").mkdir()
    with pytest.raises(CacheDirectoryError, match="Is a directory"):
        read_manifest(cache)


@pytest.mark.parametrize("name", ["manifest.json", "contexts-00000.arrow"])
def test_a_file_has_one_record(cache: Path, name: str) -> None:
    content = content_of(cache)
    content["files"][0]["file"] = name
    (cache / "manifest.json").write_bytes(sealed(content))
    with pytest.raises(CacheDamagedError, match=r"Error\(.files:"):
        read_manifest(cache)


@pytest.mark.parametrize("checksum", [["x"], None, 5, "", "a" * 31, "g" * 32, "A" * 32])
def test_a_checksum_is_one(cache: Path, checksum: Any) -> None:
    content = content_of(cache)
    content["tables"]["features"]["shards"][0]["xxh3_128"] = checksum
    (cache / "manifest.json").write_bytes(sealed(content))
    with pytest.raises(CacheDamagedError, match=r"Error\(.xxh3_128:"):
        read_manifest(cache)


def test_the_split_is_that_of_the_fields(cache: Path) -> None:
    (cache / "manifest.json").write_bytes(sealed({**content_of(cache), "split": "other"}))
    with pytest.raises(CacheDamagedError, match=r"Error\(.split:.*'other'"):
        read_manifest(cache)


@pytest.mark.parametrize("change", [{"ctime_ns": "x"}, {"size": None}, {"mtime_ns": 1.5}])
def test_a_garbled_record_of_a_source_file_does_not_count(cache: Path, change: dict[str, Any]) -> None:
    content = content_of(cache)
    content["fields"]["source"] = {"kind": "file", "format": "json", "sha256": "0" * 64}
    content["fingerprint"] = fingerprint_of(content["fields"])
    content["provenance"] = {"path": "/a.json", "size": 1, "mtime_ns": 2, "ctime_ns": 3}
    (cache / "manifest.json").write_bytes(sealed(content))
    assert known_files(cache.parent)("/a.json") == KnownFile("/a.json", 1, 2, 3, "0" * 64)
    copy_of(cache, cache.parent / "other")
    content["provenance"] |= change
    (cache / "manifest.json").write_bytes(sealed(content))
    assert known_files(cache.parent)("/a.json") == KnownFile("/a.json", 1, 2, 3, "0" * 64)


def test_only_whole_caches_are_found(published: Path, tmp_path: Path) -> None:
    copy_of(published, tmp_path / "b")
    copy_of(published, tmp_path / "a")
    copy_of(published, tmp_path / ".build-c")
    damaged = copy_of(published, tmp_path / "damaged")
    (damaged / "manifest.json").write_bytes(b"{")
    bare = copy_of(published, tmp_path / "bare")
    (bare / "manifest.json").unlink()
    (tmp_path / "file").write_bytes(b"")
    assert [path.name for path, _ in find_caches(tmp_path)] == ["a", "b"]
    assert [manifest.name for _, manifest in find_caches(tmp_path)] == ["made up", "made up"]
    assert not list(find_caches(tmp_path / "nowhere"))
    assert not list(find_caches(tmp_path / "file"))


def test_a_record_of_a_source_file_is_found_by_its_path(tmp_path: Path) -> None:
    provenance = {"path": "/data/a.json", "size": 5, "mtime_ns": 6, "ctime_ns": 7}
    source = {"kind": "file", "sha256": "abc"}
    publish(CONTENT, tmp_path, [2], source=source, provenance=provenance)
    found = known_files(tmp_path)("/data/a.json")
    assert found is not None
    assert dataclasses.asdict(found) == {**provenance, "sha256": "abc"}
    assert known_files(tmp_path)("/data/b.json") is None


def test_all_files_are_listed_once(published: Path) -> None:
    records = list(read_manifest(published).all_files())
    assert len({record.file for record in records}) == len(records) == 6
    assert all(isinstance(record, FileRecord) for record in records)
