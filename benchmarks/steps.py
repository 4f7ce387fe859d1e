"""The steps of a loader one after the other, whether lanes are aligned in groups or refilled."""

from collections.abc import Iterable, Iterator
from typing import Any

from memxlnet import TimeStepMajorDataLoader


def steps_of(found: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The steps of an epoch, or of `TimeStepMajorDataLoader.endless`."""
    for one in found:
        yield from (one,) if isinstance(one, dict) else one


def all_steps(loader: TimeStepMajorDataLoader) -> Iterator[dict[str, Any]]:
    """Steps without an end."""
    return steps_of(loader.endless())
