"""The meaning of the earlier code base, on request, and what loaders and datasets kept of it."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from memxlnet.data import create_dataloader, create_evaluation_dataloader, load_chunked_dataset
from memxlnet.data.chunked_dataset import ChunkedDataset
from memxlnet.data.qa_datasets import LazySquadLikeQADataset, SquadLikeQADataset
from memxlnet.errors import AmbiguousCacheError, CacheError, CacheNotFoundError, SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.compat import ENDED
from memxlnet.load.tensors import MODEL_COLUMNS
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from tests.load.helpers import LENGTH, OVERLAP, bert_tokenizer, sample_tokenizer, varied_examples
from tests.support import build, example, slow

KINDS = {"sample": sample_tokenizer, "bert": bert_tokenizer}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def now(kind: str, tmp_path_factory: pytest.TempPathFactory) -> CacheDataset:
    settings = {"max_seq_length": LENGTH, "doc_stride": OVERLAP}
    return build(varied_examples(), KINDS[kind](), tmp_path_factory.mktemp(kind), **settings)


@pytest.fixture(scope="module")
def earlier(now: CacheDataset) -> CacheDataset:
    return LazySquadLikeQADataset.open(now.directory, compat="memxlnet-0")


@pytest.fixture(scope="module")
def items(earlier: CacheDataset) -> list[dict[str, Any]]:
    return list(earlier)


def pair_call(tokenizer: Any, one: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of one example by a call of the tokenizer on the pair, and 1 where a token is of the context."""
    texts, which = (one["question"], one["context"]), 1
    if tokenizer.padding_side == "left":
        texts, which = texts[::-1], 0
    found = tokenizer(
        *texts,
        truncation="only_second" if which else "only_first",
        max_length=LENGTH,
        stride=OVERLAP,
        padding="max_length",
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    rows = []
    for row, ids in enumerate(found["input_ids"]):
        types = [int(sequence == which) for sequence in found.sequence_ids(row)]
        rows.append({"input_ids": ids, "token_type_ids": types, "offset_mapping": found["offset_mapping"][row]})
    return rows


def test_rows(kind: str, now: CacheDataset, items: list[dict[str, Any]]) -> None:
    examples = varied_examples()
    expected = [row for one in examples for row in pair_call(KINDS[kind](), one)]
    assert len(items) == len(now) == len(expected)
    labels: set[str | None] = set()
    for row, (old, new, given) in enumerate(zip(items, now, expected, strict=True)):
        assert old["offset_mapping"] == given["offset_mapping"], row
        for name in ("input_ids", "token_type_ids"):
            assert old[name].tolist() == given[name], (row, name)
        assert {old[name].dtype for name in MODEL_COLUMNS} == {torch.int64}
        for name in MODEL_COLUMNS:
            assert name == "token_type_ids" or torch.equal(old[name], new[name].to(torch.int64))
        one = examples[[str(other["id"]) for other in examples].index(old["example_id"])]
        assert old["all_valid_answers"] == (one["answers"]["text"] or [""])
        assert old["has_answer"] == bool(one["answers"]["text"])
        assert old["segment_index_in_doc"] == old["segment_index"] == new["segment_index"]
        holds = old["has_answer_in_segment"]
        assert holds == new["has_answer_in_segment"]
        start, stop = old["chosen_answer_char_span"]
        assert old["chosen_answer_text"] == (old["context"][start:stop] if holds else "")
        assert type(old["chosen_answer_char_span"]) is list
        assert holds or (start, stop) == (-1, -1)
        labels.add(old["boundary_info"] and old["boundary_info"]["boundary_label"])
    assert labels == {None, "exact"}


@pytest.mark.parametrize(("shift", "label"), [(0, "exact"), (1, "off_by_-1"), (-2, "off_by_2"), (5, "large_shift_-5")])
def test_where_an_answer_was_moved_to(tokenizer: Any, tmp_path: Path, shift: int, label: str) -> None:
    rows = [example("One two three four.", answers=[("three", 8 + shift)])]
    dataset = build(rows, tokenizer, tmp_path).with_compat("memxlnet-0")
    assert dataset[0]["boundary_info"] == {"delta_start_char": -shift, "boundary_label": label}
    assert dataset[0]["chosen_answer_char_span"] == [8, 13]


def test_an_answer_that_was_dropped_is_an_answer_all_the_same(tokenizer: Any, tmp_path: Path) -> None:
    dataset = build([example("One two three.", answers=[("nowhere", 3)])], tokenizer, tmp_path)
    assert not dataset[0]["has_answer"]
    old = dataset.with_compat("memxlnet-0")[0]
    assert old["has_answer"]
    assert old["all_valid_answers"] == ["nowhere"]
    assert old["chosen_answer_text"] == ""


@pytest.mark.parametrize(
    ("lanes", "workers"), [("aligned", 0), ("refilled", 1), slow("aligned", 1), slow("refilled", 0)]
)
def test_steps(now: CacheDataset, earlier: CacheDataset, items: list[dict[str, Any]], lanes: str, workers: int) -> None:
    options: Any = {"shuffle": True, "seed": 3, "lanes": lanes, "num_workers": workers}
    loaders = [
        create_dataloader(now, 4, ended_label="cls", **options),
        create_dataloader(now, 4, compat="memxlnet-0", **options),
        TimeStepMajorDataLoader(earlier, 4, **options),
    ]
    ended = 0
    for new, *olds in zip(
        *([s for g in one for s in (g if lanes == "aligned" else [g])] for one in loaders), strict=True
    ):
        for old in olds:
            assert old.keys() == new.keys() | ENDED.keys()
            assert new["document_mask"].tolist() == old["document_mask"].tolist()
            for name in ("input_ids", "attention_mask", "start_positions", "end_positions", "rows"):
                assert torch.equal(old[name], new[name]), name
            assert old["cls_index"] == new["cls_index"].tolist()
            assert type(old["example_ids"]) is list
            for lane, row in enumerate(new["rows"].tolist()):
                if row < 0:
                    ended += 1
                    assert {name: old[name][lane] for name in ENDED} == ENDED
                    assert not old["token_type_ids"][lane].any()
                    assert old["example_ids"][lane] == f"padding_{new['example_ids'][lane]}"
                    continue
                item = items[row]
                assert {name: old[name][lane] for name in ENDED} == {name: item[name] for name in ENDED}
                assert torch.equal(old["token_type_ids"][lane], item["token_type_ids"])
                assert old["example_ids"][lane] == item["example_id"]
    assert ended


@pytest.mark.parametrize("dtype", ["int64", "stored"])
def test_batches(now: CacheDataset, earlier: CacheDataset, items: list[dict[str, Any]], dtype: str) -> None:
    options: Any = {"use_time_step_major": False, "dtype": dtype}
    loaders = [create_dataloader(now, 7, **options, compat="memxlnet-0"), create_dataloader(earlier, 7, **options)]
    rows = 0
    for batches in zip(*loaders, strict=True):
        for batch in batches:
            held = [items[row] for row in batch["rows"].tolist()]
            assert {name: batch[name] for name in ENDED} == {name: [item[name] for item in held] for name in ENDED}
            types = torch.stack([item["token_type_ids"] for item in held])
            assert torch.equal(batch["token_type_ids"].to(torch.int64), types)
            assert batch["token_type_ids"].dtype == (torch.int64 if dtype == "int64" else torch.int8)
            assert batch["document_mask"].all()
            assert batch["example_ids"] == batch["example_id"]
        rows += len(held)
    assert rows == len(earlier)
    plain: Any = next(iter(DataLoader(earlier, batch_size=3, collate_fn=lambda rows: rows)))
    assert [row["token_type_ids"].tolist() for row in plain] == [item["token_type_ids"].tolist() for item in items[:3]]


def test_the_meaning_stays_with_a_dataset(earlier: CacheDataset, now: CacheDataset) -> None:
    for again in (pickle.loads(pickle.dumps(earlier)), earlier.with_compat(None), now.with_compat("memxlnet-0")):
        assert again.compat == "memxlnet-0"
        assert again[0]["offset_mapping"] == earlier[0]["offset_mapping"]
    assert earlier.with_compat("memxlnet-0") is earlier
    assert now.with_compat(None) is now
    assert now.compat is None
    wanted = ["all_valid_answers", "boundary_info"]
    assert earlier.metadata([0, -1], wanted) == [{name: earlier[0][name] for name in wanted}, None]
    with pytest.raises(SettingsError, match=r"^names:"):
        now.metadata([0], wanted)


@pytest.mark.parametrize("value", ["", "memxlnet-1", True, 0])
def test_another_meaning_is_refused(now: CacheDataset, tokenizer: Any, value: Any) -> None:
    calls: list[Any] = [
        lambda: CacheDataset(now.directory, compat=value),
        lambda: LazySquadLikeQADataset.open(now.directory, compat=value),
        lambda: SquadLikeQADataset("train", tokenizer, dataset_name="missing.json", compat=value),
        lambda: create_dataloader(now, compat=value),
        lambda: create_dataloader(now, compat=value, use_time_step_major=False),
        lambda: create_evaluation_dataloader("missing.json", "train", tokenizer, compat=value),
        lambda: load_chunked_dataset(now.directory.parent, "test", compat=value),
    ]
    for call in calls:
        with pytest.raises(SettingsError, match=rf"^compat:.*{value!r}"):
            call()


def test_an_eager_dataset_keeps_its_directory(tokenizer: Any, tmp_path: Path) -> None:
    rows = [example("One two.", answers=[("two", 4)], id="a")]
    dataset = SquadLikeQADataset("train", tokenizer, 64, 16, dataset_name=rows).with_compat("memxlnet-0")
    assert pickle.loads(pickle.dumps(dataset))[0]["chosen_answer_text"] == "two"
    direct = SquadLikeQADataset("train", tokenizer, 64, 16, dataset_name=rows, compat="memxlnet-0")
    assert direct[0]["chosen_answer_char_span"] == [4, 7]


class TestAttributes:
    def test_features_are_the_rows(self, now: CacheDataset) -> None:
        features = now.features
        assert len(features) == len(now)
        assert features[3]["example_id"] == now[3]["example_id"]
        assert features[3]["input_ids"].data_ptr() == now[3]["input_ids"].data_ptr()
        assert [row["segment_index"] for row in features] == [row["segment_index"] for row in now]

    def test_of_a_dataset(self, now: CacheDataset) -> None:
        lazy = LazySquadLikeQADataset.open(now.directory)
        assert (lazy.dataset_name, lazy.split) == (lazy.manifest.name, "test")
        assert lazy.cache_params["max_seq_length"] == LENGTH
        again = LazySquadLikeQADataset(lazy.cache_manager, lazy.dataset_name, lazy.split, lazy.cache_params)
        assert again.directory == lazy.directory

    @pytest.mark.parametrize(("most", "longest"), [(None, None), (2, 2), (1000, None), ([1, 3], 1)])
    def test_of_a_loader(self, now: CacheDataset, most: Any, longest: int | None) -> None:
        loader = TimeStepMajorDataLoader(now, 4, True, most)
        assert loader.shuffle
        assert loader.max_segments == (most[0] if isinstance(most, list) else most)
        assert list(loader.documents) == now.get_all_documents()
        counts = [len(loader.document_segments[name]) for name in loader.documents]
        assert loader.max_doc_segments == (longest or max(counts))
        steps = [len(group) for group in loader]
        assert max(steps) == loader.max_doc_segments or most == [1, 3]

    def test_a_chunk_has_a_file(self, tokenizer: Any, tmp_path: Path) -> None:
        dataset = build(varied_examples(), tokenizer, tmp_path, max_shard_rows=17)
        manager = LazySquadLikeQADataset.open(dataset.directory).cache_manager
        manager.chunk_size = 10
        name, total = dataset.dataset_name, manager.get_total_chunks(dataset.dataset_name, "test")
        paths = [manager.get_cache_path(name, "test", chunk) for chunk in range(total)]
        assert [Path(path).name for path in paths[:4]] == [f"features-0000{n}.arrow" for n in (0, 0, 1, 1)]
        assert all(Path(path).is_file() for path in paths)
        with pytest.raises(IndexError, match=rf"\b{total - 1}\b.*{total}$"):
            manager.get_cache_path(name, "test", total)
        assert len(manager.load_chunk(name, "test", chunk_id=0)) == 10


class TestChunked:
    @pytest.mark.parametrize("mode", ["streaming", "full"])
    def test_a_cache_is_found(self, now: CacheDataset, mode: str) -> None:
        places: list[Any] = [now.directory.parent, now.directory, now.directory / "manifest.json", str(now.directory)]
        for opened in (
            *(load_chunked_dataset(place, "test", mode) for place in places),
            *(ChunkedDataset(place, mode, compat="memxlnet-0") for place in places),
            ChunkedDataset.from_manifest(now.directory, "test", mode),
        ):
            assert isinstance(opened, ChunkedDataset)
            assert isinstance(opened, LazySquadLikeQADataset)
            assert opened.directory == now.directory
            assert opened.cache.in_memory == (mode == "full")
            assert torch.equal(opened.gather([5])["input_ids"], now.gather([5])["input_ids"])
        assert pickle.loads(pickle.dumps(opened)).directory == now.directory

    def test_the_first_examples_are_a_cache_of_their_own(self, tokenizer: Any, tmp_path: Path) -> None:
        rows = varied_examples()
        build(rows, tokenizer, tmp_path)
        with pytest.raises(CacheNotFoundError, match="max_examples:"):
            load_chunked_dataset(tmp_path, "test", "first_n", 2)
        two = build(rows, tokenizer, tmp_path, max_examples=2)
        assert load_chunked_dataset(tmp_path, "test", "first_n", 2).directory == two.directory
        with pytest.raises(AmbiguousCacheError):
            load_chunked_dataset(tmp_path, "test")
        with pytest.raises(CacheNotFoundError, match="max_n_segs:"):
            load_chunked_dataset(tmp_path, "test", max_n_segs=3)
        with pytest.raises(CacheNotFoundError, match=r"split.*'train'.*'test'"):
            load_chunked_dataset(two.directory)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"mode": "chunks", "chunk_indices": [0]}, r"^mode, chunk_indices:.*max_examples="),
            ({"chunk_indices": [0]}, "^mode, chunk_indices:"),
            ({"mode": "first_n"}, "^num_examples:"),
            ({"mode": "all"}, r"^mode:.*'all'"),
        ],
    )
    def test_what_cannot_be_is_refused(self, now: CacheDataset, options: Any, message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            load_chunked_dataset(now.directory, "test", **options)

    def test_what_is_no_cache_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CacheNotFoundError):
            load_chunked_dataset(tmp_path)
        (tmp_path / "manifest.json").write_text('{"dataset_name": "squad", "split": "train", "chunks": []}')
        with pytest.raises(CacheError, match="manifest"):
            load_chunked_dataset(tmp_path)
