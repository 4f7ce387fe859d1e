"""The files of a lazy cache's shards: fetched by one, shared by all, removed only where nobody uses them."""

import os
from pathlib import Path

import pytest

from memxlnet.format.checksums import digest
from memxlnet.format.manifest import ShardRecord
from memxlnet.maintain.shard_files import ShardFiles, num_readers, register_reader

CONTENT = [bytes([number]) * 100 for number in range(5)]
RECORDS = [
    ShardRecord(f"features-{number:05d}.arrow", len(content), digest(content), number, number + 1)
    for number, content in enumerate(CONTENT)
]


def files(directory: Path, limit: int | None = None) -> ShardFiles:
    """Those of a process."""
    return ShardFiles(directory, RECORDS, limit)


def fetch(of: ShardFiles, number: int) -> int:
    """Fetch a shard, and return what holds it."""
    descriptor = of.begin(number)
    assert descriptor is not None
    assert of.make_room(number)
    of.part(number).write_bytes(CONTENT[number])
    assert of.finish(number, descriptor)
    return descriptor


def here(directory: Path) -> list[int]:
    return [number for number, record in enumerate(RECORDS) if (directory / record.file).exists()]


def test_one_fetches_and_the_others_find_it(tmp_path: Path) -> None:
    one, other = files(tmp_path), files(tmp_path)
    assert one.hold(0) is None
    begun = one.begin(0)
    assert begun is not None
    assert other.begin(0) is None
    one.part(0).write_bytes(CONTENT[0])
    assert one.finish(0, begun)
    assert other.begin(0) is None
    held = other.hold(0)
    assert held is not None
    assert [path.name for path in tmp_path.iterdir()] == [RECORDS[0].file]
    for descriptor in (begun, held):
        os.close(descriptor)


def test_what_has_arrived_stays_for_the_next_fetch(tmp_path: Path) -> None:
    one = files(tmp_path)
    for content in (b"", b"begun"):
        descriptor = one.begin(0)
        assert descriptor is not None
        one.part(0).write_bytes(content)
        one.give_up(0, descriptor)
        assert one.part(0).exists() == bool(content)


def test_the_least_recently_used_goes_first_and_none_in_use(tmp_path: Path) -> None:
    one, other = files(tmp_path, 300), files(tmp_path, 300)
    held = [fetch(one, number) for number in range(3)]
    begun = one.begin(3)
    assert begun is not None
    assert not one.make_room(3)
    assert here(tmp_path) == [0, 1, 2]
    for number in (1, 0):
        one.release(held[number])
        os.utime(one.path(number), ns=(number, (2 - number) * 10**9))
    kept = other.hold(1)
    assert one.make_room(3)
    assert here(tmp_path) == [1, 2]
    assert not other.make_room(4)  # what is fetched counts as a whole
    for descriptor in (held[2], begun, kept):
        assert descriptor is not None
        os.close(descriptor)


def test_files_beyond_a_limit_that_was_lowered_are_removed(tmp_path: Path) -> None:
    for number in range(5):
        os.close(fetch(files(tmp_path), number))
        os.utime(files(tmp_path).path(number), ns=(0, number))
    assert files(tmp_path, 200).make_room()
    assert here(tmp_path) == [3, 4]


def test_a_descriptor_that_a_fork_has_copied_keeps_no_lock(tmp_path: Path) -> None:
    one = files(tmp_path, 200)
    begun = one.begin(0)
    assert begun is not None
    copies = [os.dup(begun)]
    one.part(0).write_bytes(b"begun")
    one.give_up(0, begun)
    held = fetch(one, 0)
    copies.append(os.dup(held))
    one.release(held)
    for number in (1, 2):
        one.release(fetch(one, number))
    assert here(tmp_path) == [1, 2]
    for copy in copies:
        os.close(copy)


@pytest.mark.parametrize("wrong", [b"x" * 100, b"short"])
def test_a_damaged_file_is_removed(tmp_path: Path, wrong: bytes) -> None:
    os.close(fetch(files(tmp_path), 0))
    (tmp_path / RECORDS[0].file).write_bytes(wrong)
    assert files(tmp_path).hold(0) is None
    assert here(tmp_path) == []


def test_readers_count_while_they_live(tmp_path: Path) -> None:
    assert num_readers(tmp_path) == 0
    readers = [register_reader(tmp_path) for _ in range(2)]
    assert num_readers(tmp_path) == 2
    for left, descriptor in zip((1, 0), readers, strict=True):
        os.close(descriptor)
        assert num_readers(tmp_path) == left
