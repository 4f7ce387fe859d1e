"""Files as the origin of records: one, or several of one format in the order of their names."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from memxlnet.errors import MemxlnetError, SettingsError, SourceError
from memxlnet.sources.formats import FORMATS, file_stem, format_of, several_name
from memxlnet.sources.json_files import read_json
from memxlnet.sources.origin import Part
from memxlnet.sources.source_files import HashedFile, SourceFile


class Files:
    """Files of records; `total` is known once they were counted.

    Args:
        files: The files in the order in which they are read.
        name: Short name; by default that of the only file.
        partitions: For each file the fields that its directory names stand for (``key=value``), or nothing.

    Attributes:
        whole_articles: Whether records of JSON have all fields of their article; else those before its paragraphs.

    Raises:
        SettingsError: Two names are of one file.
        SourceNotFoundError: One of them is missing.
        SourceError: One cannot be read, is of no known format, or of another one than the first.
    """

    kind = "file"
    columnar = True
    total: int | None = None
    whole_articles = False

    def __init__(
        self, files: Sequence[SourceFile], name: str = "", partitions: Sequence[Mapping[str, str | None]] | None = None
    ):
        self._files = list(files)
        self.name = name or file_stem(self._files[0].path)
        self._partitions = list(partitions or [{}] * len(self._files))
        counts = Counter(file.place for file in self._files)
        repeated = sorted({str(file) for file in self._files if counts[file.place] > 1})
        if repeated:
            raise SettingsError(
                f"source: expected each file once, found several names of one: {', '.join(repeated[:5])}; name "
                "the files to read"
            )
        self._marks = [file.mark() for file in self._files]
        formats = [format_of(file) for file in self._files]
        for file, found in zip(self._files, formats, strict=True):
            if FORMATS[found].read is not FORMATS[formats[0]].read:
                raise SourceError(
                    f"{self.name}: expected files of one format, found {self._files[0]} ({formats[0]}) and {file} "
                    f"({found}); name the files of one of them"
                )
        self._format = formats[0]

    def __len__(self) -> int:
        return len(self._files)

    @property
    def paths(self) -> list[str]:
        """The absolute path of each file, or its URL without credentials."""
        return [str(file.path.absolute()) if isinstance(file, HashedFile) else str(file) for file in self._files]

    @property
    def marks(self) -> list[str]:
        """What stands for the bytes of each file."""
        return list(self._marks)

    def some(self, start: int, stop: int) -> "Files":
        """Return some of the files as an origin of their own, with the name that they have apart from the others."""
        files = self._files[start:stop]
        return Files(files, several_name(file_stem(files[0].path), len(files)), self._partitions[start:stop])

    def count(self) -> int | None:
        """Count the examples without parsing them, where the format allows, and keep the number as `total`.

        Raises:
            SourceError: A file cannot be read.
        """
        count = FORMATS[self._format].count_examples
        if count is not None and self.total is None:
            total = 0
            for file in self._files:
                try:
                    total += count(file)
                except (pa.ArrowException, OSError) as error:
                    raise SourceError(f"{file}: cannot be read: {error}") from error
            self.total = total
        return self.total

    def identity(self) -> dict[str, Any]:
        """Return how the files are read, and what stands for the bytes of each."""
        shown = self._format.lstrip(".")
        if len(self._files) == 1 and not self._partitions[0]:
            return {"kind": "file", "format": shown, "sha256": self._marks[0]}
        partitions = {"partitions": self._partitions} if any(self._partitions) else {}
        return {"kind": "files", "format": shown, "sha256": self._marks, **partitions}

    def provenance(self) -> dict[str, Any]:
        """Return where each file was found; the bytes of all together are ``size``."""
        found = [file.provenance() for file in self._files]
        if len(found) == 1:
            return found[0]
        return {"size": sum(one.get("size", 0) for one in found), "files": found}

    def parts(self, columns: Sequence[str] | None) -> Iterator[Part]:
        """Yield the records of each file."""
        read = FORMATS[self._format].read
        if self.whole_articles and read is read_json:
            read = partial(read_json, whole=True)
        names = _names(self._files)
        for file, name, partition in zip(self._files, names, self._partitions, strict=True):
            records = _guarded(file, read(file, columns))
            folder = file.path.parent if isinstance(file, HashedFile) else None
            yield Part(name, _with_fields(records, partition) if partition else records, folder)

    def check_unchanged(self) -> None:
        """Raise where a file is no longer what it was."""
        for file in self._files:
            file.check_unchanged()


def _names(files: Sequence[SourceFile]) -> list[str]:
    """Return names for messages that no place of the files is part of, as reports of dropped examples are kept."""
    names = [file.path.name for file in files]
    if len(set(names)) == len(names):
        return names
    paths = [str(file) for file in files]
    common = os.path.commonprefix(paths).rpartition("/")[0]  # noqa: RUF071 - cut at a slash
    return [path[len(common) :].lstrip("/") for path in paths]


def _guarded(file: SourceFile, records: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from records
    except MemxlnetError:
        raise
    except OSError as error:
        raise SourceError(f"{file}: cannot be read: {error}") from error


def _with_fields(records: Iterator[Any], fields: Mapping[str, str | None]) -> Iterator[Any]:
    for record in records:
        yield {**fields, **record} if isinstance(record, Mapping) else record
