"""Examples in CSV and TSV: one row each, every cell the text that stands there."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import csv

from memxlnet.errors import SourceError
from memxlnet.sources.arrow_files import check_names
from memxlnet.sources.compressed import opened
from memxlnet.sources.source_files import SourceFile

_BLOCK_BYTES = 32 << 20
"""Bytes that are parsed at once; no row may be longer."""

_OFFSET = re.compile(r"\s*-?\d{1,18}\s*")

_BOOLS = {"true": True, "false": False, "1": True, "0": False, "": None}


def read_csv(file: SourceFile, columns: object = None) -> Iterator[Any]:
    """Return the rows of a CSV file in UTF-8 with a header, each a mapping of texts.

    The cells of three columns hold values: ``answers`` JSON, ``answer_start`` a number, ``is_impossible`` true or
    false; where one of them is empty the value is missing. Every other cell is its text.

    Args:
        file: The file.
        columns: Of no use: a row is parsed whole.

    Raises:
        SourceError: It cannot be parsed, or a name stands twice in its header.
    """
    return _rows(file, ",")


def read_tsv(file: SourceFile, columns: object = None) -> Iterator[Any]:
    """Return the rows of a file like CSV with tabs between its cells; see `read_csv`."""
    return _rows(file, "\t")


def _rows(file: SourceFile, delimiter: str) -> Iterator[Any]:
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    read = csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES)
    try:
        with opened(file) as plain:
            names = csv.open_csv(plain, read, parse).schema.names
        check_names(file, names)
        # Texts as they stand: no guess at numbers, dates or nulls.
        convert = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        with opened(file) as plain:
            for batch in csv.open_csv(plain, read, parse, convert):
                yield from map(_parsed, batch.to_pylist())
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        hint = f"; a row holds at most {_BLOCK_BYTES >> 20} MiB" if "straddl" in str(error) else ""
        raise SourceError(f"{file}: cannot be read as CSV: {error}{hint}") from error


def _parsed(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with the values of these columns; what cannot be parsed stays text, for the error of its row."""
    answers, start, impossible = (row.get(name) for name in ("answers", "answer_start", "is_impossible"))
    if answers is not None:
        row["answers"] = _json(answers) if answers.strip() else None
    if start is not None:
        row["answer_start"] = (int(start) if _OFFSET.fullmatch(start) else start) if start.strip() else None
    if impossible is not None:
        row["is_impossible"] = _BOOLS.get(impossible.strip().lower(), impossible)
    return row


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
