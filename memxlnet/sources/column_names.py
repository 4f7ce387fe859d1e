"""Custom fields, by their names: ``columns={"question": "query", "context": "doc.text"}``."""

from collections.abc import Iterator, Mapping
from typing import Any

from memxlnet.errors import ExampleError, SettingsError
from memxlnet.sources.forms.form import FormOptions, further
from memxlnet.sources.forms.records import flat_answers
from memxlnet.sources.forms.shared import in_code_points

_NAMES = ("id", "question", "context", "answers", "answer_text", "answer_start", "is_impossible")
_REQUIRED = ("question", "context")


class Columns:
    """Makes examples of records whose fields have other names.

    Args:
        names: For each field of an example the name of a field of the record, dotted for a nested one.
            ``question`` and ``context`` are required; ``answers`` is that of an example, or ``answer_text`` and,
            where offsets are known, ``answer_start`` hold one value or a list.
        options: What offsets count, and how answers without them are looked up.

    Raises:
        SettingsError: A name is unknown, missing or no text.
    """

    def __init__(self, names: object, options: FormOptions):
        if not isinstance(names, Mapping) or not all(isinstance(name, str) and name for name in names.values()):
            raise SettingsError(f"columns: expected a mapping of names to names of fields, found {names!r}")
        unknown = [name for name in names if name not in _NAMES]
        missing = [name for name in _REQUIRED if name not in names]
        if unknown or missing:
            found = f"unknown {unknown}" if unknown else f"no {' and no '.join(missing)}"
            raise SettingsError(f"columns: expected names of {', '.join(_NAMES)} as keys, found {found}")
        if "answers" in names and ("answer_text" in names or "answer_start" in names):
            raise SettingsError("columns: expected 'answers', or 'answer_text' and 'answer_start', found both")
        if "answer_start" in names and "answer_text" not in names:
            raise SettingsError("columns: 'answer_start' belongs to 'answer_text', found it alone")
        self.names = dict(names)
        self._options = options
        self._read = {path for named in self.names.values() for path in (named, named.partition(".")[0])}

    def read(self, record: Any) -> Iterator[Any]:
        """Yield the example of a record, or the `ExampleError` that stands for it."""
        try:
            fields = {name: _field(record, path) for name, path in self.names.items()}
            context = fields["context"]
            if "answer_text" in fields:
                fields |= flat_answers(fields, context, self._options)
            elif "answers" in fields:
                fields["answers"] = in_code_points(fields["answers"], context, self._options.offsets)
            yield {**further(record, self._read, self._options), **fields}
        except ExampleError as error:
            yield error
        except UnicodeEncodeError as error:
            yield ExampleError(f"columns: field 'context' holds half of a surrogate pair: {error}")


def _field(record: Any, path: str) -> Any:
    found = record
    if isinstance(found, Mapping) and path in found:
        return found[path]
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            fields = ", ".join(map(repr, found)) if isinstance(found, Mapping) else type(found).__name__
            raise ExampleError(f"columns: expected a field {path!r}, found {fields}")
        found = found[name]
    return found
