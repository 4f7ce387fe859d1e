"""One file of an export: how it is written, and how what lies on the disk is compared with the cache."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from memxlnet.errors import ExportError
from memxlnet.format.published import PublishedCache

ROWS_OF_A_FILE = 1 << 15
"""Rows of segments in a file at most: 75 MB of 384 tokens."""

ROWS_AT_ONCE = 1 << 12
"""Rows of segments that are converted at once: 10 MB of 384 tokens."""

Report = Callable[[int], object]
"""Called with the number of rows that are done."""


class ExportedFile(NamedTuple):
    """One file of an export.

    Attributes:
        name: Its name.
        rows: Rows of the cache that it holds.
        write: Writes it to a path that does not exist, and reports the rows.
        check: Reads it back, compares it with the cache, and reports the rows; raises `ExportError`.
    """

    name: str
    rows: int
    write: Callable[[Path, Report], None]
    check: Callable[[Path, Report], None]


def differs(path: Path, row: int, what: str) -> ExportError:
    """Return the error for a file that holds something else than was written."""
    return ExportError(
        f"{path.name}: expected the values of the cache at row {row}, found other {what}: the disk did not keep what "
        "was written; check the disk, and export again"
    )


def segment_ranges(cache: PublishedCache) -> list[range]:
    """Return the rows of each file of segments."""
    return [range(row, min(row + ROWS_OF_A_FILE, cache.num_rows)) for row in range(0, cache.num_rows, ROWS_OF_A_FILE)]


def segment_batches(cache: PublishedCache, rows: range) -> Iterator[pa.RecordBatch]:
    """Yield rows of segments, `ROWS_AT_ONCE` at most."""
    for row in range(rows.start, rows.stop, ROWS_AT_ONCE):
        yield cache.segments(row, min(row + ROWS_AT_ONCE, rows.stop))


def document_batches(cache: PublishedCache) -> Iterator[pa.RecordBatch]:
    """Yield the documents in order, with the kept columns after their own."""
    row = 0
    for batch in cache.documents.batches():
        yield batch if cache.kept is None else cache.kept.joined(batch, row)
        row += batch.num_rows
