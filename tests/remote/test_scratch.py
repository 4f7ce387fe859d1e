"""Chunks that travel through a store: found again, checked, and never taken for others."""

import errno
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest
from s3fs import S3FileSystem

from memxlnet import Cache, Parts, create_dataset_from_cache
from memxlnet.builder import deliveries
from memxlnet.data.cache_manager import ChunkedCacheManager
from memxlnet.data.process import StreamingSquadProcessor
from memxlnet.data.streaming import create_streaming_processor
from memxlnet.encode.encoder import Encoder
from memxlnet.errors import BuildError, BuildOSError, MemxlnetError, SettingsError, TransferError
from memxlnet.format.sealed_json import seal
from memxlnet.maintain.lock import builder_lock, lock_path
from memxlnet.remote import scratch as scratches
from memxlnet.remote.stores import Store, open_store
from tests.builder.hiding import blind
from tests.builder.processes import SETTINGS, build, content, rows
from tests.golden.make_golden import golden_tokenizer
from tests.remote import s3
from tests.support import write_json_lines


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    cache_dir = tmp_path_factory.mktemp("undisturbed")
    build(cache_dir, num_workers=0)
    return content(cache_dir)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The first example of each chunk that is encoded in this process."""
    first: list[str] = []
    plain = Encoder.tokenize

    def tokenize(self: Encoder, examples: Any) -> Any:
        first.extend(example.id for example in examples[:1] if example.id.startswith("id-"))
        return plain(self, examples)

    monkeypatch.setattr(Encoder, "tokenize", tokenize)
    return first


def files(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file())


WAYS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "here": lambda cache_dir: {"num_workers": 0},
    "own": lambda cache_dir: {"num_workers": 2},
    "threads": lambda cache_dir: {"executor": ThreadPoolExecutor(2)},
    "blind": lambda cache_dir: {"executor": blind(cache_dir)},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_scratch_changes_no_byte_and_is_empty_afterwards(
    tmp_path: Path, place: Path, undisturbed: dict[str, bytes], way: str
) -> None:
    options = WAYS[way](tmp_path / "cache")
    with options.get("executor") or nullcontext():
        build(tmp_path / "cache", scratch=place.as_uri(), **options)
    assert content(tmp_path / "cache") == undisturbed
    assert files(place) == []


class Ending(ThreadPoolExecutor):
    """Ends the build after some chunks, as a builder that is killed: the store keeps them."""

    def __init__(self, after: int):
        super().__init__(1)
        self._left = after

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not self._left:
            raise RuntimeError("the driver is gone")
        self._left -= 1
        return super().submit(fn, *args, **kwargs)


def interrupted(cache_dir: Path, place: Path, after: int = 3) -> None:
    """Build until some chunks are finished, then lose the local disk."""
    with Ending(after) as executor, pytest.raises(BuildError, match="the driver is gone"):
        build(cache_dir, executor=executor, scratch=place.as_uri(), num_workers=1)
    shutil.rmtree(cache_dir)


def names(place: Path, suffix: str) -> list[Path]:
    return [path for path in files(place) if path.suffix == suffix and not path.name.startswith("encoder")]


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor], ids=["here", "threads"])
def test_a_builder_that_dies_loses_nothing(
    tmp_path: Path, place: Path, undisturbed: dict[str, bytes], encoded: list[str], executor: Any
) -> None:
    interrupted(tmp_path / "one", place)
    assert encoded == ["id-0", "id-3", "id-6"]
    assert len(names(place, ".chunk")) == len(names(place, ".json")) == 3
    options: dict[str, Any] = {"num_workers": 0} if executor is None else {"executor": executor(2)}
    with options.get("executor") or nullcontext():
        build(tmp_path / "two", scratch=place.as_uri(), **options)
    assert encoded == ["id-0", "id-3", "id-6", "id-9"]
    assert content(tmp_path / "two") == undisturbed
    assert files(place) == []


def test_an_own_build_that_dies_leaves_its_chunks_in_the_scratch(
    tmp_path: Path, place: Path, undisturbed: dict[str, bytes], encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("memxlnet.builder.running_build.LARGE_COST", 1)
        patched.setattr("memxlnet.builder.cache_writer.CacheWriter.finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(tmp_path / "one", num_workers=0, scratch=place.as_uri())
    encoded.clear()
    build(tmp_path / "two", num_workers=0, scratch=place.as_uri())
    assert encoded == []
    assert content(tmp_path / "two") == undisturbed


def test_the_chunks_stay_until_the_store_has_the_cache(
    tmp_path: Path, place: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any, **__: Any) -> Any:
        raise TransferError("the connection is gone")

    target = f"{(tmp_path / 'store').as_uri()}"

    def build_there(work: str) -> None:
        options: dict[str, Any] = {"work_dir": tmp_path / work, "num_workers": 0, "scratch": place.as_uri()}
        build(target, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr("memxlnet.remote.stored_builds.send_cache", lose)
        with pytest.raises(TransferError, match="the connection is gone"):
            build_there("one")
    assert names(place, ".chunk")
    encoded.clear()
    build_there("another machine")
    assert encoded == []
    assert files(place) == []


def edit(path: Path, **changes: Any) -> None:
    """Seal a receipt again with other content."""
    fields = json.loads(path.read_text())
    del fields["checksum"]
    fields["receipt"].update(changes.pop("receipt", {}))
    path.write_bytes(seal({**fields, **changes}))


def flip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


DAMAGE: dict[str, Callable[[Path, Path], Any]] = {
    "no receipt": lambda chunk, receipt: receipt.unlink(),
    "no chunk": lambda chunk, receipt: chunk.unlink(),
    "torn receipt": lambda chunk, receipt: receipt.write_bytes(receipt.read_bytes()[:40]),
    "empty receipt": lambda chunk, receipt: receipt.write_bytes(b""),
    "torn chunk": lambda chunk, receipt: chunk.write_bytes(chunk.read_bytes()[:-8]),
    "flipped byte": lambda chunk, receipt: flip(chunk),
    "other settings": lambda chunk, receipt: edit(receipt, fingerprint="0" * 64),
    "other examples": lambda chunk, receipt: edit(receipt, receipt={"examples": "0" * 32}),
    "other version": lambda chunk, receipt: edit(receipt, receipt_version=4),
    "other number": lambda chunk, receipt: edit(receipt, receipt={"index": 3}),
    "a path": lambda chunk, receipt: edit(receipt, receipt={"file": "../../other.chunk"}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_damaged_or_foreign_is_encoded_again(
    tmp_path: Path, place: Path, undisturbed: dict[str, bytes], encoded: list[str], name: str
) -> None:
    interrupted(tmp_path / "one", place)
    DAMAGE[name](names(place, ".chunk")[1], names(place, ".json")[1])
    encoded.clear()
    build(tmp_path / "two", scratch=place.as_uri(), num_workers=0)
    assert encoded == ["id-3", "id-9"]
    assert content(tmp_path / "two") == undisturbed
    assert files(place) == []


def test_a_chunk_that_is_there_twice_is_used_once(
    tmp_path: Path, place: Path, undisturbed: dict[str, bytes], encoded: list[str]
) -> None:
    interrupted(tmp_path / "one", place)
    for path in names(place, ".chunk") + names(place, ".json"):
        shutil.copy(path, path.with_name(re.sub(r"[0-9a-f]{16}(?=\.(chunk|json)$)", "f" * 16, path.name)))
    encoded.clear()
    build(tmp_path / "two", scratch=place.as_uri(), num_workers=0)
    assert encoded == ["id-9"]
    assert content(tmp_path / "two") == undisturbed


def test_rebuild_uses_no_chunk_of_an_interrupted_build(tmp_path: Path, place: Path, encoded: list[str]) -> None:
    interrupted(tmp_path / "one", place)
    encoded.clear()
    build(tmp_path / "two", scratch=place.as_uri(), num_workers=0, rebuild=True)
    assert len(encoded) == 4


def test_a_listing_that_lacks_the_newest_costs_encoding_again(
    tmp_path: Path, place: Path, undisturbed: dict[str, bytes], encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path / "one", place)
    plain = Store.entries

    def entries(self: Store) -> Any:
        found = plain(self) or {}
        return {name: size for name, size in found.items() if not name.startswith("00000002")}

    with monkeypatch.context() as patched:
        patched.setattr(Store, "entries", entries)
        encoded.clear()
        build(tmp_path / "two", scratch=place.as_uri(), num_workers=0)
    assert encoded == ["id-6", "id-9"]
    assert content(tmp_path / "two") == undisturbed


def test_an_object_that_is_not_seen_yet_is_encoded_again(
    tmp_path: Path, place: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, unseen = Store.fetch, iter([True])
    monkeypatch.setattr(
        Store, "fetch", lambda self, name, size: None if next(unseen, False) else plain(self, name, size)
    )
    with ThreadPoolExecutor(2) as executor:
        build(tmp_path / "one", scratch=place.as_uri(), executor=executor)
    assert content(tmp_path / "one") == undisturbed


def test_a_store_that_never_shows_a_chunk_is_an_error(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "fetch", lambda *_: None)
    with ThreadPoolExecutor(1) as executor, pytest.raises(TransferError, match="workers put there 3 times"):
        build(tmp_path / "one", scratch=place.as_uri(), executor=executor)


class Finishing(ThreadPoolExecutor):
    """Has another builder of the same cache finish, and empty the scratch, before the chunk of this number."""

    def __init__(self, place: Path, number: int):
        super().__init__(1)
        self._place = place
        self._left = number

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not self._left:
            scratches.Scratch(self._place.as_uri()).remove(next(self._place.iterdir()).name)
            scratches._stores.clear()
            deliveries._packed_encoders.clear()
        self._left -= 1
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize("number", [0, 2])
def test_another_builder_that_empties_the_scratch_does_no_harm(
    tmp_path: Path, place: Path, undisturbed: dict[str, bytes], number: int
) -> None:
    with Finishing(place, number) as executor:
        build(tmp_path / "one", scratch=place.as_uri(), executor=executor, num_workers=1)
    assert content(tmp_path / "one") == undisturbed
    assert files(place) == []


def test_a_worker_that_never_finds_the_encoder_is_an_error(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliveries._packed_encoders.clear()
    monkeypatch.setattr(scratches.BuildScratch, "_write_encoder", lambda self: None)
    with ThreadPoolExecutor(1) as executor, pytest.raises(TransferError, match=r"the encoder of chunk 0.* 3 times"):
        build(tmp_path / "one", scratch=place.as_uri(), executor=executor)


class Vanishing(ThreadPoolExecutor):
    """Removes the scratch before the third chunk."""

    def __init__(self, place: Path):
        super().__init__(1)
        self._place = place
        self._count = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        self._count += 1
        if self._count == 3:
            shutil.rmtree(self._place)
            self._place.write_text("a file, where the directory was")
        return super().submit(fn, *args, **kwargs)


def test_a_scratch_that_vanishes_is_an_error_and_finished_chunks_are_kept(
    tmp_path: Path, place: Path, undisturbed: dict[str, bytes], encoded: list[str]
) -> None:
    with Vanishing(place) as executor, pytest.raises(TransferError, match="scratch"):
        build(tmp_path / "one", scratch=place.as_uri(), executor=executor, num_workers=1)
    encoded.clear()
    build(tmp_path / "one", num_workers=0)
    assert encoded == ["id-6", "id-9"]
    assert content(tmp_path / "one") == undisturbed


# --- errors of the system


def test_a_disk_that_is_full_when_a_chunk_is_fetched_is_an_error_of_the_build(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path / "one", place)
    monkeypatch.setattr(scratches, "store_chunk", raising(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(BuildOSError, match=r"two.*No space left") as caught:
        build(tmp_path / "two", scratch=place.as_uri(), num_workers=0)
    assert caught.value.errno == errno.ENOSPC


def test_a_chunk_that_cannot_be_read_to_be_sent_is_an_error_of_the_build(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratches, "chunk_content", raising(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(BuildOSError, match="cannot be read") as caught:
        build(tmp_path / "one", scratch=place.as_uri(), num_workers=0)
    assert caught.value.errno == errno.EIO


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


# --- what is left of a build that is published


def leave_chunk(place: Path, name: str) -> None:
    """Put there what a worker does that counted as lost."""
    (place / name).mkdir(parents=True)
    for suffix in (".chunk", ".json"):
        (place / name / f"00000001.{'0' * 32}.{'1' * 16}{suffix}").write_bytes(b"late")


def killed_after_the_manifest(cache_dir: Any, place: Path, **options: Any) -> None:
    """Build, and end before the scratch is left."""
    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor(2) as executor:
        patched.setattr("memxlnet.builder.cache_writer.CacheWriter.leave_scratch", lambda *_: None)
        build(cache_dir, scratch=place.as_uri(), executor=executor, **options)
    assert names(place, ".chunk")


@pytest.mark.parametrize("target", ["directory", "store"])
def test_what_a_killed_builder_left_goes_with_the_next_call(tmp_path: Path, place: Path, target: str) -> None:
    cache_dir: Any = tmp_path / "caches" if target == "directory" else (tmp_path / "store").as_uri()
    options = {} if target == "directory" else {"work_dir": tmp_path / "work"}
    killed_after_the_manifest(cache_dir, place, **options)
    leave_chunk(place, "of another build")
    build(cache_dir, scratch=place.as_uri(), num_workers=0, **options)
    assert {path.parent.name for path in files(place)} == {"of another build"}
    assert not list(tmp_path.glob("*/.build-*"))


@pytest.mark.parametrize("target", ["directory", "store"])
def test_a_cache_that_is_found_takes_no_chunk_from_a_build_on_another_machine(
    tmp_path: Path, place: Path, encoded: list[str], target: str
) -> None:
    cache_dir: Any = tmp_path / "caches" if target == "directory" else (tmp_path / "store").as_uri()
    options = {"num_workers": 0} if target == "directory" else {"num_workers": 0, "work_dir": tmp_path / "work"}
    build(cache_dir, **options)
    interrupted(tmp_path / "another machine", place)
    encoded.clear()
    build(cache_dir, scratch=place.as_uri(), **options)
    build(tmp_path / "another machine", scratch=place.as_uri(), num_workers=0)
    assert encoded == ["id-9"]


def test_what_a_running_build_has_there_stays(tmp_path: Path, place: Path) -> None:
    killed_after_the_manifest(tmp_path / "caches", place)
    there = files(place)
    (name,) = (path.name for path in (tmp_path / "caches").iterdir() if not path.name.startswith("."))
    with builder_lock(lock_path(tmp_path / "caches", name), lambda: None):  # of one that builds again
        build(tmp_path / "caches", scratch=place.as_uri(), num_workers=0)
    assert files(place) == there


def test_a_store_that_cannot_be_emptied_is_no_error_of_a_cache_that_is_there(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed_after_the_manifest(tmp_path / "caches", place)
    monkeypatch.setattr(Store, "entries", raising(TransferError("the connection is gone")))
    build(tmp_path / "caches", scratch=place.as_uri(), num_workers=0)
    assert "the connection is gone" in caplog.text


# --- threads


@pytest.mark.parametrize(("url", "threads"), [("memory://tmp", {"MainThread"}), ("", {"memxlnet-fetch"})])
def test_chunks_are_fetched_in_threads_where_the_file_system_serves_them(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, url: str, threads: set[str]
) -> None:
    found: set[str] = set()
    plain = Store.fetch

    def fetch(self: Store, name: str, size: int) -> bytes | None:
        found.add(threading.current_thread().name.partition("_")[0])
        return plain(self, name, size)

    monkeypatch.setattr(Store, "fetch", fetch)
    with ThreadPoolExecutor(2) as executor:
        build(tmp_path / "one", scratch=url or place.as_uri(), executor=executor)
    assert found == threads


# --- refused before any work


@pytest.mark.parametrize(
    "arguments",
    [
        {"scratch": "no-url"},
        {"scratch": "nonesuch://bucket/tmp"},
        {"scratch": 5},
        {"scratch": "s3://key:secret@bucket/tmp"},
        {"scratch": "s3://bucket/tmp\n"},
        {"scratch_options": {"key": "AKIA"}},
        {"scratch": "file:///tmp/x", "scratch_options": 3},
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_before_any_work(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        build(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


SAME = [
    ("s3://bucket/caches", "s3://bucket/caches"),
    ("s3a://bucket/caches/", "s3://bucket/caches//"),
    ("s3://bucket/ü 🙂", "s3://bucket/ü 🙂/"),
    ("memory:///caches", "memory://caches"),
    ("file://{here}/caches/", "local://{here}/caches"),
    ("file://{here}/./caches//", "{here}/caches"),
    ("file://{here}/caches", "caches"),
    ("file://{here}/caches", "link"),
    ("s3://bucket/caches/tmp", "s3://bucket/caches"),
    ("s3://bucket/tmp", "s3://bucket/tmp/caches"),
    ("file://{here}/caches/tmp", "caches"),
    ("file://{here}", "link"),
    ("file://{here}/tmp", "/"),
]


@pytest.mark.parametrize(("scratch", "cache_dir"), SAME)
def test_the_place_of_the_caches_is_no_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scratch: str, cache_dir: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("caches")
    monkeypatch.setattr("memxlnet.builder.builder.open_source", raising(AssertionError("opened")))
    found: Any = cache_dir.format(here=tmp_path)
    with pytest.raises(SettingsError, match=r"^scratch: expected another place than cache_dir"):
        build(found, scratch=scratch.format(here=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


@pytest.mark.parametrize("place", ["work", "work/tmp", ""])
@pytest.mark.parametrize("call", ["Cache", "create_dataset_from_cache", "process_and_cache_dataset"])
def test_nor_is_the_place_where_they_are_built(tmp_path: Path, call: str, place: str) -> None:
    places = {"scratch": (tmp_path / place).as_uri(), "work_dir": tmp_path / "work"}
    with pytest.raises(SettingsError, match=r"^scratch: expected another place than work_dir"):
        CALLS[call]("memory://caches", places, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "cache_dir", ["s3://other/tmp", "s3://bucket/tmp-caches", "gs://bucket/tmp", "bucket/tmp", "file:///bucket/tmp"]
)
def test_another_place_is_one(cache_dir: str) -> None:
    assert scratches.open_scratch("s3://bucket/tmp", None, cache_dir)


ENDPOINTS: list[tuple[dict[str, Any], dict[str, Any] | None, bool]] = [
    ({"endpoint_url": "https://one"}, {"client_kwargs": {"endpoint_url": "https://other:9000"}}, True),
    ({"endpoint_url": "https://one/"}, {"client_kwargs": {"endpoint_url": "https://one"}}, False),
    ({"endpoint_url": "https://one"}, {"client_kwargs": None}, False),
    ({"endpoint_url": "https://one"}, None, False),
]


@pytest.mark.parametrize(("options", "storage_options", "apart"), ENDPOINTS, ids=map(str, range(len(ENDPOINTS))))
def test_equal_addresses_at_two_servers_are_two_places(
    options: dict[str, Any], storage_options: dict[str, Any] | None, apart: bool
) -> None:
    def call() -> object:
        return scratches.open_scratch("s3://bucket/a", options, "s3://bucket/a", storage_options=storage_options)

    if apart:
        assert call()
    else:
        with pytest.raises(SettingsError, match=r"^scratch: expected another place than cache_dir"):
            call()


@pytest.mark.parametrize("changes", [{"key": "wrong"}, {"nonesuch_option": 1}], ids=["refused", "unknown"])
def test_wrong_options_of_the_scratch_are_named_as_such(
    tmp_path: Path, bucket: s3.Bucket, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    if "key" in changes:
        monkeypatch.setattr(S3FileSystem, "_lsdir", raising(PermissionError("Access Denied")))
    with pytest.raises(MemxlnetError, match="scratch_options") as caught:
        build(tmp_path, scratch=bucket.url, scratch_options=bucket.options(**changes), num_workers=0)
    assert "storage_options" not in str(caught.value)


FEWER: dict[str, Any] = {name: value for name, value in SETTINGS.items() if name != "max_shard_rows"}
CALLS: dict[str, Callable[..., Any]] = {
    "create_dataset_from_cache": lambda cache_dir, scratch, more: create_dataset_from_cache(
        rows(), "test", cache_dir, tokenizer=golden_tokenizer(), **SETTINGS, **scratch, **more
    ),
    "Cache": lambda cache_dir, scratch, more: Cache.build(
        rows(), golden_tokenizer(), split="test", cache_dir=cache_dir, **SETTINGS, **scratch, **more
    ),
    "process_and_cache_dataset": lambda cache_dir, scratch, more: build(cache_dir, **scratch, **more),
    "Parts": lambda cache_dir, scratch, more: Parts.build(
        write_json_lines(cache_dir.parent / "rows.jsonl", rows()),
        golden_tokenizer(),
        split="test",
        cache_dir=cache_dir,
        **SETTINGS,
        **scratch,
        **more,
    ),
    "StreamingSquadProcessor": lambda _, scratch, more: StreamingSquadProcessor(
        golden_tokenizer(), **FEWER, **scratch, **more
    ).process_dataset_streaming(rows(), "test"),
    "create_streaming_processor": lambda _, scratch, more: create_streaming_processor(
        golden_tokenizer(), **FEWER, **scratch, **more
    ).process_dataset_streaming(rows(), "test"),
    "ChunkedCacheManager": lambda cache_dir, scratch, more: StreamingSquadProcessor(
        golden_tokenizer(), **FEWER, **more
    ).process_dataset_streaming(rows(), "test", cache_manager=ChunkedCacheManager(cache_dir, **scratch)),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_that_builds_takes_a_scratch(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.chdir(tmp_path)
    cache_dir = tmp_path / "memxlnet-cache"  # where a processor builds
    for wrong in ({"scratch": "no-url"}, {"scratch_options": {"key": "AKIA"}}):
        with pytest.raises(SettingsError, match=rf"^{next(iter(wrong))}:"):
            CALLS[call](cache_dir, wrong, {})
    assert not cache_dir.exists()
    with Ending(2) as executor, pytest.raises(BuildError, match="the driver is gone"):
        CALLS[call](cache_dir, {"scratch": place.as_uri()}, {"executor": executor, "num_workers": 1})
    assert len(names(place, ".chunk")) == 2
    CALLS[call](cache_dir, {"scratch": place.as_uri()}, {"num_workers": 0})
    assert files(place) == []


def test_a_cache_manager_takes_no_scratch(tmp_path: Path, place: Path) -> None:
    with pytest.raises(SettingsError, match=r"^scratch:"):
        build(tmp_path, scratch=place.as_uri(), cache_manager=ChunkedCacheManager(tmp_path), max_shard_rows=None)


# --- S3


@pytest.fixture(scope="module")
def bucket() -> Iterator[s3.Bucket]:
    with s3.server() as endpoint:
        yield s3.make_bucket(endpoint, s3.make_client(endpoint))


@pytest.mark.parametrize("way", ["here", "threads", "blind"])
def test_chunks_travel_through_s3(
    tmp_path: Path, undisturbed: dict[str, bytes], bucket: s3.Bucket, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = WAYS[way](tmp_path / "cache")
    with ExitStack() as stack:
        if isinstance(executor := options.get("executor"), Executor):
            stack.enter_context(executor)
        build(tmp_path / "cache", scratch=bucket.url, scratch_options=bucket.options(), **options)
    assert content(tmp_path / "cache") == undisturbed
    assert not bucket.client.list_objects_v2(Bucket=bucket.name).get("Contents")


def test_a_chunk_costs_three_requests(tmp_path: Path, bucket: s3.Bucket) -> None:
    with s3.calls() as made, ThreadPoolExecutor(2) as executor:
        build(tmp_path, scratch=bucket.url, scratch_options=bucket.options(), executor=executor)
    of_chunks = sorted(method for method, name in made if name.endswith(".chunk"))
    assert of_chunks == ["get_object"] * 4 + ["put_object"] * 4
    assert [method for method, name in made if re.match(r"\d{8}.*json$", name)] == ["put_object"] * 4
    assert [method for method, _ in made if "delete" in method] == ["delete_objects"]


@pytest.mark.parametrize("executor", [None, ThreadPoolExecutor], ids=["here", "threads"])
def test_odd_characters_in_places_names_splits_and_ids(tmp_path: Path, bucket: s3.Bucket, executor: Any) -> None:
    odd = "ü ñ/🙂/x%20y"
    settings: dict[str, Any] = {**SETTINGS, "tokenizer": golden_tokenizer(), "name": odd, "num_workers": None}
    settings |= {"split": odd, "cache_dir": f"s3://{bucket.name}/{odd}", "storage_options": bucket.options()}
    settings |= {"scratch": f"s3://{bucket.name}/scratch {odd}", "scratch_options": bucket.options()}
    examples = [{**row, "id": f"{odd}\u2028{row['id']}"} for row in rows()]
    with ExitStack() as stack:
        pool = None if executor is None else stack.enter_context(executor(2))
        built = Cache.build(examples, executor=pool, work_dir=tmp_path / "ü 🙂", **settings)
        found = Cache.build(examples, executor=pool, work_dir=tmp_path / "other", **settings)
    assert [built.documents.text("id", row) for row in range(len(examples))] == [example["id"] for example in examples]
    assert content(tmp_path / "other") == content(tmp_path / "ü 🙂")
    assert found.directory.name == built.directory.name
    left = [entry["Key"] for entry in bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]]
    assert {key.rpartition("/")[0] for key in left} == {f"{odd}/{built.directory.name}"}
    for key in left:
        bucket.client.delete_object(Bucket=bucket.name, Key=key)


@pytest.mark.parametrize("way", ["at once", "not supported", "in silence", "pattern"])
def test_files_are_removed_and_no_others(bucket: s3.Bucket, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    async def nothing(*_: Any) -> list[str]:
        return []

    if way != "at once":
        found = raising(NotImplementedError()) if way == "not supported" else nothing
        monkeypatch.setattr(S3FileSystem, "_bulk_delete", found)
    root = "[so]me" if way == "pattern" else "some"
    keys = [f"{root}/cache/{name}" for name in ("a", "b", "c")] + ["s/cache/a", "some/a"]
    for key in keys:
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"x")
    store = open_store(f"s3://{bucket.name}/{root}/cache", bucket.options())
    store.remove_all(["a", "b", "missing"])
    store.remove_all([])
    left = [entry["Key"] for entry in bucket.client.list_objects_v2(Bucket=bucket.name)["Contents"]]
    assert left == sorted({*keys} - {f"{root}/cache/a", f"{root}/cache/b"})
    for key in left:
        bucket.client.delete_object(Bucket=bucket.name, Key=key)


def test_a_cache_in_the_place_of_its_scratch_stays(
    tmp_path: Path, undisturbed: dict[str, bytes], bucket: s3.Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that the check of the addresses does not see, as with two names of one server.
    monkeypatch.setattr(scratches, "overlap", lambda *_: False)
    options: dict[str, Any] = {"work_dir": tmp_path / "work", "storage_options": bucket.options()}
    url: Any = f"s3://{bucket.name}/same"
    with ThreadPoolExecutor(2) as executor:
        build(url, scratch=url, scratch_options=bucket.options(), executor=executor, **options)
    found = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix="same/")["Contents"]
    assert {entry["Key"].rpartition("/")[2] for entry in found} == undisturbed.keys()
    for entry in found:
        bucket.client.delete_object(Bucket=bucket.name, Key=entry["Key"])


def test_a_bucket_that_is_missing_is_an_error_without_credentials(tmp_path: Path, bucket: s3.Bucket) -> None:
    with pytest.raises(MemxlnetError, match="nonesuch") as caught, ThreadPoolExecutor(1) as executor:
        build(tmp_path, scratch="s3://nonesuch/tmp", scratch_options=bucket.options(), executor=executor)
    assert s3.SECRET not in f"{caught.value!r} {caught.value.__notes__ if hasattr(caught.value, '__notes__') else ''}"


def test_options_are_not_shown() -> None:
    found = scratches.Scratch("memory://place", {})
    assert s3.SECRET not in repr(vars(found))
    assert repr(scratches._Options({"secret": s3.SECRET})) == "<1 options>"
