"""The call that makes a loader."""

from typing import Any, Unpack

from memxlnet.errors import SettingsError
from memxlnet.load.datasets import CacheDataset
from memxlnet.load.loader import TimeStepMajorDataLoader
from memxlnet.load.options import LoaderOptions
from memxlnet.load.segment_loader import RegularDataLoader, regular_loader
from memxlnet.settings import check_bool

Loader = TimeStepMajorDataLoader | RegularDataLoader

# Their parameters, without the machinery of inspect.signature.
_TIME_STEP_MAJOR = {"max_segments", *(TimeStepMajorDataLoader.__init__.__kwdefaults__ or {})} - {"num_workers"}
_REGULAR = {*(regular_loader.__kwdefaults__ or {})}


def create_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    shuffle: bool = False,
    num_workers: int = 0,
    use_time_step_major: bool = True,
    **options: Unpack[LoaderOptions],
) -> Loader:
    """Make a loader.

    The arguments are those of `memxlnet.create_dataloader`.

    Raises:
        SettingsError: An argument is wrong, or documents are unlabelled without ``evaluation=True``.
    """
    make: Any = TimeStepMajorDataLoader if check_bool("use_time_step_major", use_time_step_major) else regular_loader
    known = _TIME_STEP_MAJOR if use_time_step_major else _REGULAR
    for name in options:
        if name not in known:
            kind = "use_time_step_major=True" if use_time_step_major else "use_time_step_major=False"
            raise SettingsError(
                f"{name}: expected an option for {kind}: {', '.join(sorted(known))}; found none of that name"
            )
    loader: Loader = make(dataset, batch_size, shuffle, num_workers=num_workers, **options)
    return loader
