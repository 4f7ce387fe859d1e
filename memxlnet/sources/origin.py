"""Where records come from."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class Part(NamedTuple):
    """Records that lie together.

    Attributes:
        name: The name of their place, for messages.
        records: The records.
        folder: The directory of their file; None where they are in no local file.
    """

    name: str
    records: Iterator[Any]
    folder: Path | None = None


class Origin(Protocol):
    """A place of records, which gives the same ones in the same order at every reading.

    Attributes:
        name: Short name, for the cache directory and messages.
        kind: Its kind, for identities.
        columnar: Whether it can leave columns unread.
    """

    name: str
    kind: str
    columnar: bool

    @property
    def total(self) -> int | None:
        """Number of records where that is known without reading; else None."""

    def identity(self) -> dict[str, Any] | None:
        """Return the content's identity as JSON values: equal for equal content; None where only reading shows it."""

    def provenance(self) -> dict[str, Any]:
        """Return where the content was found, as JSON values: recorded for people, no part of any identity."""

    def parts(self, columns: Sequence[str] | None) -> Iterator[Part]:
        """Return the records, part by part; `columns` names the fields that are needed, None all."""

    def count(self) -> int | None:
        """Return the number of examples in a form whose examples are easily counted; None where it takes a reading."""

    def check_unchanged(self) -> None:
        """Raise `SourceError` where the content is no longer what `identity` said."""
