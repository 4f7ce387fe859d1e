"""An epoch over a lazy cache in an S3 server on loopback: ``python -m benchmarks.streaming [--quick]``.

The server is moto in a separate process; a proxy in another one limits the bytes a second that come from it. The cache
is five times as large as ``local_limit``; a model step is a pause. What a loop waits once its first shard is here is
given as a share of its time, and so is that of the same loop over local files; the difference is what the store costs.
The steps are compared by checksums of their tokens and rows.
"""

import argparse
import multiprocessing
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.caches import question_cache
from benchmarks.data import work
from benchmarks.report.quantities import table
from benchmarks.s3_server import options_of, s3_server
from benchmarks.steps import steps_of
from memxlnet import Cache, push

TIMES = 5
"""Size of the cache as a multiple of the limit."""

LANES = 32

BUCKET = "caches"

_READ_BYTES = 1 << 16


def throttle(port: int, rate: float, answers: Any) -> None:
    """Pass connections on to a port, with at most `rate` bytes a second from there over all of them."""
    listening = socket.create_server(("127.0.0.1", 0))
    answers.put(listening.getsockname()[1])
    lock = threading.Lock()
    due = time.monotonic()

    def pump(source: socket.socket, target: socket.socket, is_limited: bool) -> None:
        nonlocal due
        with suppress(OSError):
            while content := source.recv(_READ_BYTES):
                if is_limited:
                    with lock:
                        due = max(due, time.monotonic() - 0.01) + len(content) / rate
                        pause = due - time.monotonic()
                    if pause > 0:
                        time.sleep(pause)
                target.sendall(content)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    while True:
        near, _ = listening.accept()
        far = socket.create_connection(("127.0.0.1", port))
        for each in (near, far):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=pump, args=(near, far, False), daemon=True).start()
        threading.Thread(target=pump, args=(far, near, True), daemon=True).start()


@contextmanager
def store(rate: float) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Run a store; gives the options that reach it directly, and those that go through the proxy."""
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    with s3_server(BUCKET) as port:
        proxy = context.Process(target=throttle, args=(port, rate, answers), daemon=True)
        proxy.start()
        try:
            yield options_of(port), options_of(answers.get(timeout=60))
        finally:
            proxy.kill()
            proxy.join()


class Loop(NamedTuple):
    """An epoch that was read.

    Attributes:
        sums: A checksum of each step.
        first: Seconds until the first shard was here; 0 where one was here before.
        waited: Seconds that the loop waited for steps after that.
        whole: Seconds of the epoch after that.
    """

    sums: list[int]
    first: float
    waited: float
    whole: float

    @property
    def share(self) -> float:
        """The share of waiting."""
        return self.waited / self.whole

    def __str__(self) -> str:
        return f"{self.first:.2f} s, {self.waited:.2f} s, {self.share:.2%}"


def loop(cache: Cache, lanes: Any, step_seconds: float, epoch: int) -> Loop:
    """Read an epoch."""
    loader: Any = cache.loader(LANES, True, lanes=lanes, order="shards", num_workers=1, seed=1)
    loader.set_epoch(epoch)
    waits, sums = [], []
    at = time.time()
    start = begun = time.perf_counter()
    first = 0.0
    for step in steps_of(loader):
        waits.append(time.perf_counter() - begun)
        if len(waits) == 1:
            first = min(first_arrival(cache.directory, at), waits[0])
        sums.append(int(torch.sum(step["input_ids"] * (step["rows"][:, None] + 2))))
        time.sleep(step_seconds)
        begun = time.perf_counter()
    return Loop(sums, first, sum(waits) - first, begun - start - first)


def first_arrival(directory: Path, begun: float) -> float:
    """Return the seconds from a time until the first shard was here; 0 where one was here before."""
    times = []
    for path in directory.glob("features-*.arrow"):
        with suppress(FileNotFoundError):  # removed meanwhile
            times.append(path.stat().st_mtime)
    return max(min(times, default=begun) - begun, 0.0)


def figures(rows: int, shards: int, rate: float, step_seconds: float, rounds: int) -> Iterator[list[str]]:
    """Yield each figure with its name."""
    local = Cache(question_cache(rows, shards))
    size = sum(record.bytes for record in local.manifest.tables["features"].shards)
    yield ["segments, shards, bytes of features", f"{local.num_rows:,}, {shards}, {size:,}"]
    with store(rate) as (direct, limited):
        url = f"s3://{BUCKET}/cache"
        push(local.directory, url, storage_options=direct, verify=False)
        for lanes in ("aligned", "refilled"):
            directory = Path(tempfile.mkdtemp(dir=work()))
            options: dict[str, Any] = {"lazy": True, "local_limit": size // TIMES, "storage_options": limited}
            begun = time.perf_counter()
            lazy = Cache.pull(url, directory, **options)
            yield [f"{lanes}: opening", f"{time.perf_counter() - begun:.2f} s"]
            for epoch in range(rounds):
                found, expected = (loop(cache, lanes, step_seconds, epoch) for cache in (lazy, local))
                if found.sums != expected.sums:
                    raise SystemExit(f"{lanes}, epoch {epoch}: expected the steps of local files, found others")
                yield [
                    f"{lanes}, epoch {epoch}: steps; until the first shard, waiting after it, its share: lazy; local",
                    f"{len(found.sums):,}; {found}; {expected}",
                ]
            shutil.rmtree(directory)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small cache and one epoch")
    parser.add_argument("--rate", type=float, default=100e6, help="bytes a second  [default: 100 MB]")
    parser.add_argument("--step", type=float, default=5e-3, help="seconds of a model step  [default: 0.005]")
    parser.add_argument("--shards", type=int, default=60, help="shards of the cache  [default: 60]")
    options = parser.parse_args(arguments)
    rows, rounds = (30_000, 1) if options.quick else (130_000, 3)
    print(table(["what", "measured"], list(figures(rows, options.shards, options.rate, options.step, rounds))))


if __name__ == "__main__":
    main()
