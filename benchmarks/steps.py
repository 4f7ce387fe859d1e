"""Iteration over the steps of a loader, with aligned or refilled lanes."""

from collections.abc import Iterable, Iterator
from typing import Any

from memxlnet import TimeStepMajorDataLoader


def steps_of(found: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield the steps of an epoch, or of `TimeStepMajorDataLoader.endless`."""
    for one in found:
        yield from (one,) if isinstance(one, dict) else one


def all_steps(loader: TimeStepMajorDataLoader) -> Iterator[dict[str, Any]]:
    """Yield the steps of all epochs, without end."""
    return steps_of(loader.endless())
