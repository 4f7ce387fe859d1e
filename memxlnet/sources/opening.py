"""From what the user named to a source."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from memxlnet.errors import SettingsError, SourceError, SourceNotFoundError
from memxlnet.format.manifest import FindKnown
from memxlnet.settings import Keep, check_keep, check_text, positive_int
from memxlnet.sources.file_origin import Files
from memxlnet.sources.formats import file_stem, several_name
from memxlnet.sources.hub_origin import HubOrigin
from memxlnet.sources.in_memory_origins import (
    DatasetOrigin,
    IterableOrigin,
    TableOrigin,
    is_datasets_object,
    is_one_shot,
)
from memxlnet.sources.listing import (
    Listing,
    at_home,
    directory_name,
    find_paths,
    is_directory,
    is_file_name,
    is_glob,
    split_words,
)
from memxlnet.sources.origin import Origin
from memxlnet.sources.records_to_examples import Reading
from memxlnet.sources.source import Source
from memxlnet.sources.source_files import HashedFile, SourceFile
from memxlnet.sources.source_options import SourceOptions
from memxlnet.sources.split import split_name
from memxlnet.sources.urls import find_urls, is_url, shown_url

IN_MEMORY = "in-memory"
_EXPECTED_FILES = "expected files for parts (a path, a list of paths, a glob, a directory or a URL of files)"


def source_name(source: object) -> str:
    """Return the short name under which a cache of this source is kept.

    Raises:
        SettingsError: The name is empty or no valid text.
    """
    if _is_several(source):
        names = [source_name(one) for one in source]  # type: ignore[attr-defined]
        return several_name(names[0], len(names))
    if is_url(source):
        return file_stem(Path(shown_url(str(source)).rstrip("/*"))) or IN_MEMORY
    if is_file_name(source):
        path = Path(check_text("source", os.fspath(source)))  # type: ignore[call-overload]
        try:
            return directory_name(path) if is_directory(path) else find_paths(path).name
        except SourceNotFoundError:
            return file_stem(path)
    if isinstance(source, str):
        return check_text("source", source)
    if is_datasets_object(source, "Dataset"):
        named = getattr(getattr(source, "info", None), "dataset_name", None)
        return str(named) if named else IN_MEMORY
    return IN_MEMORY


def shown_name(source: object) -> str:
    """Return what the user named, for messages: without the credentials of a URL."""
    if _is_several(source):
        return ", ".join(map(shown_name, source))  # type: ignore[call-overload]
    if is_url(source):
        return shown_url(str(source))
    if isinstance(source, Files):
        return source.name
    return f"{source}" if isinstance(source, str | os.PathLike) else "the source"


def open_source(
    source: Any,
    split: str,
    options: SourceOptions | None = None,
    *,
    max_examples: int | None = None,
    find_known: FindKnown | None = None,
    keep: Keep = (),
    **named: Any,
) -> Source:
    """Open what the user named, without reading all of it.

    Args:
        source: What is read:

            - a `PathLike`, or a string that names a file or looks like a path: local. Its suffix or its first bytes say
              how it is read: ``.json``, ``.jsonl``, ``.ndjson``, ``.parquet``, ``.arrow``, ``.feather``, ``.csv``,
              ``.tsv``, each also compressed as ``.gz``, ``.bz2``, ``.xz`` or ``.zst``;
            - a glob, a directory or a list of paths: files of one format, a directory's sorted by name, without hidden
              and temporary ones, ``key=value`` in the names of directories as fields. A directory that
              `Dataset.save_to_disk` wrote is read as that, one with a dataset card or script as `datasets` reads it;
              where its files are named after splits, `datasets` chooses those of `split`;
            - a URL that `fsspec` serves (``s3://``, ``gs://``, ``https://``, ``hf://datasets/...``): a file, a glob or
              a directory, streamed;
            - any other string: a Hub name;
            - a `datasets` object, a table (anything with ``__arrow_c_stream__``), or an iterable of mappings;
            - what `open_files` returned.
        split: Split of a Hub dataset, a directory of one or a `datasets.DatasetDict`; a label for everything else. A
            slice in the syntax of `datasets` (``train[:10%]``) applies to every kind of source.
        options: How it is read; None takes what is `named`.
        max_examples: Read at most this many examples; None reads all.
        find_known: Looks up what an earlier build recorded of a file, so that it need not be hashed again.
        keep: Names of further fields that the examples are to have, or ``"all"``; see
            `memxlnet.settings.EncodeSettings`.
        **named: Fields of `SourceOptions`, instead of `options`.

    Raises:
        SettingsError: An argument is of the wrong kind, or does not apply to this source.
        SourceError: The source is missing, cannot be read, or has no such split.
    """
    check_text("split", split)
    options = options or SourceOptions(**named)
    name, identity, token = options.name, options.identity, options.token
    if identity is not None:
        check_text("identity", identity)
    most = None if max_examples is None else min(positive_int("max_examples", max_examples), sys.maxsize)
    kept = check_keep(keep)
    reading = Reading.of(options, kept)
    if isinstance(source, str) and not re.search(r"\w", check_text("source", source)):
        raise SettingsError(f"source: expected a file or the name of a dataset, found {source!r}")
    is_named = isinstance(source, str | os.PathLike | Files) or _is_several(source)
    if is_named and identity is not None and options.transform is None:
        raise SettingsError("identity: applies to iterables only; a file or Hub dataset is identified by its content")
    if name is not None and is_named:
        raise SettingsError(f"name: applies to objects in memory only, found {name!r} with {shown_name(source)}")
    is_local = is_file_name(source)
    for option, value in (("config_name", options.config_name), ("revision", options.revision)):
        if value is not None and (is_local or not isinstance(source, str) or is_url(source)):
            raise SettingsError(f"{option}: applies to Hub datasets only, found {value!r} with another source")
    base, ranges = split_name(split)

    def hashed(path: Path) -> HashedFile:
        return HashedFile(path, find_known)

    origin: Origin
    if isinstance(source, Files):
        origin = source
    elif _is_several(source):
        origin = _open_several(source, token, hashed)
    elif is_local:
        origin = _open_path(Path(check_text("source", os.fspath(source))), base, hashed)
    elif is_url(source):
        origin = Files(find_urls(source, token), source_name(source))
    elif isinstance(source, str):
        origin = HubOrigin(source, base, options.config_name, options.revision, token, hashed)
    else:
        origin = _open_object(source, base, identity, "" if name is None else check_text("name", name))
    if isinstance(origin, Files):
        origin.whole_articles = bool(kept)
    if ranges is not None and ranges.needs_total and is_one_shot(source):
        raise SettingsError(
            f"split: {split!r} depends on the number of rows, which an iterator that can be read once does not report; "
            "pass a list, or a slice without percent and counted from the beginning"
        )
    return Source(origin, reading, ranges, most, identity, kept)


def open_files(source: Any, split: str, token: str | None = None, find_known: FindKnown | None = None) -> Files:
    """Open the files that the user named, so that some of them can be read apart from the others.

    Args:
        source: Files, as `open_source` takes them: a path, a list of paths, a glob, a directory, a URL.
        split: Split of a directory.
        token: Credentials for the Hub, for ``hf://``.
        find_known: As in `open_source`.

    Raises:
        SettingsError: The source is no files, or an argument is wrong.
        SourceError: A file is missing or cannot be read.
    """
    check_text("split", split)

    def hashed(path: Path) -> HashedFile:
        return HashedFile(path, find_known)

    origin: Origin | None = None
    if _is_several(source):
        origin = _open_several(source, token, hashed)
    elif is_file_name(source):
        origin = _open_path(Path(check_text("source", os.fspath(source))), split, hashed)
    elif is_url(source):
        origin = Files(find_urls(source, token), source_name(source))
    if not isinstance(origin, Files):
        raise SettingsError(f"source: {_EXPECTED_FILES}, found {shown_name(source)}")
    return origin


def place_of_files(source: Any) -> tuple[str, str]:
    """Return the directory from which the names of a source's files are counted, and what distinguishes the source.

    Both stay what they are as files come and go: of a list it is the directory that holds all of them, of a glob the
    part before the pattern. Paths are absolute; URLs are without credentials.

    Raises:
        SettingsError: The source is no files.
    """
    if not _is_several(source) and not isinstance(source, str | os.PathLike):
        raise SettingsError(f"source: {_EXPECTED_FILES}, found a {type(source).__name__}")
    if _is_several(source):
        folders = [place_of_files(one)[0] for one in source]
        common = os.path.commonprefix([f"{folder}/" for folder in folders]).rpartition("/")[0]  # noqa: RUF071
        return common, common
    if is_url(source):
        named = shown_url(str(source)).rstrip("/")
    else:
        path = at_home(Path(check_text("source", os.fspath(source)))).absolute()
        if is_directory(path):
            return str(path), str(path)
        named = str(path)
    parts = named.split("/")
    pattern = next((number for number, part in enumerate(parts) if is_glob(part)), len(parts) - 1)
    return "/".join(parts[:pattern]), named


def _is_several(value: object) -> bool:
    """Return whether a value is a list of paths and URLs, and no list of records."""
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], str | os.PathLike)


def _open_several(names: Sequence[Any], token: str | None, hashed: Callable[[Path], HashedFile]) -> Origin:
    files: list[SourceFile] = []
    partitions: list[dict[str, str | None]] = []
    for named in names:
        if not isinstance(named, str | os.PathLike):
            raise SettingsError(f"source: expected paths or URLs in the list, found a {type(named).__name__}")
        if is_url(named):
            found: Sequence[SourceFile] = find_urls(str(named), token)
            fields: list[dict[str, str | None]] = [{} for _ in found]
        else:
            listing = find_paths(Path(check_text("source", os.fspath(named))))
            found, fields = [hashed(path) for path in listing.paths], listing.partitions
        files += found
        partitions += fields
    return Files(files, source_name(list(names)), partitions)


def _open_path(path: Path, split: str, hashed: Callable[[Path], HashedFile]) -> Origin:
    path = at_home(path)
    if not is_directory(path):
        listing = find_paths(path)
    elif is_saved_dataset(path):
        return _open_saved(path, split)
    elif _has_card(path):
        return HubOrigin(str(path), split, None, None, None, hashed, directory_name(path))
    else:
        listing = find_paths(path)
        if split_words(str(one.relative_to(path)) for one in listing.paths) != {""}:
            listing = _files_of_split(listing, path, HubOrigin(str(path), split, None, None, None, hashed))
    return Files([hashed(one) for one in listing.paths], listing.name, listing.partitions)


def _files_of_split(listing: Listing, directory: Path, origin: HubOrigin) -> Listing:
    """Return the files of a directory that `datasets` chooses for a split.

    Raises:
        SourceError: It would read some of the files for no split.
    """
    fields = {os.path.realpath(path): one for path, one in zip(listing.paths, listing.partitions, strict=True)}
    left_out = sorted(fields.keys() - {os.path.realpath(path) for path in origin.all_local_files})
    if left_out:
        raise SourceError(
            f"{directory}: expected every file to belong to a split, as others are named after splits, found "
            f"{left_out[0]}; name the files to read, as a list or a glob"
        )
    chosen = origin.local_files
    return Listing(listing.name, chosen, [fields.get(os.path.realpath(path), {}) for path in chosen])


def is_saved_dataset(directory: Path) -> bool:
    """Return whether `datasets` wrote a directory with ``save_to_disk``."""
    return any((directory / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _open_saved(directory: Path, split: str) -> Origin:
    import datasets

    try:
        saved = datasets.load_from_disk(str(directory))
    except Exception as error:  # whatever a damaged directory raises there
        raise SourceError(f"{directory}: cannot be read as a saved dataset: {type(error).__name__}: {error}") from error
    return _open_object(saved, split, None, directory_name(directory))


def _has_card(directory: Path) -> bool:
    """Return whether a directory is a dataset repository: with a card that has a header, or a script of its name."""
    card = directory / "README.md"
    try:
        has_header = card.is_file() and card.read_bytes()[:3] == b"---"
    except OSError as error:
        raise SourceError(f"{card}: cannot be read: {error}") from error
    return has_header or (directory / f"{directory.resolve().name}.py").is_file()


def _open_object(value: Any, split: str, identity: str | None, name: str = "") -> Origin:
    if is_datasets_object(value, "DatasetDict") or is_datasets_object(value, "IterableDatasetDict"):
        if split not in value:
            raise SourceError(f"unknown split {split!r}; expected one of {', '.join(map(repr, value))}")
        value = value[split]
    name = name or source_name(value)
    if is_datasets_object(value, "Dataset"):
        return DatasetOrigin(value, name) if identity is None else IterableOrigin(value, name)
    if hasattr(value, "__arrow_c_stream__"):
        _check_read_twice(value, identity, name)
        return TableOrigin(value, name, is_one_shot(value) or identity is not None)
    if isinstance(value, Mapping | bytes) or not isinstance(value, Iterable):
        raise SettingsError(
            "source: expected a file, a Hub name, a datasets object, a table or an iterable of mappings, found "
            f"{type(value).__name__}"
        )
    if type(value).__name__ == "DataFrame":
        raise SettingsError("source: expected a DataFrame with __arrow_c_stream__ (pandas 2.2, polars 1.3), found none")
    _check_read_twice(value, identity, name)
    return IterableOrigin(value, name)


def _check_read_twice(value: object, identity: str | None, name: str) -> None:
    if identity is None and is_one_shot(value):
        raise SourceError(
            f"{name}: a one-shot iterator ({type(value).__name__}) cannot be read twice, so its content cannot be "
            "known in advance; pass identity='...', a text that changes whenever the content does, or a list"
        )
