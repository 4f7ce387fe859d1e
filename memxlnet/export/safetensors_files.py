"""Safetensors: the segments as tensors, next to the texts as JSON lines."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from memxlnet.export.exported_file import ExportedFile, Report, differs, segment_ranges
from memxlnet.export.json_lines_files import text_files
from memxlnet.format.file_layout import column_values
from memxlnet.format.paths import write_file
from memxlnet.format.published import PublishedCache


def safetensors_files(cache: PublishedCache) -> list[ExportedFile]:
    """Return the files of an export to safetensors."""
    return [
        *(
            ExportedFile(
                f"features-{number:05d}.safetensors",
                len(rows),
                partial(_write, cache, rows),
                partial(_check, cache, rows),
            )
            for number, rows in enumerate(segment_ranges(cache))
        ),
        *text_files(cache),
    ]


def _columns(cache: PublishedCache, rows: range) -> dict[str, NDArray[Any]]:
    """Return the columns of some rows, [rows] or [rows, max_seq_length]: views of the map, where it is one shard."""
    batch = cache.segments(rows.start, rows.stop)
    columns = zip(batch.schema.names, map(column_values, batch.columns), strict=True)
    return {name: values.reshape(len(rows), -1) if len(values) > len(rows) else values for name, values in columns}


def _write(cache: PublishedCache, rows: range, path: Path, report: Report) -> None:
    places = {"row_start": str(rows.start), "row_stop": str(rows.stop)}
    write_file(path, save(_columns(cache, rows), places))
    report(len(rows))


def _check(cache: PublishedCache, rows: range, path: Path, report: Report) -> None:
    expected = _columns(cache, rows)
    with safe_open(path, "np") as file:
        if set(file.keys()) != expected.keys():
            raise differs(path, rows.start, "names")
        for name, values in expected.items():
            found = file.get_tensor(name)
            if found.dtype != values.dtype or not np.array_equal(found, values):
                raise differs(path, rows.start, f"values of {name}")
    report(len(rows))
