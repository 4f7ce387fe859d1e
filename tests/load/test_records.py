"""Segments, batches and steps are dictionaries in everything but what is shown of them."""

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils import _pytree
from torch.utils.data import DataLoader, default_collate

from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader
from memxlnet.load.joining import mix
from memxlnet.load.records import BatchRecord, Record, Segment, StepRecord
from tests.load.helpers import sample_tokenizer
from tests.support import build, long_examples

MARKUP = "<b>bold</b> & " + "x" * 60

MAKERS: dict[str, Callable[[CacheDataset], Any]] = {
    "Segment": lambda dataset: dataset[1],
    "Step": lambda dataset: first_step(dataset),
    "Batch": lambda dataset: next(iter(create_dataloader(dataset, 2, use_time_step_major=False, metadata=True))),
}


def first_step(dataset: CacheDataset, **options: Any) -> Any:
    return next(iter(create_dataloader(dataset, 2, metadata=True, **options)))[0]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CacheDataset:
    rows = [{**row, "question": MARKUP} for row in long_examples(3, 60)]
    return build(rows, sample_tokenizer(), tmp_path_factory.mktemp("records"), max_seq_length=160)


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_shown_is_short(dataset: CacheDataset, name: str) -> None:
    record = MAKERS[name](dataset)
    shown = repr(record)
    assert shown.startswith(f"{name}({{\n  'input_ids': int")
    assert [line.split("'")[1] for line in shown.splitlines()[1:-1]] == list(record)
    assert max(map(len, shown.splitlines())) < 160
    assert len(shown) < 1600
    html = record._repr_html_()
    assert "<b>" not in html
    assert len(html) < 5000


def test_shapes_types_and_the_beginning_of_texts(dataset: CacheDataset) -> None:
    lines = repr(dataset[0]).splitlines()
    for line in (
        "'input_ids': int32[160]",
        "'offset_mapping': int32[160, 2]",
        f"'question': {MARKUP[:57]!r}... ({len(MARKUP)} characters)",
        "'example_id': 'id-0'",
        "'segment_index': 0",
    ):
        assert f"  {line}," in lines
    assert "  'rows': int64[2]," in repr(first_step(dataset)).splitlines()
    segment: Any = dataset[0]
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; " in segment._repr_html_()


@pytest.mark.parametrize("name", MAKERS)
def test_copies_and_pickles_are_of_the_same_kind(dataset: CacheDataset, name: str) -> None:
    record = MAKERS[name](dataset)
    for same in (record.copy(), copy.copy(record), copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
        assert type(same) is type(record)
        assert list(same) == list(record)
        assert torch.equal(same["input_ids"], record["input_ids"])
    assert isinstance(record, dict)
    assert not hasattr(record, "__dict__")


@pytest.mark.parametrize("kind", [Segment, BatchRecord, StepRecord])
def test_a_record_is_a_tree_and_equal_to_a_dictionary(kind: type[Record]) -> None:
    record = kind(a=torch.tensor(1), b=kind(c=[torch.tensor(2)]))
    assert kind(x=1) == {"x": 1}
    assert json.dumps(kind(x=1)) == '{"x": 1}'
    found = _pytree.tree_map(lambda leaf: leaf + 1, record)
    assert (type(found), type(found["b"])) == (kind, kind)
    assert (int(found["a"]), int(found["b"]["c"][0])) == (2, 3)
    paths = [_pytree.keystr(path) for path, _ in _pytree.tree_flatten_with_path(record)[0]]
    assert paths == ["['a']", "['b']['c'][0]"]
    _, tree = _pytree.tree_flatten(record)
    assert _pytree.treespec_loads(_pytree.treespec_dumps(tree)) == tree


def test_records_collate(dataset: CacheDataset) -> None:
    batch = default_collate([Segment(a=torch.tensor(number), id=str(number)) for number in range(3)])
    assert (type(batch), batch["a"].tolist(), batch["id"]) == (Segment, [0, 1, 2], ["0", "1", "2"])
    loader = DataLoader(dataset, batch_size=2, num_workers=1, collate_fn=list)
    assert next(iter(loader))  # crosses from another process


@pytest.mark.parametrize("options", [{}, {"num_workers": 1}, {"lanes": "refilled"}, {"compat": "memxlnet-0"}])
def test_all_loaders_yield_steps(dataset: CacheDataset, options: dict[str, Any]) -> None:
    item: Any = next(iter(create_dataloader(dataset, 2, **options)))
    assert type(item if "lanes" in options else item[0]) is StepRecord


@pytest.mark.parametrize("options", [{}, {"device": "cpu"}, {"compat": "memxlnet-0"}, {"metadata": True}])
def test_all_regular_loaders_yield_batches(dataset: CacheDataset, options: dict[str, Any]) -> None:
    batch: Any = next(iter(create_dataloader(dataset, 2, use_time_step_major=False, **options)))
    assert type(batch) is BatchRecord


def test_what_notebooks_show_of_loaders_and_datasets(dataset: CacheDataset) -> None:
    view = dataset.take(2)
    assert repr(view).endswith(f"({str(dataset.directory)!r}, {len(view)} rows, 2 documents, a view of 3)")
    loader = create_dataloader(view, 2)
    group = next(iter(loader))
    assert repr(group) == f"Group({len(group)} steps of 2 lanes, ['id-0', 'id-1'])"
    regular = create_dataloader(dataset, 2, use_time_step_major=False)
    mixed = mix([dataset], [1], epoch=5)
    assert repr(mixed).endswith(" rows, 3 documents, a mixture that reads 5 in epoch 0)")
    for shown, words in (
        (dataset, ("CacheDataset", ">3<")),
        (mixed, ("MixedDataset", "documents that epoch 0 reads", ">5<")),
        (view, ("2 (a view of 3)",)),
        (loader, ("TimeStepMajorDataLoader", "batch_size")),
        (regular, ("RegularDataLoader", "batches")),
        (group, ("Group", "id-0")),
    ):
        html = shown._repr_html_()
        assert all(word in html for word in words), html
        assert len(html) < 3000
