"""A view is some documents of a dataset in an order: as the same chain over a list of documents in plain Python."""

import gc
import pickle
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import (
    CacheMismatchError,
    DocumentNotFoundError,
    MemxlnetError,
    RowIndexError,
    SettingsError,
)
from memxlnet.evaluate.ceiling import answer_ceiling
from memxlnet.evaluate.collector import AnswerCollector
from memxlnet.evaluate.metrics import squad_metrics
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader, create_evaluation_dataloader
from memxlnet.load.samplers import GroupedRows
from memxlnet.load.statistics import read_statistics
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from tests.load.helpers import LENGTH, OVERLAP, Built, sample_tokenizer
from tests.support import build, example, in_quarters

IDS = [f"{'again' if number in (3, 7, 11) else 'dök'}-{number}" for number in range(13)]


def ids(dataset: CacheDataset) -> list[str]:
    return list(dataset.get_all_documents())


def rows_read(dataset: CacheDataset, **options: Any) -> list[int]:
    """The rows of an epoch, in the order of the lanes."""
    loader = create_dataloader(dataset, 3, **options)
    steps = [step for group in loader for step in (group if options.get("lanes") != "refilled" else [group])]
    return [row for step in steps for row in step["rows"].tolist() if row >= 0]


@st.composite
def chains(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Links of a chain, each with its argument; indices count modulo the length of what they meet."""
    link = st.one_of(
        st.tuples(st.just("select"), st.lists(st.integers(-40, 40), min_size=1, max_size=6)),
        st.tuples(st.just("mask"), st.integers(1, 2**13 - 1)),
        st.tuples(st.just("ids"), st.lists(st.integers(0, 40), min_size=1, max_size=6)),
        st.tuples(st.just("take"), st.integers(1, 15)),
        st.tuples(st.just("skip"), st.integers(0, 15)),
        st.tuples(st.just("filter"), st.integers(1, 6)),
        st.tuples(
            st.just("slice"), st.tuples(st.integers(-15, 15), st.integers(-15, 15), st.sampled_from([-2, -1, 1, 2]))
        ),
    )
    return draw(st.lists(link, max_size=5))


def follow(
    dataset: CacheDataset, documents: list[str], link: str, value: Any
) -> tuple[Callable[[], CacheDataset], list[str]]:
    """Return what makes the next view, and the same of a list."""
    total = len(documents)
    if link == "select":
        places = [place % total for place in value]
        return lambda: dataset.select(places), [documents[place] for place in places]
    if link == "mask":
        mask = [bool(value >> place & 1) for place in range(total)]
        return lambda: dataset.select(mask), [name for name, kept in zip(documents, mask, strict=True) if kept]
    if link == "ids":
        names = [documents[place % total] for place in value]
        return lambda: dataset.select(names), names
    if link == "slice":
        part = slice(*value)
        return lambda: dataset.select(part), documents[part]
    if link == "take":
        return lambda: dataset.take(value), documents[:value]
    if link == "skip":
        return lambda: dataset.skip(value), documents[value:]
    more = {name for name in documents if len(dataset.document_map[name]) > value}
    return (
        lambda: dataset.filter(pc.field("num_segments") > value),
        [name for name in documents if name in more],
    )


@in_quarters
@given(chain=chains(), data=st.data())
def test_a_chain_is_that_over_a_list(
    quarter: int, built: Built, chain: list[tuple[str, Any]], data: st.DataObject
) -> None:
    whole = view = CacheDataset(built.sharded)
    documents = ids(whole)
    assert documents == IDS
    for link, value in chain:
        make, expected = follow(view, documents, link, value)
        if not expected:
            with pytest.raises(SettingsError):
                make()
            continue
        view, documents = make(), expected
    assert ids(view) == documents
    assert view.num_documents == len(documents)
    rows = [row for name in documents for row in whole.document_map[name]]
    assert len(view) == len(rows)
    assert view.rows().tolist() == rows
    if rows:
        place = data.draw(st.integers(-len(rows), len(rows) - 1))
        assert view[place]["input_ids"].tolist() == whole[rows[place]]["input_ids"].tolist()
    assert sorted(rows_read(view, lanes="refilled", evaluation=True)) == sorted(rows)


@pytest.mark.parametrize(
    "function", [lambda document: document["id"].startswith("again"), lambda document: document["num_segments"] == 1]
)
def test_a_function_is_a_filter(built: Built, function: Callable[[dict[str, Any]], bool]) -> None:
    dataset = CacheDataset(built.plain)
    documents = [document for batch in dataset.cache.documents.batches() for document in batch.to_pylist()]
    assert ids(dataset.filter(function)) == [document["id"] for document in documents if function(document)]
    backwards = dataset.select(slice(None, None, -1))
    assert ids(backwards.filter(function)) == ids(dataset.filter(function))[::-1]


def test_an_error_of_a_function_names_the_document(built: Built) -> None:
    with pytest.raises(KeyError) as caught:
        CacheDataset(built.plain).filter(lambda document: document["nothing"])
    assert "'dök-0'" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "convert",
    [
        list,
        tuple,
        iter,
        np.array,
        lambda values: np.array(values, object),
        pa.array,
        lambda values: pa.chunked_array([values[:1], values[1:]]),
        pd.Series,
        lambda values: pd.Series(values, index=[7] * len(values)).convert_dtypes(),
        lambda values: torch.tensor(values) if not isinstance(values[0], str) else values,
    ],
)
@pytest.mark.parametrize("values", [[2, -13, 5], ["dök-2", "dök-0", "dök-5"], [True, False] * 6 + [True]], ids=str)
def test_every_kind_of_places_ids_and_masks(built: Built, convert: Callable[[list[Any]], Any], values: Any) -> None:
    dataset = CacheDataset(built.plain)
    expected = [0, 2, 4, 6, 8, 10, 12] if values[0] is True else [2, 0, 5]
    assert ids(dataset.select(convert(values))) == [IDS[place] for place in expected]


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint64, ">i4"])
def test_places_of_every_type_choose_of_more_documents_than_it_holds(built: Built, kind: Any) -> None:
    many = CacheDataset(built.plain).select(np.arange(300) % 13)
    places = [0, 120, 37] if "u" in np.dtype(kind).str else [0, 120, -128]
    assert ids(many.select(np.array(places, kind))) == [ids(many)[place] for place in places]


class TestRandomViews:
    def test_the_seed_decides(self, built: Built) -> None:
        dataset = CacheDataset(built.plain)
        assert ids(dataset.shuffle(3)) == ids(dataset.shuffle(3)) != ids(dataset.shuffle(4))
        assert sorted(ids(dataset.shuffle(3))) == sorted(IDS)

    @pytest.mark.parametrize(("size", "number"), [(1, 1), (5, 5), (13, 13), (0.5, 6), (0.01, 1), (0.99, 13)])
    def test_a_sample_keeps_the_order(self, built: Built, size: float, number: int) -> None:
        found = ids(CacheDataset(built.plain).sample(size, 1))
        assert len(found) == number
        assert found == [name for name in IDS if name in found]

    @pytest.mark.parametrize("by", [None, "context"])
    @pytest.mark.parametrize("size", [1, 4, 0.3])
    def test_a_split_has_all_documents_once(self, built: Built, size: float, by: Any) -> None:
        train, test = CacheDataset(built.plain).train_test_split(size, 5, by)
        assert sorted(ids(train) + ids(test)) == sorted(IDS)
        assert test.num_documents >= (4 if size != 1 else 1)
        if by:
            assert contexts(train) & contexts(test) == set()
        else:
            assert test.num_documents == (4 if size != 1 else 1)

    def test_a_document_that_comes_again_stays_on_one_side(self, built: Built) -> None:
        view = CacheDataset(built.plain).select([7, 3, 7, 7, 1, 3, 9, 7])
        for seed in range(10):
            splits = [view.train_test_split(2, seed), *view.folds(4, seed)]
            for train, test in splits:
                assert set(ids(train)) & set(ids(test)) == set()
                assert sorted(ids(train) + ids(test)) == sorted(ids(view))
            assert sorted(name for _, test in splits[1:] for name in ids(test)) == sorted(ids(view))
        with pytest.raises(SettingsError, match="from 2 to 4 folds"):
            view.folds(5, 0)

    @pytest.mark.parametrize("by", [None, "context"])
    @pytest.mark.parametrize("number", [2, 5, 10])
    def test_folds_have_all_documents_once(self, built: Built, number: int, by: Any) -> None:
        folds = CacheDataset(built.plain).folds(number, 5, by)
        assert sorted(name for _, test in folds for name in ids(test)) == sorted(IDS)
        for train, test in folds:
            assert sorted(ids(train) + ids(test)) == sorted(IDS)
            if by:
                assert contexts(train) & contexts(test) == set()
        sizes = [test.num_documents for _, test in folds]
        assert max(sizes) - min(sizes) <= (1 if by is None else 3)


def contexts(dataset: CacheDataset) -> set[str]:
    return {item["context"] for item in dataset}


class TestLoaders:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"lanes": "refilled"},
            {"align": "end"},
            {"group_by_length": True},
            {"lanes": "refilled", "group_by_length": True, "shuffle": True},
            {"max_segments": 2, "window": "answer", "shuffle": True},
        ],
        ids=str,
    )
    def test_an_epoch_reads_the_documents_of_the_view(self, built: Built, options: dict[str, Any]) -> None:
        whole = CacheDataset(built.sharded)
        view = whole.select([8, 0, 4, 1])
        loader = TimeStepMajorDataLoader(view, 2, padding="longest", metadata=["total_segments"], **options)
        read: dict[str, list[int]] = {}
        for item in loader:
            for step in [item] if options.get("lanes") == "refilled" else item:
                for name, row, tokens in zip(
                    step["example_ids"], step["rows"].tolist(), step["input_ids"], strict=True
                ):
                    if row >= 0:
                        read.setdefault(name, []).append(row)
                        # Padding is on the left: the end of the row is always there.
                        assert tokens.tolist() == whole[row]["input_ids"].tolist()[-len(tokens) :]
        most = options.get("max_segments")
        assert set(read) == {IDS[place] for place in (8, 0, 4, 1)}
        for name, rows in read.items():
            of_document = list(whole.document_map[name])
            assert rows == of_document if most is None else set(rows) <= set(of_document)
        size = loader.epoch_size(0)
        assert size.segments == sum(map(len, read.values()))
        real = sum(int(whole.gather(rows)["attention_mask"].sum()) for rows in read.values())
        if not most:
            assert size.real_tokens == real

    def test_the_regular_loader_reads_its_rows(self, built: Built) -> None:
        view = CacheDataset(built.sharded).select([5, 2])
        for options in ({}, {"shuffle": True}, {"group_by_length": True, "padding": "longest"}):
            loader = create_dataloader(view, 4, use_time_step_major=False, **options)
            rows = [row for batch in loader for row in batch["rows"].tolist()]
            assert sorted(rows) == sorted(view.rows().tolist())
            assert loader.epoch_size(0).segments == len(rows)
        assert GroupedRows(view, 2).lengths.tolist() == view.gather(view.rows())["attention_mask"].sum(1).tolist()

    def test_a_state_is_of_one_view(self, built: Built) -> None:
        dataset = CacheDataset(built.plain)
        view = dataset.select([4, 0, 1])
        loader = TimeStepMajorDataLoader(view, 2, shuffle=True, lanes="refilled", seed=1)
        steps = iter(loader)
        next(steps)
        state = loader.state_dict()
        again = TimeStepMajorDataLoader(dataset.select([4, 0, 1]), 2, shuffle=True, lanes="refilled", seed=1)
        again.load_state_dict(state)
        assert [step["rows"].tolist() for step in again] == [step["rows"].tolist() for step in steps]
        for other in (dataset, dataset.select([0, 4, 1]), dataset.select([4, 0])):
            with pytest.raises(CacheMismatchError, match="fingerprint"):
                TimeStepMajorDataLoader(other, 2, shuffle=True, lanes="refilled", seed=1).load_state_dict(state)


class TestEvaluation:
    def collected(self, dataset: CacheDataset) -> AnswerCollector:
        collector = AnswerCollector(dataset, max_answer_length=None)
        for group in create_evaluation_dataloader(dataset, 3, metadata=False):
            for step in group:
                place = torch.arange(step["input_ids"].shape[1])
                start, end = (
                    -(place - step[name][:, None]).abs().float() for name in ("start_positions", "end_positions")
                )
                collector.add(step["rows"], start, end)
        return collector

    def test_only_the_documents_of_the_view_count(self, built: Built) -> None:
        dataset = CacheDataset(built.plain)
        view = dataset.select([6, 0, 9])
        collector = self.collected(view)
        answers = dict(collector.answers())
        whole = dict(self.collected(dataset).answers())
        assert answers == {name: whole[name] for name in (IDS[0], IDS[6], IDS[9])}
        assert squad_metrics(answers, view)["total"] == 3
        assert answer_ceiling(view).documents == 3
        assert "of 13" not in repr(collector)

    def test_rows_of_the_view_are_missing_and_others_refused(self, built: Built) -> None:
        dataset = CacheDataset(built.plain)
        view = dataset.select([6, 0])
        collector = AnswerCollector(view)
        assert collector.num_missing_rows == len(view)
        with pytest.raises(SettingsError, match=IDS[0]):
            dict(collector.answers())
        outside = dataset.document_map[IDS[1]][0]
        with pytest.raises(SettingsError, match=f"found {outside} "):
            collector.add([outside], np.zeros((1, 48)), np.zeros((1, 48)))

    def test_collectors_of_one_view_merge(self, built: Built) -> None:
        dataset = CacheDataset(built.plain)
        view = dataset.select([6, 0])
        copied = pickle.loads(pickle.dumps(AnswerCollector(view, max_answer_length=None)))
        collector = self.collected(view)
        copied.merge(collector)
        assert dict(copied.answers()) == dict(collector.answers())
        with pytest.raises(CacheMismatchError):
            copied.merge(AnswerCollector(dataset, max_answer_length=None))

    def test_dropped_examples_belong_to_no_view(self, tmp_path: Path) -> None:
        rows = [example("the river", "what", [("river", 4)], id="a"), example("x", "the " * 90, id="long")]
        dataset = build(rows, sample_tokenizer(), tmp_path, max_seq_length=48, on_bad_example="drop")
        assert set(dict(self.collected(dataset).answers())) == {"a", "long"}
        assert set(dict(self.collected(dataset.take(1)).answers())) == {"a"}


def test_a_view_keeps_the_first_dataset_and_none_in_between(built: Built) -> None:
    view = dataset = CacheDataset(built.plain)
    kept = []
    for seed in range(5):
        view = view.shuffle(seed).with_compat("memxlnet-0")
        kept.append(weakref.ref(view))
    gc.collect()
    assert [one() for one in kept] == [None] * 4 + [view]
    assert view.__dict__["_original"] is dataset


def test_the_documents_of_a_view_cannot_be_changed(built: Built) -> None:
    places = np.array([3, 1])
    view = CacheDataset(built.plain).select(places)
    places[0] = 5
    for one in (view, pickle.loads(pickle.dumps(view)), view.with_compat("memxlnet-0")):
        assert one.chosen is not None
        with pytest.raises(ValueError, match="read-only"):
            one.chosen[0] = 4
        assert ids(one) == [IDS[3], IDS[1]]


class TestPickling:
    def test_a_view_is_sent_by_path_and_documents(self, built: Built) -> None:
        view = CacheDataset(built.plain).select([3, 1])
        raw = pickle.dumps(view)
        assert len(raw) < 1000
        found = pickle.loads(raw)
        assert ids(found) == ids(view)
        assert found.fingerprint == view.fingerprint

    def test_a_view_over_a_replaced_cache_is_refused(self, built: Built, tmp_path: Path) -> None:
        place = Path(shutil.copytree(built.plain, tmp_path / "cache"))
        raw = pickle.dumps(CacheDataset(place).select([3, 1]))
        shutil.rmtree(place)
        shutil.copytree(built.memory, place)
        with pytest.raises(CacheMismatchError, match=str(place)):
            pickle.loads(raw)


BAD: list[tuple[Callable[[CacheDataset], Any], type[MemxlnetError], str]] = [
    (lambda dataset: dataset.select([]), SettingsError, "^documents: .*none is chosen"),
    (lambda dataset: dataset.select([13]), RowIndexError, "document 13"),
    (lambda dataset: dataset.select([-14]), RowIndexError, "document -14"),
    (lambda dataset: dataset.select([f"no-{at}" for at in range(12)]), DocumentNotFoundError, "12 .*no-9', ..."),
    (lambda dataset: dataset.select("dök-0"), SettingsError, "str"),
    (lambda dataset: dataset.select(3), SettingsError, "int"),
    (lambda dataset: dataset.select([0.5]), SettingsError, "float64"),
    (lambda dataset: dataset.select([[1]]), SettingsError, r"\(1, 1\)"),
    (lambda dataset: dataset.select([True] * 12), SettingsError, "13 .*12"),
    (lambda dataset: dataset.select([False] * 13), SettingsError, "^documents: .*none is chosen"),
    (lambda dataset: dataset.select([[1], [2, 3]]), SettingsError, "inhomogeneous"),
    (lambda dataset: dataset.select(np.array(3)), SettingsError, r"shape \(\)"),
    (lambda dataset: dataset.select(torch.tensor(3)), SettingsError, r"shape \(\)"),
    (lambda dataset: dataset.select(torch.ones(2, dtype=torch.bfloat16)), SettingsError, "bfloat16"),
    (lambda dataset: dataset.select(torch.ones(2, requires_grad=True)), SettingsError, "float32"),
    (lambda dataset: dataset.select(torch.tensor([1]).to_sparse()), SettingsError, "Sparse"),
    (lambda dataset: dataset.select(torch.zeros(2, dtype=torch.int64, device="meta")), SettingsError, "meta"),
    (lambda dataset: dataset.select([2**70]), RowIndexError, f"document {2**70}"),
    (lambda dataset: dataset.select(range(2**70)), RowIndexError, f"document {2**70 - 1}"),
    (lambda dataset: dataset.select(range(10**13)), RowIndexError, "document 9999999999999"),
    (lambda dataset: dataset.select(range(-14, 0)), RowIndexError, "document -14"),
    (lambda dataset: dataset.select(np.array([1, 2**64 - 1], np.uint64)), RowIndexError, f"document {2**64 - 1}"),
    (lambda dataset: dataset.select(slice(0.5)), SettingsError, "slice"),
    (lambda dataset: dataset.select(slice(None, None, 0)), SettingsError, "slice"),
    (lambda dataset: dataset.select({"dök-0", "dök-1"}), SettingsError, "set, which has no order"),
    (lambda dataset: dataset.select([True, 3]), SettingsError, "integers and bools"),
    (lambda dataset: dataset.select([3, np.True_]), SettingsError, "integers and bools"),
    (lambda dataset: dataset.select([0, "dök-0"]), SettingsError, "<U21"),
    (lambda dataset: dataset.select(["dök-0", 0]), DocumentNotFoundError, "1 others: 0"),
    (lambda dataset: dataset.select(np.ma.array([1, 2], mask=[True, False])), SettingsError, "object"),
    (lambda dataset: dataset.select(pa.array([True] * 12 + [None])), SettingsError, "object"),
    (lambda dataset: dataset.select(pa.table({"id": ["dök-0"]})), SettingsError, "Table"),
    (lambda dataset: dataset.rows([999]), RowIndexError, "row 999"),
    (lambda dataset: dataset.take(2).rows([60]), RowIndexError, "row 60"),
    (lambda dataset: dataset.take(2).rows([0.5]), SettingsError, "float64"),
    (lambda dataset: dataset.filter(lambda document: np.array([1, 2])), SettingsError, r"'dök-0', found array"),
    (lambda dataset: dataset.filter(lambda document: pc.field("id") == "x"), SettingsError, "'dök-0', found .*id"),
    (lambda dataset: dataset.filter(pc.field("num_segments")), SettingsError, "columns id"),
    (lambda dataset: dataset.filter(pc.field("id") == 3), SettingsError, "columns id"),
    (lambda dataset: dataset.filter(pc.field("nothing") > 1), SettingsError, "nothing"),
    (lambda dataset: dataset.filter(pc.field("num_segments") > 1000), SettingsError, "^condition: .*none is chosen"),
    (lambda dataset: dataset.filter("x"), SettingsError, "condition"),
    (lambda dataset: dataset.take(0), SettingsError, "count"),
    (lambda dataset: dataset.skip(-1), SettingsError, "count"),
    (lambda dataset: dataset.skip(13), SettingsError, "^count: expected below 13, found 13"),
    (lambda dataset: dataset.skip(2**70), SettingsError, "^count: expected below 13"),
    (lambda dataset: dataset.sample(1.0, 0), SettingsError, "size"),
    (lambda dataset: dataset.sample(14, 0), SettingsError, "size"),
    (lambda dataset: dataset.sample(True, 0), SettingsError, "size"),
    (lambda dataset: dataset.sample(2, "x"), SettingsError, "seed"),  # type: ignore[arg-type]
    (lambda dataset: dataset.train_test_split(13, 0), SettingsError, "^test_size: expected documents on both sides"),
    (lambda dataset: dataset.train_test_split(float("nan"), 0), SettingsError, "test_size"),
    (lambda dataset: dataset.train_test_split(2, 0, by="title"), SettingsError, "by"),
    (lambda dataset: dataset.folds(1, 0), SettingsError, "number"),
    (lambda dataset: dataset.folds(14, 0), SettingsError, "number"),
    (lambda dataset: dataset.folds(11, 0, by="context"), SettingsError, "10 folds"),
    (lambda dataset: dataset.take(2).column("input_ids"), SettingsError, "view of 2"),
]


@pytest.mark.parametrize(("call", "error", "field"), BAD)
def test_bad_arguments(
    built: Built, call: Callable[[CacheDataset], Any], error: type[MemxlnetError], field: str
) -> None:
    with pytest.raises(error, match=field):
        call(CacheDataset(built.plain))


def test_unlabelled_documents_outside_of_a_view_do_not_stop_training(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        example("the river", "what", [("river", 4)], id="a"),
        {"id": "b", "question": "x", "context": "the river", "answers": None},
    ]
    dataset = build(rows, sample_tokenizer(), tmp_path, max_seq_length=48)
    with pytest.raises(SettingsError, match="'b'"):
        create_dataloader(dataset, 2)
    assert rows_read(dataset.select(["a"])) == [0]


def test_statistics_are_those_of_a_cache_of_the_documents(built: Built, tmp_path: Path) -> None:
    dataset = CacheDataset(built.sharded)
    chosen = [12, 3, 0, 7, 8]
    alone = build(
        [built.examples[place] for place in chosen],
        sample_tokenizer(),
        tmp_path,
        max_seq_length=LENGTH,
        doc_stride=OVERLAP,
    )
    view = dataset.select(chosen)
    assert read_statistics(view.cache, (1, 4), view.chosen) == read_statistics(alone.cache, (1, 4))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda dataset: dataset.shuffle(3), [1, 6, 12, 2, 10, 5, 4, 7, 3, 0, 9, 11, 8]),
        (lambda dataset: dataset.sample(4, -1), [3, 7, 9, 11]),
        (lambda dataset: dataset.train_test_split(3, 2**70, by="context").test, [6, 7, 9]),
        (lambda dataset: dataset.folds(3, 0)[1].test, [0, 1, 3, 6, 12]),
    ],
)
def test_random_views_stay_the_same_in_later_versions(
    built: Built, make: Callable[[CacheDataset], CacheDataset], expected: list[int]
) -> None:
    assert [IDS.index(name) for name in ids(make(CacheDataset(built.plain)))] == expected
