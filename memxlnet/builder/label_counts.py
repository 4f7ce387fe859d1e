"""Counting what the labels of a source say, for the warnings at the end of a build."""

import logging
from collections.abc import Iterable

from memxlnet.encode.examples import Example

logger = logging.getLogger(__name__)

_SHOWN = 10
"""Ids that a warning names at most."""


class LabelCounts:
    """What the labels of the examples of a build are, for the warnings at its end."""

    def __init__(self) -> None:
        self._unlabelled = 0
        self._fields: list[str] = []
        self._contradicting = 0
        self._ids: list[str] = []

    def add(self, example: Example, fields: Iterable[object]) -> None:
        """Count one example; `fields` are the names of the fields of its row."""
        if example.contradiction:
            self._contradicting += 1
            if len(self._ids) < _SHOWN:
                self._ids.append(example.id)
        if not example.labelled:
            self._unlabelled += 1
            self._fields = self._fields or [str(field) for field in fields]

    def warn(self, name: str) -> None:
        """Log contradictions and unlabelled examples, where there are any.

        Args:
            name: What was built.
        """
        if self._contradicting:
            more = self._contradicting - len(self._ids)
            logger.warning(
                "%s: examples whose labels contradict each other, kept as on_contradiction says: %d: %s%s",
                name,
                self._contradicting,
                ", ".join(map(repr, self._ids)),
                f" and {more} more ('memxlnet show CACHE --contradictions' lists them)" if more else "",
            )
        if self._unlabelled:
            logger.warning(
                "%s: unlabelled examples ('answers' is null or missing), on which nothing can be trained: %d; the "
                "first has the fields %s",
                name,
                self._unlabelled,
                ", ".join(map(repr, self._fields)),
            )
