"""Share of a build that publishing takes: ``python -m benchmarks.publishing [--examples N] [--rounds N]``.

A build has encoded all chunks before it publishes them: the rows are put into shards by the workers that encoded them,
while the builder writes documents and contexts.
"""

import argparse
import shutil
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.caches import DOC_STRIDE, MAX_SEQ_LENGTH
from benchmarks.data import repeated_file, tokenizer, work
from benchmarks.measure import median
from benchmarks.report.quantities import table
from memxlnet import process_and_cache_dataset
from memxlnet.builder.cache_writer import BuildSummary, CacheWriter

EXAMPLES = 1_000_000


class TimedWriter(CacheWriter):
    """A cache manager that measures how long publishing takes."""

    seconds = 0.0

    def finish(self, receipts: Sequence[Any]) -> BuildSummary:
        begun = time.perf_counter()
        try:
            return super().finish(receipts)
        finally:
            self.seconds = time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.publishing", description=__doc__)
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--num-workers", type=int, help="Worker processes; default as a build chooses.")
    arguments = parser.parse_args()
    source, folder = repeated_file(arguments.examples), work() / "publishing"
    wholes, parts = [], []
    for _ in range(arguments.rounds):
        shutil.rmtree(folder, ignore_errors=True)
        writer = TimedWriter(folder)
        begun = time.perf_counter()
        process_and_cache_dataset(
            str(source),
            "train",
            tokenizer=tokenizer(),
            cache_manager=writer,
            num_workers=arguments.num_workers,
            max_seq_length=MAX_SEQ_LENGTH,
            doc_stride=DOC_STRIDE,
            progress=False,
        )
        wholes.append(time.perf_counter() - begun)
        parts.append(writer.seconds)
    shutil.rmtree(folder)
    whole, part = median(wholes), median(parts)
    rows = [[f"{arguments.examples:,}", f"{whole:.2f}", f"{part:.2f}", f"{part / whole:.1%}"]]
    print(table(["examples", "build, s", "publishing, s", "share"], rows))


if __name__ == "__main__":
    main()
