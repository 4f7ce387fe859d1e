"""What publishing needs of every chunk before it writes a row, found where the chunk is encoded."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrow_schemas import ALIGNMENTS
from memxlnet.builder.context_numbering import row_bytes, text_digests
from memxlnet.format.file_layout import column_values
from memxlnet.format.ragged import Ints

_NUMBERS = pa.large_list(pa.int64())

_SCHEMA = pa.schema(
    {
        "features": pa.int64(),
        "num_bytes": pa.int64(),
        "outcomes": _NUMBERS,
        "context_digests": _NUMBERS,
        "context_bytes": _NUMBERS,
        "document_bytes": _NUMBERS,
    }
)


class ChunkSurvey(NamedTuple):
    """What the documents of a chunk are, its sizes, and the digests of its contexts.

    Attributes:
        features: Its rows of features.
        num_bytes: Bytes of all its tables.
        outcomes: int64[ALIGNMENTS + 2], the documents by the outcome of their answer, then those with labels that
            contradict each other, and those with a span that no segment holds whole.
        context_digests: int64[contexts, 2], 128 bits of a digest of each text.
        context_bytes: int64[contexts], the bytes of each row.
        document_bytes: int64[documents], the bytes of each row.
    """

    features: int
    num_bytes: int
    outcomes: Ints
    context_digests: Ints
    context_bytes: Ints
    document_bytes: Ints

    @classmethod
    def of(cls, tables: Mapping[str, pa.RecordBatch]) -> "ChunkSurvey":
        """Survey the tables of a chunk."""
        documents = tables["documents"]
        return cls(
            tables["features"].num_rows,
            sum(batch.nbytes for batch in tables.values()),
            _outcomes(documents),
            text_digests(tables["contexts"]["text"]),
            row_bytes(tables["contexts"]),
            row_bytes(documents),
        )

    @classmethod
    def from_batch(cls, batch: pa.RecordBatch) -> "ChunkSurvey":
        """Return what `to_batch` held.

        Raises:
            pa.ArrowInvalid: It is another batch.
        """
        if not batch.schema.equals(_SCHEMA) or batch.num_rows != 1:
            raise pa.ArrowInvalid("expected the survey of a chunk")
        features, num_bytes, *lists = batch.columns
        outcomes, digests, contexts, documents = (column.flatten().to_numpy() for column in lists)
        return cls(features[0].as_py(), num_bytes[0].as_py(), outcomes, digests.reshape(-1, 2), contexts, documents)

    def to_batch(self) -> pa.RecordBatch:
        """Return a record batch of one row."""
        columns = [pa.array([np.ravel(value)] if isinstance(value, np.ndarray) else [value]) for value in self]
        return pa.RecordBatch.from_arrays(list(map(pa.Array.cast, columns, _SCHEMA.types)), schema=_SCHEMA)


def _outcomes(documents: pa.RecordBatch) -> Ints:
    counts = {entry["values"]: entry["counts"] for entry in documents["alignment"].value_counts().to_pylist()}
    contradictions = pc.sum(pc.not_equal(documents["contradiction"], "")).as_py() or 0
    has_span = column_values(documents["chosen_answer"]) >= 0
    without_segment = (has_span & (column_values(documents["num_answer_segments"]) == 0)).sum()
    return np.array([*(counts.get(name, 0) for name in ALIGNMENTS), contradictions, without_segment], np.int64)
