"""Reading the features: memxlnet's maps against tensors in RAM and other ways to keep them on a disk."""

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
"""Half as many as SQuAD's training set gives: pickled chunks of more take minutes to write."""

BATCH_SIZES = (8, 32, 256)

EPOCH_BATCH = 32

SHARDS = 4

ONE_SHARD, CUT, MANY_SHARDS = "one shard", "one shard, half the width", f"{SHARDS} shards"

ITEM, TENSORS = "dataset[i]", "dataset.model_tensors(i)"


def measure(settings: Settings) -> dict[str, Any]:
    """Each contestant in processes of its own for opening, memory and epochs; all in one for rows and batches."""
    segments = QUICK_SEGMENTS if settings.quick else SEGMENTS
    directory = long_cache(segments)
    there = [name for name in CONTESTANTS if installed(name)]
    settings.tell("writing the files of all contestants")
    folder = str(work() / "readers")
    paths, failed = in_process(write_all, names=there, directory=str(directory), folder=folder).value
    contestants: dict[str, Any] = {}
    for name, path in paths.items():
        contestants[name] = {"disk": _feature_bytes(name, Path(path)), "epochs": {}, "share": {}}
    for number in range(1 if settings.quick else 2):
        for name, path in list(paths.items()):
            settings.tell(f"{name}: opening, memory, epochs, round {number + 1}")
            try:
                for order in ("shuffled",) if settings.quick else ("sequential", "shuffled"):
                    _add(contestants[name], order, _alone(settings, name, path, order))
            except ChildError as error:
                if name == "memxlnet":
                    raise
                failed[name] = str(error).splitlines()[-1]
                del paths[name], contestants[name]
    settings.tell("random rows and batches of all contestants in turns")
    rounds, budget = (5, 1.0) if settings.quick else (21, 10.0)
    together = in_process(in_one_process, paths=paths, rounds=rounds, budget=budget).value
    settings.tell("memxlnet's own ways in turns")
    sharded = str(long_cache(segments, shards=SHARDS))
    own = in_process(own_ways, directory=str(directory), sharded=sharded, rounds=rounds, budget=budget).value
    return {
        "segments": together.pop("segments"),
        "contestants": contestants,
        "not installed": [name for name in CONTESTANTS if name not in there],
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
    """Write the files of contestants: their paths by name, and why it failed where a library does not do its part."""
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
    if name == "memxlnet":  # the peers keep no texts
        return sum(file.stat().st_size for file in path.glob("features-*.arrow"))
    return folder_bytes(path)


def epochs(name: str, path: str, shuffle: bool, seconds: float) -> dict[str, Any]:
    """Open from a cold page cache; read an epoch, or as much of it as the time allows, and the same once more."""
    load(name)  # the data is measured, not the library
    torch.zeros(64, 64) @ torch.zeros(64, 64)  # its threads
    evict(Path(path))
    memory.trim()
    before = memory.of_self()
    begun = time.perf_counter()
    reader = open_reader(name, Path(path))
    opened = time.perf_counter() - begun
    rates: list[float] = []
    rows, taken = 0, 0.0
    while len(rates) < 2 and taken < 4 * seconds:  # one batch of some contestants takes longer than that
        torch.manual_seed(0)  # the same order again
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
    """Read batches for some seconds, or so many rows where the number is not 0; the rows that were read."""
    deadline = time.perf_counter() + seconds
    rows = 0
    for batch in batches:
        rows += len(batch["input_ids"])
        if rows >= most_rows if most_rows else time.perf_counter() > deadline:
            break
    return rows


def in_one_process(paths: dict[str, str], rounds: int, budget: float) -> dict[str, Any]:
    """Seconds of a random row and of random batches, warm, all contestants in turns.

    A batch that will take longer than twice the budget, by the rows of the smaller one before, is left out.
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
    """Seconds of random batches from one shard, whole and cut, and from several; and of a row with all metadata.

    The cut gather is the one of loaders, which know that a width holds all tokens.
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
    """Read batches before they are timed, so that their pages are mapped."""
    for rows in batches:
        reader.batch(rows)


def _row(reader: Reader, rows: Iterator[int]) -> None:
    reader.row(next(rows))


def _batch(reader: Reader, rows: Iterator[torch.Tensor]) -> None:
    reader.batch(next(rows))
