"""A system that writes fewer bytes than asked: the bytes are right in the end, or nothing is published."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from memxlnet.errors import BuildOSError, CacheDamagedError
from memxlnet.format import paths
from memxlnet.format.file_layout import lay_out
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.incoming_cache import Arrival
from memxlnet.maintain.verify import verify_bytes
from tests.format.content import files_of, make_content, publish

CONTENT = make_content(1, 4, ["a", "b"], [(0, 3), (1, 2), (0, 1), None, (1, 4)])
plain = os.pwrite

PWrite = Callable[[int, memoryview, int], int]


def part_of(view: memoryview) -> memoryview:
    return view[: len(view) // 2]


def honest(descriptor: int, view: memoryview, offset: int) -> int:
    """Write a half, and return its size."""
    return plain(descriptor, part_of(view) if len(view) > 1 else view, offset)


def lying(descriptor: int, view: memoryview, offset: int) -> int:
    """Write a half, and claim that it was all."""
    plain(descriptor, part_of(view), offset)
    return len(view)


def nothing(descriptor: int, view: memoryview, offset: int) -> int:
    return 0


class At:
    """A `pwrite` that is another one at one of its calls."""

    def __init__(self, number: int, other: PWrite):
        self.calls = 0
        self._number = number
        self._other = other

    def __call__(self, descriptor: int, view: memoryview, offset: int) -> int:
        self.calls += 1
        return (self._other if self.calls - 1 == self._number else plain)(descriptor, view, offset)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return files_of(publish(CONTENT, tmp_path_factory.mktemp("whole"), [2]).directory)


def test_every_write_in_parts_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    monkeypatch.setattr(os, "pwrite", honest)
    assert files_of(publish(CONTENT, tmp_path, [2]).directory) == expected


def test_all_that_a_build_writes_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    """There is no other way to write than the counted one: every byte of every file goes through it."""
    written: dict[str, int] = {}

    def count(descriptor: int, view: memoryview, offset: int) -> int:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        written[name] = max(written.get(name, 0), offset + len(view))
        return plain(descriptor, view, offset)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc/self/fd")
    monkeypatch.setattr(os, "pwrite", count)
    publish(CONTENT, tmp_path, [2])
    for name, content in expected.items():
        assert written[f"{name}.tmp" if name == "manifest.json" else name] == len(content), name
    assert sum(name.startswith("0000000") for name in written) == 3  # chunks


def test_a_system_that_takes_nothing_is_an_error_and_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = At(-1, plain)
    monkeypatch.setattr(os, "pwrite", counting)
    publish(CONTENT, tmp_path / "counted", [2])
    assert counting.calls > 50
    for number in range(0, counting.calls, 15):
        monkeypatch.setattr(os, "pwrite", At(number, nothing))
        with pytest.raises(BuildOSError) as caught:
            publish(CONTENT, tmp_path / str(number), [2])
        assert caught.value.errno == errno.EIO
        assert not [path for path in (tmp_path / str(number)).iterdir() if not path.name.startswith(".")]


def test_a_laid_out_file_that_is_cut_anywhere_is_never_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    """Where the system itself claims more than it wrote, in each write of the file's structure."""
    counting = At(-1, plain)
    number = 0
    messages: list[str] = []
    while number == 0 or number < counting.calls:
        counting = At(number, lying)

        def damaged(*arguments: object) -> dict[str, int]:
            with monkeypatch.context() as patched:
                patched.setattr(os, "pwrite", counting)  # noqa: B023 - called within the loop
                return lay_out(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr("memxlnet.builder.chunks_to_shards.lay_out", damaged)
        cache_dir = tmp_path / str(number)
        try:
            directory = publish(CONTENT, cache_dir, [2]).directory
        except BuildOSError as error:
            messages.append(str(error))
            assert not [path for path in cache_dir.iterdir() if not path.name.startswith(".")]
        else:
            assert files_of(directory) == expected  # what was not written was zeros
        number += 1
    assert len(messages) >= 6
    assert [text for text in messages if "features-00000.arrow" not in text or "check the disk" not in text] == []


DAMAGE = {
    "magic at the start": lambda raw: b"\0" * 8 + raw[8:],
    "schema at the start": lambda raw: raw[:8] + b"\0" * 400 + raw[408:],
    "another schema at the start": lambda raw: raw.replace(b"memxlnet.row_stop", b"memxlnet.row_stoq", 1),
    "end of the stream": lambda raw: raw[: end_of_stream(raw)] + b"\0" * 8 + raw[end_of_stream(raw) + 8 :],
    "footer": lambda raw: raw[:-200] + b"\0" * 150 + raw[-50:],
    "magic at the end": lambda raw: raw[:-3] + b"\0" * 3,
}


def end_of_stream(raw: bytes) -> int:
    """Where the marker lies that ends the messages: before the footer, whose length stands before the last magic."""
    return len(raw) - 10 - int.from_bytes(raw[-10:-6], "little") - 8


@pytest.mark.parametrize("name", ["features-00000.arrow", "documents-00000.arrow", "contexts-00000.arrow"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_every_part_of_the_structure_is_looked_at_before_publishing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    """Whoever wrote it, and although the manifest has the checksum of the damaged file."""
    finished = "memxlnet.builder.chunks_to_shards.finished_file"
    from memxlnet.builder.chunks_to_shards import finished_file

    def damaged(path: Path) -> object:
        if path.name == name:
            raw = path.read_bytes()
            assert DAMAGE[damage](raw) != raw
            path.write_bytes(DAMAGE[damage](raw))
        return finished_file(path)

    monkeypatch.setattr(finished, damaged)
    with pytest.raises(BuildOSError, match=name):
        publish(CONTENT, tmp_path, [2])
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    # One that was published before there was this check is damaged for opening or for `verify`.
    with monkeypatch.context() as patched:
        patched.setattr(PublishedCache, "check_messages", lambda _: None)
        try:
            directory = publish(CONTENT, tmp_path / "unchecked", [2]).directory
        except BuildOSError:
            return  # opening finds it
    with pytest.raises(CacheDamagedError, match=name):
        verify_bytes(directory)
    # Nor does it arrive anywhere.
    arrival = Arrival(tmp_path / "near", (directory / "manifest.json").read_bytes(), "far://away")
    with arrival.lock():
        for record in arrival.missing():
            arrival.part(record).write_bytes((directory / record.file).read_bytes())
            arrival.accept(record, arrival.part(record))
        with pytest.raises(CacheDamagedError, match="far://away/"):
            arrival.publish()
    assert not (tmp_path / "near" / directory.name).exists()


def test_a_rebuild_that_writes_too_little_leaves_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    directory = publish(CONTENT, tmp_path, [2]).directory
    with monkeypatch.context() as patched:
        patched.setattr("memxlnet.builder.shard_filling.write_values", lambda *_: paths.write_all(-1, b"", 0))
        patched.setattr(PublishedCache, "check_messages", fail)
        with pytest.raises(BuildOSError):
            publish(CONTENT, tmp_path, [2])
    assert files_of(directory) == expected
    PublishedCache(directory).check_messages()


def fail(_: PublishedCache) -> None:
    raise CacheDamagedError("damaged")
