import hashlib
import logging
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

from memxlnet.data.qa_datasets import LazySquadLikeQADataset, SquadLikeQADataset
from memxlnet.errors import CacheNotFoundError, RowIndexError, SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.tensors import MODEL_COLUMNS
from tests.load.helpers import (
    DTYPES,
    LENGTH,
    MODEL_KEYS,
    OVERLAP,
    Built,
    bert_tokenizer,
    oracle_rows,
    plain_row,
    random_examples,
    sample_tokenizer,
)
from tests.support import build, in_quarters


def _digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


class TestItems:
    def test_every_field_equals_the_oracle(self, any_dataset: CacheDataset, built: Built) -> None:
        expected = oracle_rows(sample_tokenizer(), built.examples, LENGTH, OVERLAP)
        assert len(any_dataset) == len(expected) > 100
        for row, wanted in enumerate(expected):
            item = any_dataset[row]
            assert set(item) == {*wanted, "source"}
            assert plain_row(item) == wanted

    def test_the_oracle_sees_all_kinds_of_rows(self, built: Built) -> None:
        rows = oracle_rows(sample_tokenizer(), built.examples, LENGTH, OVERLAP)
        assert {row["has_answer_in_segment"] for row in rows if row["has_answer"]} == {True, False}
        assert any(not row["has_answer"] for row in rows)
        assert any(one["answers"]["text"][:1] == ["not there"] for one in built.examples)
        assert any(row["has_answer_in_segment"] and row["segment_index"] > 2 for row in rows)
        assert {1} < {row["total_segments"] for row in rows}
        assert max(row["total_segments"] for row in rows) > 10

    def test_question_first_tokenizer(self, tmp_path: Path) -> None:
        examples = [
            {**one, "question": one["question"].strip()} for one in random_examples_of_letters(["abc 12 de"] * 3, 70)
        ]
        dataset = build(examples, bert_tokenizer(), tmp_path, max_seq_length=40, doc_stride=9)
        expected = oracle_rows(bert_tokenizer(), examples, 40, 9)
        assert len(dataset) == len(expected) > 20
        assert [plain_row(item) for item in dataset[:]] == expected

    def test_max_n_segs_counts_in_total_segments(self, built: Built, tmp_path: Path) -> None:
        settings = {"max_seq_length": LENGTH, "doc_stride": OVERLAP, "max_n_segs": 2}
        dataset = build(built.examples, sample_tokenizer(), tmp_path, **settings)
        expected = oracle_rows(sample_tokenizer(), built.examples, LENGTH, OVERLAP, max_n_segs=2)
        assert [plain_row(item) for item in dataset[:]] == expected
        assert max(item["total_segments"] for item in dataset[:]) == 2

    def test_types_and_shapes(self, any_dataset: CacheDataset) -> None:
        item = any_dataset[5]
        for name, dtype in DTYPES.items():
            assert item[name].dtype == dtype
            assert item[name].shape == (() if name.endswith("positions") else (LENGTH,))
        assert (item["offset_mapping"].dtype, item["offset_mapping"].shape) == (torch.int32, (LENGTH, 2))
        for name in ("segment_index", "total_segments", "cls_index", "mem_read_start", "mem_write_start"):
            assert type(item[name]) is int
        assert type(item["has_answer"]) is type(item["has_answer_in_segment"]) is bool
        assert [type(value) for value in item["chosen_answer_char_span"]] == [int, int]

    def test_chosen_answer_stands_at_its_span(self, lazy: CacheDataset) -> None:
        for item in lazy[:]:
            start, stop = item["chosen_answer_char_span"]
            if item["has_answer"]:
                assert item["context"][start:stop] == item["chosen_answer_text"] != ""
            else:
                assert (start, stop, item["chosen_answer_text"]) == (-1, -1, "")


def random_examples_of_letters(words: list[str], repeat: int) -> list[dict[str, Any]]:
    """Examples that a tokenizer of Latin letters and digits knows in full."""
    examples = []
    for number, word in enumerate(words):
        context = " ".join(f"{word}{place}" for place in range(repeat))
        answers = {"text": [f"de{number + 40}"], "answer_start": [context.index(f"de{number + 40}")]}
        examples.append({"id": f"b{number}", "question": f"which {number}", "context": context, "answers": answers})
    return examples


class TestIndices:
    def test_behaves_like_a_list(self, any_dataset: CacheDataset) -> None:
        count = len(any_dataset)
        whole = [plain_row(any_dataset[row]) for row in range(count)]
        for index in (0, 1, count - 1, -1, -count, 16, 17, 18):
            assert plain_row(any_dataset[index]) == whole[index]
        for part in (
            slice(None, 3),
            slice(-2, None),
            slice(10, 40, 7),
            slice(30, 10, -5),
            slice(5, 5),
            slice(900, 999),
        ):
            assert [plain_row(item) for item in any_dataset[part]] == whole[part]
        items: Any = any_dataset
        assert [plain_row(item) for item in items] == whole

    @pytest.mark.parametrize("make", [list, tuple, np.array, torch.tensor, lambda rows: np.array(rows, np.uint8)])
    def test_sequences_of_rows_give_lists(self, any_dataset: CacheDataset, make: Callable[[list[int]], Any]) -> None:
        rows = [4, 0, 4, 40]
        assert [plain_row(item) for item in any_dataset[make(rows)]] == [plain_row(any_dataset[row]) for row in rows]
        assert any_dataset[[]] == []

    @pytest.mark.parametrize("rows", [[0, 10**6], [0.5], [True, False], [[0], [1]], ["input_ids"]])
    def test_sequences_of_anything_else_are_refused(self, lazy: CacheDataset, rows: Any) -> None:
        with pytest.raises((RowIndexError, SettingsError), match="row"):
            lazy[rows]

    def test_a_name_is_no_row(self, lazy: CacheDataset) -> None:
        with pytest.raises(TypeError, match=r"dataset.column\('input_ids'\)"):
            lazy["input_ids"]  # type: ignore[index]

    @pytest.mark.parametrize("make", [np.int64, np.int32, np.uint8, torch.tensor])
    def test_integers_of_numpy_and_torch(self, lazy: CacheDataset, make: Callable[[int], Any]) -> None:
        assert plain_row(lazy[make(7)]) == plain_row(lazy[7])

    def test_out_of_range_is_an_index_error_that_names_the_row(self, any_dataset: CacheDataset) -> None:
        count = len(any_dataset)
        for index in (count, -count - 1, 10**20):
            with pytest.raises(RowIndexError, match=rf"^row {index}:.*-{count}\b.*\b{count - 1}$") as caught:
                any_dataset[index]
            assert isinstance(caught.value, IndexError)

    @pytest.mark.parametrize("index", [1.0, "1", None, {1, 2}, torch.tensor(1.5)])
    def test_other_types_are_type_errors(self, lazy: CacheDataset, index: Any) -> None:
        with pytest.raises(TypeError):
            lazy[index]


class TestTensors:
    def test_are_those_of_the_items(self, any_dataset: CacheDataset) -> None:
        indices: list[Any] = [0, 16, 17, len(any_dataset) - 1, -1, np.int64(4)]
        for index in indices:
            item, found = any_dataset[index], any_dataset.model_tensors(index)
            assert list(found) == list(MODEL_KEYS)
            for name, tensor in found.items():
                assert (tensor.dtype, tensor.shape) == (item[name].dtype, item[name].shape)
                assert torch.equal(tensor, item[name])

    def test_are_views_unless_copies_are_asked_for(self, built: Built, lazy: CacheDataset) -> None:
        copying = CacheDataset(built.plain, copies=True)
        for name in MODEL_KEYS:
            assert lazy.model_tensors(5)[name].data_ptr() == lazy[5][name].data_ptr()
            assert copying.model_tensors(5)[name].dtype == torch.int64
            copying.model_tensors(5)[name].fill_(-1)
            assert torch.equal(copying.model_tensors(5)[name], lazy.model_tensors(5)[name].long())

    @pytest.mark.parametrize("index", [1.0, "1", None, [0], slice(3)])
    def test_take_one_row(self, lazy: CacheDataset, index: Any) -> None:
        with pytest.raises(TypeError):
            lazy.model_tensors(index)
        with pytest.raises(RowIndexError, match=f"^row {len(lazy)}:"):
            lazy.model_tensors(len(lazy))


class TestZeroCopy:
    def test_items_share_memory_with_columns(self, lazy: CacheDataset) -> None:
        for name in MODEL_KEYS:
            column = lazy.column(name)
            assert isinstance(column, torch.Tensor)
            assert len(column) == len(lazy)
            for row in (0, 5, len(lazy) - 1):
                assert lazy[row][name].data_ptr() == column[row].data_ptr()

    def test_columns_of_shards_share_memory_with_items(self, sharded: CacheDataset) -> None:
        parts = sharded.column("input_ids")
        assert isinstance(parts, list)
        assert [len(part) for part in parts[:-1]] == [17] * (len(parts) - 1)
        pointers = [row.data_ptr() for part in parts for row in part]
        assert pointers == [sharded[row]["input_ids"].data_ptr() for row in range(len(sharded))]

    def test_all_columns_have_the_values_of_the_items(self, lazy: CacheDataset) -> None:
        for name in ("segment_index", "cls_index", "has_answer_in_segment", *MODEL_KEYS):
            assert list(map(plain_value, lazy.column(name))) == [plain_value(item[name]) for item in lazy[:]]
        documents = lazy.column("document")
        assert isinstance(documents, torch.Tensor)
        ids = lazy.get_all_documents()
        assert [ids[int(document)] for document in documents] == [item["example_id"] for item in lazy[:]]

    def test_a_write_is_seen_here_and_nowhere_else(self, built: Built, lazy: CacheDataset) -> None:
        before = _digests(built.plain)
        other = CacheDataset(built.plain)
        old = other[4]["input_ids"].clone()
        lazy[4]["input_ids"].fill_(-7)
        lazy[4]["start_positions"].fill_(3)
        assert lazy[4]["input_ids"].tolist() == [-7] * LENGTH
        assert lazy.gather([4])["input_ids"].tolist() == [[-7] * LENGTH]
        assert int(lazy.column("start_positions")[4]) == 3
        assert torch.equal(other[4]["input_ids"], old)
        assert torch.equal(CacheDataset(built.plain)[4]["input_ids"], old)
        assert _digests(built.plain) == before

    def test_a_write_to_a_whole_column_is_harmless(self, built: Built, any_dataset: CacheDataset) -> None:
        before = _digests(any_dataset.directory)
        column = any_dataset.column("input_ids")
        for part in [column] if isinstance(column, torch.Tensor) else column:
            part.zero_()
        any_dataset[0]["attention_mask"].zero_()
        assert _digests(any_dataset.directory) == before
        assert CacheDataset(built.plain)[0]["input_ids"].any()

    def test_copies(self, built: Built) -> None:
        dataset = LazySquadLikeQADataset.open(built.plain, copies=True)
        old = dataset[4]["input_ids"].clone()
        dataset[4]["input_ids"].zero_()
        assert torch.equal(dataset[4]["input_ids"], old)
        assert torch.equal(dataset.column("input_ids")[4], old)

    def test_the_tensors_outlive_the_dataset(self, built: Built) -> None:
        dataset = CacheDataset(built.plain)
        item, expected = dataset[3]["input_ids"], dataset[3]["input_ids"].clone()
        del dataset
        assert torch.equal(item, expected)

    def test_read_only_maps_are_logged_and_no_warning(
        self, built: Built, refuse_private_maps: Callable[[], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        refuse_private_maps()
        with caplog.at_level(logging.WARNING):
            dataset = CacheDataset(built.plain)
        assert caplog.text.count("using read-only ones, tensors are copies") == 1
        old = dataset[2]["input_ids"].clone()
        dataset[2]["input_ids"].zero_()
        assert torch.equal(dataset[2]["input_ids"], old)

    def test_unknown_column(self, lazy: CacheDataset) -> None:
        with pytest.raises(SettingsError, match=r"^column:.*\binput_ids\b.*'labels'$"):
            lazy.column("labels")


def plain_value(value: Any) -> Any:
    return value.tolist() if isinstance(value, torch.Tensor) else int(value)


class TestMetadata:
    def test_equals_the_items_without_the_tensors(self, any_dataset: CacheDataset) -> None:
        rows = [3, len(any_dataset) - 1, 0, 3, 20]
        for row, found in zip(rows, any_dataset.metadata(rows), strict=True):
            assert found is not None
            assert isinstance(found["offset_mapping"], np.ndarray)
            wanted = {name: value for name, value in plain_row(any_dataset[row]).items() if name not in MODEL_COLUMNS}
            assert plain_row(found) == wanted

    def test_a_lane_without_a_segment_has_none(self, any_dataset: CacheDataset) -> None:
        for rows in ([-1, 5, -1], np.array([-1, 5, -1]), torch.tensor([-1, 5, -1])):
            one, two, three = any_dataset.metadata(rows)
            assert one is three is None
            assert two is not None
            assert plain_row(two) == plain_row(any_dataset.metadata([5])[0] or {})

    @pytest.mark.parametrize("names", [["context"], ["segment_index", "example_id"], []])
    def test_names_choose_the_fields_and_their_order(self, lazy: CacheDataset, names: list[str]) -> None:
        one, two = lazy.metadata([7, -1], iter(names))
        assert one is not None
        assert list(one) == names
        assert one == {name: lazy[7][name] for name in names}
        assert two is None

    @pytest.mark.parametrize("names", [["context", "labels"], ["input_ids"], [None], [["context"]]])
    def test_names_are_checked(self, lazy: CacheDataset, names: Any) -> None:
        for rows in ([0], [-1], []):
            with pytest.raises(SettingsError, match=rf"^names:.*\bexample_id\b.*{re.escape(repr(names[-1]))}$"):
                lazy.metadata(rows, names)

    def test_takes_slices(self, lazy: CacheDataset) -> None:
        for part in (slice(0, 4), slice(-3, None), slice(None, None, 90)):
            ids = [item["example_id"] for item in lazy[part]]
            assert [found and found["example_id"] for found in lazy.metadata(part)] == ids
        assert lazy.metadata([]) == []

    def test_rows_are_checked(self, lazy: CacheDataset) -> None:
        for row in (len(lazy), -2, -len(lazy), 10**12):
            with pytest.raises(RowIndexError, match=rf"^row {row}:.*-1\b.*\b{len(lazy) - 1}$"):
                lazy.metadata([0, row])
        for rows in ([0.5], ["a"], None, torch.tensor([[1]])):
            with pytest.raises(SettingsError, match=r"^rows:"):
                lazy.metadata(rows)


class TestOpening:
    def test_no_cache_there(self, tmp_path: Path) -> None:
        with pytest.raises(CacheNotFoundError, match=r"\bnothing\b"):
            CacheDataset(tmp_path / "nothing")
        with pytest.raises(CacheNotFoundError):
            LazySquadLikeQADataset.open(tmp_path)

    @pytest.mark.parametrize("directory", [None, 5, ["a"]])
    def test_a_directory_is_a_path(self, directory: Any) -> None:
        with pytest.raises(SettingsError, match="directory"):
            CacheDataset(directory)

    def test_a_text_does_as_path(self, built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(built.plain.parent)
        dataset = CacheDataset(built.plain.name)
        monkeypatch.chdir("/")
        assert dataset.directory == built.plain
        assert dataset[0]["example_id"] == "dök-0"

    def test_repr_names_place_and_size(self, lazy: CacheDataset) -> None:
        assert repr(lazy) == f"LazySquadLikeQADataset({str(lazy.directory)!r}, {len(lazy)} rows, 13 documents)"


@in_quarters
@given(examples=random_examples())
def test_lazy_eager_and_sharded_are_equal_row_by_row(quarter: int, examples: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        lazy = build(examples, sample_tokenizer(), Path(directory, "one"), max_seq_length=32, doc_stride=5)
        many = build(
            examples, sample_tokenizer(), Path(directory, "many"), max_seq_length=32, doc_stride=5, max_shard_rows=2
        )
        eager = SquadLikeQADataset.open(lazy.directory)
        assert eager.cache.in_memory
        assert not lazy.cache.in_memory
        assert len(many.cache.features) == -(-len(lazy) // 2)
        whole = [plain_row(item) for item in lazy[:]]
        assert [plain_row(item) for item in eager[:]] == whole
        assert [plain_row(item) for item in many[:]] == whole
        assert [row["example_id"] for row in whole if row["segment_index"] == 0] == [one["id"] for one in examples]
        expected = oracle_rows(sample_tokenizer(), [{**one, "answers": {"text": []}} for one in examples], 32, 5)
        for name in ("input_ids", "attention_mask", "token_type_ids", "offset_mapping", "context", "question"):
            assert [row[name] for row in whole] == [row[name] for row in expected]
