"""The calls that make a loader: any, and one for evaluation."""

from typing import Any, Unpack, cast

from memxlnet.errors import SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.loader_options import LoaderOptions
from memxlnet.load.segment_loader import RegularDataLoader, regular_loader
from memxlnet.load.segment_metadata import METADATA
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from memxlnet.settings import check_bool

Loader = TimeStepMajorDataLoader[Any] | RegularDataLoader[Any]

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


def create_evaluation_dataloader(
    dataset: CacheDataset,
    batch_size: int = 8,
    num_workers: int = 0,
    use_time_step_major: bool = True,
    **options: Unpack[LoaderOptions],
) -> Loader:
    """Make a loader that reads every document exactly once, in order, with what belongs to its segments.

    The arguments are those of `memxlnet.create_evaluation_dataloader`.

    Raises:
        SettingsError: An argument is wrong, or would leave something out or change the order.
    """
    given = cast(dict[str, Any], options)
    if check_bool("shuffle", given.pop("shuffle", False)):
        raise SettingsError(
            "shuffle: expected False for evaluation, which reads documents in order, found True; create_dataloader "
            "with evaluation=True reads every document once in another order"
        )
    if not check_bool("evaluation", given.pop("evaluation", True)):
        raise SettingsError("evaluation: expected True, found False; create_dataloader makes all other loaders")
    given["evaluation"] = True
    given.setdefault("metadata", METADATA)
    return create_dataloader(dataset, batch_size, False, num_workers, use_time_step_major, **options)
