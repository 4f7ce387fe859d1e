"""The kept columns of chunks in the types of all chunks together, and the bytes of their rows."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memxlnet.errors import ExampleError
from memxlnet.format.ragged import Ints, bounds_of

_WIDTH = 8


def fitted(kept: pa.RecordBatch, schema: pa.Schema, ids: pa.Array) -> pa.RecordBatch:
    """Return the kept columns of a chunk in a schema: wider types, and nulls for columns that the chunk lacks.

    Args:
        kept: The columns; no rows where it has no column.
        schema: The schema of all chunks together.
        ids: The ids of the chunk's documents.

    Raises:
        ExampleError: A value has no place in the wider type: an integer that double does not hold.
    """
    columns = []
    for field in schema:
        at = kept.schema.get_field_index(field.name)
        if at < 0:
            columns.append(pa.nulls(len(ids), field.type))
        elif kept.schema.field(at).type == field.type:
            columns.append(kept.column(at))
        else:
            columns.append(_widened(kept.column(at), field, ids))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _widened(column: pa.Array, field: pa.Field, ids: pa.Array) -> pa.Array:
    values = column.to_pylist()
    try:
        return pa.array(values, field.type)
    except pa.ArrowException:
        for example_id, value in zip(ids, values, strict=True):
            try:
                pa.array([value], field.type)
            except pa.ArrowException as error:
                raise ExampleError(
                    f"example {example_id.as_py()!r}: keep: field {field.name!r}: expected a value of the type "
                    f"{field.type}, as other examples have one, found {value!r:.80} ({error}); convert it with "
                    "transform="
                ) from error
        raise


def nested_bytes(batch: pa.RecordBatch) -> Ints:
    """Return int64[rows]: the bytes of each row, whatever the types of its columns; estimates for numbers and lists."""
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        sizes += _sizes(column)
    return sizes


def _sizes(column: pa.Array) -> Ints:
    kind = column.type
    if pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        return _WIDTH + _filled(pc.binary_length(column))
    if pa.types.is_large_list(kind):
        counts = _filled(pc.list_value_length(column))
        bounds, before = bounds_of(counts), bounds_of(_sizes(column.flatten()))
        return _WIDTH + before[bounds[1:]] - before[bounds[:-1]]
    if pa.types.is_struct(kind):
        return np.sum([_sizes(child) for child in column.flatten()], axis=0, dtype=np.int64) + np.zeros(
            len(column), np.int64
        )
    return np.full(len(column), _WIDTH, np.int64)


def _filled(lengths: pa.Array) -> Ints:
    return pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False).astype(np.int64)  # type: ignore[no-any-return]
