"""Rows that were gathered together, and what turns them into a model's arguments."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from memxlnet.errors import RowIndexError

DTYPES = ("int64", "stored")


def as_dtype(columns: dict[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """The columns as int64, or as they are stored; gathered columns are never shared, so stored ones pass through."""
    if dtype == "stored":
        return columns
    return {name: column.to(torch.int64) for name, column in columns.items()}


class RowBatch(Sequence[dict[str, Tensor]]):
    """Rows that were gathered in one go: a sequence of row dictionaries over whole columns.

    torch's `default_collate` and the collators of transformers see ordinary rows; `collate` takes the columns directly.

    Attributes:
        columns: The gathered columns by name, each [rows] or [rows, max_seq_length]; no views of the map.
    """

    def __init__(self, columns: dict[str, Tensor], num_rows: int):
        self.columns = columns
        self._num_rows = num_rows

    def __len__(self) -> int:
        return self._num_rows

    @overload
    def __getitem__(self, index: int) -> dict[str, Tensor]: ...

    @overload
    def __getitem__(self, index: slice) -> "RowBatch": ...

    def __getitem__(self, index: int | slice) -> "dict[str, Tensor] | RowBatch":
        if isinstance(index, slice):
            taken = range(self._num_rows)[index]
            rows = torch.from_numpy(np.arange(taken.start, taken.stop, taken.step, dtype=np.int64))
            return RowBatch({n: c[rows] for n, c in self.columns.items()}, len(taken))
        try:
            place = range(self._num_rows)[index]
        except IndexError:
            raise RowIndexError(f"row {index} of a batch: expected one of {self._num_rows}") from None
        return {name: column[place] for name, column in self.columns.items()}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        names = tuple(self.columns)
        for values in zip(*(column.unbind(0) for column in self.columns.values()), strict=True):
            yield dict(zip(names, values, strict=True))


CONTEXT_PLACES = ("context_row_start", "context_token_count")


def context_mask(places: Mapping[str, Tensor], length: int) -> Tensor:
    """bool[rows, length], the tokens of the context.

    Args:
        places: int[rows] by name, `CONTEXT_PLACES`.
        length: Tokens in a row.
    """
    token = torch.arange(length, device="cpu")
    first, count = (places[name][:, None] for name in CONTEXT_PLACES)
    return (token >= first) & (token < first + count)


def model_inputs(step: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Keep the entries of a step or batch that a model's ``forward`` names.

    Args:
        step: A step of the time-step-major loader, or a batch.
        model: A torch module; wrappers (`DistributedDataParallel`, `torch.compile`) are looked through.

    Returns:
        The entries whose names are parameters of ``forward``, the tensors themselves.
    """
    # Only a wrapper passes everything on; a model may well have a submodule of this name.
    while _takes_anything(model.forward):
        wrapped = [name for name in ("_orig_mod", "module") if hasattr(model, name)]
        if not wrapped:
            break
        model = getattr(model, wrapped[0])
    names = inspect.signature(model.forward).parameters
    return {name: value for name, value in step.items() if name in names}


def _takes_anything(forward: Any) -> bool:
    kinds = {parameter.kind for parameter in inspect.signature(forward).parameters.values()}
    return kinds <= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
