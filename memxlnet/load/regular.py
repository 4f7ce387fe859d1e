"""The regular loader: a torch `DataLoader` over segments, whatever document they are of."""

from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from memxlnet.errors import SettingsError
from memxlnet.load.collate import Collate
from memxlnet.load.compat import Compat
from memxlnet.load.datasets import CacheDataset
from memxlnet.load.options import (
    can_pin,
    check_batch_size,
    check_dataset,
    check_fields,
    check_seed,
    check_workers,
    metadata_names,
)
from memxlnet.load.order import shuffled
from memxlnet.load.steps import ENDED_LABELS
from memxlnet.settings import check_bool, one_of, positive_int, whole_number

_ROWS_AT_ONCE = 1 << 14


class ShuffledRows(Sampler[int]):
    """Rows in an order that is a pure function of (seed, epoch); an iteration to its end moves on to the next epoch.

    Its iterators have a state, so that torchdata's ``StatefulDataLoader`` goes on with it in the middle of an epoch.

    Args:
        num_rows: Number of rows.
        seed: Any integer.
    """

    def __init__(self, num_rows: int, seed: int):
        self.num_rows = num_rows
        self.seed = check_seed(seed)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration reads."""
        self.epoch = whole_number("epoch", epoch, 0)

    def __len__(self) -> int:
        return self.num_rows

    def __iter__(self) -> "EpochRows":
        return EpochRows(self)


class EpochRows(Iterator[int]):
    """The rows of one epoch, counted as they are handed out: torchdata's ``StatefulDataLoader`` asks for the state.

    Args:
        sampler: Whose rows; its epoch is read with the first row.
    """

    def __init__(self, sampler: ShuffledRows):
        self._sampler = sampler
        self._epoch: int | None = None
        self._handed_out = 0
        self._rest = self._rows()

    def __next__(self) -> int:
        row = next(self._rest)
        self._handed_out += 1
        # Here, because a loop may take all batches and not ask for one more.
        if self._handed_out == self._sampler.num_rows and self._sampler.epoch == self._epoch:
            self._sampler.epoch += 1
        return row

    def state_dict(self) -> dict[str, int]:
        """How many rows of which epoch have been handed out, and what the order is a function of besides."""
        sampler = self._sampler
        epoch = sampler.epoch if self._epoch is None else self._epoch
        return {"epoch": epoch, "handed_out": self._handed_out, "seed": sampler.seed, "num_rows": sampler.num_rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken, and the sampler with the epoch after it.

        Args:
            state: What `state_dict` gave.

        Raises:
            SettingsError: The state is of another order, or is none.
        """
        own = self.state_dict()
        check_fields(state, own)
        for name in ("seed", "num_rows"):
            if state[name] != own[name]:
                raise SettingsError(f"state: {name}: expected {own[name]!r} as in this sampler, found {state[name]!r}")
        epoch, count = (whole_number(f"state: {name}", state[name], 0) for name in ("epoch", "handed_out"))
        if count > own["num_rows"]:
            raise SettingsError(f"state: handed_out: expected at most {own['num_rows']}, found {count}")
        self._epoch, self._handed_out, self._rest = epoch, count, self._rows()
        # A loader whose state was taken after its last row drops this iterator and begins another.
        self._sampler.epoch = epoch + (count == own["num_rows"])

    def _rows(self) -> Iterator[int]:
        sampler = self._sampler
        epoch = self._epoch = sampler.epoch if self._epoch is None else self._epoch
        order = shuffled(sampler.num_rows, sampler.seed, epoch)
        for start in range(self._handed_out, sampler.num_rows, _ROWS_AT_ONCE):
            yield from order[start : start + _ROWS_AT_ONCE].tolist()


def regular_loader(
    dataset: CacheDataset,
    batch_size: int,
    shuffle: bool,
    num_workers: int,
    *,
    seed: int = 0,
    drop_last: bool = False,
    dtype: str = "int64",
    ended_label: str = "ignore",
    metadata: bool | Iterable[str] = False,
    pin_memory: bool = False,
    compat: Compat | None = None,
    persistent_workers: bool = False,
    prefetch_factor: int | None = None,
    multiprocessing_context: Any = None,
    timeout: float = 0,
    worker_init_fn: Any = None,
) -> "DataLoader[Any]":
    """Make a torch `DataLoader` over segments; see `create_dataloader` for the arguments.

    Raises:
        SettingsError: An argument is wrong.
    """
    one_of("ended_label", ended_label, ENDED_LABELS)
    dataset = check_dataset(dataset).with_compat(compat)
    rows = len(dataset)
    sampler = ShuffledRows(rows, seed) if check_bool("shuffle", shuffle) else None
    size, workers = check_batch_size(batch_size), check_workers(num_workers)
    collate = Collate(dtype, dataset, metadata_names(metadata))
    drop_last, pinned = check_bool("drop_last", drop_last), check_bool("pin_memory", pin_memory) and can_pin()
    persistent_workers = check_bool("persistent_workers", persistent_workers)
    _check_worker_options(prefetch_factor, timeout, worker_init_fn)
    # Of its own: torch draws a number for its worker processes at each epoch, else from the global generator.
    generator = torch.Generator().manual_seed(check_seed(seed) >> 1)
    try:
        return DataLoader(
            dataset,
            batch_size=size,
            sampler=sampler,
            num_workers=workers,
            generator=generator,
            collate_fn=collate,
            drop_last=drop_last,
            pin_memory=pinned,
            persistent_workers=persistent_workers,
            prefetch_factor=prefetch_factor,
            multiprocessing_context=multiprocessing_context,
            timeout=timeout,
            worker_init_fn=worker_init_fn,
        )
    except (ValueError, TypeError) as error:
        raise SettingsError(f"torch's DataLoader refuses its options: {error}") from error


def _check_worker_options(prefetch_factor: object, timeout: object, worker_init_fn: object) -> None:
    """Torch finds out when the first worker starts."""
    if prefetch_factor is not None:
        positive_int("prefetch_factor", prefetch_factor, " (or None for torch's choice)")
    if isinstance(timeout, bool) or not isinstance(timeout, Real) or not 0 <= float(timeout) < float("inf"):
        raise SettingsError(f"timeout: expected seconds, 0 for no end, found {timeout!r}")
    if worker_init_fn is not None and not callable(worker_init_fn):
        raise SettingsError(f"worker_init_fn: expected a function or None, found {type(worker_init_fn).__name__}")
