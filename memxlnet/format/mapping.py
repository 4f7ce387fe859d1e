"""A published file in memory: a private copy-on-write map, or the bytes read into RAM.

The map is `MAP_PRIVATE | MAP_NORESERVE` with write access. Private: a write to a tensor over it stays in this process.
Writable: torch takes it without a warning, and a write is safe. Without reserve: a file larger than RAM can be
mapped under Linux's default overcommit. POSIX only.
"""

import errno
import logging
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from memxlnet.errors import CacheDamagedError
from memxlnet.format.file_layout import MAP_NORESERVE
from memxlnet.format.manifest import REBUILD, reading

logger = logging.getLogger(__name__)


class MappedFile:
    """The bytes of a file, mapped or read.

    Attributes:
        path: The file.
        size: Its size in bytes.
        writable: Whether arrays over it can be written (privately). False where the system refused a private map, as
            it may under RLIMIT_DATA, RLIMIT_AS or overcommit 2; tensors are then copies.
        buffer: The bytes as an Arrow buffer.

    The map lives as long as an array or buffer over it does.

    Raises:
        CacheDamagedError: There is no such file, or it is empty.
        CacheOSError: It cannot be opened, mapped or read.
    """

    def __init__(self, path: Path, in_memory: bool = False):
        self.path = path
        self.writable = True
        self._is_mapped = not in_memory
        self._data: Any
        try:
            with reading(path), path.open("rb") as file:
                self._data = np.fromfile(file, np.uint8) if in_memory else self._map(file.fileno())
        except ValueError as error:
            if isinstance(error, CacheDamagedError):
                raise
            raise CacheDamagedError(f"{path}: cannot be mapped: {error}", hint=REBUILD) from error
        self.buffer = pa.py_buffer(self._data)
        self.size = self.buffer.size

    def _map(self, descriptor: int) -> mmap.mmap:
        private = mmap.MAP_PRIVATE | MAP_NORESERVE
        try:
            return mmap.mmap(descriptor, 0, flags=private, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            if error.errno not in (errno.ENOMEM, errno.EAGAIN, errno.EACCES, errno.EPERM):
                raise
            logger.debug("%s: the system refuses a private writable map: %s", self.path, error.strerror)
        self.writable = False
        return mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)

    def array(self, dtype: DTypeLike, count: int, offset: int) -> NDArray[Any]:
        """Return `count` values at byte `offset`, as a view.

        Laid over the map itself: Arrow buffers sliced from a writable map are flagged read-only.
        """
        return np.frombuffer(self._data, dtype, count, offset)

    def advise(self, option: int, offset: int, size: int) -> None:
        """Advise the system how pages will be read (madvise); do nothing where the bytes were read into RAM."""
        if self._is_mapped:
            begin = offset - offset % mmap.PAGESIZE
            self._data.madvise(option, begin, offset + size - begin)
