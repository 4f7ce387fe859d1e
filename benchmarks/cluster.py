"""Builds over executors against own workers: ``python -m benchmarks.cluster [--rounds N] [--examples N]``.

Two workers each: own processes, and those of Dask, Ray and Spark, which return chunks through futures, write them into
the directory, or put them into an S3 server on the loopback interface. An engine that is not installed is left out.
Clusters are started before the clock; so is the server, in a separate process.
"""

import argparse
import importlib
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.caches import DOC_STRIDE, MAX_SEQ_LENGTH
from benchmarks.data import repeated_file, tokenizer, work
from benchmarks.measure import median
from benchmarks.report.quantities import table
from benchmarks.s3_server import options_of, s3_server
from memxlnet import Cache
from memxlnet.builder.deliveries import ThroughFuture
from memxlnet.builder.in_workers import ExecutorWorkers
from memxlnet.engines import RayExecutor, SparkExecutor

EXAMPLES = 130_000
WORKERS = 2

SETTINGS: dict[str, Any] = {"max_seq_length": MAX_SEQ_LENGTH, "doc_stride": DOC_STRIDE, "progress": False}


def build(source: Path, folder: Path, **options: Any) -> float:
    """Build the cache of a file; give the seconds."""
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.perf_counter()
    Cache.build(source, tokenizer(), cache_dir=folder, **SETTINGS, **options)
    return time.perf_counter() - begun


@contextmanager
def through_futures() -> Iterator[None]:
    """Let chunks come back through futures, also where the workers see the directory."""
    plain = ExecutorWorkers._probed
    ExecutorWorkers._probed = lambda self, directory: ThroughFuture(directory, self.window)  # type: ignore[method-assign]
    try:
        yield
    finally:
        ExecutorWorkers._probed = plain  # type: ignore[method-assign]


def dask(stack: ExitStack) -> Executor:
    """Start a cluster of two processes with one thread each."""
    distributed = importlib.import_module("distributed")
    cluster = distributed.LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
    found: Executor = stack.enter_context(distributed.Client(stack.enter_context(cluster))).get_executor()
    return found


def s3(stack: ExitStack) -> dict[str, Any]:
    """Start a server of S3 in a separate process; give the options of a build that uses it."""
    port = stack.enter_context(s3_server("scratch"))
    return {"scratch": "s3://scratch/tmp", "scratch_options": options_of(port)}


def ray(stack: ExitStack) -> Executor:
    """Start Ray with two processors."""
    engine = importlib.import_module("ray")
    paths = os.pathsep.join(path for path in sys.path if path)
    engine.init(
        num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": {"PYTHONPATH": paths}}
    )
    stack.callback(engine.shutdown)
    found: Executor = RayExecutor()
    return found


def spark(stack: ExitStack) -> Executor:
    """Start Spark with two threads of tasks, each with its worker process."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    sql = importlib.import_module("pyspark.sql")
    session = sql.SparkSession.builder.master(f"local[{WORKERS}]").config("spark.ui.enabled", "false").getOrCreate()
    stack.callback(session.stop)
    found: Executor = SparkExecutor(session)
    return found


ENGINES: dict[str, tuple[str, Callable[[ExitStack], Executor], int]] = {
    "Dask": ("distributed", dask, 2 * WORKERS),
    "Ray": ("ray", ray, 2 * WORKERS),
    "Spark": ("pyspark", spark, 12),
}
"""By name, the library of an engine, what starts it, and the chunks in work at once; Spark takes four in a job."""


def ways(source: Path, folder: Path, stack: ExitStack, only: Sequence[str]) -> dict[str, Callable[[], float]]:
    """Return what is timed, by name; no other engine is started, which would take time from the others."""

    def are_wanted(*names: str) -> bool:
        return not only or any(part in name for part in only for name in names)

    found: dict[str, Callable[[], float]] = {"own workers": partial(build, source, folder, num_workers=WORKERS)}
    store: dict[str, Any] = {}
    if importlib.util.find_spec("moto") and are_wanted(*(f"{name}, S3" for name in ENGINES)):
        store = s3(stack)
    for name, (library, start, chunks) in ENGINES.items():
        kinds = [kind for kind in ("futures", "shared directory", "S3") if are_wanted(f"{name}, {kind}")]
        if not kinds or importlib.util.find_spec(library) is None:
            continue
        each = partial(build, source, folder, executor=start(stack), num_workers=chunks)
        if "futures" in kinds:
            found[f"{name}, futures"] = through_futures()(each)
        if "shared directory" in kinds:
            found[f"{name}, shared directory"] = each
        if "S3" in kinds and store:
            found[f"{name}, S3"] = partial(each, **store)
    return found


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument(
        "--only", action="append", default=[], help="Part of a name, such as 'Dask, S3'; own workers are in any case."
    )
    arguments = parser.parse_args()
    source = repeated_file(arguments.examples)
    seconds: dict[str, list[float]] = {}
    with ExitStack() as stack:
        found = ways(source, work() / "cluster", stack, arguments.only)
        for way in found.values():  # the first build of a process loads much
            way()
        for _ in range(arguments.rounds):
            for name, way in found.items():
                seconds.setdefault(name, []).append(way())
    own = median(seconds["own workers"])
    rows = [[name, f"{median(each):.2f}", f"{median(each) / own:.2f}"] for name, each in seconds.items()]
    print(table(["build", "seconds", "against own workers"], rows))


if __name__ == "__main__":
    main()
