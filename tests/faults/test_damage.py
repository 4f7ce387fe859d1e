"""Files cut, overwritten, swapped and mixed up: opening or `verify` names the file of each; none ends the process."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.builder.processes import published
from tests.faults.acts import build_from_file
from tests.faults.damage import damage, truncate
from tests.faults.processes import reports_of, rows
from tests.support import slow, write_json_lines


@pytest.fixture(scope="module")
def other_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the same source with other settings."""
    folder = tmp_path_factory.mktemp("other")
    source = write_json_lines(folder / "source.jsonl", rows())
    build_from_file(folder / "caches", source, {"max_examples": 12, "max_shard_rows": 7, "doc_stride": 4})
    (directory,) = published(folder / "caches")
    return directory


def run(folder: Path, damage: Callable[..., None], cache: Path, *arguments: Any) -> list[dict[str, Any]]:
    """Damage a copy of a cache in a process of its own, and hand back its report of each damage."""
    reports = reports_of(folder, damage, Path(shutil.copytree(cache, folder / cache.name)), *arguments)
    return [entry for entry in reports if "trying" not in entry]


def check_named(found: list[dict[str, Any]]) -> None:
    """What opening refuses is an error with the file's name, for a manifest that of a file it describes, too."""
    refused = [entry for entry in found if entry["opening"] != "opened"]
    assert refused
    assert [entry for entry in refused if entry["file"] not in entry["opening"]] == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 400])
def test_a_file_that_ends_anywhere_is_found(small_cache: Path, tmp_path: Path, count: int) -> None:
    result = run(tmp_path, truncate, small_cache, count)
    assert {entry["file"].split("-")[0] for entry in result} == {
        path.name.split("-")[0] for path in small_cache.iterdir()
    }
    assert len(result) > 150
    shards = [entry for entry in result if entry["file"].endswith(".arrow")]
    # The manifest ends in a line break: without it, it is as good to read.
    whole = (small_cache / "manifest.json").stat().st_size - 1
    opened = [entry for entry in result if entry["opening"] == "opened"]
    assert [entry for entry in opened if (entry["file"], entry["size"]) != ("manifest.json", whole)] == []
    check_named(result)
    # With a manifest that was made for what is left, the structure itself must show it.
    assert [entry for entry in shards if entry["file"] not in entry["sealed"]] == []
    assert [entry for entry in result if "silent" in (entry["verifying"], entry.get("sealed_verifying"))] == []
    assert [entry for entry in result if entry.get("foreign")] == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [20_000])
def test_many_flipped_bits_are_found(small_cache: Path, tmp_path: Path, count: int) -> None:
    result = run(tmp_path, damage, small_cache, small_cache, range(count), True)
    assert [entry["seed"] for entry in result] == list(range(count))
    assert [entry for entry in result if entry["verifying"] == "silent"] == []


@pytest.mark.parametrize("count", [9, slow(18), slow(5000)])
def test_every_kind_of_damage_is_found(small_cache: Path, other_cache: Path, tmp_path: Path, count: int) -> None:
    result = run(tmp_path, damage, small_cache, other_cache, range(count), False)
    assert [entry["seed"] for entry in result] == list(range(count))
    assert len({entry["way"] for entry in result}) == 9
    assert [entry for entry in result if entry["verifying"] == "silent"] == []
    assert [entry for entry in result if entry["foreign"]] == []
    check_named([entry for entry in result if entry["way"] not in ("foreign", "swapped", "missing")])
    # Of swapped files either one may be named, and of a foreign manifest any file that does not fit it.
    mixed = [entry for entry in result if entry["way"] in ("foreign", "swapped", "missing")]
    assert [entry for entry in mixed if entry["opening"] == "opened" and entry["file"] != "tokenizer.json"] == []
