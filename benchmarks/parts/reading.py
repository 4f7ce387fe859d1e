"""Read the features: memxlnet's memory maps compared with tensors in RAM and other file formats."""

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import memory
from benchmarks.caches import long_cache, random_batches, random_rows
from benchmarks.child import ChildError, in_process
from benchmarks.data import work
from benchmarks.measure import evict, folder_bytes, in_turns, median, read_into_page_cache
from benchmarks.readers import CONTESTANTS, Reader, installed, load, open_reader, prepare
from benchmarks.settings import Settings
from memxlnet import LazySquadLikeQADataset
from memxlnet.load.tensors import MODEL_COLUMNS

SEGMENTS, QUICK_SEGMENTS = 64_000, 5_000
"""Half of those of SQuAD's training set: more pickled chunks take minutes to write."""

BATCH_SIZES = (8, 32, 256)

EPOCH_BATCH = 32

SHARDS = 4

ONE_SHARD, CUT, MANY_SHARDS = "one shard", "one shard, half the width", f"{SHARDS} shards"

ITEM, TENSORS = "dataset[i]", "dataset.model_tensors(i)"


def measure(settings: Settings) -> dict[str, Any]:
    """Measure opening, memory and epochs in separate processes, rows and batches of all contestants in one process."""
    segments = QUICK_SEGMENTS if settings.quick else SEGMENTS
    directory = long_cache(segments)
    available = [name for name in CONTESTANTS if installed(name)]
    settings.log("writing the files of all contestants")
    folder = str(work() / "readers")
    paths, failed = in_process(write_all, names=available, directory=str(directory), folder=folder).value
    contestants: dict[str, Any] = {}
    for name, path in paths.items():
        contestants[name] = {"disk": _feature_bytes(name, Path(path)), "epochs": {}, "share": {}}
    for number in range(1 if settings.quick else 2):
        for name, path in list(paths.items()):
            settings.log(f"{name}: opening, memory, epochs, round {number + 1}")
            try:
                for order in ("shuffled",) if settings.quick else ("sequential", "shuffled"):
                    _add(contestants[name], order, _alone(settings, name, path, order))
            except ChildError as error:
                if name == "memxlnet":
                    raise
                failed[name] = str(error).splitlines()[-1]
                del paths[name], contestants[name]
    settings.log("random rows and batches, all contestants interleaved")
    rounds, budget = (5, 1.0) if settings.quick else (21, 10.0)
    together = in_process(in_one_process, paths=paths, rounds=rounds, budget=budget).value
    settings.log("variants of memxlnet, interleaved")
    sharded = str(long_cache(segments, shards=SHARDS))
    own = in_process(own_ways, directory=str(directory), sharded=sharded, rounds=rounds, budget=budget).value
    return {
        "segments": together.pop("segments"),
        "contestants": contestants,
        "not installed": [name for name in CONTESTANTS if name not in available],
        "failed": failed,
        "own": own,
        **together,
    }


def _alone(settings: Settings, name: str, path: str, order: str) -> dict[str, Any]:
    seconds = 0.5 if settings.quick else 1.5
    child = in_process(epochs, name=name, path=path, shuffle=order == "shuffled", seconds=seconds)
    found: dict[str, Any] = child.value
    return found


def _add(one: dict[str, Any], order: str, value: dict[str, Any]) -> None:
    for key in ("open", "anonymous", "rss"):
        one.setdefault(key, []).append(value[key])
    for when, rate in zip(("first", "second"), value["rates"], strict=False):
        one["epochs"].setdefault(f"{order}, {when}", []).append(rate)
    one["share"][order] = value["share"]


def write_all(names: list[str], directory: str, folder: str) -> tuple[dict[str, str], dict[str, str]]:
    """Write the files of contestants; return their paths by name, and the errors of those that failed."""
    paths, failed = {}, {}
    for name in names:
        try:
            paths[name] = str(prepare(name, Path(directory), Path(folder)))
        except Exception as error:
            if name == "memxlnet":
                raise
            failed[name] = f"{type(error).__name__}: {error}"
    return paths, failed


def _feature_bytes(name: str, path: Path) -> int:
    if name == "memxlnet":  # the others store no texts
        return sum(file.stat().st_size for file in path.glob("features-*.arrow"))
    return folder_bytes(path)


def epochs(name: str, path: str, shuffle: bool, seconds: float) -> dict[str, Any]:
    """Open from a cold page cache; read an epoch, or the part that fits in the time, and then the same rows again."""
    load(name)  # so that imports are not timed
    torch.zeros(64, 64) @ torch.zeros(64, 64)  # start the threads of torch
    evict(Path(path))
    memory.trim()
    before = memory.of_self()
    begun = time.perf_counter()
    reader = open_reader(name, Path(path))
    opened = time.perf_counter() - begun
    rates: list[float] = []
    rows, taken = 0, 0.0
    while len(rates) < 2 and taken < 4 * seconds:  # a single batch may take longer
        torch.manual_seed(0)  # the same order in both epochs
        begun = time.perf_counter()
        rows = _read(reader.epoch(EPOCH_BATCH, shuffle), seconds, rows)
        taken = time.perf_counter() - begun
        rates.append(rows / taken)
    memory.trim()
    after = memory.of_self()
    return {
        "open": opened,
        "rates": rates,
        "share": min(1.0, rows / len(reader)),
        "anonymous": after.anonymous - before.anonymous,
        "rss": after.rss - before.rss,
    }


def _read(batches: Iterator[Any], seconds: float, most_rows: int) -> int:
    """Read batches for some seconds, or `most_rows` rows if that is not 0; return the number of rows read."""
    deadline = time.perf_counter() + seconds
    rows = 0
    for batch in batches:
        rows += len(batch["input_ids"])
        if rows >= most_rows if most_rows else time.perf_counter() > deadline:
            break
    return rows


def in_one_process(paths: dict[str, str], rounds: int, budget: float) -> dict[str, Any]:
    """Measure random rows and random batches, warm, all contestants interleaved.

    A batch is skipped if it will take more than twice the budget, estimated from the next smaller one.
    """
    for path in paths.values():
        read_into_page_cache(Path(path))
    readers = {name: open_reader(name, Path(path)) for name, path in paths.items()}
    number = len(next(iter(readers.values())))
    found: dict[str, Any] = {"segments": number}
    turns = {name: iter(random_rows(1_000_000, number).tolist()) for name in readers}
    found["row"] = in_turns({name: partial(_row, readers[name], turns[name]) for name in readers}, rounds)
    each = {name: median(samples) for name, samples in found["row"].items()}
    for size in BATCH_SIZES:
        batches = random_batches(size, number)
        measured = {name: reader for name, reader in readers.items() if each[name] * size < 2 * budget}
        for name, reader in measured.items():
            _warm_up(reader, batches[: int(budget / 4 / (each[name] * size)) + 1])
        calls = {name: partial(_batch, reader, iter(batches * 5000)) for name, reader in measured.items()}
        found[f"batch of {size}"] = in_turns(calls, rounds, budget=budget)
        each |= {name: median(samples) / size for name, samples in found[f"batch of {size}"].items()}
    return found


def own_ways(directory: str, sharded: str, rounds: int, budget: float) -> dict[str, Any]:
    """Measure random batches from one shard, at full and half width, and from several; and rows with all metadata.

    Loaders gather at a smaller width if it holds all tokens of the rows.
    """
    for path in (directory, sharded):
        read_into_page_cache(Path(path))
    one, many = LazySquadLikeQADataset.open(directory), LazySquadLikeQADataset.open(sharded)
    half = one.manifest.max_seq_length // 2
    ways: dict[str, Callable[[Any], Any]] = {
        ONE_SHARD: one.gather,
        CUT: lambda rows: one.tensors.gather(rows, MODEL_COLUMNS, half),
        MANY_SHARDS: many.gather,
    }
    found: dict[str, Any] = {}
    for size in BATCH_SIZES:
        batches = random_batches(size, len(one))
        for way in ways.values():
            for rows in batches:
                way(rows)
        calls = {name: partial(_next, way, itertools.cycle(batches)) for name, way in ways.items()}
        found[f"batch of {size}"] = in_turns(calls, rounds, budget=budget)
    numbers = random_rows(1000, len(one)).tolist()
    for row in numbers:
        _ = one[row]
    items: dict[str, Callable[[Any], Any]] = {ITEM: one.__getitem__, TENSORS: one.model_tensors}
    calls = {name: partial(_next, way, itertools.cycle(numbers)) for name, way in items.items()}
    found["row"] = in_turns(calls, rounds, budget=budget)
    return found


def _next(way: Callable[[Any], Any], arguments: Iterator[Any]) -> None:
    way(next(arguments))


def _warm_up(reader: Reader, batches: list[torch.Tensor]) -> None:
    """Read batches before timing, so that their pages are mapped."""
    for rows in batches:
        reader.batch(rows)


def _row(reader: Reader, rows: Iterator[int]) -> None:
    reader.row(next(rows))


def _batch(reader: Reader, rows: Iterator[torch.Tensor]) -> None:
    reader.batch(next(rows))
