"""Files in stores, by their URL: opened through fsspec and read as streams."""

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from fsspec.core import url_to_fs
from fsspec.registry import known_implementations, registry

from memxlnet.errors import MemxlnetError, MissingLibraryError, SettingsError, SourceError, SourceNotFoundError
from memxlnet.redaction import Redactor, safe_cause
from memxlnet.sources.listing import is_data_file, is_glob, split_words

_MARKS = ("ETag", "etag", "md5Hash", "crc32c", "sha256", "blob_id", "Content-MD5", "Digest")
"""What stores report of the bytes of a file; where one reports none of these, they are read."""

_READ_BYTES = 1 << 22


class RemoteFile:
    """A file in a store.

    Args:
        file_system: The store.
        path: The file, as the file system names it.
        url: Its URL without credentials, for messages.
        redact: Takes credentials out of texts.
    """

    def __init__(self, file_system: Any, path: str, url: str, redact: Redactor):
        self._file_system = file_system
        self._name = path
        self._url = url
        self._redact = redact
        self.path = Path(PurePosixPath(path.partition("?")[0]).name)
        self._mark: str | None = None
        self._info: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        return self._url

    @property
    def place(self) -> str:
        """The file as its file system names it."""
        return f"{type(self._file_system).__name__}:{self._name}"

    def open(self) -> BinaryIO:
        """Open the file as a stream."""
        with _reading(self._url, self._redact):
            return io.BufferedReader(_Guarded(self._file_system.open(self._name, "rb"), self._redact), _READ_BYTES)

    def mark(self) -> str:
        """Return what the store reports of its bytes, or their digest."""
        if self._mark is None:
            self._info = self._asked()
            self._mark = _mark_of(self._info) or self._digest()
        return self._mark

    def provenance(self) -> dict[str, Any]:
        """Return URL and size."""
        size = (self._info or {}).get("size")
        return {"url": self._url, **({"size": size} if isinstance(size, int) else {})}

    def check_unchanged(self) -> None:
        """Raise where the store reports another mark, or other size or times."""
        now = self._asked()
        before = self._info or {}
        keys = ("size", "mtime", "created", "LastModified", "last_modified", *_MARKS)
        differing = [key for key in keys if before.get(key) != now.get(key)]
        if differing:
            raise SourceError(
                f"{self._url}: expected the file to stay as it is while it is read, found another "
                f"{', '.join(differing)}; start again when nothing writes to it"
            )

    def _asked(self) -> Mapping[str, Any]:
        with _reading(self._url, self._redact):
            self._file_system.invalidate_cache()
            found: Mapping[str, Any] = self._file_system.info(self._name)
        return found

    def _digest(self) -> str:
        digest = hashlib.sha256()
        with _reading(self._url, self._redact), self.open() as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
        return digest.hexdigest()


class _Guarded(io.RawIOBase):
    """The bytes of a file in a store, whose errors of any class become `OSError`."""

    def __init__(self, file: Any, redact: Redactor):
        self._file = file
        self._redact = redact

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._errors():
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        with self._errors():
            block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            text = f"{type(error).__name__}: {self._redact(str(error))}"
            raise OSError(text) from safe_cause(error, self._redact)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def is_url(name: object) -> bool:
    """Return whether a name is the URL of a file in a store."""
    return isinstance(name, str) and "://" in name


def find_urls(url: str, token: str | None = None) -> list[RemoteFile]:
    """Return the file of a URL, all that a glob in it fits, or all below a directory, sorted by their names.

    Args:
        url: The URL.
        token: Credentials for the Hub, for ``hf://``.

    Raises:
        SettingsError: No scheme of it is known to fsspec.
        MissingLibraryError: The library that serves it is not installed.
        SourceNotFoundError: There is no such file.
        SourceError: The store cannot be reached, or refuses.
    """
    scheme = url.partition("://")[0]
    shown, redact = shown_url(url), Redactor({"secrets": _secrets(url)})
    if scheme not in {*known_implementations, *registry}:
        raise SettingsError(f"source: expected a scheme that fsspec knows, found {scheme!r} in {shown!r}")
    options = {"token": token} if scheme == "hf" and token else {}
    with _reading(shown, redact):
        file_system, path = url_to_fs(url, **options)
        if scheme in ("http", "https"):
            return [RemoteFile(file_system, path, shown, redact)]
        if is_glob(path):
            found = [name for name in file_system.glob(path) if not file_system.isdir(name)]
        elif file_system.isdir(path):
            found = [name for name in file_system.find(path) if is_data_file(name[len(path) :])]
            _check_one_split(shown, [name[len(path) :] for name in found])
        else:
            return [RemoteFile(file_system, path, shown, redact)]
        if not found:
            raise FileNotFoundError(f"no file fits {shown}")
        return [
            RemoteFile(file_system, name, shown_url(file_system.unstrip_protocol(name)), redact)
            for name in sorted(found)
        ]


def _check_one_split(shown: str, names: list[str]) -> None:
    words = split_words(names)
    if len(words) > 1:
        found = ", ".join(repr(word) if word else "none" for word in sorted(words))
        raise SourceError(
            f"{shown}: expected the files of one split in the directory, found names with {found}; name the files of "
            "one, as a glob or a list"
        )


def shown_url(url: str) -> str:
    """Return a URL without user, query and fragment, which may hold credentials."""
    scheme, _, rest = url.partition("://")
    is_chained = "://" in rest
    if scheme in _LOCAL and not is_chained:
        return url
    if scheme == "hf" and not is_chained:
        return f"{scheme}://{_QUERY.split(rest)[0]}"
    # A URL may be chained to another one: zip://file::https://user@host/archive.
    return f"{scheme}://" + "://".join(_QUERY.split(_USER.sub("", part))[0] for part in rest.split("://"))


_LOCAL = ("file", "memory", "local")

# Up to the last @ of a host without a path, or of a user and a password, which may hold any character.
_USER = re.compile(r"^(?:[^/]*|[^/@:]*:(?!\d+/)[^@]*)@")

_QUERY = re.compile("[?#;]")


def _secrets(url: str) -> list[str]:
    """Return the user, its parts, and the values of the query of a URL."""
    users = [found.group()[:-1] for part in url.split("://")[1:] if (found := _USER.match(part))]
    query = url.partition("?")[2] if not url.startswith(tuple(f"{scheme}://" for scheme in _LOCAL)) else ""
    values = [pair.partition("=")[2] for pair in re.split("[&;]", query)]
    return [text for text in (*users, *(part for user in users for part in user.split(":")), query, *values) if text]


def _mark_of(info: Mapping[str, Any]) -> str:
    """Return what a store reports of the bytes of a file, as one text."""
    return ", ".join(f"{key}={info[key]}" for key in _MARKS if isinstance(info.get(key), str))


@contextmanager
def _reading(url: str, redact: Redactor) -> Iterator[None]:
    try:
        yield
    except MemxlnetError:
        raise
    except ImportError as error:
        raise MissingLibraryError(f"{url}: expected the library that serves it, found it missing: {error}") from error
    except Exception as error:  # each store has errors of its own
        cause, reason = safe_cause(error, redact), redact(str(error))
        if not isinstance(error, FileNotFoundError):
            raise SourceError(f"{url}: cannot be read: {type(error).__name__}: {reason}") from cause
        if error.__cause__ is not None and getattr(error.__cause__, "status", None) not in (404, 410):
            # fsspec gives this error for any failure over HTTP.
            reason = f"{type(error.__cause__).__name__}: {redact(str(error.__cause__))}"
            raise SourceError(f"{url}: cannot be read: {reason}") from cause
        raise SourceNotFoundError(f"{url}: no such file in the store: {reason}") from cause
