"""Build the features: seconds, peak memory of the process tree and disk, compared with the usual methods."""

import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.builders import BUILDERS, arrow_source
from benchmarks.child import in_process
from benchmarks.data import long_file, num_examples, repeated_file, rows_of, work
from benchmarks.measure import folder_bytes
from benchmarks.settings import Settings
from memxlnet.load.page_advice import available_memory
from memxlnet.load.tensors import MODEL_COLUMNS

TRAINING_EXAMPLES = 130_000
"""About the number of questions in SQuAD's training set."""

QUICK_EXAMPLES = 6_000

LONG_QUESTIONS = 30
"""Questions per article."""

TRADITIONAL_BYTES = 100_000
"""Approximate memory of one segment as Python objects; the traditional method runs only if all of them fit."""

WRITES = ("memxlnet", "datasets.map", "traditional")


class Source(NamedTuple):
    """A source of a build.

    Attributes:
        file: Its examples.
        batch: Examples per tokenizer call of the other methods; fewer than 1,000 if each has many segments.
    """

    file: Path
    batch: int = 1000


def measure(settings: Settings) -> dict[str, Any]:
    """Measure the file, the file repeated to the size of SQuAD's training set, and articles as single contexts."""
    if settings.quick:
        equal = _checked_equal(settings, [Source(repeated_file(500))])
        rounds = dict.fromkeys(BUILDERS, 1)
        repeated = _compared(settings, Source(repeated_file(QUICK_EXAMPLES)), rounds)
        return {"repeated questions": {**repeated, "equal": equal}}
    equal = _checked_equal(settings, [Source(repeated_file(min(2000, num_examples()))), Source(long_file(1), 32)])
    rounds = {"memxlnet": 5, "datasets.map": 3, "pair call": 2, "traditional": 1}
    plain = _compared(settings, Source(repeated_file(num_examples())), rounds)
    long = _compared(settings, Source(long_file(LONG_QUESTIONS), 32), rounds | {"pair call": 1})
    # The time per example of the pair call is known from above; the traditional method shows its memory.
    rounds = {"memxlnet": 5, "datasets.map": 3, "traditional": 1}
    repeated = _compared(settings, Source(repeated_file(TRAINING_EXAMPLES)), rounds)
    return {
        "repeated questions": {**repeated, "equal": equal},
        "questions": {**plain, "equal": equal},
        "long documents": {**long, "equal": equal},
    }


def _checked_equal(settings: Settings, sources: list[Source]) -> dict[str, Any]:
    """Check before any timing that all methods build the same features of some files, value by value."""
    settings.log("checking that all methods build the same features")
    files = [(str(source.file), source.batch) for source in sources]
    found: dict[str, Any] = in_process(equal_features, files=files).value
    return found


def equal_features(files: list[tuple[str, int]]) -> dict[str, Any]:
    """Build with every method in this process and compare all values of all model columns.

    Raises:
        SystemExit: They differ.
    """
    segments = sum(_equal_segments(Path(file), batch) for file, batch in files)
    return {"segments": segments, "columns": list(MODEL_COLUMNS), "contestants": list(BUILDERS)}


def _equal_segments(file: Path, batch: int) -> int:
    first: Any = None
    for name, builder in BUILDERS.items():
        folder = _fresh_folder("equal")
        columns = builder(file, folder, batch).columns()
        shutil.rmtree(folder)
        first = first or columns
        for column in MODEL_COLUMNS:
            if not np.array_equal(first[column], columns[column]):
                raise SystemExit(f"{file.name}, {column}: expected the values of memxlnet, found others with {name}")
    return len(first["input_ids"])


def _compared(settings: Settings, source: Source, rounds: dict[str, int]) -> dict[str, Any]:
    """Run the methods alternately in fresh processes; record and skip one that was killed or lacks memory."""
    examples = len(rows_of(source.file))
    in_process(write_source, file=str(source.file))
    found: dict[str, Any] = {}
    segments: dict[str, int] = {}
    for number in range(max(rounds.values())):
        for name, most in rounds.items():
            if number >= most or "not possible" in found.get(name, {}):
                continue
            lacking = _lacking_memory(segments["memxlnet"]) if name == "traditional" else ""
            if lacking:
                found[name] = {"not possible": lacking}
                continue
            settings.log(f"{source.file.stem}: {name}, round {number + 1} of {most}")
            child = in_process(run, name=name, file=str(source.file), batch=source.batch)
            if child.killed:
                found[name] = {"not possible": f"killed by the system at {child.peak().anonymous / 1e9:.1f} GB"}
                continue
            segments[name] = child.value.pop("segments")
            one = found.setdefault(name, {"seconds": [], "anonymous": [], "file": []})
            _add(one, child)
    if "memxlnet" not in segments or len(set(segments.values())) > 1:
        raise SystemExit(f"{source.file.name}: expected equal numbers of segments, found {segments}")
    return {"examples": examples, "segments": segments["memxlnet"], "contestants": found}


def _add(one: dict[str, Any], child: Any) -> None:
    peak = child.peak()
    one["seconds"].append(child.value["seconds"])
    one["anonymous"].append(peak.anonymous)
    one["file"].append(peak.file)
    one["samples"] = child.timeline()
    if child.value["disk"]:
        one["disk"] = child.value["disk"]


def _lacking_memory(segments: int) -> str:
    needed, available = segments * TRADITIONAL_BYTES, available_memory()
    if needed <= available:
        return ""
    return f"needs about {needed / 1e9:.0f} GB of memory, {available / 1e9:.0f} GB are available"


def write_source(file: str) -> str:
    """Write the Arrow copy of a source for `datasets`, so that no timed run has to."""
    return arrow_source(Path(file))


def run(name: str, file: str, batch: int = 1000) -> dict[str, Any]:
    """Run one method once in this process; its imports are loaded before the timer starts."""
    import datasets
    import transformers

    import memxlnet.data.qa_datasets

    _ = datasets.Dataset, transformers.AutoTokenizer, transformers.XLNetTokenizerFast, memxlnet.data.qa_datasets
    folder = _fresh_folder(name.replace(" ", "-"))
    begun = time.perf_counter()
    built = BUILDERS[name](Path(file), folder, batch)
    seconds = time.perf_counter() - begun
    disk = folder_bytes(folder) if name in WRITES else 0
    shutil.rmtree(folder)
    return {"seconds": seconds, "segments": built.segments, "disk": disk}


def _fresh_folder(name: str) -> Path:
    folder = work() / "builds" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
