"""From the rows of a group to the tensors of its steps."""

from typing import Any

import torch
from torch import Tensor

from memxlnet.load.batches import DTYPES, as_dtype
from memxlnet.load.datasets import CacheDataset
from memxlnet.load.document_map import DocumentIds
from memxlnet.load.plan import GroupPlan
from memxlnet.load.tensors import MODEL_COLUMNS
from memxlnet.settings import one_of

Step = dict[str, Any]
"""The tensors of one time index of a group, and the ids of its lanes."""

ENDED_LABELS = ("ignore", "cls")

_PLACES = ("cls_index", "segment_index", "context_token_count", "context_row_start", "question_row_start")


class StepMaker:
    """Gathers the rows of several steps at once and cuts them into steps.

    Args:
        dataset: A dataset over a cache.
        dtype: Type of the model's tensors.
        ended_label: Answer positions of ended lanes.
    """

    def __init__(self, dataset: CacheDataset, dtype: str, ended_label: str):
        manifest = dataset.manifest
        layout = manifest.layout
        self._dataset = dataset
        self._dtype = one_of("dtype", dtype, DTYPES)
        self._memory = layout.num_memory_tokens
        self._padding = {"input_ids": layout.pad_id, "attention_mask": 0, "token_type_ids": layout.pad_type}
        self._cls_index = layout.padded_cls_index(manifest.max_seq_length)
        ended_label = one_of("ended_label", ended_label, ENDED_LABELS)
        label = manifest.max_seq_length if ended_label == "ignore" else self._cls_index
        self._labels = {"start_positions": label, "end_positions": label, "cls_index": self._cls_index}

    def example_ids(self, plan: GroupPlan) -> DocumentIds:
        """The ids of a group's documents, read when they are asked for."""
        return DocumentIds(self._dataset.cache, plan.documents)

    def steps(self, plan: GroupPlan, piece: range) -> list[Step]:
        """The steps of a run of time indices: one gather per column for all of them.

        Args:
            plan: The group's rows.
            piece: The time indices.
        """
        lanes = plan.rows.shape[1]
        rows = torch.from_numpy(plan.rows[piece.start : piece.stop].flatten())
        active = rows >= 0
        columns = self._dataset.features.gather(rows.clamp(min=0), (*MODEL_COLUMNS, *_PLACES))
        places = {name: columns.pop(name).to(torch.int64) for name in _PLACES}
        columns = as_dtype(columns, self._dtype)
        columns["cls_index"] = places["cls_index"]
        if not bool(active.all()):
            self._end(columns, ~active)
        columns |= self._memory_places(places, active)
        columns["segment_index"] = torch.where(active, places["segment_index"], -1)
        columns["rows"] = rows
        columns["document_mask"] = active
        ids = self.example_ids(plan)
        cut = {name: torch.split(column, lanes) for name, column in columns.items()}
        return [
            {**{name: parts[place] for name, parts in cut.items()}, "example_ids": ids} for place in range(len(piece))
        ]

    def _end(self, columns: dict[str, Tensor], ended: Tensor) -> None:
        """Turn the rows of ended lanes into padding, in place."""
        for name, value in (self._padding | self._labels).items():
            columns[name][ended] = value
        columns["attention_mask"][ended, self._cls_index] = 1

    def _memory_places(self, places: dict[str, Tensor], active: Tensor) -> dict[str, Tensor]:
        if not self._memory:
            nowhere = torch.full_like(places["cls_index"], -1)
            return {"mem_read_start": nowhere, "mem_write_start": nowhere.clone()}
        read = places["question_row_start"] - self._memory
        write = places["context_row_start"] + places["context_token_count"]
        return {"mem_read_start": torch.where(active, read, -1), "mem_write_start": torch.where(active, write, -1)}
