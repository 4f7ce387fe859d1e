"""The call that makes a loader."""

from typing import Any, Unpack

from torch.utils.data import DataLoader

from memxlnet.earlier_names import GONE
from memxlnet.errors import SettingsError
from memxlnet.load.datasets import CacheDataset
from memxlnet.load.loader import TimeStepMajorDataLoader
from memxlnet.load.options import LoaderOptions
from memxlnet.load.regular import regular_loader
from memxlnet.settings import check_bool


def create_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    shuffle: bool = False,
    num_workers: int = 0,
    use_time_step_major: bool = True,
    **options: Unpack[LoaderOptions],
) -> "TimeStepMajorDataLoader | DataLoader[Any]":
    """Make a loader.

    Args:
        dataset: A dataset over a cache.
        batch_size: Lanes of a step, or segments in a batch.
        shuffle: Permute documents, or segments; a pure function of (seed, epoch).
        num_workers: Time-step-major: 0 gathers in the caller, 1 or more works ahead in one thread. Else: worker
            processes of torch (which cost more than the gather; 0 is fastest).
        use_time_step_major: True for documents fed segment by segment, by a `TimeStepMajorDataLoader`; False for
                batches of segments from a torch `DataLoader`, which has ``set_epoch`` and ``epoch_size``, too.
        **options: Time-step-major: those of `TimeStepMajorDataLoader`. Else ``seed``, ``drop_last``,
            ``group_by_length`` (rows of similar length share a batch, as `GroupedRows` has it), ``dtype``,
            ``metadata``, ``padding``, ``pad_to_multiple_of`` and ``ended_label`` (which has no effect) as there, and
            these of torch: ``pin_memory``, ``persistent_workers``, ``prefetch_factor``, ``multiprocessing_context``,
            ``timeout``, ``worker_init_fn``.

    Raises:
        SettingsError: An argument is wrong.
    """
    make: Any = TimeStepMajorDataLoader if check_bool("use_time_step_major", use_time_step_major) else regular_loader
    # Keyword-only parameters, without the machinery of inspect.signature.
    known = (TimeStepMajorDataLoader.__init__ if use_time_step_major else regular_loader).__kwdefaults__ or {}
    for name in options:
        if name not in known:
            kind = "use_time_step_major=True" if use_time_step_major else "use_time_step_major=False"
            told = f"; {GONE[name]}" if name in GONE else ""
            raise SettingsError(
                f"{name}: expected an option for {kind}: {', '.join(known)}; found none of that name{told}"
            )
    loader: TimeStepMajorDataLoader | DataLoader[Any] = make(dataset, batch_size, shuffle, num_workers, **options)
    return loader
