"""One group of documents as a sequence of steps, gathered in pieces, and the thread that works ahead."""

from collections.abc import Iterator, Sequence
from typing import overload

from memxlnet.background import Prefetched
from memxlnet.errors import RowIndexError
from memxlnet.load.document_map import DocumentIds
from memxlnet.load.plan import GroupPlan, pieces
from memxlnet.load.steps import Step, StepMaker

PIECE_ROWS = 256
"""Rows that are gathered at once: enough to make the cost of a gather small, some MB of tensors."""

PREFETCH_PIECES = 2
"""Pieces that are made ahead; a document of 1,000 segments is never gathered whole."""


class Group(Sequence[Step]):
    """The steps of one group of documents, gathered in pieces of `PIECE_ROWS` rows when they are asked for.

    Lane i is the document ``example_ids[i]`` at every step. The tensors of a step are views of its piece: clone what is
    to be kept for long or changed while the group is read again.

    Attributes:
        example_ids: Ids of the documents, one a lane.
    """

    def __init__(self, maker: StepMaker, plan: GroupPlan, number: int, ahead: "Ahead | None"):
        self._maker = maker
        self._plan = plan
        self._number = number
        self._ahead = ahead
        self._pieces = pieces(len(plan.rows), plan.rows.shape[1], PIECE_ROWS)
        self._current: tuple[int, list[Step]] = (-1, [])
        self.example_ids: DocumentIds = maker.example_ids(plan)

    def __len__(self) -> int:
        return len(self._plan.rows)

    @overload
    def __getitem__(self, index: int) -> Step: ...

    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...

    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        try:
            place = range(len(self))[index]
        except IndexError:
            raise RowIndexError(f"step {index}: expected one of {len(self)}") from None
        piece = place // len(self._pieces[0])
        if self._current[0] != piece:
            self._current = (piece, self._gather(piece))
        return dict(self._current[1][place - self._pieces[piece].start])

    def __iter__(self) -> Iterator[Step]:
        return (self[place] for place in range(len(self)))

    def _gather(self, piece: int) -> list[Step]:
        found = self._ahead.take(self._number, piece) if self._ahead is not None else None
        return self._maker.steps(self._plan, self._pieces[piece]) if found is None else found


class Ahead:
    """The pieces of an epoch, made in the background in the order in which a plain iteration asks for them."""

    def __init__(self, maker: StepMaker, plans: Iterator[GroupPlan]):
        self._items = Prefetched(_all_pieces(maker, plans), PREFETCH_PIECES)
        self._held: tuple[tuple[int, int], list[Step]] | None = None

    def take(self, group: int, piece: int) -> list[Step] | None:
        """The steps of a piece, or None where the background is past it (an index went back) or stayed in a parent."""
        if not self._items.is_here:
            return None
        wanted = (group, piece)
        while self._held is None or self._held[0] < wanted:
            try:
                self._held = next(self._items)
            except StopIteration:
                return None
        return self._held[1] if self._held[0] == wanted else None

    def close(self) -> None:
        """End the background thread."""
        self._items.close()


def _all_pieces(maker: StepMaker, plans: Iterator[GroupPlan]) -> Iterator[tuple[tuple[int, int], list[Step]]]:
    for number, plan in enumerate(plans):
        for index, piece in enumerate(pieces(len(plan.rows), plan.rows.shape[1], PIECE_ROWS)):
            yield (number, index), maker.steps(plan, piece)
