"""Files of known columns: written by Arrow, and laid out with holes."""

import contextlib
import errno
import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from memxlnet.format.paths import write_all

MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform.startswith("linux") else 0x40)
"""Map without reserving memory; Python names the flag only from 3.13 on."""


def file_identity(path: Path) -> tuple[int, int, int] | None:
    """Return what changes where another file is put in its place or written into it; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


class FileSink:
    """A file that Arrow writes from its start on. Arrow never looks at the counts of its writes, so this does."""

    closed = False

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self.position = 0

    def write(self, data: Any) -> int:
        """Write all of some bytes, and give their number."""
        view = memoryview(data)
        self._put(view)
        self.position += view.nbytes
        return view.nbytes

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self.position

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Do nothing: the file is closed by its owner."""

    def _put(self, view: memoryview) -> None:
        write_all(self._descriptor, view, self.position)


class _HoleSink(FileSink):
    """A file that is written except for the zeros of large buffers, which stay holes."""

    def _put(self, view: memoryview) -> None:
        if view.nbytes < mmap.PAGESIZE:
            super()._put(view)


@contextlib.contextmanager
def created(path: Path) -> Iterator[int]:
    """Open a new file for reading and writing, and yield its descriptor.

    Raises:
        FileExistsError: It exists already.
        OSError: It cannot be created, or the disk reports only at the end that it failed.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def lay_out(path: Path, schema: pa.Schema, num_rows: int) -> dict[str, int]:
    """Lay out an Arrow IPC file of one record batch with zeros for all values, without RAM for them.

    The batch is described over an anonymous map of zeros, and the writer's large buffers become holes. The space is
    reserved where the system can (`posix_fallocate`), so that a full disk is found here.

    Args:
        path: The file to create.
        schema: Fixed-width, non-null columns only.
        num_rows: Rows of the batch, above 0.

    Returns:
        The byte offset of each column's values in the file.

    Raises:
        OSError: The disk is full or cannot be written.
    """
    widest = max(column_width(field.type) for field in schema) * num_rows
    zeros = mmap.mmap(-1, widest, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE, prot=mmap.PROT_READ)
    buffer = pa.py_buffer(zeros)
    batch = pa.RecordBatch.from_arrays([_zeros(field.type, num_rows, buffer) for field in schema], schema=schema)
    with created(path) as descriptor:
        sink = _HoleSink(descriptor)
        with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), schema) as writer:
            writer.write_batch(batch)
        os.ftruncate(descriptor, sink.position)
        _reserve(descriptor, sink.position)
    with pa.memory_map(str(path)) as mapped:
        base = mapped.read_buffer(1).address
        try:
            written = pa.ipc.open_file(mapped).get_batch(0)
        except (pa.ArrowException, OSError) as error:
            raise OSError(errno.EIO, f"other bytes than were written: {error}", str(path)) from error
        return {field.name: values_buffer(written.column(i)).address - base for i, field in enumerate(schema)}


def _reserve(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            # Some file systems cannot reserve; the write itself then finds a full disk.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise


def _zeros(kind: pa.DataType, length: int, buffer: pa.Buffer) -> pa.Array:
    if pa.types.is_fixed_size_list(kind):
        values = _zeros(kind.value_type, length * kind.list_size, buffer)
        return pa.Array.from_buffers(kind, length, [None], children=[values])
    return pa.Array.from_buffers(kind, length, [None, buffer.slice(0, length * kind.bit_width // 8)])


def column_width(kind: pa.DataType) -> int:
    """Return the bytes of one row of a fixed-width column."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * int(kind.value_type.bit_width) // 8
    return int(kind.bit_width) // 8


def values_buffer(column: pa.Array) -> pa.Buffer:
    """Return the buffer of a fixed-width column's values."""
    return column.buffers()[-1]


def column_values(column: pa.Array) -> NDArray[Any]:
    """Return the values of a fixed-width column as a flat NumPy view, slices respected.

    `FixedSizeListArray.values` ignores the offset of a slice and `to_numpy` refuses lists: `flatten` does neither.
    """
    if pa.types.is_fixed_size_list(column.type):
        column = column.flatten()
    values: NDArray[Any] = column.to_numpy(zero_copy_only=True)
    return values


def write_values(descriptor: int, values: NDArray[Any], offset: int) -> None:
    """Write values at a place of a file, all of them."""
    write_all(descriptor, np.ascontiguousarray(values).data, offset)


def numpy_type(kind: pa.DataType) -> np.dtype[Any]:
    """Return what a number type of Arrow is in NumPy; pyarrow's own answer loads pandas in older releases."""
    return np.dtype(str(kind))
