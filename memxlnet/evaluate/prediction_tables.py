"""Tables of what is predicted of documents: their answers, and their n-best spans."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from memxlnet.evaluate.data_table import DataTable, table_of
from memxlnet.evaluate.predictions import AnswerSpan, DocumentPrediction
from memxlnet.format.file_layout import numpy_type
from memxlnet.format.ragged import bounds_of

_DOCUMENTS_AT_ONCE = 256


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_PLACE = [
    pa.field("char_start", pa.int32()),
    pa.field("char_stop", pa.int32()),
    pa.field("row", pa.int64()),
    pa.field("step", pa.int32()),
]

PREDICTIONS_SCHEMA = pa.schema(
    [
        _required("id", pa.large_string()),
        _required("text", pa.large_string()),
        _required("score", pa.float64()),
        _required("null_score", pa.float64()),
        _required("null_score_difference", pa.float64()),
        _required("null_probability", pa.float64()),
        *_PLACE,
    ]
)
"""Columns of the table of predictions."""

N_BEST_SCHEMA = pa.schema(
    [
        _required("id", pa.large_string()),
        _required("rank", pa.int32()),
        _required("text", pa.large_string()),
        _required("score", pa.float64()),
        _required("probability", pa.float64()),
        *_PLACE,
    ]
)
"""Columns of the table of n-best spans."""


def predictions_table(predictions: Iterator[DocumentPrediction]) -> DataTable:
    """Return a row for each prediction; RAM is that of the table and of some documents."""
    return _table(PREDICTIONS_SCHEMA, predictions, lambda one: [_prediction_row(one)])


def n_best_table(predictions: Iterator[DocumentPrediction]) -> DataTable:
    """Return a row for each span of each prediction, best first; RAM is that of the table and of some documents."""
    return _table(N_BEST_SCHEMA, predictions, _n_best_rows)


def _table(
    schema: pa.Schema,
    predictions: Iterator[DocumentPrediction],
    rows_of: Callable[[DocumentPrediction], Iterable[tuple[Any, ...]]],
) -> DataTable:
    batches = []
    while some := list(islice(predictions, _DOCUMENTS_AT_ONCE)):
        columns = zip(*(row for one in some for row in rows_of(one)), strict=True)
        arrays = [_column(values, field) for values, field in zip(columns, schema, strict=False)]
        if arrays:  # documents without a span have no row
            batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return table_of(schema, batches)


def _column(values: Sequence[Any], field: pa.Field) -> pa.Array:
    """Return a column whose buffers are as long as their values: those that Arrow grows leave holes in memory."""
    if field.type == pa.large_string():
        encoded = [value.encode() for value in values]
        offsets = bounds_of(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
        return pa.Array.from_buffers(field.type, len(values), buffers)
    if field.nullable and None in values:
        return pa.array(values, field.type)
    # pyarrow.array would load pandas, which takes 30 MB.
    numbers = pa.py_buffer(np.array(values, numpy_type(field.type)))
    return pa.Array.from_buffers(field.type, len(values), [None, numbers])


def _prediction_row(one: DocumentPrediction) -> tuple[Any, ...]:
    place = _place(one.spans[0]) if one.text else (None,) * len(_PLACE)
    scores = one.score, one.null_score, one.null_score_difference, one.null_probability
    return (one.example_id, one.text, *scores, *place)


def _n_best_rows(one: DocumentPrediction) -> Iterable[tuple[Any, ...]]:
    for rank, span in enumerate(one.spans):
        yield (one.example_id, rank, span.text, span.score, span.probability, *_place(span))


def _place(span: AnswerSpan) -> tuple[int, int, int, int]:
    return span.char_start, span.char_stop, span.row, span.step
