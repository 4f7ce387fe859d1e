"""Builds into a store whose builder, workers and connections end at random, again and again.

``MEMXLNET_KILL_SEEDS=50`` runs 50 of them.
"""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.remote.build_there import build_there
from tests.remote.cutting_proxy import CuttingProxy
from tests.remote.s3 import Bucket
from tests.remote.stored_build import named, started, there, url_of
from tests.support import WAIT_SECONDS

pytestmark = pytest.mark.slow

SEEDS = int(os.environ.get("MEMXLNET_KILL_SEEDS", "6"))
ROUNDS = 3
ENDS = ("builder", "builder while it sends", "worker", "connections")

Finished = dict[str, object]


def scratch_of(bucket: Bucket) -> str:
    return f"s3://{bucket.name}/scratch"


def in_scratch(bucket: Bucket) -> Finished:
    """The receipts of each chunk in the scratch store: a chunk that is encoded again has another one."""
    keys = [entry for entry in there(bucket, "scratch/") if entry.endswith(".json") and "/encoder." not in entry]
    indices = {key.rpartition("/")[2].partition(".")[0] for key in keys}
    return {index: {key for key in keys if f"/{index}." in key} for index in indices}


def in_work_dir(directory: Path) -> Finished:
    """The files of chunks in the directory of the build: a chunk that is encoded again is a new file."""
    return {path.name: path.stat().st_ino for path in directory.glob(".build-*/chunks/*.chunk")}


def end(chance: random.Random, how: str, process: subprocess.Popen[str], proxy: CuttingProxy, size: int) -> None:
    """Let a build run for a while, end something of it, and wait for its end."""
    if how in ("builder while it sends", "connections"):
        proxy.cut_after(up=int(chance.uniform(0.02, 0.9) * size), hold=how != "connections")
    until = time.monotonic() + chance.uniform(3, 10)
    while process.poll() is None and time.monotonic() < until and not proxy.reached.is_set():
        time.sleep(0.02)
    if how == "worker" and process.poll() is None:
        workers = psutil.Process(process.pid).children(recursive=True)
        for worker in workers[:1] and chance.sample(workers, 1):
            worker.kill()
    if how in ("worker", "connections"):
        # It ends by itself: with an error that names what was lost, or with the whole cache.
        _, log = process.communicate(timeout=WAIT_SECONDS)
        assert process.returncode == 0 or "Error: " in log.rstrip().rpartition("\n")[2], log
    process.kill()
    process.communicate(timeout=WAIT_SECONDS)
    proxy.heal()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_build_is_right_and_no_finished_chunk_is_encoded_again(
    long_source: Path, bucket: Bucket, proxy: CuttingProxy, expected: dict[str, bytes], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    size = sum(map(len, expected.values()))
    work_dir = tmp_path / "work"
    has_scratch = bool(seed % 2)
    scratch = scratch_of(bucket) if has_scratch else None
    list_finished: Callable[[], Finished] = (
        (lambda: in_scratch(bucket)) if has_scratch else (lambda: in_work_dir(work_dir))
    )
    before: Finished = {}
    for _ in range(ROUNDS):
        with started(long_source, bucket, work_dir, scratch, endpoint_url=proxy.endpoint) as process:
            end(chance, chance.choice(ENDS), process, proxy, size * (1 + has_scratch))
        finished = list_finished()
        # A published build has removed its chunks.
        assert not finished or before.items() <= finished.items()
        before = finished
        if has_scratch:
            shutil.rmtree(work_dir, ignore_errors=True)  # as a machine that is gone
    cache = build_there(long_source, url_of(bucket), work_dir, bucket.options(), scratch)
    assert named(cache.directory) == expected
    assert {name: content for name, content in there(bucket).items() if "-probe-" not in name} == expected
    assert not there(bucket, "scratch/")
