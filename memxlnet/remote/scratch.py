"""A store through which the chunks of a build travel, so that neither a worker nor a builder that dies loses one.

A build has a directory of its own in it, named like its cache, with the packed encoder and, for each attempt at a
chunk, its file and then its receipt. Only chunks with a receipt count, and only after their checksum and the
digest of their examples were compared: a listing that lacks the newest objects costs encoding again and nothing else.

A builder removes them once its cache is published, or the next one on its machine where it was killed before that. What
a lost worker sends later, or a machine leaves that is gone, stays until a build of the same cache is published: it
looks like what a build on another machine needs.
"""

import logging
import os
import re
import secrets
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from memxlnet.builder.build_directory import BuildDirectory
from memxlnet.builder.chunk_files import ChunkReceipt, chunk_content, store_chunk
from memxlnet.builder.deliveries import Task, encode_with, keep_packed, packed_encoder, receipt_of
from memxlnet.builder.reported_errors import error_fields
from memxlnet.errors import BuildError, CacheError, SettingsError, TransferError
from memxlnet.format.checksums import digest
from memxlnet.format.sealed_json import seal, unseal
from memxlnet.remote.addresses import check_options, overlap
from memxlnet.remote.stores import MAX_MANIFEST_BYTES, Store, open_store

logger = logging.getLogger(__name__)

_ARGUMENTS = ("scratch", "scratch_options")
_FORMAT = "memxlnet chunk receipt"
_VERSION = ("receipt_version", 3)
_RECEIPT = re.compile(r"(\d{8})\.([0-9a-f]{32})\.([0-9a-f]{16})\.json")
_OURS = re.compile(r"\.?(encoder|\d{8})\.")
_MOST_RECEIPT_BYTES = 1 << 16
_MOST_ATTEMPTS = 3


class _Options(dict[str, Any]):
    """Options of a file system; executors show the arguments of calls, and these may be credentials."""

    def __repr__(self) -> str:
        return f"<{len(self)} options>"


class Scratch:
    """A place in a store for the chunks of builds.

    Args:
        url: Its address: a scheme that fsspec knows and a path.
        options: Options of the file system, such as credentials; never stored or shown.

    Raises:
        SettingsError: An argument is wrong.
        MissingLibraryError: The scheme's library is not installed.
        TransferError: The file system cannot be opened.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None):
        self._store = open_store(url, options, _ARGUMENTS)
        self._url = url
        self.url = self._store.url
        """The address without credentials, for messages."""
        self._options = _Options(options or {})

    def of_build(self, name: str, fingerprint: str, directory: Path) -> "BuildScratch":
        """Return the place of one build, and write its encoder there.

        Args:
            name: The directory name of its cache.
            fingerprint: The fingerprint of its settings.
            directory: Its local directory, which is prepared.

        Raises:
            TransferError: The store cannot be asked or written.
        """
        return BuildScratch(
            self._store.child(name), f"{self._url.rstrip('/')}/{name}", self._options, fingerprint, directory
        )

    def remove(self, name: str) -> None:
        """Remove all that a build has there, and nothing else: a cache may lie in the same place.

        Args:
            name: The directory name of its cache.

        Raises:
            TransferError: It cannot be removed.
        """
        place = self._store.child(name)
        found = place.entries() or {}
        ours = [entry for entry, size in found.items() if size is not None and _OURS.match(entry)]
        place.remove_all(ours)
        if len(ours) == len(found):
            place.remove_directory()


class BuildScratch:
    """The place of one build in a scratch store, and the way of its chunks through it.

    Args:
        store: The place.
        url: Its address.
        options: Options of its file system.
        fingerprint: The fingerprint of the build's settings.
        directory: The build's local directory.
    """

    def __init__(self, store: Store, url: str, options: Mapping[str, Any], fingerprint: str, directory: Path):
        build = self._build = BuildDirectory(directory)
        self._store = store
        self.overlaps = store.serves_threads
        self._place = (url, options, fingerprint)
        self._fingerprint = fingerprint
        encoder = build.pack_encoder()
        self._digest = digest(encoder)
        self._receipts: defaultdict[int, list[str]] = defaultdict(list)
        self._attempts: defaultdict[int, int] = defaultdict(int)
        found = store.entries() or {}
        for entry in found:
            if match := _RECEIPT.fullmatch(entry):
                self._receipts[int(match[1])].append(entry)
        if self._receipts:
            logger.info("%s: %d chunks of an interrupted build are there", store.url, len(self._receipts))
        self._encoder = encoder
        self._write_encoder()

    def task(self, index: int, packed: bytes, part_cost: int) -> Task:
        """Return `encode_into_scratch` and its arguments."""
        return (encode_into_scratch, *self._place, self._digest, index, packed, part_cost, os.getpid())

    def take(self, index: int, examples: str, result: Mapping[str, Any]) -> ChunkReceipt | None:
        """Fetch a chunk that a worker put into the store; None to have it encoded again where it is not there.

        Another builder of the same cache that is done removes the chunks and the encoder: both are made again.

        Raises:
            TransferError: The store cannot be asked, or repeatedly lacks what workers put there.
            BuildError: The answer is another than that of the chunk, or the bytes are others.
        """
        if "needs" in result:
            missing = f"the encoder of chunk {index}, which this process"
            self._write_encoder()
        else:
            receipt = receipt_of(index, examples, result)
            if self._fetch(receipt, _chunk_name(receipt, f"{result.get('attempt')}")):
                return receipt
            missing = f"chunk {index}, which workers"
        self._attempts[index] += 1
        if self._attempts[index] < _MOST_ATTEMPTS:
            logger.warning("%s: missing is %s put there: made again", self._store.url, missing)
            return None
        raise TransferError(
            f"{self._store.url}: expected {missing} put there {_MOST_ATTEMPTS} times, found no "
            "file; check that all workers and this process reach the same store; finished chunks are kept"
        )

    def _write_encoder(self) -> None:
        # A foreign file of that name would be found by its digest; here it is put right.
        self._store.write(_encoder_name(self._digest), self._encoder)

    def has(self, index: int) -> bool:
        """Return whether an interrupted build left a receipt of a chunk; nothing is read."""
        return index in self._receipts

    def find(self, index: int, examples: str) -> ChunkReceipt | None:
        """Fetch a chunk that an interrupted build finished; None where one of these examples is missing.

        Args:
            index: Number of the chunk.
            examples: Digest of its examples.

        Raises:
            TransferError: The store cannot be asked.
            BuildOSError: The disk is full or cannot be written.
        """
        with self._build.errors():
            for name in self._receipts.pop(index, []):
                try:
                    content = self._store.read(name, _MOST_RECEIPT_BYTES)
                    receipt = None if content is None else self._fetched(name, content, examples)
                    if receipt is not None:
                        return receipt
                except (BuildError, CacheError) as error:
                    logger.info("%s/%s: not used: %s", self._store.url, name, error)
        return None

    def _fetched(self, name: str, content: bytes, examples: str) -> ChunkReceipt | None:
        """Fetch the chunk of a receipt that an interrupted build left; None where it is another, or not whole."""
        path = f"{self._store.url}/{name}"
        fields = unseal(content, path, "the receipt of a chunk", _FORMAT, _VERSION, "delete it")
        if fields.pop("fingerprint", None) != self._fingerprint:
            logger.info("%s: not used, it is of a build with other settings", path)
            return None
        receipt = receipt_of(int(name[:8]), examples, fields)
        chunk = _chunk_name(receipt, name.split(".")[2])
        found = self._store.size(chunk)
        if found != receipt.bytes:
            shown = "no file" if found is None else found
            raise BuildError(f"expected {chunk} with {receipt.bytes} bytes, found {shown}")
        return receipt if self._fetch(receipt, chunk) else None

    def send(self, receipt: ChunkReceipt) -> None:
        """Send a chunk that lies in the local directory.

        Raises:
            TransferError: It cannot be sent.
            BuildOSError: It cannot be read.
        """
        with self._build.errors("read"):
            content = chunk_content(self._build.chunks, receipt)
        _send(self._store, receipt, content, self._fingerprint)

    def forget(self) -> None:
        """Use none of the chunks that an interrupted build left."""
        self._receipts.clear()

    def _fetch(self, receipt: ChunkReceipt, name: str) -> bool:
        """Write the file of a chunk into the local directory; whether it is in the store."""
        content = self._store.fetch(name, receipt.bytes)
        if content is not None:
            store_chunk(self._build.chunks, receipt, content)
        return content is not None


def _encoder_name(encoder_digest: str) -> str:
    return f"encoder.{encoder_digest}.json"


def _chunk_name(receipt: ChunkReceipt, attempt: str) -> str:
    return f"{receipt.file.removesuffix('.chunk')}.{attempt}.chunk"


def _send(store: Store, receipt: ChunkReceipt, content: bytes, fingerprint: str) -> str:
    """Put a chunk into a store, and then its receipt; return the name of the attempt."""
    attempt = secrets.token_hex(8)
    fields = {"format": _FORMAT, _VERSION[0]: _VERSION[1], "fingerprint": fingerprint}
    sealed = seal({**fields, "receipt": asdict(receipt)})
    store.put(_chunk_name(receipt, attempt), content)
    store.put(f"{receipt.file.removesuffix('.chunk')}.{attempt}.json", sealed)
    return attempt


def open_scratch(
    url: str | None,
    options: Mapping[str, Any] | None,
    cache_dir: str | os.PathLike[str],
    work_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Scratch | None:
    """Return the scratch store of a call's arguments, or None.

    Args:
        url: Its address.
        options: Options of its file system.
        cache_dir: Where the caches go, here or in a store: a place beside it.
        work_dir: Where those are built that go to a store: a place beside it as well.
        storage_options: Options of the file system of `cache_dir`.

    Raises:
        SettingsError: An argument is wrong.
        MissingLibraryError: The scheme's library is not installed.
        TransferError: The file system cannot be opened.
    """
    if url is None:
        if options is not None:
            raise SettingsError("scratch_options: expected none without scratch; leave them out, or set scratch")
        return None
    scratch = Scratch(url, options)
    both = options, check_options(storage_options)
    for name, directory in (("cache_dir", cache_dir), ("work_dir", work_dir)):
        if directory is not None and overlap(url, directory, name, both):
            raise SettingsError(
                f"scratch: expected another place than {name}, neither within nor around it, found {scratch.url}; name "
                "a directory of its own"
            )
    return scratch


_lock = threading.Lock()


_stores: dict[tuple[int, str], tuple[_Options, Store]] = {}


def _store_of(url: str, options: Mapping[str, Any]) -> Store:
    """Return the store of a build, opened once for each process."""
    key = (os.getpid(), url)
    with _lock:
        if key not in _stores or _stores[key][0] != options:
            _stores.clear()
            _stores[key] = _Options(options), open_store(url, options, _ARGUMENTS)
        return _stores[key][1]


def encode_into_scratch(
    url: str,
    options: Mapping[str, Any],
    fingerprint: str,
    encoder_digest: str,
    index: int,
    packed: bytes,
    part_cost: int,
    builder: int,
) -> dict[str, Any]:
    """Encode one chunk, and put its file and then its receipt into a store. Runs in a worker.

    Args:
        url: The place of the build.
        options: Options of its file system.
        fingerprint: The fingerprint of the build's settings.
        encoder_digest: Digest of the packed encoder, which lies in the store.
        index: Number of the chunk.
        packed: Its examples.
        part_cost: As of `encode_chunk`.
        builder: As of `encode_chunk`.

    Returns:
        ``receipt`` and ``attempt``; or ``needs``, where the encoder is missing; or the fields of an error.
    """
    try:
        store = _store_of(url, options)
        encoder = packed_encoder(encoder_digest)
        if encoder is None:
            encoder = store.read(_encoder_name(encoder_digest), MAX_MANIFEST_BYTES)
            if encoder is None:
                return {"needs": encoder_digest}
            if digest(encoder) != encoder_digest:
                raise BuildError(
                    f"{store.url}/{_encoder_name(encoder_digest)}: expected the encoder of the build, found other "
                    "bytes; check that all workers reach the same store"
                )
            keep_packed(encoder_digest, encoder)
        result = encode_with(encoder_digest, encoder, index, packed, part_cost, builder)
        if "error" in result:
            return result
        attempt = _send(store, ChunkReceipt(**result["receipt"]), result["chunk"], fingerprint)
        return {"receipt": result["receipt"], "attempt": attempt}
    except BaseException as error:
        return error_fields(error)
