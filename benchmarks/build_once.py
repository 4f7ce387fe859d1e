"""One contestant of the build, several times over, in a process of its own; prints the seconds of each run as JSON."""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import datasets

from benchmarks.baseline import usual_preprocessing
from benchmarks.data import SQUAD, WORK, squad_rows, xlnet
from memxlnet import process_and_cache_dataset

MAX_SEQ_LENGTH, DOC_STRIDE = 384, 128


def build_with_memxlnet(tokenizer: Any, directory: Path) -> int:
    return process_and_cache_dataset(
        SQUAD, "validation", directory, None, MAX_SEQ_LENGTH, DOC_STRIDE, tokenizer=tokenizer, progress=False
    )


def build_with_map(tokenizer: Any, directory: Path) -> int:
    dataset = datasets.load_from_disk(WORK / "squad-dataset")
    prepare = usual_preprocessing(tokenizer, MAX_SEQ_LENGTH, DOC_STRIDE)
    mapped = dataset.map(
        prepare,
        batched=True,
        num_proc=2,
        remove_columns=dataset.column_names,
        load_from_cache_file=False,
        cache_file_name=str(directory / "mapped.arrow"),
    )
    return len(mapped)


def main() -> None:
    contestant, runs = sys.argv[1], int(sys.argv[2])
    datasets.disable_progress_bars()
    build = {"memxlnet": build_with_memxlnet, "map": build_with_map}[contestant]
    if contestant == "map" and not (WORK / "squad-dataset").is_dir():
        datasets.Dataset.from_list(squad_rows()).save_to_disk(WORK / "squad-dataset")
    seconds, rows = [], 0
    for _ in range(runs):
        directory = WORK / f"build-{contestant}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        tokenizer = xlnet()  # a fresh one each time: tokenizers remember the words they have met
        started = time.perf_counter()
        rows = build(tokenizer, directory)
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()
