"""The address of a cache in a store, and its file system."""

import difflib
import os
import unicodedata
from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec.registry import known_implementations, registry

from memxlnet.errors import MissingLibraryError, SettingsError
from memxlnet.format.paths import as_directory, is_url, scheme_within
from memxlnet.redaction import Redactor
from memxlnet.settings import check_text

LOCAL = ("file", "local")

_PATHS = (*LOCAL, "memory")
_NO_USER = ("s3", "s3a", "gs", "gcs", "http", "https")
_WAYS = {
    "s3": "pip install 'memxlnet[s3]'",
    "s3a": "pip install 'memxlnet[s3]'",
    "gs": "pip install 'memxlnet[gs]'",
    "gcs": "pip install 'memxlnet[gs]'",
    "hf": "pip install huggingface_hub",
}


def check_options(value: object, name: str = "storage_options") -> dict[str, Any]:
    """Check the options of a store and return them as a dictionary.

    Args:
        value: The options.
        name: The argument, for messages.

    Raises:
        SettingsError: They are not a mapping of names.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        # The values may be credentials.
        raise SettingsError(f"{name}: expected a mapping of names to values, found a {type(value).__name__}")
    return dict(value)


def check_url(value: object, redact: Redactor, names: tuple[str, str]) -> tuple[str, str]:
    """Check an address, and return its scheme and the address.

    Args:
        value: The address.
        redact: Takes credentials out of texts.
        names: Of the arguments that hold the address and the options of its file system, for messages.

    Raises:
        SettingsError: It is not an address, of an unknown scheme, relative, or holds credentials, a query string or
            control characters.
    """
    name = names[0]
    if not isinstance(value, str):
        raise SettingsError(f"{name}: expected a string, found a {type(value).__name__}")
    _check_one_line(name, value)
    shown = redact(value)
    scheme, mark, rest = value.partition("://")
    if not mark:
        raise SettingsError(
            f"{name}: expected an address such as s3://bucket/cache, found {shown!r}; write file:// and an absolute "
            "path for a directory"
        )
    known = {*known_implementations, *registry}
    if scheme not in known:
        near = difflib.get_close_matches(scheme.lower(), known, n=3, cutoff=0.5) or ["s3", "gs", "hf", "file"]
        raise SettingsError(
            f"{name}: expected a scheme that fsspec knows, found {redact(scheme)!r}; the nearest are {', '.join(near)}"
        )
    _check_rest(scheme, rest, shown, names)
    # After the check for credentials, because its message shows the value.
    return scheme, check_text(name, value)


def _check_one_line(name: str, value: str) -> None:
    for place, character in enumerate(value):
        if unicodedata.category(character) in ("Cc", "Zl", "Zp"):
            # The rest may hold credentials.
            raise SettingsError(
                f"{name}: expected an address without control characters and line breaks, found U+{ord(character):04X} "
                f"as character {place + 1}; remove it"
            )


def overlap(
    url: str,
    directory: str | os.PathLike[str],
    name: str,
    options: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None] = (None, None),
) -> bool:
    """Return whether two places are one, or one lies within the other, whatever name of their scheme is used.

    Args:
        url: The checked address of the first.
        directory: A local directory or the address of one in a store, not checked yet.
        name: The argument that holds it, for messages.
        options: Of the two file systems. Places at two different endpoints that both name are apart.

    Raises:
        SettingsError: The directory is no path, or its address holds control characters.
    """
    scheme, _, rest = url.partition("://")
    if not isinstance(directory, str) or not is_url(directory):
        other, place = LOCAL[0], str(as_directory(name, directory))
    else:
        _check_one_line(name, directory)
        other, _, place = directory.partition("://")
    if scheme in LOCAL or other in LOCAL:
        return scheme in LOCAL and other in LOCAL and _nested(os.path.realpath(rest), os.path.realpath(place))
    protocols = file_system_class(scheme).protocol
    is_alias = other == scheme or (other in protocols if isinstance(protocols, tuple | list) else other == protocols)
    endpoints = {endpoint for each in options if (endpoint := _endpoint(each)) is not None}
    return is_alias and len(endpoints) < 2 and _nested(rest, place)


def _nested(one: str, other: str) -> bool:
    parts, others = (filter(None, path.split("/")) for path in (one, other))
    return all(part == found for part, found in zip(parts, others, strict=False))


def _endpoint(options: Mapping[str, Any] | None) -> str | None:
    """Return the address of the server that options name, where they do."""
    given: Any = options or {}
    found = given.get("endpoint_url") or (given.get("client_kwargs") or {}).get("endpoint_url")
    return None if found is None else str(found).rstrip("/")


def _check_rest(scheme: str, rest: str, shown: str, names: tuple[str, str]) -> None:
    name, options = names
    if not rest.strip("/"):
        raise SettingsError(f"{name}: expected the place of one cache, found {shown!r}; name the directory after it")
    if scheme in LOCAL and not rest.startswith("/"):
        raise SettingsError(f"{name}: expected an absolute path after {scheme}://, found {shown!r}")
    if scheme in LOCAL and scheme_within(rest):
        raise SettingsError(f"{name}: expected one scheme, found {shown!r}: it would name a directory like a URL")
    if scheme in _PATHS:
        return
    user, mark, _ = rest.partition("/")[0].rpartition("@")
    if mark and (":" in user or scheme in _NO_USER):
        raise SettingsError(
            f"{name}: expected no credentials in it, found some after {scheme}://; pass {options} or set the "
            "environment"
        )
    if "?" in rest:
        raise SettingsError(f"{name}: expected a directory, found a query string in {shown}; leave it out")


def file_system_class(scheme: str) -> Any:
    """Return the class of a known scheme's file system, loaded with its library.

    Raises:
        MissingLibraryError: The library is not installed.
    """
    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise missing_library(scheme, error) from error


def missing_library(scheme: str, error: ImportError) -> MissingLibraryError:
    """Return what to say where a scheme's library cannot be loaded."""
    way = _WAYS.get(scheme)
    found = str(error) or str(error.__cause__)
    return MissingLibraryError(
        f"{scheme}://: expected the library that serves it, found it missing or broken ({found})"
        + (f"; {way}" if way else "; install what it names")
    )
