"""Where an answer stands in the text as the source gave it.

The rule. The first gold answer whose text stands at its offset is exact. Otherwise the occurrence nearest to the given
offset is taken, comparing under Unicode normalisation (NFKD) through a map back to the characters of the source, for
the first gold answer that occurs at all: repaired. Otherwise, where all gold answers are yes or no, or all are numbers,
they are counted as such; else the answer is dropped, with its reason.
"""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from memxlnet.encode.normal_form import NORMAL_FORM, NormalForm, normal_form

EXACT, REPAIRED, DROPPED, UNANSWERABLE = "exact", "repaired", "dropped", "unanswerable"
UNLABELLED, YES_NO, NUMBER = "unlabelled", "yes_no", "number"

_YES_NO = frozenset({"yes", "no", "true", "false"})
_NUMBER = re.compile(
    r"""[+\-\u2212]?\s?
    (?:\d{1,3}(?:([,.'\u2019\ \u00a0\u202f])\d{3})(?:\1\d{3})*(?:[.,]\d+)?|\d+(?:[.,]\d+)?|[.,]\d+)
    \s?[%\u066a]?""",
    re.VERBOSE,
)
"""An integer or decimal, its thousands separated or not, perhaps a percentage."""


class Alignment(NamedTuple):
    """The outcome for one document.

    Attributes:
        status: One of `arrow_schemas.ALIGNMENTS`.
        detail: How it was repaired or why it was dropped; empty otherwise.
        chosen: Index of the gold answer, -1 for none.
        start: First character in Unicode code points of the context, -1 for none.
        stop: One after the last character, -1 for none.
    """

    status: str
    detail: str = ""
    chosen: int = -1
    start: int = -1
    stop: int = -1


class Context:
    """A context in which answers are looked up; its normal form is made once, when a repair first asks for it.

    It takes 8 bytes a character of the normal form, and that form.
    """

    def __init__(self, text: str):
        self.text = text

    @cached_property
    def _normal(self) -> NormalForm:
        return normal_form(self.text)

    def nearest(self, answer: str, given: int) -> tuple[int, int] | None:
        """Return the place nearest to an offset whose normal form is that of `answer`; of two, the earlier.

        Args:
            answer: What is looked for.
            given: An offset in characters of the source, in range or not.

        Returns:
            A half-open span of the source's characters, or None where there is no such place.
        """
        wanted = unicodedata.normalize(NORMAL_FORM, answer)
        if not wanted:
            return None
        normal, starts, _ = self._normal
        around = bisect_left(starts, given)
        after = normal.find(wanted, around)
        while after >= 0 and not self._is_whole(after, len(wanted)):
            after = normal.find(wanted, after + 1)
        before = normal.rfind(wanted, 0, around + len(wanted) - 1)
        while before >= 0 and not self._is_whole(before, len(wanted)):
            before = normal.rfind(wanted, 0, before + len(wanted) - 1)
        spans = [self._span(at, len(wanted)) for at in (before, after) if at >= 0]
        return min(spans, key=lambda span: abs(span[0] - given), default=None)

    def _is_whole(self, at: int, length: int) -> bool:
        """Return whether a piece of the normal form is whole clusters: "e" does not occur in an "e" with an accent."""
        normal, starts, stops = self._normal
        end = at + length
        begins = at == 0 or starts[at - 1] != starts[at]
        return bool(begins and (end == len(normal) or stops[end] != stops[end - 1]))

    def _span(self, at: int, length: int) -> tuple[int, int]:
        _, starts, stops = self._normal
        return int(starts[at]), int(stops[at + length - 1])


def align(context: Context, texts: tuple[str, ...], starts: tuple[int, ...]) -> Alignment:
    """Choose the gold answer of a document and its span of characters.

    Args:
        context: The text that is searched.
        texts: The gold answers as given, none of them blank.
        starts: Their offsets as given, in code points.

    Returns:
        The alignment; never an exception, every outcome has a status.
    """
    if not texts:
        return Alignment(UNANSWERABLE)
    for index, (text, start) in enumerate(zip(texts, starts, strict=True)):
        if start >= 0 and context.text.startswith(text, start):
            return Alignment(EXACT, "", index, start, start + len(text))
    for index, (text, given) in enumerate(zip(texts, starts, strict=True)):
        nearest = context.nearest(text, given)
        if nearest is not None:
            start, stop = nearest
            how = "" if context.text[start:stop] == text else f" as its {NORMAL_FORM} equal"
            detail = f"answer {index} found at {start}{how}, given at {given}"
            return Alignment(REPAIRED, detail, index, start, stop)
    return absent(texts)


def absent(texts: Sequence[str]) -> Alignment:
    """Return the alignment of golds that occur nowhere in the context."""
    kind = _kind_of(texts)
    return Alignment(kind) if kind else Alignment(DROPPED, "no gold answer occurs in the context")


def _kind_of(texts: Sequence[str]) -> str:
    """Return what all answers are that need not stand in a text; empty where they are of no such kind."""
    plain = [text.strip() for text in texts]
    if all(text.casefold() in _YES_NO for text in plain):
        return YES_NO
    return NUMBER if all(map(_NUMBER.fullmatch, plain)) else ""
