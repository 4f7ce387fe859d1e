"""One raw row, checked: `Example`, or the reason why it is not one."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

from memxlnet.errors import ExampleError

REQUIRED_FIELDS = ("id", "question", "context", "answers")
OPTIONAL_FIELDS = ("is_impossible", "answer_kind", "answer_text", "answer_start")
FIELDS = (*REQUIRED_FIELDS, *OPTIONAL_FIELDS)
"""The fields of a raw row that are read; ``answer_text`` and ``answer_start`` take the place of ``answers``."""

ABSENT = "absent"

ANSWER_KINDS = ("yes_no", "number", ABSENT)
"""Kinds of answers that are not looked up: those that need not stand in the context, and those that a form did not find
there."""


class Example(NamedTuple):
    """One raw row in the form that the encoder takes.

    Attributes:
        row: Row of the source, from 0.
        id: The source's own id, or ``doc_{row}`` where it gives none.
        question: The question, exactly as given.
        context: The context, exactly as given.
        answer_texts: The gold answers as given, none of them blank; empty for an unanswerable example.
        answer_starts: Their offsets as given, in Unicode code points of the context.
        labelled: Whether the source says what the answer is, or that it has no answer.
        answer_kind: One of `ANSWER_KINDS` where the answers are not looked up in the context, else empty.
        contradiction: What contradicts itself in the labels of the source; empty where nothing does.
        kept: Further fields of the row that the cache keeps, by name; None where it keeps none.
    """

    row: int
    id: str
    question: str
    context: str
    answer_texts: tuple[str, ...]
    answer_starts: tuple[int, ...]
    labelled: bool = True
    answer_kind: str = ""
    contradiction: str = ""
    kept: dict[str, Any] | None = None


class BadExample(NamedTuple):
    """An example that was dropped: its row of the source, its id and why."""

    row: int
    id: str
    reason: str


_INT32_MAX = 2**31 - 1

# The common class first: the check of an abstract one is slow, and so is making a union of them for each row.
_MAPPINGS = (dict, Mapping)
_LISTS = (list, Sequence)
_TEXTS = (str, bytes)
_INTEGERS = (int, Integral)

Place = Callable[[int], tuple[str, int]]
"""Returns the place of a row of the source: the name of a file or source, and its number there."""


def has_answers(raw: object) -> bool:
    """Return whether a raw row has the field ``answers``, null or not."""
    return isinstance(raw, _MAPPINGS) and "answers" in raw


def parse_example(
    row: int, raw: object, place: str | Place, on_contradiction: str = "error", needs_answers: bool = False
) -> Example:
    """Check one raw row.

    Where ``answers`` is null or missing the example is unlabelled, unless ``is_impossible`` is true. Labels contradict
    each other where ``is_impossible`` is true with an answer or false with an empty list of answers, where every
    answer is blank unless ``is_impossible`` is true, and where some answers are blank and others are not.

    Args:
        row: Row of the source, from 0.
        raw: A mapping with ``question``, ``context``, ``answers`` and, if there is one, ``id``. ``answers`` is a
            mapping of the lists ``text`` and ``answer_start``, or a list of mappings with these two. It may also
            have ``is_impossible``, a bool or null, and ``answer_kind``, one of `ANSWER_KINDS` or null.
            An `ExampleError` stands for a row that could not be made, and is raised.
        place: Name of the source, or what returns where a row stands, for error messages.
        on_contradiction: ``"error"``, or what becomes of a contradiction; see `memxlnet.settings.EncodeSettings`.
        needs_answers: Whether a row without a field ``answers`` is bad, as one before it had one.

    Raises:
        ExampleError: A field is missing or of the wrong kind, or labels contradict each other; the message names
            example and field.
    """
    plain = _plain(row, raw)
    if plain is not None:
        return plain
    name, number = (place, row) if isinstance(place, str) else place(row)
    if isinstance(raw, ExampleError):
        raise ExampleError(f"{name}, row {number}: {raw}") from raw
    if not isinstance(raw, _MAPPINGS):
        raise ExampleError(f"{name}, row {number}: expected a mapping of fields, found {type(raw).__name__}")
    identity = _identity(row, raw.get("id"), f"{name}, row {number}")
    subject = f"{name}, example {identity!r} (row {number})"
    question = _text(raw, "question", subject)
    context = _text(raw, "context", subject)
    if len(context) > _INT32_MAX:
        raise ExampleError(f"{subject}: 'context' has {len(context)} characters; at most {_INT32_MAX} are supported")
    return Example(row, identity, question, context, *_labels(raw, subject, on_contradiction, needs_answers))


def _plain(row: int, raw: Any) -> Example | None:
    """Return the example where a quick check suffices, as for most; None asks for the full check."""
    try:
        if type(raw) is not dict:
            return None
        identity, question, context, answers = raw["id"], raw["question"], raw["context"], raw["answers"]
        impossible = raw.get("is_impossible")
        if raw.get("answer_kind") is not None:
            return None
        if type(answers) is dict:
            texts, starts = answers["text"], answers["answer_start"]
            if type(texts) is not list or type(starts) is not list or len(texts) != len(starts):
                return None
        elif type(answers) is list and {dict}.issuperset(map(type, answers)):
            texts, starts = [answer["text"] for answer in answers], [answer["answer_start"] for answer in answers]
        else:
            return None
    except KeyError:
        return None
    if (
        (impossible is None or impossible is (not texts))
        and {str}.issuperset(map(type, (identity, question, context, *texts)))
        and all(map(str.strip, texts))
        and {int}.issuperset(map(type, starts))
        and context.isascii()
        and "".join((identity, question, *texts)).isascii()
        and len(context) <= _INT32_MAX
        and max(map(abs, starts), default=0) <= _INT32_MAX
    ):
        return Example(row, identity, question, context, tuple(texts), tuple(starts))
    return None


def generated_id(row: int) -> str:
    """Return the id of an example that has none: its row in the source."""
    return f"doc_{row}"


def shown_example(identity: str, row: int) -> str:
    """Return an example in a message that does not name its file."""
    return f"example {identity!r} (row {row})"


def bad_example(row: int, raw: object, error: ExampleError) -> BadExample:
    """Record a row that `parse_example` refused, under its id as far as it has one."""
    try:
        identity = _identity(row, raw.get("id") if isinstance(raw, Mapping) else None, "")
    except ExampleError:
        identity = generated_id(row)
    return BadExample(row, identity, _printable(str(error)))


def _identity(row: int, found: Any, place: str) -> str:
    if found is None:
        return generated_id(row)
    if not isinstance(found, str) and isinstance(found, Integral) and not isinstance(found, bool):
        return str(int(found))
    if not isinstance(found, str):
        raise ExampleError(f"{place}: field 'id': expected text, found {type(found).__name__}")
    if not _is_unicode(found):
        raise ExampleError(f"{place}: field 'id' holds half of a surrogate pair: {_printable(found)!r}")
    return found


def _text(raw: Mapping[str, Any], field: str, subject: str) -> str:
    if field not in raw:
        fields = ", ".join(repr(name) for name in raw)
        raise ExampleError(f"{subject}: expected a field {field!r}, found {fields or 'no field at all'}")
    value = raw[field]
    if not isinstance(value, str):
        raise ExampleError(f"{subject}: field {field!r}: expected text, found {type(value).__name__}")
    if not _is_unicode(value):
        raise ExampleError(f"{subject}: field {field!r} holds half of a surrogate pair, which is no Unicode text")
    return value


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class _Labels(NamedTuple):
    """The last fields of an `Example`."""

    texts: tuple[str, ...] = ()
    starts: tuple[int, ...] = ()
    labelled: bool = True
    kind: str = ""
    contradiction: str = ""


def _labels(raw: Mapping[str, Any], subject: str, on_contradiction: str, needs_answers: bool) -> _Labels:
    """Return what a row says of its answer, by the rules of `parse_example`."""
    impossible, kind = _optional(raw, subject)
    if needs_answers and "answers" not in raw:
        fields = ", ".join(repr(name) for name in raw)
        raise ExampleError(
            f"{subject}: expected a field 'answers' as in rows before, found {fields} (unanswerable: an empty list; "
            "unlabelled: null)"
        )
    if raw.get("answers") is None:
        return _Labels(labelled=impossible is True)
    texts, starts = _answers(raw["answers"], subject)
    golds = [(text, start) for text, start in zip(texts, starts, strict=True) if text.strip()]
    contradiction = _contradiction(impossible, len(golds), len(texts))
    if contradiction and on_contradiction == "error":
        raise ExampleError(
            f"{subject}: {contradiction}; set on_contradiction='unanswerable' or on_contradiction='answers' to keep "
            "and count such examples, or on_bad_example='drop' to drop them"
        )
    if impossible and on_contradiction == "unanswerable":
        golds = []
    return _Labels(
        tuple(text for text, _ in golds),
        tuple(start for _, start in golds),
        kind=kind if golds else "",
        contradiction=contradiction,
    )


def _contradiction(impossible: bool | None, golds: int, answers: int) -> str:
    """Return what contradicts itself in the labels of a row, if anything.

    Args:
        impossible: Its ``is_impossible``.
        golds: Its answers that are not blank.
        answers: All of its answers.
    """
    if impossible:
        return f"expected no answer where 'is_impossible' is true, found {golds}" if golds else ""
    if golds < answers:
        return f"expected answers with text, found {answers - golds} of {answers} blank"
    if impossible is False and not golds:
        return "expected an answer where 'is_impossible' is false, found none"
    return ""


def _optional(raw: Mapping[str, Any], subject: str) -> tuple[bool | None, str]:
    """Return ``is_impossible`` and ``answer_kind`` of a row."""
    impossible, kind = raw.get("is_impossible"), raw.get("answer_kind")
    if impossible is not None and hasattr(impossible, "tolist"):
        impossible = impossible.tolist()  # NumPy's bools are not bool
    if impossible is not None and not isinstance(impossible, bool):
        raise ExampleError(f"{subject}: field 'is_impossible': expected true, false or null, found {impossible!r:.80}")
    if kind is not None and (not isinstance(kind, str) or kind not in ANSWER_KINDS):
        kinds = ", ".join(map(repr, ANSWER_KINDS))
        raise ExampleError(f"{subject}: field 'answer_kind': expected {kinds} or null, found {kind!r:.80}")
    return impossible, kind or ""


def _answers(answers: Any, subject: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if isinstance(answers, _MAPPINGS):
        for field in ("text", "answer_start"):
            if field not in answers:
                raise ExampleError(f"{subject}: expected a field 'answers.{field}', found {sorted(map(str, answers))}")
        texts, starts = (
            _sequence(answers["text"], "text", subject),
            _sequence(answers["answer_start"], "answer_start", subject),
        )
    elif isinstance(answers, _LISTS) and not isinstance(answers, _TEXTS):
        texts, starts = _answer_list(answers, subject)
    else:
        raise ExampleError(
            f"{subject}: field 'answers': expected a mapping with 'text' and 'answer_start' or a list of such "
            f"mappings, found {type(answers).__name__}"
        )
    if len(texts) != len(starts):
        raise ExampleError(
            f"{subject}: field 'answers': expected lists of one length, found {len(texts)} texts and "
            f"{len(starts)} starts"
        )
    for index, (text, start) in enumerate(zip(texts, starts, strict=True)):
        if not isinstance(text, str) or not _is_unicode(text):
            kind = type(text).__name__ if not isinstance(text, str) else "half of a surrogate pair"
            raise ExampleError(f"{subject}: field 'answers.text[{index}]': expected text, found {kind}")
        # NumPy's integers are integers too, but no int.
        if isinstance(start, bool) or not isinstance(start, _INTEGERS) or abs(int(start)) > _INT32_MAX:
            raise ExampleError(f"{subject}: field 'answers.answer_start[{index}]': expected an offset, found {start!r}")
    return tuple(texts), tuple(map(int, starts))


def _sequence(value: Any, field: str, subject: str) -> list[Any]:
    # NumPy arrays and tensors come out of formatted datasets; their tolist gives plain values.
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, _LISTS) or isinstance(value, _TEXTS):
        raise ExampleError(f"{subject}: field 'answers.{field}': expected a list, found {type(value).__name__}")
    return list(value)


def _answer_list(answers: Sequence[Any], subject: str) -> tuple[list[Any], list[Any]]:
    for index, answer in enumerate(answers):
        if not isinstance(answer, _MAPPINGS):
            kind = type(answer).__name__
            raise ExampleError(f"{subject}: field 'answers[{index}]': expected a mapping, found {kind}")
        for field in ("text", "answer_start"):
            if field not in answer:
                found = sorted(map(str, answer))
                raise ExampleError(f"{subject}: expected a field 'answers[{index}].{field}', found {found}")
    return [answer["text"] for answer in answers], [answer["answer_start"] for answer in answers]
