"""A cache on its way: what arrived stays, what is wrong does not, and the manifest comes last."""

import contextlib
import errno
import json
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.errors import (
    CacheDamagedError,
    CacheDirectoryError,
    CacheMismatchError,
    TransferError,
)
from memxlnet.format.checksums import file_digest
from memxlnet.format.manifest import FileRecord, find_caches
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.incoming_cache import Arrival
from memxlnet.maintain.lock import is_held, lock_path
from memxlnet.maintain.removal import find_leftovers, remove_leftovers
from memxlnet.system_errors import system_hint
from tests.format.content import chunks, files_of, make_content, publish, read_tables, settings, tables_of
from tests.support import ROOT

CONTENT = make_content(1, 4, ["a", "b"], [(0, 3), (1, 2), (0, 1), None])
OTHER = make_content(2, 4, ["c"], [(0, 5)])
NAME = settings(4).directory_name


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """The cache where it comes from."""
    return publish(CONTENT, tmp_path / "far", [2]).directory


@pytest.fixture
def near(tmp_path: Path) -> Path:
    """The directory of caches where it goes."""
    return tmp_path / "near"


def arrive(near: Path, far: Path) -> Arrival:
    return Arrival(near, (far / "manifest.json").read_bytes(), "far://away")


def bring(arrival: Arrival, far: Path, record: FileRecord, content: bytes | None = None) -> None:
    """Fetch one file, or something else in its place."""
    part = arrival.part(record)
    part.write_bytes((far / record.file).read_bytes() if content is None else content)
    arrival.accept(record, part)


def fetch(near: Path, far: Path) -> Path:
    arrival = arrive(near, far)
    with arrival.lock():
        for record in arrival.missing():
            bring(arrival, far, record)
        return arrival.publish()


def records(far: Path) -> dict[str, FileRecord]:
    return {record.file: record for record in PublishedCache(far).manifest.all_files()}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- the whole way


def test_a_cache_arrives_byte_for_byte(near: Path, far: Path) -> None:
    arrival = arrive(near, far)
    assert arrival.find() is None
    assert fetch(near, far) == arrival.directory == near / NAME
    assert files_of(near / NAME) == files_of(far)
    assert read_tables(PublishedCache(near / NAME)) == tables_of(CONTENT)
    assert arrival.find() == near / NAME
    assert names(near) == [NAME]


def test_it_has_the_name_of_its_fingerprint_wherever_it_lay(near: Path, far: Path, tmp_path: Path) -> None:
    assert fetch(near, far.rename(tmp_path / "far" / "renamed")).name == NAME


def test_nothing_is_a_cache_before_the_last_step(near: Path, far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrival = arrive(near, far)
    seen = []

    def note(*_: object) -> None:
        seen.append((names(arrival.staging), list(find_caches(near)), (near / NAME).exists()))

    with arrival.lock():
        for record in arrival.missing():
            bring(arrival, far, record)
            note()
        monkeypatch.setattr("memxlnet.maintain.incoming_cache.sync", note)
        arrival.publish()
    assert [(found, is_there) for _, found, is_there in seen] == [([], False)] * len(seen)
    *before, last = [staged for staged, _, _ in seen]
    assert all("manifest.json" not in staged for staged in before)
    assert last == names(far)


# --- what is there already


def test_what_has_arrived_is_not_fetched_again(near: Path, far: Path) -> None:
    arrival = arrive(near, far)
    with arrival.lock():
        first, second, *rest = arrival.missing()
        assert [first, second, *rest] == list(records(far).values())
        bring(arrival, far, first)
        bring(arrival, far, second)
    again = arrive(near, far)
    with again.lock():
        assert again.missing() == rest
    assert list(find_caches(near)) == []


@pytest.mark.parametrize("damage", ["shorter", "longer", "another byte"])
def test_what_lies_there_wrong_is_fetched_again(near: Path, far: Path, damage: str) -> None:
    arrival = arrive(near, far)
    record = records(far)["tokenizer.json"]
    with arrival.lock():
        for each in arrival.missing():
            bring(arrival, far, each)
        path = arrival.staging / record.file
        content = path.read_bytes()
        path.write_bytes({"shorter": content[:-1], "longer": content + b" "}.get(damage, b"x" + content[1:]))
    again = arrive(near, far)
    with again.lock():
        assert again.missing() == [record]
        bring(again, far, record)
        assert again.missing() == []
        again.publish()
    assert files_of(near / NAME) == files_of(far)


def test_a_published_one_is_found_only_where_it_is_the_same(near: Path, far: Path, tmp_path: Path) -> None:
    other = publish(OTHER, tmp_path / "other", [1], split="other").directory
    fetch(near, other).rename(near / NAME)
    with pytest.raises(CacheMismatchError, match=r"expected the cache of far://away .* choose another cache_dir"):
        arrive(near, far).find()
    shutil.rmtree(near / NAME)
    (fetch(near, far) / "tokenizer.json").unlink()
    with pytest.raises(CacheDamagedError, match=r"tokenizer\.json"):
        arrive(near, far).find()


def obtain(near: Path, far: Path, **options: Any) -> Path:
    arrival = arrive(near, far)

    def bring_all() -> None:
        for record in arrival.missing():
            bring(arrival, far, record)

    return arrival.obtain(bring_all, **options)


def test_another_cache_of_the_same_name_stays_unless_it_shall_go(near: Path, far: Path, tmp_path: Path) -> None:
    """Sixteen digits of two fingerprints are equal."""
    other = publish(OTHER, tmp_path / "other", [1], split="other").directory
    kept = files_of(fetch(near, other).rename(near / NAME))
    with pytest.raises(CacheMismatchError, match="or this"):
        obtain(near, far, hint="or this")
    assert files_of(near / NAME) == kept
    assert files_of(obtain(near, far, replace=True)) == files_of(far)
    assert [path.name for path in near.iterdir()] == [NAME]


@pytest.mark.parametrize(
    ("lay", "found"),
    [
        (lambda place: (place / "folder").mkdir(parents=True), "a directory without manifest"),
        (lambda place: place.write_text("mine"), "what is no directory"),
        (lambda place: place.symlink_to("nowhere"), "what is no directory"),
    ],
)
def test_what_is_no_cache_stays_unless_it_shall_go(near: Path, far: Path, lay: Any, found: str) -> None:
    near.mkdir()
    lay(near / NAME)
    before = (near / NAME).lstat()
    with pytest.raises(CacheDirectoryError, match=f"{NAME}: expected a cache or nothing, found {found}; move it away"):
        obtain(near, far)
    assert (near / NAME).lstat() == before
    assert names(near) == [NAME]
    assert files_of(obtain(near, far, replace=True)) == files_of(far)
    assert [path.name for path in near.iterdir()] == [NAME]


def test_a_place_that_cannot_be_read_is_not_taken_for_nothing(
    near: Path, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (near / NAME).mkdir(parents=True)

    def fail(_: Path) -> Iterator[Path]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", fail)
    with pytest.raises(CacheDirectoryError, match="cannot be read: Permission denied; restore access"):
        obtain(near, far)


def test_a_manifest_that_cannot_be_read_is_not_taken_for_nothing(near: Path, far: Path) -> None:
    (near / NAME / "manifest.json").mkdir(parents=True)
    with pytest.raises(CacheDirectoryError, match="Is a directory"):
        obtain(near, far)
    assert names(near / NAME) == ["manifest.json"]


def test_an_empty_directory_is_nothing(near: Path, far: Path) -> None:
    (near / NAME).mkdir(parents=True)
    assert files_of(obtain(near, far)) == files_of(far)


def test_what_was_accepted_is_not_read_again(near: Path, far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrival = arrive(near, far)
    with arrival.lock():
        for record in arrival.missing():
            bring(arrival, far, record)
        monkeypatch.setattr("memxlnet.maintain.incoming_cache.file_digest", None)
        assert arrival.missing() == []


# --- what is wrong


@pytest.mark.parametrize("damage", ["empty", "shorter", "longer", "another byte"])
def test_a_file_that_arrived_wrong_is_refused_and_removed(near: Path, far: Path, damage: str) -> None:
    arrival = arrive(near, far)
    record = records(far)["documents-00000.arrow"]
    content = (far / record.file).read_bytes()
    changed = {"empty": b"", "shorter": content[:-1], "longer": content + b"\0"}.get(damage, b"x" + content[1:])
    with arrival.lock():
        arrival.missing()
        with pytest.raises(TransferError) as caught:
            bring(arrival, far, record, changed)
        assert names(arrival.staging) == []
        assert record in arrival.missing()
    text = str(caught.value)
    assert text.startswith(
        f"far://away/{record.file}: expected {record.bytes} bytes with the checksum {record.xxh3_128}"
    )
    assert f"found {len(changed)} bytes with " in text
    assert record.xxh3_128 not in text.split("found")[1]


def test_a_checksum_that_was_taken_on_the_way_is_believed(near: Path, far: Path) -> None:
    arrival = arrive(near, far)
    record = records(far)["tokenizer.json"]
    with arrival.lock():
        arrival.missing()
        part = arrival.part(record)
        shutil.copy(far / record.file, part)
        with pytest.raises(TransferError):
            arrival.accept(record, part, "0" * 32)
        shutil.copy(far / record.file, part)
        arrival.accept(record, part, file_digest(part))
        assert names(arrival.staging) == [record.file]


@pytest.mark.parametrize(
    ("change", "kind"),
    [({"schema_version": 99}, CacheMismatchError), ({"dropped_examples": 9}, CacheDamagedError), ({}, None)],
)
def test_a_manifest_that_cannot_be_read_is_refused_at_once(
    near: Path, far: Path, change: dict[str, Any], kind: type[Exception] | None
) -> None:
    content = json.dumps({**json.loads((far / "manifest.json").read_bytes()), **change}).encode()
    if kind is None:
        Arrival(near, content, "far://away")
    else:
        with pytest.raises(kind, match=r"^far://away/manifest\.json: "):
            Arrival(near, content, "far://away")
    assert not near.exists()


def test_files_that_do_not_make_up_a_cache_are_not_published(near: Path, far: Path, tmp_path: Path) -> None:
    """Every file has its checksum, but one of them belongs to another cache."""
    swapped = Path(shutil.copytree(far, tmp_path / "swapped"))
    other = publish(OTHER, tmp_path / "other", [1]).directory
    name = "features-00000.arrow"
    shutil.copy(other / name, swapped / name)
    manifest = PublishedCache(far).manifest
    table = manifest.tables["features"]
    shard = table.shards[0]
    record = type(shard)(name, (swapped / name).stat().st_size, file_digest(swapped / name), 0, shard.row_stop)
    manifest.tables["features"] = type(table)(table.rows, table.batch_rows, (record,))
    (swapped / "manifest.json").write_bytes(manifest.encode())
    with pytest.raises(CacheDamagedError, match="not the file that the manifest names") as caught:
        fetch(near, swapped)
    assert str(caught.value).startswith(f"far://away/{name}: ")
    assert str(caught.value).endswith("; send the cache again")
    assert list(find_caches(near)) == []
    assert [each.kind for each in find_leftovers(near)] == ["arrival"]
    # What is left of it does not spoil the next transfer.
    assert files_of(fetch(near, far)) == files_of(far)


def test_what_the_manifest_does_not_name_is_not_published(near: Path, far: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "kept").write_bytes(b"kept")
    arrival = arrive(near, far)
    with arrival.lock():
        for record in arrival.missing():
            bring(arrival, far, record)
        (arrival.staging / "features-00001.arrow").write_bytes(b"of an earlier cache")
        (arrival.staging / "tokenizer.json.part").write_bytes(b"of a killed transfer")
        (arrival.staging / "folder").mkdir()
        (arrival.staging / "folder" / "file").write_bytes(b"")
        (arrival.staging / "link").symlink_to(precious)
        assert files_of(arrival.publish()) == files_of(far)
    assert names(precious) == ["kept"]


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    near: Path, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Disk(NamedTuple):
        free: int

    arrival = arrive(near, far)
    total = arrival.manifest.num_bytes
    with arrival.lock():
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(total - 1))
        with pytest.raises(
            TransferError, match=rf"near: expected room for {total:,} bytes of far://away, found {total - 1:,}"
        ):
            arrival.missing()
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(total))
        first, *rest = arrival.missing()
        bring(arrival, far, first)
        # What is there already needs no room.
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(total - first.bytes))
        assert arrival.missing() == rest


def test_a_file_that_cannot_be_read_is_told(near: Path, far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    arrival = arrive(near, far)
    with arrival.lock():
        bring(arrival, far, arrival.missing()[0])
        monkeypatch.setattr("memxlnet.maintain.incoming_cache.file_digest", fail)
        with pytest.raises(TransferError, match="cannot be read: Permission denied; remove it"):
            arrive(near, far).missing()


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (OSError(errno.ENOSPC, "No space left"), TransferError, "No space left.*: make room and fetch it again"),
        (IsADirectoryError(errno.EISDIR, "Is a directory"), TransferError, "remove what is in the way and fetch"),
        (FileNotFoundError(errno.ENOENT, "No such file"), TransferError, "check the disk and fetch it again"),
        (OSError(errno.EROFS, "Read-only"), CacheDirectoryError, "restore access, or choose another cache_dir"),
    ],
)
def test_errors_of_the_disk_are_told(near: Path, far: Path, error: OSError, kind: type[Exception], text: str) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(kind, match=f"{NAME}: cannot be written: .*{text}") as caught:
        arrive(near, far).obtain(fail)
    assert caught.value.__cause__ is error


def test_only_errors_of_the_disk_have_a_way_out_there() -> None:
    assert system_hint(OSError(errno.ENOSPC, "full")) == "make room"
    assert system_hint(PermissionError(errno.EPERM, "no")) == "restore access"
    # The number is that of another list.
    assert system_hint(ssl.SSLError(errno.EPERM, "certificate")) is None
    assert system_hint(ConnectionResetError(errno.ECONNRESET, "reset")) is None
    assert system_hint(ValueError("x")) is None


def test_a_cache_directory_that_cannot_be_one(far: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(CacheDirectoryError, match="file: expected a directory that can be created"),
        arrive(tmp_path / "file", far).lock(),
    ):
        pass

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("memxlnet.maintain.lock.builder_lock", fail)
    with (
        pytest.raises(CacheDirectoryError, match=r"cannot be locked: .*Read-only file system"),
        arrive(tmp_path / "near", far).lock(),
    ):
        pass


# --- several processes


HOLDER = """
import sys
from pathlib import Path
from memxlnet.maintain.incoming_cache import Arrival
far, near = Path(sys.argv[1]), Path(sys.argv[2])
arrival = Arrival(near, (far / "manifest.json").read_bytes(), "far://away")
with arrival.lock():
    print("ready", flush=True)
    sys.stdin.readline()
    for record in arrival.missing():
        part = arrival.part(record)
        part.write_bytes((far / record.file).read_bytes())
        arrival.accept(record, part)
    arrival.publish()
"""


@contextlib.contextmanager
def fetching(far: Path, near: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the lock, and fetches when it is told to."""
    command = [sys.executable, "-c", HOLDER, str(far), str(near)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def test_one_fetches_and_the_other_waits_for_it(
    near: Path, far: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("memxlnet.maintain.lock.WAIT_SECONDS", 0.05)
    arrival = arrive(near, far)
    found: list[Path | None] = []

    def wait() -> None:
        with arrival.lock():
            found.append(arrival.find())

    with fetching(far, near) as process:
        assert is_held(lock_path(near, NAME))
        assert arrival.find() is None
        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        waiting.join(60)
        assert process.wait(60) == 0
    assert found == [near / NAME]
    # It is told once, however long it takes.
    assert caplog.messages == [f"{near / NAME}: waiting for another process that builds or fetches it"]


def test_one_that_was_killed_leaves_the_lock_and_its_files(near: Path, far: Path) -> None:
    with fetching(far, near) as process:
        arrival = arrive(near, far)
        arrival.staging.mkdir()
        bring(arrival, far, records(far)["tokenizer.json"])
        process.kill()
        process.wait(60)
        with arrival.lock():
            assert records(far)["tokenizer.json"] not in arrival.missing()


def test_the_lock_is_that_of_a_builder(near: Path, far: Path) -> None:
    with arrive(near, far).lock():
        assert is_held(lock_path(near, NAME))
    assert names(near) == []


# --- what is left


def test_an_interrupted_transfer_is_found_and_removed(near: Path, far: Path) -> None:
    arrival = arrive(near, far)
    with arrival.lock():
        bring(arrival, far, arrival.missing()[0])
        assert {(each.path, each.kind, each.in_use) for each in find_leftovers(near)} == {
            (arrival.staging, "arrival", True),
            (lock_path(near, NAME), "lock", True),
        }
        assert remove_leftovers(near) == []
    (found,) = find_leftovers(near)
    assert (found.path.name, found.kind, found.in_use) == (f".arriving-{NAME}", "arrival", False)
    assert found.num_bytes == sum(map(len, files_of(arrival.staging).values())) > 0
    assert remove_leftovers(near) == [found]
    assert names(near) == []
    assert files_of(fetch(near, far)) == files_of(far)


def test_what_has_arrived_can_be_discarded(near: Path, far: Path) -> None:
    arrival = arrive(near, far)
    with arrival.lock():
        bring(arrival, far, arrival.missing()[0])
        arrival.discard()
        assert not arrival.staging.exists()
        arrival.discard()
        assert len(arrival.missing()) == len(records(far))


def test_a_kill_within_the_last_step_loses_nothing(near: Path, far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("memxlnet.maintain.incoming_cache.put_in_place", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(near, far)
    assert list(find_caches(near)) == []
    again = arrive(near, far)
    with again.lock():
        assert again.missing() == []
        again.publish()
    assert files_of(near / NAME) == files_of(far)


# --- readers


def test_what_a_reader_has_mapped_stays(near: Path, far: Path, tmp_path: Path) -> None:
    """The same cache of other bytes: cut into several shards."""
    other = publish(CONTENT, tmp_path / "other", [2], max_shard_rows=2).directory
    assert other.name == far.name
    reader = PublishedCache(fetch(near, far))
    expected = read_tables(reader)
    assert fetch(near, other) == reader.directory
    assert len(PublishedCache(near / NAME).features) > len(reader.features)
    assert read_tables(reader) == expected == read_tables(PublishedCache(near / NAME))
    assert names(near) == [NAME]
    shutil.rmtree(near / NAME)
    assert read_tables(reader) == expected


def test_the_chunks_of_a_build_of_the_same_cache_stay(near: Path, far: Path) -> None:
    writer = CacheWriter(near)
    writer.begin(settings(4))
    writer.write_chunk(0, next(chunks(CONTENT, [2])))
    fetch(near, far)
    assert names(near) == [f".build-{NAME}", NAME]
    assert set(CacheWriter(near).begin(settings(4))) == {0}
