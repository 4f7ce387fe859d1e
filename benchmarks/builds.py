"""The figures of building: against its peers, with workers and without, on long documents, in RAM and in start-up."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.data import SQUAD, long_file, squad_file
from benchmarks.ram import peak_of

TRAIN_EXAMPLES = 130_000
"""Examples of SQuAD's training set, about."""

MEMORY_GB = 2.0
"""The bound that the RAM figures set."""

_MODULE = "benchmarks.build_once"
_ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


def once(contestant: str, file: Path, runs: int = 1, **options: Any) -> Any:
    """Run a contestant in a process of its own: the seconds of each run, and the rows that it made."""
    done = subprocess.run(
        _command(contestant, file, runs, options), check=True, capture_output=True, text=True, env=_ENVIRONMENT
    )
    return json.loads(done.stdout.splitlines()[-1])


def _command(contestant: str, file: Path, runs: int, options: dict[str, Any]) -> list[str]:
    named = [f"{name}={json.dumps(value)}" for name, value in options.items()]
    return [sys.executable, "-m", _MODULE, contestant, str(file), str(runs), *named]


def _in_turns(contestants: dict[str, tuple[str, dict[str, Any]]], file: Path, rounds: int) -> dict[str, Any]:
    """The median seconds of each contestant, in fresh processes that take turns; all must make the same rows."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    rows: dict[str, int] = {}
    for _ in range(rounds):
        for name, (contestant, options) in contestants.items():
            result = once(contestant, file, **options)
            seconds[name] += result["seconds"]
            if contestant != "raw":
                rows[name] = result["rows"]
    if len(set(rows.values())) > 1:
        raise SystemExit(f"the contestants made different numbers of rows: {rows}")
    return {
        "rows": max(rows.values()),
        "seconds": seconds,
        "median": {name: statistics.median(values) for name, values in seconds.items()},
    }


def build_figures(rounds: int = 3, runs: int = 3) -> dict[str, Any]:
    """The SQuAD file in one process against `datasets.map`; the first run of each process warms up."""
    seconds: dict[str, list[float]] = {"memxlnet": [], "map": []}
    rows: dict[str, int] = {}
    for _ in range(rounds):
        for contestant, options in (("memxlnet", {"num_workers": 0}), ("map", {"num_proc": 2})):
            result = once(contestant, SQUAD, runs + 1, **options)
            seconds[contestant] += result["seconds"][1:]
            rows[contestant] = result["rows"]
    if rows["memxlnet"] != rows["map"]:
        raise SystemExit(f"the contestants made different numbers of rows: {rows}")
    median = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds": seconds,
        "examples_per_second": {name: 6078 / value for name, value in median.items()},
        "ratio": median["map"] / median["memxlnet"],
    }


def parallel_figures(rounds: int = 3) -> dict[str, Any]:
    """The SQuAD file repeated to the size of its training set, all cores, publishing included."""
    cores = os.cpu_count() or 1
    file = squad_file(TRAIN_EXAMPLES)
    contestants: dict[str, tuple[str, dict[str, Any]]] = {
        "chosen": ("memxlnet", {}),
        "workers": ("memxlnet", {"num_workers": cores}),
        "no workers": ("memxlnet", {"num_workers": 0}),
        "raw": ("raw", {}),
        "map": ("map", {"num_proc": cores}),
    }
    figures = _in_turns(contestants, file, rounds)
    median = figures["median"]
    return {
        **figures,
        "examples_per_second": {name: TRAIN_EXAMPLES / value for name, value in median.items()},
        "times datasets.map": median["map"] / median["chosen"],
        "share of raw encode_batch": median["raw"] / median["chosen"],
    }


def worker_figures(rounds: int = 5) -> dict[str, Any]:
    """Workers against none from 20,000 examples on, and what two of them take to start, on two examples."""
    figures: dict[str, Any] = {}
    for examples in (20_000, 40_000):
        contestants = {f"{n} workers": ("memxlnet", {"num_workers": n}) for n in (0, os.cpu_count() or 1)}
        figures[f"{examples} examples"] = _in_turns(contestants, squad_file(examples), rounds)["median"]
    small = {"streaming_chunk_size": 1}
    contestants = {f"{n} workers": ("memxlnet", {"num_workers": n, **small}) for n in (0, 2)}
    median = _in_turns(contestants, squad_file(2), rounds)["median"]
    figures["start of 2 workers, s"] = median["2 workers"] - median["0 workers"]
    return figures


def long_figures(rounds: int = 3, questions: int = 100) -> dict[str, Any]:
    """SQuAD's articles as one context each, against `datasets.map` on the same input."""
    cores = os.cpu_count() or 1
    contestants: dict[str, tuple[str, dict[str, Any]]] = {
        "memxlnet": ("memxlnet", {}),
        "map": ("map", {"num_proc": cores}),
    }
    figures = _in_turns(contestants, long_file(questions), rounds)
    return {**figures, "times datasets.map": figures["median"]["map"] / figures["median"]["memxlnet"]}


def ram_figures(rounds: int = 1) -> dict[str, Any]:
    """Peak private memory of the whole process tree by the size of the source, with workers and without."""
    figures: dict[str, Any] = {"bound, MiB": MEMORY_GB * 1024}
    for workers in (0, 2):
        for examples in (10_000, TRAIN_EXAMPLES, 1_000_000):
            command = _command(
                "memxlnet", squad_file(examples), 1, {"num_workers": workers, "max_memory_gb": MEMORY_GB}
            )
            peaks = [peak_of(command, _ENVIRONMENT).private / 2**20 for _ in range(rounds)]
            figures[f"{workers} workers, {examples} examples, MiB"] = statistics.median(peaks)
    return figures
