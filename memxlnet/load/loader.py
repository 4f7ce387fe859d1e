"""The loaders: time-step-major groups of documents, and an ordinary torch `DataLoader` over segments."""

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Sampler

from memxlnet.errors import SettingsError
from memxlnet.load.batches import Collate
from memxlnet.load.datasets import CacheDataset
from memxlnet.load.groups import Ahead, Group
from memxlnet.load.plan import GroupPlan, Ints, group_rows, shuffled
from memxlnet.load.steps import ENDED_LABELS, StepMaker
from memxlnet.settings import one_of, positive_int, whole_number


class TimeStepMajorDataLoader:
    """Feeds groups of documents segment by segment, so that recurrent memory flows along each document.

    Iterating yields one `Group` for each `batch_size` documents: a sequence of steps; step t is a dictionary of the
    t-th segments. With B lanes and rows of L tokens a step holds

    - ``input_ids``, ``attention_mask``, ``token_type_ids`` [B, L] and ``start_positions``, ``end_positions`` [B]: fresh
      tensors, int64 or as stored;
    - ``document_mask`` bool[B]: False where the lane's document has ended;
    - ``rows`` int64[B] rows of the dataset and ``segment_index`` int64[B], both -1 in ended lanes;
    - ``cls_index`` int64[B]; ``mem_read_start`` and ``mem_write_start`` int64[B], -1 where there are none;
    - ``example_ids``: ids of the lanes' documents, the same at every step.

    Ended lanes hold padding with attention on the ``cls`` position alone.

    Shuffling permutes documents as a pure function of (seed, epoch). An iteration that runs to its end moves on to the
    next epoch; `set_epoch` sets it.

    Args:
        dataset: A dataset over a cache.
        batch_size: Documents in a group.
        shuffle: Permute the documents.
        num_workers: 0 gathers in the caller; 1 or more works ahead in one background thread.
        seed: Seed of the shuffle.
        drop_last: Leave out the last group where it has fewer documents.
        dtype: ``"int64"`` for any transformers model, ``"stored"`` for the types of the file, which XLNet takes.
        ended_label: Answer positions of ended lanes: ``"ignore"`` is the sequence length, which the question answering
            heads of BERT and XLNet's Simple ignore; ``"cls"`` is the ``cls`` position.

    Raises:
        SettingsError: An argument is wrong.
    """

    def __init__(
        self,
        dataset: CacheDataset,
        batch_size: int = 8,
        shuffle: bool = False,
        num_workers: int = 0,
        *,
        seed: int = 0,
        drop_last: bool = False,
        dtype: str = "int64",
        ended_label: str = "ignore",
    ):
        self.dataset = _check_dataset(dataset)
        self.batch_size = positive_int("batch_size", batch_size)
        self.shuffle = _check_bool("shuffle", shuffle)
        self.num_workers = whole_number("num_workers", num_workers, 0)
        self.seed = _check_seed(seed)
        self.drop_last = _check_bool("drop_last", drop_last)
        self.epoch = 0
        self._maker = StepMaker(dataset, dtype, ended_label)
        self._documents = dataset.documents

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration reads."""
        self.epoch = whole_number("epoch", epoch, 0)

    def __len__(self) -> int:
        """Number of groups in an epoch."""
        full, rest = divmod(len(self._documents.first_segment), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[Group]:
        epoch = self.epoch
        order = self._order(epoch)
        ahead = Ahead(self._maker, self._plans(order)) if self.num_workers else None
        try:
            for number, plan in enumerate(self._plans(order)):
                yield Group(self._maker, plan, number, ahead)
        finally:
            if ahead is not None:
                ahead.close()
        if self.epoch == epoch:
            self.epoch += 1

    def _order(self, epoch: int) -> Ints | None:
        return shuffled(len(self._documents.first_segment), self.seed, epoch) if self.shuffle else None

    def _plans(self, order: Ints | None) -> Iterator[GroupPlan]:
        count = len(self._documents.first_segment)
        for number in range(len(self)):
            lanes = slice(number * self.batch_size, min((number + 1) * self.batch_size, count))
            chosen = np.arange(lanes.start, lanes.stop) if order is None else order[lanes]
            yield group_rows(self._documents, chosen)


_ROWS_AT_ONCE = 1 << 14


class ShuffledRows(Sampler[int]):
    """Rows in an order that is a pure function of (seed, epoch); an iteration to its end moves on to the next epoch."""

    def __init__(self, num_rows: int, seed: int):
        self.num_rows = num_rows
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration reads."""
        self.epoch = whole_number("epoch", epoch, 0)

    def __len__(self) -> int:
        return self.num_rows

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch
        order = shuffled(self.num_rows, self.seed, epoch)
        for start in range(0, self.num_rows, _ROWS_AT_ONCE):
            yield from order[start : start + _ROWS_AT_ONCE].tolist()
        if self.epoch == epoch:
            self.epoch += 1


def create_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    shuffle: bool = False,
    num_workers: int = 0,
    use_time_step_major: bool = True,
    *,
    seed: int = 0,
    drop_last: bool = False,
    dtype: str = "int64",
    ended_label: str = "ignore",
) -> "TimeStepMajorDataLoader | DataLoader[Any]":
    """Make a loader.

    Args:
        dataset: A dataset over a cache.
        batch_size: Documents in a group, or segments in a batch.
        shuffle: Permute documents, or segments; a pure function of (seed, epoch).
        num_workers: Time-step-major: 0 gathers in the caller, 1 or more works ahead in one thread. Else: worker
            processes of torch (which cost more than the gather; 0 is fastest).
        use_time_step_major: True for groups of documents fed segment by segment; False for batches of segments from a
            torch `DataLoader`, whose sampler has ``set_epoch``.
        seed: Seed of the shuffle.
        drop_last: Leave out the last, smaller group or batch.
        dtype: ``"int64"`` for any transformers model, ``"stored"`` for the types of the file.
        ended_label: Time-step-major: answer positions of ended lanes, ``"ignore"`` or ``"cls"``.

    Raises:
        SettingsError: An argument is wrong.
    """
    if _check_bool("use_time_step_major", use_time_step_major):
        return TimeStepMajorDataLoader(
            dataset,
            batch_size,
            shuffle,
            num_workers,
            seed=seed,
            drop_last=drop_last,
            dtype=dtype,
            ended_label=ended_label,
        )
    one_of("ended_label", ended_label, ENDED_LABELS)
    _check_seed(seed)
    rows = len(_check_dataset(dataset))
    sampler = ShuffledRows(rows, seed) if _check_bool("shuffle", shuffle) else None
    return DataLoader(
        dataset,
        batch_size=positive_int("batch_size", batch_size),
        sampler=sampler,
        num_workers=whole_number("num_workers", num_workers, 0),
        collate_fn=Collate(dtype),
        drop_last=_check_bool("drop_last", drop_last),
    )


def _check_dataset(dataset: object) -> CacheDataset:
    if not isinstance(dataset, CacheDataset):
        raise SettingsError(f"dataset: expected a dataset over a cache, found {type(dataset).__name__}")
    return dataset


def _check_seed(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | Integral):
        raise SettingsError(f"seed: expected an integer, found {value!r}")
    return int(value)


def _check_bool(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"{name}: expected True or False, found {value!r}")
    return value
