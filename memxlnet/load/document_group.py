"""One group of documents as a sequence of steps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

from memxlnet.load.document_ids import DocumentIds, checked_index
from memxlnet.load.step_stream import StepStream
from memxlnet.load.steps import Step
from memxlnet.notebook import html_table


@dataclass
class Position:
    """Where a training loop is.

    Attributes:
        epoch: Number of the epoch.
        num_steps: Steps of that epoch.
        next_step: The step after the one that was handed out last.
    """

    epoch: int
    num_steps: int
    next_step: int

    @property
    def is_done(self) -> bool:
        """Whether all steps of the epoch were handed out."""
        return self.next_step >= self.num_steps


class Group(Sequence[Step]):
    """The steps of one group of documents, gathered in blocks when they are asked for.

    Lane i is the document ``example_ids[i]`` at every step. The tensors of a step are views of its block: clone what is
    to be kept for long or changed while the group is read again.

    Attributes:
        number: Number of the group in its epoch.
        first_step: The step of the group that is its first here: above 0 only where a loader was resumed within it.
    """

    def __new__(cls, stream: Any, *others: Any) -> Any:
        """Return the list of steps itself where one is given: Lightning rebuilds sequences so to move a batch."""
        return stream if isinstance(stream, list) else super().__new__(cls)

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the list of the steps for a copy and for another process: a stream stays with its loader."""
        return list, ([self._stream[step] for step in self._steps],)

    def __init__(
        self,
        stream: StepStream,
        steps: range,
        number: int,
        first_step: int,
        example_ids: Callable[[], DocumentIds],
        position: Position,
    ):
        self._stream = stream
        self._steps = steps
        self._position = position
        self.number = number
        self.first_step = first_step
        self._read_ids = example_ids

    @cached_property
    def example_ids(self) -> DocumentIds:
        """Ids of the documents, one a lane; empty for a lane without a document."""
        return self._read_ids()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} steps of {len(self.example_ids)} lanes, {self.example_ids!r})"

    def _repr_html_(self) -> str:
        rows = {"number": self.number, "steps": len(self), "lanes": len(self.example_ids), "ids": self.example_ids}
        return html_table(type(self).__name__, rows)

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, index: int) -> Step: ...

    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...

    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        step = self._steps[checked_index("step", index, len(self))]
        found = self._stream[step]
        self._position.next_step = step + 1
        return found

    def __iter__(self) -> Iterator[Step]:
        for step in self._steps:
            found = self._stream[step]
            self._position.next_step = step + 1
            yield found
