"""Documents in an order that reads few shards at a time. NumPy only.

The shards of a cache, in their order, form blocks of `BLOCK_SHARDS`. Blocks are permuted, and documents within their
block: a pure function of (seed, epoch). Each rank reads a contiguous part of that, so that it needs few shards at a
time, and other ones than other ranks do.
"""

import numpy as np
import xxhash

from memxlnet.format.manifest import TableRecord
from memxlnet.load.epoch_plan import Ranks
from memxlnet.load.length_grouping import Deal
from memxlnet.load.seeded_random import BLOCK_ORDER, Ints, Order, shuffled
from memxlnet.load.segment_windows import DocumentWindows

BLOCK_SHARDS = 4
"""Shards whose documents are mixed. More mix better and take more room."""


def blocks_of(table: TableRecord, rows: Ints) -> Ints:
    """Return int64[n], the block of each row."""
    starts = np.array([shard.row_start for shard in table.shards])
    blocks: Ints = (np.searchsorted(starts, rows, side="right") - 1) // BLOCK_SHARDS
    return blocks


def bytes_of_blocks(table: TableRecord, first: Ints, last: Ints) -> Ints:
    """Return int64[blocks], the bytes of the shards that hold what begins in each block.

    Args:
        table: The features.
        first: int64[n], the first row of each document.
        last: int64[n], the last one, which may lie in a later block.
    """
    starts = np.array([shard.row_start for shard in table.shards])
    ends: Ints = np.cumsum([0, *(shard.bytes for shard in table.shards)])
    begin = np.arange(0, len(starts), BLOCK_SHARDS)
    stop = begin.copy()
    np.maximum.at(stop, blocks_of(table, first), np.searchsorted(starts, last, side="right"))
    found: Ints = ends[stop] - ends[begin]
    return found


def layout_of(table: TableRecord) -> str:
    """Return a short text that differs where blocks begin at other rows: caches of equal content may differ in it."""
    starts = np.array([shard.row_start for shard in table.shards[::BLOCK_SHARDS]], "<i8")
    return f"{len(starts)} blocks of shards ({xxhash.xxh3_64_hexdigest(starts.tobytes())})"


def by_block(blocks: Ints, seed: int, epoch: int, shuffle: bool) -> Order:
    """Return an order in which the documents of a block follow each other.

    Args:
        blocks: int64[documents], the block of each.
        seed: Any integer.
        epoch: Number of the epoch.
        shuffle: Whether blocks, and documents within them, are permuted; else both keep their order.
    """
    if not shuffle:
        return np.argsort(blocks, kind="stable")
    turn = shuffled(int(blocks.max(initial=-1)) + 1, seed, epoch, BLOCK_ORDER)
    place = np.empty(len(turn), np.int64)
    place[turn] = np.arange(len(turn))
    order = shuffled(len(blocks), seed, epoch)
    return order[np.argsort(place[blocks[order]], kind="stable")]


def in_groups(order: Order, batch_size: int, ranks: Ranks) -> Order:
    """Return the order for aligned lanes, in which each rank's lanes read a contiguous part of the given one.

    Args:
        order: int[documents].
        batch_size: Lanes of a rank.
        ranks: Whose number counts.
    """
    world = ranks.world_size
    full, rest = divmod(len(order), batch_size * world)
    last = -(-rest // world)
    # As many documents as `AlignedPlan` gives each rank: full groups, and its lanes of the smaller last one.
    sizes = full * batch_size + np.clip(rest - np.arange(world) * last, 0, last)
    parts = np.split(order, np.cumsum(sizes)[:-1])
    groups = np.stack([part[: full * batch_size].reshape(full, batch_size) for part in parts], axis=1)
    return np.concatenate([groups.reshape(-1), *(part[full * batch_size :] for part in parts)])


def in_lanes(order: Order, blocks: Ints, windows: DocumentWindows, batch_size: int, ranks: Ranks) -> Deal:
    """Deal documents to refilled lanes, so that the lanes of a rank read about the same place of the order.

    The order is cut into a part for each rank, of about as many segments, and each block in it into a piece for each
    lane, so that all lanes are about as far.

    Args:
        order: int[documents], block after block.
        blocks: int64[documents], the block of each.
        windows: The segments that are read of each document.
        batch_size: Lanes of a rank.
        ranks: Whose number counts.
    """
    ends: Ints = np.concatenate([[0], np.cumsum(windows.counts[order], dtype=np.int64)])
    world, total = ranks.world_size, int(ends[-1])
    parts = _nearest(ends, np.arange(world + 1) * total / world)
    borders = np.flatnonzero(np.diff(blocks[order])) + 1
    lane = np.empty(len(order), np.int64)
    for rank in range(world):
        first, stop = int(parts[rank]), int(parts[rank + 1])
        inside = borders[(borders > first) & (borders < stop)].tolist()
        load = np.zeros(batch_size)
        for begin, end in zip([first, *inside], [*inside, stop], strict=True):
            # What each lane still lacks of an equal share of all up to the end of this piece.
            goal = (ends[end] - ends[first]) / batch_size
            lack = np.maximum(goal - load, 0)
            wanted = ends[begin] + np.cumsum(lack) * ((ends[end] - ends[begin]) / max(lack.sum(), 1))
            cuts = np.clip(_nearest(ends, np.concatenate([[0.0], wanted])), begin, end)
            cuts[0], cuts[-1] = begin, end
            load += np.diff(ends[cuts])
            lane[begin:end] = rank * batch_size + np.repeat(np.arange(batch_size), np.diff(cuts))
    turns = np.argsort(lane, kind="stable")
    stretches = np.concatenate([[0], np.cumsum(np.bincount(lane, minlength=world * batch_size))])
    return Deal(order[turns], 0, stretches)


def _nearest(ends: Ints, wanted: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Ints:
    """Return the documents before whose first segment each wanted number of segments is reached most nearly."""
    above = np.clip(np.searchsorted(ends, wanted), 1, len(ends) - 1) if len(ends) > 1 else np.zeros(len(wanted), int)
    below = np.maximum(above - 1, 0)
    nearest: Ints = np.where(wanted - ends[below] < ends[above] - wanted, below, above)
    return nearest
