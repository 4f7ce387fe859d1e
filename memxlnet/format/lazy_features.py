"""Feature shards that are opened when they are needed, because their files may not be here yet."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

Shard = TypeVar("Shard")


class ExpectedShards(Protocol):
    """The shards that a reader will need next: they are fetched ahead of it, and stay until it is past them."""

    def reached(self, place: int) -> None:
        """Give up the shards that are needed only before a place of the reader."""

    def close(self) -> None:
        """Fetch no more ahead, and give up all of them."""


class ShardSource(Protocol):
    """What brings the feature shards of a cache to this machine, one by one.

    It can be pickled: the copy works with the same local files.
    """

    @property
    def limit(self) -> int | None:
        """Bytes of shards that may lie here; None for all."""

    def shard(self, number: int, opened: Callable[[], Any]) -> Any:
        """Return an open shard.

        Args:
            number: Its number.
            opened: Opens it; called once its file is here and checked.

        Raises:
            TransferError: It cannot be fetched.
        """

    def expect(self, needs: Iterable[tuple[int, Sequence[int]]]) -> ExpectedShards:
        """Fetch shards ahead in threads.

        Args:
            needs: In the order of the reader: a place, and the shards that are needed before it is reached. Read in
                these threads.
        """

    def path_of(self, number: int) -> Path:
        """Return where the file of a shard lies once it is here."""


class LazyFeatures(Sequence[Shard]):
    """A sequence of shards, each opened when it is read; none of them stays open because of this sequence.

    Args:
        count: Number of shards.
        opened: Opens one.
    """

    def __init__(self, count: int, opened: Callable[[int], Shard]):
        self._count = count
        self._opened = opened

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Shard: ...

    @overload
    def __getitem__(self, index: slice) -> "LazyFeatures[Shard]": ...

    def __getitem__(self, index: int | slice) -> "Shard | LazyFeatures[Shard]":
        numbers = range(self._count)[index]
        if isinstance(numbers, range):
            return LazyFeatures(len(numbers), lambda place: self._opened(numbers[place]))
        return self._opened(numbers)
