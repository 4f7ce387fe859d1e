"""The figures: build, random reads, opening, disk, import, loaders. ``python -m benchmarks.figures [part ...]``.

Run it on an idle machine. Needs the SQuAD file and the XLNet vocabulary in the folder that MEMXLNET_DATA names; works
in ``build/bench`` or in the folder that MEMXLNET_BENCH_DIR names (some 7 GB).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.builds import build_figures, long_figures, once, parallel_figures, ram_figures, worker_figures
from benchmarks.data import SQUAD, WORK, large_cache, random_rows
from benchmarks.loading import COPIES, LOADING, TENFOLD
from benchmarks.measure import compared, in_process, per_call
from memxlnet.load.datasets import CacheDataset
from memxlnet.load.tensors import MODEL_COLUMNS


def gather_figures() -> dict[str, Any]:
    """Random batches from the mapped cache against the same tensors in RAM."""
    dataset = CacheDataset(large_cache(COPIES))
    ram = {name: _whole(dataset, name).clone() for name in MODEL_COLUMNS}
    for name in MODEL_COLUMNS:
        _whole(dataset, name).sum()  # both are warm: this is about the gather, not about the disk
    figures: dict[str, Any] = {"segments": len(dataset)}
    for size in (8, 32, 256):
        batches = [torch.from_numpy(random_rows(size, len(dataset), seed)) for seed in range(200)]
        turn = {"ram": 0, "mapped": 0}

        def next_batch(name: str, batches: list[torch.Tensor] = batches, turn: dict[str, int] = turn) -> torch.Tensor:
            turn[name] += 1
            return batches[turn[name] % len(batches)]

        timings = compared(
            {
                "ram": partial(_index_select, ram, partial(next_batch, "ram")),
                "mapped": partial(_gather, dataset, partial(next_batch, "mapped")),
            }
        )
        ratio = timings["mapped"].median / timings["ram"].median
        figures[f"batch of {size}"] = {"ram": timings["ram"], "mapped": timings["mapped"], "ratio": ratio}
    rows = random_rows(2000, len(dataset)).tolist()
    turns = iter(rows * 1000)
    figures["item with all metadata, us"] = per_call(lambda: dataset[next(turns)], calls=2000).median * 1e6
    return figures


def shard_figures() -> dict[str, Any]:
    """Random batches and groups over 4 shards against one shard of the same rows."""
    one, four = CacheDataset(large_cache(COPIES)), CacheDataset(large_cache(COPIES, shards=4))
    figures: dict[str, Any] = {}
    for size in (32, 256):
        batches = [torch.from_numpy(random_rows(size, len(one), seed)) for seed in range(200)]
        turns = {"one": iter(batches * 1000), "four": iter(batches * 1000)}
        timings = compared(
            {
                "one": partial(_gather, one, partial(next, turns["one"])),
                "four": partial(_gather, four, partial(next, turns["four"])),
            }
        )
        figures[f"batch of {size}"] = {**timings, "ratio": timings["four"].median / timings["one"].median}
    return figures


def _index_select(columns: dict[str, torch.Tensor], take: Callable[[], torch.Tensor]) -> dict[str, torch.Tensor]:
    rows = take()
    return {name: column.index_select(0, rows) for name, column in columns.items()}


def _gather(dataset: CacheDataset, take: Callable[[], torch.Tensor]) -> dict[str, torch.Tensor]:
    return dataset.gather(take())


def _whole(dataset: CacheDataset, name: str) -> torch.Tensor:
    column = dataset.column(name)
    if not isinstance(column, torch.Tensor):
        raise SystemExit("expected a cache of one shard")
    return column


def open_figures() -> dict[str, Any]:
    """Milliseconds to open the large cache and one of ten times the rows."""
    figures: dict[str, Any] = {}
    for copies in (COPIES, TENFOLD):
        directory = large_cache(copies)
        timing = per_call(partial(CacheDataset, directory), rounds=7, calls=20)
        rows = len(CacheDataset(directory))
        figures[f"{rows} segments, ms"] = [value * 1e3 for value in timing]
        figures[f"{rows} segments, first, ms"] = in_process("benchmarks.open_once", str(directory))["seconds"] * 1e3
    return figures


def disk_figures() -> dict[str, Any]:
    """Bytes a segment of the published SQuAD cache, everything included."""
    once("memxlnet", SQUAD, num_workers=0)
    (directory,) = (path for path in (WORK / "build-memxlnet").iterdir() if not path.name.startswith("."))
    sizes = {path.name: path.stat().st_size for path in sorted(directory.iterdir())}
    return {"files": sizes, "bytes a segment": sum(sizes.values()) / len(CacheDataset(directory))}


def import_figures() -> dict[str, Any]:
    """Seconds of `import memxlnet` in fresh processes, Python's own start left out."""
    program = "import time; t = time.perf_counter(); import memxlnet; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
        for _ in range(9)
    ]
    return {"seconds": statistics.median(times), "slowest": max(times)}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "build": build_figures,
    "parallel": parallel_figures,
    "workers": worker_figures,
    "long": long_figures,
    "ram": ram_figures,
    "gather": gather_figures,
    "shards": shard_figures,
    "open": open_figures,
    "disk": disk_figures,
    "import": import_figures,
    **LOADING,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args()
    if not SQUAD.is_file():
        raise SystemExit(f"expected the SQuAD file at {SQUAD}; MEMXLNET_DATA names another folder")
    WORK.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    figures: dict[str, Any] = {"machine": machine, "torch": torch.__version__}
    for part in options.parts or PARTS:
        started = time.perf_counter()
        figures[part] = PARTS[part]()
        print(json.dumps({part: figures[part]}, indent=1), f"({time.perf_counter() - started:.0f} s)", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
