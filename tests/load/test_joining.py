"""Several caches as one dataset: as one cache of all of their examples."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from memxlnet.cache import Cache
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.errors import CacheMismatchError, CacheNotFoundError, DocumentNotFoundError, SettingsError
from memxlnet.evaluate.ceiling import answer_ceiling
from memxlnet.evaluate.collector import AnswerCollector
from memxlnet.evaluate.metrics import squad_metrics
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader
from memxlnet.load.joining import concatenate, mix
from memxlnet.load.segment_metadata import METADATA_NAMES
from memxlnet.load.statistics import read_statistics
from tests.load.helpers import LENGTH, OVERLAP, Built, assert_same_tensors, sample_tokenizer, steps_of, time_major
from tests.support import build, example

SETTINGS = {"max_seq_length": LENGTH, "doc_stride": OVERLAP}
CUTS = ((0, 4), (4, 9), (9, 13))
"""Which examples each cache holds; those that share a context are in one of them."""


ALL = [name for name in METADATA_NAMES if name != "source"]
"""All metadata in which caches of one source and of several agree."""


@pytest.fixture(scope="module")
def pieces(built: Built, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The examples of `built` in three caches, of which the second has many shards."""
    root = tmp_path_factory.mktemp("pieces")
    return [
        build(
            built.examples[start:stop],
            sample_tokenizer(),
            root / str(start),
            **SETTINGS,
            max_shard_rows=9 if start == 4 else None,
        ).directory
        for start, stop in CUTS
    ]


@pytest.fixture(params=["mapped", "in memory", "read-only", "device", "copies"])
def joined(request: pytest.FixtureRequest, pieces: list[Path], refuse_private_maps: Callable[[], None]) -> CacheDataset:
    ways: dict[str, dict[str, Any]] = {
        "in memory": {"in_memory": True},
        "device": {"device": "cpu"},
        "copies": {"copies": True, "dtype": "stored"},
    }
    options = ways.get(request.param, {})
    if request.param == "read-only":
        refuse_private_maps()
    return concatenate([CacheDataset(directory, **options) for directory in pieces])


@pytest.fixture
def whole(built: Built) -> CacheDataset:
    return CacheDataset(built.plain)


def assert_same(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name == "source":
            continue
        if isinstance(value, torch.Tensor):
            assert torch.equal(found[name].to(value.dtype), value), name
        else:
            assert found[name] == value, name


def test_rows_are_those_of_a_cache_of_all(joined: CacheDataset, whole: CacheDataset) -> None:
    assert len(joined) == len(whole)
    for row in range(-len(whole), len(whole)):
        assert_same(joined[row], whole[row])
    names = whole.tensors.names
    rows = torch.randperm(len(whole), generator=torch.Generator().manual_seed(1))
    for part in (rows, rows[:3], rows.repeat(40)):
        assert_same(joined.gather(part, names), whole.gather(part, names))
        assert_same(
            dict(joined.__getitems__(part.tolist()).columns), dict(whole.__getitems__(part.tolist()).columns)
        ) if (joined.options["dtype"] == "int64") else None
    column = joined.column("document")
    whole_column = torch.cat(column) if isinstance(column, list) else column
    assert torch.equal(whole_column, torch.as_tensor(whole.column("document")))


def test_documents_are_those_of_a_cache_of_all(joined: CacheDataset, whole: CacheDataset) -> None:
    assert joined.get_all_documents() == whole.get_all_documents()
    for name in whole.get_all_documents():
        assert joined.get_document_segments(name) == whole.get_document_segments(name)
    assert read_statistics(joined.cache) == read_statistics(whole.cache)
    assert joined.manifest.alignment == whole.manifest.alignment
    documents = [row for batch in joined.cache.documents.batches() for row in batch.to_pylist()]
    expected = [row for batch in whole.cache.documents.batches() for row in batch.to_pylist()]
    same = [name for name in expected[0] if name != "context"]
    assert [[row[name] for name in same] for row in documents] == [[row[name] for name in same] for row in expected]
    texts = [joined.cache.contexts.text("text", row["context"]) for row in documents]
    assert texts == [whole.cache.contexts.text("text", row["context"]) for row in expected]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lanes": "refilled", "shuffle": True},
        {"group_by_length": True, "shuffle": True, "padding": "longest"},
        {"max_segments": 2, "window": "answer", "seed": 3, "shuffle": True, "metadata": ALL},
        {"use_time_step_major": False, "shuffle": True, "metadata": ALL},
    ],
    ids=str,
)
def test_every_loader_reads_it_as_a_cache_of_all(
    pieces: list[Path], whole: CacheDataset, options: dict[str, Any]
) -> None:
    ours, expected = create_dataloader(concatenate(pieces), 3, **options), create_dataloader(whole, 3, **options)
    assert ours.epoch_size() == expected.epoch_size()
    if "use_time_step_major" in options:
        for found, wanted in zip(ours, expected, strict=True):
            assert_same_tensors(found, wanted)
        return
    for found, wanted in zip(steps_of(ours), steps_of(expected), strict=True):
        assert_same_tensors(found, wanted)
        assert list(found["example_ids"]) == list(wanted["example_ids"])


def test_a_view_is_that_of_a_cache_of_all(pieces: list[Path], whole: CacheDataset) -> None:
    joined = concatenate(pieces)
    chains: list[Callable[[CacheDataset], CacheDataset]] = [
        lambda dataset: dataset.shuffle(3).take(7),
        lambda dataset: dataset.filter(lambda document: document["num_segments"] > 2),
        lambda dataset: dataset.train_test_split(0.3, seed=1, by="context").train,
        lambda dataset: dataset.folds(3, seed=2)[1].test,
    ]
    for chain in chains:
        assert list(chain(joined).get_all_documents()) == list(chain(whole).get_all_documents())
        assert torch.equal(
            chain(joined).gather(chain(joined).rows())["input_ids"], whole.gather(chain(whole).rows())["input_ids"]
        )


def test_the_cache_of_joined_ones_is_shown_with_their_directories(pieces: list[Path]) -> None:
    cache = concatenate(pieces).cache
    shown = ", ".join(repr(str(piece)) for piece in pieces)
    assert repr(cache) == f"JoinedCache({shown}, {cache.num_rows} rows, {cache.num_documents} documents)"


def test_views_are_joined_as_they_are(pieces: list[Path]) -> None:
    first, second = CacheDataset(pieces[2]).shuffle(1), CacheDataset(pieces[0])
    both = concatenate([first, second, first.take(1)])
    expected = [*first.get_all_documents(), *second.get_all_documents(), *first.take(1).get_all_documents()]
    assert list(both.get_all_documents()) == expected
    assert concatenate([both, CacheDataset(pieces[1])]).num_documents == len(expected) + CUTS[1][1] - CUTS[1][0]


def test_equal_contexts_of_several_caches_stay_together(pieces: list[Path], tmp_path: Path, built: Built) -> None:
    again = [{**one, "id": f"other {one['id']}"} for one in built.examples[::2]]
    joined = concatenate([*pieces, build(again, sample_tokenizer(), tmp_path, **SETTINGS)])
    texts = {
        name: joined[row.start]["context"] for name in joined.get_all_documents() for row in [joined.document_map[name]]
    }
    for fold in joined.folds(4, seed=1, by="context"):
        train, test = ({texts[name] for name in side.get_all_documents()} for side in fold)
        assert not train & test


def test_one_alone_stays_what_it_is(pieces: list[Path]) -> None:
    dataset = CacheDataset(pieces[0])
    assert concatenate([dataset]) is dataset
    assert concatenate([Cache(pieces[0])]).fingerprint == dataset.fingerprint


def test_evaluation_is_that_of_a_cache_of_all(pieces: list[Path], whole: CacheDataset) -> None:
    joined = concatenate(pieces)
    rows = np.arange(len(whole))
    logits = np.random.default_rng(4).normal(size=(2, len(rows), LENGTH))
    found = []
    for dataset in (joined, whole, joined.select(range(13)), pickle.loads(pickle.dumps(joined))):
        collector = AnswerCollector(dataset)
        collector.add(rows, *logits)
        answers = dict(pickle.loads(pickle.dumps(collector)).answers())
        found.append((answers, squad_metrics(answers, dataset), answer_ceiling(dataset)))
    assert all(one == found[1] for one in found)


class TestPickling:
    def test_carries_the_paths(self, joined: CacheDataset) -> None:
        sent = pickle.dumps(joined)
        assert len(sent) < 2000
        again = pickle.loads(sent)
        assert again.fingerprint == joined.fingerprint
        assert again.options == joined.options
        assert_same(again[20], joined[20])

    def test_another_cache_in_its_place_is_refused(self, pieces: list[Path], tmp_path: Path) -> None:
        for number, directory in enumerate(pieces[:2]):
            shutil.copytree(directory, tmp_path / str(number))
        sent = pickle.dumps(concatenate([tmp_path / "0", tmp_path / "1"]))
        shutil.rmtree(tmp_path / "1")
        with pytest.raises(CacheNotFoundError):
            pickle.loads(sent)
        shutil.copytree(pieces[2], tmp_path / "1")
        with pytest.raises(CacheMismatchError):
            pickle.loads(sent)


def test_a_state_belongs_to_the_caches_in_their_order(pieces: list[Path]) -> None:
    state = time_major(concatenate(pieces), 3).state_dict()
    time_major(concatenate(pieces), 3).load_state_dict(state)
    for others in (pieces[::-1], pieces[:2]):
        with pytest.raises(CacheMismatchError):
            time_major(concatenate(others), 3).load_state_dict(state)


class TestRepeatedIds:
    @pytest.fixture
    def twice(self, pieces: list[Path], tmp_path: Path) -> CacheDataset:
        again = build(
            [example("Other text. ", id="dök-1"), example("More.", id="new")], sample_tokenizer(), tmp_path, **SETTINGS
        )
        return concatenate([*pieces, again])

    def test_train(self, twice: CacheDataset) -> None:
        read = [
            name
            for step in steps_of(create_dataloader(twice, 4))
            if step["reset"].any()
            for name in step["example_ids"]
        ]
        assert read.count("dök-1") >= 2

    def test_are_ambiguous_by_id(self, twice: CacheDataset) -> None:
        with pytest.raises(DocumentNotFoundError, match=r"'dök-1', in \S+, \S+;"):
            twice.document_map.find("dök-1")
        assert twice.document_map.find("new") == 14
        assert twice.skip(5).document_map.find("dök-1") == 8

    def test_are_refused_by_evaluation(self, twice: CacheDataset) -> None:
        with pytest.raises(SettingsError, match="'dök-1'"):
            AnswerCollector(twice)
        with pytest.raises(SettingsError, match="'dök-1'"):
            squad_metrics({}, twice)
        AnswerCollector(twice.skip(5))


def test_sources_have_names_of_their_own(pieces: list[Path]) -> None:
    joined = concatenate(pieces)
    assert len(set(joined.sources)) == 3
    expected = [joined.sources[place] for place in (0, 0, 1, 2)]
    assert [joined.cache.source_of(document) for document in (0, 3, 4, 12)] == expected
    rows = [joined.document_map[joined.document_map.ids[document]].start for document in (0, 3, 4, 12)]
    assert [joined[row]["source"] for row in rows] == expected
    loader = create_dataloader(joined.select([0, 3, 4, 12]), 4, metadata=["source"])
    assert next(iter(next(iter(loader))))["source"] == expected


@pytest.fixture
def others(built: Built, tmp_path: Path) -> dict[str, Any]:
    """What does not fit, by the field that differs."""
    with_memory = sample_tokenizer()
    configure_memory_tokens(with_memory, 2)
    more = sample_tokenizer()
    more.add_tokens(["unseen-token"])
    examples = built.examples[:1]
    return {
        "max_seq_length": build(examples, sample_tokenizer(), tmp_path, max_seq_length=64, doc_stride=OVERLAP),
        "tokenizer.layout.memory_read_ids": build(examples, with_memory, tmp_path, **SETTINGS),
        "tokenizer.sha256": build(examples, more, tmp_path, **SETTINGS),
    }


def test_caches_that_do_not_fit_are_refused(built: Built, others: dict[str, CacheDataset]) -> None:
    for field, other in others.items():
        for caches in ([CacheDataset(built.plain), other], [other, CacheDataset(built.plain)]):
            with pytest.raises(CacheMismatchError, match=f"{field}: ") as caught:
                concatenate(caches)
            assert str(built.plain) in str(caught.value)
            assert str(other.directory) in str(caught.value)


def test_another_overlap_fits(built: Built, tmp_path: Path) -> None:
    other = build(built.examples[:2], sample_tokenizer(), tmp_path, max_seq_length=LENGTH, doc_stride=5)
    joined = concatenate([CacheDataset(built.plain).skip(2), other])
    assert joined.num_documents == 13
    assert "doc_stride" not in joined.cache_params


@pytest.mark.parametrize(
    ("caches", "found"),
    [
        ([], r"\[\]"),
        ("a path", "'a path'"),
        (None, "None"),
        ([3], "int"),
        ({"a": 1}, "{"),
    ],
    ids=str,
)
def test_wrong_caches_are_refused(caches: Any, found: str) -> None:
    for call in (concatenate, lambda value: mix(value, [1])):
        with pytest.raises(SettingsError, match=f"^caches: .*{found}"):
            call(caches)


def test_datasets_opened_in_different_ways_are_refused(pieces: list[Path]) -> None:
    for options in ({"copies": True}, {"dtype": "stored"}, {"in_memory": True}, {"device": "cpu"}):
        with pytest.raises(SettingsError, match=f"{next(iter(options))}="):
            concatenate([CacheDataset(pieces[0]), CacheDataset(pieces[1], **options)])


def test_a_missing_cache_is_named(pieces: list[Path], tmp_path: Path) -> None:
    with pytest.raises(CacheNotFoundError, match="nothing"):
        concatenate([*pieces, tmp_path / "nothing"])


class TestKept:
    @pytest.fixture
    def kept(self, tmp_path: Path) -> CacheDataset:
        """Caches that keep columns of their own, one of two types, and none."""
        rows: list[tuple[list[dict[str, Any]], Any]] = [
            ([{"title": "é", "level": 1, "info": {"a": 1}}, {"title": None, "level": 2, "info": None}], "all"),
            ([{}, {}], ()),
            ([{"title": "z", "level": 2.5, "info": {"b": "x"}}], "all"),
            ([{"other": [1, 2]}], ["other"]),
        ]
        parts = []
        for number, (fields, keep) in enumerate(rows):
            examples = [example(f"Text {at}.", id=f"{number}-{at}", **one) for at, one in enumerate(fields)]
            parts.append(build(examples, sample_tokenizer(), tmp_path / str(number), keep=keep))
        return concatenate(parts)

    def test_values_are_those_of_each_cache(self, kept: CacheDataset) -> None:
        assert list(kept.manifest.kept) == ["info", "level", "other", "title"]
        values = [kept[row] for row in range(len(kept))]
        assert [one["title"] for one in values] == ["é", None, None, None, "z", None]
        assert [one["level"] for one in values] == [1, 2, None, None, 2.5, None]
        assert [one["other"] for one in values] == [None, None, None, None, None, [1, 2]]
        assert kept.metadata([4], ["title", "source"]) == [{"title": "z", "source": kept.sources[2]}]

    def test_choose_documents(self, kept: CacheDataset) -> None:
        assert list(kept.filter(pc.field("level") > 1.5).get_all_documents()) == ["0-1", "2-0"]
        assert list(kept.filter(pc.field("title") == "é").get_all_documents()) == ["0-0"]
        info = pc.struct_field(pc.field("info"), "b")
        assert list(kept.filter(info == "x").get_all_documents()) == ["2-0"]
        train, test = kept.train_test_split(1, seed=0, by="title")
        assert train.num_documents + test.num_documents == 6
        titles = [{kept[row]["title"] for row in side.rows().tolist()} for side in (train, test)]
        assert not titles[0] & titles[1]
        assert read_statistics(kept.cache, by="title").values == {None: 4, "é": 1, "z": 1}

    def test_of_types_that_do_not_fit_are_refused(self, tmp_path: Path) -> None:
        parts = [
            build([example("Text.", id="a", level=level)], sample_tokenizer(), tmp_path / str(level), keep=["level"])
            for level in (1, "one")
        ]
        with pytest.raises(CacheMismatchError, match="'level': expected int64, found large_string"):
            concatenate(parts)


def test_a_kept_source_is_shown_as_it_was_kept(tmp_path: Path) -> None:
    examples = [example("Text.", id="a", source="a book"), example("More text.", id="b", source=None)]
    dataset = build(examples, sample_tokenizer(), tmp_path, keep=["source"])
    assert [row["source"] for row in dataset] == ["a book", None]
    step = next(iter(next(iter(create_dataloader(dataset, 2, metadata=True)))))
    assert step["source"] == ["a book", None]


@pytest.mark.parametrize("chosen", [[0, 8], [4, 8], [0, 4], [0, 4, 8, 1]], ids=str)
def test_an_id_that_occurs_three_times_is_refused_in_any_view_with_two(pieces: list[Path], chosen: list[int]) -> None:
    view = concatenate([pieces[0]] * 3).select(chosen)
    for evaluated in (view, view.shuffle(1)):
        with pytest.raises(SettingsError, match="expected each id once"):
            squad_metrics({}, evaluated, allow_missing=True)
    first = view.take(1)
    assert squad_metrics(dict.fromkeys(first.get_all_documents(), ""), first)["total"] == 1
