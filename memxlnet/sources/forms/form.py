"""What a form of public data is: how its records become examples; and the registry of all forms."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from memxlnet.encode.examples import FIELDS
from memxlnet.errors import ExampleError, SettingsError, SourceError
from memxlnet.settings import Keep, check_text, one_of

Record = Mapping[str, Any]

Locate = Literal["first", "all", "nearest"]
Offsets = Literal["characters", "bytes", "utf-16"]


@dataclass(frozen=True)
class FormOptions:
    """What a user may choose of how forms are read.

    Attributes:
        locate: Which occurrences of an answer without an offset are golds: the ``"first"`` in the context, ``"all"``,
            or the ``"nearest"`` to where the form says that it should be (its supporting passage), else the first.
        offsets: What the offsets of answers count: ``"characters"`` (Unicode code points), ``"bytes"`` of UTF-8, or
            ``"utf-16"`` code units.
        folder: The directory of the file that a record is from, for forms that read files next to it; None where there
            is no file. The source sets it.
        keep: Names of further fields that the examples are to have, or ``"all"``. The source sets it.
    """

    locate: Locate = "first"
    offsets: Offsets = "characters"
    folder: Path | None = None
    keep: Keep = ()

    def __post_init__(self) -> None:
        one_of("locate", self.locate, get_args(Locate))
        one_of("offsets", self.offsets, get_args(Offsets))


@dataclass(frozen=True)
class Form:
    """A form of public data.

    Attributes:
        name: Its name, as ``form=`` takes it.
        recognises: Whether a record is of this form, from its fields alone.
        examples: The examples of a record: mappings with ``id``, ``question``, ``context`` and ``answers`` (the lists
            ``text`` and ``answer_start``, in code points), and where it applies ``is_impossible`` and ``answer_kind``
            (``"yes_no"`` or ``"number"``: an answer that stands nowhere in the text). Any exception is an error of
            that record.
        version: Goes up when the same record gives other examples: a cache is made for one version.
        keyed: Fields of the values of an object whose keys are ids, for JSON files that are such an object.
        heeds_offsets: Whether `examples` reads offsets in the unit that is asked for; else another unit is refused.
        reads_files: Whether `examples` reads files besides the record's. The identity of a source is then a digest
            of its examples.
        reads: Fields of a record from which its examples are made. All other ones, and those that are named, are added
            to the examples where further fields are kept. None adds none: the examples have them already.
    """

    name: str
    recognises: Callable[[Record], bool]
    examples: Callable[[Record, FormOptions], Iterable[Record]]
    version: int = 1
    keyed: frozenset[str] = frozenset()
    heeds_offsets: bool = False
    reads_files: bool = False
    reads: frozenset[str] | None = None

    def read(self, record: Any, options: FormOptions) -> Iterator[Any]:
        """Yield the examples of a record, or the `ExampleError` that stands for it."""
        try:
            if not options.keep or self.reads is None:
                yield from self.examples(record, options)
                return
            fields = further(record, self.reads, options)
            for example in self.examples(record, options):
                yield {**fields, **example} if isinstance(example, Mapping) else example
        except ExampleError as error:
            yield error
        except Exception as error:
            yield _malformed(f"a record of the form {self.name!r}", record, error)


def further(record: Record, reads: Collection[str], options: FormOptions) -> dict[str, Any]:
    """Return the fields of a record, or of a part of it, that its examples have besides their own.

    Args:
        record: A mapping.
        reads: The fields from which examples are made: they are left out unless they are named.
        options: Which fields are kept.
    """
    keep = options.keep
    if not keep:
        return {}
    if keep == "all":
        return {name: value for name, value in record.items() if name not in reads and name not in FIELDS}
    return {name: record[name] for name in keep if name in record}


def listed(value: Any, what: str) -> Sequence[Any]:
    """Return a field that must be a list, such as the questions: an empty value of another kind is not an empty list.

    Raises:
        ExampleError: It is not one.
    """
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__len__"):
        raise ExampleError(f"expected a list of {what}, found {type(value).__name__}")
    found: Sequence[Any] = value
    return found


def each(items: Iterable[Any], read: Callable[[Any], Any]) -> Iterator[Any]:
    """Yield what each question of a record gives: the error of one leaves the others as they are.

    Args:
        items: The questions.
        read: The example of one of them.
    """
    for item in items:
        try:
            yield read(item)
        except ExampleError as error:
            names = ("id", "qid", "query_id", "question_id", "turn_id")
            found = [item[name] for name in names if name in item] if isinstance(item, Mapping) else []
            yield ExampleError(f"question {found[0]!r}: {error}") if found else error
        except Exception as error:
            yield _malformed("a question of this form", item, error)


def _malformed(expected: str, found: Any, error: Exception) -> ExampleError:
    missing = f"the field {error} is missing" if isinstance(error, KeyError) else str(error)
    fields = f"the fields {', '.join(map(str, found))}" if isinstance(found, Mapping) else type(found).__name__
    return ExampleError(f"expected {expected}, found {fields}: {missing}; form='...' names another form")


_forms: dict[str, Form] = {}
_built_in: set[str] = set()


def register_form(form: Form, replace: bool = False) -> None:
    """Add a form, for ``form=`` and for recognition, where it is tried before the forms registered earlier.

    Args:
        form: The form; worker processes need not know it.
        replace: Whether it takes the place of one of the same name.

    Raises:
        SettingsError: It is not a `Form`, its name is not an identifier, or another form has it.
    """
    if not isinstance(form, Form):
        raise SettingsError(f"form: expected a Form, found {type(form).__name__}")
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", check_text("form.name", form.name)):
        raise SettingsError(f"form.name: expected lower-case letters, digits, '-' and '_', found {form.name!r}")
    if form.name in _forms and not replace:
        raise SettingsError(f"form: {form.name!r} is registered; pass replace=True to take its place")
    _forms.pop(form.name, None)
    _built_in.discard(form.name)
    _forms[form.name] = form


def register_built_in(*forms: Form) -> None:
    """Add the forms of this library, the first one to be tried last."""
    for form in forms:
        register_form(form)
        _built_in.add(form.name)


def form_names() -> list[str]:
    """Return the names of all forms, sorted."""
    return sorted(_forms)


def find_form(name: object) -> Form:
    """Return a form by its name, or a `Form` itself.

    Raises:
        SettingsError: There is no form of that name.
    """
    if isinstance(name, Form):
        return name
    if not isinstance(name, str) or name not in _forms:
        raise SettingsError(f"form: expected one of {', '.join(form_names())}, or a Form, found {name!r}")
    return _forms[name]


def recognise(record: Any) -> Form | None:
    """Return the form of a record, None where no form knows it."""
    if not isinstance(record, Mapping):
        return None
    return next((form for form in reversed(_forms.values()) if _recognises(form, record)), None)


def _recognises(form: Form, record: Record) -> bool:
    try:
        return bool(form.recognises(record))
    except Exception as error:
        if form.name in _built_in:  # a record that is malformed within: the error of its row says how
            return False
        raise SourceError(
            f"form {form.name!r}: expected True or False for the fields {', '.join(map(str, record))}, `recognises` "
            f"raised {type(error).__name__}: {error}"
        ) from error


def shows_form(record: Any) -> bool:
    """Return whether a record shows its form: one that could hold questions and holds none may be of several."""
    if not isinstance(record, Mapping):
        return True
    paragraphs = record.get("paragraphs")
    if isinstance(paragraphs, list):
        return any(not isinstance(one, Mapping) or not _is_empty_list(one.get("qas")) for one in paragraphs)
    return not _is_empty_list(record.get("qas"))


def _is_empty_list(value: Any) -> bool:
    return isinstance(value, list) and not value


def is_built_in(form: Form) -> bool:
    """Return whether a form is one of this library, whose version is part of the algorithm's."""
    return form.name in _built_in and _forms.get(form.name) is form


def has_own_forms() -> bool:
    """Return whether a user registered a form, so that recognition is not a function of the content alone."""
    return len(_built_in) < len(_forms)


def is_keyed(value: Any) -> bool:
    """Return whether a value of a JSON object is a record whose id is its key."""
    return isinstance(value, Mapping) and any(form.keyed and form.keyed <= value.keys() for form in _forms.values())
