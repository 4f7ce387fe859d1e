"""The export of a cache: all files written next to their place, read back and compared, then renamed."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

import xxhash

from memxlnet.errors import ExportError, ExportOSError, MemxlnetError, SettingsError, with_fields_of
from memxlnet.export.compacted import Compacted
from memxlnet.export.exported_file import ExportedFile
from memxlnet.export.json_lines_files import json_lines_files
from memxlnet.export.parquet_files import parquet_files
from memxlnet.export.safetensors_files import safetensors_files
from memxlnet.export.squad_file import squad_file
from memxlnet.format.joined import JoinedCache
from memxlnet.format.opened_parts import CacheView
from memxlnet.format.paths import as_path, is_url, sync
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.directory_swap import delete
from memxlnet.maintain.lock import builder_lock
from memxlnet.progress import Heartbeat, progress_bar
from memxlnet.settings import check_bool, one_of
from memxlnet.system_errors import described, hint_for

logger = logging.getLogger(__name__)

ExportFormat = Literal["parquet", "jsonl", "safetensors", "squad"]
"""The format of an export; ``squad`` is one file, all others are a directory of files."""

_FILES: dict[str, Callable[[PublishedCache], list[ExportedFile]]] = {
    "parquet": parquet_files,
    "jsonl": json_lines_files,
    "safetensors": safetensors_files,
}

_MOST_THREADS = 8


def export(
    cache: PublishedCache | CacheView,
    format: ExportFormat,  # noqa: A002 - as in other libraries
    output: str | os.PathLike[str] | None = None,
    *,
    progress: bool | None = None,
) -> Path:
    """Write a copy of a cache for other tools; it appears when all of it was read back and compared.

    What an export to the same place left that was killed is removed.

    Args:
        cache: The cache, opened; or the parts of a list, whose export is that of one cache of the documents that count.
        format: ``"parquet"``, ``"jsonl"`` or ``"safetensors"``, a directory; or ``"squad"``, one JSON file.
        output: Where it is put; nothing may be there. None puts it into the working directory, under the name of the
            cache.
        progress: Show a progress bar; None shows it where standard error is a terminal.

    Returns:
        The place of the export.

    Raises:
        SettingsError: An argument is wrong, something is at the place, or another process exports to it.
        ExportError: The format cannot hold the cache, or what was read back is something else.
        ExportOSError: The place cannot be written.
        CacheDamagedError: The cache is damaged.
    """
    one_of("format", format, get_args(ExportFormat))
    if progress is not None:
        check_bool("progress", progress)
    cache, chosen = cache if isinstance(cache, CacheView) else (cache, None)
    is_file = format == "squad"
    place = _free_place(output, cache.directory.name + (".json" if is_file else f".{format}"))
    if isinstance(cache, JoinedCache):
        with Heartbeat(lambda _: f"exporting {place.name}: looking for contexts that several parts have"):
            cache = Compacted(cache, chosen)
    files = [squad_file(cache)] if is_file else _FILES[format](cache)
    total = 2 * sum(file.rows for file in files)
    bar = progress_bar(f"exporting {cache.manifest.name}", progress, "row", total)
    with _errors(place), _temporary(place) as temporary, bar as shown:
        if not is_file:
            temporary.mkdir()
        _write(files, lambda file: temporary if is_file else temporary / file.name, shown)
        if not is_file:
            sync(temporary)
        _free_place(place, "")
        temporary.rename(place)
        sync(place.parent)
    logger.info("%s: exported to %s, %d files", cache.directory, place, len(files))
    return place


@contextlib.contextmanager
def _temporary(place: Path) -> Iterator[Path]:
    """Hold the lock of a place, and give a name next to it where nothing is, before and after.

    Raises:
        SettingsError: Another process exports to the place.
    """
    # Always the same for a place: so the next export finds what a killed one left.
    name = f".memxlnet-export-{xxhash.xxh3_64_hexdigest(os.fsencode(place.name))}"

    def refuse() -> None:
        raise SettingsError(
            f"output: expected a path to which no other process exports, found {str(place)!r}; wait for it, or choose "
            "another"
        )

    with builder_lock(place.with_name(f"{name}.lock"), refuse):
        temporary = place.with_name(f"{name}.tmp")
        if os.path.lexists(temporary):
            logger.info("%s: removing what a killed export left", temporary)
            delete(temporary)
        try:
            yield temporary
        finally:
            with contextlib.suppress(OSError):
                delete(temporary)


def _write(files: list[ExportedFile], path_of: Callable[[ExportedFile], Path], bar: Any) -> None:
    """Write all files, make them durable and compare them with the cache, several at once."""

    def write(file: ExportedFile) -> None:
        path = path_of(file)
        file.write(path, bar.update)
        sync(path)
        try:
            file.check(path, bar.update)
        except MemxlnetError:
            raise
        except Exception as error:  # readers raise what they like of a damaged file
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ExportError(
                f"{file.name}: expected a file that can be read back, found {error!r:.200}; check the disk, and export "
                "again"
            ) from error

    threads = ThreadPoolExecutor(min(len(files), os.cpu_count() or 1, _MOST_THREADS), "memxlnet-export")
    try:
        for _ in threads.map(write, files):
            pass
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _free_place(output: object, name: str) -> Path:
    """Return where an export goes.

    Raises:
        SettingsError: It is not a path, something is there, or its directory is missing.
    """
    if is_url(str(output)):
        raise SettingsError(f"output: expected a local path, found the URL {str(output).partition('://')[0]}://...")
    place = as_path("output", Path.cwd() / name if output is None else output, "a path")
    if os.path.lexists(place):
        raise SettingsError(
            f"output: expected a path where nothing is, found {str(place)!r}; remove it, or choose another"
        )
    if not place.parent.is_dir():
        raise SettingsError(f"output: expected a path in an existing directory, found {str(place)!r}; create it first")
    return place


@contextlib.contextmanager
def _errors(place: Path) -> Iterator[None]:
    try:
        yield
    except MemxlnetError:
        raise
    except OSError as error:
        message = f"{place}: cannot be written: {described(error, place)}; {hint_for(error)} and export again"
        raise with_fields_of(ExportOSError(message), error) from error
