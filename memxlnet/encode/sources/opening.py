"""From what the user named to a source."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from memxlnet.encode.known_file import FindKnown
from memxlnet.encode.sources.base import HashedFile, Source
from memxlnet.encode.sources.compressed import COMPRESSIONS
from memxlnet.encode.sources.files import FileSource, file_stem, has_known_suffix
from memxlnet.encode.sources.objects import DatasetSource, HubSource, IterableSource, is_datasets_object
from memxlnet.errors import SettingsError, SourceError
from memxlnet.settings import check_text

IN_MEMORY = "in-memory"


_OTHER_SUFFIXES = {".csv", ".tsv", ".txt", ".zip", ".tar", ".pkl", ".pickle", ".xlsx", ".xml", ".yaml", ".yml"}
"""Suffixes of files that cannot be read; a name with one of them is not asked for on the Hub."""


def is_file_name(dataset_name: object) -> bool:
    """Whether what the user named is a local file: one that exists, any `PathLike`, or a string that looks like a path.

    A name on the Hub is ``name`` or ``owner/name``; directories are left to `datasets`.
    """
    if isinstance(dataset_name, os.PathLike):
        return True
    if not isinstance(dataset_name, str) or "://" in dataset_name or "\0" in dataset_name:
        return False
    path = Path(dataset_name)
    suffix = path.suffix.lower()
    if has_known_suffix(path) or suffix in _OTHER_SUFFIXES or suffix in COMPRESSIONS:
        return True
    try:
        if path.exists():
            return not path.is_dir()
    except OSError:
        return True
    return bool(re.match(r"[/~.]", dataset_name) and path.name) or dataset_name.count("/") > 1


def source_name(dataset_name: object) -> str:
    """The short name under which a cache of this source is kept.

    Raises:
        SettingsError: The name is empty or no valid text.
    """
    if is_file_name(dataset_name):
        return file_stem(Path(check_text("dataset_name", os.fspath(dataset_name))))  # type: ignore[call-overload]
    if isinstance(dataset_name, str):
        return check_text("dataset_name", dataset_name)
    if is_datasets_object(dataset_name, "Dataset"):
        named = getattr(getattr(dataset_name, "info", None), "dataset_name", None)
        return str(named) if named else IN_MEMORY
    return IN_MEMORY


def open_source(
    dataset_name: Any,
    split: str,
    *,
    identity: str | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    find_known: FindKnown | None = None,
) -> Source:
    """Open what the user named, without reading examples.

    Args:
        dataset_name: A `PathLike`, or a string that names a file or looks like a path: a local file. Its suffix or its
            first bytes say how it is read: ``.json``, ``.jsonl``, ``.ndjson``, ``.parquet``, ``.arrow``, ``.feather``,
            each also compressed as ``.gz``, ``.bz2``, ``.xz`` or ``.zst``. Any other string: a Hub name, or a directory
            that `datasets` reads. Else a `datasets` object or an iterable of mappings.
        split: Split of a Hub dataset or of a `datasets.DatasetDict`; a mere label for everything else.
        identity: For an iterable: a text that changes whenever the content does.
        config_name: Configuration of a Hub dataset.
        revision: Branch, tag or commit of a Hub dataset.
        token: Credentials for the Hub.
        find_known: Looks up what an earlier build recorded of a file, so that it need not be hashed again.

    Raises:
        SettingsError: An argument is of the wrong kind, or does not apply to this source.
        SourceError: The source is missing, cannot be read, or has no such split.
    """
    check_text("split", split)
    if identity is not None:
        check_text("identity", identity)
    is_name = isinstance(dataset_name, str | os.PathLike)
    if is_name and identity is not None:
        raise SettingsError("identity: applies to iterables only; a file or Hub dataset is identified by its content")
    for name, value in (("config_name", config_name), ("revision", revision)):
        if value is not None and (is_file_name(dataset_name) or not isinstance(dataset_name, str)):
            raise SettingsError(f"{name}: applies to Hub datasets only, found {value!r} with another source")
    if is_file_name(dataset_name):
        return FileSource(Path(check_text("dataset_name", os.fspath(dataset_name))), find_known)
    if isinstance(dataset_name, str):
        check_text("dataset_name", dataset_name)
        if "://" in dataset_name:
            raise SettingsError(f"dataset_name: URLs are not read, found {dataset_name!r}; download the file first")
        if not re.search(r"\w", dataset_name):
            raise SettingsError(f"dataset_name: expected a file or the name of a dataset, found {dataset_name!r}")

        def hashed_file(file: str) -> HashedFile:
            return HashedFile(Path(file), find_known)

        return HubSource(dataset_name, split, config_name, revision, token, hashed_file)
    return _open_object(dataset_name, split, identity)


def _open_object(value: Any, split: str, identity: str | None) -> Source:
    if is_datasets_object(value, "DatasetDict") or is_datasets_object(value, "IterableDatasetDict"):
        if split not in value:
            raise SourceError(f"unknown split {split!r}; expected one of {', '.join(map(repr, value))}")
        value = value[split]
    if is_datasets_object(value, "Dataset") and identity is None:
        return DatasetSource(value, source_name(value))
    if type(value).__name__ == "DataFrame":
        raise SettingsError(
            "dataset_name: a DataFrame is no iterable of rows; pass its to_dict('records') or to_dicts()"
        )
    if isinstance(value, Mapping | bytes) or not isinstance(value, Iterable):
        raise SettingsError(
            "dataset_name: expected a file, a Hub name, a datasets object or an iterable of mappings, found "
            f"{type(value).__name__}"
        )
    return IterableSource(value, source_name(value), identity)
