"""One figure of a loader in a process of its own, as a JSON line: ``python -m benchmarks.loading_once what ...``."""

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import torch

from benchmarks.data import large_cache
from benchmarks.loading import BATCH, steps_of
from benchmarks.recurrent_model import RecurrentXLNet, small_xlnet
from memxlnet import CarriedState, create_dataloader
from memxlnet.load import page_advice
from memxlnet.load.datasets import CacheDataset
from memxlnet.load.tensors import MODEL_COLUMNS, TOKEN_COLUMNS

WAITING_STEPS = 3600

MODEL_SECONDS = 0.005

DATASETS_BATCHES = 400

PRESSURE_BYTES, PRESSURE_STEPS = 10**9, 600


def evict(directory: Path) -> None:
    """Ask the system to drop the pages of a cache that no process has mapped."""
    for path in directory.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def waiting(directory: str, state: str, model: str) -> dict[str, Any]:
    """A loop of steps with a model; the share of its time that it waits for the loader."""
    if state == "cold":
        evict(Path(directory))
    dataset = CacheDataset(directory)
    if state == "warm":
        for name in TOKEN_COLUMNS:
            dataset.gather(range(0, len(dataset)), (name,))
    loader: Any = create_dataloader(dataset, BATCH, shuffle=True, num_workers=1, dtype="stored", lanes="refilled")
    work = _sleep if model == "sleep" else _xlnet(dataset)
    if model == "xlnet":
        work(next(steps_of(create_dataloader(CacheDataset(large_cache(1)), BATCH, dtype="stored", lanes="refilled"))))
    return _loop(loader, WAITING_STEPS if model == "sleep" else WAITING_STEPS // 180, work)


def _loop(loader: Any, number: int, work: Callable[[Any], None]) -> dict[str, Any]:
    """What a loop of some steps waits for: from the start, because the first steps wait longest."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    steps, waited, begun = steps_of(loader), 0.0, time.perf_counter()
    for _ in range(number):
        asked = time.perf_counter()
        step = next(steps)
        waited += time.perf_counter() - asked
        work(step)
    seconds = time.perf_counter() - begun
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt - before
    return {
        "share waited": waited / seconds,
        "ms a step": seconds / number * 1e3,
        "pages waited for": faults,
        "steps": number,
    }


def pressure(directory: str, advice: str) -> dict[str, Any]:
    """A cold shuffled loop where the process may hold a third of the cache, pages included."""
    with memory_limit(PRESSURE_BYTES):
        evict(Path(directory))
        if advice == "off":
            page_advice.available_memory = lambda: 2**63
        dataset = CacheDataset(directory)
        loader: Any = create_dataloader(dataset, BATCH, shuffle=True, num_workers=1, dtype="stored", lanes="refilled")
        return _loop(loader, PRESSURE_STEPS if advice == "on" else PRESSURE_STEPS // 10, _sleep)


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Put this process into a control group whose memory, pages included, is bounded; needs root on Linux."""
    version_1 = Path("/sys/fs/cgroup/memory")
    root, name = (version_1, "memory.limit_in_bytes") if version_1.is_dir() else (version_1.parent, "memory.max")
    group = root / f"memxlnet-{os.getpid()}"
    try:
        group.mkdir()
        (group / name).write_text(str(size))
        (group / "cgroup.procs").write_text(str(os.getpid()))
    except OSError as error:
        raise SystemExit(f"pressure: expected to make a control group at {group}, found {error}") from error
    try:
        yield
    finally:
        (root / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def _sleep(step: Any) -> None:
    time.sleep(MODEL_SECONDS)


def _xlnet(dataset: CacheDataset) -> Callable[[Any], None]:
    manifest = dataset.manifest
    model = RecurrentXLNet(small_xlnet(manifest.vocabulary_size, 0), manifest.vocabulary_size, 1)
    optimizer = torch.optim.AdamW(model.parameters())
    carried = CarriedState(model.initial_memory)

    def work(step: Any) -> None:
        output = model(step, carried.before(step))
        carried.after(step, output.memory)
        torch.autograd.backward(output.loss)
        optimizer.step()
        optimizer.zero_grad()
        carried.detach()

    return work


def ram(directory: str, lanes: str) -> dict[str, Any]:
    """Growth of anonymous RAM over an epoch in int64, watched at every step."""
    warm: Any = create_dataloader(CacheDataset(large_cache(1)), 2)
    next(steps_of(warm))  # torch's threads and libraries
    process = psutil.Process()
    before = peak = _private(process)
    dataset = CacheDataset(directory)
    loader: Any = create_dataloader(dataset, BATCH, shuffle=True, num_workers=1, lanes=lanes)
    for number, _ in enumerate(steps_of(loader)):
        if number % 8 == 0:
            peak = max(peak, _private(process))
    documents = dataset.cache.num_documents
    return {
        "documents": documents,
        "MB grown": (peak - before) / 1e6,
        "MB allowed": 30 + 32 * documents / 1e6,
        "longest document": int(dataset.documents.num_segments.max()),
    }


def _private(process: psutil.Process) -> int:
    memory = process.memory_info()
    return int(memory.rss) - int(getattr(memory, "shared", 0))


def datasets_in_torch_format(directory: str) -> dict[str, Any]:
    """Rows a second of `datasets` over the same file, shuffled, in torch format: a batch is read at once."""
    from datasets import Dataset
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler

    (path,) = Path(directory).glob("features-*.arrow")
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all().select(list(MODEL_COLUMNS))
    rows = Dataset(table).with_format("torch")
    sampler: Any = BatchSampler(RandomSampler(range(len(rows))), BATCH, drop_last=True)
    # The way that is fastest: batch_size=None hands whole lists of indices to the rows.
    batches = iter(DataLoader(rows, sampler=sampler, batch_size=None))
    rates = []
    for _ in range(8):
        begun = time.perf_counter()
        for _ in range(DATASETS_BATCHES):
            next(batches)
        rates.append(DATASETS_BATCHES * BATCH / (time.perf_counter() - begun))
    return {"datasets": statistics.median(rates[1:])}


if __name__ == "__main__":
    what: dict[str, Callable[..., dict[str, Any]]] = {
        "waiting": waiting,
        "ram": ram,
        "pressure": pressure,
        "datasets": datasets_in_torch_format,
    }
    print(json.dumps(what[sys.argv[1]](*sys.argv[2:])))
