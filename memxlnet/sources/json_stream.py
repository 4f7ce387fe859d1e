"""The JSON of Python's `json`, value by value out of a stream."""

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from memxlnet.errors import SourceError

_READ_BYTES = 1 << 18

MAX_VALUE = 1 << 30
"""Bytes or characters of one record at most: what is compressed may be far larger than its file."""

_NEAR = 16
"""Characters before the end of what was read in which an error may only mean that more is to be read."""

_MOST_DIGITS = 4000
"""Python refuses to make integers of more digits; they stay texts, which matters only in fields that are read."""


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= _MOST_DIGITS else text


DECODER = json.JSONDecoder(parse_int=_integer)
"""One language for all files: NaN and Infinity are numbers, integers may have any size."""


class JsonStream:
    """Reads JSON step by step; RAM is that of the largest value that is taken whole.

    Args:
        name: The file, for messages.
        file: Its bytes.
    """

    def __init__(self, name: object, file: BinaryIO):
        self._name = name
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._at, self._ended = "", 0, False
        # Where the text begins.
        self._line, self._column = 1, 1

    def peek(self) -> str:
        """Return the next character that is not blank, which stays; empty at the end."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in " \t\n\r":
                at += 1
            self._at = at
            if at < len(text):
                return text[at]
            if not self._fill():
                return ""

    def value(self) -> Any:
        """Return the next value, whole.

        Raises:
            SourceError: It is malformed, with the place, or nested too deeply.
        """
        self.peek()
        while True:
            try:
                found, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _NEAR
                if is_cut and not self._ended:
                    self._fill()  # places move: decoded again, whether there is more or not
                    continue
                raise self.malformed(error.msg, error.pos) from error
            except RecursionError as error:
                raise self.malformed("nested too deeply", self._at) from error
            # A number near the end of the text may continue: `1.` or `1e` is not the end of one.
            if end > len(self._text) - _NEAR and self._text[end - 1] not in '}]"' and not self._ended:
                self._fill()
                continue
            self._at = end
            return found

    def items(self) -> Iterator[None]:
        """Stop at each value of an array, which is to be read before the next one."""
        self._take("[")
        if self.peek() == "]":
            self._take("]")
            return
        while True:
            yield
            if self._take(",]") == "]":
                return

    def members(self) -> Iterator[str]:
        """Yield the keys of an object; the value of each is to be read before the next one."""
        self._take("{")
        if self.peek() == "}":
            self._take("}")
            return
        while True:
            if self.peek() != '"':
                raise self.malformed("Expecting property name enclosed in double quotes", self._at)
            key = self.value()
            self._take(":")
            yield key
            if self._take(",}") == "}":
                return

    def malformed(self, reason: str, at: int | None = None) -> SourceError:
        """Return the error of a place: where the stream is, or a place in its text."""
        before = self._text[: self._at if at is None else at]
        line, column = self._moved(before)
        return SourceError(f"{self._name}, line {line}, column {column}: malformed JSON: {reason}")

    def _take(self, wanted: str) -> str:
        found = self.peek()
        if not found or found not in wanted:
            names = " or ".join(repr(one) for one in wanted)
            raise self.malformed(f"expected {names}, found {found!r}" if found else f"ends where {names} is expected")
        self._at += 1
        return found

    def _fill(self) -> bool:
        """Read on, and forget what was taken; false at the end."""
        if self._ended:
            return False
        self._line, self._column = self._moved(self._text[: self._at])
        rest = self._text[self._at :]
        if len(rest) > MAX_VALUE:
            raise self.malformed(f"expected values of at most {MAX_VALUE:,} characters, found a longer one", self._at)
        # At least as much as there is: a value that is read in many steps is decoded few times.
        block = self._file.read(max(_READ_BYTES, len(rest)))
        self._ended = not block
        try:
            self._text, self._at = rest + self._decode(block, final=self._ended), 0
        except UnicodeDecodeError as error:
            self._text = rest + error.object[: error.start].decode("utf-8", "replace")
            self._at = len(self._text)
            raise self.malformed(f"expected UTF-8, found the byte {error.object[error.start]:#04x}") from error
        return bool(block) or len(self._text) > len(rest)

    def _moved(self, text: str) -> tuple[int, int]:
        """Return the line and column after a text from the beginning on."""
        lines = text.count("\n")
        return self._line + lines, len(text) - text.rfind("\n") if lines else self._column + len(text)
