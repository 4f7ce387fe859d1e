"""Figures of the loaders: rows a second, waiting, RAM of an epoch, resuming."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.data import SQUAD_SEGMENTS, large_cache, long_cache
from benchmarks.measure import in_process
from memxlnet import TimeStepMajorDataLoader, create_dataloader
from memxlnet.load.batches import RowBatch, as_dtype
from memxlnet.load.collate import Collate
from memxlnet.load.datasets import BATCH_COLUMNS, CacheDataset
from memxlnet.load.tensors import MODEL_COLUMNS

COPIES = 20
"""Copies of the SQuAD file in the large cache: 127,180 segments."""

TENFOLD = 200

BATCH = 32


def steps_of(loader: Any) -> Iterator[dict[str, Any]]:
    """The steps of an epoch, whether lanes are aligned in groups or refilled."""
    for found in loader:
        yield from (found,) if isinstance(found, dict) else found


def _rounds(contestants: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Rows a second of several loops over an epoch: medians, their rounds interleaved."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for call in contestants.values():
        call()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in contestants.items():
                begun = time.perf_counter()
                rows = call()
                rates[name].append(rows / (time.perf_counter() - begun))
    finally:
        gc.enable()
    return {name: statistics.median(found) for name, found in rates.items()}


def _in_ram(dataset: CacheDataset, names: tuple[str, ...], dtype: str) -> dict[str, torch.Tensor]:
    return as_dtype(dataset.gather(range(len(dataset)), names), dtype)


def epoch_figures() -> dict[str, Any]:
    """A shuffled time-step-major epoch against `index_select` of the same steps from tensors in RAM."""
    figures: dict[str, Any] = {}
    caches = {"SQuAD": large_cache(COPIES), "long documents": long_cache()}
    for name, directory in caches.items():
        dataset = CacheDataset(directory)
        for dtype in ("stored", "int64"):
            columns = _in_ram(dataset, MODEL_COLUMNS, dtype)
            for lanes in ("aligned", "refilled"):
                figures[f"{name}, {lanes}, {dtype}"] = _epoch(dataset, columns, lanes, dtype)
            del columns
    figures[f"group of 8 of {SQUAD_SEGMENTS} rows, us"] = _group_of_8() * 1e6
    return figures


def _epoch(dataset: CacheDataset, columns: dict[str, torch.Tensor], lanes: str, dtype: str) -> dict[str, Any]:
    loader: Any = create_dataloader(dataset, BATCH, shuffle=True, lanes=lanes, dtype=dtype)
    size = loader.epoch_size(0)
    # Padding costs the loader a row as well; in RAM any row stands in for it.
    steps = [step["rows"].clamp(min=0) for step in steps_of(loader)]

    def select() -> int:
        for rows in steps:
            _ = {name: column.index_select(0, rows) for name, column in columns.items()}
        return int(size.segments)

    def load() -> int:
        loader.set_epoch(0)
        return sum(step["num_active"] for step in steps_of(loader))

    rates = _rounds({"RAM": select, "loader": load}, 9)
    return {**rates, "ratio": rates["loader"] / rates["RAM"], "padding": size.padding_share}


def _group_of_8() -> float:
    dataset = CacheDataset(large_cache(1))
    loader: Any = create_dataloader(dataset, 8, shuffle=True)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in steps_of(loader):
            pass
        times.append((time.perf_counter() - begun) / len(loader))
    return statistics.median(times)


class _RamRows(torch.utils.data.Dataset[Any]):
    """The columns of a regular batch as tensors in RAM, gathered like the mapped ones."""

    def __init__(self, columns: dict[str, torch.Tensor]):
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitems__(self, rows: list[int]) -> RowBatch:
        wanted = torch.tensor(rows)
        found = {name: column.index_select(0, wanted) for name, column in self.columns.items()}
        return RowBatch({**found, "rows": wanted}, len(rows))


def regular_figures() -> dict[str, Any]:
    """The regular loader against torch's over tensors in RAM, and against `datasets` in torch format."""
    dataset = CacheDataset(large_cache(COPIES))
    ram = _RamRows(_in_ram(dataset, BATCH_COLUMNS, "stored"))
    collate = Collate("stored")
    loaders: dict[str, Any] = {
        "RAM": DataLoader(ram, BATCH, shuffle=True, collate_fn=collate),
        "loader": create_dataloader(dataset, BATCH, shuffle=True, use_time_step_major=False, dtype="stored"),
    }
    rates = _rounds({name: partial(_read, loader) for name, loader in loaders.items()}, 7)
    rates |= in_process("benchmarks.loading_once", "datasets", str(dataset.directory))
    return {**rates, **{f"ratio to {name}": rates["loader"] / rates[name] for name in ("RAM", "datasets")}}


def _read(loader: Any) -> int:
    return sum(len(batch["input_ids"]) for batch in loader)


def waiting_figures() -> dict[str, Any]:
    """The share of wall time that a loop with a model step waits for the loader, from a warm and a cold page cache."""
    figures: dict[str, Any] = {}
    for copies, states in ((COPIES, ("warm", "cold")), (TENFOLD, ("cold",))):
        for state in states:
            for model in ("sleep", "xlnet"):
                name = f"{copies * SQUAD_SEGMENTS} segments, {state}, {model}"
                directory = str(large_cache(copies))
                figures[name] = in_process("benchmarks.loading_once", "waiting", directory, state, model)
    return figures


def pressure_figures() -> dict[str, Any]:
    """A cold shuffled loop over a cache three times as large as the memory it may use, with page advice and without."""
    large = str(large_cache(TENFOLD))
    return {
        f"page advice {advice}": in_process("benchmarks.loading_once", "pressure", large, advice)
        for advice in ("on", "off")
    }


def epoch_ram_figures() -> dict[str, Any]:
    """Growth of anonymous RAM over an epoch, each in a process of its own."""
    caches: dict[str, Path] = {
        f"{COPIES * SQUAD_SEGMENTS} segments": large_cache(COPIES),
        f"{TENFOLD * SQUAD_SEGMENTS} segments": large_cache(TENFOLD),
        "documents of 1,000 segments": long_cache(whole=True),
    }
    return {
        f"{name}, {lanes}": in_process("benchmarks.loading_once", "ram", str(directory), lanes)
        for name, directory in caches.items()
        for lanes in ("aligned", "refilled")
    }


def resume_figures() -> dict[str, Any]:
    """Milliseconds from `load_state_dict` to the first step, at step 1,000,000 of training and of an epoch."""
    figures: dict[str, Any] = {}
    for lanes in ("aligned", "refilled"):
        dataset = CacheDataset(large_cache(COPIES))
        made = partial(TimeStepMajorDataLoader, dataset, BATCH, True, lanes=lanes)
        steps = made().epoch_size(0).steps
        epoch, step = divmod(1_000_000, steps)
        figures[f"{lanes}, step 1,000,000 of training: epoch {epoch}"] = _resume(made, epoch, step)
        large = CacheDataset(large_cache(TENFOLD))
        made = partial(TimeStepMajorDataLoader, large, 1, True, lanes=lanes)
        figures[f"{lanes}, step 1,000,000 of an epoch of {made().epoch_size(0).steps}"] = _resume(made, 0, 1_000_000)
    return figures


def _resume(made: Callable[[], TimeStepMajorDataLoader], epoch: int, step: int) -> float:
    times = []
    for _ in range(7):
        loader = made()
        state = {**loader.state_dict(), "epoch": epoch, "step": step}
        begun = time.perf_counter()
        loader.load_state_dict(state)
        next(steps_of(loader))
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3


LOADING: dict[str, Callable[[], dict[str, Any]]] = {
    "epoch": epoch_figures,
    "regular": regular_figures,
    "waiting": waiting_figures,
    "pressure": pressure_figures,
    "epoch-ram": epoch_ram_figures,
    "resume": resume_figures,
}
