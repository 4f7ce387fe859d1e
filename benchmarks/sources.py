"""Build from every kind of source, compared with the plain file: ``python -m benchmarks.sources [--rounds N]``.

A build runs in one process, as a user calls it, on the same examples: SQuAD's development set (or the bundled sample)
in SQuAD's format, compressed, in 40 compressed files, and in 13 Parquet files. The kinds alternate, and a ratio is that
of one round. RAM is the peak anonymous memory of a process that builds from 130,000 questions, from one plain file and
from 40 compressed ones.
"""

import argparse
import gzip
import importlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.caches import DOC_STRIDE, MAX_SEQ_LENGTH
from benchmarks.child import in_process
from benchmarks.data import data, repeated_file, rows_of, tokenizer, work
from benchmarks.measure import median, without_collection
from benchmarks.report.quantities import table
from memxlnet import process_and_cache_dataset

LARGE_EXAMPLES = 130_000
GZIP_FILES, PARQUET_FILES = 40, 13


def write_gzip(file: Path) -> Path:
    """Compress a file with gzip."""
    path = work() / f"{file.name}.gz"
    if not path.is_file():
        path.write_bytes(gzip.compress(file.read_bytes()))
    return path


def write_zstd(file: Path) -> Path:
    """Compress a file with zstd."""
    path = work() / f"{file.name}.zst"
    if not path.is_file():
        with pa.output_stream(str(path), compression="zstd") as out:
            out.write(file.read_bytes())
    return path


def write_parts(file: Path, name: str, count: int, write: Callable[[Path, list[dict[str, Any]]], None]) -> Path:
    """Split the rows of a file into `count` files of one directory."""
    folder = work() / f"{file.stem}.{name}"
    if not folder.is_dir():
        rows = rows_of(file)
        temporary = folder.with_suffix(".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        size = -(-len(rows) // count)
        for number, start in enumerate(range(0, len(rows), size)):
            write(temporary / f"part-{number:05d}.{name}", rows[start : start + size])
        temporary.rename(folder)
    return folder


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as compressed JSON Lines."""
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as Parquet."""
    pq.write_table(pa.Table.from_pylist(rows), path)


def kinds(file: Path) -> dict[str, Path]:
    """Write the same examples as every kind of source; the plain file is the first."""
    return {
        "plain": file,
        "gzip": write_gzip(file),
        "zstd": write_zstd(file),
        f"{GZIP_FILES} gzip files": write_parts(file, "jsonl.gz", GZIP_FILES, write_json_lines),
        f"{PARQUET_FILES} Parquet files": write_parts(file, "parquet", PARQUET_FILES, write_parquet),
    }


def build(source: Path) -> int:
    """Build a cache in this process and return the number of rows."""
    folder = work() / "sources"
    shutil.rmtree(folder, ignore_errors=True)
    return process_and_cache_dataset(
        source, "dev", folder, None, MAX_SEQ_LENGTH, DOC_STRIDE, tokenizer=tokenizer(), progress=False, num_workers=0
    )


def build_at(source: str) -> int:
    """Call `build` with a path as text, in a child process."""
    return build(Path(source))


def measure(sources: dict[str, Path], rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of interleaved builds.

    Raises:
        SystemExit: The numbers of rows differ.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sources}
    for turn in range(rounds + 1):
        segments = {}
        for name, source in sources.items():
            with without_collection():
                begun = time.perf_counter()
                segments[name] = build(source)
                if turn:
                    seconds[name].append(time.perf_counter() - begun)
        if len(set(segments.values())) > 1:
            raise SystemExit(f"expected equal numbers of rows, found {segments}")
    return seconds


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.sources", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each build (default: 5)")
    parser.add_argument("--examples", type=int, default=LARGE_EXAMPLES, help="questions in the measurement of RAM")
    options = parser.parse_args(arguments)
    seconds = measure(kinds(data().file), options.rounds)
    plain = seconds["plain"]
    rows = [
        [
            name,
            f"{median(found):.2f} s",
            f"{median([one / other for one, other in zip(found, plain, strict=True)]):.2f}",
        ]
        for name, found in seconds.items()
    ]
    print(table(["source", "build", "relative to the plain file"], rows))
    large = repeated_file(options.examples)
    compressed = write_parts(large, "jsonl.gz", GZIP_FILES, write_json_lines)
    # The child imports it by the name of the module, which is __main__ here.
    build_in_child = importlib.import_module("benchmarks.sources").build_at
    memory = {
        name: in_process(build_in_child, source=str(source)).peak().anonymous
        for name, source in (("plain", large), (f"{GZIP_FILES} gzip files", compressed))
    }
    found = [[name, f"{size / 2**20:.0f} MiB", f"{size / memory['plain']:.2f}"] for name, size in memory.items()]
    print(table([f"source of {options.examples:,} questions", "anonymous memory", "relative to the plain file"], found))


if __name__ == "__main__":
    main()
