"""Building the features: seconds, peak memory of the process tree and disk, against the usual ways."""

import importlib
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.builders import BUILDERS
from benchmarks.child import in_process
from benchmarks.data import data, long_file, num_examples, repeated_file, rows_of, work
from benchmarks.measure import folder_bytes
from benchmarks.settings import Settings
from memxlnet.load.tensors import MODEL_COLUMNS

TRAINING_EXAMPLES = 130_000
"""Questions of SQuAD's training set, about."""

LONG_QUESTIONS = 100

TRADITIONAL_BYTES = 100_000
"""Memory for one segment as Python objects, about: where there is less than that for all, this way is not tried."""

LIBRARIES = {
    "memxlnet": ["transformers.models.xlnet", "memxlnet.load.qa_datasets"],
    "datasets.map": ["transformers.models.xlnet", "datasets"],
    "pair call": ["transformers.models.xlnet", "torch"],
    "traditional": ["transformers.models.xlnet", "torch"],
}
"""What is loaded before the clock starts: it is the work that is measured."""

WRITES = ("memxlnet", "datasets.map", "traditional")


def measure(settings: Settings) -> dict[str, Any]:
    """The questions repeated to the size of SQuAD's training set, and articles as one context each."""
    if settings.quick:
        equal = _checked_equal(settings, [repeated_file(500)])
        rounds = dict.fromkeys(BUILDERS, 1)
        whole = _compared(settings, repeated_file(min(TRAINING_EXAMPLES, num_examples())), rounds)
        return {"questions": {**whole, "equal": equal}}
    equal = _checked_equal(settings, [data().file, long_file(2)])
    rounds = {"memxlnet": 5, "datasets.map": 3, "pair call": 2, "traditional": 2}
    whole = _compared(settings, repeated_file(TRAINING_EXAMPLES), rounds)
    rounds = {"memxlnet": 3, "datasets.map": 2, "pair call": 1, "traditional": 1}
    long = _compared(settings, long_file(LONG_QUESTIONS), rounds)
    return {"questions": {**whole, "equal": equal}, "long documents": {**long, "equal": equal}}


def _checked_equal(settings: Settings, files: list[Path]) -> dict[str, Any]:
    """Check that all ways make the same features of some files, value by value, before anything is timed."""
    settings.tell("checking that all ways make the same features")
    found: dict[str, Any] = in_process(equal_features, files=[str(file) for file in files]).value
    return found


def equal_features(files: list[str]) -> dict[str, Any]:
    """Build with every way in this process and compare all values of all model columns.

    Raises:
        SystemExit: They differ.
    """
    segments = sum(_equal_segments(Path(file)) for file in files)
    return {"segments": segments, "columns": list(MODEL_COLUMNS), "contestants": list(BUILDERS)}


def _equal_segments(file: Path) -> int:
    first: Any = None
    for name, builder in BUILDERS.items():
        folder = _fresh_folder("equal")
        columns = builder(file, folder, os.cpu_count() or 1).columns()
        shutil.rmtree(folder)
        first = first or columns
        for column in MODEL_COLUMNS:
            if not np.array_equal(first[column], columns[column]):
                raise SystemExit(f"{file.name}, {column}: expected the values of memxlnet, found others with {name}")
    return len(first["input_ids"])


def _compared(settings: Settings, file: Path, rounds: dict[str, int]) -> dict[str, Any]:
    """Fresh processes that take turns."""
    found: dict[str, Any] = {}
    segments: dict[str, int] = {}
    for number in range(max(rounds.values())):
        for name, most in rounds.items():
            if number >= most:
                continue
            if name == "traditional" and (lacking := _lacking_memory(segments["memxlnet"])):
                found[name] = {"not possible": lacking}
                continue
            settings.tell(f"{file.stem}: {name}, round {number + 1} of {most}")
            child = in_process(run, name=name, file=str(file))
            one = found.setdefault(name, {"seconds": [], "anonymous": [], "file": [], "samples": []})
            peak = child.peak()
            one["anonymous"].append(peak.anonymous)
            one["file"].append(peak.file)
            if child.killed:
                found[name] = {"not possible": f"killed by the system at {peak.anonymous / 1e9:.1f} GB of memory"}
                continue
            one["seconds"].append(child.value["seconds"])
            one["samples"] = child.timeline()
            if name in WRITES:
                one["disk"] = child.value["disk"]
            segments[name] = child.value["segments"]
    if len(set(segments.values())) > 1:
        raise SystemExit(f"{file.name}: expected all ways to make the same number of segments, found {segments}")
    return {"examples": len(rows_of(file)), "segments": segments["memxlnet"], "contestants": found}


def _lacking_memory(segments: int) -> str:
    needed, available = segments * TRADITIONAL_BYTES, psutil.virtual_memory().available
    if needed <= available:
        return ""
    return f"needs some {needed / 1e9:.0f} GB of memory, {available / 1e9:.0f} GB are available"


def run(name: str, file: str) -> dict[str, Any]:
    """One contestant, once, in this process."""
    for module in LIBRARIES[name]:
        importlib.import_module(module)
    folder = _fresh_folder(name.replace(" ", "-"))
    begun = time.perf_counter()
    built = BUILDERS[name](Path(file), folder, os.cpu_count() or 1)
    seconds = time.perf_counter() - begun
    disk = folder_bytes(folder)
    shutil.rmtree(folder)
    return {"seconds": seconds, "segments": built.segments, "disk": disk}


def _fresh_folder(name: str) -> Path:
    folder = work() / "builds" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
