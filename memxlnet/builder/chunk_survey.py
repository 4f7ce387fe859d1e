"""What publishing needs of every chunk before it writes a row, found where the chunk is encoded."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from memxlnet.builder.context_numbering import row_bytes, text_digests
from memxlnet.format.ragged import Ints

_NUMBERS = pa.large_list(pa.int64())

_SCHEMA = pa.schema(
    {
        "features": pa.int64(),
        "num_bytes": pa.int64(),
        "context_digests": _NUMBERS,
        "context_bytes": _NUMBERS,
        "document_bytes": _NUMBERS,
    }
)


class ChunkSurvey(NamedTuple):
    """The sizes of a chunk, and the digests of its contexts.

    Attributes:
        features: Its rows of features.
        num_bytes: Bytes of all its tables.
        context_digests: int64[contexts, 2], 128 bits of a digest of each text.
        context_bytes: int64[contexts], the bytes of each row.
        document_bytes: int64[documents], the bytes of each row.
    """

    features: int
    num_bytes: int
    context_digests: Ints
    context_bytes: Ints
    document_bytes: Ints

    @classmethod
    def of(cls, tables: Mapping[str, pa.RecordBatch]) -> "ChunkSurvey":
        """Survey the tables of a chunk."""
        return cls(
            tables["features"].num_rows,
            sum(batch.nbytes for batch in tables.values()),
            text_digests(tables["contexts"]["text"]),
            row_bytes(tables["contexts"]),
            row_bytes(tables["documents"]),
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
        digests, contexts, documents = (column.flatten().to_numpy() for column in lists)
        return cls(features[0].as_py(), num_bytes[0].as_py(), digests.reshape(-1, 2), contexts, documents)

    def to_batch(self) -> pa.RecordBatch:
        """Return a record batch of one row."""
        lists = (np.ravel(self.context_digests), self.context_bytes, self.document_bytes)
        columns = [[self.features], [self.num_bytes], *([values] for values in lists)]
        return pa.RecordBatch.from_arrays(list(map(pa.array, columns, _SCHEMA.types)), schema=_SCHEMA)
