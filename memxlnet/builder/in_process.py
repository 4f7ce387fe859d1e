"""Encoding in the builder's own process: a thread tokenizes ahead while the rows of the chunk before are written."""

import logging
import threading
from collections.abc import Generator, Iterator

from memxlnet.background import Prefetched
from memxlnet.builder.chunk_encoding import Tables, encode_in_parts, examples_digest, pack, with_kept
from memxlnet.builder.chunk_files import with_examples_digest
from memxlnet.builder.chunking import Chunk
from memxlnet.builder.memory_guard import MemoryGuard
from memxlnet.encode.encoder import Encoder, TokenizedChunk
from memxlnet.settings import EncodeSettings

logger = logging.getLogger(__name__)

_WAIT_SECONDS = 0.01


class LocalEncoder:
    """Encodes chunks in this process.

    Args:
        encoder: The encoder.
        settings: What the rows look like.
        guard: Watches the RAM.
    """

    def __init__(self, encoder: Encoder, settings: EncodeSettings, guard: MemoryGuard):
        self._encoder = encoder
        self._settings = settings
        self._guard = guard

    def run(self, chunks: Iterator[Chunk]) -> Generator[tuple[Chunk, Tables], None, None]:
        """Encode chunks in their order; each chunk's tables are asked for when the one before is written.

        Raises:
            ExampleError: An example is bad, and bad examples are errors.
            MemoryLimitError: Not even one chunk, split, fits.
        """
        self._written = self._taken = 0
        self._stopped = threading.Event()
        # The thread is mostly in Rust, outside of Python's lock.
        ahead = Prefetched(self._tokenized(chunks), depth=1)
        try:
            for chunk, half_done, digest in ahead:
                tables = self._encoder.assemble(half_done) if isinstance(half_done, TokenizedChunk) else half_done
                tables = with_kept(tables, chunk.examples, chunk.kept)
                yield chunk, with_examples_digest(tables, digest)
                self._written += 1
        finally:
            self._stopped.set()
            ahead.close()

    def _tokenized(self, chunks: Iterator[Chunk]) -> Iterator[tuple[Chunk, TokenizedChunk | Tables, str]]:
        """Yield the tokens of each chunk, or its tables where RAM is so short that it is encoded in parts."""
        for chunk in chunks:
            limit = self._make_room(chunk)
            self._taken += 1
            digest = examples_digest(pack(chunk.examples, chunk.kept))
            if chunk.cost <= limit:
                yield chunk, self._encoder.tokenize(chunk.examples), digest
            else:
                yield chunk, encode_in_parts(self._encoder, self._settings, chunk.examples, limit), digest

    def _make_room(self, chunk: Chunk) -> int:
        """Wait for the chunks in progress where RAM is short; returns the bytes that encoding may take at once."""
        guard = self._guard
        while self._taken > self._written and (guard.is_near or guard.room < chunk.cost):
            if self._stopped.wait(_WAIT_SECONDS):
                break
        if guard.room < chunk.cost and guard.release() + chunk.cost > guard.bound:
            guard.check("what is held between two chunks")
            logger.info("%s is split: it may take %d bytes, and %d are left", chunk.shown(), chunk.cost, guard.room)
        return max(guard.room, 1)
