"""A place in a store that holds one cache: the few things that a transfer asks of it, and one kind of error."""

import contextlib
import errno
import inspect
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from glob import has_magic
from pathlib import Path
from typing import Any, cast

import xxhash
from fsspec.callbacks import Callback
from fsspec.implementations.local import LocalFileSystem

from memxlnet.errors import MemxlnetError, SettingsError, TransferError
from memxlnet.format.paths import sync, write_file
from memxlnet.redaction import Redactor
from memxlnet.remote.addresses import check_options, check_url, file_system_class, missing_library
from memxlnet.remote.store_errors import (
    chain,
    is_absent,
    is_refused,
    is_taken,
    is_unknown_request,
    lacks_container,
    transfer_error,
)
from memxlnet.system_errors import cache_errors

BLOCK_BYTES = 8 << 20
"""Bytes of one read."""

BLOCKS_AT_ONCE = 8
"""Reads under way at once, where the file system is able to: with `BLOCK_BYTES` the bound on the RAM of a transfer."""

S3_PART_BYTES = 8 << 20
"""Bytes of one part of an upload; s3fs holds ten of them, and left to itself takes 50 MiB."""

MAX_MANIFEST_BYTES = 64 << 20
"""A manifest is small: some kilobytes, and about 150 bytes a shard."""

_S3_PARTS = 10_000

_WEB = ("http", "https")
_SENDING = ".sending"
_LEFT_SECONDS = 600.0

_CREATING = ("s3", "s3a", "gs", "gcs", "memory")
"""Schemes whose file systems write "unless it exists" in one request; others look first and write then."""

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class Store:
    """A place in a store.

    Args:
        file_system: What fsspec opened.
        scheme: The scheme of its address.
        root: The place, as the file system names it.
        url: Its address without credentials, for messages.
        redact: Takes credentials out of texts.
        has_options: Whether the user gave options.
        options_name: The argument that holds the options, for messages.
    """

    def __init__(
        self,
        file_system: Any,
        scheme: str,
        root: str,
        url: str,
        redact: Redactor,
        has_options: bool = False,
        options_name: str = "storage_options",
    ):
        self.url = url
        self._fs = file_system
        self._scheme = scheme
        self._root = root.rstrip("/")
        self._redact = redact
        self._is_local = isinstance(file_system, LocalFileSystem)
        self._are_options_unused = has_options
        self._options_name = options_name

    def child(self, name: str) -> "Store":
        """Return a directory within it as a place."""
        url = f"{self.url}/{self._redact(name)}"
        unused = self._are_options_unused
        return Store(self._fs, self._scheme, self._path(name), url, self._redact, unused, self._options_name)

    def entries(self) -> dict[str, int | None] | None:
        """Return what lies directly at the place: the size of each file, None for a directory; None where it is gone.

        An object store has no empty directories: one is gone.

        Raises:
            TransferError: The store cannot be asked, or has no such bucket or repository.
        """

        def look() -> Any:
            self._fs.invalidate_cache()  # a listing may be older than the files
            return self._fs.ls(self._root, detail=True)

        found = self._ask("", "listed", look, may_lack=True)
        if found is None:
            return None
        entries = {}
        for entry in found:
            name = str(entry["name"]).rstrip("/").rpartition("/")[2]
            is_self = str(entry["name"]).rstrip("/") == self._root  # a file, or the marker of a directory
            if name and not (is_self and entry.get("size") in (0, None)):
                entries[name] = None if entry.get("type") == "directory" else entry.get("size") or 0
        return entries

    def check_lists(self) -> None:
        """Check that the store lists and changes its files: a web server only serves them.

        Raises:
            SettingsError: It is a web server.
        """
        if self._scheme in _WEB:
            raise SettingsError(
                f"{self.url}: expected a store that lists and changes its files, found a web server, which serves "
                "files by their names only; memxlnet info and pull take the address of a cache there"
            )

    def size(self, name: str) -> int | None:
        """Return the size of a file as the store knows it now; None where there is no file.

        Raises:
            TransferError: The store cannot be asked, or has no such bucket or repository.
        """

        def look() -> Any:
            self._fs.invalidate_cache()  # a listing may be older than the file
            return self._fs.info(self._path(name))

        found = self._ask(name, "looked at", look, may_lack=True)
        if found is None or found.get("type") == "directory":
            return None
        size = found.get("size")
        if not isinstance(size, int):
            raise TransferError(f"{self.url}/{name}: expected its size, found none: this store cannot hold a cache")
        return size

    def read(self, name: str, most: int) -> bytes | None:
        """Return a small file as a whole; None where there is no file.

        Raises:
            TransferError: It cannot be read or is larger than `most` bytes.
        """
        size = self.size(name)
        if size is None:
            return None
        if size > most:
            raise TransferError(f"{self.url}/{name}: expected at most {most:,} bytes, found {size:,}; send it again")
        return b"".join(self.blocks(name, 0, size))

    @property
    def serves_threads(self) -> bool:
        """Whether several threads may ask at once: a file system without an event loop may have one connection."""
        return self._is_local or bool(self._fs.async_impl)

    def fetch(self, name: str, size: int) -> bytes | None:
        """Return a file whose size is known, with one request; None where there is no file.

        Raises:
            TransferError: It cannot be read, or is shorter.
        """
        found = self._ask(name, "read", self._fs.cat_file, self._path(name), start=0, end=size, may_lack=True)
        return None if found is None else self._whole(name, 0, size, found)

    def blocks(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes of a file from `start` to `stop`, in order, with bounded RAM.

        Raises:
            TransferError: It cannot be read, or fewer bytes came than were asked for.
        """
        if not self._fs.async_impl:
            yield from self._blocks_one_by_one(name, start, stop)
            return
        if self._scheme in _WEB and (start or stop - start > BLOCK_BYTES):
            self._check_serves_parts(name, stop)
        for first in range(start, stop, BLOCK_BYTES * BLOCKS_AT_ONCE):
            starts = list(range(first, min(stop, first + BLOCK_BYTES * BLOCKS_AT_ONCE), BLOCK_BYTES))
            stops = [min(at + BLOCK_BYTES, stop) for at in starts]
            found = self._ask(name, "read", self._ranges, self._path(name), starts, stops)
            for at, end in zip(starts, stops, strict=True):
                yield self._whole(name, at, end, found.pop(0))

    def digest(self, name: str, size: int) -> str:
        """Return the checksum of the first `size` bytes of a file, read back.

        Raises:
            TransferError: It cannot be read.
        """
        state = xxhash.xxh3_128()
        for block in self.blocks(name, 0, size):
            state.update(block)
        return state.hexdigest()

    def send(self, local: Path, name: str, report: Callable[[int], Any]) -> None:
        """Send a file.

        Args:
            local: The file.
            name: Its name at the place.
            report: Called with the number of bytes that have gone so far, from any thread.

        Raises:
            CacheOSError: It cannot be read.
            TransferError: It cannot be sent.
        """
        with cache_errors(local, "read"):
            size = local.stat().st_size
        options: dict[str, Any] = {"callback": Callback(hooks={"report": lambda size, value, **_: report(value)})}
        if self._scheme in ("s3", "s3a"):
            options["chunksize"] = max(S3_PART_BYTES, math.ceil(size / _S3_PARTS))
        self._put(name, lambda path: self._fs.put_file(str(local), path, **options))

    def put(self, name: str, content: bytes) -> None:
        """Write bytes whose checksum whoever reads them compares.

        Raises:
            TransferError: They cannot be written.
        """
        self._put(name, lambda path: self._fs.pipe_file(path, content))

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, and check that it arrived.

        Raises:
            TransferError: It cannot be written, or other bytes arrived.
        """
        self.put(name, content)
        found = self.read(name, most=len(content))
        if found != content:
            raise TransferError(
                f"{self.url}/{name}: expected the {len(content):,} bytes that were sent, found "
                f"{'no file' if found is None else 'others'}; send the cache again"
            )

    def create(self, name: str, content: bytes) -> bool | None:
        """Write a small file unless there is one; never in the place of another.

        Returns:
            Whether it was written; None where the store has no such request.

        Raises:
            TransferError: It cannot be written.
        """
        if self._is_local:
            return cast(bool | None, self._ask(name, "written", self._link, self._path(name), content))
        if not self._has_create:
            return None
        outer = sys.exception()

        def create() -> bool | None:
            try:
                if not self._fs.async_impl:
                    self._fs.makedirs(self._root, exist_ok=True)
                self._fs.pipe_file(self._path(name), content, mode="create")
            except Exception as error:
                errors = chain(error, outer)
                if is_taken(errors):
                    return False
                if is_unknown_request(errors):
                    return None
                raise
            return True

        return cast(bool | None, self._ask(name, "written", create))

    @property
    def _has_create(self) -> bool:
        """Whether the file system makes one request of "write unless it exists", as far as is known of its class."""
        write = self._fs._pipe_file if self._fs.async_impl else self._fs.pipe_file
        return self._scheme in _CREATING and "mode" in inspect.signature(write).parameters

    def _link(self, path: str, content: bytes) -> bool | None:
        """Give a local file its name, unless that is taken."""
        self._fs.makedirs(self._root, exist_ok=True)
        temporary = _temporary(path)
        try:
            write_file(temporary, content)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno in _NO_LINKS:
                    return None
                raise
            sync(temporary.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def remove(self, name: str) -> None:
        """Remove a file, if it exists.

        Raises:
            TransferError: It cannot be removed.
        """
        self._ask(name, "removed", self._fs.rm_file, self._path(name), may_lack=True)
        self._fs.invalidate_cache()

    def remove_all(self, names: Collection[str]) -> None:
        """Remove files, those that exist, with few requests.

        Raises:
            TransferError: One cannot be removed.
        """
        paths = [self._path(name) for name in names]
        if paths and self._fs.async_impl and not has_magic(self._root):  # patterns would be expanded
            # Some stores lack the request, and s3fs reports nothing that stays.
            with contextlib.suppress(TransferError):
                self._ask("", "removed", self._fs.rm, paths, may_lack=True)
            names = (self.entries() or {}).keys() & set(names)
        for name in names:
            self.remove(name)

    def remove_leftovers(self) -> None:
        """Remove what killed senders left at a local place: files under way that nobody has written to for long."""
        if self._is_local:
            with contextlib.suppress(OSError):
                for path in Path(self._root).glob(f"*{_SENDING}"):
                    if path.stat().st_mtime < time.time() - _LEFT_SECONDS:
                        path.unlink()

    def remove_directory(self) -> None:
        """Remove the place itself, which must be empty, where the file system has directories of their own.

        Raises:
            TransferError: It cannot be removed.
        """
        if not self._fs.async_impl:
            self._ask("", "removed", self._fs.rmdir, self._root, may_lack=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _check_serves_parts(self, name: str, size: int) -> None:
        """Check that a web server answers with the requested part, not with the whole file each time."""

        def serves_parts() -> bool:
            # The file object alone gives up before it reads more than was requested.
            with self._fs.open(self._path(name), "rb", size=size, cache_type="none") as file:
                file.seek(1)
                try:
                    return len(file.read(1)) == 1
                except ValueError:
                    return False

        if not self._ask(name, "read", serves_parts):
            raise TransferError(
                f"{self.url}/{name}: expected a server that serves parts of files (HTTP range requests), found one "
                "that does not; use another server, or fetch the files otherwise and pull from file://"
            )

    def _ranges(self, path: str, starts: list[int], stops: list[int]) -> list[bytes]:
        found: list[Any] = self._fs.cat_ranges([path] * len(starts), starts, stops, on_error="raise")
        for block in found:
            if isinstance(block, BaseException):  # older releases of fsspec return them whatever is asked
                raise block
        return found

    def _blocks_one_by_one(self, name: str, start: int, stop: int) -> Iterator[bytes]:
        if start >= stop:
            return
        # Without a cache: it would read ahead what is never used.
        with self._ask(name, "opened", self._fs.open, self._path(name), "rb", cache_type="none") as file:
            self._ask(name, "read", file.seek, start)
            for at in range(start, stop, BLOCK_BYTES):
                end = min(at + BLOCK_BYTES, stop)
                yield self._whole(name, at, end, self._ask(name, "read", file.read, end - at))

    def _whole(self, name: str, start: int, stop: int, block: bytes) -> bytes:
        if len(block) != stop - start:
            raise TransferError(
                f"{self.url}/{name}: expected {stop - start:,} bytes from byte {start:,} on, found {len(block):,}; try "
                "again, and where it stays so send the cache again"
            )
        return block

    def _put(self, name: str, put: Callable[[str], Any]) -> None:
        def write() -> None:
            if not self._fs.async_impl:  # a file system with directories; object stores would make a bucket
                self._fs.makedirs(self._root, exist_ok=True)
            path = self._path(name)
            if self._is_local:
                # A process may have mapped the file that lies there, and a kill must not leave half a manifest.
                temporary = _temporary(path)
                put(str(temporary))
                sync(temporary)
                temporary.replace(path)
                sync(temporary.parent)
            else:
                put(path)

        self._ask(name, "written", write)

    def _ask(
        self, name: str, what: str, call: Callable[..., Any], *args: Any, may_lack: bool = False, **kw: Any
    ) -> Any:
        """Ask the file system, and raise its errors as `TransferError`; None where a file may be missing and is."""
        outer = sys.exception()
        failure: MemxlnetError
        try:
            answer = call(*args, **kw)
            self._are_options_unused = False
            return answer
        except (MemxlnetError, MemoryError):
            raise
        except Exception as error:
            errors = chain(error, outer)
            if may_lack and is_absent(errors) and not lacks_container(errors):
                self._are_options_unused = False
                return None
            subject = f"{self.url}/{name}".rstrip("/")
            failure, cause = transfer_error(subject, what, errors, self._redact, self._options_name)
            if isinstance(error, TypeError) and self._are_options_unused:
                failure = _refused_options(self._options_name, self._scheme, error, self._redact)
        # Out here, because the error that is being handled would stay its context, credentials and all.
        raise failure from cause


def _temporary(path: str) -> Path:
    """Return a name for a file on its way to a local place; several processes may send at once."""
    return Path(f"{path}.{secrets.token_hex(8)}{_SENDING}")


def _refused_options(name: str, scheme: str, error: Exception, redact: Redactor) -> SettingsError:
    return SettingsError(
        f"{name}: expected options of {scheme}://, found some that it refuses ({redact(str(error))}); correct "
        "or leave out what it names"
    )


def open_store(
    url: str, storage_options: Mapping[str, Any] | None, names: tuple[str, str] = ("url", "storage_options")
) -> Store:
    """Open the place of a cache.

    Args:
        url: Its address: a scheme that fsspec knows and a path, taken as it is, without percent-decoding.
        storage_options: Options of the file system, such as credentials; never shown. None leaves them to the
            environment.
        names: Of the two arguments above where the user gave them, for messages.

    Raises:
        SettingsError: An argument is wrong.
        MissingLibraryError: The scheme's library is not installed.
        TransferError: The file system cannot be opened.
    """
    options = check_options(storage_options, names[1])
    redact = Redactor(options)
    scheme, url = check_url(url, redact, names)
    address = redact(url.rstrip("/"))
    kind = file_system_class(scheme)
    outer = sys.exception()
    failure: MemxlnetError
    try:
        # An instance of its own: a shared one may hold old listings, and would keep the credentials.
        arguments = {**kind._get_kwargs_from_urls(url), **options, "skip_instance_cache": True}
        return Store(kind(**arguments), scheme, kind._strip_protocol(url), address, redact, bool(options), names[1])
    except ImportError as error:
        raise missing_library(scheme, error) from error
    except Exception as error:
        errors = chain(error, outer)
        failure, cause = transfer_error(address, "opened", errors, redact, names[1])
        if isinstance(error, TypeError | ValueError) and not is_refused(errors):
            failure = _refused_options(names[1], scheme, error, redact)
    raise failure from cause
