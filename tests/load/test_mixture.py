"""Mixtures: shares that are kept, nothing twice before everything once, and states as over one cache."""

import itertools
import pickle
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import CacheMismatchError, SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader
from memxlnet.load.document_group import Group
from memxlnet.load.joining import balance, concatenate, mix
from memxlnet.load.mixture import Mixture, documents_per_epoch
from memxlnet.load.samplers import MixedRows, ShuffledRows
from tests.load.helpers import LENGTH, OVERLAP, Built, assert_same_tensors, sample_tokenizer, steps_of, time_major
from tests.support import build, example

LARGE_SEED = 2**64 - 1


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[Mixture, np.ndarray[Any, Any]]:
    """A mixture and the shares that it was asked for."""
    sizes = np.array(draw(st.lists(st.integers(1, 12), min_size=1, max_size=6)))
    weights = draw(st.lists(st.floats(0.01, 50), min_size=len(sizes), max_size=len(sizes)))
    shares = np.array(weights) / sum(weights)
    epoch = draw(st.sampled_from(["all", "shortest"]) | st.integers(1, 60))
    return Mixture(sizes, documents_per_epoch(sizes, shares, epoch), draw(st.integers(0, LARGE_SEED))), shares


def by_source(mixture: Mixture, epoch: int) -> list[list[int]]:
    """The documents that an epoch reads of each source, in their order, counted in the source."""
    bounds = np.cumsum([0, *mixture.sizes])
    places = mixture.places(epoch)
    return [
        (places[(places >= start) & (places < stop)] - start).tolist() for start, stop in itertools.pairwise(bounds)
    ]


@given(mixtures())
def test_shares_are_kept_within_one_document(drawn: tuple[Mixture, np.ndarray[Any, Any]]) -> None:
    mixture, _ = drawn
    read = np.zeros(len(mixture.sizes))
    for epoch in range(7):
        counts = mixture.counts(epoch)
        assert (np.abs(counts - mixture.per_epoch) < 1).all()
        read += counts
        assert (np.abs(read - (epoch + 1) * mixture.per_epoch) < 1).all()
        assert [len(part) for part in by_source(mixture, epoch)] == counts.tolist()
    assert abs(int(mixture.counts(0).sum()) - mixture.per_epoch.sum()) < 1


@given(mixtures())
def test_nothing_is_read_twice_before_everything_was_read_once(drawn: tuple[Mixture, np.ndarray[Any, Any]]) -> None:
    mixture, _ = drawn
    times = [Counter[int]() for _ in mixture.sizes]
    for epoch in range(9):
        for count, part, size in zip(times, by_source(mixture, epoch), mixture.sizes.tolist(), strict=True):
            count.update(part)
            every = [count[document] for document in range(size)]
            assert max(every) - min(every) <= 1


@given(mixtures(), st.integers(0, 10**6))
def test_an_epoch_is_a_pure_function_of_its_number(drawn: tuple[Mixture, np.ndarray[Any, Any]], epoch: int) -> None:
    mixture, _ = drawn
    again = Mixture(mixture.sizes.copy(), mixture.per_epoch.copy(), mixture.seed)
    later = mixture.places(epoch + 1)
    assert np.array_equal(mixture.places(epoch), again.places(epoch))
    assert np.array_equal(later, again.places(epoch + 1))
    assert mixture.fingerprint == again.fingerprint


def test_all_reads_every_source_once_and_shortest_none_twice() -> None:
    sizes, shares = np.array([3, 70, 11]), np.array([0.1, 0.6, 0.3])
    every = Mixture(sizes, documents_per_epoch(sizes, shares, "all"), 0)
    shortest = Mixture(sizes, documents_per_epoch(sizes, shares, "shortest"), 0)
    for epoch in range(50):
        assert (every.counts(epoch) >= sizes).all()
        assert every.counts(epoch)[1] == 70
        assert (shortest.counts(epoch) <= sizes).all()
        assert shortest.counts(epoch)[0] == 3


def test_sources_take_turns() -> None:
    mixture = Mixture(np.array([100, 100]), np.array([20.0, 60.0]), 5)
    source = mixture.places(0) // 100
    for start in range(0, 80, 8):
        assert abs(int((source[start : start + 8] == 0).sum()) - 2) <= 1


def test_another_seed_chooses_others() -> None:
    chosen = [set(Mixture(np.array([1000]), np.array([50.0]), seed).places(0).tolist()) for seed in range(5)]
    assert len(set(map(frozenset, chosen))) == 5


@pytest.fixture(scope="module")
def pieces(built: Built, tmp_path_factory: pytest.TempPathFactory) -> list[CacheDataset]:
    root = tmp_path_factory.mktemp("mixed")
    return [
        build(built.examples[start:stop], sample_tokenizer(), root, max_seq_length=LENGTH, doc_stride=OVERLAP)
        for start, stop in ((0, 3), (3, 10), (10, 13))
    ]


WEIGHTS = [1, 2, 0.5]

OPTIONS: list[dict[str, Any]] = [
    {},
    {"shuffle": True, "seed": 3},
    {"shuffle": True, "lanes": "refilled"},
    {"shuffle": True, "group_by_length": True, "padding": "longest"},
    {"max_segments": 2, "window": "answer", "shuffle": True},
]


class TestLoaders:
    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    def test_read_what_the_epoch_takes(self, pieces: list[CacheDataset], options: dict[str, Any]) -> None:
        mixed = mix(pieces, WEIGHTS, epoch=11)
        loader = create_dataloader(mixed, 2, **options)
        for epoch in range(3):
            view = mixed.at_epoch(epoch)
            assert loader.epoch_size(epoch).documents == view.num_documents == int(mixed.epoch_counts(epoch).sum())
            read = Counter(
                name
                for step in steps_of(loader)
                for name, first in zip(step["example_ids"], step["reset"].tolist(), strict=True)
                if first
            )
            assert read == Counter(view.get_all_documents())

    @pytest.mark.parametrize("options", OPTIONS, ids=str)
    @pytest.mark.parametrize("seed", range(3))
    def test_resume_anywhere(self, pieces: list[CacheDataset], options: dict[str, Any], seed: int) -> None:
        def make() -> Any:
            return create_dataloader(mix(pieces, WEIGHTS, epoch=9, seed=2), 3, **options)

        expected = list(itertools.islice(endless_steps(make()), 60))
        found: list[Any] = []
        draw = np.random.default_rng(seed)
        state: dict[str, Any] | None = None
        while len(found) < len(expected):
            loader = make()
            if state is not None:
                loader.load_state_dict(state)
            for step in itertools.islice(endless_steps(loader), int(draw.integers(1, 9))):
                found.append(step)
                state = loader.state_dict()
        for one, other in zip(found, expected, strict=False):
            assert_same_tensors(one, other)

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_several_ranks_read_the_same_together(self, pieces: list[CacheDataset], lanes: Any) -> None:
        mixed = mix(pieces, WEIGHTS, epoch=12)
        for epoch in range(3):
            rows: list[list[int]] = []
            for world in (1, 3):
                read: list[int] = []
                for rank in range(world):
                    loader = create_dataloader(
                        mixed, 6 // world, shuffle=True, lanes=lanes, rank=rank, world_size=world
                    )
                    loader.set_epoch(epoch)
                    read += [row for step in steps_of(loader) for row in step["rows"].tolist() if row >= 0]
                rows.append(sorted(read))
            assert rows[0] == rows[1] == sorted(mixed.at_epoch(epoch).rows().tolist())

    @pytest.mark.parametrize(
        "options", [{}, {"shuffle": True}, {"group_by_length": True, "shuffle": True, "padding": "longest"}], ids=str
    )
    def test_of_single_segments_read_the_rows_of_the_epoch(
        self, pieces: list[CacheDataset], options: dict[str, Any]
    ) -> None:
        mixed = mix(pieces, WEIGHTS, epoch=7)
        loader = create_dataloader(mixed, 4, use_time_step_major=False, **options)
        for epoch in range(4):
            size = loader.epoch_size(epoch)
            batches = list(loader)
            assert len(batches) == size.steps
            read = [row for batch in batches for row in batch["rows"].tolist()]
            assert sorted(read) == sorted(mixed.at_epoch(epoch).rows().tolist())
            assert size.segments == len(read)
            assert size.real_tokens == sum(int(batch["attention_mask"].sum()) for batch in batches)

    def test_refuse_a_state_of_another_mixture(self, pieces: list[CacheDataset]) -> None:
        state = time_major(mix(pieces, WEIGHTS), 2).state_dict()
        time_major(mix(pieces, WEIGHTS), 2).load_state_dict(state)
        time_major(mix(pieces, [2, 4, 1]), 2).load_state_dict(state)
        others = [
            mix(pieces, [1, 1, 1]),
            mix(pieces, WEIGHTS, seed=1),
            mix(pieces, WEIGHTS, epoch=3),
            concatenate(pieces),
            mix([pieces[0].take(2), *pieces[1:]], WEIGHTS),
        ]
        for other in others:
            with pytest.raises(CacheMismatchError):
                time_major(other, 2).load_state_dict(state)

    def test_refuse_evaluation(self, pieces: list[CacheDataset]) -> None:
        for is_major in (True, False):
            with pytest.raises(SettingsError, match=r"^evaluation: "):
                create_dataloader(mix(pieces, WEIGHTS), 2, use_time_step_major=is_major, evaluation=True)


def endless_steps(loader: Any) -> Iterator[Any]:
    for item in loader.endless():
        yield from item if isinstance(item, Group) else [item]


def test_a_mixture_is_pickled_by_path_and_rule(pieces: list[CacheDataset]) -> None:
    mixed = mix([pieces[0].shuffle(1), *pieces[1:]], WEIGHTS, epoch=9, seed=LARGE_SEED)
    again = pickle.loads(pickle.dumps(mixed))
    assert again.fingerprint == mixed.fingerprint
    assert list(again.at_epoch(3).get_all_documents()) == list(mixed.at_epoch(3).get_all_documents())


def test_views_are_mixed_and_a_mixture_has_none(pieces: list[CacheDataset]) -> None:
    mixed = mix([pieces[1].take(2), pieces[2].select([2])], [1, 1], epoch=4)
    assert mixed.num_documents == 3
    assert set(mixed.at_epoch(0).get_all_documents()) <= {*pieces[1].take(2).get_all_documents(), "dök-12"}
    for choose in (partial(mixed.take, 1), partial(mixed.select, [0]), partial(mix, [mixed], [1])):
        with pytest.raises(SettingsError, match="mixture"):
            choose()
    assert mixed.at_epoch(0).take(1).num_documents == 1


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        ([1, 2], r"\(2,\)"),
        ([1, 2, 3, 4], r"\(4,\)"),
        ([1, 0, 1], "0.0 at place 1"),
        ([1, -1, 1], "-1.0 at place 1"),
        ([1, float("nan"), 1], "nan at place 1"),
        ([1, 1, float("inf")], "inf at place 2"),
        (["a", "b", "c"], "<U1"),
        ([True, True, True], "bool"),
        (None, "object"),
        (3, r"\(\)"),
    ],
    ids=str,
)
def test_wrong_weights_are_refused(pieces: list[CacheDataset], weights: Any, found: str) -> None:
    with pytest.raises(SettingsError, match=f"^weights: .*{found}"):
        mix(pieces, weights)
    with pytest.raises(SettingsError, match=f"^by: .*{found}"):
        balance(pieces[0].take(3), weights)


def test_weights_that_no_epoch_can_keep_are_refused(pieces: list[CacheDataset]) -> None:
    for smallest in (1e-12, 1e-300, 5e-324):
        with pytest.raises(SettingsError, match=r"^epoch: expected at most 2147483647 documents, found .{3,12} for"):
            mix(pieces, [smallest, 1, 1])


def test_epochs_that_could_be_empty_are_refused(pieces: list[CacheDataset]) -> None:
    weights = [5, 6, 2]
    for epoch in (1, 2):
        with pytest.raises(SettingsError, match=rf"^epoch: expected at least 3 documents .* found {epoch}$"):
            mix(pieces, weights, epoch=epoch)
    mixed = mix(pieces, weights, epoch=3)
    assert all(mixed.at_epoch(epoch).num_documents for epoch in range(100))


@pytest.mark.parametrize("epoch", [2**60, 2**64, 10**400], ids=["2^60", "2^64", "10^400"])
def test_epochs_that_no_float_counts_are_refused(pieces: list[CacheDataset], epoch: int) -> None:
    mixed = mix(pieces, WEIGHTS)
    for read in (mixed.at_epoch, mixed.epoch_counts, mixed.rows_at):
        with pytest.raises(SettingsError, match=r"^epoch: expected at most \d+ "):
            read(epoch)


@pytest.mark.parametrize("epoch", [0, -1, 1.5, "longest", None, True, 2**40], ids=str)
def test_wrong_epochs_are_refused(pieces: list[CacheDataset], epoch: Any) -> None:
    with pytest.raises(SettingsError, match=r"^epoch: "):
        mix(pieces, WEIGHTS, epoch=epoch)


def test_weights_count_by_their_ratios(pieces: list[CacheDataset]) -> None:
    small, large = mix(pieces, [1e-300, 2e-300, 1e-300]), mix(pieces, [1e308, 1e308, 1e308])
    assert small.epoch_counts(0).tolist() == mix(pieces, [1, 2, 1]).epoch_counts(0).tolist()
    assert large.epoch_counts(0).tolist() == mix(pieces, torch.ones(3)).epoch_counts(0).tolist()


class TestBalance:
    def test_answered_and_unanswered_are_read_equally_often(self, built: Built) -> None:
        dataset = CacheDataset(built.plain)
        flags = {
            document["id"]: document["chosen_answer"] >= 0
            for batch in dataset.cache.documents.batches()
            for document in batch.to_pylist()
        }
        assert 0 < sum(flags.values()) < len(flags)
        mixed = balance(dataset, "has_answer", epoch=10)
        for epoch in range(5):
            has = [flags[name] for name in mixed.at_epoch(epoch).get_all_documents()]
            assert (has.count(True), has.count(False)) == (5, 5)

    def test_a_view_is_balanced(self, built: Built) -> None:
        dataset = CacheDataset(built.plain).shuffle(2).take(8)
        assert set(balance(built.plain, "has_answer").get_all_documents()) == set(
            CacheDataset(built.plain).get_all_documents()
        )
        assert set(balance(dataset, "has_answer").get_all_documents()) == set(dataset.get_all_documents())

    def test_each_document_comes_by_its_weight(self, built: Built) -> None:
        dataset = CacheDataset(built.plain)
        weights = np.linspace(0.2, 2.6, 13)
        mixed = balance(dataset, weights, epoch=13)
        names = list(dataset.get_all_documents())
        read = Counter(name for epoch in range(100) for name in mixed.at_epoch(epoch).get_all_documents())
        for name, weight in zip(names, weights / weights.sum(), strict=True):
            assert abs(read[name] - 1300 * weight) < 1

    def test_the_values_of_a_kept_column_are_classes(self, tmp_path: Path) -> None:
        examples = [
            example(f"Text {number}.", id=str(number), kind=None if number > 8 else "a" if number % 3 else "b")
            for number in range(10)
        ]
        dataset = build(examples, sample_tokenizer(), tmp_path, keep=["kind"])
        mixed = balance(dataset, "kind", epoch=12)
        for epoch in range(4):
            view = mixed.at_epoch(epoch)
            kinds = Counter(one["kind"] for one in view.metadata(view.rows(), ["kind"]) if one)
            assert kinds == {None: 4, "a": 4, "b": 4}

    @pytest.mark.parametrize(("by", "found"), [("title", "'title'"), ([1, 2], r"\(2,\)"), ([0] * 13, "0.0")], ids=str)
    def test_wrong_weights_are_refused(self, built: Built, by: Any, found: str) -> None:
        with pytest.raises(SettingsError, match=found):
            balance(CacheDataset(built.plain), by)

    def test_one_class_alone_is_refused(self, built: Built) -> None:
        answered = CacheDataset(built.plain).filter(lambda document: document["chosen_answer"] >= 0)
        with pytest.raises(SettingsError, match="one"):
            balance(answered, "has_answer")


def test_a_long_epoch_of_a_small_cache(tmp_path: Path, pieces: list[CacheDataset]) -> None:
    counts = Counter(mix([pieces[0]], [1], epoch=3001).at_epoch(1).get_all_documents())
    assert set(counts.values()) <= {1000, 1001}


def test_samplers_give_the_order_that_they_say(pieces: list[CacheDataset]) -> None:
    samplers = [ShuffledRows(9, 3), MixedRows(mix(pieces, WEIGHTS, epoch=7), 3, True)]
    for sampler in samplers:
        for epoch in range(3):
            assert list(sampler) == sampler.order(epoch).tolist()
