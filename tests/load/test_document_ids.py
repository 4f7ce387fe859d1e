from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from memxlnet.errors import CacheDamagedError, DocumentNotFoundError, RowIndexError
from memxlnet.load import document_ids
from memxlnet.load.cache_dataset import CacheDataset
from tests.format.forging import set_value
from tests.load.helpers import Built, sample_tokenizer
from tests.support import build, example


def _rows_by_id(dataset: CacheDataset) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, item in enumerate(dataset[:]):
        rows.setdefault(item["example_id"], []).append(row)
    return rows


def test_maps_ids_to_rows_in_order(any_dataset: CacheDataset, built: Built) -> None:
    expected = _rows_by_id(any_dataset)
    assert list(expected) == [one["id"] for one in built.examples]
    mapping = any_dataset.document_map
    assert isinstance(mapping, Mapping)
    assert {name: list(rows) for name, rows in mapping.items()} == expected
    assert (len(mapping), list(mapping)) == (len(expected), list(expected))
    for name, rows in expected.items():
        assert any_dataset.get_document_segments(name) == rows
        assert [any_dataset[row]["segment_index"] for row in rows] == list(range(len(rows)))
        assert name in mapping


@pytest.mark.parametrize("name", ["nobody", "", "dök-1 ", "\udc80", 3, None, b"d", ["dök-1"]])
def test_an_unknown_id_is_a_key_error_that_says_so(lazy: CacheDataset, name: Any) -> None:
    with pytest.raises(DocumentNotFoundError) as caught:
        lazy.get_document_segments(name)
    assert isinstance(caught.value, KeyError)
    assert str(caught.value) == f"{lazy.directory}: expected the id of one of its 13 documents, found {name!r}"
    assert lazy.document_map.get(name) is None
    assert name not in lazy.document_map


@pytest.mark.parametrize("buckets", [1, 2, 3])
def test_colliding_hashes_find_their_own_documents(built: Built, monkeypatch: pytest.MonkeyPatch, buckets: int) -> None:
    monkeypatch.setattr(document_ids, "_hash", lambda name: sum(name.encode("utf-8", "surrogatepass")) % buckets)
    dataset = CacheDataset(built.plain)
    for name, rows in _rows_by_id(dataset).items():
        assert dataset.get_document_segments(name) == rows
    with pytest.raises(DocumentNotFoundError):
        dataset.get_document_segments("nobody")


def test_the_largest_and_smallest_hashes_are_found(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {"dök-0": 0, "dök-1": 2**64 - 1, "dök-2": 2**63}
    monkeypatch.setattr(document_ids, "_hash", lambda name: ends.get(name, 7))
    dataset = CacheDataset(built.plain)
    rows = _rows_by_id(dataset)
    assert {name: dataset.get_document_segments(name) for name in rows} == rows


def test_ids_are_a_sequence_that_reads_when_asked(lazy: CacheDataset, built: Built) -> None:
    ids, expected = lazy.get_all_documents(), [one["id"] for one in built.examples]
    assert isinstance(ids, Sequence)
    assert ids == expected
    assert expected == ids
    assert list(ids) == expected
    assert ids != expected[:-1]
    assert ids != [*expected[:-1], "other"]
    assert ids != "dök-0"
    assert (ids[0], ids[-1], ids[2:5], ids[::-4]) == (expected[0], expected[-1], expected[2:5], expected[::-4])
    assert "dök-4" in ids
    assert ids.index("dök-4") == 4
    assert repr(ids) == "['dök-0', 'dök-1', 'dök-2', 'again-3', ...]"
    for index in (13, -14):
        with pytest.raises(RowIndexError, match=rf"^document {index}:.*\b12$"):
            ids[index]
    with pytest.raises(TypeError):
        hash(ids)


def test_documents_are_the_counts_of_the_rows(any_dataset: CacheDataset) -> None:
    rows = list(_rows_by_id(any_dataset).values())
    assert any_dataset.documents.first_segment.tolist() == [part[0] for part in rows]
    assert any_dataset.documents.num_segments.tolist() == [len(part) for part in rows]


def test_missing_ids_are_counted_from_the_row(tmp_path: Path) -> None:
    dataset = build([example(f"Context {number}.") for number in range(3)], sample_tokenizer(), tmp_path)
    assert dataset.get_all_documents() == ["doc_0", "doc_1", "doc_2"]
    assert dataset.get_document_segments("doc_2") == [2]


@pytest.mark.parametrize("count", [0, -1, 2, 2**31 - 1, -(2**31)])
def test_segments_that_do_not_follow_each_other_are_damage(tmp_path: Path, count: int) -> None:
    dataset = build([example("a"), example("b"), example("c")], sample_tokenizer(), tmp_path)
    assert dataset.documents.num_segments.tolist() == [1, 1, 1]
    set_value(dataset.directory, "documents", 1, "num_segments", count)
    with pytest.raises(CacheDamagedError, match=r"\bdocument 1:"):
        _ = CacheDataset(dataset.directory).documents
