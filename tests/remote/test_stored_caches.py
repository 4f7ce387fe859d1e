"""Caches in a store: listed and shown by their manifests alone, and removed with the manifest first."""

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pytest

from memxlnet.errors import CacheMismatchError, CacheNotFoundError, SettingsError, TransferError
from memxlnet.format.manifest import read_manifest
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from memxlnet.remote.stored_caches import find_stored_caches, read_stored_cache
from memxlnet.remote.stored_removal import remove_stored_cache
from memxlnet.remote.stores import Store
from tests.format.content import files_of
from tests.remote.s3 import SECRET, Bucket, calls
from tests.support import slow


class Place(NamedTuple):
    """A directory of caches in a store."""

    url: str
    options: dict[str, Any]

    def names(self, cache: str) -> set[str]:
        """The files that lie there, looked at without memxlnet."""
        system, root = fsspec.core.url_to_fs(f"{self.url}/{cache}", **self.options, skip_instance_cache=True)
        return {path.rpartition("/")[2] for path in system.find(root)}

    def put(self, name: str, content: bytes) -> None:
        system, path = fsspec.core.url_to_fs(f"{self.url}/{name}", **self.options, skip_instance_cache=True)
        if not system.async_impl:
            system.makedirs(path.rpartition("/")[0], exist_ok=True)
        system.pipe_file(path, content)


@pytest.fixture(params=[slow("s3"), "memory", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        yield Place(f"s3://{bucket.name}/deep/caches", bucket.options())
    elif request.param == "memory":
        yield Place(f"memory://caches-{uuid.uuid4().hex}", {})
    else:
        yield Place(f"file://{tmp_path}/store", {})


@pytest.fixture
def filled(place: Place, cache: Path, other_cache: Path) -> Place:
    """Two caches, one that is only half sent, one of a running build, and a file."""
    push(cache, f"{place.url}/one", storage_options=place.options)
    push(other_cache, f"{place.url}/two", storage_options=place.options)
    push(cache, f"{place.url}/.build-{cache.name}", storage_options=place.options)
    place.put("half/features-00000.arrow", b"x")
    place.put("notes.txt", b"mine")
    return place


def test_they_are_listed_and_shown_as_their_manifests_say(filled: Place, cache: Path, other_cache: Path) -> None:
    found = find_stored_caches(filled.url, storage_options=filled.options)
    assert [(each.url, each.manifest) for each in found] == [
        (f"{filled.url}/one", read_manifest(cache)),
        (f"{filled.url}/two", read_manifest(other_cache)),
    ]
    assert [read_stored_cache(each.url, storage_options=filled.options) for each in found] == found
    assert find_stored_caches(f"{filled.url}/", storage_options=filled.options) == found


def test_one_is_removed_and_nothing_else(filled: Place, cache: Path, other_cache: Path, tmp_path: Path) -> None:
    url, size = f"{filled.url}/one", sum(map(len, files_of(cache).values()))
    assert remove_stored_cache(url, storage_options=filled.options, dry_run=True) == size
    assert filled.names("one") == set(files_of(cache))
    assert remove_stored_cache(url, storage_options=filled.options) == size
    assert filled.names("one") == set()
    assert filled.names("half") == {"features-00000.arrow"}
    assert [each.url for each in find_stored_caches(filled.url, storage_options=filled.options)] == [
        f"{filled.url}/two"
    ]
    there = pull(f"{filled.url}/two", tmp_path / "here", storage_options=filled.options)
    assert files_of(there) == files_of(other_cache)
    for call in (remove_stored_cache, read_stored_cache):
        with pytest.raises(CacheNotFoundError, match=r"/one: .*no manifest\.json"):
            call(url, storage_options=filled.options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", b'{"format": "another"}', r"another manifest\.json"),
        ("manifest.json", b"[" * 100_000, r"another manifest\.json"),
        ("notes.txt", b"precious", r"notes\.txt"),
        ("below/manifest.json", b"{}", "below"),
    ],
)
def test_what_is_no_cache_or_holds_other_things_stays(filled: Place, name: str, content: bytes, message: str) -> None:
    filled.put(f"one/{name}", content)
    before = filled.names("one")
    for dry_run in (True, False):
        with pytest.raises(CacheNotFoundError, match=f"/one: expected .*{message}"):
            remove_stored_cache(f"{filled.url}/one", storage_options=filled.options, dry_run=dry_run)
    filled.put("tokenizer/tokenizer.json", b"{}")
    filled.put("foreign/data-00000-of-00001.arrow", b"mine")
    filled.put("mixed/features-00000.arrow", b"x")
    filled.put("mixed/notes.txt", b"mine")
    for url in (f"{filled.url}/{name}" for name in ("none", "tokenizer", "foreign", "mixed", "")):
        with pytest.raises(CacheNotFoundError, match=r"no manifest\.json"):
            remove_stored_cache(url, storage_options=filled.options)
    assert filled.names("one") == before
    assert filled.names("half") == {"features-00000.arrow"}
    assert filled.names("mixed") == {"features-00000.arrow", "notes.txt"}
    assert filled.names("tokenizer") == {"tokenizer.json"}


def test_damaged_ones_and_those_of_another_version_are_passed_over_and_may_go(
    filled: Place, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = {**json.loads((cache / "manifest.json").read_bytes()), "schema_version": 99}
    filled.put("one/manifest.json", json.dumps(content).encode())
    assert [each.url for each in find_stored_caches(filled.url, storage_options=filled.options)] == [
        f"{filled.url}/two"
    ]
    assert f"passed over: {filled.url}/one/manifest.json" in caplog.text
    with pytest.raises(CacheMismatchError, match="99"):
        read_stored_cache(f"{filled.url}/one", storage_options=filled.options)
    assert remove_stored_cache(f"{filled.url}/one", storage_options=filled.options)
    assert filled.names("one") == set()


def test_a_directory_that_is_none_or_a_cache_is_not_listed(filled: Place) -> None:
    for name, found in (("none", "found none"), ("one", "found a cache")):
        with pytest.raises(CacheNotFoundError, match=f"/{name}: expected a directory of caches, {found}"):
            find_stored_caches(f"{filled.url}/{name}", storage_options=filled.options)


@pytest.mark.parametrize("after", [1, 2, -1])
def test_a_removal_that_is_cut_leaves_no_cache_and_is_finished_by_the_next(
    filled: Place, cache: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    remove = Store.remove
    removed: list[str] = []
    most = after % len(files_of(cache))

    def cut(self: Store, name: str) -> None:
        if len(removed) == most:
            raise TransferError("cut")
        removed.append(name)
        remove(self, name)

    monkeypatch.setattr(Store, "remove", cut)
    with pytest.raises(TransferError, match="cut"):
        remove_stored_cache(f"{filled.url}/one", storage_options=filled.options)
    assert removed[0] == "manifest.json"
    assert len(filled.names("one")) == len(files_of(cache)) - most
    assert [each.url for each in find_stored_caches(filled.url, storage_options=filled.options)] == [
        f"{filled.url}/two"
    ]
    monkeypatch.undo()
    assert remove_stored_cache(f"{filled.url}/one", storage_options=filled.options, dry_run=True)
    assert remove_stored_cache(f"{filled.url}/one", storage_options=filled.options)
    assert filled.names("one") == set()


def test_what_is_half_sent_may_go(filled: Place) -> None:
    filled.put("half/tokenizer.json.sending", b"xy")
    assert remove_stored_cache(f"{filled.url}/half", storage_options=filled.options) == 3
    assert filled.names("half") == set()


def test_only_manifests_are_read(cache: Path, bucket: Bucket) -> None:
    bucket.fill(cache)
    with calls() as made:
        (found,) = find_stored_caches(bucket.url.rpartition("/")[0], storage_options=bucket.options())
    assert found.manifest == read_manifest(cache)
    assert [call for call in made if call[0] == "get_object"] == [("get_object", "manifest.json")]


def test_a_missing_bucket_is_an_error_without_credentials(bucket: Bucket) -> None:
    for call in (find_stored_caches, read_stored_cache, remove_stored_cache):
        with pytest.raises(TransferError, match="bucket") as raised:
            call(f"s3://{bucket.name}-none/caches/x", storage_options=bucket.options())
        assert SECRET not in str(raised.value)


@pytest.mark.parametrize("url", ["nowhere", "file://relative", "no-such://x/y", "s3://me:pw@bucket/x", 3])
def test_a_wrong_address_fails_first(url: Any) -> None:
    for call in (find_stored_caches, read_stored_cache, remove_stored_cache):
        with pytest.raises(SettingsError, match=r"^url: ") as raised:
            call(url)
        assert ":pw@" not in str(raised.value)


def test_the_directory_of_a_local_store_goes_with_its_cache(cache: Path, tmp_path: Path) -> None:
    shutil.copytree(cache, tmp_path / "store" / "one")
    remove_stored_cache(f"file://{tmp_path}/store/one")
    assert list((tmp_path / "store").iterdir()) == []
