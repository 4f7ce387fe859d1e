"""JSON lines: one object for each segment, document and context, with the columns of the cache."""

import base64
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from memxlnet.export.exported_file import ExportedFile, Report, differs, document_batches, segment_batches
from memxlnet.format.file_layout import column_values
from memxlnet.format.published import PublishedCache

Lines = Callable[[], Iterator[tuple[list[bytes], int]]]
"""Gives lines, and the number of rows that they stand for."""


def json_lines_files(cache: PublishedCache) -> list[ExportedFile]:
    """Return the files of an export to JSON lines."""
    return [
        lines_file("features.jsonl", cache.num_rows, partial(_segments, cache)),
        *text_files(cache),
    ]


def text_files(cache: PublishedCache) -> list[ExportedFile]:
    """Return the files with the texts: documents and contexts."""
    return [
        lines_file("documents.jsonl", cache.num_documents, lambda: _lines_of(document_batches(cache))),
        lines_file("contexts.jsonl", cache.contexts.num_rows, lambda: _lines_of(cache.contexts.batches())),
    ]


def lines_file(name: str, rows: int, lines: Lines) -> ExportedFile:
    """Return a file of lines, which is compared line by line as it is read back."""
    return ExportedFile(name, rows, partial(_write, lines), partial(_check, lines))


def as_json(value: Any) -> bytes:
    """Return a value as JSON in UTF-8.

    Times are ISO 8601; decimals, durations and keys are text; bytes are base64; NaN and the infinities are null.
    """
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_SUBCLASS
    return orjson.dumps(value, _without_json, options)


def _without_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    raise TypeError(f"expected a value that JSON can hold, found {type(value).__name__}")


def _segments(cache: PublishedCache) -> Iterator[tuple[list[bytes], int]]:
    length = cache.manifest.max_seq_length
    for batch in segment_batches(cache, range(cache.num_rows)):
        columns = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            values = column_values(column)
            columns[name] = values.tolist() if len(values) == batch.num_rows else values.reshape(-1, length)
        rows = zip(*columns.values(), strict=True)
        yield [as_json(dict(zip(columns, row, strict=True))) for row in rows], batch.num_rows


def _lines_of(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[list[bytes], int]]:
    for batch in batches:
        yield list(map(as_json, batch.to_pylist())), batch.num_rows


def _write(lines: Lines, path: Path, report: Report) -> None:
    with path.open("xb") as file:
        for found, rows in lines():
            file.writelines(line + b"\n" for line in found)
            report(rows)


def _check(lines: Lines, path: Path, report: Report) -> None:
    row = 0
    with path.open("rb") as file:
        for expected, rows in lines():
            for line in expected:
                if file.readline() != line + b"\n":
                    raise differs(path, row, "values")
            row += rows
            report(rows)
        if file.read(1):
            raise differs(path, row, "rows after the last")
