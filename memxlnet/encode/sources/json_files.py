"""Examples in JSON, as a stream: official nested SQuAD (v1.1 and v2), flat records, and JSON Lines."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memxlnet.encode.sources.compressed import opened
from memxlnet.encode.sources.json_stream import DECODER, JsonStream
from memxlnet.errors import SourceError

_FLAT_KEYS = frozenset({"id", "question", "context", "answers"})

_FORMS = "official SQuAD (data[].paragraphs[].qas[]), an array of flat records, or JSON Lines"


def read_json(path: Path) -> Iterator[Any]:
    """The raw examples of a ``.json`` file.

    The form is told from the content: objects with ``paragraphs[].qas[]`` in ``data`` are official SQuAD, other objects
    in ``data`` or in an array are flat records, and a sequence of records is JSON Lines.

    Raises:
        SourceError: The JSON is malformed (with the place), or has none of these forms.
    """
    with opened(path) as file:
        stream = JsonStream(path, file)
        first = stream.peek()
        if first not in ("[", "{"):
            raise stream.malformed(f"expected {_FORMS}, found {first!r}" if first else f"expected {_FORMS}")
        yield from _Reader(path, stream).elements() if first == "[" else _object(path, stream)
        if stream.peek():
            raise stream.malformed(f"expected the end of the file, found {stream.peek()!r}")


def _object(path: Path, stream: JsonStream) -> Iterator[Any]:
    """The examples of an object: those of its ``data``, or itself and the records after it."""
    fields: dict[str, Any] = {}
    reader: _Reader | None = None
    for key in stream.members():
        if key == "data" and stream.peek() == "[" and reader is None:
            reader = _Reader(path, stream)
            yield from reader.elements()
        else:
            fields[key] = stream.value()
    is_record = bool(_FLAT_KEYS & fields.keys())
    if is_record and reader is not None and reader.count:
        raise SourceError(
            f"{path}: expected records in 'data' or one record, found both: an object with 'data' and the fields "
            f"{', '.join(sorted(_FLAT_KEYS & fields.keys()))}"
        )
    if not is_record:
        if reader is None:
            raise SourceError(f"{path}: expected {_FORMS}, found an object of {', '.join(sorted(fields)) or 'nothing'}")
        if not reader.count:
            raise SourceError(f"{path}: expected {_FORMS}, found 'data' without any record")
        return
    yield fields
    while stream.peek():
        yield stream.value()


class _Reader:
    """Reads the elements of an array: flat records, or articles of SQuAD's form.

    Args:
        path: The file, for messages.
        stream: Stands at the array.

    Attributes:
        count: Examples so far.
    """

    def __init__(self, path: Path, stream: JsonStream):
        self._path = path
        self._stream = stream
        self._paragraphs = 0
        self.count = 0

    def elements(self) -> Iterator[Any]:
        """The examples."""
        for _ in self._stream.items():
            for record in self._article() if self._stream.peek() == "{" else (self._stream.value(),):
                self.count += 1
                yield record

    def _article(self) -> Iterator[Any]:
        stream, fields, has_paragraphs = self._stream, {}, False
        for key in stream.members():
            if key == "paragraphs" and stream.peek() == "[":
                has_paragraphs = True
                for _ in stream.items():
                    yield from self._flatten(stream.value())
            else:
                fields[key] = stream.value()
        if not has_paragraphs:
            yield fields

    def _flatten(self, paragraph: Any) -> Iterator[Any]:
        """The examples of one SQuAD paragraph, each with the paragraph's context."""
        place = f"{self._path}, paragraph {self._paragraphs}"
        self._paragraphs += 1
        if not isinstance(paragraph, Mapping) or not isinstance(paragraph.get("qas"), list):
            found = sorted(paragraph) if isinstance(paragraph, Mapping) else type(paragraph).__name__
            raise SourceError(f"{place}: expected a mapping with the list 'qas', found {found}")
        context = {"context": paragraph["context"]} if "context" in paragraph else {}
        for question in paragraph["qas"]:
            if not isinstance(question, Mapping):
                raise SourceError(f"{place}: expected mappings in 'qas', found {type(question).__name__}")
            yield {**question, **context}


def read_json_lines(path: Path) -> Iterator[Any]:
    """The raw examples of a JSON Lines file; blank lines are passed over.

    Raises:
        SourceError: A line is malformed, or no UTF-8.
    """
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield DECODER.decode(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise SourceError(f"{path}, line {number}: expected UTF-8, found {error}") from error
            except json.JSONDecodeError as error:
                place = f"line {number}, column {error.colno}"
                raise SourceError(f"{path}, {place}: malformed JSON: {error.msg}: {_excerpt(line)}") from error
            except RecursionError as error:
                raise SourceError(f"{path}, line {number}: nested too deeply: {_excerpt(line)}") from error


def _excerpt(line: bytes) -> str:
    return repr(line[:80].decode("utf-8", "replace"))
