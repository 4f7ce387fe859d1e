"""What the readers of forms share: golds, offsets in other units, passages joined, answers looked up in a text."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

from memxlnet.encode.examples import ABSENT
from memxlnet.errors import ExampleError
from memxlnet.sources.forms.form import FormOptions

YES_NO, NUMBER = "yes_no", "number"

_SPACED = 0x0590
"""Below this code point lie the scripts that put blanks between words and attach nothing to them."""

_BETWEEN = "\n\n"


class Gold(NamedTuple):
    """A gold answer and its offset in code points; -1 where it stands nowhere."""

    text: str
    start: int = -1


def answers(golds: Iterable[Gold]) -> dict[str, list[Any]]:
    """Return the field ``answers`` of these golds, each once."""
    distinct = list(dict.fromkeys(golds))
    return {"text": [gold.text for gold in distinct], "answer_start": [gold.start for gold in distinct]}


def example(identity: Any, question: Any, context: Any, golds: Iterable[Gold] = (), kind: str = "") -> dict[str, Any]:
    """Return an example with golds; `kind` is that of an answer that is not a span of the text.

    Golds that were looked up and stand nowhere are not looked for again, where a part of a word would do.
    """
    given = list(golds)
    return {"id": identity, "question": question, "context": context, **fields_of(given, kind)}


def fields_of(golds: Sequence[Gold], kind: str = "") -> dict[str, Any]:
    """Return the fields ``answers`` and, where no gold stands in the text, ``answer_kind`` of an example."""
    if golds and not kind and all(gold.start < 0 for gold in golds):
        kind = ABSENT
    return {"answers": answers(golds), **({"answer_kind": kind} if kind else {})}


def code_points(text: str, offset: int, unit: str) -> int:
    """Return an offset into a text in code points.

    Args:
        text: The text.
        offset: The offset; a negative one stays.
        unit: ``"characters"``, ``"bytes"`` of UTF-8, or ``"utf-16"`` code units.

    Raises:
        ExampleError: The offset lies within a character.
    """
    encoding, width = _ENCODINGS[unit]
    if offset < 0 or not encoding or (encoding == "utf-8" and text.isascii()):
        return offset
    # No character takes more units than bytes: only the text up to there is encoded.
    before = text[:offset].encode(encoding)[: offset * width]
    try:
        return len(before.decode(encoding))
    except UnicodeDecodeError:
        raise ExampleError(
            f"offset {offset}: expected the beginning of a character ({unit}), found its middle"
        ) from None


_ENCODINGS: dict[str, tuple[str, int]] = {"characters": ("", 1), "bytes": ("utf-8", 1), "utf-16": ("utf-16-le", 2)}


def in_code_points(answers: Any, context: Any, unit: str) -> Any:
    """Return the field ``answers`` of an example with its offsets in code points; what is malformed stays as it is.

    Raises:
        ExampleError: An offset lies within a character.
    """
    if unit == "characters" or not isinstance(context, str):
        return answers

    def moved(start: Any) -> Any:
        is_offset = isinstance(start, Integral) and not isinstance(start, bool)
        return code_points(context, int(start), unit) if is_offset else start

    def moved_of(one: Any) -> Any:
        return {**one, "answer_start": moved(one["answer_start"])} if _has_start(one) else one

    if not _has_start(answers):
        return [moved_of(one) for one in answers] if isinstance(answers, list | tuple) else answers
    starts = answers["answer_start"]
    starts = starts.tolist() if hasattr(starts, "tolist") else starts  # an array or a tensor
    return {**answers, "answer_start": [*map(moved, starts)]} if isinstance(starts, list | tuple) else answers


def _has_start(value: Any) -> bool:
    return isinstance(value, Mapping) and "answer_start" in value


def span(text: str, start: int, stop: int, inclusive: bool = False) -> Gold:
    """Return the gold from one offset to another one; ``inclusive`` where `stop` is its last character.

    Raises:
        ExampleError: It lies outside of the text, or is empty.
    """
    end = stop + 1 if inclusive else stop
    if not 0 <= start < end <= len(text):
        raise ExampleError(f"expected a span within {len(text)} characters, found {start} to {end}")
    return Gold(text[start:end], start)


def join(passages: Sequence[tuple[str, str]]) -> tuple[str, list[int]]:
    """Join titled passages to one context; return it, and the offset at which the text of each begins.

    A passage is its title on a line of its own, where it has one, and its text; an empty line stands between two.
    """
    parts: list[str] = []
    offsets: list[int] = []
    length = 0
    for number, (title, text) in enumerate(passages):
        head = (_BETWEEN if number else "") + (f"{title}\n" if title else "")
        offsets.append(length + len(head))
        parts += [head, text]
        length += len(head) + len(text)
    return "".join(parts), offsets


def locate(context: str, texts: Iterable[str], options: FormOptions, near: int | None = None) -> list[Gold]:
    """Return the golds of answers without an offset: the occurrences that `options` ask for, then answers without any.

    Whole words are looked for, in the case as given before any other. The gold of an occurrence is the text that stands
    there.

    Args:
        context: Where they are looked up.
        texts: The answers, aliases of each other.
        options: Which occurrences count.
        near: Where the answer should be, for ``locate="nearest"``.
    """
    found: list[Gold] = []
    missing: list[Gold] = []
    for text in dict.fromkeys(texts):
        places = occurrences(context, text)
        if not places:
            missing.append(Gold(text))
        elif options.locate == "all":
            found += [Gold(context[place : place + len(text)], place) for place in places]
        else:
            ordered = sorted(places, key=lambda place: abs(place - near)) if near is not None else places
            place = (ordered if options.locate == "nearest" else places)[0]
            found.append(Gold(context[place : place + len(text)], place))
    return found + missing


def occurrences(context: str, text: str) -> list[int]:
    """Return where a text stands in another one as whole words, in order: as given, else in any case."""
    if not text.strip():
        return []
    whole = f"{_border(text[0], before=True)}{re.escape(text)}{_border(text[-1], before=False)}"
    for flags in (0, re.IGNORECASE):
        places = [match.start() for match in re.finditer(whole, context, flags)]
        if places:
            return places
    return []


def _border(character: str, before: bool) -> str:
    if not character.isalnum() or ord(character) >= _SPACED:
        return ""
    return r"(?<!\w)" if before else r"(?!\w)"


def yes_no(text: str) -> bool:
    """Return whether an answer is yes or no."""
    return text.strip().strip(".").casefold() in ("yes", "no")


def with_history(said: Callable[[int], tuple[str, str]], turn: int, question: str, most: int = 2) -> str:
    """Return a question after the last `most` turns of its conversation, each a question and its answer.

    Each is separated by one blank, which is the rule of the published baselines for one turn and more; an answer that
    is empty is left out.

    Args:
        said: Question and answer of a turn by its number.
        turn: The number of the turn that is asked.
        question: Its question.
        most: Turns before it at most.

    Raises:
        ExampleError: A turn before it is malformed.
    """
    texts = []
    for before in range(max(turn - most, 0), turn):
        try:
            texts += [text for text in said(before) if text]
        except (LookupError, TypeError, AttributeError) as error:
            raise ExampleError(f"expected turns before it that can be read, found turn {before} malformed") from error
    return " ".join([*texts, question])


def unlabelled(identity: Any, question: Any, context: Any) -> dict[str, Any]:
    """Return an example without labels."""
    return {"id": identity, "question": question, "context": context, "answers": None}
