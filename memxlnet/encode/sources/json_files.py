"""JSON as a stream: official nested SQuAD (v1.1 and v2), flat records, and JSON Lines."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import ijson

from memxlnet.errors import SourceError

_NESTED = "data.item.paragraphs.item"
_FLAT_KEYS = frozenset({"id", "question", "context", "answers"})
_READ_BYTES = 1 << 16


def read_json(path: Path) -> Iterator[Any]:
    """The raw examples of a ``.json`` file.

    The form is told from the content: an object with ``data[].paragraphs[].qas[]`` is official SQuAD, an object whose
    ``data`` holds flat records or an array of flat records is read as such, and a sequence of records is JSON Lines.

    Raises:
        SourceError: The JSON is malformed (with the place), or has none of these forms.
    """
    form = _told(path)
    if form == "":
        yield from read_json_lines(path)
    elif form == _NESTED:
        for index, paragraph in enumerate(_items(path, form)):
            yield from _flatten(path, index, paragraph)
    else:
        yield from _items(path, form)


def read_json_lines(path: Path) -> Iterator[Any]:
    """The raw examples of a JSON Lines file; blank lines are passed over.

    Raises:
        SourceError: A line is malformed, or no UTF-8.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise SourceError(f"{path}, line {number}: expected UTF-8, found {error}") from error
            except json.JSONDecodeError as error:
                place = f"line {number}, column {error.colno}"
                raise SourceError(f"{path}, {place}: malformed JSON: {error.msg}: {_excerpt(line)}") from error
            except (ValueError, RecursionError) as error:
                # Numbers of thousands of digits, thousands of brackets: well-formed, but Python refuses them.
                raise SourceError(f"{path}, line {number}: cannot be read: {error}: {_excerpt(line)}") from error


def _excerpt(line: bytes) -> str:
    return repr(line[:80].decode("utf-8", "replace"))


def _open(path: Path) -> BinaryIO:
    """Open a JSON file behind its byte order mark, if it has one."""
    file = path.open("rb")
    if file.read(len(BOM_UTF8)) != BOM_UTF8:
        file.seek(0)
    return file


def _told(path: Path) -> str:
    """The form of a file: the ijson prefix of its records, or nothing for JSON Lines."""
    expected = "official SQuAD (data[].paragraphs[].qas[]), an array of flat records, or JSON Lines"
    with _open(path) as file:
        try:
            for prefix, event, value in ijson.parse(file, use_float=True):
                if prefix == "" and event == "start_array":
                    return "item"
                if prefix == "" and event == "map_key" and value in _FLAT_KEYS:
                    return ""
                if prefix == "data.item" and event == "map_key" and value == "paragraphs":
                    return _NESTED
                if prefix == "data.item" and event == "map_key" and value in _FLAT_KEYS:
                    return "data.item"
                if prefix == "data" and event == "end_array":
                    raise SourceError(f"{path}: expected {expected}, found 'data' without any such record")
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise _malformed(path, "item", error) from error
    raise SourceError(f"{path}: expected {expected}, found other JSON")


def _items(path: Path, prefix: str) -> Iterator[Any]:
    with _open(path) as file:
        try:
            yield from ijson.items(file, prefix, use_float=True, buf_size=_READ_BYTES)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise _malformed(path, prefix, error) from error


def _flatten(path: Path, index: int, paragraph: Any) -> Iterator[Any]:
    """The examples of one SQuAD paragraph, each with the paragraph's context."""
    place = f"{path}, paragraph {index}"
    if not isinstance(paragraph, Mapping) or not isinstance(paragraph.get("qas"), list):
        found = sorted(paragraph) if isinstance(paragraph, Mapping) else type(paragraph).__name__
        raise SourceError(f"{place}: expected a mapping with the list 'qas', found {found}")
    context = {"context": paragraph["context"]} if "context" in paragraph else {}
    for question in paragraph["qas"]:
        if not isinstance(question, Mapping):
            raise SourceError(f"{place}: expected mappings in 'qas', found {type(question).__name__}")
        yield {**question, **context}


class _Stepping:
    """A file that is handed out in blocks up to a place and byte by byte from there."""

    def __init__(self, file: IO[bytes], until: int):
        self._file = file
        self._until = until
        self.position = 0

    def read(self, size: int = -1) -> bytes:
        left = self._until - self.position
        block = self._file.read(min(size, left) if left > 0 else (1 if size else 0))
        self.position += len(block)
        return block


def _malformed(path: Path, prefix: str, error: Exception) -> SourceError:
    """Say where the JSON breaks: the parser is run again, byte by byte near the place where it stopped."""
    size = path.stat().st_size
    place = size
    with path.open("rb") as file:
        low = 0
        stepping = _Stepping(file, size)
        try:
            for _ in ijson.items(stepping, prefix, use_float=True, buf_size=_READ_BYTES):
                pass
        except (ijson.JSONError, UnicodeDecodeError):
            low = max(stepping.position - 2 * _READ_BYTES, 0)
        file.seek(0)
        stepping = _Stepping(file, low)
        try:
            for _ in ijson.items(stepping, prefix, use_float=True, buf_size=_READ_BYTES):
                pass
        except (ijson.JSONError, UnicodeDecodeError):
            place = stepping.position
    line, column = _line_and_column(path, place)
    found = error.args[0] if error.args else ""
    # The C parser hands its message over as bytes where the file is no UTF-8.
    reason = (found.decode("utf-8", "replace") if isinstance(found, bytes) else str(error)).splitlines()[0].strip()
    return SourceError(f"{path}, line {line}, column {column} (byte {place}): malformed JSON: {reason}")


def _line_and_column(path: Path, place: int) -> tuple[int, int]:
    line, column, left = 1, 1, max(place - 1, 0)
    with path.open("rb") as file:
        while left and (block := file.read(min(_READ_BYTES, left))):
            left -= len(block)
            lines = block.count(b"\n")
            line += lines
            column = len(block) - block.rfind(b"\n") if lines else column + len(block)
    return line, column
