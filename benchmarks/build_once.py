"""One contestant of a build, several times over, in a process of its own; prints the seconds of each run as JSON.

``python -m benchmarks.build_once CONTESTANT FILE RUNS [name=value ...]``; the contestants are `memxlnet`, `map`
(`datasets.map` with the usual preprocessing) and `raw` (the Rust tokenizer's `encode_batch` alone).
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets

from benchmarks.baseline import usual_preprocessing
from benchmarks.data import WORK, rows_of, xlnet
from memxlnet import process_and_cache_dataset

MAX_SEQ_LENGTH, DOC_STRIDE = 384, 128


def build_with_memxlnet(file: Path, options: dict[str, Any]) -> Callable[[Any, Path], int]:
    def build(tokenizer: Any, directory: Path) -> int:
        return process_and_cache_dataset(
            file, "train", directory, None, MAX_SEQ_LENGTH, DOC_STRIDE, tokenizer=tokenizer, progress=False, **options
        )

    return build


def build_with_map(file: Path, options: dict[str, Any]) -> Callable[[Any, Path], int]:
    folder = WORK / f"dataset-{file.stem}"
    if not folder.is_dir():
        datasets.Dataset.from_list(rows_of(file)).save_to_disk(folder)
    dataset = datasets.load_from_disk(folder)

    def build(tokenizer: Any, directory: Path) -> int:
        mapped = dataset.map(
            usual_preprocessing(tokenizer, MAX_SEQ_LENGTH, DOC_STRIDE),
            batched=True,
            remove_columns=dataset.column_names,
            load_from_cache_file=False,
            cache_file_name=str(directory / "mapped.arrow"),
            **options,
        )
        return len(mapped)

    return build


def encode_raw(file: Path, _: dict[str, Any]) -> Callable[[Any, Path], int]:
    """Each context once, each question once, in batches of 1,000 examples."""
    rows = rows_of(file)

    def build(tokenizer: Any, _: Path) -> int:
        backend = tokenizer.backend_tokenizer
        for start in range(0, len(rows), 1000):
            chunk = rows[start : start + 1000]
            texts = dict.fromkeys(row["context"] for row in chunk) | dict.fromkeys(row["question"] for row in chunk)
            backend.encode_batch(list(texts), add_special_tokens=False)
        return len(rows)

    return build


CONTESTANTS = {"memxlnet": build_with_memxlnet, "map": build_with_map, "raw": encode_raw}


def main() -> None:
    contestant, file, runs = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    options = {name: json.loads(value) for name, value in (pair.split("=", 1) for pair in sys.argv[4:])}
    datasets.disable_progress_bars()
    build = CONTESTANTS[contestant](file, options)
    seconds, rows = [], 0
    directory = WORK / f"build-{contestant}"
    for _ in range(runs):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        tokenizer = xlnet()  # a fresh one each time: tokenizers remember the words they have met
        started = time.perf_counter()
        rows = build(tokenizer, directory)
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()
