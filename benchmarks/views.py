"""Views, mixtures and joined caches, compared with one cache: ``python -m benchmarks.views [--quick]``.

All figures are of one run, with interleaved rounds, and are medians. A view holds a random tenth of the documents;
its gather reads as many random rows as that of the whole cache. A mixture is of six caches, weighted by their sizes,
and the cache that it is compared with holds the same rows. States of loaders are taken at random steps of a mixture,
and what is read after a resume is compared with an uninterrupted epoch, tensor by tensor.
"""

import argparse
import random
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from itertools import islice
from typing import Any

import torch

from benchmarks.caches import long_cache, question_cache, random_batches
from benchmarks.data import work
from benchmarks.measure import folder_bytes, in_turns, median, ratio
from benchmarks.report.quantities import table
from benchmarks.steps import steps_of
from memxlnet import CacheDataset, MixedDataset, concatenate, create_dataloader, mix

SOURCES, LANES = 6, 32


def view_figures(rows: int, rounds: int) -> list[list[str]]:
    """Measure opening a cache, choosing a tenth of its documents, and gathers of both."""
    directory = question_cache(rows)
    opening = in_turns({"open": lambda: CacheDataset(directory)}, rounds)["open"]
    whole = CacheDataset(directory)
    chosen = whole.sample(0.1, seed=0).chosen
    assert chosen is not None
    places = chosen.tolist()
    choosing, reading = [], []
    for _ in range(rounds):
        dataset = CacheDataset(directory)
        begun = time.perf_counter()
        _ = dataset.select(chosen).fingerprint
        choosing.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        _ = dataset.documents
        reading.append(time.perf_counter() - begun)
    view = whole.select(places)
    batches = random_batches(32, len(whole))
    own = [torch.from_numpy(view.rows())[batch % len(view)] for batch in batches]
    gathers = in_turns(
        {
            "whole": lambda: [whole.gather(batch) for batch in batches],
            "view": lambda: [view.gather(batch) for batch in own],
        },
        rounds,
    )
    return [
        ["documents", f"{whole.num_documents:,}"],
        ["opening the cache", f"{median(opening) * 1e3:.2f} ms"],
        ["a view of a tenth, beyond opening", f"{median(choosing) * 1e3:.2f} ms"],
        ["where the segments of all documents lie, as any loader reads it", f"{median(reading) * 1e3:.2f} ms"],
        ["its gather of 32 rows, against that of the cache", f"{ratio(gathers['view'], gathers['whole']):.3f}"],
    ]


def fold_figures(rows: int) -> list[list[str]]:
    """Count the bytes that five folds write."""
    directory = question_cache(rows)
    before = folder_bytes(work())
    folds = CacheDataset(directory).folds(5, seed=0, by="context")
    for fold in folds:
        len(fold.train), len(fold.test)
    return [["five folds: bytes written", f"{folder_bytes(work()) - before:,}"]]


def mixture_figures(rows: int, rounds: int) -> list[list[str]]:
    """Measure epochs of a mixture of six caches, and of one cache that holds the same rows."""
    parts = [CacheDataset(question_cache(rows + number)) for number in range(SOURCES)]
    mixed = mix(parts, [part.num_documents for part in parts])
    one = CacheDataset(question_cache(sum(map(len, parts))))
    found = []
    for lanes in ("aligned", "refilled"):
        datasets: dict[str, CacheDataset] = {"one": one, "joined": concatenate(parts), "mixture": mixed}
        loaders = {
            name: create_dataloader(dataset, LANES, shuffle=True, lanes=lanes, dtype="stored")
            for name, dataset in datasets.items()
        }
        seconds = in_turns({name: partial(_epoch, loader) for name, loader in loaders.items()}, rounds)
        size = {name: loader.epoch_size(0).segments for name, loader in loaders.items()}
        for name in ("joined", "mixture"):
            relative = ratio(seconds[name], seconds["one"]) * size["one"] / size[name]
            found.append(
                [
                    f"epoch of {size[name]:,} segments of {SOURCES} caches, {lanes}: {name} against one cache",
                    f"{relative:.3f}",
                ]
            )
    return found


def _epoch(loader: Any) -> None:
    loader.set_epoch(0)
    for _ in steps_of(loader):
        pass


def resume_figures(rows: int, stops: int) -> list[list[str]]:
    """Resume a mixture at random steps, and compare what is read with an uninterrupted run."""
    parts = [CacheDataset(question_cache(rows)), CacheDataset(long_cache(rows // 2))]

    def make() -> Any:
        return create_dataloader(_mixed(parts), LANES, shuffle=True, lanes="refilled", dtype="stored")

    loader = make()
    steps = len(loader)
    expected = [loader_rows(step) for step in loader]
    draw = random.Random(0)
    seconds = []
    for stop in [draw.randrange(1, steps - 1) for _ in range(stops)]:
        loader = make()
        state = {**loader.state_dict(), "step": stop}
        begun = time.perf_counter()
        loader.load_state_dict(state)
        step = next(iter(loader))
        seconds.append(time.perf_counter() - begun)
        if not all(torch.equal(one, other) for one, other in zip(loader_rows(step), expected[stop], strict=True)):
            raise SystemExit(f"step {stop}: expected that of the uninterrupted epoch, found another one")
    return [
        [f"resume of a mixture at {stops:,} random steps of {steps:,}", "equal"],
        ["the slowest of all but ten, with its first step", f"{sorted(seconds)[-min(11, len(seconds))] * 1e3:.1f} ms"],
        ["the median", f"{median(seconds) * 1e3:.1f} ms"],
    ]


def litdata_figures(rows: int, stops: int) -> list[list[str]]:
    """Do the same with LitData's combined dataset over the same rows, where it is installed."""
    if find_spec("litdata") is None:
        return []
    from benchmarks.readers import litdata_reader

    folders = []
    for number, directory in enumerate((question_cache(rows), long_cache(rows // 2))):
        folder = work() / f"mixed-litdata-{rows}-{number}"
        if not folder.is_dir():
            litdata_reader.write(directory, folder)
        folders.append(folder)

    def make() -> Any:
        return litdata_reader.mixed_loader(folders, [2 / 3, 1 / 3], LANES)

    expected = [batch["input_ids"] for batch in make()]
    draw = random.Random(0)
    seconds, equal = [], 0
    for stop in [draw.randrange(1, len(expected) - 1) for _ in range(stops)]:
        stopped = make()
        for _ in islice(stopped, stop):
            pass
        state = stopped.state_dict()
        loader = make()
        begun = time.perf_counter()
        loader.load_state_dict(state)
        found = next(iter(loader))["input_ids"]
        seconds.append(time.perf_counter() - begun)
        equal += found.shape == expected[stop].shape and torch.equal(found, expected[stop])
    return [
        [f"LitData's combined dataset, {stops} random batches of {len(expected):,}: first batch equal", f"{equal}"],
        ["the median", f"{median(seconds) * 1e3:.1f} ms"],
    ]


def _mixed(parts: list[CacheDataset]) -> MixedDataset:
    return mix(parts, [2, 1], epoch="shortest")


def loader_rows(step: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what identifies a step: its rows and its tokens."""
    return step["rows"], step["input_ids"]


def figures(quick: bool) -> Iterator[list[str]]:
    """Yield each figure with its name."""
    rounds = 3 if quick else 9
    yield from view_figures(20_000 if quick else 1_000_000, rounds)
    yield from fold_figures(6_000)
    yield from mixture_figures(2_000 if quick else 20_000, rounds)
    yield from resume_figures(2_000 if quick else 20_000, 20 if quick else 1_000)
    yield from litdata_figures(2_000 if quick else 20_000, 5 if quick else 20)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.views", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small caches and few rounds")
    options = parser.parse_args(arguments)
    print(table(["what", "measured"], list(figures(options.quick))))


if __name__ == "__main__":
    main()
