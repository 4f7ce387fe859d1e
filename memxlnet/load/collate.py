"""From gathered rows to one batch, for torch's `DataLoader`."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memxlnet.errors import SettingsError
from memxlnet.format.padding import CONTEXT_PLACES, POSITIONS, Padding, RowWidths
from memxlnet.load.cache_dataset import BATCH_COLUMNS, CacheDataset
from memxlnet.load.compat import check_whole_rows
from memxlnet.load.loader_options import metadata_names
from memxlnet.load.option_literals import Dtype, Metadata
from memxlnet.load.records import BatchRecord
from memxlnet.load.row_batch import RowBatch
from memxlnet.load.segment_metadata import CONTEXT_MASK, OFFSETS
from memxlnet.load.tensors import TOKEN_COLUMNS, ModelTensors, as_dtype, context_mask
from memxlnet.settings import one_of

_NUMBERS = tuple(name for name in BATCH_COLUMNS if name not in TOKEN_COLUMNS)


class Batch(ModelTensors):
    """A batch of B segments of W tokens, from any document, as a `RegularDataLoader` yields it.

    Besides the tensors that `Collate` describes it holds what ``metadata`` names: ``context_mask`` bool[B, W], and
    lists with one entry per segment; those of ``offset_mapping`` are int32[W, 2].
    """

    document: Tensor
    context_mask: NotRequired[Tensor]
    offset_mapping: NotRequired[list[NDArray[np.int32]]]
    question: NotRequired[list[str]]
    context: NotRequired[list[str]]
    source: NotRequired[list[str]]
    total_segments: NotRequired[list[int]]
    has_answer: NotRequired[list[bool]]
    has_answer_in_segment: NotRequired[list[bool]]
    chosen_answer_text: NotRequired[list[str]]
    chosen_answer_char_span: NotRequired[list[tuple[int, int]]]


class Collate:
    """Turns gathered rows into one batch; picklable, so that it crosses to worker processes.

    A batch holds ``input_ids``, ``attention_mask``, ``token_type_ids`` [B, W] and ``start_positions``,
    ``end_positions``, ``cls_index``, ``segment_index``, ``document``, ``rows`` [B]; W is `max_seq_length`, or less with
    ``padding="longest"``. Positions count in the row as it is handed out.

    Args:
        dtype: ``"int64"`` for any transformers model, ``"stored"`` for the types of the file.
        dataset: Where the metadata are read, and what is known of the padding.
        metadata: Names of what a batch holds besides, each a list; ``context_mask`` is bool[B, W]. True for all.
        padding: ``"max_length"`` keeps rows as they are stored; ``"longest"`` cuts them, on the padding side, to the
            longest of the batch.
        pad_to_multiple_of: Round the width up to a multiple, at most `max_seq_length`.
        device: Where a `RegularDataLoader` copies its batches to; batches are made where the rows are.

    Attributes:
        widths: How wide batches are; None without a dataset.
        device: Where a loader copies them to.

    Raises:
        SettingsError: There is no such type, name or padding, or metadata or cut rows are wanted of no dataset.
    """

    def __init__(
        self,
        dtype: Dtype = "int64",
        dataset: CacheDataset | None = None,
        metadata: Metadata = False,
        padding: Padding = "max_length",
        pad_to_multiple_of: int | None = None,
        device: torch.device | None = None,
    ):
        self.device = device
        self.widths: RowWidths | None = None
        self.dtype = one_of("dtype", dtype, get_args(Dtype))
        self._names = metadata_names(metadata, dataset.manifest.kept if dataset is not None else ())
        self._dataset = dataset
        if dataset is None:
            if self._names:
                raise SettingsError(f"metadata: expected a dataset to read {', '.join(self._names)} of, found None")
            if padding != "max_length" or pad_to_multiple_of is not None:
                raise SettingsError(
                    f"padding: expected a dataset, Collate(dataset=...), with padding={padding!r} and "
                    f"pad_to_multiple_of={pad_to_multiple_of!r}, found None"
                )
            return
        manifest = dataset.manifest
        self.widths = self._widths = RowWidths(manifest.layout, manifest.max_seq_length, padding, pad_to_multiple_of)
        check_whole_rows(dataset.compat, self._widths.cuts)

    def __call__(self, rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Any]:
        """Return the columns of the rows; fresh tensors or those that were gathered.

        Args:
            rows: What `CacheDataset.__getitems__` gave, or rows of it.

        Raises:
            SettingsError: Metadata are wanted of rows without their indices.
        """
        if self._dataset is None:
            return BatchRecord(as_dtype(_columns(rows), self.dtype))
        columns, shift = self._cut(self._dataset, rows)
        batch: dict[str, Any] = as_dtype(columns, self.dtype)
        if not (self._names or self._dataset.compat):
            return BatchRecord(batch)
        if "rows" not in columns:
            raise SettingsError(f"metadata: expected batches with 'rows', found {', '.join(columns)}")
        return BatchRecord(self._dataset.finished(batch | self._metadata(self._dataset, columns, shift)))

    def _cut(self, dataset: CacheDataset, rows: Sequence[Mapping[str, Tensor]]) -> tuple[dict[str, Tensor], int]:
        """Return the columns, cut where requested, and by how much positions moved."""
        if not self._widths.cuts:
            return _columns(rows), 0
        if isinstance(rows, RowBatch):
            # Gathered here, so that what is cut off is never read.
            numbers = dataset.tensors.gather(rows.rows, (*_NUMBERS, *CONTEXT_PLACES))
            places = {name: numbers.pop(name).numpy() for name in CONTEXT_PLACES}
            width = self._widths.width(int(self._widths.lengths(places).max(initial=0)))
            columns = dataset.gather_rows(rows.rows, TOKEN_COLUMNS, width) | numbers | {"rows": rows.rows}
        else:
            columns = _columns(rows)
            width = self._widths.width(int(columns["attention_mask"].sum(dim=1).max()))
            kept = self._widths.kept(width)
            columns |= {name: columns[name][:, kept].contiguous() for name in TOKEN_COLUMNS}
        shift = self._widths.shift(width)
        return columns | {name: columns[name] - shift for name in POSITIONS if shift and name in columns}, shift

    def _metadata(self, dataset: CacheDataset, columns: Mapping[str, Tensor], shift: int) -> dict[str, Any]:
        width = columns["input_ids"].shape[1]
        texts = [name for name in self._names if name != CONTEXT_MASK]
        found = dataset.metadata(columns["rows"], texts) if texts else []
        lists: dict[str, Any] = {name: [one and one[name] for one in found] for name in texts}
        if OFFSETS in lists:
            lists[OFFSETS] = [offsets[self._widths.kept(width)] for offsets in lists[OFFSETS]]
        if CONTEXT_MASK in self._names:
            places = dataset.tensors.gather(columns["rows"], CONTEXT_PLACES)
            lists[CONTEXT_MASK] = context_mask(places, width, shift)
        return lists


def _columns(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    if isinstance(rows, RowBatch):
        return rows.columns
    rows = list(rows)
    # What `dataset[i]` holds besides tensors, which rows of a `ConcatDataset` are, stays out.
    names = [name for name, value in rows[0].items() if isinstance(value, Tensor)]
    return {name: torch.stack([row[name] for row in rows]) for name in names}
