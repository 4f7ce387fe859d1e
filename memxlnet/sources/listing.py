"""Which local files a name stands for: a file, a list, a glob, or a directory of files of one kind."""

import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from memxlnet.errors import SourceError, SourceNotFoundError
from memxlnet.settings import check_text
from memxlnet.sources.compressed import COMPRESSIONS, uncompressed_name
from memxlnet.sources.formats import file_stem, format_of, has_known_suffix, several_name
from memxlnet.sources.source_files import HashedFile

_OTHER_SUFFIXES = {".txt", ".zip", ".tar", ".pkl", ".pickle", ".xlsx", ".xml", ".yaml", ".yml"}
"""Suffixes of files that cannot be read; a name with one of them is not asked for on the Hub."""

_TEMPORARY = (".tmp", ".temp", ".part", ".partial", ".incomplete", ".crc", ".lock", ".swp", "~")

_DOCUMENTS = (".md", ".txt", ".rst")
"""Suffixes of files that are for people."""

_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"

_SPLIT_WORD = re.compile(
    r"(?<![a-z])(train|training|validation|valid|val|dev|test|testing|eval|evaluation)(?![a-z])", re.IGNORECASE
)


class Listing(NamedTuple):
    """Local files of one source.

    Attributes:
        name: Short name of the source.
        paths: The files, in order.
        partitions: For each the fields that the names of its directories stand for.
    """

    name: str
    paths: list[Path]
    partitions: list[dict[str, str | None]]


def is_file_name(source: object) -> bool:
    """Return whether what the user named is local: it exists, is a `PathLike`, or a string that looks like a path.

    A name on the Hub is ``name`` or ``owner/name``.
    """
    if isinstance(source, os.PathLike):
        return True
    if not isinstance(source, str) or "://" in source or "\0" in source:
        return False
    path = Path(source)
    suffix = path.suffix.lower()
    if has_known_suffix(path) or suffix in _OTHER_SUFFIXES or suffix in COMPRESSIONS or is_glob(source):
        return True
    try:
        if path.exists():
            return True
    except OSError:
        return True
    return bool(re.match(r"[/~.]", source) and path.name) or source.count("/") > 1


def is_data_file(path: str) -> bool:
    """Return whether a file, named from its directory, is one of data: no hidden or temporary one, mark or text."""
    parts = path.strip("/").split("/")
    hidden = any(part.startswith((".", "_")) for part in parts)
    return not hidden and not path.lower().endswith((*_TEMPORARY, *_DOCUMENTS)) and parts[-1] != "LICENSE"


def find_paths(path: Path) -> Listing:
    """Return the files that a path, a directory or a glob stands for.

    Raises:
        SourceNotFoundError: There are no such files.
    """
    path = at_home(path)
    if is_directory(path):
        found = sorted(_below(path))
        if not found:
            raise SourceNotFoundError(f"{path}: expected files of data in the directory, found none")
        return Listing(directory_name(path), found, [_partition(file.relative_to(path)) for file in found])
    if is_glob(str(path)) and not path.exists():
        fitting = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
        found = [one for one in fitting if one.is_file()]
        folders = [one for one in fitting if one.is_dir() and path.name != "**" and is_data_file(one.name)]
        if folders:
            raise SourceError(f"{path}: expected a pattern of files, found the directory {folders[0]}; name '{path}/*'")
        if not found:
            raise SourceNotFoundError(f"{path}: no file fits this pattern")
        return Listing(several_name(file_stem(found[0]), len(found)), found, [{} for _ in found])
    return Listing(file_stem(path), [path], [{}])


def directory_name(directory: Path) -> str:
    """Return a short name of a directory as a source."""
    return at_home(directory).resolve().name


def is_directory(path: Path) -> bool:
    """Return whether a path is a directory.

    Raises:
        SourceNotFoundError: It is longer than the system allows, or may not be looked at.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise SourceNotFoundError(f"{str(path)!r:.200}: cannot be opened: {error.strerror}") from error


def at_home(path: Path) -> Path:
    """Return the path with the home directory in the place of ``~``.

    Raises:
        SourceNotFoundError: There is no such user.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise SourceNotFoundError(f"{path}: expected ~ or ~USER at the beginning of a path: {error}") from error


def _below(directory: Path) -> Iterator[Path]:
    """Yield the files of data below a directory; the first one that cannot be data is an error, however many there are.

    Raises:
        SourceError: A file is of no known format, or a directory cannot be read.
    """
    seen = set()
    for folder, folders, names in os.walk(directory, onerror=_raise, followlinks=True):
        # Of a directory that links lead to again, the first way there counts.
        wanted = {
            os.path.realpath(Path(folder, name)): name for name in sorted(folders, reverse=True) if is_data_file(name)
        }
        seen |= {os.path.realpath(folder)}
        folders[:] = sorted(name for place, name in wanted.items() if place not in seen)
        seen |= wanted.keys()
        for name in sorted(filter(is_data_file, names)):
            path = Path(folder) / name
            check_text("source", str(path))
            if path.exists() and not path.is_file():
                raise SourceError(f"{path}: expected a file, found a directory or device")
            format_of(HashedFile(path))
            yield path


def _raise(error: OSError) -> None:
    raise SourceError(f"{error.filename}: cannot be read: {error.strerror}") from error


def split_words(names: Iterable[str]) -> set[str]:
    """Return the words for splits in the names of files below a directory; empty for a name without one."""
    found = (_SPLIT_WORD.search(str(uncompressed_name(Path(name)))) for name in names)
    return {word.group().lower() if word else "" for word in found}


def _partition(path: Path) -> dict[str, str | None]:
    pairs = (part.partition("=") for part in path.parts[:-1])
    found = {unquote(name): unquote(value) for name, mark, value in pairs if mark and name}
    return {name: None if value == _NULL_PARTITION else value for name, value in found.items()}


def is_glob(name: str) -> bool:
    """Return whether a name is a pattern of names."""
    return any(character in name for character in "*?[")
