"""Groups of documents: by their value of a kept column, their source, the step of their answer, their segments."""

from typing import Any, NamedTuple

import numpy as np

from memxlnet.errors import SettingsError
from memxlnet.format.answer_steps import answer_steps
from memxlnet.format.published import PublishedCache
from memxlnet.format.ragged import Ints

ANSWER_STEP, SEGMENTS, SOURCE = "answer_step", "segments", "source"

_PLACES = (ANSWER_STEP, SEGMENTS, SOURCE)


class DocumentGroups(NamedTuple):
    """Groups of all documents of a cache.

    Attributes:
        numbers: int64[documents], the group of each.
        values: The value of each group; None for null, and where no segment holds an answer whole.
    """

    numbers: Ints
    values: list[Any]


def group_documents(cache: PublishedCache, by: str | None) -> DocumentGroups:
    """Group the documents of a cache.

    Args:
        cache: The cache.
        by: A kept column, ``"source"`` (the name of a cache among several that are joined), ``"answer_step"`` (the time
            step of the first segment that holds the answer whole) or ``"segments"`` (their number); None for one group.

    Raises:
        SettingsError: There is no such column, it holds lists or structs, or it has the name of another group.
    """
    if by is None:
        return DocumentGroups(np.zeros(cache.num_documents, np.int64), [None])
    if by not in _PLACES:
        return DocumentGroups(*cache.kept_column("by", by, *_PLACES).groups(by))
    if by in cache.manifest.kept:
        raise SettingsError(
            f"by: expected one meaning of {by!r}, found a kept column of this name; rename the field with transform= "
            "when you build the cache"
        )
    if by == SOURCE:
        names = list(dict.fromkeys(cache.sources))
        return DocumentGroups(_sources(cache, names), names)
    places = answer_steps(cache) if by == ANSWER_STEP else cache.documents.column("num_segments")
    values, numbers = np.unique(places, return_inverse=True)
    return DocumentGroups(numbers.astype(np.int64), [None if value < 0 else value for value in values.tolist()])


def _sources(cache: PublishedCache, names: list[str]) -> Ints:
    number_of = {name: number for number, name in enumerate(names)}
    every = (number_of[cache.source_of(document)] for document in range(cache.num_documents))
    return np.fromiter(every, np.int64, cache.num_documents)
