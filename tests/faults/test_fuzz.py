"""Changed structure that passes the checksums: errors of memxlnet only, and no signal."""

import os
import shutil
from pathlib import Path

import pytest

from tests.faults.fuzz import change_structure
from tests.faults.processes import reports_of
from tests.support import slow

FIRST = int(os.environ.get("MEMXLNET_FUZZ_FIRST", "0"))


@pytest.mark.parametrize(("count", "every"), [(24, 5), slow(10_000, 1)])
def test_changed_structure_raises_errors_of_memxlnet_only(
    small_cache: Path, tmp_path: Path, count: int, every: int
) -> None:
    directory = shutil.copytree(small_cache, tmp_path / "caches" / small_cache.name)
    reports = reports_of(tmp_path, change_structure, Path(directory), range(FIRST, FIRST + count), every)
    finished = [entry for entry in reports if "seed" in entry]
    assert [entry["seed"] for entry in finished if entry["seed"] >= 0] == list(range(FIRST, FIRST + count))
    others = {f"{step}: {error}": entry["seed"] for entry in finished for step, error in entry["others"].items()}
    assert not others, "\n".join(f"seed {seed}, {error}" for error, seed in sorted(others.items()))
    # Most changes are found, and enough get beyond opening to be worth it.
    refused = [entry for entry in finished if "open" in entry["ours"] and entry["seed"] >= 0]
    assert count // 4 < len(refused) < count * 19 // 20
