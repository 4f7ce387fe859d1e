"""A data set that grows by a file, as parts and as one cache: ``python -m benchmarks.growth [--rounds N]``.

130,000 questions lie in 50 files, and one of 1 % is added. As one cache all files are built and sent again; as parts
the new file is built and what is new is sent, to a directory as a store. Then 50,000 questions are opened as 1 to 1,000
parts, and random batches of 32 rows are compared with those of one cache of the same rows.
"""

import argparse
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.caches import DOC_STRIDE, MAX_SEQ_LENGTH
from benchmarks.data import repeated_file, rows_of, tokenizer, work
from benchmarks.measure import in_turns, median, without_collection
from benchmarks.report.quantities import table
from benchmarks.sources import write_json_lines
from memxlnet import Cache, CacheDataset, Parts

EXAMPLES, FILES = 130_000, 50
COUNTS = (1, 10, 100, 1000)
ROWS_OPENED = 50_000
BATCH = 32

SETTINGS: dict[str, Any] = {"max_seq_length": MAX_SEQ_LENGTH, "doc_stride": DOC_STRIDE, "progress": False}


def write_files(folder: Path, rows: list[dict[str, Any]], count: int) -> Path:
    """Write rows as compressed files of one directory; give the pattern that names them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    size = -(-len(rows) // count)
    for number, start in enumerate(range(0, len(rows), size)):
        write_json_lines(folder / f"day-{number:05d}.jsonl.gz", rows[start : start + size])
    return folder / "*.jsonl.gz"


def sizes(folder: Path) -> dict[tuple[str, int], int]:
    """Return the bytes of each file below a directory, by name and time: a file that is sent again has another time."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {(str(path), path.stat().st_mtime_ns): path.stat().st_size for path in found}


def sent(store: Path, act: Callable[[], Any]) -> tuple[float, int]:
    """Return the seconds that an act takes, and the bytes that it puts into a store."""
    before = sizes(store)
    with without_collection():
        begun = time.perf_counter()
        act()
        seconds = time.perf_counter() - begun
    return seconds, sum(size for key, size in sizes(store).items() if key not in before)


def growth(examples: int, files: int, rounds: int) -> dict[str, list[tuple[float, int]]]:
    """Add a file of 1 %, and build and send all of them as one cache, and as parts."""
    root = work() / f"growth-{examples}-{files}"
    shutil.rmtree(root, ignore_errors=True)
    new = max(examples // 100, 1)
    rows = rows_of(repeated_file(examples + new))
    source = write_files(root / "data", rows[:examples], files)
    late = root / "day-99999.jsonl.gz"
    write_json_lines(late, rows[examples:])
    parts = Parts.build(source, tokenizer(), cache_dir=root / "parts", **SETTINGS)
    parts.push(f"file://{root}/store-of-parts", progress=False)
    samples: dict[str, list[tuple[float, int]]] = {"whole": [], "parts": []}

    def whole(fresh: Any) -> None:
        cache = Cache.build(source, fresh, cache_dir=root / "whole", **SETTINGS)
        cache.push(f"file://{root}/store", progress=False)

    def grown(fresh: Any) -> None:
        found = Parts.build(source, fresh, cache_dir=root / "parts", **SETTINGS)
        found.push(f"file://{root}/store-of-parts", progress=False)

    for _ in range(rounds):
        shutil.copyfile(late, root / "data" / late.name)
        samples["whole"].append(sent(root / "store", partial(whole, tokenizer())))
        samples["parts"].append(sent(root / "store-of-parts", partial(grown, tokenizer())))
        (root / "data" / late.name).unlink()
        for name in ("whole", "store"):
            shutil.rmtree(root / name)
        grown(tokenizer())
        for removed in parts.prune():
            shutil.rmtree(root / "store-of-parts" / removed.name)
    shutil.rmtree(root)
    return samples


def opening(counts: tuple[int, ...]) -> list[tuple[int, float, float, float]]:
    """Open parts of each number: seconds to open, and of random batches over parts and over one cache of the rows."""
    found = []
    for count in counts:
        root = work() / f"opening-{count}"
        shutil.rmtree(root, ignore_errors=True)
        source = write_files(root / "data", rows_of(repeated_file(ROWS_OPENED)), count)
        parts = Parts.build(source, tokenizer(), cache_dir=root / "parts", num_workers=0, **SETTINGS)
        one = parts.compact(root / "one").dataset()
        dataset = parts.dataset()
        generator = np.random.default_rng(0)
        batches = [torch.from_numpy(generator.integers(0, len(one), BATCH)) for _ in range(64)]
        calls: dict[str, Callable[[], Any]] = {
            "open": partial(_open, parts.directory),
            "parts": partial(_gather, dataset, batches),
            "one": partial(_gather, one, batches),
        }
        samples = in_turns(calls)
        found.append((count, median(samples["open"]), median(samples["parts"]), median(samples["one"])))
        shutil.rmtree(root)
    return found


def _open(directory: Path) -> CacheDataset:
    return Parts.open(directory).dataset()


def _gather(dataset: CacheDataset, batches: list[torch.Tensor]) -> None:
    for batch in batches:
        dataset.gather(batch)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--files", type=int, default=FILES)
    parser.add_argument("--counts", type=int, nargs="*", default=COUNTS)
    options = parser.parse_args()
    samples = growth(options.examples, options.files, options.rounds)
    shares = [(p[0] / w[0], p[1] / w[1]) for p, w in zip(samples["parts"], samples["whole"], strict=True)]
    rows = [
        (
            name,
            f"{median([seconds for seconds, _ in values]):.2f} s",
            f"{median([size for _, size in values]):,.0f} bytes",
        )
        for name, values in samples.items()
    ]
    share_of_time, share_of_bytes = (f"{100 * median([share[n] for share in shares]):.2f} %" for n in (0, 1))
    rows.append(("share of parts", share_of_time, share_of_bytes))
    print(table(("one file of 1 % more", "built and sent in", "sent"), rows))
    opened = [
        (f"{count:,}", f"{1e3 * seconds:.2f} ms", f"{1e3 * seconds / count:.2f} ms", f"{over_parts / over_one:.2f}x")
        for count, seconds, over_parts, over_one in opening(tuple(options.counts))
    ]
    print(table(("parts", "opened in", "a part", "batch of 32 against one cache"), opened))


if __name__ == "__main__":
    main()
