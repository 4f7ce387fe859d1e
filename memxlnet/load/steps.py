"""From the rows of a run of steps to their tensors."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memxlnet.load.batches import CONTEXT_PLACES, DTYPES, as_dtype, context_mask
from memxlnet.load.datasets import CacheDataset
from memxlnet.load.document_map import DocumentIds
from memxlnet.load.order import Ints
from memxlnet.load.plan import StepRows
from memxlnet.load.segments import METADATA
from memxlnet.load.tensors import TOKEN_COLUMNS
from memxlnet.settings import one_of

Step = dict[str, Any]
"""The tensors of one time index of a group, and the ids of its lanes."""

BLOCK_BYTES = 3 << 19
"""Bytes of the token columns that are gathered at once, 1.5 MiB: enough to make the cost of a gather small, and about
what the cache of a core holds. A document of 1,000 segments is never gathered whole."""

ENDED_LABELS = ("ignore", "cls")

CONTEXT_MASK = "context_mask"

_POSITIONS = ("start_positions", "end_positions")


class StepMaker:
    """Makes steps of rows.

    Args:
        dataset: A dataset over a cache.
        dtype: Type of the model's tensors.
        ended_label: Answer positions of ended lanes.
        metadata: Names of what a step holds besides its tensors.
        pin_memory: Put the tensors into page-locked memory.
    """

    def __init__(
        self,
        dataset: CacheDataset,
        dtype: str,
        ended_label: str,
        metadata: Iterable[str] = (),
        pin_memory: bool = False,
    ):
        manifest = dataset.manifest
        layout = manifest.layout
        self._dataset = dataset
        self._length = manifest.max_seq_length
        self._dtype = one_of("dtype", dtype, DTYPES)
        self._memory = layout.num_memory_tokens
        self._cls_index = layout.padded_cls_index(manifest.max_seq_length)
        label = self._length if one_of("ended_label", ended_label, ENDED_LABELS) == "ignore" else self._cls_index
        padding = self._padding_rows(
            {"input_ids": layout.pad_id, "attention_mask": 0, "token_type_ids": layout.pad_type}
        )
        model_row = as_dtype({name: torch.from_numpy(padding[name]) for name in TOKEN_COLUMNS}, self._dtype)
        self._row_bytes = sum(column.nbytes for column in model_row.values())
        # Rows as single values, to be put through NumPy: torch's index_fill_ takes eight times as long.
        self._token_padding = {name: row.view(f"V{row.nbytes}") for name, row in padding.items()}
        self._padding = {
            "start_positions": label,
            "end_positions": label,
            "cls_index": self._cls_index,
            "mem_read_start": -1,
            "mem_write_start": -1,
        }
        wanted = frozenset(metadata)
        self._texts = tuple(name for name in METADATA if name in wanted)
        self._with_mask = CONTEXT_MASK in wanted
        self._places: tuple[str, ...] = (*_POSITIONS, "cls_index")
        if self._memory or self._with_mask:
            self._places += CONTEXT_PLACES
        if self._memory:
            self._places += ("question_row_start",)
        self._pin_memory = pin_memory

    @property
    def block_rows(self) -> int:
        """Rows whose tokens are gathered at once."""
        return max(BLOCK_BYTES // self._row_bytes, 1)

    @property
    def has_texts(self) -> bool:
        """Whether steps hold metadata in lists."""
        return bool(self._texts)

    def example_ids(self, documents: Ints) -> DocumentIds:
        """The ids of documents, read when they are asked for; empty for -1."""
        return DocumentIds(self._dataset.cache, documents)

    def run(self, plan: StepRows) -> "StepRun":
        """A run of steps, with everything made that is small.

        Args:
            plan: The rows.
        """
        active = plan.rows >= 0
        # Any row stands in for padding; one of these needs no page that would not be read anyway.
        stand_in = int(plan.rows.max()) if active.any() else len(self._dataset) - 1
        rows = torch.from_numpy(np.where(active, plan.rows, stand_in).reshape(-1))
        places = self._dataset.tensors.gather(rows, self._places)
        columns = {name: places[name] for name in _POSITIONS}
        columns["cls_index"] = places["cls_index"].to(torch.int64)
        columns |= self._memory_places(places)
        ended = np.flatnonzero(~active)
        for name, column in columns.items():
            column.numpy()[ended] = self._padding[name]
        small = {name: column.view(plan.rows.shape) for name, column in columns.items()} | {
            "segment_index": torch.from_numpy(plan.segments),
            "rows": torch.from_numpy(plan.rows),
            "document_mask": torch.from_numpy(active),
            "reset": torch.from_numpy(plan.reset),
            "is_last": torch.from_numpy(plan.is_last),
        }
        num_active = np.count_nonzero(active, axis=1).tolist()
        ids = [self.example_ids(documents) for documents in plan.documents]
        by_step: dict[str, Sequence[Any]] = {"num_active": num_active, "example_ids": ids}
        by_step |= {name: column.unbind(0) for name, column in self._pinned(small).items()}
        context = {name: places[name] for name in CONTEXT_PLACES} if self._with_mask else {}
        return StepRun(self, plan, rows, context, by_step)

    def tokens(self, rows: Tensor, ended: Ints, context: dict[str, Tensor]) -> dict[str, Tensor]:
        """The token columns of some rows: one gather for each.

        Args:
            rows: int64[rows], padding included.
            ended: The places of padding in them.
            context: Where their contexts lie, if a context mask is wanted.
        """
        columns = self._dataset.tensors.gather(rows, TOKEN_COLUMNS)
        mask = {CONTEXT_MASK: context_mask(context, self._length)} if context else {}
        if len(ended):
            # Ahead of the conversion, which makes rows longer.
            for name, column in (columns | mask).items():
                row = self._token_padding[name]
                np.put(column.numpy().view(row.dtype), ended, row)
        return self._pinned(as_dtype(columns, self._dtype) | mask)

    def texts(self, rows: Ints) -> dict[str, list[Any]]:
        """What the metadata names of the lanes of one step, None where a lane has no segment."""
        found = self._dataset.metadata(rows, self._texts)
        return {name: [one and one[name] for one in found] for name in self._texts}

    def finished(self, step: Step) -> Step:
        """A step as it is handed out."""
        return self._dataset.finished(step)

    def _padding_rows(self, values: dict[str, int]) -> dict[str, NDArray[Any]]:
        """For each token column the row of an ended lane as it would be stored."""
        stored = {name: self._dataset.cache.features[0].columns[name].dtype for name in values}
        rows = {name: np.full((1, self._length), value, stored[name]) for name, value in values.items()}
        rows["attention_mask"][:, self._cls_index] = 1
        return rows | {CONTEXT_MASK: np.zeros((1, self._length), np.bool_)}

    def _pinned(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: column.pin_memory() for name, column in columns.items()} if self._pin_memory else columns

    def _memory_places(self, places: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self._memory:
            nowhere = torch.full_like(places["cls_index"], -1, dtype=torch.int64)
            return {"mem_read_start": nowhere, "mem_write_start": nowhere.clone()}
        read = places["question_row_start"].to(torch.int64) - self._memory
        write = (places["context_row_start"] + places["context_token_count"]).to(torch.int64)
        return {"mem_read_start": read, "mem_write_start": write}


class StepRun:
    """Consecutive steps, of which all but the token columns is made.

    Attributes:
        rows: int64[steps x lanes], the rows that are gathered; any row stands in for padding.
    """

    def __init__(
        self,
        maker: StepMaker,
        plan: StepRows,
        rows: Tensor,
        context: dict[str, Tensor],
        by_step: dict[str, Sequence[Any]],
    ):
        self._maker = maker
        self._plan = plan
        self.rows = rows
        self._context = context
        self._by_step = by_step

    def steps(self, start: int, stop: int) -> list[Step]:
        """Some of the steps: one gather per token column for all of them.

        Args:
            start: The first of them, counted from the first step of the run.
            stop: The one behind the last.
        """
        lanes = self._plan.rows.shape[1]
        flat = slice(start * lanes, stop * lanes)
        ended = np.flatnonzero(self._plan.rows[start:stop].reshape(-1) < 0)
        context = {name: column[flat] for name, column in self._context.items()}
        columns = self._maker.tokens(self.rows[flat], ended, context)
        parts: dict[str, Sequence[Any]] = {
            name: column.view(-1, lanes, column.shape[1]).unbind(0) for name, column in columns.items()
        }
        parts |= {name: values[start:stop] for name, values in self._by_step.items()}
        made = [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]
        if self._maker.has_texts:
            for step, rows in zip(made, self._plan.rows[start:stop], strict=True):
                step |= self._maker.texts(rows)
        return [self._maker.finished(step) for step in made]
