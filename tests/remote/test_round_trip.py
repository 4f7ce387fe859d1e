"""A cache that was sent and fetched is the same, byte by byte, through whatever kind of store."""

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest

from memxlnet.errors import CacheNotFoundError
from memxlnet.maintain.verify import verify, verify_bytes
from memxlnet.remote import stores
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from memxlnet.sample import sample_file
from tests.format.content import files_of
from tests.remote.s3 import Bucket, calls
from tests.support import build


def test_a_cache_travels_through_s3_and_back(cache: Path, bucket: Bucket, tmp_path: Path) -> None:
    push(cache, bucket.url, storage_options=bucket.options())
    assert bucket.files() == files_of(cache)
    assert sum(name.startswith("features-") for name in bucket.files()) >= 3
    fetched = pull(bucket.url + "/", tmp_path / "here", storage_options=bucket.options())
    assert fetched == tmp_path / "here" / cache.name
    assert files_of(fetched) == files_of(cache)
    verify_bytes(fetched)
    assert [path.name for path in fetched.parent.iterdir()] == [cache.name]


def test_the_sample_travels_and_passes_its_verification(bucket: Bucket, tokenizer: Any, tmp_path: Path) -> None:
    directory = build(sample_file(), tokenizer, tmp_path / "origin").directory
    push(directory, bucket.url, storage_options=bucket.options())
    fetched = pull(bucket.url, tmp_path / "here", storage_options=bucket.options())
    assert files_of(fetched) == files_of(directory)
    verify(fetched, against=sample_file())


@pytest.mark.usefixtures("small_blocks")
def test_files_of_many_blocks_and_parts_travel_whole(
    cache: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stores, "S3_PART_BYTES", 5000)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1000)
    with calls() as made:
        push(cache, bucket.url, storage_options=bucket.options())
    assert sum(method == "upload_part" for method, _ in made) > 5
    assert files_of(pull(bucket.url, tmp_path / "here", storage_options=bucket.options())) == files_of(cache)


def test_the_manifest_goes_last_and_comes_first(cache: Path, bucket: Bucket, tmp_path: Path) -> None:
    with calls() as made:
        push(cache, bucket.url, storage_options=bucket.options())
    written = [name for method, name in made if method == "put_object"]
    assert written[-1] == "manifest.json"
    assert sorted(written) == sorted(path.name for path in cache.iterdir())
    with calls() as made:
        pull(bucket.url, tmp_path / "here", storage_options=bucket.options())
    assert next(name for method, name in made if method == "get_object") == "manifest.json"


def test_a_cache_that_is_there_is_not_fetched_again(cache: Path, bucket: Bucket, tmp_path: Path) -> None:
    bucket.fill(cache)
    first = pull(bucket.url, tmp_path / "here", storage_options=bucket.options())
    inode = (first / "manifest.json").stat().st_ino
    with calls() as made:
        assert pull(bucket.url, tmp_path / "here", storage_options=bucket.options()) == first
    assert {name for _, name in made} == {"manifest.json"}
    assert (first / "manifest.json").stat().st_ino == inode


def test_a_cache_that_is_built_here_already_is_taken_as_it_is(cache: Path, bucket: Bucket) -> None:
    bucket.fill(cache)
    assert pull(bucket.url, cache.parent, storage_options=bucket.options()) == cache


@pytest.mark.parametrize(
    "name", ["plain", "with blank", "100%25 %20", "h\u00e9llo \u4e2d\u6587", "a::b#c?d=e&f", "*[x]"]
)
def test_a_directory_is_a_store_whatever_its_name(cache: Path, tmp_path: Path, name: str) -> None:
    url = f"file://{tmp_path}/{name}/deep"
    push(cache, url)
    assert files_of(tmp_path / name / "deep") == files_of(cache)
    push(cache, url)
    assert files_of(pull(url, tmp_path / "here")) == files_of(cache)


def test_a_file_of_a_directory_is_put_in_place_and_never_written_again(cache: Path, tmp_path: Path) -> None:
    """A process over there may have mapped it."""
    place = tmp_path / "place"
    push(cache, f"file://{place}")
    path = place / "features-00000.arrow"
    before = path.read_bytes()
    path.write_bytes(b"x" + before[1:])
    os.link(path, tmp_path / "what a reader has mapped")
    push(cache, f"file://{place}")
    assert path.read_bytes() == before
    assert (tmp_path / "what a reader has mapped").read_bytes() == b"x" + before[1:]


def test_a_cache_travels_through_memory(cache: Path, tmp_path: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}/x"
    with pytest.raises(CacheNotFoundError):
        pull(url, tmp_path / "here")
    push(cache, url)
    push(cache, url)
    assert files_of(pull(url, tmp_path / "here")) == files_of(cache)


def test_replace_fetches_a_damaged_cache_again(cache: Path, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/place"
    push(cache, url)
    expected = files_of(cache)
    (cache / "tokenizer.json").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"replace=True"):
        pull(url, cache.parent)
    assert pull(url, cache.parent, replace=True) == cache
    assert files_of(cache) == expected
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_the_bar_counts_bytes(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    push(cache, f"memory://{uuid.uuid4().hex}/x")
    assert capsys.readouterr().err == ""
    url = f"memory://{uuid.uuid4().hex}/x"
    push(cache, url, progress=True)
    assert "sending made up/test: 100%" in capsys.readouterr().err
    push(cache, url, progress=True)
    assert "100%" in capsys.readouterr().err
    pull(url, tmp_path / "here", progress=True)
    assert "fetching made up/test: 100%" in capsys.readouterr().err


def test_nothing_is_remembered_between_calls(cache: Path, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/place"
    push(cache, url)
    shutil.rmtree(tmp_path / "place")
    with pytest.raises(CacheNotFoundError):
        pull(url, tmp_path / "here")
