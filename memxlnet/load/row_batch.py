"""Rows that were gathered together, and what turns them into a model's arguments."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, SupportsIndex, overload

import torch
from torch import Tensor

from memxlnet.errors import SettingsError
from memxlnet.format.row_widths import CONTEXT_PLACES
from memxlnet.load.words import Dtype

TYPES_AS_WORDS = frozenset(
    {"codegen", "ctrl", "flaubert", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "openai-gpt", "xlm"}
)
"""Kinds of models (`model_type`) that look ``token_type_ids`` up among their words, and whose tokenizers give none."""


def as_dtype(columns: dict[str, Tensor], dtype: Dtype) -> dict[str, Tensor]:
    """Return the columns as int64, or as stored; gathered columns are never shared, so stored ones pass through."""
    if dtype == "stored":
        return columns
    return {name: column.to(torch.int64) for name, column in columns.items()}


class RowBatch(list[dict[str, Tensor]]):
    """Rows that were gathered in one go: a list of row dictionaries over whole columns.

    The collators of torch and transformers see ordinary rows, in int64 unless asked otherwise; `Collate` takes the
    columns directly. It is a list since some collators of transformers accept nothing else; its rows are made when they
    are first read, which costs more than the gather.

    Args:
        columns: The columns, or what gathers them when they are first read.
        rows: int64[rows], the row indices.
        dtype: Type of the row dictionaries' tensors.
    """

    def __init__(
        self, columns: dict[str, Tensor] | Callable[[], dict[str, Tensor]], rows: Tensor, dtype: Dtype = "int64"
    ):
        super().__init__()
        self._columns = columns
        self.rows = rows
        self._dtype = dtype
        self._is_filled = False

    @property
    def columns(self) -> dict[str, Tensor]:
        """The columns by name in their stored types, each [rows] or [rows, max_seq_length]; no views of the map."""
        if callable(self._columns):
            self._columns = self._columns()
        return self._columns

    def _fill(self) -> None:
        if self._is_filled:
            return
        self._is_filled = True
        columns = as_dtype(self.columns, self._dtype)
        values = zip(*(column.unbind(0) for column in columns.values()), strict=True)
        self.extend(dict(zip(columns, row, strict=True)) for row in values)

    def __len__(self) -> int:
        return super().__len__() if self._is_filled else len(self.rows)

    @overload
    def __getitem__(self, index: SupportsIndex) -> dict[str, Tensor]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Tensor]]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        self._fill()
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        self._fill()
        return super().__iter__()

    def __reduce__(self) -> tuple[Any, ...]:
        # Row by row, each view would take its whole column along.
        return RowBatch, (self.columns, self.rows, self._dtype)


def context_mask(places: Mapping[str, Tensor], width: int, shift: int = 0) -> Tensor:
    """Return bool[rows, width], the tokens of the context.

    Args:
        places: int[rows] by name, `CONTEXT_PLACES`.
        width: Tokens in a row.
        shift: Tokens that were cut off before them.
    """
    token = torch.arange(shift, shift + width, device="cpu")
    first, count = (places[name][:, None] for name in CONTEXT_PLACES)
    return (token >= first) & (token < first + count)


def model_inputs(step: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Keep the entries of a step or batch that a model's ``forward`` names.

    Models of the kinds `TYPES_AS_WORDS` (GPT-2 and others) get no ``token_type_ids``, although their ``forward`` names
    them: to every token they would add the embedding of the word with the id 0 or 1.

    Args:
        step: A step of the time-step-major loader, or a batch.
        model: A torch module; wrappers (`DistributedDataParallel`, `torch.compile`) are looked through.

    Returns:
        The entries whose names are parameters of ``forward``, the tensors themselves; ``token_type_ids`` as above.

    Raises:
        SettingsError: It is not a step, such as a whole group.
    """
    if not isinstance(step, Mapping):
        raise SettingsError(
            f"step: expected one step or batch, found {type(step).__name__}; a group is a sequence of them"
        )
    # Only a wrapper passes everything on; a model may well have a submodule of this name.
    while _takes_anything(model.forward):
        wrapped = [name for name in ("_orig_mod", "module") if hasattr(model, name)]
        if not wrapped:
            break
        model = getattr(model, wrapped[0])
    names = set(inspect.signature(model.forward).parameters)
    if getattr(getattr(model, "config", None), "model_type", None) in TYPES_AS_WORDS:
        names.discard("token_type_ids")
    return {name: value for name, value in step.items() if name in names}


def _takes_anything(forward: Any) -> bool:
    kinds = {parameter.kind for parameter in inspect.signature(forward).parameters.values()}
    return kinds <= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
