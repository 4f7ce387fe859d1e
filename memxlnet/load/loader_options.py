"""The settings of a time-step-major loader, checked at construction, and the place of this process among others."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypedDict, get_args

import numpy as np
import pyarrow.compute as pc
import torch
import torch.distributed
from torch.utils.data import ConcatDataset, Subset

from memxlnet.encode.answer_alignment import UNLABELLED
from memxlnet.errors import SettingsError
from memxlnet.format.padding import Padding
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.compat import Compat
from memxlnet.load.devices import Device
from memxlnet.load.epoch_plan import Ranks
from memxlnet.load.mixed_dataset import MixedDataset
from memxlnet.load.option_literals import Align, Dtype, EndedLabel, Lanes, Metadata, OrderBy, Window
from memxlnet.load.segment_metadata import METADATA_NAMES
from memxlnet.settings import check_bool, one_of, positive_int, set_field, whole_number

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Item = TypeVar("Item", default=Any)
else:
    from typing import TypeVar  # before Python 3.13 without a default

    Item = TypeVar("Item")
"""What a loader yields."""

MAX_LANES = 2**20
"""Lanes over all ranks, or rows of a batch."""

MAX_WORKERS = 2**12

MAX_SCHEDULE = 50
"""Entries of a schedule of ``max_segments``: the state of a loader, which holds them, stays below 1 KiB."""

_MAX_SEGMENTS_LIMIT = 2**31 - 1


class EvaluationOptions(TypedDict, total=False):
    """The options that every time-step-major loader takes, besides those that decide the type of what it yields."""

    align: Align
    order: OrderBy
    group_by_length: bool
    padding: Padding
    pad_to_multiple_of: int | None
    dtype: Dtype
    ended_label: EndedLabel
    metadata: Metadata
    pin_memory: bool
    device: Device
    rank: int | None
    world_size: int | None


class TrainingOptions(EvaluationOptions, total=False):
    """Those, and the options that choose what is read of the documents."""

    window: Window
    seed: int
    drop_last: bool
    evaluation: bool


class LoaderOptions(TrainingOptions, total=False):
    """All options of `create_dataloader`; each kind of loader takes its own."""

    max_segments: int | Sequence[int] | None
    lanes: Lanes
    compat: Compat | None
    # Those of torch, which a regular loader takes.
    persistent_workers: bool
    prefetch_factor: int | None
    multiprocessing_context: Any
    timeout: float
    worker_init_fn: Any


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """What the steps of a loader are a function of, besides the cache and the epoch.

    Attributes:
        global_batch_size: Lanes over all ranks.
        shuffle: Permute the documents.
        seed: Seed of every random choice, modulo 2^64.
        drop_last: Leave out the last, smaller group; with refilled lanes, the end where lanes are done.
        lanes: ``"aligned"`` or ``"refilled"``.
        align: Where the documents of a group stand side by side, ``"start"`` or ``"end"``.
        group_by_length: Documents of similar length are read side by side.
        max_segments: Segments of a document at most, by epoch, the last entry for all later ones; empty for all.
        window: Which of them.
        evaluation: Every document is read exactly once across all ranks.
        dtype: Type of the model's tensors.
        ended_label: Answer positions of ended lanes.
        order: ``"documents"`` or ``"shards"``.
        world_size: Ranks among which the blocks of shards are distributed; None where the order is that of all ranks.
        blocks: Where the blocks of shards begin, as `layout_of` has it; None where the order does not depend on it.
    """

    global_batch_size: int
    shuffle: bool
    seed: int
    drop_last: bool
    lanes: Lanes
    align: Align
    group_by_length: bool
    max_segments: list[int]
    window: Window
    evaluation: bool
    dtype: Dtype
    ended_label: EndedLabel
    order: OrderBy = "documents"
    world_size: int | None = None
    blocks: str | None = None

    def __post_init__(self) -> None:
        check_batch_size(self.global_batch_size)
        words = {"lanes": Lanes, "align": Align, "window": Window, "dtype": Dtype, "ended_label": EndedLabel}
        words["order"] = OrderBy
        for name, choices in words.items():
            set_field(self, name, one_of(name, getattr(self, name), get_args(choices)))
        for name in ("shuffle", "drop_last", "group_by_length", "evaluation"):
            check_bool(name, getattr(self, name))
        if self.align == "end" and self.lanes == "refilled":
            raise SettingsError("align: expected 'start' with lanes='refilled', which has no groups, found 'end'")
        if self.window != "first" and not self.max_segments:
            raise SettingsError(f"window: expected max_segments with {self.window!r}, found None, which reads all")
        if self.evaluation and self.window == "answer":
            raise SettingsError(
                "window: expected 'first' or 'random' for evaluation, found 'answer', whose windows depend on it"
            )
        if self.evaluation and self.drop_last:
            raise SettingsError("drop_last: expected False for evaluation, which reads every document")

    @property
    def state(self) -> dict[str, Any]:
        """The settings as the state of a loader has them, without those that states had not before there were any."""
        found = asdict(self)
        if self.order == "documents":
            del found["order"], found["world_size"], found["blocks"]
        return found

    def most_segments(self, epoch: int) -> int | None:
        """Return the most segments of a document in an epoch; None for all."""
        return self.max_segments[min(epoch, len(self.max_segments) - 1)] if self.max_segments else None


def schedule(value: object) -> list[int]:
    """Return the entries of ``max_segments``: a number, one for each epoch, or None.

    Raises:
        SettingsError: They are not numbers above 0, or too many.
    """
    if value is None:
        return []
    entries = list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    if not 1 <= len(entries) <= MAX_SCHEDULE:
        raise SettingsError(f"max_segments: expected 1 to {MAX_SCHEDULE} entries, one an epoch, found {len(entries)}")
    hint = " (or a sequence of them, one an epoch; or None for all segments)"
    return [min(positive_int("max_segments", entry, hint), _MAX_SEGMENTS_LIMIT) for entry in entries]


def metadata_names(value: object, kept: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names of ``metadata``: True for all, False for none.

    Args:
        value: What the caller passed.
        kept: Names of the kept columns of the cache.

    Raises:
        SettingsError: There is no such name.
    """
    known: tuple[str, ...] = (*METADATA_NAMES, *kept)
    if isinstance(value, bool):
        return known if value else ()
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise SettingsError(f"metadata: expected True, False or a sequence of names, found {value!r}")
    names = tuple(value)
    for name in names:
        if name not in known:
            raise SettingsError(f"metadata: expected names of {', '.join(known)}, found {name!r}")
    return names


def check_batch_size(value: object) -> int:
    """Check that a batch size is one and return it.

    Raises:
        SettingsError: It is not.
    """
    size = positive_int("batch_size", value)
    if size > MAX_LANES:
        raise SettingsError(f"batch_size: expected at most {MAX_LANES} over all ranks, found {size}")
    return size


def check_workers(value: object) -> int:
    """Check that a number of workers is one and return it.

    Raises:
        SettingsError: It is not.
    """
    workers = whole_number("num_workers", value, 0)
    if workers > MAX_WORKERS:
        raise SettingsError(f"num_workers: expected at most {MAX_WORKERS}, found {workers}")
    return workers


def find_ranks(rank: Any, world_size: Any) -> Ranks:
    """Return the place of this process: as given, of `torch.distributed`, of torchrun's environment, or alone.

    Raises:
        SettingsError: Only one of both is given, or they are not a rank and a number of ranks.
    """
    if (rank is None) != (world_size is None):
        raise SettingsError(f"rank, world_size: expected both or neither, found {rank!r} and {world_size!r}")
    if rank is not None:
        return _checked(rank, world_size, "")
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    found = [os.environ.get(name) for name in ("RANK", "WORLD_SIZE")]
    if None in found:
        return Ranks(0, 1)
    try:
        rank, world_size = (int(value or "") for value in found)
        return _checked(rank, world_size, " (of the environment's RANK and WORLD_SIZE)")
    except ValueError as error:
        raise SettingsError(
            f"RANK, WORLD_SIZE: expected the numbers of this process in the environment, found {found[0]!r} and "
            f"{found[1]!r}; pass rank= and world_size= ({error})"
        ) from None


def _checked(rank: Any, world_size: Any, hint: str) -> Ranks:
    world_size = positive_int("world_size", world_size, hint)
    rank = whole_number("rank", rank, 0, hint)
    if rank >= world_size:
        raise SettingsError(f"rank: expected below the world size of {world_size}{hint}, found {rank}")
    return Ranks(rank, world_size)


def check_fields(state: object, own: Mapping[str, Any]) -> None:
    """Check that a state has the fields that it should.

    Raises:
        SettingsError: It has not.
    """
    if not isinstance(state, Mapping) or own.keys() != state.keys():
        found = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
        raise SettingsError(f"state: expected the fields {', '.join(sorted(own))}, found {found}")


def check_dataset(dataset: object) -> CacheDataset:
    """Check that a dataset is over a cache and return it.

    Raises:
        SettingsError: It is not.
    """
    if not isinstance(dataset, CacheDataset):
        hint = ""
        if isinstance(dataset, Subset | ConcatDataset):
            hint = (
                "; it has rows and no documents, so read it with torch's own DataLoader(dataset, batch_size=..., "
                "collate_fn=memxlnet.Collate())"
            )
        raise SettingsError(f"dataset: expected a dataset over a cache, found {type(dataset).__name__}{hint}")
    return dataset


def check_labelled(dataset: CacheDataset) -> None:
    """Check that a dataset can be trained on: all of its documents are labelled.

    Raises:
        SettingsError: Some are not.
    """
    if not dataset.manifest.alignment[UNLABELLED]:
        return
    batches = dataset.cache.documents.batches()
    flags = np.concatenate([np.asarray(pc.equal(batch["alignment"], UNLABELLED)) for batch in batches])
    unlabelled = np.flatnonzero(flags if dataset.chosen is None else flags[dataset.chosen])
    if len(unlabelled):
        raise SettingsError(
            f"dataset: expected labelled documents, found {len(unlabelled)} of {dataset.num_documents} unlabelled, "
            f"the first of them {dataset.document_map.ids[int(unlabelled[0])]!r:.120}: no answer to train on was "
            "given; evaluation=True reads them for predictions"
        )


def check_read_once(dataset: CacheDataset) -> None:
    """Check that an epoch reads every document of a dataset exactly once.

    Raises:
        SettingsError: It is a mixture.
    """
    if isinstance(dataset, MixedDataset):
        raise SettingsError(
            "evaluation: expected False for a mixture, whose epochs read documents several times or not at all, found "
            "True; evaluate its caches, or concatenate(caches)"
        )


_is_pinning_logged = False


def can_pin() -> bool:
    """Return whether memory can be page-locked; log a warning once where it cannot."""
    global _is_pinning_logged
    if torch.cuda.is_available():
        return True
    if not _is_pinning_logged:
        logger.warning("pin_memory: expected CUDA, found none; using ordinary memory")
        _is_pinning_logged = True
    return False
