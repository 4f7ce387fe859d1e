"""Builds into a store whose builder, workers and connections end at random, again and again."""

import random
import shutil
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.builder.scripts.injected import Injection
from tests.remote.cutting_proxy import CuttingProxy
from tests.remote.killed_build import build_killed, server
from tests.remote.s3 import Bucket
from tests.remote.stored_build import there, url_of
from tests.support import WAIT_SECONDS

pytestmark = pytest.mark.slow

SEEDS = 50
ROUNDS = 3
CHUNKS, CHUNK_SIZE = 10, 40
WAYS = ("own workers", "own workers, scratch", "executor, scratch")
ENDS = ("builder", "builder while it sends", "worker", "connections")


class Trial:
    """One cache that is built again and again, and what is known of its chunks.

    Args:
        seed: Decides what ends, and when.
        source: What is built.
        bucket: The store.
        proxy: Stands before it.
        size: Bytes of the cache.
        directory: An empty directory.
    """

    def __init__(self, seed: int, source: Path, bucket: Bucket, proxy: CuttingProxy, size: int, directory: Path):
        self.chance = random.Random(seed)
        self.way = WAYS[seed % len(WAYS)]
        self.work_dir = directory / "work"
        self.injection = Injection(directory / "injected", self.work_dir)
        self.finished: set[str] = set()
        self._bucket = bucket
        self._proxy = proxy
        self._size = size * (2 if "scratch" in self.way else 1)
        options = bucket.options(endpoint_url=proxy.endpoint)
        self._arguments: dict[str, Any] = {"source": source, "cache_dir": url_of(bucket), "work_dir": self.work_dir}
        self._arguments |= {"storage_options": options}
        if "scratch" in self.way:
            self._arguments |= {"scratch": f"s3://{bucket.name}/scratch", "scratch_options": options}

    def build(self, how: str | None) -> None:
        """Build, and end something of it; None lets it be."""
        begun = len(self.injection.notes("encoded"))
        process = server().Process(
            target=build_killed, args=(self.injection.folder, "executor" in self.way, self._arguments)
        )
        process.start()
        assert process.pid is not None
        family = [psutil.Process(process.pid)]
        try:
            if how is not None:
                family += self._end(how, family[0])
            if how not in ("builder", "builder while it sends"):
                # It ends by itself: with the whole cache, or with an error.
                process.join(WAIT_SECONDS)
                log = (self.injection.folder / "log").read_text()
                assert process.exitcode == 0 or (how and process.exitcode == 1), (process.exitcode, log)
                assert not process.exitcode or "memxlnet.errors." in log.rpartition("Traceback")[2], log
        finally:
            for each in family:
                if each.is_running():
                    each.kill()
            process.join()
            self._proxy.heal()
        encoded = self.injection.notes("encoded")[begun:]
        assert not self.finished & set(encoded)
        assert len(encoded) == len(set(encoded))
        self.finished |= self.list_finished()
        if "scratch" in self.way:
            shutil.rmtree(self.work_dir, ignore_errors=True)  # as a machine that is gone

    def _end(self, how: str, builder: psutil.Process) -> list[psutil.Process]:
        """Wait for a moment of the build and end something of it; gives the builder's children."""
        if how in ("builder while it sends", "connections"):
            # Held, so that a kill meets a transfer under way; cut, so that the build fails by itself.
            self._proxy.cut_after(up=int(self.chance.uniform(0, 0.9) * self._size), hold=how != "connections")
        wanted = CHUNKS + 1 if self._proxy.is_bounded else self.chance.randint(0, CHUNKS)
        begun = len(self.injection.notes("encoded"))
        until = time.monotonic() + self.chance.uniform(3, 10)
        while is_alive(builder) and time.monotonic() < until and not self._proxy.reached.is_set():
            if len(self.injection.notes("encoded")) - begun >= wanted:
                break
            time.sleep(0.01)
        if not is_alive(builder):
            return []
        workers: list[psutil.Process] = builder.children(recursive=True)
        if how == "worker":
            for worker in workers[:1] and self.chance.sample(workers, 1):
                worker.kill()
        elif how != "connections":
            builder.kill()
        return workers

    def list_finished(self) -> set[str]:
        """The first examples of the chunks that are kept."""
        if "scratch" in self.way:
            names = [Path(name) for name in there(self._bucket, "scratch/")]
            found = {path.name.partition(".")[0] for path in names if path.suffix == ".json"} - {"encoder"}
        else:
            found = {path.name.partition(".")[0] for path in self.work_dir.glob(".build-*/chunks/*.chunk")}
        return {f"id-{int(index) * CHUNK_SIZE}" for index in found}


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_build_is_right_and_no_finished_chunk_is_encoded_again(
    long_source: Path, bucket: Bucket, proxy: CuttingProxy, expected: dict[str, bytes], tmp_path: Path, seed: int
) -> None:
    trial = Trial(seed, long_source, bucket, proxy, sum(map(len, expected.values())), tmp_path)
    for _ in range(ROUNDS):
        trial.build(trial.chance.choice(ENDS))
    was_published = "manifest.json" in there(bucket)
    trial.build(None)
    assert {name: content for name, content in there(bucket).items() if "-probe-" not in name} == expected
    # A machine that is gone after the manifest leaves its chunks: nobody else knows that it is gone.
    assert was_published or not there(bucket, "scratch/")
