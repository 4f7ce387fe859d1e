"""The address of a cache in a store, and its file system."""

import difflib
from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec.registry import known_implementations, registry

from memxlnet.errors import MissingLibraryError, SettingsError
from memxlnet.format.paths import scheme_within
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


def check_options(value: object) -> dict[str, Any]:
    """Check the options of a store and return them as a dictionary.

    Raises:
        SettingsError: They are not a mapping of names.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        # The values may be credentials.
        raise SettingsError(f"storage_options: expected a mapping of names to values, found a {type(value).__name__}")
    return dict(value)


def check_url(value: object, redact: Redactor) -> tuple[str, str]:
    """Check an address, and return its scheme and the address.

    Raises:
        SettingsError: It is not an address, of an unknown scheme, relative, or holds credentials or a query string.
    """
    if not isinstance(value, str):
        raise SettingsError(f"url: expected a string, found a {type(value).__name__}")
    shown = redact(value)
    scheme, mark, rest = value.partition("://")
    if not mark:
        raise SettingsError(
            f"url: expected an address such as s3://bucket/cache, found {shown!r}; write file:// and an absolute path "
            "for a directory"
        )
    known = {*known_implementations, *registry}
    if scheme not in known:
        near = difflib.get_close_matches(scheme.lower(), known, n=3, cutoff=0.5) or ["s3", "gs", "hf", "file"]
        raise SettingsError(
            f"url: expected a scheme that fsspec knows, found {redact(scheme)!r}; the nearest are {', '.join(near)}"
        )
    _check_rest(scheme, rest, shown)
    # After the check for credentials, because its message shows the value.
    return scheme, check_text("url", value)


def _check_rest(scheme: str, rest: str, shown: str) -> None:
    if not rest.strip("/"):
        raise SettingsError(f"url: expected the place of one cache, found {shown!r}; name the directory after it")
    if scheme in LOCAL and not rest.startswith("/"):
        raise SettingsError(f"url: expected an absolute path after {scheme}://, found {shown!r}")
    if scheme in LOCAL and scheme_within(rest):
        raise SettingsError(f"url: expected one scheme, found {shown!r}: it would name a directory like a URL")
    if scheme in _PATHS:
        return
    user, mark, _ = rest.partition("/")[0].rpartition("@")
    if mark and (":" in user or scheme in _NO_USER):
        raise SettingsError(
            f"url: expected no credentials in it, found some in {shown}; pass storage_options or set the environment"
        )
    if "?" in rest:
        raise SettingsError(f"url: expected a directory, found a query string in {shown}; leave it out")


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
