"""How records become examples: a form, names of columns, a function of the user's."""

import logging
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from memxlnet.encode.examples import FIELDS
from memxlnet.errors import ExampleError, SettingsError
from memxlnet.settings import Keep
from memxlnet.sources.column_names import Columns
from memxlnet.sources.forms import (
    RECORDS,
    SQUAD,
    Form,
    FormOptions,
    find_form,
    has_own_forms,
    is_built_in,
    recognise,
)
from memxlnet.sources.source_options import SourceOptions, Transform

logger = logging.getLogger(__name__)

_CHARACTERS = FormOptions()


@dataclass(frozen=True)
class Reading:
    """How the records of one source become examples.

    Attributes:
        form: The form that the user named; None recognises it by the first record.
        columns: Names of fields; takes the place of a form.
        transform: Makes examples of examples.
        options: What the user chose for forms and columns.
    """

    form: Form | None = None
    columns: Columns | None = None
    transform: Transform | None = None
    options: FormOptions = field(default_factory=FormOptions)

    @classmethod
    def of(cls, asked: SourceOptions, keep: Keep = ()) -> "Reading":
        """Check what the user asked for.

        Args:
            asked: How records become examples.
            keep: Further fields that the examples are to have.

        Raises:
            SettingsError: A form is unknown, a form and columns are both named, names of columns cannot be, the
                transform cannot be called, or a form does not heed the unit of offsets.
        """
        form, columns, transform = asked.form, asked.columns, asked.transform
        options = FormOptions(asked.locate, asked.offsets, keep=keep)
        if form is not None and columns is not None:
            raise SettingsError("form, columns: expected one of both, since columns name the fields of a custom form")
        if transform is not None and not callable(transform):
            raise SettingsError(f"transform: expected a function of a mapping, found {type(transform).__name__}")
        named = find_form(form) if form is not None else None
        if named is not None:
            _check_offsets(named, options)
        return cls(named, Columns(columns, options) if columns is not None else None, transform, options)

    @property
    def resolved(self) -> bool:
        """Whether it is known how the records are read, without looking at one."""
        return self.form is not None or self.columns is not None

    def for_record(self, record: Any, name: str) -> "Reading":
        """Return the reading with the form of a source's first record; flat records where no form knows it.

        Raises:
            SettingsError: The form does not heed the unit of offsets that was asked for.
        """
        if self.resolved:
            return self
        form = recognise(record) or RECORDS
        _check_offsets(form, self.options)
        logger.info("%s: read as %s", name, form.name)
        return replace(self, form=form)

    def beside(self, folder: Path | None) -> "Reading":
        """Return the reading of records of a file in this directory."""
        if self.form is None or not self.form.reads_files:
            return self
        return replace(self, options=replace(self.options, folder=folder))

    @property
    def is_flat(self) -> bool:
        """Whether a record with ``answers`` is an example as it stands."""
        return self.form is RECORDS and self.transform is None and self.options.offsets == _CHARACTERS.offsets

    @property
    def columns_read(self) -> tuple[str, ...] | None:
        """The fields of a record that are read; None for all of them."""
        keep = self.options.keep
        return (*FIELDS, *keep) if self.form is RECORDS and self.transform is None and keep != "all" else None

    @property
    def keeps_number(self) -> bool:
        """Whether every record gives one example."""
        return (self.form is RECORDS or self.columns is not None) and self.transform is None

    @property
    def is_counted_by_key(self) -> bool:
        """Whether every example has its key ``question`` in a file of JSON."""
        return self.form in (RECORDS, SQUAD) and self.transform is None

    def identity(self, record_form: Form | None) -> dict[str, Any]:
        """Return what decides the examples besides the content and the algorithm's version, as JSON values.

        Args:
            record_form: The form of the first record, where forms of the user's own take part in recognising it.
        """
        found: dict[str, Any] = {}
        form = self.form or record_form
        if form is not None and (self.form is not None or not is_built_in(form)):
            found["form"] = form.name if is_built_in(form) else f"{form.name} {form.version}"
        if self.columns is not None:
            found["columns"] = self.columns.names
        for name in ("locate", "offsets"):
            if getattr(self.options, name) != getattr(_CHARACTERS, name):
                found[name] = getattr(self.options, name)
        return found

    @property
    def _form(self) -> Form:
        return self.form or RECORDS

    @property
    def needs_record(self) -> bool:
        """Whether `identity` depends on the first record."""
        return not self.resolved and has_own_forms()

    def examples(self, record: Any) -> Iterator[Any]:
        """Return the raw examples of a record; an `ExampleError` stands for one that cannot be made."""
        found = self.columns.read(record) if self.columns is not None else self._form.read(record, self.options)
        return found if self.transform is None else _transformed(found, self.transform)


def _check_offsets(form: Form, options: FormOptions) -> None:
    if options.offsets != "characters" and not form.heeds_offsets:
        raise SettingsError(
            f"offsets: the form {form.name!r} has its own offsets, found {options.offsets!r}; leave it out"
        )


def _transformed(examples: Iterator[Any], transform: Transform) -> Iterator[Any]:
    for example in examples:
        if isinstance(example, ExampleError):
            yield example
            continue
        try:
            # A copy: what the transform does to it must not show at the next reading.
            yield from _several(transform(deepcopy(example) if isinstance(example, dict) else example))
        except ExampleError as error:
            yield error
        except Exception as error:
            message = f"transform: raised {type(error).__name__}: {error}; expected none, one or several mappings"
            yield ExampleError(message).with_traceback(error.__traceback__)


def _several(found: Any) -> Iterator[Any]:
    """Yield the mappings that a transform gave for an example.

    Raises:
        ExampleError: It gave something else.
    """
    if found is None:
        return
    if isinstance(found, Mapping):
        yield found
        return
    if isinstance(found, str | bytes) or not hasattr(found, "__iter__"):
        raise ExampleError(f"transform: expected none, one or several mappings, found {type(found).__name__}")
    for one in found:
        if not isinstance(one, Mapping):
            raise ExampleError(f"transform: expected mappings, found {type(one).__name__} among them")
        yield one
