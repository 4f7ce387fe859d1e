"""Splits with slices, as `datasets` writes them: ``train[:10%]``, ``train[10:20]+train[90%:]``."""

import re
from collections.abc import Callable

from memxlnet.errors import SettingsError

_UNKNOWN = 2**62
"""More rows than there are, where no bound depends on how many there are."""


class Ranges:
    """Ranges of rows that a split asks for, absolute or in percent, from the front or from the end.

    Args:
        spec: The split as the user wrote it.
        name: The name of the split in it.

    Attributes:
        needs_total: Whether a range depends on the number of all rows.

    Raises:
        SettingsError: `datasets` cannot read the specification.
    """

    def __init__(self, spec: str, name: str):
        import datasets

        self._spec, self._name = spec, name
        # A start without sign or percent and an end of that kind hold whatever the number of rows.
        bounds = re.findall(r"\[([^\[\]]*)\]", spec)
        self.needs_total = spec.count("[") < spec.count(name) or any(not _is_absolute(bound) for bound in bounds)
        try:
            self._instruction = datasets.ReadInstruction.from_spec(spec)
            self._instruction.to_absolute({name: 1000})
        except (ValueError, AssertionError) as error:
            raise SettingsError(
                f"split: expected a name, or a name and a slice such as 'train[:10%]', found {spec!r}: {error}"
            ) from error

    def of(self, count: Callable[[], int]) -> list[tuple[int, int]]:
        """Return half-open ranges of rows, in the order in which they are read.

        Args:
            count: Returns the number of all rows; called where a range depends on it.

        Raises:
            SettingsError: `datasets` does not allow the specification for this many rows.
        """
        return self._absolute(count() if self.needs_total else _UNKNOWN)

    def count(self, total: int) -> int:
        """Return the number of rows that the ranges take of this many."""
        return sum(stop - start for start, stop in self._absolute(total))

    def _absolute(self, total: int) -> list[tuple[int, int]]:
        try:
            found = self._instruction.to_absolute({self._name: total})
        except (ValueError, AssertionError) as error:
            raise SettingsError(f"split: {self._spec!r} does not fit {total} rows: {error}") from error
        return [(one.from_ or 0, total if one.to is None else one.to) for one in found]


def _is_absolute(bounds: str) -> bool:
    return bool(re.fullmatch(r"\s*\d*\s*:\s*\d+\s*", bounds))


def split_name(spec: str) -> tuple[str, Ranges | None]:
    """Return the name of a split, and the ranges of its rows that are asked for; None for all.

    Raises:
        SettingsError: The specification cannot be read, or names several splits.
    """
    if "[" not in spec:
        return spec, None
    names = {re.split(r"[\[(]", part)[0].strip() for part in spec.split("+")}
    if len(names) > 1:
        raise SettingsError(f"split: expected one split, found {', '.join(sorted(names))} in {spec!r}; build one each")
    name = names.pop()
    return name, Ranges(spec, name)
