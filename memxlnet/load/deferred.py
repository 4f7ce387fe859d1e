"""Groups or steps that are made when they are read, for those who skip the first of an epoch."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any


class DeferredBatch:
    """A batch of a time-step-major loader in the place of row indices: a dataset that is indexed with it reads it.

    Attributes:
        read: Makes the batch.
    """

    def __init__(self, read: Callable[[], Any]):
        self.read = read


class DeferredBatches:
    """A batch sampler over what a time-step-major loader yields: skipping a batch costs nothing.

    ``skip_first_batches`` of Accelerate, and with it the Trainer of transformers, makes a torch `DataLoader` of a
    loader's dataset, batch sampler and collate function. The batches of one iteration are to be read in their order.

    Args:
        count: Gives the number of batches of the epoch that is read or comes next.
        start_at: Starts an iteration of that epoch with one of its batches.
        set_epoch: Sets the epoch.
    """

    def __init__(
        self, count: Callable[[], int], start_at: Callable[[int], Iterator[Any]], set_epoch: Callable[[int], None]
    ):
        self._count = count
        self._start_at = start_at
        self.set_epoch = set_epoch

    def __len__(self) -> int:
        return self._count()

    def __iter__(self) -> Iterator[DeferredBatch]:
        batches: Iterator[Any] | None = None

        def read(number: int) -> Any:
            nonlocal batches
            if batches is None:
                batches = self._start_at(number)
            return next(batches)

        for number in range(len(self)):
            yield DeferredBatch(partial(read, number))
        if batches is not None:
            next(batches, None)  # the loader moves on to its next epoch


def as_it_is(batch: Any) -> Any:
    """Return a batch as it is."""
    return batch
