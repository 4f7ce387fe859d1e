"""What a loader over a lazy cache will need: its shards are fetched ahead, in the order of its epoch."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np

from memxlnet.errors import SettingsError
from memxlnet.format.lazy_features import ExpectedShards
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.epoch_plan import EpochPlan
from memxlnet.load.mixed_dataset import MixedDataset
from memxlnet.load.option_literals import OrderBy, Window
from memxlnet.load.seeded_random import Ints
from memxlnet.load.shard_order import BLOCK_SHARDS, bytes_of_blocks

Item = TypeVar("Item")

logger = logging.getLogger(__name__)

_RUN_ROWS = 4096
"""Rows that are planned at once."""

_FEW_ROWS = 64
"""Rows whose shards are needed together."""


class ShardPlaces:
    """The shards that rows lie in.

    Args:
        dataset: Whose rows.
    """

    def __init__(self, dataset: CacheDataset):
        records = dataset.manifest.tables["features"].shards
        self._starts = np.array([record.row_start for record in records])

    def needed(self, rows: Ints) -> list[int]:
        """Return the shards of some rows, in the order of the first row of each; -1 is no row."""
        shards = np.searchsorted(self._starts, rows[rows >= 0], side="right") - 1
        numbers, first = np.unique(shards, return_index=True)
        found: list[int] = numbers[np.argsort(first)].tolist()
        return found


def check_order(
    dataset: CacheDataset,
    order: OrderBy,
    shuffle: bool,
    group_by_length: bool,
    window: Window = "first",
    *,
    by_rows: bool = False,
) -> None:
    """Check that a loader can read a dataset in its order; warn where a lazy one fetches shards over and over.

    Args:
        dataset: What is read.
        order: The order.
        shuffle: Whether it is permuted.
        group_by_length: Whether what has the same length is read together.
        window: Which segments are read of a document.
        by_rows: Whether single segments are read, not documents.

    Raises:
        SettingsError: The order is that of shards, and the dataset is a mixture or grouped by length; or the dataset is
            lazy, and the order takes what lies in all shards, or more shards at a time than its limit holds.
    """
    source = dataset.cache.source
    by_shards = order == "shards"
    if by_shards and group_by_length:
        raise SettingsError(
            "group_by_length: expected False with order='shards', found True: documents have one order; "
            "padding='longest' cuts rows in any"
        )
    if by_shards and isinstance(dataset, MixedDataset):
        raise SettingsError(
            "order: expected 'documents' for a mixture, whose sources are spread evenly over an epoch, found 'shards'"
        )
    if source is None:
        return
    if window == "answer":
        raise SettingsError(
            f"window: expected 'first' or 'random' for a lazy cache, found {window!r}, which reads all shards first; "
            "pull the cache without lazy=True"
        )
    if source.limit is None:
        return
    sizes = sorted((record.bytes for record in dataset.manifest.tables["features"].shards), reverse=True)
    least = sum(sizes[: BLOCK_SHARDS + 1])  # a document may end in the shard after a block
    if by_shards and source.limit < least:
        raise SettingsError(
            f"order: expected a local_limit of at least {least:,} bytes for order='shards', which reads "
            f"{BLOCK_SHARDS + 1} shards at a time, found {source.limit:,}; raise it, or build the cache with a smaller "
            "max_shard_rows"
        )
    if not (shuffle or group_by_length) or source.limit >= sum(sizes):
        return
    if not by_shards:
        logger.warning(
            "%s: documents in random order, or by their lengths, are read from all shards, of which local_limit=%d "
            "holds %d%%: most shards are fetched many times in each epoch; use order='shards', or raise the limit to "
            "%d bytes",
            dataset.directory,
            source.limit,
            100 * source.limit // sum(sizes),
            sum(sizes),
        )
    elif source.limit < (wanted := _two_blocks(dataset, by_rows)):
        logger.warning(
            "%s: an epoch fetches shards more than once within local_limit=%d; raise it to %d, which order='shards' "
            "reads at a time, or build the cache with a smaller max_shard_rows",
            dataset.directory,
            source.limit,
            wanted,
        )


def _two_blocks(dataset: CacheDataset, by_rows: bool) -> int:
    """Return the bytes of the largest two blocks: lanes that are done with one begin the next."""
    table = dataset.manifest.tables["features"]
    if by_rows:
        first = last = np.array([shard.row_start for shard in table.shards])
    else:
        first = dataset.documents.first_segment
        last = first + dataset.documents.num_segments - 1
    return int(np.sort(bytes_of_blocks(table, first, last))[-2:].sum())


def expecting(dataset: CacheDataset, batches: Iterator[Item], places: Ints, batch_size: int) -> Iterator[Item]:
    """Yield batches over a lazy cache, whose shards are fetched ahead.

    Args:
        dataset: What is read.
        batches: The batches.
        places: int64[n], the places in the dataset of all rows, in the order of the batches.
        batch_size: Rows of a batch.
    """
    source = dataset.cache.source
    if source is None:
        yield from batches
        return
    shards = ShardPlaces(dataset)
    parts = (places[begin : begin + batch_size] for begin in range(0, len(places), batch_size))
    ahead = source.expect((number, shards.needed(dataset.rows(part))) for number, part in enumerate(parts, 1))
    try:
        for number, batch in enumerate(batches, 1):
            ahead.reached(number)
            yield batch
    finally:
        ahead.close()


@contextmanager
def expected(dataset: CacheDataset, plan: EpochPlan, first: int) -> Iterator[ExpectedShards | None]:
    """Let the shards of an epoch be fetched ahead; None where all are here.

    Args:
        dataset: What is read.
        plan: The rows of the epoch.
        first: The step with which it begins.
    """
    source = dataset.cache.source
    if source is None:
        yield None
        return
    ahead = source.expect(_needs(ShardPlaces(dataset), plan, first))
    try:
        yield ahead
    finally:
        ahead.close()


def _needs(places: ShardPlaces, plan: EpochPlan, first: int) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield for a few steps at a time the step after them, and the shards of their rows."""
    step = first
    while step < plan.num_steps:
        run = range(step, plan.block(step, _RUN_ROWS).stop)
        rows = plan.step_rows(run).rows
        few = max(_FEW_ROWS // rows.shape[1], 1)
        for begin in range(0, len(run), few):
            part = rows[begin : begin + few]
            yield step + begin + len(part), places.needed(part.reshape(-1))
        step = run.stop
