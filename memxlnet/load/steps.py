"""From the rows of a run of steps to their tensors."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NotRequired, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memxlnet.format.padding import CONTEXT_PLACES, POSITIONS, RowWidths
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.devices import Arrival, Transfer
from memxlnet.load.document_ids import DocumentIds
from memxlnet.load.epoch_plan import Bools, StepRows
from memxlnet.load.option_literals import Dtype, EndedLabel
from memxlnet.load.records import StepRecord
from memxlnet.load.seeded_random import Ints
from memxlnet.load.segment_metadata import CONTEXT_MASK, METADATA, OFFSETS
from memxlnet.load.tensors import TOKEN_COLUMNS, ModelTensors, as_dtype, context_mask
from memxlnet.settings import one_of


class Step(ModelTensors):
    """One time index of a group: a dictionary of tensors over B lanes of L tokens, copies of what is stored.

    ``input_ids``, ``attention_mask`` and ``token_type_ids`` are [B, L]; ``document_mask``, ``reset`` and ``is_last``
    bool[B]; all other tensors int64[B]. Neighbouring steps share memory: clone what is kept for long. Lanes without a
    segment hold padding, -1 in ``rows`` and False in ``document_mask``; ``num_active`` counts the others.
    ``example_ids`` is a sequence that reads ids when it is asked, empty for such lanes. ``mem_read_start`` and
    ``mem_write_start`` are -1 where rows hold no memory tokens. What follows is present where ``metadata`` names it:
    ``context_mask`` bool[B, L], and lists with one entry a lane, None in lanes without a segment; those of
    ``offset_mapping`` are int32[L, 2], and kept columns have their own names. With ``compat="memxlnet-0"`` the keys of
    the earlier code base are present too.
    """

    mem_read_start: Tensor
    mem_write_start: Tensor
    document_mask: Tensor
    reset: Tensor
    is_last: Tensor
    num_active: int
    example_ids: DocumentIds
    context_mask: NotRequired[Tensor]
    offset_mapping: NotRequired[list[NDArray[np.int32] | None]]
    question: NotRequired[list[str | None]]
    context: NotRequired[list[str | None]]
    source: NotRequired[list[str | None]]
    total_segments: NotRequired[list[int | None]]
    has_answer: NotRequired[list[bool | None]]
    has_answer_in_segment: NotRequired[list[bool | None]]
    chosen_answer_text: NotRequired[list[str | None]]
    chosen_answer_char_span: NotRequired[list[tuple[int, int] | None]]


BLOCK_BYTES = 3 << 19
"""Bytes of the token columns that are gathered at once, 1.5 MiB: enough to make the cost of a gather small, and about
what the cache of a core holds. A document of 1,000 segments is never gathered whole."""

_MEMORY_PLACES = ("mem_read_start", "mem_write_start")


class StepMaker:
    """Makes steps of rows.

    Args:
        dataset: A dataset over a cache.
        dtype: Type of the model's tensors.
        ended_label: Answer positions of ended lanes.
        widths: How wide the rows of a step are.
        metadata: Names of what a step holds besides its tensors.
        pin_memory: Put the tensors into page-locked memory.
        transfer: Copies the tensors to a device; None leaves them.
    """

    def __init__(
        self,
        dataset: CacheDataset,
        dtype: str,
        ended_label: str,
        widths: RowWidths,
        metadata: Iterable[str] = (),
        pin_memory: bool = False,
        transfer: Transfer | None = None,
    ):
        manifest = dataset.manifest
        layout = manifest.layout
        self._dataset = dataset
        self._widths = widths
        self._dtype = one_of("dtype", dtype, get_args(Dtype))
        self._memory = layout.num_memory_tokens
        self._cls_index = layout.padded_cls_index(manifest.max_seq_length)
        self._ignore = one_of("ended_label", ended_label, get_args(EndedLabel)) == "ignore"
        padding = self._padding_rows(
            {"input_ids": layout.pad_id, "attention_mask": 0, "token_type_ids": layout.pad_type}
        )
        model_row = as_dtype({name: torch.from_numpy(padding[name]) for name in TOKEN_COLUMNS}, self._dtype)
        self._row_bytes = sum(column.nbytes for column in model_row.values())
        self._token_padding = padding
        wanted = frozenset(metadata)
        self._texts = tuple(name for name in dict.fromkeys((*METADATA, *manifest.kept)) if name in wanted)
        self._with_mask = CONTEXT_MASK in wanted
        self._places: tuple[str, ...] = POSITIONS
        if self._memory or self._with_mask or widths.cuts:
            self._places += CONTEXT_PLACES
        if self._memory:
            self._places += ("question_row_start",)
        self._pin_memory = pin_memory
        self._transfer = transfer

    @property
    def block_rows(self) -> int:
        """Rows whose tokens are gathered at once."""
        return max(BLOCK_BYTES // self._row_bytes, 1)

    @property
    def shard_rows(self) -> int:
        """Rows of a shard, on average."""
        return self._dataset.cache.num_rows // len(self._dataset.cache.features)

    @property
    def has_texts(self) -> bool:
        """Whether steps hold metadata in lists."""
        return bool(self._texts)

    def example_ids(self, documents: Ints) -> DocumentIds:
        """Return the ids of documents of the cache, read when they are asked for; empty for -1."""
        return DocumentIds(self._dataset.cache, documents)

    def run(self, plan: StepRows) -> "StepRun":
        """Return a run of steps, with everything made that is small.

        Args:
            plan: The rows.
        """
        active = plan.rows >= 0
        # Any row stands in for padding; one of these needs no page that would not be read anyway.
        stand_in = int(plan.rows.max()) if active.any() else self._dataset.cache.num_rows - 1
        rows = torch.from_numpy(np.where(active, plan.rows, stand_in).reshape(-1))
        places = self._dataset.tensors.gather(rows, self._places)
        columns = {name: places[name].to(torch.int64) for name in POSITIONS} | self._memory_places(places)
        widths = self._step_widths(active, places)
        self._move(columns, widths, active)
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
        by_step |= {name: column.unbind(0) for name, column in self._placed(small).items()}
        context = {name: places[name] for name in CONTEXT_PLACES} if self._with_mask else {}
        return StepRun(self, plan, rows, context, widths, by_step)

    def _step_widths(self, active: Bools, places: dict[str, Tensor]) -> Ints:
        """Return int64[steps], the width of each."""
        if not self._widths.cuts:
            return np.full(len(active), self._widths.max_seq_length)
        lengths = self._widths.lengths({name: places[name].numpy() for name in CONTEXT_PLACES})
        longest: Ints = np.where(active, lengths.reshape(active.shape), 0).max(axis=1)
        return self._widths.width(longest)

    def _move(self, columns: dict[str, Tensor], widths: Ints, active: Bools) -> None:
        """Count positions in the rows as they are cut, and put those of ended lanes in; in place."""
        lanes = active.shape[1]
        shifts = np.repeat(self._widths.shift(widths), lanes)
        if self._widths.cuts:
            for name in (*POSITIONS, *_MEMORY_PLACES) if self._memory else POSITIONS:
                columns[name] -= torch.from_numpy(shifts)
        ended = np.flatnonzero(~active)
        at_cls = self._cls_index - shifts[ended]
        label = widths[ended // lanes] if self._ignore else at_cls
        for name, value in zip((*POSITIONS, *_MEMORY_PLACES), (label, label, at_cls, -1, -1), strict=True):
            columns[name].numpy()[ended] = value

    def tokens(self, rows: Tensor, ended: Ints, context: dict[str, Tensor], width: int) -> dict[str, Tensor]:
        """Return the token columns of some rows: one gather for each.

        Args:
            rows: int64[rows], padding included.
            ended: The places of padding in them.
            context: Where their contexts lie, if a context mask is wanted.
            width: Tokens of a row that are kept.
        """
        columns = self._dataset.gather_rows(rows, TOKEN_COLUMNS, width if self._widths.cuts else None)
        mask = {CONTEXT_MASK: context_mask(context, width, self._widths.shift(width))} if context else {}
        if len(ended):
            kept = self._widths.kept(width)
            # Ahead of the conversion, which makes rows longer.
            for name, column in (columns | mask).items():
                row = self._token_padding[name][kept]
                if not column.is_cpu:
                    column[torch.from_numpy(ended).to(column.device)] = torch.from_numpy(row).to(column.device)
                    continue
                # Rows as single values, put through NumPy: torch's index_fill_ takes eight times as long.
                as_value = f"V{row.nbytes}"
                np.put(column.numpy().view(as_value), ended, row.view(as_value))
        return self._placed(as_dtype(columns, self._dtype) | mask)

    def texts(self, rows: Ints, width: int) -> dict[str, list[Any]]:
        """Return what the metadata names of the lanes of one step, None where a lane has no segment."""
        found = self._dataset.metadata(rows, self._texts)
        texts: dict[str, list[Any]] = {name: [one and one[name] for one in found] for name in self._texts}
        if OFFSETS in texts and self._widths.cuts:
            kept = self._widths.kept(width)
            texts[OFFSETS] = [offsets if offsets is None else offsets[kept] for offsets in texts[OFFSETS]]
        return texts

    def making(self) -> AbstractContextManager[Any]:
        """Return the context in which steps are made: on the stream of the copies to a device."""
        return nullcontext() if self._transfer is None else self._transfer.on_stream()

    def sent(self) -> Arrival | None:
        """Return what waits until all tensors made so far are on their device; None where they are."""
        return None if self._transfer is None else self._transfer.sent()

    def finished(self, step: Step) -> Step:
        """Return a step as the loader yields it."""
        return cast(Step, self._dataset.finished(cast(dict[str, Any], step)))

    def _padding_rows(self, values: dict[str, int]) -> dict[str, NDArray[Any]]:
        """Return for each token column the row of an ended lane as it would be stored."""
        stored = self._dataset.tensors.dtypes
        length = self._widths.max_seq_length
        rows: dict[str, NDArray[Any]] = {name: np.full(length, value, stored[name]) for name, value in values.items()}
        rows["attention_mask"][self._cls_index] = 1
        return rows | {CONTEXT_MASK: np.zeros(length, np.bool_)}

    def _placed(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        if self._transfer is not None:
            return self._transfer.send(columns)
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
        widths: Ints,
        by_step: dict[str, Sequence[Any]],
    ):
        self._maker = maker
        self._plan = plan
        self.rows = rows
        self._context = context
        self._widths = widths.tolist()
        self._by_step = by_step

    def steps(self, start: int, stop: int) -> list[Step]:
        """Return some of the steps: one gather per token column for all neighbours of one width.

        Args:
            start: The first of them, counted from the first step of the run.
            stop: The one after the last.
        """
        made: list[Step] = []
        while start < stop:
            width, end = self._widths[start], start + 1
            while end < stop and self._widths[end] == width:
                end += 1
            made += self._of_one_width(start, end, width)
            start = end
        return made

    def _of_one_width(self, start: int, stop: int, width: int) -> list[Step]:
        lanes = self._plan.rows.shape[1]
        flat = slice(start * lanes, stop * lanes)
        ended = np.flatnonzero(self._plan.rows[start:stop].reshape(-1) < 0)
        context = {name: column[flat] for name, column in self._context.items()}
        columns = self._maker.tokens(self.rows[flat], ended, context, width)
        parts: dict[str, Sequence[Any]] = {
            name: column.view(-1, lanes, width).unbind(0) for name, column in columns.items()
        }
        parts |= {name: values[start:stop] for name, values in self._by_step.items()}
        made = [StepRecord(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)]
        if self._maker.has_texts:
            for step, rows in zip(made, self._plan.rows[start:stop], strict=True):
                step |= self._maker.texts(rows, width)
        return [self._maker.finished(cast(Step, step)) for step in made]
