"""``order="shards"``: each document once, those of a block together, ranks apart; a pure function of seed and epoch."""

import json
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import SettingsError
from memxlnet.format.manifest import ShardRecord, TableRecord
from memxlnet.load.aligned_plan import AlignedPlan
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.epoch_plan import EpochPlan, Ranks
from memxlnet.load.joining import mix
from memxlnet.load.refilled_plan import RefilledPlan
from memxlnet.load.samplers import ShuffledRows
from memxlnet.load.segment_loader import regular_loader
from memxlnet.load.shard_order import BLOCK_SHARDS, blocks_of, by_block, bytes_of_blocks, in_groups, in_lanes
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from tests.load.conftest import SHARD_ROWS
from tests.load.helpers import Built
from tests.load.test_aligned_plan import WIDTHS
from tests.load.test_segment_windows import EPOCHS, SEEDS, Corpus

BLOCKS = st.lists(st.integers(0, 4), max_size=40)


def runs(values: list[int]) -> list[int]:
    """Each value once for every run of it."""
    return [value for place, value in enumerate(values) if not place or value != values[place - 1]]


@given(BLOCKS, SEEDS, EPOCHS, st.booleans())
def test_each_document_is_read_once_and_those_of_a_block_together(
    blocks: list[int], seed: int, epoch: int, shuffle: bool
) -> None:
    given_blocks = np.array(blocks, np.int64)
    order = by_block(given_blocks, seed, epoch, shuffle)
    assert sorted(order.tolist()) == list(range(len(blocks)))
    found = runs(given_blocks[order].tolist())
    assert sorted(found) == sorted(set(blocks))
    assert order.tolist() == by_block(given_blocks, seed, epoch, shuffle).tolist()
    if not shuffle:
        assert found == sorted(found)


def test_blocks_and_documents_are_shuffled_otherwise_in_each_epoch_and_for_each_seed() -> None:
    blocks = np.repeat(np.arange(20), 50)
    orders = [by_block(blocks, seed, epoch, True) for seed in range(3) for epoch in range(3)]
    assert len({tuple(runs(blocks[order].tolist())) for order in orders}) == 9
    assert len({tuple(order[blocks[order] == 7].tolist()) for order in orders}) == 9


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 12))
def test_the_bytes_of_a_block_are_those_of_all_shards_that_its_documents_reach(lengths: list[int], rows: int) -> None:
    ends: Any = np.cumsum(lengths)
    first, total = ends - lengths, int(ends[-1])
    shards = [
        ShardRecord(f"{start}", 100 + start, "", start, min(start + rows, total)) for start in range(0, total, rows)
    ]
    table = TableRecord(total, 0, tuple(shards))
    blocks = [{*shards[begin : begin + BLOCK_SHARDS]} for begin in range(0, len(shards), BLOCK_SHARDS)]
    found = bytes_of_blocks(table, first, ends - 1)
    for number, block in enumerate(blocks):
        own = [(start, end) for start, end in zip(first, ends, strict=True) if start // rows // BLOCK_SHARDS == number]
        needed = {shard for shard in shards for start, end in own if shard.row_start < end and shard.row_stop > start}
        # Shards before its first document may count too: they hold the end of one of the block before.
        assert sum(shard.bytes for shard in needed) <= found[number] <= sum(shard.bytes for shard in needed | block)


def plans(lengths: list[int], blocks: list[int], batch_size: int, world: int, kind: str) -> Iterator[EpochPlan]:
    """The plans of all ranks."""
    windows = Corpus(lengths).windows(None, "first")
    numbers = np.array(blocks, np.int64)
    for rank in range(world):
        ranks = Ranks(rank, world)
        order = by_block(numbers, 3, 1, True)
        if kind == "refilled":
            yield RefilledPlan(windows, in_lanes(order, numbers, windows, batch_size, ranks), batch_size, ranks)
        else:
            yield AlignedPlan(windows, in_groups(order, batch_size, ranks), batch_size, ranks)


@pytest.mark.parametrize("kind", ["aligned", "refilled"])
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), max_size=40),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_all_ranks_together_read_every_segment_once(
    kind: str, documents: list[tuple[int, int]], batch_size: int, world: int
) -> None:
    lengths, blocks = [length for length, _ in documents], [block for _, block in documents]
    rows: list[int] = []
    steps = set()
    for plan in plans(lengths, blocks, batch_size, world, kind):
        steps.add(plan.num_steps)
        step = 0
        while step < plan.num_steps:
            block = plan.block(step, 2**30)
            rows += [row for row in plan.step_rows(block).rows.reshape(-1).tolist() if row >= 0]
            step = block.stop
    assert sorted(rows) == sorted(Corpus(lengths).rows_of(range(len(lengths))))
    assert len(steps) == 1


@pytest.mark.parametrize("kind", ["aligned", "refilled"])
@pytest.mark.parametrize("world", [1, 3])
def test_a_rank_reads_few_blocks_at_a_time_and_hardly_any_of_another_rank(kind: str, world: int) -> None:
    draw = np.random.default_rng(0)
    blocks = np.repeat(np.arange(12), 100)
    lengths = draw.integers(1, 6, len(blocks)).tolist()
    read = []
    for plan in plans(lengths, blocks.tolist(), 8, world, kind):
        at_once, all_of_it = [], []
        for step in range(plan.num_steps):
            documents = plan.step_rows(range(step, step + 1)).documents
            found = {*blocks[documents[documents >= 0]].tolist()}
            at_once.append(len(found))
            all_of_it += sorted(found)
        assert max(at_once) <= 2
        assert len({*all_of_it}) <= 12 // world + 1
        read.append({*all_of_it})
        size = plan.size(WIDTHS["max_length"])
        assert size.padding <= 0.05 * size.segments or kind == "aligned"
    assert set().union(*read) == set(range(12))


@pytest.mark.parametrize("lanes", ["aligned", "refilled"])
def test_local_caches_and_views_are_read_in_the_order_of_shards(sharded: CacheDataset, lanes: Any) -> None:
    for dataset in (sharded, sharded.sample(0.7, seed=1), sharded.shuffle(seed=2)):
        loader = TimeStepMajorDataLoader(dataset, 1, True, lanes=lanes, order="shards", seed=5)
        for _ in range(2):
            rows = [
                row
                for item in loader
                for step in ([item] if lanes == "refilled" else item)
                for row in step["rows"].tolist()
                if row >= 0
            ]
            assert sorted(rows) == sorted(dataset.rows().tolist())
            first = dataset.documents.first_segment
            starts = [row for row in rows if row in {*first.tolist()}]
            table = dataset.manifest.tables["features"]
            found = runs(blocks_of(table, np.array(starts)).tolist())
            assert len(found) == len(set(found))
            assert blocks_of(table, np.array([BLOCK_SHARDS * SHARD_ROWS]))[0] == 1


def test_states_resume_and_are_bound_to_the_order_and_the_ranks(sharded: CacheDataset) -> None:
    options: dict[str, Any] = {"lanes": "refilled", "seed": 1}
    loader: Any = TimeStepMajorDataLoader(sharded, 2, True, order="shards", **options)
    expected = [step["rows"].tolist() for step in loader]
    loader.set_epoch(0)
    steps = iter(loader)
    begun = [next(steps)["rows"].tolist() for _ in range(5)]
    state = json.loads(json.dumps(loader.state_dict()))
    steps.close()
    again: Any = TimeStepMajorDataLoader(sharded, 2, True, order="shards", **options)
    again.load_state_dict(state)
    assert begun + [step["rows"].tolist() for step in again] == expected
    others: list[dict[str, Any]] = [{}, {"order": "shards", "rank": 0, "world_size": 2}]
    for other in others:
        size = 2 // other.get("world_size", 1)
        with pytest.raises(SettingsError, match="state"):
            TimeStepMajorDataLoader(sharded, size, True, **other, **options).load_state_dict(state)


def test_single_segments_are_read_in_the_order_of_shards(sharded: CacheDataset) -> None:
    table = sharded.manifest.tables["features"]
    for dataset in (sharded, sharded.sample(0.7, seed=1)):
        loader = regular_loader(dataset, 5, True, 0, order="shards", seed=3)
        epochs = [[row for batch in loader for row in batch["rows"].tolist()] for _ in range(2)]
        assert epochs[0] != epochs[1]
        for rows in epochs:
            assert sorted(rows) == sorted(dataset.rows().tolist())
            found = runs(blocks_of(table, np.array(rows)).tolist())
            assert len(found) == len(set(found))
        with pytest.raises(SettingsError, match="group_by_length"):
            regular_loader(dataset, 5, True, 0, order="shards", group_by_length=True)


def test_single_segments_of_a_view_are_sorted_by_block_without_a_shuffle(sharded: CacheDataset) -> None:
    table = sharded.manifest.tables["features"]
    for dataset in (sharded, sharded.shuffle(seed=2)):
        loader = regular_loader(dataset, 5, False, 0, order="shards")
        rows = dataset.rows()
        expected = rows[np.argsort(blocks_of(table, rows), kind="stable")].tolist()
        for _ in range(2):
            assert [row for batch in loader for row in batch["rows"].tolist()] == expected
        tokens = [int(batch["attention_mask"].sum()) for batch in loader]
        assert loader.epoch_size().real_tokens == sum(tokens)
        assert "shuffle=False" in repr(loader)
    permuted: Any = regular_loader(dataset, 5, True, 0, order="shards").sampler
    with pytest.raises(SettingsError, match="state"):
        iter(permuted).load_state_dict(iter(cast(Any, loader.sampler)).state_dict())
    with pytest.raises(SettingsError, match=r"^shuffle: expected True without blocks"):
        ShuffledRows(5, 0, shuffle=False)


def test_states_of_the_order_of_documents_are_as_before(sharded: CacheDataset) -> None:
    state = TimeStepMajorDataLoader(sharded, 2, True).state_dict()
    assert not {"order", "world_size"} & {*state}


def test_what_does_not_go_together_is_refused(sharded: CacheDataset, built: Built) -> None:
    other = CacheDataset.open(built.plain)
    wrong: list[tuple[CacheDataset, dict[str, Any], str]] = [
        (sharded, {"order": "pages"}, "order"),
        (sharded, {"order": "shards", "group_by_length": True}, "group_by_length"),
        (mix([sharded, other], [1, 1]), {"order": "shards"}, "order"),
    ]
    for dataset, options, name in wrong:
        with pytest.raises(SettingsError, match=f"^{name}: expected"):
            TimeStepMajorDataLoader(dataset, 2, True, **options)


def test_states_are_bound_to_the_shards(built: Built) -> None:
    one, other = CacheDataset.open(built.sharded), CacheDataset.open(built.plain)
    assert one.manifest.fingerprint == other.manifest.fingerprint
    state = TimeStepMajorDataLoader(one, 2, True, order="shards").state_dict()
    with pytest.raises(SettingsError, match="state: blocks: expected '1 blocks"):
        TimeStepMajorDataLoader(other, 2, True, order="shards").load_state_dict(state)
    rows = [regular_loader(dataset, 2, True, 0, order="shards").sampler for dataset in (one, other)]
    samplers: list[Any] = [iter(each) for each in rows]
    with pytest.raises(SettingsError, match="state: blocks"):
        samplers[1].load_state_dict(samplers[0].state_dict())
