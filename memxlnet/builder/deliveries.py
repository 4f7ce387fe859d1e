"""How an encoded chunk comes from a worker of an executor into the build's directory.

Workers that see the directory write into it. Others give the bytes of the chunk's file back through the future. A
store between them is a third way; see `memxlnet.remote.scratch`. Each answer of a worker is a dictionary with one of
`ANSWERS`; no exception crosses processes.
"""

import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from memxlnet.builder.build_directory import BuildDirectory, unpack_encoder
from memxlnet.builder.chunk_encoding import encode_chunk, encoded, kept_encoder
from memxlnet.builder.chunk_files import ChunkReceipt, chunk_bytes, store_chunk
from memxlnet.builder.reported_errors import error_fields
from memxlnet.errors import BuildError
from memxlnet.format.checksums import digest
from memxlnet.format.paths import write_durably

ANSWERS = frozenset({"receipt", "error", "unseen", "needs"})
"""What an answer holds: the receipt of a chunk, the fields of an error, a directory that the worker does not see, or
the digest of an encoder that it lacks."""

Task = tuple[Callable[..., dict[str, Any]], *tuple[Any, ...]]

_KEPT_ENCODERS = 2
_packed_encoders: OrderedDict[str, bytes] = OrderedDict()


class Delivery(Protocol):
    """One way of chunks from the workers of an executor into the build's directory."""

    @property
    def overlaps(self) -> bool:
        """Whether `take` of an answer with a receipt takes long, and may run in several threads at once."""

    def task(self, index: int, packed: bytes, part_cost: int) -> Task:
        """Return what a worker is to call, and the arguments."""

    def take(self, index: int, examples: str, result: Mapping[str, Any]) -> ChunkReceipt | None:
        """Put the chunk of an answer into the directory, checked; None to hand the chunk over again.

        Args:
            index: Number of the chunk that was handed over.
            examples: Digest of its examples.
            result: The answer.

        Raises:
            BuildError: The answer is another than that of the chunk.
            OSError: The disk is full or cannot be written.
        """


class BuildScratch(Delivery, Protocol):
    """The place of one build in a scratch store; see `memxlnet.remote.scratch`."""

    def has(self, index: int) -> bool:
        """Return whether an interrupted build left a receipt of a chunk."""

    def find(self, index: int, examples: str) -> ChunkReceipt | None:
        """Fetch a chunk of an interrupted build, of these examples; None where it is missing.

        Raises:
            BuildOSError: The disk is full or cannot be written.
        """

    def send(self, receipt: ChunkReceipt) -> None:
        """Send a chunk that lies in the build's directory."""

    def forget(self) -> None:
        """Use none of the chunks of an interrupted build."""


class Scratch(Protocol):
    """A store for the chunks of builds while they run."""

    def of_build(self, name: str, fingerprint: str, directory: Path) -> BuildScratch:
        """Return the place of one build, whose local directory is prepared."""

    def remove(self, name: str) -> None:
        """Remove all that a build has there."""


def receipt_of(index: int, examples: str, result: Mapping[str, Any]) -> ChunkReceipt:
    """Return the receipt of an answer.

    Raises:
        BuildError: It is missing, or that of another chunk.
    """
    try:
        receipt = ChunkReceipt(**result["receipt"])
        receipt.check_types()
    except (KeyError, TypeError):
        raise BuildError(f"chunk {index}: expected the receipt of a worker, found {result!r:.80}") from None
    if receipt.index != index:
        raise BuildError(f"chunk {index}: expected its receipt, found that of chunk {receipt.index}; build again")
    if receipt.examples != examples:
        raise BuildError(
            f"chunk {index}: expected examples with the digest {examples}, found {receipt.examples!r}; build again"
        )
    return receipt


class SharedDirectory:
    """Workers write chunk files into the build's directory themselves.

    The directory holds a file with a random name for as long as nothing else is known: a worker may see a directory of
    the same path that is another one.

    Args:
        directory: The build's directory.
    """

    def __init__(self, directory: Path):
        self.overlaps = False
        self._chunks = BuildDirectory(directory).chunks
        token = secrets.token_hex(16)
        for old in directory.glob(f"{_TOKEN}*"):
            old.unlink()
        write_durably(directory / f"{_TOKEN}{token}", b"")
        self.place = (str(directory), token)
        """What `sees` takes."""

    def task(self, index: int, packed: bytes, part_cost: int) -> Task:
        """Return `encode_where_seen` and its arguments."""
        return (encode_where_seen, *self.place, index, packed, part_cost, os.getpid())

    def take(self, index: int, examples: str, result: Mapping[str, Any]) -> ChunkReceipt | None:
        """Return the receipt; the file lies there."""
        return receipt_of(index, examples, result)


_TOKEN = "seen-by-workers."


def sees(directory: str, token: str) -> dict[str, Any]:
    """Return whether this process sees a build's directory and may write into it. Runs in a worker."""
    chunks = BuildDirectory(Path(directory)).chunks
    return {"sees": Path(directory, f"{_TOKEN}{token}").exists() and os.access(chunks, os.W_OK)}


def encode_where_seen(directory: str, token: str, *arguments: Any) -> dict[str, Any]:
    """Call `encode_chunk`, unless this worker does not see the directory."""
    return encode_chunk(directory, *arguments) if sees(directory, token)["sees"] else {"unseen": directory}


class ThroughFuture:
    """Workers give the bytes of chunk files back; the encoder goes with the first chunks, and to those who lack it.

    Args:
        directory: The build's directory.
        num_workers: How many workers there may be.
    """

    def __init__(self, directory: Path, num_workers: int):
        self.overlaps = True
        build = BuildDirectory(directory)
        self._chunks = build.chunks
        self._encoder = build.pack_encoder()
        self._digest = digest(self._encoder)
        self._to_send = num_workers

    def task(self, index: int, packed: bytes, part_cost: int) -> Task:
        """Return `encode_and_return` and its arguments."""
        encoder = self._encoder if self._to_send else b""
        self._to_send -= bool(self._to_send)
        return (encode_and_return, self._digest, encoder, index, packed, part_cost, os.getpid())

    def take(self, index: int, examples: str, result: Mapping[str, Any]) -> ChunkReceipt | None:
        """Write the chunk file, whose checksum must be that of the receipt."""
        if "needs" in result:
            self._to_send += 1
            return None
        receipt = receipt_of(index, examples, result)
        content = result.get("chunk")
        if not isinstance(content, bytes):
            raise BuildError(f"chunk {index}: expected the bytes of its file, found a {type(content).__name__}")
        store_chunk(self._chunks, receipt, content)
        return receipt


def encode_and_return(
    encoder_digest: str, encoder: bytes, index: int, packed: bytes, part_cost: int, builder: int
) -> dict[str, Any]:
    """Encode one chunk and return the bytes of its file. Runs in a worker.

    Args:
        encoder_digest: Digest of the packed encoder.
        encoder: What `BuildDirectory.pack_encoder` gave; empty where this process should have it.
        index: Number of the chunk.
        packed: Its examples.
        part_cost: As of `encode_chunk`.
        builder: As of `encode_chunk`.

    Returns:
        ``receipt`` and ``chunk``, the bytes of its file; or ``needs``, where the encoder is missing; or
        the fields of an error.
    """
    if encoder:
        keep_packed(encoder_digest, encoder)
    else:
        encoder = _packed_encoders.get(encoder_digest, b"")
    if not encoder:
        return {"needs": encoder_digest}
    return encode_with(encoder_digest, encoder, index, packed, part_cost, builder)


def encode_with(
    encoder_digest: str, encoder: bytes, index: int, packed: bytes, part_cost: int, builder: int
) -> dict[str, Any]:
    """Do what `encode_and_return` does, with an encoder that is there."""
    try:
        tables = encoded(
            partial(kept_encoder, encoder_digest, partial(unpack_encoder, encoder)), packed, part_cost, builder
        )
        receipt, content = chunk_bytes(index, tables)
        return {"receipt": asdict(receipt), "chunk": content}
    except BaseException as error:
        return error_fields(error)


def keep_packed(encoder_digest: str, encoder: bytes) -> None:
    """Keep a packed encoder for the later calls of this process, and no more than the last ones."""
    _packed_encoders[encoder_digest] = encoder
    while len(_packed_encoders) > _KEPT_ENCODERS:
        _packed_encoders.popitem(last=False)


def packed_encoder(encoder_digest: str) -> bytes | None:
    """Return a packed encoder that this process keeps."""
    return _packed_encoders.get(encoder_digest)
