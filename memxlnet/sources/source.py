"""The stream of raw examples that the build reads."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from memxlnet.encode.examples import FIELDS, OPTIONAL_FIELDS, REQUIRED_FIELDS
from memxlnet.errors import ExampleError, SourceError
from memxlnet.settings import Keep
from memxlnet.sources.forms import recognise, shows_form
from memxlnet.sources.origin import Origin, Part
from memxlnet.sources.records_to_examples import Reading
from memxlnet.sources.split import Ranges


class Source:
    """The raw examples of an origin, read as the user asked.

    Every reading gives the same rows in the same order, which `identity` stands for. Where the identity is a digest of
    the rows, a later reading is compared with it.

    Args:
        origin: Where the records come from.
        reading: How they become examples.
        ranges: Which of the examples; None for all.
        most: Rows that are read at most; None for all.
        identity: A text that changes whenever the content does, where the user gave one.
        keep: Further fields that a cache is made from, or ``"all"``.
    """

    def __init__(
        self,
        origin: Origin,
        reading: Reading,
        ranges: Ranges | None = None,
        most: int | None = None,
        identity: str | None = None,
        keep: Keep = (),
    ):
        self._origin = origin
        self._asked = reading
        self._reading = reading
        self._ranges = ranges
        self._most = most
        self._given_identity = identity
        self._keep = keep
        self._counted: int | None = None
        self._digest: _Digest | None = None
        self._read: _Digest | None = None
        self._places: list[tuple[int, str, int]] = []  # from which row on: the part, and the number of that row in it

    @property
    def name(self) -> str:
        """Short name, for the cache directory and messages."""
        return self._origin.name

    @property
    def form_name(self) -> str:
        """Name of the form of the records, as the first one shows it; empty where columns are named."""
        form = self._recognised().form
        return "" if form is None else form.name

    @property
    def total(self) -> int | None:
        """Number of rows where that is known without reading, for progress; else None."""
        if self._counted is not None:
            return self._counted
        total = self._origin.total
        if total is None:
            return None
        self._reading = self._recognised()
        if not self._reading.keeps_number:
            return None
        total = total if self._ranges is None else self._ranges.count(total)
        return total if self._most is None else min(total, self._most)

    def count(self) -> int | None:
        """Return the number of rows as far as it is known without parsing them; else None.

        Raises:
            SourceError: The source cannot be read.
        """
        if self.total is not None or self._ranges is not None:
            return self.total
        self._reading = self._recognised()
        if not self._reading.is_counted_by_key:
            return None
        total = self._origin.count()
        self._counted = total if self._most is None or total is None else min(total, self._most)
        return self._counted

    def identity(self) -> dict[str, Any]:
        """Return what the content is, as JSON values; equal content has an equal identity, wherever it lies."""
        found = self._origin.identity()
        if found is not None and (self._origin.kind == "file" or self._reading.needs_record):
            self._reading = self._recognised()
        form = self._reading.form
        if self._given_identity is not None:
            given = {"kind": self._origin.kind, "identity": self._given_identity}
            found = given if found is None else {**found, "transform": self._given_identity}
        elif found is None or self._reading.transform is not None or (form is not None and form.reads_files):
            if self._digest is None:
                digest = _Digest(self.name, self._keep)
                for row in self._rows():
                    digest.update(row)
                self._digest = digest
            return {"kind": self._origin.kind, "sha256": self._digest.hexdigest()}
        return {**found, **self._asked.identity(form)}

    def provenance(self) -> dict[str, Any]:
        """Return where the content was found, as JSON values: recorded for people, no part of any identity."""
        return self._origin.provenance()

    def rows(self) -> Iterator[Any]:
        """Return the raw rows from the first on: mappings, or an `ExampleError` for one that cannot be made."""
        return self._rows() if self._digest is None else self._digested()

    def place(self, row: int) -> tuple[str, int]:
        """Return where a row that was read stands: the name of its part (a file), and its number in that part."""
        at = bisect_right(self._places, row, key=lambda entry: entry[0]) - 1
        if at < 0:
            return self.name, row
        start, name, number = self._places[at]
        return name, row - start + number

    def check_unchanged(self) -> None:
        """Raise `SourceError` where the content is no longer what `identity` said."""
        self._origin.check_unchanged()
        first, second = self._digest, self._read
        if first is None or second is None or not (second.ended or second.count >= first.count):
            return
        if (first.count, first.hexdigest()) != (second.count, second.hexdigest()):
            found = "other rows" if first.count == second.count else f"{second.count} rows"
            raise SourceError(
                f"{self.name}: expected the same rows at every reading, found {first.count} rows at the first one and "
                f"{found} at the second; pass a list, "
                "or identity='...', a text that changes whenever the content does, with an iterator"
            )

    def _rows(self) -> Iterator[Any]:
        ranges = [(0, None)] if self._ranges is None else self._ranges.of(self._number_of_rows)
        self._places = []
        found = chain.from_iterable(map(self._rows_of, _with_bases(ranges)))
        return found if self._most is None else islice(found, self._most)

    def _rows_of(self, wanted: tuple[int, int, int | None]) -> Iterator[Any]:
        """Return the rows of one range, and where each part of them begins; the range begins at row `base`."""
        base, first, stop = wanted
        before = len(self._places)

        def note(row: int, part: str) -> None:
            at = row - first + base
            if at <= base:
                del self._places[before:]
            self._places.append((max(at, base), part, max(base - at, 0)))

        return islice(self._all_rows(note), first, stop)

    def _number_of_rows(self) -> int:
        """Return the number of all examples, by reading where it is not known."""
        if self._origin.total is not None and self._recognised().keeps_number:
            return self._origin.total
        return sum(1 for _ in self._all_rows(lambda row, part: None))

    def _all_rows(self, note: Callable[[int, str], None]) -> Iterator[Any]:
        """Yield all examples; `note` takes the number of the first one of each part, and the part's name."""
        if self._origin.columnar:
            self._reading = self._recognised()
        row = 0
        for part in self._origin.parts(self._reading.columns_read):
            note(row, part.name)
            for example in self._examples(part):
                yield example
                row += 1

    def _examples(self, part: Part) -> Iterator[Any]:
        records, reading = iter(part.records), self._reading
        if not reading.resolved:
            ahead = _until_form(records)
            if not ahead:
                return
            reading = self._reading.for_record(ahead[-1], self.name)
            if shows_form(ahead[-1]):
                self._reading = reading
            records = chain(ahead, records)
        reading = reading.beside(part.folder)
        if reading.is_flat:
            for record in records:
                if isinstance(record, Mapping) and "answers" not in record:
                    yield from reading.examples(record)
                else:
                    yield record
            return
        for record in records:
            if not self._asked.resolved:
                _check_form(part.name, record, reading)
            yield from reading.examples(record)

    def _recognised(self) -> Reading:
        """Return the reading, with the form of the first record where none was named."""
        if self._reading.resolved:
            return self._reading
        seen: Any = {}
        for part in self._origin.parts(None):
            for seen in part.records:
                if shows_form(seen):
                    return self._reading.for_record(seen, self.name)
        return self._reading.for_record(seen, self.name)

    def _digested(self) -> Iterator[Any]:
        self._read = digest = _Digest(self.name, self._keep)
        for row in self._rows():
            digest.update(row)
            yield row
        digest.ended = True


def _with_bases(ranges: Sequence[tuple[int, int | None]]) -> Iterator[tuple[int, int, int | None]]:
    """Yield each range with the number of rows before it."""
    base = 0
    for start, stop in ranges:
        yield base, start, stop
        base += (stop or 0) - start


def _check_form(name: str, record: Any, reading: Reading) -> None:
    """Check that a record is of the form of the first one, where it shows its form.

    Raises:
        SourceError: It is of another one.
    """
    found = recognise(record) if shows_form(record) else None
    if found is not None and reading.form is not None and found is not reading.form:
        raise SourceError(
            f"{name}: expected records of the form {reading.form.name!r}, as the first one is, found one of the form "
            f"{found.name!r} with the fields {', '.join(map(str, record))}; build the two apart, or name the form of "
            "all with form='...'"
        )


def _until_form(records: Iterator[Any]) -> list[Any]:
    """Return the first records, up to the one that shows the form of all."""
    found = []
    for record in records:
        found.append(record)
        if shows_form(record):
            break
    return found


class _Digest:
    """A digest of the fields that a cache is made from, row by row."""

    def __init__(self, name: str, keep: Keep):
        self._name = name
        self._keep = keep
        self._hash = hashlib.sha256()
        self.count = 0
        self.ended = False

    def update(self, row: Any) -> None:
        """Add one row."""
        if isinstance(row, Mapping):
            fields: Any = {field: row.get(field, None) for field in REQUIRED_FIELDS}
            fields |= {field: row[field] for field in OPTIONAL_FIELDS if field in row}
            if self._keep:
                names = row.keys() - set(FIELDS) if self._keep == "all" else self._keep
                fields["kept"] = {name: row.get(name) for name in names}
            fields["missing"] = sorted({*REQUIRED_FIELDS} - set(row))
        else:
            fields = str(row) if isinstance(row, ExampleError) else type(row).__name__
        try:
            line = json.dumps(fields, sort_keys=True, default=_plain)
        except (TypeError, ValueError, RecursionError) as error:
            raise SourceError(
                f"{self._name}, row {self.count}: holds a value that cannot be digested: {error}"
            ) from error
        self._hash.update(line.encode() + b"\n")
        self.count += 1

    def hexdigest(self) -> str:
        """Return the digest of the rows so far, in hexadecimal."""
        return self._hash.hexdigest()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    # No field of an example may hold such a value; whether that is an error is decided when the row is read.
    return f"{type(value).__name__} {value!r}"
