"""The regular loader: a torch `DataLoader` over single segments of any document."""

from collections.abc import Iterator
from numbers import Real
from typing import Any, Generic, cast, get_args

import numpy as np
import torch
from torch.utils.data import DataLoader

from memxlnet.errors import SettingsError
from memxlnet.format.padding import Padding, RowWidths
from memxlnet.format.ragged import bounds_of
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.collate import Batch, Collate
from memxlnet.load.compat import Compat
from memxlnet.load.devices import Device, Transfer, check_device
from memxlnet.load.epoch_plan import EpochSize
from memxlnet.load.loader_options import (
    Item,
    can_pin,
    check_batch_size,
    check_dataset,
    check_labelled,
    check_read_once,
    check_workers,
)
from memxlnet.load.mixed_dataset import MixedDataset
from memxlnet.load.option_literals import Dtype, EndedLabel, Metadata, OrderBy
from memxlnet.load.row_lengths import batches_size, row_lengths
from memxlnet.load.samplers import EpochSampler, GroupedRows, MixedRows, RowSampler, ShuffledRows
from memxlnet.load.seeded_random import Ints, check_seed
from memxlnet.load.shard_order import blocks_of
from memxlnet.load.shards_ahead import check_order, expecting
from memxlnet.notebook import html_table
from memxlnet.settings import check_bool, one_of, positive_int, whole_number


class RegularDataLoader(DataLoader[Item], Generic[Item]):
    """A torch `DataLoader` over segments that knows what an epoch costs; it yields each `Batch`."""

    # What it needs besides torch's own lies in the collate function, which a loader that others make of it keeps.

    def _shown_settings(self) -> dict[str, Any]:
        samplers = [one for one in (self.batch_sampler, self.sampler) if isinstance(one, EpochSampler)]
        return {
            "batch_size": self._batch_size,
            "shuffle": any(getattr(one, "shuffle", True) for one in samplers),
            "group_by_length": any(isinstance(one, GroupedRows) for one in samplers),
        }

    def _repr_html_(self) -> str:
        rows = {"dataset": repr(self.dataset), **self._shown_settings(), "batches": len(self)}
        return html_table(type(self).__name__, rows)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self._shown_settings().items())
        return (
            f"{type(self).__name__}({cast(CacheDataset, self.dataset).directory.name!r}, {shown}, {len(self)} batches)"
        )

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]  # torch names the class of its iterator
        """Return the batches of an epoch."""
        batches: Any = super().__iter__()
        dataset = cast(CacheDataset, self.dataset)
        if dataset.cache.source is not None:
            batches = expecting(dataset, batches, self._places(), self._batch_size)
        device = getattr(self.collate_fn, "device", None)
        return cast(
            Iterator[Item], batches if device is None or device.type == "cpu" else Transfer(device).ahead(batches)
        )

    def _places(self) -> Ints:
        """Return int64[rows], the places in the dataset that the next iteration reads, in its order."""
        for sampler in (self.batch_sampler, self.sampler):
            if isinstance(sampler, RowSampler | GroupedRows):
                return np.asarray(sampler.order(sampler.epoch), np.int64)
        return np.arange(len(cast(CacheDataset, self.dataset)))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration reads; without a shuffle all epochs are equal."""
        epoch = whole_number("epoch", epoch, 0)
        for sampler in (self.batch_sampler, self.sampler):
            if isinstance(sampler, EpochSampler):
                sampler.set_epoch(epoch)

    def epoch_size(self, epoch: int | None = None) -> EpochSize:
        """Return what an epoch costs in rows, batches (its steps) and tokens: from number columns alone.

        Args:
            epoch: Number of the epoch; None for the one that is read or comes next.
        """
        order, number = None, 0 if epoch is None else whole_number("epoch", epoch, 0)
        for sampler in (self.batch_sampler, self.sampler):
            if isinstance(sampler, ShuffledRows | MixedRows | GroupedRows):
                number = sampler.epoch if epoch is None else number
                order = sampler.turns(number)
        dataset = cast(CacheDataset, self.dataset).at_epoch(number)
        lengths = row_lengths(dataset.cache, dataset.rows_of_view)
        widths: RowWidths | None = getattr(self.collate_fn, "widths", None)
        if widths is None:
            raise SettingsError("collate_fn: expected that of create_dataloader, with a dataset, found another one")
        firsts = bounds_of(dataset.documents.num_segments)[:-1]
        size = self._batch_size
        batches = len(lengths) // size if getattr(self.batch_sampler, "drop_last") else -(-len(lengths) // size)  # noqa: B009
        return batches_size(lengths, order, size, batches, widths, firsts)

    @property
    def _batch_size(self) -> int:
        return cast(int, getattr(self.batch_sampler, "batch_size"))  # noqa: B009


def regular_loader(
    dataset: CacheDataset,
    batch_size: int,
    shuffle: bool,
    num_workers: int,
    *,
    seed: int = 0,
    drop_last: bool = False,
    order: OrderBy = "documents",
    group_by_length: bool = False,
    dtype: Dtype = "int64",
    ended_label: EndedLabel = "ignore",
    metadata: Metadata = False,
    padding: Padding = "max_length",
    pad_to_multiple_of: int | None = None,
    pin_memory: bool = False,
    device: Device = None,
    compat: Compat | None = None,
    evaluation: bool = False,
    persistent_workers: bool = False,
    prefetch_factor: int | None = None,
    multiprocessing_context: Any = None,
    timeout: float = 0,
    worker_init_fn: Any = None,
) -> RegularDataLoader[Batch]:
    """Make a torch `DataLoader` over segments; see `create_dataloader` for the arguments.

    Raises:
        SettingsError: An argument is wrong, or documents are unlabelled without ``evaluation=True``.
    """
    one_of("ended_label", ended_label, get_args(EndedLabel))
    dataset = check_dataset(dataset).with_compat(compat)
    shuffle, drop_last = check_bool("shuffle", shuffle), check_bool("drop_last", drop_last)
    if not check_bool("evaluation", evaluation):
        check_labelled(dataset)
    elif drop_last:
        raise SettingsError(
            "drop_last: expected False for evaluation, which reads every segment, found True; the last batch may be "
            "smaller"
        )
    else:
        check_read_once(dataset)
    one_of("order", order, get_args(OrderBy))
    check_order(dataset, order, shuffle, check_bool("group_by_length", group_by_length), by_rows=True)
    size, workers = check_batch_size(batch_size), check_workers(num_workers)
    target = check_device(device) or dataset.device
    collate = Collate(dtype, dataset, metadata, padding, pad_to_multiple_of, target)
    pinned = check_bool("pin_memory", pin_memory) and can_pin()
    if workers and dataset.device is not None and dataset.device.type != "cpu":
        raise SettingsError(
            f"num_workers: expected 0 for a dataset on {dataset.device}, which worker processes cannot share, found "
            f"{workers}; a lazy dataset takes them, with device= for the loader"
        )
    persistent_workers = check_bool("persistent_workers", persistent_workers)
    _check_worker_options(prefetch_factor, timeout, worker_init_fn)
    # Of its own: torch draws a number for its worker processes at each epoch, else from the global generator.
    generator = torch.Generator().manual_seed(check_seed(seed) >> 1)
    if group_by_length:
        batches: dict[str, Any] = {"batch_sampler": GroupedRows(dataset, size, seed, drop_last, shuffle)}
    else:
        batches = {"batch_size": size, "sampler": _sampler(dataset, shuffle, seed, order), "drop_last": drop_last}
    try:
        loader = RegularDataLoader[Any](
            dataset,
            **batches,
            num_workers=workers,
            generator=generator,
            collate_fn=collate,
            pin_memory=pinned,
            persistent_workers=persistent_workers,
            prefetch_factor=prefetch_factor,
            multiprocessing_context=multiprocessing_context,
            timeout=timeout,
            worker_init_fn=worker_init_fn,
        )
    except (ValueError, TypeError) as error:
        raise SettingsError(f"cannot create torch's DataLoader: {error}") from error
    return loader


def _sampler(dataset: CacheDataset, shuffle: bool, seed: int, order: OrderBy) -> MixedRows | ShuffledRows | None:
    """Return the order of single rows; None for their own."""
    if isinstance(dataset, MixedDataset):
        return MixedRows(dataset, seed, shuffle)
    blocks = blocks_of(dataset.manifest.tables["features"], dataset.rows()) if order == "shards" else None
    return ShuffledRows(len(dataset), seed, blocks, shuffle) if shuffle or blocks is not None else None


def _check_worker_options(prefetch_factor: object, timeout: object, worker_init_fn: object) -> None:
    """Do nothing: torch finds out when the first worker starts."""
    if prefetch_factor is not None:
        positive_int("prefetch_factor", prefetch_factor, " (or None for torch's choice)")
    if isinstance(timeout, bool) or not isinstance(timeout, Real) or not 0 <= float(timeout) < float("inf"):
        raise SettingsError(f"timeout: expected seconds, 0 for no end, found {timeout!r}")
    if worker_init_fn is not None and not callable(worker_init_fn):
        raise SettingsError(f"worker_init_fn: expected a function or None, found {type(worker_init_fn).__name__}")
