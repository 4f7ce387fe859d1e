"""The memory of n-best spans, measured in a child process."""

import numpy as np

from benchmarks.memory import of_self, trim
from memxlnet import Cache

ROWS_AT_ONCE = 64


def collect(directory: str) -> dict[str, int]:
    """Collect random logits of all rows and make the table of n-best spans.

    Returns:
        Bytes of anonymous memory before, and those of the table; its rows, and those of the cache.
    """
    cache = Cache.open(directory)
    length, random_values = cache.manifest.max_seq_length, np.random.default_rng(0)
    logits = random_values.normal(size=(2, ROWS_AT_ONCE, length)).astype(np.float32)
    collector = cache.collector(n_best=20)
    trim()
    before = of_self().anonymous
    for first in range(0, cache.num_rows, ROWS_AT_ONCE):
        rows = np.arange(first, min(first + ROWS_AT_ONCE, cache.num_rows))
        random_values.shuffle(logits, axis=1)
        collector.add(rows, logits[0, : len(rows)], logits[1, : len(rows)])
    found = collector.n_best_table().to_arrow()
    return {"before": before, "table": found.nbytes, "spans": found.num_rows, "rows": cache.num_rows}
