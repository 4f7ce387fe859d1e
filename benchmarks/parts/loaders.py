"""The loaders without a model: rows per second, waiting, memory of an epoch, resuming."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks import memory
from benchmarks.caches import long_cache, question_cache, whole_cache
from benchmarks.child import in_process
from benchmarks.measure import evict, in_turns
from benchmarks.settings import Settings
from benchmarks.steps import all_steps, steps_of
from memxlnet import Collate, LazySquadLikeQADataset, TimeStepMajorDataLoader, create_dataloader
from memxlnet.load.cache_dataset import BATCH_COLUMNS, CacheDataset
from memxlnet.load.option_literals import Dtype
from memxlnet.load.row_batch import RowBatch
from memxlnet.load.tensors import MODEL_COLUMNS, TOKEN_COLUMNS, as_dtype

SEGMENTS, QUICK_SEGMENTS = 127_180, 6_359

TENFOLD = 10

BATCH = 32

MODEL_SECONDS = 0.005


def measure(settings: Settings) -> dict[str, Any]:
    """Measure each figure in a separate process."""
    quick = settings.quick
    rows = QUICK_SEGMENTS if quick else SEGMENTS
    questions = question_cache(rows)
    rounds = 3 if quick else 5
    found: dict[str, Any] = {"epochs": {}}
    for name, directory in (("questions", questions), *(() if quick else (("long documents", long_cache(rows)),))):
        settings.log(f"time-step-major epochs of {name} and index_select of the same steps in RAM")
        found["epochs"][name] = in_process(epochs, directory=str(directory), rounds=rounds).value
    settings.log("the regular loader and torch's over tensors in RAM")
    found["regular"] = in_process(regular, directory=str(questions), rounds=rounds).value
    for state in ("warm", "cold"):
        settings.log(f"waiting time of a loop with steps of {MODEL_SECONDS * 1e3:.0f} ms, {state} page cache")
        found[f"waiting, {state}"] = [
            in_process(waiting, directory=str(questions), state=state, number=200 if quick else 1200).value
            for _ in range(1 if quick else 2)
        ]
    settings.log("resuming")
    found["resume"] = in_process(resume, directory=str(questions), epoch=1_000_000 // (rows // BATCH)).value
    caches = {"questions": questions}
    if not quick:
        settings.log("making the caches for the memory of an epoch")
        caches |= {"questions, tenfold": question_cache(rows * TENFOLD), "whole texts": whole_cache(rows)}
    found["memory of an epoch"] = {}
    for name, directory in caches.items():
        settings.log(f"memory of an epoch of {name}")
        found["memory of an epoch"][name] = in_process(epoch_memory, directory=str(directory)).value
    return found


def _in_ram(dataset: CacheDataset, names: tuple[str, ...], dtype: Dtype) -> dict[str, torch.Tensor]:
    return as_dtype(dataset.gather(range(len(dataset)), names), dtype)


def epochs(directory: str, rounds: int) -> dict[str, Any]:
    """Measure shuffled epochs of the loader, and of `index_select` of the same steps from tensors in RAM."""
    dataset = LazySquadLikeQADataset.open(directory)
    found: dict[str, Any] = {"segments": len(dataset)}
    for dtype in ("stored", "int64"):
        columns = _in_ram(dataset, MODEL_COLUMNS, dtype)
        for lanes in ("aligned", "refilled"):
            loader: Any = create_dataloader(dataset, BATCH, shuffle=True, lanes=lanes, dtype=dtype)
            # A padding lane costs the loader a row, so select one in RAM, too.
            steps = [step["rows"].clamp(min=0) for step in steps_of(loader)]
            calls = {"RAM tensors": partial(_select, columns, steps), "loader": partial(_load, loader)}
            padding = loader.epoch_size(0).padding_share
            found[f"{lanes}, {dtype}"] = {"seconds": in_turns(calls, rounds), "padding": padding}
        del columns, calls
    return found


def _select(columns: dict[str, torch.Tensor], steps: list[torch.Tensor]) -> None:
    for rows in steps:
        _ = {name: column.index_select(0, rows) for name, column in columns.items()}


def _load(loader: Any) -> None:
    loader.set_epoch(0)
    for _ in steps_of(loader):
        pass


class _RamRows(torch.utils.data.Dataset[Any]):
    """The columns of regular batches as tensors in RAM, gathered like the mapped ones."""

    def __init__(self, columns: dict[str, torch.Tensor]):
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitems__(self, rows: list[int]) -> RowBatch:
        wanted = torch.tensor(rows)
        found = {name: column.index_select(0, wanted) for name, column in self.columns.items()}
        return RowBatch({**found, "rows": wanted}, wanted)


def regular(directory: str, rounds: int) -> dict[str, Any]:
    """Measure shuffled epochs of the regular loader, and of torch's `DataLoader` over the same columns in RAM."""
    dataset = LazySquadLikeQADataset.open(directory)
    ram = _RamRows(_in_ram(dataset, BATCH_COLUMNS, "stored"))
    loaders: dict[str, Any] = {
        "RAM tensors": DataLoader(ram, BATCH, shuffle=True, collate_fn=Collate("stored")),
        "loader": create_dataloader(dataset, BATCH, shuffle=True, use_time_step_major=False, dtype="stored"),
    }
    calls = {name: partial(_read, loader) for name, loader in loaders.items()}
    return {"segments": len(dataset), "seconds": in_turns(calls, rounds)}


def _read(loader: Any) -> None:
    for _ in loader:
        pass


def waiting(directory: str, state: str, number: int) -> dict[str, Any]:
    """Measure the share of time that a loop with steps of a few milliseconds waits, the first step included."""
    if state == "cold":
        evict(Path(directory))
    dataset = LazySquadLikeQADataset.open(directory)
    if state == "warm":
        for name in TOKEN_COLUMNS:
            dataset.gather(range(len(dataset)), (name,))
    loader: Any = create_dataloader(dataset, BATCH, shuffle=True, num_workers=1, dtype="stored", lanes="refilled")
    steps, waited, begun = all_steps(loader), 0.0, time.perf_counter()
    for _ in range(number):
        asked = time.perf_counter()
        next(steps)
        waited += time.perf_counter() - asked
        time.sleep(MODEL_SECONDS)
    seconds = time.perf_counter() - begun
    return {"share waited": waited / seconds, "steps": number}


def epoch_memory(directory: str) -> dict[str, Any]:
    """Measure the growth of anonymous memory over a shuffled epoch in int64, with about 400 samples."""
    next(
        steps_of(create_dataloader(LazySquadLikeQADataset.open(directory), 2, max_segments=1))
    )  # start the threads of torch
    memory.trim()
    before = peak = memory.of_self().anonymous
    dataset = LazySquadLikeQADataset.open(directory)
    loader: Any = create_dataloader(dataset, BATCH, shuffle=True, num_workers=1)
    steps = loader.epoch_size(0).steps
    for number, _ in enumerate(steps_of(loader)):
        if number % max(8, steps // 400) == 0:
            peak = max(peak, memory.of_self().anonymous)
    return {
        "segments": len(dataset),
        "documents": dataset.cache.num_documents,
        "longest document": int(dataset.documents.num_segments.max()),
        "anonymous grown": peak - before,
    }


def resume(directory: str, epoch: int) -> dict[str, Any]:
    """Measure the seconds from `load_state_dict` to the first step, in the middle of an epoch."""
    dataset = LazySquadLikeQADataset.open(directory)
    found: dict[str, Any] = {"epoch": epoch}
    for lanes in ("aligned", "refilled"):
        made = partial(TimeStepMajorDataLoader, dataset, BATCH, True, lanes=lanes)
        steps = made().epoch_size(epoch).steps
        step = steps // 2
        found[f"step, {lanes}"] = epoch * steps + step
        found[lanes] = [_resumed(made, epoch, step) for _ in range(7)]
    return found


def _resumed(made: Callable[[], TimeStepMajorDataLoader], epoch: int, step: int) -> float:
    loader = made()
    state = {**loader.state_dict(), "epoch": epoch, "step": step}
    begun = time.perf_counter()
    loader.load_state_dict(state)
    next(steps_of(loader))
    return time.perf_counter() - begun
