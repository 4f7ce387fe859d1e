"""Rows and batches with the meaning that they had in the earlier code base, on request."""

from collections.abc import Sequence
from copy import copy
from typing import Any, Literal

from torch import Tensor

from memxlnet.errors import SettingsError
from memxlnet.load.segment_metadata import SEGMENT_FIELDS, SegmentReader
from memxlnet.settings import one_of

Compat = Literal["memxlnet-0"]

COMPAT: tuple[Compat, ...] = ("memxlnet-0",)

ENDED: dict[str, Any] = {
    "example_id": "padding",
    "segment_index": 0,
    "total_segments": 0,
    "offset_mapping": [],
    "context": "",
    "question": "",
    "has_answer": False,
    "chosen_answer_text": "",
    "chosen_answer_char_span": [-1, -1],
    "boundary_info": None,
    "segment_index_in_doc": 0,
    "has_answer_in_segment": False,
    "all_valid_answers": [],
}
"""What the lists of a batch hold, and the value in an ended lane."""


def check_compat(value: Any, device: object = None) -> Compat | None:
    """Check the requested meaning, and return it.

    Raises:
        SettingsError: It is not a known one, or the columns lie on a device, as they never did.
    """
    if value is not None:
        one_of("compat", value, COMPAT)
        if device is not None:
            raise SettingsError(f"device: expected None for a dataset with compat={value!r}, found {str(device)!r}")
    checked: Compat | None = value
    return checked


def check_whole_rows(compat: Compat | None, cuts: bool) -> None:
    """Check that rows with the earlier meaning, which were never cut, stay whole.

    Raises:
        SettingsError: They are to be cut.
    """
    if compat and cuts:
        raise SettingsError(f"padding: expected 'max_length' with compat={compat!r}, found 'longest'")


class EarlierReader(SegmentReader):
    """Reads the metadata of segments as the earlier code base gave it."""

    fields = tuple(dict.fromkeys((*SEGMENT_FIELDS, *ENDED)))

    def _finished(self, document: int, found: dict[str, Any]) -> dict[str, Any]:
        documents = self._cache.documents
        texts, starts = documents.texts("answer_texts", document), documents.numbers("answer_starts", document)
        holds = found["has_answer_in_segment"]
        span = list(found["chosen_answer_char_span"]) if holds else [-1, -1]
        shift = span[0] - int(starts[documents.number("chosen_answer", document)]) if holds else 0
        return found | {
            "offset_mapping": list(map(tuple, found["offset_mapping"].tolist())),
            "has_answer": bool(texts),
            "chosen_answer_text": found["chosen_answer_text"] if holds else "",
            "chosen_answer_char_span": span,
            "boundary_info": {"delta_start_char": shift, "boundary_label": _label(shift)} if holds else None,
            "segment_index_in_doc": found["segment_index"],
            "all_valid_answers": list(texts) or [""],
        }


def _label(shift: int) -> str:
    if not shift:
        return "exact"
    return f"off_by_{shift}" if abs(shift) <= 2 else f"large_shift_{shift}"


def earlier_batch(
    batch: dict[str, Any], segments: Sequence[dict[str, Any] | None], context_mask: Tensor
) -> dict[str, Any]:
    """Return a step or batch with the keys and values of the earlier code base, and the keys that only this one has.

    Args:
        batch: The step or batch.
        segments: The metadata of its rows, as `EarlierReader` gives them; None for an ended lane.
        context_mask: bool[B, L], the tokens of the contexts.
    """
    active = [segment is not None for segment in segments]
    mask = context_mask.new_tensor(active)
    cls_index = batch["cls_index"]
    documents = batch.get("example_ids", [segment and segment["example_id"] for segment in segments])
    lists = {name: [segment[name] if segment else copy(ended) for segment in segments] for name, ended in ENDED.items()}
    earlier = {
        **batch,
        **lists,
        "token_type_ids": (context_mask & mask[:, None]).to(batch["token_type_ids"].dtype),
        **{
            name: batch[name].where(mask, cls_index.to(batch[name].dtype))
            for name in ("start_positions", "end_positions")
        },
        "cls_index": cls_index.tolist(),
        "document_mask": mask,
        "example_ids": [name if one else f"padding_{name}" for name, one in zip(documents, active, strict=True)],
    }
    return type(batch)(earlier)
