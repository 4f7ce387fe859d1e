"""What encoding costs in RAM, and examples cut into parts that stay below a limit."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from memxlnet.encode.examples import BadExample, Example
from memxlnet.settings import EncodeSettings

# Measured on English, Arabic, Hindi and Chinese documents of 2 MB: 77 to 171 bytes of peak RAM a byte of text.
_TEXT_BYTES = 180
_CHARACTERS_PER_TOKEN = 3
_ROW_COPIES = 4

_KEPT_COPIES = 6  # as Python values, columns and messages to workers

ONE_TEXT = 3
"""What a part of examples on one long text may take, in units of the first: rows of 30 questions at usual settings."""


class CostModel:
    """An estimate, on the safe side, of the bytes that encoding examples takes."""

    def __init__(self, settings: EncodeSettings):
        self._step = max(settings.max_seq_length - settings.doc_stride, settings.max_seq_length // 4, 1)
        self._max_segments = settings.max_n_segs
        self._row_bytes = _ROW_COPIES * 6 * settings.max_seq_length

    def example(self, example: Example, context_is_new: bool) -> int:
        """Return the bytes that one more example of a chunk takes."""
        text = _num_bytes(example.question) + (_num_bytes(example.context) if context_is_new else 0)
        return _TEXT_BYTES * text + self._rows(example.context) + _kept_bytes(example)

    def _rows(self, context: str) -> int:
        """Return the bytes of the rows of one example over a context."""
        segments = 1 + len(context) // _CHARACTERS_PER_TOKEN // self._step
        if self._max_segments is not None:
            segments = min(segments, self._max_segments)
        return segments * self._row_bytes

    def cut(
        self, examples: Iterable[Example | BadExample], most_examples: int, most_bytes: int, most_of_one: int = 0
    ) -> Iterator[tuple[list[Example | BadExample], int]]:
        """Cut a stream of examples into parts.

        Args:
            examples: The examples; bad ones cost nothing.
            most_examples: Examples in a part at most.
            most_bytes: Bytes that a part of more than one example takes at most.
            most_of_one: Bytes up to which examples on the context with which a part begins are added to it beyond
                `most_bytes`, as far as it takes `ONE_TEXT` times the first at most: the questions on a long text stay
                together.

        Returns:
            Each part with the bytes that it takes. A context that several examples of a part share counts once.
        """
        part: list[Example | BadExample] = []
        cost = first_cost = 0
        first_context: str | None = None
        rows_of: dict[str, int] = {}  # of the contexts of this part: what is known of them is not worked out again
        for example in examples:
            added = self._added(example, rows_of)
            limit = most_bytes
            if isinstance(example, Example) and example.context == first_context:
                limit = max(limit, min(ONE_TEXT * first_cost, most_of_one))
            if part and (len(part) == most_examples or cost + added > limit):
                yield part, cost
                part, cost, rows_of = [], 0, {}
                added = self._added(example, rows_of)
            if not cost and isinstance(example, Example):
                first_context, first_cost = example.context, added
            if isinstance(example, Example) and example.context not in rows_of:
                rows_of[example.context] = self._rows(example.context)
            part.append(example)
            cost += added
        if part:
            yield part, cost

    def _added(self, example: Example | BadExample, rows_of: dict[str, int]) -> int:
        if not isinstance(example, Example):
            return 0
        rows = rows_of.get(example.context)
        if rows is None:
            return self.example(example, context_is_new=True)
        return rows + _TEXT_BYTES * _num_bytes(example.question) + _kept_bytes(example)


def _kept_bytes(example: Example) -> int:
    """Return the bytes that the kept fields of an example take."""
    return _KEPT_COPIES * _value_bytes(example.kept) if example.kept else 0


def _value_bytes(value: Any) -> int:
    if isinstance(value, str | bytes):
        return 4 * len(value)
    if isinstance(value, Mapping):
        return 64 + sum(map(_value_bytes, value.values()))
    return 64 + sum(map(_value_bytes, value)) if isinstance(value, list | tuple) else getattr(value, "nbytes", 32)


def _num_bytes(text: str) -> int:
    """Count the bytes of UTF-8: other scripts than Latin take more of them, and more tokens."""
    return len(text) if text.isascii() else len(text.encode())
