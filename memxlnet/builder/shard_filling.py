"""Feature shards filled with the rows of chunks: by the builder, or in parallel by the workers that encoded them.

A shard is laid out once, by the builder. After that each chunk's rows have their places in it, whoever writes them and
in whichever order. A task names chunk files, shards and places; it goes through JSON to another process.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from memxlnet.builder.build_directory import BuildDirectory
from memxlnet.builder.chunk_files import ChunkReceipt, read_chunk
from memxlnet.builder.reported_errors import error_fields, reported_error
from memxlnet.errors import BuildError
from memxlnet.format.file_layout import column_values, column_width, write_values


class ShardWorkers(Protocol):
    """Workers that see the directory of the build, and fill shards."""

    @property
    def num_fills(self) -> int:
        """Tasks that they may be given at once."""

    def fill(self, task: Mapping[str, Any]) -> "Future[dict[str, Any]]":
        """Hand one task over; see `fill_shards`."""


@dataclass(frozen=True)
class FeatureShard:
    """One features file that is laid out.

    Attributes:
        path: The file.
        row_start: Its first row of the table.
        row_stop: The row after its last one.
        offsets: The byte offset of each column's values in the file.
    """

    path: str
    row_start: int
    row_stop: int
    offsets: Mapping[str, int]

    def write(self, descriptor: int, features: pa.RecordBatch, row_base: int, document_base: int) -> None:
        """Write the rows of a chunk that belong to this shard.

        Args:
            descriptor: The file, open for writing.
            features: The rows of the chunk.
            row_base: The chunk's first row of the table.
            document_base: The chunk's first document.
        """
        start, stop = max(self.row_start, row_base), min(self.row_stop, row_base + features.num_rows)
        if start >= stop:
            return
        part = features.slice(start - row_base, stop - start)
        for column, field in zip(part.columns, part.schema, strict=True):
            values = column_values(column)
            if field.name == "document":
                values = values + document_base
            place = self.offsets[field.name] + (start - self.row_start) * column_width(field.type)
            write_values(descriptor, values, place)


class Piece(NamedTuple):
    """A chunk, and where its rows go.

    Attributes:
        number: That of the chunk.
        file: Name of its file.
        bytes: Size of its file.
        rows: Its rows of features.
        row_base: Its first row of the table.
        document_base: Its first document.
    """

    number: int
    file: str
    bytes: int
    rows: int
    row_base: int
    document_base: int


def pieces_of(receipts: Iterable[ChunkReceipt]) -> Iterator[Piece]:
    """Yield where the rows of each chunk go."""
    row = document = 0
    for receipt in receipts:
        rows = receipt.rows["features"]
        yield Piece(receipt.index, receipt.file, receipt.bytes, rows, row, document)
        row += rows
        document += receipt.rows["documents"]


def fill_shards(task: Mapping[str, Any]) -> dict[str, Any]:
    """Fill shards with the rows of some chunks. Runs in a worker.

    Args:
        task: ``directory``, that of the build; ``pieces`` and ``shards``, the fields of each; ``is_remote``,
            whether the rows must be durable before the answer, because the builder may be on another machine.

    Returns:
        ``rows``, how many were written; or what `error_fields` gives: no exception crosses processes.
    """
    try:
        build = BuildDirectory(Path(task["directory"]))
        with build.errors(), contextlib.ExitStack() as stack:
            shards = [FeatureShard(**fields) for fields in task["shards"]]
            descriptors = []
            for shard in shards:
                # They exist: a task that outlived its builder must not begin a file.
                descriptors.append(os.open(shard.path, os.O_WRONLY | os.O_CLOEXEC))
                stack.callback(os.close, descriptors[-1])
            pieces = [Piece(*fields) for fields in task["pieces"]]
            for piece in pieces:
                receipt = ChunkReceipt(piece.number, piece.file, piece.bytes, {})
                features = read_chunk(build.chunks, receipt, ("features",))["features"]
                for shard, descriptor in zip(shards, descriptors, strict=True):
                    shard.write(descriptor, features, piece.row_base, piece.document_base)
            for descriptor in descriptors if task["is_remote"] else ():
                os.fsync(descriptor)
        return {"rows": sum(piece.rows for piece in pieces)}
    except BaseException as error:
        return error_fields(error)


class FillingThreads:
    """Threads of this process that fill shards: most of the work is the system's, which copies the rows.

    Args:
        threads: The threads.
        num_fills: Tasks that they may be given at once.
    """

    def __init__(self, threads: Executor, num_fills: int):
        self._threads = threads
        self.num_fills = num_fills

    def fill(self, task: Mapping[str, Any]) -> "Future[dict[str, Any]]":
        """Hand one task over."""
        return self._threads.submit(fill_shards, {**task, "is_remote": False})


class Filling:
    """The filling of all shards by workers.

    Args:
        workers: Who fills them.
        directory: The directory of the build.
        receipts: All chunks, in order.
        shards: All shards, laid out.
    """

    def __init__(
        self, workers: ShardWorkers, directory: Path, receipts: Sequence[ChunkReceipt], shards: Sequence[FeatureShard]
    ):
        pieces = list(pieces_of(receipts))
        size = -(-len(pieces) // workers.num_fills)
        self._tasks: list[tuple[str, int, list[Path], Future[dict[str, Any]]]] = []
        for first in range(0, len(pieces), size):
            some = pieces[first : first + size]
            start, stop = some[0].row_base, some[-1].row_base + some[-1].rows
            touched = [each for each in shards if each.row_start < stop and each.row_stop > start]
            task = {"directory": str(directory), "shards": list(map(asdict, touched)), "pieces": some}
            shown = f"chunks {some[0].number} to {some[-1].number}, while they were put into shards"
            paths = [Path(each.path) for each in touched]
            self._tasks.append((shown, stop - start, paths, workers.fill(task)))

    def cancel(self) -> None:
        """Take back the tasks that have not begun."""
        for *_, future in self._tasks:
            future.cancel()

    def finished(self) -> Iterator[list[Path]]:
        """Wait until all rows are written; yields the shards of each task as it is done.

        Raises:
            BuildError: A worker ended, or failed.
        """
        for shown, rows, paths, future in self._tasks:
            try:
                result = future.result()
            except Exception as error:
                raise BuildError(
                    f"{shown}: {type(error).__name__}: {error}; finished chunks are kept, build again to resume"
                ) from error
            if isinstance(result, dict) and "error" in result:
                raise reported_error(shown, result)
            if not isinstance(result, dict) or result.get("rows") != rows:
                raise BuildError(f"{shown}: expected {rows} rows to be written, found {result!r:.80}")
            yield paths


StartFilling = Callable[[Sequence[FeatureShard]], Filling]
"""Has workers fill shards that are laid out."""
