"""Segments, batches and steps: dictionaries that are shown in a few lines."""

from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor
from torch.utils import _pytree

from memxlnet.notebook import html_table, shortened


class Record(dict[str, Any]):
    """A dictionary whose ``repr`` has the type and shape of a tensor, and the beginning of a text.

    In all else it is a dictionary: it is equal to one, pickles, collates, and is a tree of tensors for torch.
    """

    __slots__ = ()

    shown_as: ClassVar[str]
    """The name in its ``repr``."""

    def copy(self) -> Self:
        """Return a shallow copy of the same kind."""
        return type(self)(self)

    def __repr__(self) -> str:
        lines = "".join(f"  {name!r}: {_summary(value)},\n" for name, value in self.items())
        return f"{self.shown_as}({{\n{lines}}})"

    def _repr_html_(self) -> str:
        return html_table(self.shown_as, {name: _summary(value) for name, value in self.items()})


class Segment(Record):
    """What ``dataset[i]`` returns."""

    __slots__ = ()
    shown_as = "Segment"


class BatchRecord(Record):
    """A `Batch` as it is made."""

    __slots__ = ()
    shown_as = "Batch"


class StepRecord(Record):
    """A `Step` as it is made."""

    __slots__ = ()
    shown_as = "Step"


def _summary(value: object) -> str:
    """Return the type and shape of a tensor or array, and other values in short."""
    if isinstance(value, Tensor | np.ndarray) and value.ndim:
        kind = str(value.dtype).removeprefix("torch.")
        device = f" on {value.device}" if isinstance(value, Tensor) and not value.is_cpu else ""
        return f"{kind}[{', '.join(map(str, value.shape))}]{device}"
    return shortened(value)


def _flatten(record: Record) -> tuple[list[Any], Any]:
    return list(record.values()), list(record)


def _registered(kind: type[Record]) -> None:
    """Make a kind of record a tree for torch, as a plain dictionary is one."""

    def unflatten(values: Iterable[Any], names: Any) -> Record:
        return kind(zip(names, values, strict=True))

    def flatten_with_keys(record: Record) -> tuple[list[tuple[Any, Any]], Any]:
        return [(_pytree.MappingKey(name), value) for name, value in record.items()], list(record)

    _pytree.register_pytree_node(
        kind,
        _flatten,
        unflatten,
        serialized_type_name=f"{kind.__module__}.{kind.__name__}",
        flatten_with_keys_fn=flatten_with_keys,
    )


for _kind in (Segment, BatchRecord, StepRecord):
    _registered(_kind)
