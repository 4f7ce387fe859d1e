"""Which documents each epoch reads of several sources, by shares: a pure function of (seed, epoch). NumPy only."""

from typing import Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from memxlnet.errors import SettingsError
from memxlnet.format.ragged import bounds_of, ragged_arange
from memxlnet.load.seeded_random import MIXTURE, Ints, shuffled
from memxlnet.settings import positive_int

Epoch = Literal["all", "shortest"] | int
"""Documents of an epoch of a mixture."""

_MAX_DOCUMENTS = 2**31 - 1
"""Documents of an epoch."""

_MAX_READ = 2**50
"""Documents that are read of a source before an epoch: floats count them within a thousandth."""

_NEAR = 1e-9
"""Relative distance from which a number of documents counts as whole: what rounding leaves."""


def documents_per_epoch(sizes: Ints, shares: NDArray[np.float64], epoch: Any) -> NDArray[np.float64]:
    """Return float64[sources], the documents that an epoch reads of each source, on average.

    Args:
        sizes: int64[sources], documents of each.
        shares: float64[sources], the share of each in an epoch.
        epoch: ``"all"``, ``"shortest"`` or a number of documents.

    Raises:
        SettingsError: It is something else, or the epoch is too long.
    """
    if isinstance(epoch, str) and epoch in ("all", "shortest"):
        with np.errstate(over="ignore", divide="ignore"):
            totals = sizes / shares
        total = float(totals.max() if epoch == "all" else totals.min())
    else:
        total = positive_int("epoch", epoch, " (or 'all' or 'shortest')")
    if total > _MAX_DOCUMENTS:
        raise SettingsError(
            f"epoch: expected at most {_MAX_DOCUMENTS} documents, found {total:.6g} for {epoch!r} by these weights"
        )
    found: NDArray[np.float64] = total * shares
    whole = np.rint(found)
    return np.where(np.abs(found - whole) <= _NEAR * np.maximum(whole, 1), whole, found)


class Mixture:
    """Shares of several sources, whose documents are numbered through.

    After e epochs, ``floor(e * per_epoch + offset)`` documents of a source were read. So an epoch's share is within
    one document of what was asked for, and any epoch has a closed form. A source is read round after round, each round
    in a random order. The offsets are chosen so that the first epoch has as many documents as asked for.

    Args:
        sizes: int64[sources], documents of each source.
        per_epoch: float64[sources], documents that an epoch reads of each on average.
        seed: Seed of the choice, modulo 2^64.
    """

    def __init__(self, sizes: Ints, per_epoch: NDArray[np.float64], seed: int):
        self.sizes = sizes
        self.per_epoch = per_epoch
        self.seed = seed
        fractions = np.mod(per_epoch, 1)
        self._offsets = np.mod(0.5 + np.concatenate([[0], np.cumsum(fractions)[:-1]]), 1)
        self._starts = bounds_of(sizes)

    @property
    def fingerprint(self) -> bytes:
        """Digest of all that an epoch depends on besides its number."""
        digest = xxhash.xxh3_128(self.sizes.astype("<i8").tobytes())
        digest.update(self.per_epoch.astype("<f8").tobytes())
        digest.update(self.seed.to_bytes(8, "little"))
        return digest.digest()

    def counts(self, epoch: int) -> Ints:
        """Return int64[sources], the documents that an epoch reads of each source."""
        return self._read_before(epoch + 1) - self._read_before(epoch)

    def _read_before(self, epoch: int) -> Ints:
        """Return int64[sources], the documents that were read of each before an epoch.

        Raises:
            SettingsError: No float counts them.
        """
        last = int(_MAX_READ / self.per_epoch.max())
        if epoch > last:
            raise SettingsError(f"epoch: expected at most {last} for epochs of this length, found {epoch}")
        return np.floor(epoch * self.per_epoch + self._offsets).astype(np.int64)

    def places(self, epoch: int) -> Ints:
        """Return int64[documents], the documents of an epoch: all sources evenly spread."""
        first, counts = self._read_before(epoch), self.counts(epoch)
        if (self.sizes == 1).all():
            return np.repeat(np.arange(len(counts)), counts)
        pairs = zip(first.tolist(), counts.tolist(), strict=True)
        places = np.concatenate([self._of_source(source, *pair) for source, pair in enumerate(pairs)])
        turn = (ragged_arange(counts) + 0.5) / np.repeat(np.maximum(counts, 1), counts)
        return places[np.argsort(turn, kind="stable")]

    def _of_source(self, source: int, first: int, count: int) -> Ints:
        """Return int64[count], what an epoch reads of a source that was read `first` times before."""
        size = int(self.sizes[source])
        rounds, begin = divmod(first, size)
        parts: list[Ints] = []
        left = count
        while left:
            # Of a whole round the order does not matter: that of an epoch is made of its documents.
            length = min(left, size - begin)
            if length == size:
                whole = left // size
                parts.append(np.tile(np.arange(size), whole))
                rounds, left = rounds + whole, left - whole * size
                continue
            order = shuffled(size, self.seed, rounds, MIXTURE | source << 8)
            parts.append(order[begin : begin + length].astype(np.int64))
            rounds, begin, left = rounds + 1, 0, left - length
        places: Ints = self._starts[source] + np.concatenate([np.zeros(0, np.int64), *parts])
        return places
