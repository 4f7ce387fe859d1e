"""What the processes of these tests do: in a module that the fork server loads once, torch and all."""

import hashlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memxlnet.cache import Cache
from memxlnet.data.cache_manager import find_cache
from memxlnet.data.process import process_and_cache_dataset
from memxlnet.errors import CacheNotFoundError
from memxlnet.format.published import PublishedCache
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.maintain.old_caches import find_old_caches
from memxlnet.maintain.removal import find_leftovers
from memxlnet.maintain.verify import verify
from tests.faults.processes import SETTINGS, be_user, build, build_and_report, counted, names, rows
from tests.golden.make_golden import golden_tokenizer

GAP_SECONDS = 0.05
"""How long a rebuild is held between taking the old cache away and putting the new one into its place."""


def digest_of(dataset: CacheDataset) -> str:
    """Every value that a training loop may read, in one digest."""
    state = hashlib.sha256()
    for values in dataset.gather(range(len(dataset)), dataset.tensors.names).values():
        state.update(values.numpy().tobytes())
    for row in dataset:
        state.update(repr({name: value for name, value in row.items() if isinstance(value, str | int)}).encode())
        state.update(row["offset_mapping"].numpy().tobytes())
    state.update(repr(list(dataset.get_all_documents())).encode())
    return state.hexdigest()


def keep_reading(directory: Path, expected: str, report: Any, stop: Any) -> None:
    """Read one opened cache until asked to stop; nothing may ever change."""
    # One reader has read everything before the first rebuild, the other touches most pages only afterwards.
    datasets = [CacheDataset(directory), CacheDataset(directory)]
    assert digest_of(datasets[0]) == expected
    report.send("ready")
    passes = 0
    while not stop.is_set():
        assert digest_of(datasets[0]) == expected
        passes += 1
    for dataset in datasets:
        assert digest_of(dataset) == expected
    report.send(passes)


def count(kinds: dict[str, int], call: Callable[[], Any]) -> None:
    """Call, and count what came of it."""
    try:
        call()
        kind = "whole"
    except CacheNotFoundError:
        kind = "none"
    except Exception as error:
        kind = f"{type(error).__name__}: {error}"
    kinds[kind] = kinds.get(kind, 0) + 1


def keep_opening(directory: Path, expected: str, report: Any, stop: Any) -> None:
    """Open and read a cache again and again, and count what that comes to."""
    kinds: dict[str, int] = {}

    def open_and_read() -> None:
        assert digest_of(CacheDataset(directory)) == expected

    def open_in_every_way() -> None:
        for call in (lambda: PublishedCache(directory), open_and_read, lambda: CacheDataset(directory, in_memory=True)):
            count(kinds, call)

    open_in_every_way()
    report.send("ready")
    while not stop.is_set():
        open_in_every_way()
    open_in_every_way()
    report.send(kinds)


def keep_asking(cache_dir: Path, report: Any, stop: Any) -> None:
    """Ask for the cache in every way that leads to it, and count what that comes to."""
    ways: dict[str, Callable[[], Any]] = {
        "find_cache": lambda: find_cache(cache_dir, rows(), "test"),
        "find_leftovers": lambda: find_leftovers(cache_dir),
        "find_old_caches": lambda: find_old_caches(cache_dir),
    }
    kinds: dict[str, dict[str, int]] = {way: {} for way in ways}
    report.send("ready")
    while not stop.is_set():
        for way, call in ways.items():
            count(kinds[way], call)
    report.send(kinds)


def keep_building(cache_dir: Path, report: Any, stop: Any) -> None:
    """Ask for the cache again and again, without a rebuild, and count what that comes to."""
    kinds: dict[str, int] = {}
    report.send("ready")
    while not stop.is_set():
        count(kinds, lambda: build(cache_dir))
    report.send(kinds)


def keep_verifying(directory: Path, report: Any, stop: Any) -> None:
    """Verify a cache again and again, and count what that comes to."""
    kinds: dict[str, int] = {}
    report.send("ready")
    while not stop.is_set():
        count(kinds, lambda: verify(directory))
    report.send(kinds)


def rebuild_slowly(cache_dir: Path, times: int) -> None:
    """Rebuild, and stay a while between the two renames of each replacement."""

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "os.rename" and str(arguments[0]).endswith("/cache"):
            time.sleep(GAP_SECONDS)

    sys.addaudithook(hook)
    for _ in range(times):
        build(cache_dir, rebuild=True, streaming_chunk_size=9)


def build_with(cache_dir: Path, settings: dict[str, Any]) -> int:
    return build(cache_dir, **settings)


def open_from(store: str, work_dir: Path) -> int:
    """Build into a store, or find the cache there, and open the copy."""
    tokenizer = golden_tokenizer()
    cache = Cache.build(rows(), tokenizer, split="test", cache_dir=store, work_dir=work_dir, **SETTINGS)
    return cache.manifest.tables["features"].rows


def build_from_file(cache_dir: Path, source: Path, settings: dict[str, Any]) -> int:
    tokenizer = golden_tokenizer()
    return process_and_cache_dataset(source, "test", cache_dir, tokenizer=tokenizer, **{**SETTINGS, **settings})


def read_everything(directory: Path) -> dict[str, Any]:
    """Open and read a cache in every way; give what a reader of it may have left or locked."""
    before = names(directory.parent)
    dataset = CacheDataset(directory)
    locks = [line for line in Path("/proc/locks").read_text().splitlines() if str(os.getpid()) in line.split()]
    found = find_cache(directory.parent, rows(), "test", {"max_seq_length": 32, "tokenizer": golden_tokenizer()})
    verify(directory)
    return {
        "digest": digest_of(dataset),
        "eager": digest_of(CacheDataset(directory, in_memory=True)),
        "found": found[0] == directory,
        "built": build(directory.parent),
        "again": build(directory.parent, num_workers=2),
        "rows": len(dataset),
        "locks": locks,
        "leftovers": find_leftovers(directory.parent),
        "old": find_old_caches(directory.parent),
        "unchanged": names(directory.parent) == before,
    }


def build_as(whom: tuple[int, int, int], cache_dir: Path, report: Any) -> None:
    be_user(*whom)
    build_and_report(cache_dir, report, {})


def build_counted(cache_dir: Path) -> int:
    with counted() as made:
        build(cache_dir)
    return len(made)


def look_about(cache_dir: Path) -> Any:
    find_leftovers(cache_dir)
    find_old_caches(cache_dir)


def open_dataset(directory: Path) -> int:
    """Open a cache; gives its rows."""
    return len(CacheDataset(directory))
