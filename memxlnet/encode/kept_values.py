"""Further fields of examples, from Python values to columns whose types depend on the values alone.

The builder's process does this for all chunks, in order: a type that changes shows at the first example that changes
it, wherever chunks are cut.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from arrow_schemas import RESERVED, is_kept_type, joined_type
from memxlnet.encode.examples import FIELDS, Example, Place
from memxlnet.errors import ExampleError, SettingsError
from memxlnet.settings import EncodeSettings, check_text

logger = logging.getLogger(__name__)

_NULL = pa.null()
_KINDS = {
    type(None): _NULL,
    str: pa.large_string(),
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    bytes: pa.large_binary(),
}
_WIDE = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}
_TOO_FINE = "expected times of whole microseconds"
_CONVERSION_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError)


class KeptFields:
    """The fields of the examples of one source that its cache keeps.

    Args:
        name: Name of the source, for the log.
        place: Returns where a row of the source stands.
        settings: ``keep`` names the fields.
    """

    def __init__(self, name: str, place: Place, settings: EncodeSettings):
        self._name = name
        self._place = place
        self._all = settings.keep == "all"
        self._names: tuple[str, ...] = () if settings.keep == "all" else tuple(settings.keep)
        self._examples = 0
        self._missing = dict.fromkeys(self._names, 0)
        self._checked: set[str] = set()
        self._columns: dict[str, tuple[pa.DataType, str]] = {}

    def of(self, example: Example, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of an example that are kept, None for one that it lacks.

        Raises:
            ExampleError: It is the first example and lacks one, or a name cannot be that of a column.
        """
        self._examples += 1
        if self._all:
            return self._further(example, raw)
        for name in self._names:
            if name not in raw:
                self._missing[name] += 1
                if self._examples == 1:
                    found = ", ".join(map(repr, sorted(map(str, raw.keys() - set(FIELDS))))) or "no further field"
                    raise ExampleError(f"{self._shown(example)}: keep: expected a field {name!r}, found {found}")
        return {name: raw.get(name) for name in self._names}

    def _further(self, example: Example, raw: Mapping[str, Any]) -> dict[str, Any]:
        found = {name: value for name, value in raw.items() if name not in FIELDS}
        if not found.keys() <= self._checked:
            self._check_names(example, found)
        return found

    def _check_names(self, example: Example, names: Iterable[Any]) -> None:
        for name in names:
            try:
                check_text("name of a field", name)
                if name in RESERVED:
                    raise SettingsError(f"expected fields whose names no table or step has, found {name!r:.80}")
            except SettingsError as error:
                raise ExampleError(
                    f"{self._shown(example)}: keep='all': {error}; name the fields to keep, or rename it with "
                    "transform="
                ) from None
            self._checked.add(name)

    def batch(self, examples: Sequence[Example]) -> pa.RecordBatch:
        """Return the columns of some examples, one row each; the examples must come in the order of their rows.

        Raises:
            ExampleError: A value has no type of Arrow, or not the type of the values before.
        """
        names = sorted({name for example in examples for name in example.kept or ()})
        columns = [self._column(name, examples) for name in names]
        return pa.RecordBatch.from_arrays(columns, names=names)

    def log_missing(self) -> None:
        """Log how many examples lacked each field."""
        for name, count in self._missing.items():
            if count:
                logger.warning("%s: %d of %d examples have no field %r", self._name, count, self._examples, name)

    def _column(self, name: str, examples: Sequence[Example]) -> pa.Array:
        values = [(example.kept or {}).get(name) for example in examples]
        kinds = set(map(type, values))
        if not kinds <= _KINDS.keys():
            values = [self._plain(name, example, value) for example, value in zip(examples, values, strict=True)]
            kinds = set(map(type, values))
        here = _quick_type(kinds)
        known, first = self._columns.get(name, (_NULL, ""))
        if here is None or joined_type(known, here) is None:
            here = _NULL
            for example, value in zip(examples, values, strict=True):
                kind = self._type(name, example, value)
                joined = joined_type(known, kind)
                if joined is None:
                    raise ExampleError(
                        f"{self._shown(example)}: keep: field {name!r}: expected a value of the type {known} as in the "
                        f"examples from {first} on, found {kind}: {value!r:.80}; convert it with transform="
                    )
                first = first or ("" if pa.types.is_null(kind) else repr(example.id))
                known, here = joined, joined_type(here, kind) or joined
        elif not first and not pa.types.is_null(here):
            first = next(repr(one.id) for one, value in zip(examples, values, strict=True) if value is not None)
        self._columns[name] = (joined_type(known, here) or here, first)
        return self._array(name, examples, values, here)

    def _array(self, name: str, examples: Sequence[Example], values: list[Any], kind: pa.DataType) -> pa.Array:
        try:
            return pa.array(values, kind)
        except _CONVERSION_ERRORS:
            for example, value in zip(examples, values, strict=True):
                try:
                    pa.array([value], kind)
                except _CONVERSION_ERRORS as error:
                    raise self._refused(name, example, value, f"a value of the type {kind}", error) from error
            raise

    def _type(self, name: str, example: Example, value: Any) -> pa.DataType:
        try:
            return type_of(value)
        except _CONVERSION_ERRORS as error:
            raise self._refused(name, example, value, "a value that Arrow has a type for", error) from error

    def _plain(self, name: str, example: Example, value: Any) -> Any:
        try:
            return plain_value(value)
        except _CONVERSION_ERRORS as error:
            raise self._refused(name, example, value, "a value that Arrow has a type for", error) from error

    def _refused(self, name: str, example: Example, value: Any, expected: str, error: Exception) -> ExampleError:
        found = f"{type(value).__name__} {value!r:.80}"
        where = f"{self._shown(example)}: keep: field {name!r}"
        return ExampleError(f"{where}: expected {expected}, found {found} ({error}); convert it with transform=")

    def _shown(self, example: Example) -> str:
        part, number = self._place(example.row)
        return f"{part}, example {example.id!r} (row {number})"


def _quick_type(kinds: set[type]) -> pa.DataType | None:
    """Return the type of values of these Python types where all are plain and fit each other."""
    found: pa.DataType | None = _NULL
    for kind in kinds:
        if kind not in _KINDS:
            return None
        found = found if found is None else joined_type(found, _KINDS[kind])
    return found


def plain_value(value: Any) -> Any:
    """Return a value with arrays, tensors and NumPy's numbers as plain Python values, at every level.

    Raises:
        TypeError: A mapping has a key that is no text, or a time is finer than microseconds.
    """
    if type(value) in _KINDS:
        return value
    if isinstance(value, memoryview) and value.format == "B":
        return value.tobytes()
    if hasattr(value, "tolist"):
        found = _in_microseconds(value).tolist()
        return value if isinstance(found, type(value)) else plain_value(found)
    nanosecond = getattr(value, "nanosecond", 0)  # of a time of pandas; NaN for a missing one
    if nanosecond != nanosecond:
        return None
    if nanosecond:
        raise TypeError(_TOO_FINE)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("expected texts as the keys of a mapping")
        return {key: plain_value(value[key]) for key in value}
    if isinstance(value, list | tuple):
        return [plain_value(one) for one in value]
    return value


def _in_microseconds(value: Any) -> Any:
    """Return times of NumPy in the unit of Python's; other values as they are."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind not in ("m", "M"):
        return value
    rounded = value.astype(f"{kind}8[us]")
    if ((rounded != value) & ~np.isnat(value)).any():
        raise TypeError(_TOO_FINE)
    return rounded


def type_of(value: Any) -> pa.DataType:
    """Return the type of a plain value: the one that Arrow infers, in its widest form.

    Raises:
        TypeError: Items of a list have different types, or no kept column has the type.
        pyarrow.ArrowException: Arrow has no type for it.
    """
    known = _KINDS.get(type(value))
    if known is not None:
        return known
    if isinstance(value, Mapping):
        return pa.struct([pa.field(name, type_of(value[name])) for name in sorted(value)])
    if isinstance(value, list):
        return pa.large_list(_item_type(value))
    found = pa.scalar(value).type
    found = _WIDE.get(found, found)
    if not is_kept_type(found):
        raise TypeError(f"its type is {found}")
    return found


def _item_type(values: Iterable[Any]) -> pa.DataType:
    found: pa.DataType = _NULL
    for value in values:
        kind = type_of(value)
        joined = joined_type(found, kind)
        if joined is None:
            raise TypeError(f"its items are of the types {found} and {kind}")
        found = joined
    return found
