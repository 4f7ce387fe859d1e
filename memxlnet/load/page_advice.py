"""Advice to the system about pages: shuffled rows of a cache that does not fit in memory are read at random.

By default Linux reads ahead around every page that it has to fetch, up to megabytes. Where the cache fits in memory
that is right: soon all of it is in memory. Where it does not, most of what is read is discarded unused, and a step may
take a hundred times as long (``python -m benchmarks larger-than-ram``). There the pages of the next rows are
requested instead.
"""

import logging
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from torch import Tensor

from memxlnet.load.cache_dataset import CacheDataset

logger = logging.getLogger(__name__)

_LIMIT_FILES = (
    "/sys/fs/cgroup{}/memory.max",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory{}/memory.limit_in_bytes",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


class PageAdvice:
    """Asks for the pages of rows before they are gathered.

    Args:
        dataset: Whose rows.
    """

    def __init__(self, dataset: CacheDataset):
        self._features = dataset.tensors

    def expect(self, rows: Tensor) -> None:
        """Ask the system to fetch the token columns of some rows; do not wait for them.

        Args:
            rows: int64[n], in range.
        """
        self._features.advise_rows(mmap.MADV_WILLNEED, rows)


@contextmanager
def advised(dataset: CacheDataset, at_random: bool) -> Iterator[PageAdvice | None]:
    """Return the advice for a reading loader, where it pays: None where the cache fits in memory or is read in order.

    Args:
        dataset: What is read.
        at_random: Whether its rows are read in a random order.
    """
    if (
        not at_random
        or dataset.device is not None
        or dataset.cache.in_memory
        or dataset.cache.source is not None  # to advise a shard is to fetch it
        or dataset.tensors.token_bytes <= available_memory()
    ):
        yield None
        return
    logger.info("%s: larger than the memory there is; the pages of each row are asked for", dataset.directory)
    dataset.tensors.advise(mmap.MADV_RANDOM)
    try:
        yield PageAdvice(dataset)
    finally:
        dataset.tensors.advise(mmap.MADV_NORMAL)


def available_memory() -> int:
    """Return the bytes that this process may fill with pages: what is available, or the bound of its control group."""
    return min(int(psutil.virtual_memory().available), *_limits())


def _limits() -> list[int]:
    try:
        groups = {line.split(":")[2] for line in Path("/proc/self/cgroup").read_text().splitlines()}
    except (OSError, IndexError):
        return [2**63]  # no Linux: there are no control groups
    found = [2**63]
    for file in {name.format(group.rstrip("/")) for name in _LIMIT_FILES for group in groups}:
        try:
            found.append(int(Path(file).read_text()))
        except (OSError, ValueError):
            continue  # of the other version of control groups, or "max"
    return found
