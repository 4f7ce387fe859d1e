"""The handle on parts: one dataset of many caches, in the order of the files."""

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from memxlnet import Cache, Parts
from memxlnet.errors import CacheMismatchError, CacheNotFoundError
from tests.builder.parts import SETTINGS, rows_of, write_files
from tests.faults.processes import names
from tests.format.content import files_of
from tests.golden.make_golden import golden_tokenizer


def build(source: Any, cache_dir: Path, **changes: Any) -> Parts:
    return Parts.build(source, golden_tokenizer(), split="test", cache_dir=cache_dir, **{**SETTINGS, **changes})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_files(tmp_path / "data", {name: rows_of(name) for name in "abc"})


def ids(parts: Parts) -> list[str]:
    return list(parts.dataset().get_all_documents())


def test_the_dataset_has_the_documents_of_all_files_in_order(tmp_path: Path, source: Path) -> None:
    parts = build(source, tmp_path / "caches")
    whole = Cache.build(source, golden_tokenizer(), split="test", cache_dir=tmp_path / "one", **SETTINGS)
    dataset, expected = parts.dataset(), whole.dataset()
    assert ids(parts) == list(expected.get_all_documents())
    assert len(dataset) == len(expected) == parts.list.rows
    for row in range(len(dataset)):
        assert dataset[row]["input_ids"].tolist() == expected[row]["input_ids"].tolist()
        assert dataset[row]["context"] == expected[row]["context"]
    assert [cache.num_documents for cache in parts.caches] == [part.documents for part in parts] == [4] * len(parts)
    compacted = parts.compact(tmp_path / "two")
    assert files_of(compacted.directory) == files_of(whole.directory)


def test_a_handle_stays_what_it_was_and_is_refreshed(tmp_path: Path, source: Path) -> None:
    parts = build(source, tmp_path / "caches")
    old = parts.dataset()
    write_files(tmp_path / "data", {"b": rows_of("b", 1), "d": rows_of("d", 2)})
    newer = build(source, tmp_path / "caches")
    assert newer.directory == parts.directory
    assert len(parts) == 3
    assert parts.dataset().num_documents == old.num_documents == 12
    assert parts.refresh().list == newer.list
    assert newer.dataset().num_documents == 11
    assert [path.name for path in newer.prune()] == [parts.list.parts[1].cache]
    assert old[len(old) - 1]["example_id"] == "c-3"  # what is mapped stays
    with pytest.raises(CacheNotFoundError, match=r"expected the cache of b\.jsonl, which the list of parts .* names"):
        parts.dataset()


def test_the_newest_document_of_an_id_is_in_the_dataset(tmp_path: Path, source: Path) -> None:
    write_files(tmp_path / "data", {"d": [*rows_of("b", 2), *rows_of("d", 1)]})
    parts = build(source, tmp_path / "caches", on_repeated_id="newest")
    assert ids(parts) == [
        *(f"a-{n}" for n in range(4)),
        "b-2",
        "b-3",
        *(f"c-{n}" for n in range(4)),
        "b-0",
        "b-1",
        "d-0",
    ]


def test_it_pickles_by_its_path(tmp_path: Path, source: Path) -> None:
    parts = build(source, tmp_path / "caches")
    found = pickle.loads(pickle.dumps(parts))
    assert (found.directory, found.list, repr(found)) == (parts.directory, parts.list, repr(parts))
    assert Parts.open(parts).list == parts.list


def test_it_travels(tmp_path: Path, source: Path) -> None:
    parts = build(source, tmp_path / "caches")
    assert len(parts.push(f"file://{tmp_path}/store")) == 3
    fetched = Parts.pull(f"file://{tmp_path}/store", tmp_path / "other")
    assert ids(fetched) == ids(parts)
    assert fetched.remove() == 3
    assert names(tmp_path / "other") == []


def test_another_cache_in_the_place_of_a_part(tmp_path: Path, source: Path) -> None:
    parts = build(source, tmp_path / "caches")
    one, other = (tmp_path / "caches" / part.cache for part in parts.list.parts[:2])
    shutil.rmtree(one)
    other.rename(one)
    with pytest.raises(CacheMismatchError, match=r"expected the cache with the fingerprint"):
        parts.dataset()
