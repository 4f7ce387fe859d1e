"""How large a cache will be, estimated from its first examples before any work is done."""

import errno
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from memxlnet.builder.builder import Build
from memxlnet.builder.chunk_encoding import with_kept
from memxlnet.builder.chunk_files import chunk_bytes
from memxlnet.builder.chunking import read_chunks
from memxlnet.encode.encoder import Encoder
from memxlnet.errors import BuildOSError, SourceError
from memxlnet.format.paths import BUILD_PREFIX
from memxlnet.maintain.removal import num_bytes
from memxlnet.progress import Heartbeat
from memxlnet.settings import BuildSettings

SAMPLE_EXAMPLES = 2000


@dataclass(frozen=True)
class SizeEstimate:
    """What a cache will hold, as far as its first examples show.

    Attributes:
        sampled: Examples that were encoded for it.
        examples: Examples of the whole source; None where the source does not say.
        features: Segments of the cache; None where the examples are not known.
        num_bytes: Bytes of the published cache; None likewise.
        chunk_bytes: Bytes of its chunks, which stay until the manifest is durable; None likewise.
        is_whole: Whether the sample is the whole source.
    """

    sampled: int
    examples: int | None
    features: int | None
    num_bytes: int | None
    chunk_bytes: int | None
    is_whole: bool

    @property
    def peak_bytes(self) -> int | None:
        """Bytes on disk while it is published: those of the cache and of its chunks."""
        return None if self.num_bytes is None or self.chunk_bytes is None else self.num_bytes + self.chunk_bytes


def estimate_size(job: Build, build: BuildSettings) -> SizeEstimate:
    """Encode the first examples of a source and scale their size up to all of it.

    They are what one chunk may hold, so that the RAM stays within ``max_memory_gb``. A file is counted first, without
    parsing it; its `total` is known from then on.

    Args:
        job: What is to be built.
        build: How the work will be done.

    Raises:
        ExampleError: One of the first examples is bad, and bad examples are errors.
        MemoryLimitError: One of them alone does not fit within ``max_memory_gb``.
        SourceError: The source cannot be read, or is empty.
    """
    with Heartbeat(lambda _: f"{job.source.name}/{job.settings.split}: estimating the size of its cache"):
        return _estimated(job, build)


def _estimated(job: Build, build: BuildSettings) -> SizeEstimate:
    source, settings = job.source, job.settings.encode
    sample_settings = replace(settings, max_examples=min(settings.max_examples or SAMPLE_EXAMPLES, SAMPLE_EXAMPLES))
    chunks = read_chunks(source, sample_settings, build, SAMPLE_EXAMPLES)
    first = next(chunks, None)
    if first is None:
        raise SourceError(f"{source.name}/{job.settings.split}: expected at least one example, found none")
    sample = first.examples
    ended = next(chunks, None) is None and len(sample) < SAMPLE_EXAMPLES
    content = job.settings.tokenizer
    encoded = Encoder(content.backend, content.layout, settings).encode(sample)
    tables = with_kept(encoded, sample, first.kept)
    sampled = len(sample)
    total = source.count()
    if ended:
        examples = sampled
    elif total is None:  # max_examples alone may be far more than there is
        return SizeEstimate(sampled, None, None, None, None, False)
    else:
        examples = max(min(settings.max_examples or total, total), sampled)
    scale = examples / sampled
    chunk = chunk_bytes(0, tables)[0]
    size = round(chunk.table_bytes * scale) + len(content.backend_json.encode())
    return SizeEstimate(
        sampled, examples, round(chunk.rows["features"] * scale), size, round(chunk.bytes * scale), ended
    )


def check_space(job: Build, estimate: SizeEstimate, cache_dir: Path) -> None:
    """Check that the disk will hold what a build writes; what it has written already counts.

    Raises:
        BuildOSError: It will not.
    """
    if estimate.peak_bytes is None:
        return
    free = free_bytes(cache_dir)
    done = num_bytes(cache_dir / f"{BUILD_PREFIX}{job.settings.directory_name}")
    needed = estimate.peak_bytes - done
    if needed > free:
        error = BuildOSError(
            f"{cache_dir}: expected room for about {needed:,} bytes (a cache of about {estimate.num_bytes:,} bytes "
            f"and its chunks until it is published), found {free:,} free; make room, choose another cache_dir, or set "
            "max_examples"
        )
        error.errno = errno.ENOSPC
        raise error


def free_bytes(directory: Path) -> int:
    """Return the free bytes where a directory is or will be."""
    while not os.path.isdir(directory) and directory != directory.parent:  # noqa: PTH112 - a name may be too long
        directory = directory.parent
    return shutil.disk_usage(directory).free
