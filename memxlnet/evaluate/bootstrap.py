"""Bootstrap intervals of means over documents: percentiles of the means of resampled documents.

Efron: Bootstrap Methods: Another Look at the Jackknife, 1979. Documents are resampled with replacement. Those of equal
values are drawn together, as a multinomial count, which is the same distribution.
"""

from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import numpy as np

from memxlnet.errors import SettingsError
from memxlnet.evaluate.array_inputs import Floats
from memxlnet.settings import positive_int, whole_number

_COUNTS_AT_ONCE = 1 << 20
"""Counts of resampled documents that are held at once: 8 MiB."""


class Interval(NamedTuple):
    """A figure and its bootstrap interval.

    Attributes:
        value: The figure, in percent.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Resampling:
    """How documents are resampled: a pure function of the seed.

    Attributes:
        resamples: Number of resamples.
        confidence: Share of the resampled means between both ends, such as 0.95.
        seed: An integer from 0.
    """

    resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        positive_int("resamples", self.resamples)
        found = self.confidence
        if isinstance(found, bool) or not isinstance(found, Real) or not 0 < found < 1:
            raise SettingsError(f"confidence: expected a number between 0 and 1, found {found!r:.80}")
        whole_number("seed", self.seed, 0)

    def intervals(self, values: Floats) -> list[Interval]:
        """Return the intervals of the means of some figures, resampled together.

        Args:
            values: float64[documents, figures], at least one document; from 0 to 1, or differences of such.

        Returns:
            One interval for each figure, in percent.
        """
        distinct, counts = np.unique(values, axis=0, return_counts=True)
        documents = len(values)
        random = np.random.default_rng(self.seed)
        shares = counts / documents
        means = np.empty((self.resamples, values.shape[1]))
        step = max(_COUNTS_AT_ONCE // len(distinct), 1)
        for first in range(0, self.resamples, step):
            part = means[first : first + step]
            part[:] = random.multinomial(documents, shares, len(part)) @ distinct / documents
        tail = (1 - self.confidence) / 2
        low, high = 100.0 * np.quantile(means, [tail, 1 - tail], axis=0)
        each = zip((100.0 * values.mean(axis=0)).tolist(), low.tolist(), high.tolist(), strict=True)
        return [Interval(*found) for found in each]
