"""Scaling of reading with the number of segments, and of building with the number of examples and the length of texts.

Reading covers opening, memory and batches of 10^4 to 10^7 segments; builds have 10^4 to 10^6 examples, or twenty
questions on one text of 0.4 to 3.2 million characters.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import memory
from benchmarks.caches import NoSpaceError, long_cache, question_cache, random_batches
from benchmarks.child import in_process
from benchmarks.data import book_file, repeated_file
from benchmarks.measure import fitted_exponent, in_turns, median, read_into_page_cache
from benchmarks.parts.build import run
from benchmarks.settings import Settings
from memxlnet import LazySquadLikeQADataset, create_dataloader
from memxlnet.load.cache_dataset import CacheDataset

SEGMENTS, QUICK_SEGMENTS = (10**4, 10**5, 10**6, 10**7), (10**4, 10**5)

LENGTH = 256
"""Tokens per row of the caches of 10^4 to 10^7 segments; 10^7 rows exceed the limit of one shard, 2^31 tokens."""

EXAMPLES, QUICK_EXAMPLES = (10**4, 10**5, 10**6), (10**3, 10**4)

BOOKS, QUICK_BOOKS = (400_000, 800_000, 1_600_000, 3_200_000), (50_000, 100_000)
"""Characters of one text with twenty questions whose answers must be searched for."""

SHARDS = (1, 2, 4)

BATCH_SIZES = (32, 256)


def measure(settings: Settings) -> dict[str, Any]:
    """Measure reading by segments and shards, and building by examples and characters of one text."""
    found: dict[str, Any] = {"length": LENGTH, "segments": _by_segments(settings), "examples": _by_examples(settings)}
    found["books"] = _by_characters(settings)
    settings.log("reading 1, 2 and 4 shards")
    rows = 12_718 if settings.quick else 127_180
    directories = {str(shards): str(question_cache(rows, shards)) for shards in SHARDS}
    found["shards"] = in_process(by_shards, directories=directories, rounds=5 if settings.quick else 9).value
    found["exponents"] = _exponents(found)
    return found


def _by_segments(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    directories: dict[int, Path] = {}
    for rows in QUICK_SEGMENTS if settings.quick else SEGMENTS:
        settings.log(f"making a cache of {rows:,} segments")
        try:
            directories[rows] = long_cache(rows, LENGTH)
        except NoSpaceError as error:
            found[str(rows)] = {"not possible": str(error)}
    for _ in range(1 if settings.quick else 3):
        for rows, directory in directories.items():
            settings.log(f"reading {rows:,} segments")
            value = in_process(read, directory=str(directory)).value
            one = found.setdefault(str(rows), {"open": [], "anonymous": [], "file": [], "batch": [], "first step": []})
            one |= {name: value.pop(name) for name in ("rows", "documents", "shards")}
            for name, samples in value.items():
                one[name] += samples
    return found


def read(directory: str) -> dict[str, Any]:
    """Open a cache for the first time in this process, gather warm random batches, and plan an epoch."""
    torch.zeros(64, 64) @ torch.zeros(64, 64)  # start the threads of torch
    memory.trim()
    before = memory.of_self()
    begun = time.perf_counter()
    dataset = LazySquadLikeQADataset.open(directory)
    opened = time.perf_counter() - begun
    batches = random_batches(32, len(dataset))
    for rows in batches:
        dataset.gather(rows)
    turn = iter(batches * 5000)
    samples = in_turns({"batch": lambda: dataset.gather(next(turn))}, rounds=5)["batch"]
    loader: Any = create_dataloader(dataset, 32, shuffle=True, lanes="refilled")
    begun = time.perf_counter()
    steps = iter(loader)
    next(steps)
    planned = time.perf_counter() - begun
    memory.trim()
    after = memory.of_self()
    return {
        "rows": len(dataset),
        "documents": dataset.cache.num_documents,
        "shards": len(dataset.cache.features),
        "open": [opened],
        "batch": samples,
        "anonymous": [after.anonymous - before.anonymous],
        "file": [after.file - before.file],
        "first step": [planned],
    }


def _by_examples(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for examples in QUICK_EXAMPLES if settings.quick else EXAMPLES:
        settings.log(f"writing a file of {examples:,} examples")
        file = repeated_file(examples)
        # A million takes long; the spread of the smaller ones is indicative.
        for number in range(1 if settings.quick or examples > 10**5 else 2):
            settings.log(f"building {examples:,} examples, round {number + 1}")
            child = in_process(run, name="memxlnet", file=str(file))
            if child.killed:
                found[str(examples)] = {"not possible": "killed by the system: out of memory"}
                break
            one = found.setdefault(str(examples), {"seconds": [], "anonymous": [], "file": []})
            one["seconds"].append(child.value["seconds"])
            peak = child.peak()
            one["anonymous"].append(peak.anonymous)
            one["file"].append(peak.file)
    return found


def _by_characters(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for characters in QUICK_BOOKS if settings.quick else BOOKS:
        file = book_file(characters)
        one = found[str(characters)] = {"seconds": [], "anonymous": []}
        for number in range(1 if settings.quick else 3):
            settings.log(f"building a book of {characters:,} characters, round {number + 1}")
            child = in_process(run, name="memxlnet", file=str(file))
            one["seconds"].append(child.value["seconds"])
            one["anonymous"].append(child.peak().anonymous)
    return found


def by_shards(directories: dict[str, str], rounds: int) -> dict[str, Any]:
    """Measure warm random batches of the same rows in one and in several shards, interleaved."""
    for directory in directories.values():
        read_into_page_cache(Path(directory))
    datasets = {shards: LazySquadLikeQADataset.open(directory) for shards, directory in directories.items()}
    found: dict[str, Any] = {"segments": len(datasets["1"])}
    for size in BATCH_SIZES:
        batches = random_batches(size, len(datasets["1"]))
        for dataset in datasets.values():
            for rows in batches:
                dataset.gather(rows)
        calls = {shards: partial(_gather, dataset, iter(batches * 5000)) for shards, dataset in datasets.items()}
        found[f"batch of {size}"] = in_turns(calls, rounds)
    return found


def _gather(dataset: CacheDataset, batches: Any) -> None:
    dataset.gather(next(batches))


def _exponents(found: dict[str, Any]) -> dict[str, float]:
    """Fit power laws to the medians of time and memory; return the exponents."""
    exponents = {}
    for kind, names in (
        ("segments", ("open", "batch", "anonymous")),
        ("examples", ("seconds", "anonymous")),
        ("books", ("seconds",)),
    ):
        of_kind = found.get(kind, {})
        sizes = {float(one.get("rows", size)): one for size, one in of_kind.items() if "not possible" not in one}
        for name in names if len(sizes) > 1 else ():
            exponents[f"{kind}: {name}"] = fitted_exponent(list(sizes), [median(one[name]) for one in sizes.values()])
    return exponents
