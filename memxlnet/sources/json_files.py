"""Records in JSON, as a stream: an array, an object that holds one, an object of records by their ids, JSON Lines."""

import json
from collections.abc import Iterator
from typing import Any

from memxlnet.errors import SourceError
from memxlnet.sources.compressed import opened
from memxlnet.sources.forms import is_keyed
from memxlnet.sources.json_stream import DECODER, MAX_VALUE, JsonStream
from memxlnet.sources.source_files import SourceFile

_FLAT_KEYS = frozenset({"id", "question", "context", "answers"})

_LISTS = ("data", "Data")
"""The keys under which an object holds its records."""

_FORMS = "an array of records, an object with the array 'data', an object of records by their ids, or JSON Lines"


def read_json(file: SourceFile, columns: object = None, whole: bool = False) -> Iterator[Any]:
    """Yield the records of a ``.json`` file, recognized by its whole shape.

    An article of SQuAD's form is given as one record for each of its paragraphs, with the fields that stand before
    them: nothing holds the whole of it. A
    record that has no ``id`` and stands under a key has it as its ``id``.

    Args:
        file: The file.
        columns: Of no use: a value is parsed whole.
        whole: Hold a whole article, so that its records have the fields after its paragraphs too.

    Raises:
        SourceError: The JSON is malformed (with the place), or has none of these shapes.
    """
    with opened(file) as plain:
        stream = JsonStream(file, plain)
        first = stream.peek()
        if first not in ("[", "{"):
            raise stream.malformed(f"expected {_FORMS}, found {first!r}" if first else f"expected {_FORMS}")
        yield from _elements(stream, whole) if first == "[" else _object(file, stream, whole)
        if stream.peek():
            raise stream.malformed(f"expected the end of the file, found {stream.peek()!r}")


def _object(file: SourceFile, stream: JsonStream, whole: bool) -> Iterator[Any]:
    """Yield the records of an object: those it holds, or itself and the records after it."""
    fields: dict[str, Any] = {}
    count, held_by, keyed = 0, "", False
    for key in stream.members():
        if key in _LISTS and stream.peek() == "[":
            if held_by:
                raise SourceError(f"{file}: expected one array of records, found {held_by!r} and {key!r}")
            held_by = key
            for record in _elements(stream, whole):
                count += 1
                yield record
            continue
        value = stream.value()
        fields[key] = value
        keyed = keyed or (is_keyed(value) and not held_by and not _FLAT_KEYS & fields.keys())
        if keyed:
            # Where one object is a record each is, whether it has the fields of one or not.
            found = [name for name, one in fields.items() if isinstance(one, dict)]
            for name in found:
                count += 1
                yield {"id": name, **fields.pop(name)}
    is_record = bool(_FLAT_KEYS & fields.keys())
    if count and is_record:
        raise SourceError(
            f"{file}: expected records in {held_by!r} or one record, found both: an object with {held_by!r} and the "
            f"fields {', '.join(sorted(_FLAT_KEYS & fields.keys()))}"
        )
    if count:
        return
    if held_by and not is_record:
        raise SourceError(f"{file}: expected {_FORMS}, found {held_by!r} without any record")
    if not fields:
        raise SourceError(f"{file}: expected {_FORMS}, found an empty object")
    yield fields
    while stream.peek():
        yield stream.value()


def _elements(stream: JsonStream, whole: bool) -> Iterator[Any]:
    """Yield the records of an array, an article in several."""
    for _ in stream.items():
        if stream.peek() == "{":
            yield from _article(stream, whole)
        else:
            yield stream.value()


def _article(stream: JsonStream, whole: bool) -> Iterator[Any]:
    fields: dict[str, Any] = {}
    held: list[Any] = []
    is_article = False
    for key in stream.members():
        if key == "paragraphs" and stream.peek() == "[":
            paragraphs: list[Any] = []
            for _ in stream.items():
                value = stream.value()
                if is_article or (not paragraphs and isinstance(value, dict) and "qas" in value):
                    is_article = True
                    if whole:
                        held.append(value)
                    else:
                        yield {**fields, key: [value]}
                else:
                    paragraphs.append(value)
            if paragraphs or not is_article:
                fields[key] = paragraphs
        else:
            fields[key] = stream.value()
    for value in held:
        yield {**fields, "paragraphs": [value]}
    if not is_article:
        yield fields


def read_json_lines(file: SourceFile, columns: object = None) -> Iterator[Any]:
    """Yield the records of a JSON Lines file; blank lines are skipped.

    Raises:
        SourceError: A line is malformed, or no UTF-8.
    """
    with opened(file) as plain:
        for number, line in enumerate(iter(lambda: plain.readline(MAX_VALUE), b""), start=1):
            if len(line) == MAX_VALUE:
                raise SourceError(f"{file}, line {number}: expected at most {MAX_VALUE:,} bytes, found a longer line")
            if not line.strip():
                continue
            try:
                yield DECODER.decode(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise SourceError(f"{file}, line {number}: expected UTF-8, found {error}") from error
            except json.JSONDecodeError as error:
                place = f"line {number}, column {error.colno}"
                raise SourceError(f"{file}, {place}: malformed JSON: {error.msg}: {_excerpt(line)}") from error
            except RecursionError as error:
                raise SourceError(f"{file}, line {number}: nested too deeply: {_excerpt(line)}") from error


def _excerpt(line: bytes) -> str:
    return repr(line[:80].decode("utf-8", "replace"))
