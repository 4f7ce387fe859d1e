"""The words that options of loaders take."""

from collections.abc import Iterable
from typing import Literal

Lanes = Literal["aligned", "refilled"]
"""Documents side by side, or lanes that continue with another document where one ends."""

Align = Literal["start", "end"]
"""Where the documents of a group stand side by side."""

OrderBy = Literal["documents", "shards"]
"""Whether documents are permuted as a whole, or within blocks of shards."""

Window = Literal["first", "random", "answer"]
"""Which segments of a document are read where not all are."""

Dtype = Literal["int64", "stored"]
"""The type of the model's tensors: int64 for any model, or the types of the file."""

EndedLabel = Literal["ignore", "cls"]
"""Answer positions of lanes without a segment."""

MetadataName = Literal[
    "total_segments",
    "offset_mapping",
    "context",
    "question",
    "has_answer",
    "has_answer_in_segment",
    "chosen_answer_text",
    "chosen_answer_char_span",
    "source",
    "context_mask",
]
"""What a step or batch may hold besides its tensors."""

Metadata = bool | Iterable[MetadataName] | list[str] | tuple[str, ...] | set[str] | frozenset[str]
"""Names of what steps or batches hold besides their tensors, kept columns among them; True for all. A string alone is
not a list of names."""
