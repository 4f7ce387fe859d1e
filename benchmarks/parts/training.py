"""The example training loop with the lazy, the eager and the pickled-chunk loader: speed, waiting, memory over time."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import memory
from benchmarks.caches import MAX_SEQ_LENGTH, MEMORY_TOKENS, long_cache
from benchmarks.child import in_process
from benchmarks.data import work
from benchmarks.measure import evict
from benchmarks.parts.reading import QUICK_SEGMENTS, SEGMENTS, write_all
from benchmarks.readers import Reader, open_reader
from benchmarks.recurrent_model import RecurrentXLNet, small_xlnet
from benchmarks.settings import Settings
from benchmarks.steps import all_steps
from benchmarks.train_recurrent import Meter, train
from memxlnet import LazySquadLikeQADataset, SquadLikeQADataset, TimeStepMajorDataLoader

LANES = 8

LOADERS = ("lazy", "eager", "pickled chunks")

WARM_UP_STEPS = 12

THROUGH_TIME = 4


def measure(settings: Settings) -> dict[str, Any]:
    """Measure each loader in a separate process, from a cold page cache, for the same time, on long documents."""
    directory = long_cache(QUICK_SEGMENTS if settings.quick else SEGMENTS)
    settings.log("writing the pickled chunks")
    folder = str(work() / "readers")
    (written, _) = in_process(write_all, names=["pickled chunks"], directory=str(directory), folder=folder).value
    found: dict[str, Any] = {"segments": len(LazySquadLikeQADataset.open(directory)), "lanes": LANES, "loaders": {}}
    seconds = 2.0 if settings.quick else 12.0
    rounds = 1 if settings.quick else 2
    for number in range(rounds):
        for loader in LOADERS:
            settings.log(f"{loader}, round {number + 1} of {rounds}")
            child = in_process(
                run, loader=loader, directory=str(directory), pickled=written["pickled chunks"], seconds=seconds
            )
            one = found["loaders"].setdefault(loader, {})
            for name, value in child.value.items():
                one.setdefault(name, []).append(value)
    return found


def run(loader: str, directory: str, pickled: str, seconds: float) -> dict[str, Any]:
    """Warm up the model, open the data, and train for some seconds.

    Memory is sampled after each update, when activations are freed. The model has allocated its memory before the data
    is opened, so that growth is due to the loader.
    """
    for path in (directory, pickled):
        evict(Path(path))
    vocabulary = LazySquadLikeQADataset.open(directory).manifest.vocabulary_size
    torch.manual_seed(0)
    model = RecurrentXLNet(small_xlnet(vocabulary, 0), vocabulary, MEMORY_TOKENS)
    held: list[tuple[float, int]] = []

    def sample(*_: float) -> None:
        memory.trim()
        held.append((time.monotonic(), memory.of_self().anonymous))

    train(model, _synthetic_steps(vocabulary), WARM_UP_STEPS, 1e-3, THROUGH_TIME, sample)
    (opened, before), held[:] = held[-1], []
    steps = _steps(loader, directory, pickled)
    meter, rows = Meter(), 0

    def counted() -> Iterator[Any]:
        nonlocal rows
        for step in _until(meter.timed(steps), opened + seconds):
            rows += step["num_active"]
            yield step

    train(model, counted(), 10**9, 1e-3, THROUGH_TIME, sample)
    sample()  # the last update may have been cut short
    return {
        "steps": meter.steps,
        "share of an epoch": rows / len(LazySquadLikeQADataset.open(directory)),
        "steps a second": meter.steps / meter.seconds,
        "share waited": meter.waited / meter.seconds,
        "anonymous grown": max(anonymous for _, anonymous in held) - before,
        "anonymous of the model": before,
        "samples": [(round(moment - opened, 3), anonymous - before) for moment, anonymous in held],
    }


def _until(steps: Iterator[Any], deadline: float) -> Iterator[Any]:
    for step in steps:
        yield step
        if time.monotonic() > deadline:
            return


def _steps(loader: str, directory: str, pickled: str) -> Iterator[Any]:
    if loader == "pickled chunks":
        index = LazySquadLikeQADataset.open(directory).documents
        return pickled_steps(open_reader(loader, Path(pickled)), index.first_segment, index.num_segments)
    kind = LazySquadLikeQADataset if loader == "lazy" else SquadLikeQADataset
    return all_steps(TimeStepMajorDataLoader(kind.open(directory), LANES, shuffle=True, num_workers=1))


def pickled_steps(reader: Reader, firsts: Any, counts: Any) -> Iterator[dict[str, Any]]:
    """Yield steps over pickled chunks, row by row and group by group, without end, as code without a cache does.

    Args:
        reader: Reader of the chunks.
        firsts: int64[documents], the first row of each document.
        counts: The number of rows of each document.
    """
    numbers, lanes = np.random.default_rng(0), min(LANES, len(counts))
    while True:
        order = numbers.permutation(len(counts))
        for start in range(0, len(order) - lanes + 1, lanes):
            group = order[start : start + lanes]
            for index in range(int(counts[group].max())):
                yield _pickled_step(reader, firsts[group], counts[group], index)


def _pickled_step(reader: Reader, firsts: Any, counts: Any, index: int) -> dict[str, Any]:
    active = counts > index
    rows = [reader.row(int(first) + index) if held else None for first, held in zip(firsts, active, strict=True)]
    some = next(row for row in rows if row is not None)
    padding = {name: torch.zeros_like(value) for name, value in some.items()}
    padding["start_positions"] = padding["end_positions"] = torch.tensor(MAX_SEQ_LENGTH)
    mask = torch.from_numpy(active)
    step: dict[str, Any] = {name: torch.stack([(row or padding)[name] for row in rows]) for name in some}
    return {**step, **_flags(mask, index == 0, torch.from_numpy(counts == index + 1))}


def _flags(mask: torch.Tensor, is_first: bool, is_last: torch.Tensor) -> dict[str, Any]:
    """Return the other entries of a step that a training loop needs; memory tokens are at the first positions."""
    lanes = len(mask)
    return {
        "document_mask": mask,
        "num_active": int(mask.sum()),
        "reset": mask & is_first,
        "is_last": mask & is_last,
        "mem_read_start": torch.full((lanes,), 8),
        "mem_write_start": torch.full((lanes,), 2),
    }


def _synthetic_steps(vocabulary: int) -> Iterator[dict[str, Any]]:
    """Yield steps of random ids with the shapes of real ones."""
    shape = (LANES, MAX_SEQ_LENGTH)
    for index in range(WARM_UP_STEPS):
        step = {
            "input_ids": torch.randint(0, vocabulary, shape),
            "attention_mask": torch.ones(shape, dtype=torch.int64),
            "token_type_ids": torch.zeros(shape, dtype=torch.int64),
            "start_positions": torch.randint(0, MAX_SEQ_LENGTH, (LANES,)),
            "end_positions": torch.randint(0, MAX_SEQ_LENGTH, (LANES,)),
        }
        everywhere = torch.ones(LANES, dtype=torch.bool)
        yield {**step, **_flags(everywhere, index == 0, everywhere & (index == WARM_UP_STEPS - 1))}
