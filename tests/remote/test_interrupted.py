"""A transfer that ends early leaves no cache, loses nothing that arrived, and resumes where it ended."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from memxlnet.errors import CacheNotFoundError, TransferError
from memxlnet.remote import stores
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from memxlnet.remote.stores import Store
from tests.format.content import files_of
from tests.remote.cutting_proxy import CuttingProxy
from tests.remote.s3 import Bucket, calls
from tests.support import slow

pytestmark = pytest.mark.usefixtures("small_blocks")


def size(directory: Path) -> int:
    return sum(len(content) for content in files_of(directory).values())


def staging(cache_dir: Path) -> Path:
    (found,) = cache_dir.glob(".arriving-*")
    return found


def arrived(cache_dir: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in staging(cache_dir).iterdir()}


@pytest.mark.parametrize(
    "share", [0.5, pytest.param(0.1, marks=pytest.mark.slow), pytest.param(0.9, marks=pytest.mark.slow)]
)
def test_a_push_that_is_cut_leaves_no_cache_and_resumes(
    cache: Path, bucket: Bucket, proxy: CuttingProxy, tmp_path: Path, share: float
) -> None:
    proxy.cut_after(up=int(share * size(cache)))
    with pytest.raises(TransferError, match=r"^s3://") as raised:
        push(cache, bucket.url, storage_options=bucket.options(endpoint_url=proxy.endpoint))
    assert raised.value.__cause__ is not None
    before = set(bucket.files())
    assert "manifest.json" not in before
    with pytest.raises(CacheNotFoundError):
        pull(bucket.url, tmp_path / "here", storage_options=bucket.options())
    proxy.heal()
    with calls() as made:
        push(cache, bucket.url, storage_options=bucket.options(endpoint_url=proxy.endpoint))
    written = {name for method, name in made if method == "put_object"}
    assert written == set(files_of(cache)) - before
    assert bucket.files() == files_of(cache)


@pytest.mark.parametrize(
    "share", [0.5, pytest.param(0.2, marks=pytest.mark.slow), pytest.param(0.9, marks=pytest.mark.slow)]
)
def test_a_pull_that_is_cut_leaves_no_cache_and_resumes(
    cache: Path, bucket: Bucket, proxy: CuttingProxy, tmp_path: Path, share: float
) -> None:
    bucket.fill(cache)
    options = bucket.options(endpoint_url=proxy.endpoint)
    proxy.cut_after(down=int(share * size(cache)))
    with pytest.raises(TransferError, match=r"^s3://"):
        pull(bucket.url, tmp_path / "here", storage_options=options)
    assert not (tmp_path / "here" / cache.name).exists()
    kept = sum(arrived(tmp_path / "here").values())
    assert kept > 0
    proxy.heal()
    before = proxy.down
    fetched = pull(bucket.url, tmp_path / "here", storage_options=options)
    assert files_of(fetched) == files_of(cache)
    headers = 40 * 600  # an upper bound on what all answers hold beside the files
    assert proxy.down - before < size(cache) - kept + headers
    assert [path.name for path in (tmp_path / "here").iterdir()] == [cache.name]


def test_a_file_resumes_at_the_byte_where_it_ended(
    cache: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket.fill(cache)
    asked = interrupt(monkeypatch, "features-00001.arrow", KeyboardInterrupt, blocks=3)
    with pytest.raises(KeyboardInterrupt):
        pull(bucket.url, tmp_path / "here", storage_options=bucket.options())
    assert arrived(tmp_path / "here")["features-00001.arrow.part"] == 3 * 4096
    monkeypatch.undo()
    asked = interrupt(monkeypatch, "none", KeyboardInterrupt, blocks=0)
    fetched = pull(bucket.url, tmp_path / "here", storage_options=bucket.options())
    assert ("features-00001.arrow", 3 * 4096) in asked
    assert "features-00000.arrow" not in {name for name, _ in asked}
    assert files_of(fetched) == files_of(cache)


def interrupt(
    monkeypatch: pytest.MonkeyPatch, name: str, error: type[BaseException], blocks: int
) -> list[tuple[str, int]]:
    """Raise after so many blocks of a file; return the files that are read, each with its first byte."""
    asked: list[tuple[str, int]] = []
    read = Store.blocks

    def stopping(self: Store, file: str, start: int, stop: int) -> Iterator[bytes]:
        asked.append((file, start))
        for number, block in enumerate(read(self, file, start, stop)):
            if file == name and number == blocks:
                raise error
            yield block

    monkeypatch.setattr(Store, "blocks", stopping)
    return asked


@pytest.mark.parametrize("begun", [slow("garbage"), slow("too long"), slow("whole"), "whole but wrong", slow("empty")])
def test_what_an_earlier_transfer_left_is_never_trusted(
    cache: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, begun: str
) -> None:
    bucket.fill(cache)
    right = (cache / "features-00000.arrow").read_bytes()
    left = {
        "garbage": b"x" * 5000,
        "too long": right + b"more",
        "whole": right,
        "whole but wrong": b"x" + right[1:],
        "empty": b"",
    }[begun]
    place = tmp_path / "here" / f".arriving-{cache.name}"
    place.mkdir(parents=True)
    (place / "features-00000.arrow.part").write_bytes(left)
    (place / "features-00001.arrow").write_bytes(b"x" * (cache / "features-00001.arrow").stat().st_size)
    (place / "foreign").mkdir()
    asked = interrupt(monkeypatch, "none", KeyboardInterrupt, blocks=0)
    fetched = pull(bucket.url, tmp_path / "here", storage_options=bucket.options())
    assert files_of(fetched) == files_of(cache)
    starts = [start for name, start in asked if name == "features-00000.arrow"]
    assert (
        starts
        == {
            "garbage": [5000, 0],
            "too long": [0],
            "whole": [len(right)],
            "whole but wrong": [len(right), 0],
            "empty": [0],
        }[begun]
    )


@pytest.mark.slow
def test_the_room_of_what_has_arrived_is_not_asked_for_again(
    cache: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket.fill(cache)
    interrupt(monkeypatch, "features-00001.arrow", KeyboardInterrupt, blocks=3)
    with pytest.raises(KeyboardInterrupt):
        pull(bucket.url, tmp_path / "here", storage_options=bucket.options())
    monkeypatch.undo()
    kept = sum(arrived(tmp_path / "here").values())
    wanted = size(cache) - (cache / "manifest.json").stat().st_size - kept
    monkeypatch.setattr("shutil.disk_usage", lambda path: Free(wanted - 1))
    with pytest.raises(TransferError, match=f"{wanted:,}.*{wanted - 1:,}"):
        pull(bucket.url, tmp_path / "here", storage_options=bucket.options())
    monkeypatch.setattr("shutil.disk_usage", lambda path: Free(wanted))
    assert files_of(pull(bucket.url, tmp_path / "here", storage_options=bucket.options())) == files_of(cache)


class Free:
    def __init__(self, free: int):
        self.free = free


def test_a_server_that_is_gone_is_no_missing_cache(cache: Path, bucket: Bucket, tmp_path: Path) -> None:
    options = bucket.options(endpoint_url="http://127.0.0.1:1")
    with pytest.raises(TransferError, match=r"manifest\.json:.*Error"):
        pull(bucket.url, tmp_path / "here", storage_options=options)
    with pytest.raises(TransferError, match=r"manifest\.json:.*Error"):
        push(cache, bucket.url, storage_options=options)


def test_ram_is_that_of_some_blocks(cache: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.fill(cache)
    ranges = Store._ranges
    most = 0

    def measure(self: Store, path: str, starts: list[int], stops: list[int]) -> list[bytes]:
        nonlocal most
        found = ranges(self, path, starts, stops)
        most = max(most, sum(map(len, found)))
        return found

    monkeypatch.setattr(Store, "_ranges", measure)
    push(cache, bucket.url, storage_options=bucket.options())
    assert most == stores.BLOCK_BYTES * stores.BLOCKS_AT_ONCE
