"""Parquet: segments, documents and contexts as tables with the columns of the cache."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from memxlnet.export.exported_file import (
    ROWS_AT_ONCE,
    ExportedFile,
    Report,
    differs,
    document_batches,
    segment_batches,
    segment_ranges,
)
from memxlnet.format.published import PublishedCache

Batches = Callable[[], Iterator[pa.RecordBatch]]

_WITH_FEW_VALUES = ("alignment", "alignment_detail", "contradiction")


def parquet_files(cache: PublishedCache) -> list[ExportedFile]:
    """Return the files of an export to Parquet."""
    return [
        *(
            _file(f"features-{number:05d}.parquet", len(rows), partial(segment_batches, cache, rows))
            for number, rows in enumerate(segment_ranges(cache))
        ),
        _file("documents.parquet", cache.num_documents, partial(document_batches, cache)),
        _file("contexts.parquet", cache.contexts.num_rows, cache.contexts.batches),
    ]


def _file(name: str, rows: int, batches: Batches) -> ExportedFile:
    return ExportedFile(name, rows, partial(_write, batches), partial(_check, batches))


def _write(batches: Batches, path: Path, report: Report) -> None:
    found = batches()
    first = next(found).replace_schema_metadata()
    with pq.ParquetWriter(path, first.schema, compression="zstd", use_dictionary=list(_WITH_FEW_VALUES)) as writer:
        for batch in chain([first], found):
            writer.write_batch(batch.replace_schema_metadata(), row_group_size=ROWS_AT_ONCE)
            report(batch.num_rows)


def _check(batches: Batches, path: Path, report: Report) -> None:
    with pq.ParquetFile(path) as file:
        groups = (file.read_row_group(number) for number in range(file.num_row_groups))
        row = 0
        for batch in batches():
            found = next(groups, None)
            expected = pa.Table.from_batches([batch.replace_schema_metadata()])
            if found is None or not _equal(found, expected):
                raise differs(path, row, "values")
            row += batch.num_rows
            report(batch.num_rows)
        if next(groups, None) is not None:
            raise differs(path, row, "rows after the last")


def _equal(found: pa.Table, expected: pa.Table) -> bool:
    if found.equals(expected):
        return True
    # Arrow takes no NaN for equal to itself; their texts are.
    is_alike = found.schema.equals(expected.schema) and found.num_rows == expected.num_rows
    return is_alike and all(
        one.equals(other) or repr(one.to_pylist()) == repr(other.to_pylist())
        for one, other in zip(found.columns, expected.columns, strict=True)
    )
