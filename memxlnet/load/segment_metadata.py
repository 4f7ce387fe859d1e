"""What belongs to one segment besides its tensors: texts, offsets, places. NumPy and plain values."""

from collections.abc import Collection, Sequence
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from memxlnet.errors import CacheDamagedError
from memxlnet.format.lazy_features import LazyFeatures
from memxlnet.format.manifest import REBUILD
from memxlnet.format.published import FeatureShard, PublishedCache
from memxlnet.load.option_literals import MetadataName

_PLACES = (
    "document",
    "segment_index",
    "cls_index",
    "context_token_start",
    "context_token_count",
    "context_row_start",
    "question_row_start",
    "has_answer_in_segment",
)

METADATA_NAMES: tuple[MetadataName, ...] = get_args(MetadataName)

CONTEXT_MASK = "context_mask"
"""What a step or batch may hold besides the metadata of its segments: where the context stands."""

METADATA = tuple(name for name in METADATA_NAMES if name != CONTEXT_MASK)
"""What a segment has besides its tensors, its id and its places."""

OFFSETS = "offset_mapping"

SEGMENT_FIELDS = ("example_id", "segment_index", *METADATA, "cls_index", "mem_read_start", "mem_write_start")
"""Everything that `SegmentReader` reads of a segment."""


class SegmentReader:
    """Reads the metadata of segments off a cache; rows must be in range.

    Attributes:
        fields: Names of what it reads.
        kept: Names of the kept columns.
    """

    fields: tuple[str, ...] = SEGMENT_FIELDS

    def __init__(self, cache: PublishedCache):
        self._cache = cache
        self.kept = frozenset(cache.manifest.kept)
        self.fields = tuple(dict.fromkeys((*type(self).fields, *cache.manifest.kept)))
        self._length = cache.manifest.max_seq_length
        self._memory = cache.manifest.layout.num_memory_tokens
        self._place = cache.manifest.tables["features"].shard_of
        self._starts: Sequence[int] = [0] * len(cache.features)
        self._places: Sequence[list[Any]] = LazyFeatures(len(cache.features), lambda at: _places(cache.features[at]))
        if cache.source is None:
            self._starts = [shard.document_start for shard in cache.features]
            self._places = [_places(shard) for shard in cache.features]

    def metadata(self, row: int, kept: Collection[str] | None = None) -> dict[str, Any]:
        """Return everything about a segment except model inputs; see the dataset's documentation for the fields.

        Args:
            row: The row.
            kept: The kept columns that are wanted; None for all.

        Raises:
            CacheDamagedError: A value of the row cannot be.
        """
        try:
            return self._read(row, self.kept if kept is None else kept)
        except (IndexError, ValueError, OverflowError) as error:
            raise CacheDamagedError(
                f"{self._cache.directory}, row {row}: expected values that fit together, found {error}",
                hint=REBUILD,
            ) from error

    def _read(self, row: int, kept: Collection[str]) -> dict[str, Any]:
        shard, local = self._place(row)
        document, segment, cls_index, token_start, count, context_at, question_at, holds = (
            column[local] for column in self._places[shard]
        )
        document += self._starts[shard]
        documents, contexts = self._cache.documents, self._cache.contexts
        context = documents.number("context", document)
        chosen = documents.number("chosen_answer", document)
        offsets = np.zeros((self._length, 2), np.int32)
        tokens = slice(token_start, token_start + count)
        starts, stops = contexts.numbers("token_starts", context), contexts.numbers("token_stops", context)
        self._write(offsets, context_at, starts[tokens], stops[tokens])
        starts, stops = (
            documents.numbers("question_token_starts", document),
            documents.numbers("question_token_stops", document),
        )
        self._write(offsets, question_at, starts, stops)
        found = {
            "example_id": documents.text("id", document),
            "segment_index": segment,
            "total_segments": documents.number("num_segments", document),
            "offset_mapping": offsets,
            "context": contexts.text("text", context),
            "question": documents.text("question", document),
            "cls_index": cls_index,
            "mem_read_start": question_at - self._memory if self._memory else -1,
            "mem_write_start": context_at + count if self._memory else -1,
            "has_answer": chosen >= 0,
            "has_answer_in_segment": bool(holds),
            "chosen_answer_text": documents.texts("answer_texts", document)[chosen] if chosen >= 0 else "",
            "chosen_answer_char_span": (
                documents.number("answer_char_start", document),
                documents.number("answer_char_stop", document),
            ),
            "source": self._cache.source_of(document),
        }
        if kept and self._cache.kept is not None:
            found |= self._cache.kept.values(document, kept)
        return self._finished(document, found)

    def _finished(self, document: int, found: dict[str, Any]) -> dict[str, Any]:
        """Return what a loader yields of a segment of a document."""
        return found

    @staticmethod
    def _write(offsets: NDArray[np.int32], at: int, starts: NDArray[np.int32], stops: NDArray[np.int32]) -> None:
        part = offsets[at : at + len(starts)]
        part[:, 0] = starts
        part[:, 1] = stops


def _places(shard: FeatureShard) -> list[Any]:
    # Of a memory view a value is a plain integer, which takes a tenth of the time of NumPy's.
    return [memoryview(cast(Any, shard.columns[name])) for name in _PLACES]
