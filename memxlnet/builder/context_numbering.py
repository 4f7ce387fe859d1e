"""From the rows of chunks to the rows of a cache: what needs all chunks before anything is written.

Contexts are found again across chunks, and record batches must not grow with single giant rows. What is held for that
are digests and numbers in NumPy arrays, some 30 bytes a row at most, never the texts.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memxlnet.format.ragged import Ints


def number_contexts(digests: Iterable[Ints], total: int) -> Ints:
    """Assign numbers to the distinct texts of all chunks in order of first use.

    Args:
        digests: What `text_digests` gives for the contexts, chunk by chunk: 16 bytes are held for each, never the text.
        total: How many there are.

    Returns:
        int64[total], the number of each text.
    """
    halves = np.empty((2, total), np.int64)
    row = 0
    for found in digests:
        halves[:, row : row + len(found)] = found.T
        row += len(found)
    high, low = halves
    order = np.argsort(high, kind="stable")
    begins = np.ones(total, bool)
    begins[1:] = _differ(high, order)
    # A sort by one half keeps digests apart that share it only where the other half is in order as well.
    if (_differ(low, order) & ~begins[1:]).any():
        order = np.lexsort((low, high))
        begins[1:] = _differ(high, order) | _differ(low, order)
    del halves, high, low
    # The sort is stable, so the first row of a run of equal digests is the first use.
    firsts = np.empty(total, np.int64)
    firsts[order] = order[np.flatnonzero(begins)][np.cumsum(begins) - 1]
    del order, begins
    numbered: Ints = (np.cumsum(firsts == np.arange(total)) - 1)[firsts]
    return numbered


def text_digests(texts: pa.Array) -> Ints:
    """Return int64[texts, 2]: 128 bits of a cryptographic digest of each text, which no two texts share in practice."""
    found: Ints = np.frombuffer(b"".join(map(_strong, texts)), np.int64).reshape(-1, 2)
    return found


def _strong(text: pa.Scalar) -> bytes:
    return hashlib.blake2b(text.as_buffer(), digest_size=16).digest()


def _differ(values: Ints, order: Ints) -> NDArray[np.bool_]:
    ordered = values[order]
    differing: NDArray[np.bool_] = ordered[1:] != ordered[:-1]
    return differing


def batch_rows(sizes: Ints, most_rows: int, most_bytes: int) -> int:
    """Return the rows of a record batch: as many as no batch gets too large with, a function of the content alone.

    Args:
        sizes: int64[rows], the bytes of each row of the table.
        most_rows: The usual number; halved as often as needed.
        most_bytes: Bytes of a batch at most, as far as a single row is not larger.
    """
    rows = most_rows
    while rows > 1 and int(np.add.reduceat(sizes, np.arange(0, len(sizes), rows)).max()) > most_bytes:
        rows //= 2
    return rows


def row_bytes(batch: pa.RecordBatch) -> Ints:
    """Return int64[rows]: the bytes of each row in the columns of text and lists."""
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        if pa.types.is_large_string(column.type):
            sizes += np.diff(_offsets(column))
        elif pa.types.is_large_list(column.type):
            bounds = _offsets(column)
            values = column.values
            if pa.types.is_large_string(values.type):
                bounds = _offsets(values)[bounds] + 8 * bounds
                sizes += np.diff(bounds)
            else:
                sizes += np.diff(bounds) * (values.type.bit_width // 8)
    return sizes


def _offsets(column: pa.Array) -> Ints:
    """Return int64[rows + 1]: the offsets of a text or list column; a slice's begin where it does."""
    if not len(column):
        return np.zeros(1, np.int64)
    offsets = np.frombuffer(column.buffers()[1], np.int64)
    return offsets[column.offset : column.offset + len(column) + 1]
