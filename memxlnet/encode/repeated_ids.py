"""Ids that repeat, found while the examples are read.

The rule. Of several examples with one id, the first in the source keeps it. Every later one is a bad example
(`on_bad_example` decides), or with `on_repeated_id="number"` it gets the first of ``ID#2``, ``ID#3``, ... that no
example before it has: an example further on whose own id is that one is numbered as well. Examples that are bad for
another reason have no claim to their id.

Ids are distinguished by digests of 128 bits; 24 bytes are held for each, in NumPy arrays.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from memxlnet.encode.examples import BadExample, Example, Place
from memxlnet.errors import ExampleError
from memxlnet.format.ragged import Ints
from memxlnet.settings import EncodeSettings

RUN_ROWS = 1 << 20
"""Ids that are sorted together: more are held in several runs, so that sorting takes no RAM besides what is held."""

_MANY = 16
"""From this many examples of one id on, the next number is remembered instead of looked for."""

_NOWHERE = -1


class Ids:
    """The ids that were read so far.

    Args:
        place: Returns where a row of the source stands.
        settings: ``on_repeated_id`` and ``on_bad_example`` decide what a repeated id does.
    """

    def __init__(self, place: Place, settings: EncodeSettings):
        self._place = place
        self._numbers = settings.on_repeated_id == "number"
        self._drops = settings.on_bad_example == "drop"
        self._seen = _Seen()
        self._next: dict[str, int] = {}
        self.numbered = 0

    def check(self, examples: Sequence[Example | BadExample]) -> list[Example | BadExample]:
        """Add the next examples of the source; they must come in the order of their rows.

        Returns:
            The examples, those with a repeated id numbered or turned into bad ones.

        Raises:
            ExampleError: An id repeats, and that is an error; the message names both rows.
        """
        good = [example for example in examples if isinstance(example, Example)]
        rows = np.array([example.row for example in good], np.int64)
        digests = digests_of([example.id for example in good])
        if self._seen.add(digests, rows):
            return list(examples)
        here: dict[str, int] = {}
        checked = [self._checked(example, here) if isinstance(example, Example) else example for example in examples]
        self._seen.add(digests_of(list(here)), np.array(list(here.values()), np.int64))
        return checked

    def _checked(self, example: Example, here: dict[str, int]) -> Example | BadExample:
        """Return one of some examples among which an id repeats; `here` holds the rows of those not added yet."""
        first = self._row_of(example.id, here)
        if first == _NOWHERE:
            here[example.id] = example.row
            return example
        if self._numbers:
            name = self._numbered(example.id, here)
            here[name] = example.row
            self.numbered += 1
            return example._replace(id=name)
        (name, number), (first_name, first_number) = self._place(example.row), self._place(first)
        where = "" if first_name == name else f" of {first_name}"
        reason = f"{name}, example {example.id!r} (row {number}): its id is that of row {first_number}{where}"
        if self._drops:
            return BadExample(example.row, example.id, reason)
        raise ExampleError(
            f"{reason}; expected every id once: make the ids distinct, or pass on_repeated_id='number' or "
            "on_bad_example='drop'"
        )

    def _row_of(self, name: str, here: dict[str, int]) -> int:
        return here[name] if name in here else int(self._seen.find(digests_of([name]))[0])

    def _numbered(self, name: str, here: dict[str, int]) -> str:
        number = self._next.get(name, 2)
        while self._row_of(f"{name}#{number}", here) != _NOWHERE:
            number += 1
        if number >= _MANY:
            self._next[name] = number + 1
        return f"{name}#{number}"


class Digests(NamedTuple):
    """Digests of 128 bits: uint64[ids] and uint64[ids]."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]

    @property
    def repeat(self) -> bool:
        """Whether one of them occurs twice."""
        return len(set(zip(self.high.tolist(), self.low.tolist(), strict=True))) < len(self.high)


def digests_of(names: list[str]) -> Digests:
    """Return the digests of ids."""
    found = np.frombuffer(b"".join([xxhash.xxh3_128_digest(name.encode()) for name in names]), np.uint64).reshape(-1, 2)
    return Digests(found[:, 0].copy(), found[:, 1].copy())


class _Run(NamedTuple):
    """Ids in the order of their digests: uint64[ids], uint64[ids] and int64[ids]."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    rows: Ints

    def find(self, digests: Digests) -> Ints:
        """Return int64[digests]: the row of each, or -1."""
        at = np.searchsorted(self.high, digests.high)
        near = np.minimum(at, len(self.high) - 1)
        found = np.where(self.low[near] == digests.low, self.rows[near], _NOWHERE)
        found[self.high[near] != digests.high] = _NOWHERE
        # Digests that share one half with others are looked at one by one; there are next to none.
        for number in np.flatnonzero((found == _NOWHERE) & (self.high[near] == digests.high)).tolist():
            stop = np.searchsorted(self.high, digests.high[number], side="right")
            same = at[number] + np.flatnonzero(self.low[at[number] : stop] == digests.low[number])
            found[number] = self.rows[same[0]] if same.size else _NOWHERE
        return found


class _Seen:
    """Digests with their rows, in sorted runs that grow by merging."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []

    def add(self, digests: Digests, rows: Ints) -> bool:
        """Add digests, unless one of them was added before or is among them twice: then return False and add none."""
        if not len(rows):
            return True
        new = _sorted(*digests, rows)
        twice = (new.high[1:] == new.high[:-1]).any() and digests.repeat
        # In their order they are found several times faster than in any other.
        if twice or (self.find(Digests(new.high, new.low)) != _NOWHERE).any():
            return False
        self._runs.append(new)
        while len(self._runs) > 1:
            first, second = self._runs[-2:]
            total = len(first.rows) + len(second.rows)
            if len(first.rows) > 4 * len(second.rows) or total > RUN_ROWS:
                break
            self._runs[-2:] = [_merged(first, second)]
        return True

    def find(self, digests: Digests) -> Ints:
        """Return int64[digests]: the row of each, or -1."""
        found = np.full(len(digests.high), _NOWHERE, np.int64)
        for run in self._runs:
            np.maximum(found, run.find(digests), out=found)
        return found


def _sorted(high: NDArray[np.uint64], low: NDArray[np.uint64], rows: Ints) -> _Run:
    order = np.argsort(high, kind="stable")
    return _Run(high[order], low[order], rows[order])


def _merged(first: _Run, second: _Run) -> _Run:
    joined = (np.concatenate([first.high, second.high]), np.concatenate([first.low, second.low]))
    return _sorted(*joined, np.concatenate([first.rows, second.rows]))
