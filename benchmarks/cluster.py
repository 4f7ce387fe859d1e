"""A build by two workers of every engine: ``python -m benchmarks.cluster [--examples N] [--rounds N]``.

The same questions are built by two worker processes of the package, and by two processes of Dask, Ray, loky and Spark
(`local-cluster`) on this machine, in turns, after one build each in which workers load. All files must equal those of a
build in one process. An engine that is not installed is left out, with a line.
"""

import argparse
import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.caches import DOC_STRIDE, MAX_SEQ_LENGTH
from benchmarks.data import repeated_file, tokenizer, work
from benchmarks.measure import median, ratio, without_collection
from benchmarks.report.quantities import table
from memxlnet import Cache
from memxlnet.engines import RayExecutor, SparkExecutor

EXAMPLES = 130_000
WORKERS = 2
OWN = "own workers"

WAYS: dict[str, dict[str, Any]] = {"shared directory": {}}
"""How chunks come back, by name: the arguments of `Cache.build` for it."""

SETTINGS: dict[str, Any] = {"max_seq_length": MAX_SEQ_LENGTH, "doc_stride": DOC_STRIDE, "progress": False}


@contextmanager
def dask() -> Iterator[Executor]:
    distributed = importlib.import_module("distributed")
    with distributed.Client(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as client:
        yield client.get_executor()


@contextmanager
def ray() -> Iterator[Executor]:
    library = importlib.import_module("ray")
    library.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    try:
        with RayExecutor() as executor:
            yield executor
    finally:
        library.shutdown()


@contextmanager
def loky() -> Iterator[Executor]:
    executor: Executor = importlib.import_module("loky").get_reusable_executor(WORKERS)
    with executor:
        yield executor


@contextmanager
def spark() -> Iterator[Executor]:
    builder = importlib.import_module("pyspark.sql").SparkSession.builder
    if shutil.which("java") is None:
        raise ImportError("Java, which Spark needs")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    for name, value in {"ui.enabled": "false", "driver.host": "127.0.0.1", "driver.bindAddress": "127.0.0.1"}.items():
        builder = builder.config(f"spark.{name}", value)
    session = builder.master(f"local-cluster[{WORKERS},1,1024]").getOrCreate()
    try:
        with SparkExecutor(session, WORKERS + 1) as executor:
            yield executor
    finally:
        session.stop()


ENGINES: dict[str, Callable[[], Any]] = {"Dask": dask, "Ray": ray, "loky": loky, "Spark": spark}


def build(source: Path, folder: Path, **arguments: Any) -> tuple[float, dict[str, bytes]]:
    """Build into a folder that is removed after; return the seconds, and the files by name."""
    shutil.rmtree(folder, ignore_errors=True)
    fresh = tokenizer()
    with without_collection():
        begun = time.perf_counter()
        cache = Cache.build(source, fresh, cache_dir=folder, **SETTINGS, **arguments)
        seconds = time.perf_counter() - begun
    files = {path.name: path.read_bytes() for path in sorted(cache.directory.iterdir())}
    shutil.rmtree(folder)
    return seconds, files


def cluster(examples: int, rounds: int, engines: list[str]) -> dict[str, list[float]]:
    """Return the seconds of each build by name, in turns."""
    source, folder = repeated_file(examples), work() / "cluster"
    expected = build(source, folder, num_workers=0)[1]
    plans: dict[str, dict[str, Any]] = {OWN: {"num_workers": WORKERS}}
    with ExitStack() as stack:
        for name in engines:
            try:
                # One more chunk than workers is handed over, as to own workers.
                handed = {"executor": stack.enter_context(ENGINES[name]()), "num_workers": WORKERS + 1}
            except ImportError as error:
                print(f"{name}: left out, {error}", file=sys.stderr)
                continue
            plans |= {f"{name}, {way}": {**handed, **arguments} for way, arguments in WAYS.items()}
        samples: dict[str, list[float]] = {name: [] for name in plans}
        for turn in range(rounds + 1):
            for name, arguments in plans.items():
                seconds, files = build(source, folder, **arguments)
                if files != expected:
                    raise RuntimeError(f"{name}: expected the files of a build in one process, found others")
                if turn:
                    samples[name].append(seconds)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--engines", nargs="*", choices=list(ENGINES), default=list(ENGINES))
    options = parser.parse_args()
    samples = cluster(options.examples, options.rounds, options.engines)
    own = samples[OWN]
    rows = [
        (name, f"{median(values):.2f} s", f"{ratio(values, own):.2f}x", ", ".join(f"{one:.2f}" for one in values))
        for name, values in samples.items()
    ]
    print(table((f"{options.examples:,} questions", "median", "of own workers", "each"), rows))


if __name__ == "__main__":
    main()
