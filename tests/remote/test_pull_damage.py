"""What a pull refuses: whatever lies in the store, and whatever the disk does."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memxlnet.errors import (
    CacheDamagedError,
    CacheDirectoryError,
    CacheError,
    CacheMismatchError,
    CacheNotFoundError,
    TransferError,
)
from memxlnet.format.checksums import digest
from memxlnet.format.fingerprint import canonical_json
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from tests.format.content import files_of
from tests.format.forging import seal


@pytest.fixture
def place(cache: Path, tmp_path: Path) -> Path:
    """A store that holds the cache."""
    push(cache, f"file://{tmp_path}/place")
    return tmp_path / "place"


def fetch(place: Path, **options: Any) -> Path:
    return Path(pull(f"file://{place}", place.parent / "here", **options))


def nothing_is_published(place: Path) -> bool:
    return not [path for path in (place.parent / "here").glob("*") if not path.name.startswith(".")]


def test_a_truncated_file_is_refused_before_it_is_fetched(place: Path, cache: Path) -> None:
    path = place / "features-00001.arrow"
    right = path.read_bytes()
    path.write_bytes(right[:-10])
    with pytest.raises(TransferError, match=rf"features-00001\.arrow:.*{len(right):,}.*{len(right) - 10:,}"):
        fetch(place)
    assert nothing_is_published(place)
    path.write_bytes(right)
    assert files_of(fetch(place)) == files_of(cache)


def test_other_bytes_of_the_same_size_are_refused(place: Path, cache: Path) -> None:
    path = place / "features-00001.arrow"
    right = path.read_bytes()
    path.write_bytes(right[:3000] + b"other" + right[3005:])
    with pytest.raises(TransferError, match=r"features-00001\.arrow:.*checksum"):
        fetch(place)
    assert nothing_is_published(place)
    path.write_bytes(right)
    assert files_of(fetch(place)) == files_of(cache)


def test_a_missing_file_is_named(place: Path) -> None:
    (place / "tokenizer.json").unlink()
    with pytest.raises(TransferError, match=r"tokenizer\.json"):
        fetch(place)
    assert nothing_is_published(place)


def test_no_manifest_is_no_cache(place: Path) -> None:
    (place / "manifest.json").unlink()
    with pytest.raises(CacheNotFoundError):
        fetch(place)
    (place / "manifest.json").mkdir()
    with pytest.raises(CacheNotFoundError):
        fetch(place)
    assert not (place.parent / "here").exists()


@pytest.mark.parametrize(
    ("alter", "kind", "text"),
    [
        (lambda raw: raw[:-20], CacheDamagedError, "JSON"),
        (lambda raw: raw.replace(b'"rows"', b'"cows"'), CacheDamagedError, "checksum"),
        (lambda raw: b"\x00" * 99, CacheDamagedError, "JSON"),
        (lambda raw: b"", CacheDamagedError, "JSON"),
        (lambda raw: b"[" * 100_000, CacheDamagedError, "JSON"),
        (lambda raw: json.dumps({**json.loads(raw), "schema_version": 99}).encode(), CacheMismatchError, "upgrade"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(
    place: Path, alter: Callable[[bytes], bytes], kind: type[CacheError], text: str
) -> None:
    path = place / "manifest.json"
    path.write_bytes(alter(path.read_bytes()))
    with pytest.raises(kind, match=rf"place/manifest\.json:.*{text}.*send") as caught:
        fetch(place)
    assert "delete the cache directory" not in str(caught.value)
    assert not (place.parent / "here").exists()


def test_a_manifest_without_end_is_not_read(place: Path) -> None:
    with (place / "manifest.json").open("ab") as file:
        file.truncate(70 << 20)
    with pytest.raises(TransferError, match=r"manifest\.json:.*67,108,864.*73,400,320"):
        fetch(place)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "..", ".hidden", "a/b", "a\\b\n", "", 7])
def test_a_file_name_never_leaves_the_directory(place: Path, name: object) -> None:
    rewrite(place, lambda content: content["files"][0].update(file=name))
    with pytest.raises(CacheDamagedError, match=r"Error\(.file:"):
        fetch(place)
    assert not (place.parent / "here").exists()


def rewrite(place: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest and make its own checksum fit, not those of the files."""
    content = json.loads((place / "manifest.json").read_bytes())
    del content["checksum"]
    change(content)
    content["checksum"] = digest(canonical_json(content))
    (place / "manifest.json").write_text(json.dumps(content))


def test_a_file_that_is_called_like_the_manifest_harms_nothing(place: Path) -> None:
    rewrite(place, lambda content: content["files"][0].update(file="manifest.json"))
    with pytest.raises((TransferError, CacheDamagedError)):
        fetch(place)
    assert nothing_is_published(place)


def test_a_name_and_split_never_leave_the_cache_directory(place: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["name"], content["split"] = "../../evil", "/etc"
        content["fields"]["split"] = "/etc"

    seal(place, rename)
    fetched = fetch(place)
    assert fetched.parent == place.parent / "here"


def test_files_that_make_up_no_cache_are_not_published(place: Path) -> None:
    (place / "features-00000.arrow").write_bytes((place / "features-00001.arrow").read_bytes())
    seal(place)
    with pytest.raises(CacheDamagedError, match=rf"^file://{place}/features-00000\.arrow:"):
        fetch(place)
    assert nothing_is_published(place)


def test_a_file_that_is_named_twice_is_refused(place: Path) -> None:
    rewrite(place, lambda content: content["files"].append(content["files"][0]))
    with pytest.raises(CacheDamagedError, match=r"Error\(.files:"):
        fetch(place)


def test_what_lies_in_its_place_stays_unless_it_is_to_be_replaced(place: Path, cache: Path) -> None:
    mine = place.parent / "here" / cache.name
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine")
    with pytest.raises(CacheDirectoryError, match="replace=True"):
        fetch(place)
    assert files_of(mine) == {"notes.txt": b"mine"}
    assert files_of(fetch(place, replace=True)) == files_of(cache)


def test_a_full_disk_is_found_before_anything_is_fetched(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 100

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    with pytest.raises(TransferError, match=r"\b100\b"):
        fetch(place)
    assert nothing_is_published(place)


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (errno.ENOSPC, TransferError, "room"),
        (errno.EDQUOT, TransferError, "room"),
        (errno.EIO, TransferError, "check"),
        (errno.EROFS, CacheDirectoryError, "access"),
    ],
)
def test_a_disk_that_fails_half_way_keeps_what_arrived(
    place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception], text: str
) -> None:
    opened = Path.open

    def failing(self: Path, *args: Any, **kwargs: Any) -> Any:
        file = opened(self, *args, **kwargs)
        return FullFile(file, number) if self.name == "features-00001.arrow.part" else file

    monkeypatch.setattr(Path, "open", failing)
    with pytest.raises(kind, match=f"{cache.name}:.*{text}") as raised:
        fetch(place)
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == number
    assert nothing_is_published(place)
    (staging,) = (place.parent / "here").glob(".arriving-*")
    assert (staging / "features-00000.arrow").exists()
    monkeypatch.undo()
    assert files_of(fetch(place)) == files_of(cache)


class FullFile:
    """A file on a disk that takes no byte more."""

    def __init__(self, file: Any, number: int):
        self._file = file
        self._number = number

    def __enter__(self) -> "FullFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, content: bytes) -> int:
        raise OSError(self._number, "no byte more")


def test_a_file_in_the_place_of_the_cache_directory(place: Path) -> None:
    (place.parent / "here").write_text("a file")
    with pytest.raises(CacheDirectoryError, match=f"^{place.parent}/here"):
        fetch(place)


def test_a_file_in_the_place_of_the_staging(place: Path, cache: Path) -> None:
    (place.parent / "here").mkdir()
    (place.parent / "here" / f".arriving-{cache.name}").write_text("a file")
    with pytest.raises(TransferError, match=f".arriving-{cache.name}"):
        fetch(place)
