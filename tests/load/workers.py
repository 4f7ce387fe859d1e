"""What worker processes run: functions at the top of a module, so that spawned processes find them."""

from typing import Any

from memxlnet.load.cache_dataset import CacheDataset
from tests.load.helpers import plain_row


def read_rows(dataset: CacheDataset, rows: list[int]) -> tuple[str, bool, list[dict[str, Any]], list[list[int]]]:
    """Read rows singly and gathered in another process."""
    gathered: list[list[int]] = dataset.gather(rows)["input_ids"].tolist()
    return type(dataset).__name__, dataset.cache.in_memory, [plain_row(dataset[row]) for row in rows], gathered
