"""A build whose last two documents are in work for seconds; killed and interrupted by the tests.

Usage: long_build.py CACHE_DIR
"""

import sys
from pathlib import Path
from typing import Any

from memxlnet.data.process import process_and_cache_dataset
from tests.builder.processes import SETTINGS
from tests.golden.make_golden import golden_tokenizer
from tests.support import example, long_examples

SMALL = 6
GIANT_WORDS = 1_500_000


def giant(name: str, words: int) -> dict[str, Any]:
    return example(" ".join(f"word{number}" for number in range(words)), "Which of all?", id=name)


def build_long(cache_dir: Path) -> int:
    """Six small documents and two giant ones, each a chunk of its own."""
    rows = [*long_examples(SMALL, words=10), giant("giant-0", GIANT_WORDS), giant("giant-1", GIANT_WORDS)]
    settings = {**SETTINGS, "num_workers": 2, "streaming_chunk_size": 1, "max_shard_rows": None}
    return process_and_cache_dataset(rows, "test", cache_dir, tokenizer=golden_tokenizer(), **settings)


if __name__ == "__main__":
    build_long(Path(sys.argv[1]))
