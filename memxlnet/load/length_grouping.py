"""Orders in which documents, or rows, of similar length stand together: pure functions of (seed, epoch). NumPy only.

A model computes on the longest row of a step for all its lanes, and a group of documents lasts as long as its longest
one. All rows of a document but its last are full, so that its length is the number of its segments, and then the tokens
of its last row.
"""

import heapq
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memxlnet.load.seeded_random import (
    AT_ONCE,
    GROUP_ORDER,
    LENGTH_NOISE,
    REST,
    SEGMENT_NOISE,
    TURN_ORDER,
    Ints,
    Order,
    below,
    drawn,
    parts,
    shuffled,
)

_TOKEN_NOISE, _MOST_NOISE = 128, 64
"""Shuffled, a document counts as up to a 128th longer than it is, in tokens of its last row and by half a row at most:
epochs differ, and the cost stays small."""

_SEGMENT_NOISE = 16
"""So it does by up to a 16th in segments: documents of 16 segments and more mix."""

_MOST_UNITS = 341 * _TOKEN_NOISE
"""Parts of a row at most in which lengths are counted: with the noise they have 16 bits, which NumPy sorts by radix."""


class Lengths(NamedTuple):
    """How long documents are.

    Attributes:
        segments: int32[documents], the rows of each.
        last_tokens: int32[documents], the real tokens of the last of them.
        row_tokens: Tokens of a full row.
    """

    segments: NDArray[np.int32]
    last_tokens: NDArray[np.int32]
    row_tokens: int

    @classmethod
    def of_rows(cls, lengths: NDArray[np.int32]) -> "Lengths":
        """Return the lengths of single rows, which count as documents of one segment."""
        return cls(np.broadcast_to(np.int32(1), len(lengths)), lengths, int(lengths.max(initial=1)))


class Deal(NamedTuple):
    """Documents dealt to refilled lanes.

    Attributes:
        order: The documents: even groups, one document a lane, all of as many segments; then the stretch of each lane.
        even: Documents in even groups, a multiple of the lanes.
        borders: int64[lanes + 1], the places in the order with which the stretches begin, and its end.
    """

    order: Order
    even: int
    borders: Ints


def grouped(lengths: Lengths, size: int, seed: int, epoch: int, shuffle: bool) -> Order:
    """Return an order in which groups of `size` documents are of similar length.

    Shuffled, lengths have some noise, and the order of the groups is random; the documents of the last, smaller group
    are neighbours by length from anywhere, each as likely as any other. Else the longest documents come first.

    Args:
        lengths: The lengths.
        size: Documents in a group.
        seed: Any integer.
        epoch: Number of the epoch.
        shuffle: Whether the order is random.
    """
    order = _by_length(lengths, seed, epoch, shuffle, mix_segments=True)
    if not shuffle:
        return order
    groups, rest = divmod(len(order), size)
    rest_at = _runs(np.array([len(order)]), np.array([rest]), seed, epoch)
    found = np.empty_like(order)
    # The run that is left out may wrap around the end: then it leaves documents out at both ends.
    round_end = int(rest_at[-1]) + 1 if rest and rest_at[0] > rest_at[-1] else 0
    begin = int(rest_at[0]) if rest and not round_end else len(order)
    numbers = shuffled(groups, seed, epoch, GROUP_ORDER)
    for part in parts(groups, max(AT_ONCE // size, 1)):
        places = numbers[part].astype(np.int64)[:, None] * size + np.arange(size) + round_end
        found[part.start * size : part.stop * size] = order[places + rest * (places >= begin)].reshape(-1)
    found[groups * size :] = order[rest_at]
    return found


def dealt(lengths: Lengths, lanes: int, seed: int, epoch: int, shuffle: bool) -> Deal:
    """Deal documents to refilled lanes, so that lanes side by side read documents of similar length.

    As many documents as there are lanes, all of as many segments and neighbours by their last rows, are an even group:
    its lanes stay in step. Fewer documents than lanes are left of each number of segments; each of these, the longest
    first, goes to the lane that has the fewest segments.

    Args:
        lengths: The lengths.
        lanes: Lanes of all ranks.
        seed: Any integer.
        epoch: Number of the epoch.
        shuffle: Whether the order of the groups, and of the turns of the lanes after them, is random; else the longest
            documents come first.
    """
    order = _by_length(lengths, seed, epoch, shuffle, mix_segments=False)
    counts = lengths.segments[order]
    begins = np.flatnonzero(np.diff(counts, prepend=0))
    sizes = np.diff(begins, append=len(order))
    left = sizes % lanes
    left_at = _runs(sizes, left, seed, epoch) if shuffle else _places(begins + sizes - left, left)
    even = np.delete(order, left_at).reshape(-1, lanes)
    rest = order[left_at]
    rest = rest[np.argsort(-lengths.segments[rest], kind="stable")]
    lane, turn = _least_loaded(lengths.segments[rest].tolist(), lanes)
    if shuffle:
        even = even[shuffled(len(even), seed, epoch, GROUP_ORDER)]
        turn = shuffled(int(turn.max(initial=-1)) + 1, seed, epoch, TURN_ORDER)[turn].astype(np.int64)
    borders = np.cumsum(np.bincount(lane + 1, minlength=lanes + 1), dtype=np.int64) + even.size
    return Deal(np.concatenate([even.reshape(-1), rest[np.lexsort((turn, lane))]]), even.size, borders)


def _by_length(lengths: Lengths, seed: int, epoch: int, shuffle: bool, mix_segments: bool) -> Order:
    """Return the documents by their number of segments, and those of as many by the tokens of their last row.

    Shuffled, the shortest come first, last rows have noise (numbers of segments, too, if they are to mix), and equals
    stand in a random order. Else the longest come first, and equals in their own order.
    """
    segments, last_tokens, row_tokens = lengths
    # Lengths of rows are counted in parts of a token, or of many tokens where rows are very long.
    units = min(_TOKEN_NOISE * row_tokens, _MOST_UNITS)
    noise = max(units // _TOKEN_NOISE, 1)
    keys = units + noise * _MOST_NOISE
    known = np.zeros(0, segments.dtype)
    for part in parts(len(segments)):
        known = np.union1d(known, segments[part])

    def of_last_row(documents: Order) -> Ints:
        length: Ints = last_tokens[documents].astype(np.int64) * units // row_tokens
        if not shuffle:
            return units - length
        bounds = noise * np.minimum(segments[documents], _MOST_NOISE)
        return length + _drawn_below(bounds, documents, seed, epoch, LENGTH_NOISE)

    def of_segments(documents: Order) -> Ints:
        counts = segments[documents].astype(np.int64)
        if shuffle and mix_segments and known[-1] >= _SEGMENT_NOISE:
            counts += _drawn_below(counts, documents, seed, epoch, SEGMENT_NOISE) // _SEGMENT_NOISE
        place: Ints = np.searchsorted(known, counts, side="right") - 1
        return place if shuffle else len(known) - 1 - place

    count = len(segments)
    order: Order = (
        shuffled(count, seed, epoch) if shuffle else np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)
    )
    order = _sorted_by(of_last_row, keys, order)
    return _sorted_by(of_segments, len(known), order) if len(known) > 1 else order


def _drawn_below(bounds: NDArray[np.integer], documents: Order, seed: int, epoch: int, purpose: int) -> Ints:
    return below(drawn(documents, seed, epoch, purpose), bounds)


def _sorted_by(key: Callable[[Order], Ints], num_keys: int, order: Order) -> Order:
    """Sort stably by keys from 0 to `num_keys` - 1, in blocks: each key is made twice instead of kept."""
    places: Ints = np.zeros(num_keys + 1, np.int64)
    for part in parts(len(order)):
        places[1:] += np.bincount(key(order[part]), minlength=num_keys)
    np.cumsum(places, out=places)
    found = np.empty_like(order)
    for part in parts(len(order)):
        own = key(order[part])
        inside = np.argsort(own.astype(np.uint16) if num_keys <= 1 << 16 else own, kind="stable")
        own = own[inside]
        first = np.flatnonzero(np.diff(own, prepend=-1))
        number = np.diff(first, append=len(own))
        found[np.arange(len(own)) + np.repeat(places[own[first]] - first, number)] = order[part][inside]
        places[own[first]] += number
    return found


def _runs(sizes: Ints, wanted: Ints, seed: int, epoch: int) -> Ints:
    """Return the places of a random run of each of some adjacent classes; a run may go round the end of its class."""
    start = below(drawn(np.arange(len(sizes)), seed, epoch, REST), sizes)
    found: Ints = _places(start, wanted) % np.repeat(sizes, wanted) + np.repeat(np.cumsum(sizes) - sizes, wanted)
    return found


def _places(begins: Ints, lengths: Ints) -> Ints:
    """Return the places of runs."""
    found: Ints = np.arange(lengths.sum()) + np.repeat(begins - np.cumsum(lengths) + lengths, lengths)
    return found


def _least_loaded(counts: list[int], lanes: int) -> tuple[Ints, Ints]:
    """Return the lane of each document, which goes to the least loaded one, and its turn there."""
    loads = [(0, lane, 0) for lane in range(lanes)]
    found: Ints = np.empty((len(counts), 2), np.int64)
    for place, count in enumerate(counts):
        load, lane, turn = loads[0]
        found[place] = lane, turn
        heapq.heapreplace(loads, (load + count, lane, turn + 1))
    return found[:, 0], found[:, 1]
