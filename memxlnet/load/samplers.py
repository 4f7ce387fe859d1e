"""Samplers of single segments: orders that are pure functions of (seed, epoch), whose iterators have a state."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import torch
import xxhash
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

from memxlnet.errors import SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.length_grouping import Lengths, grouped
from memxlnet.load.loader_options import check_batch_size, check_fields
from memxlnet.load.mixed_dataset import MixedDataset
from memxlnet.load.row_lengths import row_lengths
from memxlnet.load.seeded_random import Ints, Order, check_seed, shuffled
from memxlnet.load.shard_order import by_block
from memxlnet.settings import check_bool, whole_number

_ROWS_AT_ONCE = 1 << 14

T = TypeVar("T")


class EpochSampler(Sampler[T], ABC):
    """Gives the items of one epoch after the other; an iteration to its end moves on to the next epoch.

    Attributes:
        seed: Seed of the order, modulo 2^64.
        epoch: Number of the epoch that the next iteration reads.
    """

    def __init__(self, seed: int):
        self.seed = check_seed(seed)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration reads."""
        self.epoch = whole_number("epoch", epoch, 0)

    def __iter__(self) -> "EpochItems[T]":
        return EpochItems(self)

    def __len__(self) -> int:
        """Return the number of items of the epoch that the next iteration reads."""
        return self.length(self.epoch)

    @abstractmethod
    def length(self, epoch: int) -> int:
        """Return the number of items of an epoch."""

    @property
    @abstractmethod
    def bound(self) -> dict[str, Any]:
        """What the order is a function of, besides the epoch: the state of an iterator is bound to it."""

    @abstractmethod
    def items(self, epoch: int, start: int = 0) -> Iterator[T]:
        """Return the items of an epoch from one of them on."""


class EpochItems(Iterator[T], Generic[T]):
    """The items of one epoch, counted as they are handed out: torchdata's ``StatefulDataLoader`` asks for the state.

    Args:
        sampler: Whose items; its epoch is read with the first of them.
    """

    def __init__(self, sampler: EpochSampler[T]):
        self._sampler = sampler
        self._epoch: int | None = None
        self._handed_out = 0
        self._rest = self._items()

    def __next__(self) -> T:
        item = next(self._rest)
        self._handed_out += 1
        # Here, because a loop may take all batches and not ask for one more.
        epoch = self._sampler.epoch
        if epoch == self._epoch and self._handed_out == self._sampler.length(epoch):
            self._sampler.epoch += 1
        return item

    def state_dict(self) -> dict[str, Any]:
        """Return how many items of which epoch have been handed out, and what the order is a function of besides."""
        epoch = self._sampler.epoch if self._epoch is None else self._epoch
        return {"epoch": epoch, "handed_out": self._handed_out, **self._sampler.bound}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where a state was taken; the sampler continues with the epoch after it.

        Args:
            state: What `state_dict` gave.

        Raises:
            SettingsError: The state is of another order, or is not one.
        """
        check_fields(state, self.state_dict())
        for name, expected in self._sampler.bound.items():
            if state[name] != expected:
                raise SettingsError(f"state: {name}: expected {expected!r} as in this sampler, found {state[name]!r}")
        epoch, count = (whole_number(f"state: {name}", state[name], 0) for name in ("epoch", "handed_out"))
        length = self._sampler.length(epoch)
        if count > length:
            raise SettingsError(f"state: handed_out: expected at most {length}, found {count}")
        self._epoch, self._handed_out, self._rest = epoch, count, self._items()
        # A loader whose state was taken after its last item drops this iterator and begins another.
        self._sampler.epoch = epoch + (count == length)

    def _items(self) -> Iterator[T]:
        self._epoch = self._sampler.epoch if self._epoch is None else self._epoch
        yield from self._sampler.items(self._epoch, self._handed_out)


class RowSampler(EpochSampler[int]):
    """Gives single rows, in the order of each epoch."""

    @abstractmethod
    def order(self, epoch: int) -> Order:
        """Return int[rows], the rows of an epoch, as places in the dataset."""

    def items(self, epoch: int, start: int = 0) -> Iterator[int]:
        """Yield the rows of an epoch from one of them on."""
        order = self.order(epoch)
        for begin in range(start, len(order), _ROWS_AT_ONCE):
            yield from order[begin : begin + _ROWS_AT_ONCE].tolist()


class ShuffledRows(RowSampler):
    """Rows in an order that is a pure function of (seed, epoch); an iteration to its end moves on to the next epoch.

    Its iterators have a state, so that torchdata's ``StatefulDataLoader`` resumes it in the middle of an epoch.

    Args:
        num_rows: Number of rows.
        seed: Any integer.
        blocks: int64[num_rows], the block of shards of each row: rows are permuted within blocks, and so are the
            blocks. None permutes all rows.
        shuffle: False only sorts the rows by their blocks, which must be given.

    Attributes:
        shuffle: Whether rows are permuted.
    """

    def __init__(self, num_rows: int, seed: int, blocks: Ints | None = None, shuffle: bool = True):
        super().__init__(seed)
        self.num_rows = num_rows
        self.shuffle = check_bool("shuffle", shuffle)
        if blocks is None and not shuffle:
            raise SettingsError("shuffle: expected True without blocks, found False; leave the sampler out")
        self._blocks = blocks

    @cached_property
    def _digest(self) -> str:
        return xxhash.xxh3_64_hexdigest(np.asarray(self._blocks, "<i8").tobytes())

    def length(self, epoch: int) -> int:
        """Return the number of rows."""
        return self.num_rows

    @property
    def bound(self) -> dict[str, Any]:
        """What the order is a function of, besides the epoch."""
        bound = {"seed": self.seed, "num_rows": self.num_rows}
        if self._blocks is None:
            return bound
        return bound | {"order": "shards", "blocks": self._digest} | ({} if self.shuffle else {"shuffle": False})

    def order(self, epoch: int) -> Order:
        """Return int[rows], the rows of an epoch."""
        if self._blocks is not None:
            return by_block(self._blocks, self.seed, epoch, self.shuffle)
        return shuffled(self.num_rows, self.seed, epoch)

    def turns(self, epoch: int) -> Order:
        """Return int[rows], the order of the rows that an epoch reads, which are all."""
        return self.order(epoch)


class MixedRows(RowSampler):
    """The rows that each epoch reads of a mixture; iterators have a state.

    Args:
        dataset: The mixture.
        seed: Any integer.
        shuffle: Rows in a random order; else document after document, the sources evenly spread.
    """

    def __init__(self, dataset: MixedDataset, seed: int, shuffle: bool):
        super().__init__(seed)
        self.shuffle = shuffle
        self._rows = RowsOfEpoch(dataset)

    def length(self, epoch: int) -> int:
        """Return the number of rows of an epoch."""
        return len(self._rows.of(epoch))

    @property
    def bound(self) -> dict[str, Any]:
        """What the order is a function of, besides the epoch."""
        return {"seed": self.seed, "shuffle": self.shuffle, "fingerprint": self._rows.dataset.fingerprint}

    def turns(self, epoch: int) -> Order | None:
        """Return int[rows], the order of the rows of an epoch; None for their own."""
        return shuffled(self.length(epoch), self.seed, epoch) if self.shuffle else None

    def order(self, epoch: int) -> Order:
        """Return int64[rows], the rows of an epoch, as places in the dataset."""
        rows, turns = self._rows.of(epoch), self.turns(epoch)
        return rows if turns is None else rows[turns]


class RowsOfEpoch:
    """The rows of a mixture that an epoch reads, kept for the epoch that was asked for last.

    Args:
        dataset: The mixture.
    """

    def __init__(self, dataset: MixedDataset):
        self.dataset = dataset
        self._kept: tuple[int, Ints] | None = None

    def of(self, epoch: int) -> Ints:
        """Return int64[rows], places in the dataset."""
        if self._kept is None or self._kept[0] != epoch:
            self._kept = epoch, self.dataset.rows_at(epoch)
        return self._kept[1]


class GroupedRows(EpochSampler[list[int]]):
    """Batches of rows of similar length, in an order that is a pure function of (seed, epoch).

    A batch sampler of torch's `DataLoader`, to be used with ``Collate(..., padding="longest")``: what a model computes
    on is hardly padding. An iteration to its end moves on to the next epoch, and iterators have a state, so that
    torchdata's ``StatefulDataLoader`` resumes in the middle of an epoch. It knows nothing of ranks; Accelerate, and
    with it the Trainer of transformers, deals its batches out.

    Args:
        rows: A dataset over a cache, whose number columns are read; or int[rows], the length of each row in tokens.
        batch_size: Rows of a batch.
        seed: Any integer.
        drop_last: Leave out the last batch where it is smaller.
        shuffle: Batches in a random order, another one each epoch; else the longest rows come first.

    Attributes:
        lengths: int32[rows], the lengths.
        batch_size: Rows of a batch.
        drop_last: Whether the last, smaller batch is left out.

    Raises:
        SettingsError: An argument is wrong.
    """

    def __init__(
        self,
        rows: CacheDataset | ArrayLike,
        batch_size: int,
        seed: int = 0,
        drop_last: bool = False,
        shuffle: bool = True,
    ):
        super().__init__(seed)
        self.batch_size = check_batch_size(batch_size)
        self.drop_last = check_bool("drop_last", drop_last)
        self.shuffle = check_bool("shuffle", shuffle)
        self.lengths = row_lengths(rows.cache, rows.rows_of_view) if isinstance(rows, CacheDataset) else _checked(rows)
        self._rows = RowsOfEpoch(rows) if isinstance(rows, MixedDataset) else None

    def length(self, epoch: int) -> int:
        """Return the number of batches of an epoch."""
        rows = len(self.lengths) if self._rows is None else len(self._rows.of(epoch))
        return rows // self.batch_size if self.drop_last else -(-rows // self.batch_size)

    @property
    def bound(self) -> dict[str, Any]:
        """What the order is a function of, besides the epoch and the lengths."""
        mixture = {} if self._rows is None else {"fingerprint": self._rows.dataset.fingerprint}
        return mixture | {
            "seed": self.seed,
            "num_rows": len(self.lengths),
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            "shuffle": self.shuffle,
        }

    def order(self, epoch: int) -> Order:
        """Return int[rows], the rows of an epoch, batch after batch."""
        turns = self.turns(epoch)
        return turns if self._rows is None else self._rows.of(epoch)[turns]

    def turns(self, epoch: int) -> Order:
        """Return int[rows], the order of the rows that an epoch reads: all, but of a mixture."""
        lengths = self.lengths if self._rows is None else self.lengths[self._rows.of(epoch)]
        return grouped(Lengths.of_rows(lengths), self.batch_size, self.seed, epoch, self.shuffle)

    def items(self, epoch: int, start: int = 0) -> Iterator[list[int]]:
        """Yield the batches of an epoch from one of them on."""
        order = self.order(epoch)
        for begin in range(start * self.batch_size, self.length(epoch) * self.batch_size, self.batch_size):
            yield order[begin : begin + self.batch_size].tolist()


def _checked(lengths: ArrayLike) -> NDArray[np.int32]:
    """Return the lengths of rows that are not checked yet.

    Raises:
        SettingsError: They are not integers of at least 0 in one dimension.
    """
    try:
        found = np.asarray(lengths.cpu() if isinstance(lengths, torch.Tensor) else lengths)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"rows: expected a dataset or the lengths of rows, found {lengths!r:.80} ({error})"
        ) from None
    if found.ndim != 1 or (found.dtype.kind not in "iu" and found.size):
        raise SettingsError(
            "rows: expected a dataset over a cache, or integers in one dimension, the lengths of rows; found "
            f"{type(lengths).__name__} of {found.dtype} with the shape {found.shape}"
        )
    if found.size and not 0 <= int(found.min()) <= int(found.max()) < 2**31:
        raise SettingsError(f"rows: expected lengths from 0 to 2^31 - 1, found {found.min()} to {found.max()}")
    return found.astype(np.int32)
