"""A build into a store: found there, or built and sent, whatever ends early and whoever else builds it."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from memxlnet import Cache, process_and_cache_dataset
from memxlnet.builder.builder import Build
from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.errors import (
    CacheDamagedError,
    CacheDirectoryError,
    CacheMismatchError,
    MemxlnetError,
    MissingLibraryError,
    SettingsError,
    TransferError,
    TransferPermissionError,
)
from memxlnet.remote import sole_sender, stored_builds, stores
from memxlnet.remote.stored_caches import find_stored_caches
from memxlnet.remote.stores import Store, open_store
from memxlnet.sample import sample_tokenizer_directory
from tests.format.content import files_of
from tests.load.helpers import sample_tokenizer
from tests.remote.cutting_proxy import CuttingProxy
from tests.remote.s3 import Bucket, calls
from tests.support import ROOT, WAIT_SECONDS, long_examples, slow, write_json_lines

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


@pytest.fixture(params=["s3", "memory", "file"])
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


def test_it_is_sent_and_found_again(
    source: Path, place: Place, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = built(source, place)
    assert place.files() == expected
    assert {f"{cache.directory.name}/{name}": content for name, content in files_of(cache.directory).items()} == expected
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


def test_only_a_named_work_dir_keeps_a_copy_that_nobody_opened(
    source: Path, temporary: Path, tmp_path: Path
) -> None:
    place = Place(f"memory://caches-{uuid.uuid4().hex}", {})
    options = {"max_seq_length": 64, "doc_stride": 16, "tokenizer": sample_tokenizer()}
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
