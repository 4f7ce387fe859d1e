"""Read a cache several times larger than the available memory, lazily and eagerly."""

import mmap
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import memory
from benchmarks.caches import question_cache, random_rows
from benchmarks.child import Child, in_process
from benchmarks.control_group import NotPossibleError, memory_limit
from benchmarks.measure import evict
from benchmarks.settings import Settings
from memxlnet import LazySquadLikeQADataset, create_dataloader
from memxlnet.format.file_layout import column_width, values_buffer
from memxlnet.format.ragged import Ints
from memxlnet.load import page_advice
from memxlnet.load.tensors import TOKEN_COLUMNS

LIMIT, QUICK_LIMIT = 400 * 2**20, 320 * 2**20

TIMES = 5
"""Minimum size of the features as a multiple of the limit."""

BATCH = 32

NOT_AHEAD = [("not asking ahead", False, 20.0)]
"""Only some seconds of an epoch: all of it would take hours."""

LOOK_SECONDS = 0.1

PAGE = mmap.PAGESIZE

THREADS = 32
"""Concurrent disk readers; more were not faster on the disks tested."""


def measure(settings: Settings) -> dict[str, Any]:
    """Measure the lazy and the eager loader under the limit, and the throughput of the disk alone."""
    limit = QUICK_LIMIT if settings.quick else LIMIT
    found: dict[str, Any] = {"limit": limit}
    try:
        with memory_limit(limit) as group:
            found["control group"] = f"version {group.version}"
    except NotPossibleError as error:
        return {**found, "not possible": str(error)}
    rows = TIMES * limit // 2360 + 10_000
    settings.log(f"making a cache of {rows:,} segments")
    directory = question_cache(rows)
    found["feature bytes"] = sum(file.stat().st_size for file in directory.glob("features-*.arrow"))
    found["segments"] = len(LazySquadLikeQADataset.open(directory))
    seconds = 1.5 if settings.quick else 12.0
    settings.log("throughput of the disk alone: direct reads of the pages of random rows")
    rounds = 1 if settings.quick else 3
    disk = [in_process(disk_throughput, directory=str(directory), seconds=seconds / rounds) for _ in range(rounds)]
    found["disk"] = {name: [child.value[name] for child in disk] for name in ("rows", "bytes")}
    found["disk"]["block bytes"] = disk[0].value["block bytes"]
    epochs = [("asking ahead", True, 4.0)] if settings.quick else [("asking ahead", True, None), *NOT_AHEAD]
    for name, advice, most in epochs:
        settings.log(f"lazy, {name}, {'the whole epoch' if most is None else f'{most:.0f} s of an epoch'}")
        child, kills = _limited(limit, lazy, directory=str(directory), advice=advice, seconds=most)
        if child.killed:
            found[f"lazy, {name}"] = {"killed": True, "kills": kills}
            continue
        found[f"lazy, {name}"] = {**child.value, "killed": False, "kills": kills, "samples": child.timeline()}
    settings.log("eager")
    child, kills = _limited(limit, eager, directory=str(directory))
    found["eager"] = {"killed": child.killed and kills > 0, "kills": kills, "samples": child.timeline()}
    found["cold, room for all"] = _with_room(settings)
    return found


def _with_room(settings: Settings) -> dict[str, Any]:
    """Measure cold shuffled epochs of a cache that fits in memory, with and without asking ahead, and no limit."""
    directory = question_cache(6_359 if settings.quick else 127_180)
    found: dict[str, Any] = {"segments": len(LazySquadLikeQADataset.open(directory))}
    for _ in range(1 if settings.quick else 3):
        for name, advice in (("asking ahead", True), ("not asking ahead", False)):
            settings.log(f"cold epoch of a cache that fits in memory, {name}")
            evict(directory)
            value = in_process(lazy, directory=str(directory), advice=advice, seconds=None).value
            found.setdefault(name, []).append(value["rows"] / value["seconds"])
    return found


def _limited(limit: int, function: Any, **arguments: Any) -> tuple[Child, int]:
    evict(Path(arguments["directory"]))
    with memory_limit(limit) as group:
        child = in_process(function, group=group, **arguments)
        return child, group.kills()


def lazy(directory: str, advice: bool, seconds: float | None) -> dict[str, Any]:
    """Read a shuffled epoch of the time-step-major loader, or the part that fits in the time, from a cold cache."""
    # The loader asks for pages ahead if the cache does not fit in memory; pretend that it does not, or does.
    page_advice.available_memory = lambda: 0 if advice else 2**63
    begun = time.monotonic()
    dataset = LazySquadLikeQADataset.open(directory)
    loader: Any = create_dataloader(dataset, BATCH, shuffle=True, num_workers=1, dtype="stored", lanes="refilled")
    steps = rows = 0
    anonymous: list[int] = []
    looked = 0.0
    for step in loader:
        steps += 1
        rows += step["num_active"]
        now = time.monotonic()
        if now - looked > LOOK_SECONDS:
            looked = now
            anonymous.append(memory.of_self().anonymous)
        if seconds is not None and now - begun > seconds:
            break
    # After a tenth of the time the loader has allocated all that it keeps.
    settled = len(anonymous) // 10
    return {
        "steps": steps,
        "rows": rows,
        "seconds": time.monotonic() - begun,
        "whole epoch": rows == len(dataset),
        "anonymous grown after a tenth": max(anonymous[settled:]) - anonymous[settled],
        "looks": len(anonymous) - settled,
        "bytes read": _bytes_read(),
    }


def _bytes_read() -> int:
    """Return the number of bytes that this process has read from disk."""
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def eager(directory: str) -> dict[str, Any]:
    """Read all columns into RAM, as eager loading does."""
    from memxlnet import SquadLikeQADataset

    return {"rows": len(SquadLikeQADataset.open(directory))}


def disk_throughput(directory: str, seconds: float) -> dict[str, Any]:
    """Measure the throughput of concurrent direct reads of the pages of random rows: no page cache, no gather."""
    (file,) = Path(directory).glob("features-*.arrow")
    rows = random_rows(1_000_000, len(LazySquadLikeQADataset.open(directory)), seed=1).numpy()
    blocks = _blocks(file, rows)
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_DIRECT", 0))
    begun = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        parts = np.array_split(np.arange(len(rows)), THREADS)
        done = list(pool.map(lambda part: _read_blocks(descriptor, blocks, part, begun + seconds), parts))
    taken = time.perf_counter() - begun
    os.close(descriptor)
    read = sum(count for _, count in done)
    reads = sum(count for count, _ in done) * len(TOKEN_COLUMNS)
    return {
        "rows": sum(count for count, _ in done) / taken,
        "bytes": read / taken,
        "block bytes": read / max(reads, 1),
    }


def _blocks(file: Path, rows: Ints) -> list[tuple[Ints, Ints]]:
    """Return, for each token column, the file offsets and sizes in bytes of the pages of each row."""
    found = []
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        whole = pa.py_buffer(mapped)
        batch = pa.ipc.open_file(whole).get_batch(0)
        for name in TOKEN_COLUMNS:
            width = column_width(batch.schema.field(name).type)
            first = values_buffer(batch.column(name)).address - whole.address + rows * width
            start = first // PAGE * PAGE
            found.append((start, -(-(first + width) // PAGE) * PAGE - start))
        del batch, whole
    return found


def _read_blocks(descriptor: int, blocks: Any, part: Any, deadline: float) -> tuple[int, int]:
    """Read blocks until the deadline; return the numbers of rows and bytes."""
    buffer = mmap.mmap(-1, 4 * PAGE)  # aligned, as direct reads require
    rows = read = 0
    for index in part:
        for start, size in blocks:
            read += os.preadv(descriptor, [memoryview(buffer)[: size[index]]], start[index])
        rows += 1
        if time.perf_counter() > deadline:
            break
    return rows, read
