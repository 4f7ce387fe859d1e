"""A build into a store: found there, or built and sent, whatever ends early and whoever else builds it."""

import contextlib
import os
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry as loaded_file_systems

from memxlnet import Cache, Parts, create_dataset_from_cache, process_and_cache_dataset
from memxlnet.builder.builder import Build, build_under_lock
from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.errors import (
    CacheDamagedError,
    CacheDirectoryError,
    MissingLibraryError,
    SettingsError,
    TransferError,
)
from memxlnet.remote import sole_sender, stored_builds
from memxlnet.remote.stored_caches import find_stored_caches
from memxlnet.remote.stores import Store
from tests.format.content import files_of
from tests.load.helpers import sample_tokenizer
from tests.remote.cutting_proxy import CuttingProxy
from tests.remote.s3 import Bucket, calls
from tests.support import WAIT_SECONDS, long_examples, slow, slow_but, write_json_lines

SETTINGS: dict[str, Any] = {"max_seq_length": 64, "doc_stride": 16, "num_workers": 0, "progress": False}


class Place(NamedTuple):
    """A directory of caches in a store."""

    url: str
    options: dict[str, Any]

    def files(self) -> dict[str, bytes]:
        """All that lies there, looked at without memxlnet."""
        system, root = fsspec.core.url_to_fs(self.url, **self.options, skip_instance_cache=True)
        system.invalidate_cache()
        return {path.removeprefix(f"{root}/"): system.cat_file(path) for path in system.find(root)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_json_lines(tmp_path_factory.mktemp("source") / "long.jsonl", long_examples(8, 60))


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a local build, by their paths in a directory of caches."""
    cache = Cache.build(source, sample_tokenizer(), cache_dir=tmp_path_factory.mktemp("local"), **SETTINGS)
    return {f"{cache.directory.name}/{name}": content for name, content in files_of(cache.directory).items()}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of temporary files of each test's own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


@pytest.fixture(params=["memory", slow("s3"), slow("file")])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place_of(request, tmp_path)


def place_of(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "s3":
        bucket: Bucket = request.getfixturevalue("bucket")
        return Place(f"s3://{bucket.name}/deep/caches", bucket.options())
    if request.param == "memory":
        return Place(f"memory://caches-{uuid.uuid4().hex}", {})
    return Place(f"file://{tmp_path}/store", {})


def built(source: Path, place: Place, **settings: Any) -> Cache:
    return Cache.build(
        source, sample_tokenizer(), cache_dir=place.url, storage_options=place.options, **{**SETTINGS, **settings}
    )


@pytest.mark.parametrize("place", ["s3", "memory", "file"], indirect=True)
def test_it_is_sent_and_found_again(
    source: Path, place: Place, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = built(source, place)
    assert place.files() == expected
    assert {
        f"{cache.directory.name}/{name}": content for name, content in files_of(cache.directory).items()
    } == expected
    monkeypatch.setattr(Build, "run", _never)
    assert built(source, place).directory == cache.directory
    elsewhere = built(source, place, work_dir=tmp_path / "elsewhere")
    assert elsewhere.directory.parent == tmp_path / "elsewhere"
    assert elsewhere.manifest == cache.manifest
    found = find_stored_caches(place.url, storage_options=place.options)
    assert [each.manifest for each in found] == [cache.manifest]
    assert Cache.pull(found[0].url, tmp_path / "pulled", storage_options=place.options).manifest == cache.manifest
    assert place.files() == expected


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("expected no build")


def test_a_dataset_is_opened_from_a_store(
    source: Path, place: Place, expected: dict[str, bytes], tmp_path: Path
) -> None:
    options: dict[str, Any] = {**SETTINGS, "tokenizer": sample_tokenizer(), "storage_options": place.options}
    dataset = create_dataset_from_cache(source, cache_dir=place.url, work_dir=tmp_path / "copies", **options)
    assert place.files() == expected
    assert dataset.directory.parent == tmp_path / "copies"
    assert dataset.manifest == built(source, place).manifest


def test_only_a_named_work_dir_keeps_a_copy_that_nobody_opened(source: Path, temporary: Path, tmp_path: Path) -> None:
    place = Place(f"memory://caches-{uuid.uuid4().hex}", {})
    options: dict[str, Any] = {"max_seq_length": 64, "doc_stride": 16, "tokenizer": sample_tokenizer()}
    rows = process_and_cache_dataset(source, "train", place.url, **options)
    assert [list(path.iterdir()) for path in temporary.iterdir()] == [[]]
    again = Place(f"memory://caches-{uuid.uuid4().hex}", {})
    assert process_and_cache_dataset(source, "train", again.url, work_dir=tmp_path / "work", **options) == rows
    (kept,) = (tmp_path / "work").iterdir()
    assert set(files_of(kept)) == {name.partition("/")[2] for name in again.files()}
    assert place.files() == again.files()


def test_rebuild_sends_what_is_damaged_there(source: Path, place: Place, expected: dict[str, bytes]) -> None:
    built(source, place)
    system, root = fsspec.core.url_to_fs(place.url, **place.options, skip_instance_cache=True)
    name = next(name for name in expected if name.endswith("features-00000.arrow"))
    system.pipe_file(f"{root}/{name}", b"x" * len(expected[name]))
    built(source, place, rebuild=True)
    assert place.files() == expected


def test_a_damaged_manifest_is_named_before_any_work(
    source: Path, place: Place, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    built(source, place)
    system, root = fsspec.core.url_to_fs(place.url, **place.options, skip_instance_cache=True)
    name = next(name for name in expected if name.endswith("manifest.json"))
    monkeypatch.setattr(Build, "run", _never)
    system.pipe_file(f"{root}/{name}", expected[name][:-9])
    with pytest.raises(CacheDamagedError, match=r"manifest\.json") as raised:
        built(source, place)
    assert "memxlnet rm" in raised.value.__notes__[0]


@pytest.fixture(params=["memory", slow("s3"), slow("file"), "ignoring", slow("unknown")])
def race_place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place of each kind; the last two are of stores without a conditional write."""
    monkeypatch.setattr(sole_sender, "POLL_SECONDS", 0.01)
    if request.param not in ("ignoring", "unknown"):
        return place_of(request, tmp_path)
    plain = MemoryFileSystem.pipe_file

    def pipe_file(self: MemoryFileSystem, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        if mode == "create" and request.param == "unknown":
            raise NotImplementedError("mode")
        plain(self, path, value, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)
    return Place(f"memory://caches-{uuid.uuid4().hex}", {})


@pytest.mark.parametrize("race_place", ["s3", slow("memory"), slow("file"), "ignoring", slow("unknown")], indirect=True)
def test_of_builders_at_once_one_publishes_and_all_succeed(
    source: Path, race_place: Place, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together, one_request = threading.Barrier(3), threading.Lock()
    send, create, write = Store.send, Store.create, Store.write
    written: list[str] = []

    def one_by_one(self: Store, local: Path, name: str, report: Callable[[int], Any]) -> None:
        with one_request:  # the server of these tests is not made for several writers of one file
            send(self, local, name, report)

    def at_once(of: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Store, name: str, content: bytes) -> Any:
            if name == "manifest.json":
                with contextlib.suppress(threading.BrokenBarrierError):
                    together.wait(1)
            with one_request:
                answer = of(self, name, content)
            if answer is not False:
                written.append(name)
            return answer

        return call

    monkeypatch.setattr(Store, "send", one_by_one)
    monkeypatch.setattr(Store, "create", at_once(create))
    monkeypatch.setattr(Store, "write", at_once(write))
    with ThreadPoolExecutor(3) as threads:
        work = [threads.submit(built, source, race_place, work_dir=tmp_path / str(number)) for number in range(3)]
        manifests = [each.result(WAIT_SECONDS).manifest for each in work]
    assert written.count("manifest.json") == 1
    assert manifests[0] == manifests[1] == manifests[2]
    assert race_place.files() == expected


@pytest.mark.parametrize("race_place", ["ignoring"], indirect=True)
def test_of_two_that_take_the_lease_at_the_same_moment_one_waits_for_the_other(
    source: Path, race_place: Place, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing lacks their leases, and each reads who holds it before the other has written that."""
    together, first_two = threading.Barrier(2), threading.Semaphore(2)
    of_thread = threading.local()

    def at_once(name: str, *, is_last: bool = False) -> None:
        call = getattr(sole_sender._Lease, name)

        def both(self: sole_sender._Lease, *arguments: Any) -> Any:
            if name == "take":
                of_thread.is_first = first_two.acquire(blocking=False)
            try:
                return call(self, *arguments)
            finally:
                if of_thread.is_first:
                    of_thread.is_first = not is_last
                    together.wait(WAIT_SECONDS)

        monkeypatch.setattr(sole_sender._Lease, name, both)

    at_once("_read_holder")
    at_once("take")
    at_once("check", is_last=True)
    monkeypatch.setattr(Store, "entries", lambda _: {})
    with ThreadPoolExecutor(2) as threads:
        work = [threads.submit(built, source, race_place, work_dir=tmp_path / str(number)) for number in range(2)]
        manifests = [each.result(WAIT_SECONDS).manifest for each in work]
    assert manifests[0] == manifests[1]
    assert race_place.files() == expected


def test_a_builder_with_other_shards_that_comes_second_leaves_a_whole_cache(
    source: Path, race_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It overwrites files of the winner, which it cannot know of before its own manifest is refused."""
    send, is_first = Store.send, True

    def send_after_the_other(self: Store, local: Path, name: str, report: Callable[[int], Any]) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            # A sender without a lease: any, as far as the store can tell.
            monkeypatch.setattr(stored_builds.StoreDirectory, "_sole_sender", lambda *_: contextlib.nullcontext(print))
            built(source, race_place, work_dir=tmp_path / "other", max_shard_rows=5)
        send(self, local, name, report)

    monkeypatch.setattr(Store, "send", send_after_the_other)
    cache = built(source, race_place)
    (found,) = find_stored_caches(race_place.url, storage_options=race_place.options)
    assert len(found.manifest.tables["features"].shards) == len(cache.manifest.tables["features"].shards) == 1
    Cache.pull(found.url, tmp_path / "pulled", storage_options=race_place.options).verify(deep=True)


def test_one_that_sent_nothing_of_its_own_takes_the_cache_of_the_winner(
    source: Path, race_place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = build_under_lock

    def build_after_the_other(*arguments: Any) -> Any:
        monkeypatch.setattr(stored_builds, "build_under_lock", build)
        built(source, race_place, work_dir=tmp_path / "other", max_shard_rows=5)
        return build(*arguments)

    monkeypatch.setattr(stored_builds, "build_under_lock", build_after_the_other)
    built(source, race_place)
    (found,) = find_stored_caches(race_place.url, storage_options=race_place.options)
    assert len(found.manifest.tables["features"].shards) > 1
    Cache.pull(found.url, tmp_path / "pulled", storage_options=race_place.options).verify(deep=True)


MOMENTS = ["first file", "second file", "manifest", "after the manifest"]


@pytest.mark.parametrize("moment", slow_but(MOMENTS[1:3], MOMENTS))
def test_what_ends_early_is_resumed_without_encoding(
    source: Path,
    race_place: Place,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    with monkeypatch.context() as patched:
        sent: list[str] = []
        send, create, write = Store.send, Store.create, Store.write

        def sending(self: Store, local: Path, name: str, report: Callable[[int], Any]) -> None:
            if len(sent) == MOMENTS.index(moment):
                raise KeyboardInterrupt
            sent.append(name)
            send(self, local, name, report)

        def writing(of: Callable[..., Any]) -> Callable[..., Any]:
            def call(self: Store, name: str, content: bytes) -> Any:
                if name == "manifest.json" and moment == "manifest":
                    raise KeyboardInterrupt
                answer = of(self, name, content)
                if name == "manifest.json" and answer is not None:
                    raise KeyboardInterrupt
                return answer

            return call

        if moment.endswith("file"):
            patched.setattr(Store, "send", sending)
        patched.setattr(Store, "create", writing(create))
        patched.setattr(Store, "write", writing(lambda *arguments: write(*arguments) or True))
        with pytest.raises(KeyboardInterrupt):
            built(source, race_place)
        is_published = any(name.endswith("manifest.json") for name in race_place.files())
        assert is_published == (moment == "after the manifest")
    monkeypatch.setattr(Build, "run", _never)
    built(source, race_place)
    assert race_place.files() == expected


def test_a_write_whose_answer_was_lost_counts(
    source: Path, place: Place, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    create = Store.create

    def lose(self: Store, name: str, content: bytes) -> bool | None:
        answer = create(self, name, content)
        return False if name == "manifest.json" else answer  # the request was made again, and refused

    monkeypatch.setattr(Store, "create", lose)
    built(source, place)
    assert place.files() == expected


@pytest.mark.parametrize("share", [0.3, slow(0.1), slow(0.7), slow(0.95)])
def test_a_connection_that_is_cut_is_resumed_without_encoding(
    source: Path,
    bucket: Bucket,
    proxy: CuttingProxy,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    share: float,
) -> None:
    place = Place(f"s3://{bucket.name}/caches", bucket.options())
    through = Place(place.url, bucket.options(endpoint_url=proxy.endpoint))
    proxy.cut_after(up=3000 + int(share * sum(map(len, expected.values()))))
    with pytest.raises(TransferError, match=r"^s3://"):
        built(source, through)
    before = place.files().keys()
    assert not any(name.endswith("manifest.json") for name in before)
    proxy.heal()
    monkeypatch.setattr(Build, "run", _never)
    with calls() as made:
        built(source, through)
    sent = {name for method, name in made if method == "put_object"}
    assert not sent & {name.rpartition("/")[2] for name in before}
    assert place.files() == expected


def test_a_listing_that_lacks_new_files_does_no_harm(
    source: Path, bucket: Bucket, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(f"s3://{bucket.name}/caches", bucket.options())
    with monkeypatch.context() as patched:
        patched.setattr(Store, "entries", lambda self: None)
        built(source, place)
        assert built(source, place, work_dir=tmp_path / "elsewhere").num_rows
    assert place.files() == expected


def test_a_store_that_refuses_is_named_before_any_work(
    source: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError("AccessDenied")

    monkeypatch.setattr("s3fs.S3FileSystem._pipe_file", refuse)
    monkeypatch.setattr(Build, "run", _never)
    with pytest.raises(TransferError, match=r"^s3://"):
        built(source, Place(f"s3://{bucket.name}/caches", bucket.options()))


def test_a_bucket_that_is_missing_is_named_before_any_work(
    source: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Build, "run", _never)
    with pytest.raises(TransferError, match="expected a bucket"):
        built(source, Place("s3://bucket-that-is-missing/caches", bucket.options()))


def test_a_missing_library_is_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(loaded_file_systems, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingLibraryError, match=r"^s3://:.*'memxlnet\[s3\]'"):
        built(source, Place("s3://bucket/caches", {}))


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("hf://datasets/user/caches", "expected a store that one can build into, found hf://"),
        ("https://host/caches", "expected a store that one can build into"),
        ("s5://bucket/caches", "the nearest are s3"),
        ("s3://", "expected the place"),
        ("s3://key:secret@bucket/caches", "no credentials"),
    ],
)
def test_an_address_that_cannot_be_built_into_is_refused(source: Path, url: str, text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        built(source, Place(url, {}))


@pytest.mark.parametrize("name", ["work_dir", "storage_options"])
def test_what_applies_to_a_store_is_refused_with_a_local_directory(source: Path, tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"tokenizer": sample_tokenizer(), "cache_dir": tmp_path / "here", name: "x"}
    for call in (Cache.build, process_and_cache_dataset, create_dataset_from_cache):
        with pytest.raises(SettingsError, match=f"^{name}: applies to a cache_dir in a store"):
            call(source, **options)
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("url", [Path("s3://bucket/caches"), Path("s3://bucket/caches").absolute(), "./s3://bucket/x"])
def test_a_url_in_another_form_than_a_string_is_refused_and_makes_no_folder(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: Any
) -> None:
    monkeypatch.chdir(tmp_path / "tmp")
    for call in (Cache.build, process_and_cache_dataset):
        with pytest.raises(SettingsError, match=r"^cache_dir: expected a local directory, found the URL s3://"):
            call(source, tokenizer=sample_tokenizer(), cache_dir=url)
    with pytest.raises(SettingsError, match=r"^cache_dir: expected a local directory, found the URL s3://"):
        Parts.build(source, sample_tokenizer(), cache_dir="s3://bucket/caches")
    with pytest.raises(SettingsError, match=r"^cache_dir: expected a local directory, found the URL s3://"):
        create_dataset_from_cache(
            source, tokenizer=sample_tokenizer(), cache_dir="s3://bucket/caches", hub_dataset_id="someone/caches"
        )
    with pytest.raises(SettingsError, match=r"^cache_dir:"):
        CacheWriter(url)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_copy_that_was_there_before_stays(source: Path, temporary: Path) -> None:
    first, second = (Place(f"memory://caches-{uuid.uuid4().hex}", {}) for _ in range(2))
    cache = built(source, first)
    process_and_cache_dataset(
        source, "train", second.url, tokenizer=sample_tokenizer(), max_seq_length=64, doc_stride=16
    )
    assert second.files() == first.files()
    assert cache.directory.is_dir()
    assert cache.directory.parent.parent == temporary


def test_a_cache_manager_is_refused_with_a_store(source: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^cache_manager: expected none"):
        process_and_cache_dataset(
            source, "train", "memory://x", tokenizer=sample_tokenizer(), cache_manager=CacheWriter(tmp_path)
        )


@pytest.mark.parametrize("found", ["a file", "a link", "open to others"])
def test_a_default_work_dir_that_is_not_of_this_user_alone_is_refused(
    source: Path, temporary: Path, tmp_path: Path, found: str
) -> None:
    path = temporary / f"memxlnet-{os.getuid()}"
    if found == "a file":
        path.write_bytes(b"")
    elif found == "a link":
        path.symlink_to(tmp_path)
    else:
        path.mkdir()
        path.chmod(0o777)
    with pytest.raises(CacheDirectoryError, match="pass work_dir, or set TMPDIR"):
        built(source, Place("memory://caches", {}))


def test_no_directory_of_temporary_files_is_an_error_with_a_hint(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(CacheDirectoryError, match=r"pass work_dir, or set TMPDIR"):
        built(source, Place("memory://caches", {}))


def test_what_a_killed_sender_left_at_a_local_place_goes_with_the_next_one(
    source: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    place = Place(f"file://{tmp_path}/store", {})
    directory = tmp_path / "store" / next(iter(expected)).partition("/")[0]
    directory.mkdir(parents=True)
    (directory / "features-00000.arrow.00000000000000aa.sending").write_bytes(b"x")
    os.utime(directory / "features-00000.arrow.00000000000000aa.sending", (1, 1))
    built(source, place)
    assert place.files() == expected
