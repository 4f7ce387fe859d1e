"""A full disk is an error at any stage; with more room the build resumes after its finished chunks."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.builder.processes import published, server
from tests.faults.processes import CHUNKS, acting, build, chunk_files, counted, names, outcome_of
from tests.format.content import files_of
from tests.support import ROOT, slow

HINTS = ("make room", "choose another cache_dir")


def own_mounts() -> list[str]:
    """The command in front of one that may mount disks which nobody else sees; skips where that is refused."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare (Linux) for a small disk of its own")
    refusal = ""
    for prefix in (["unshare", "-m"], ["unshare", "-rm"]):
        trial = [*prefix, "mount", "-t", "tmpfs", "-o", "size=4096", "trial", "/mnt"]
        done = subprocess.run(trial, capture_output=True, text=True, check=False)
        if not done.returncode:
            return prefix
        refusal = done.stderr.strip()
    pytest.skip(f"needs to mount a small disk, which is refused: {refusal}")


def run(place: Path, cases: Sequence[str]) -> list[dict[str, Any]]:
    """Fill disks up, each in a process of its own, and hand back what they report."""
    done = subprocess.run(
        [*own_mounts(), sys.executable, "-W", "error", "-m", "tests.faults.full_disk", str(place), *cases],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def lost(outcome: dict[str, Any]) -> bool:
    """Whether a build lost a chunk, left something that is no cache, or ended in other bytes."""
    return (
        outcome["again"][0] != "done"
        or not outcome["identical"]
        or not outcome.get("found", True)
        or any(outcome[what] for what in ("made_again", "visible", "half", "left"))
    )


def is_unclear(outcome: dict[str, Any]) -> bool:
    """Whether an error is not of memxlnet, or does not name the directory or what to do."""
    has_hint = any(hint in outcome["message"] for hint in HINTS)
    return not (outcome["is_ours"] and outcome["names_directory"] and has_hint)


def check(outcomes: list[dict[str, Any]], stages: set[str]) -> None:
    assert {outcome["stage"] for outcome in outcomes} >= stages
    assert [outcome for outcome in outcomes if lost(outcome)] == []
    unclear = {outcome["message"]: outcome["case"] for outcome in outcomes if is_unclear(outcome)}
    assert not unclear, "\n".join(f"{case}: {message}" for message, case in unclear.items())


STAGES = {"preparing", "chunks", "space check", "publishing"}


@pytest.mark.slow
def test_a_disk_of_any_size_that_is_too_small(tmp_path: Path) -> None:
    check(run(tmp_path, ["sizes:7", "shards:19", "rebuild:16"]), {*STAGES, "rebuild"})


@pytest.mark.slow
def test_a_disk_that_fills_up_while_chunks_are_fetched(tmp_path: Path) -> None:
    check(run(tmp_path, ["fetched:7"]), {"preparing", "chunks"})


@pytest.mark.slow
def test_a_disk_that_fills_up_while_workers_write(tmp_path: Path) -> None:
    check(run(tmp_path, ["sizes_with_workers:16"]), {"preparing", "chunks", "space check"})


@pytest.mark.slow
def test_a_disk_that_takes_no_new_names(tmp_path: Path) -> None:
    read_only, *outcomes = run(tmp_path, ["read_only:1", "inodes:3"])
    assert read_only["found"]
    assert len(read_only["names"]) == 1
    for kind, message, _ in (read_only["rebuild"], read_only["other"], read_only["below"]):
        assert kind == "CacheDirectoryError"
        assert str(tmp_path / "disk/caches") in message
    check(outcomes, {"preparing", "chunks", "publishing"})


@pytest.mark.slow
@pytest.mark.parametrize("case", ["sizes:1", "sizes_with_workers:2", "shards:1", "inodes:1", "rebuild:2"])
def test_a_disk_of_every_size(tmp_path: Path, case: str) -> None:
    check(run(tmp_path, [case]), {"rebuild"} if case.startswith("rebuild") else {"preparing", "chunks", "publishing"})


# --- the same without any mount: files that may not grow


def build_within(cache_dir: Path, most: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Build while no file may grow beyond some bytes, then without that limit."""
    # A worker is a new process, and Python ignores the signal in each.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    first = outcome_of(lambda: build(cache_dir, **settings))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    finished = chunk_files(cache_dir)
    staged = any(cache_dir.glob(".build-*/cache"))
    with counted() as made:
        second = outcome_of(lambda: build(cache_dir, **settings))
    return {"first": first, "finished": len(finished), "made": len(made), "second": second, "staged": staged}


@pytest.mark.parametrize(
    ("most", "settings", "stage"),
    [
        slow(100, {}, "preparing"),
        (3_000, {}, "chunk"),
        slow(3_000, {"num_workers": 2}, "chunk"),
        (9_500, {}, "publishing"),
        slow(20_000, {"num_workers": 2}, "publishing"),
    ],
)
def test_a_file_that_may_not_grow(
    tmp_path: Path, undisturbed: dict[str, bytes], most: int, settings: dict[str, Any], stage: str
) -> None:
    outcome, result = acting(server(), None, build_within, tmp_path, most, settings)
    assert outcome[0] == "done", outcome
    kind, message, _ = result["first"]
    assert (kind, result["second"][0]) == ("BuildOSError", "done"), result
    assert result["finished"] == (CHUNKS if stage == "publishing" else 0)
    assert result["staged"] == (stage == "publishing")
    assert result["made"] == CHUNKS - result["finished"]
    (directory,) = published(tmp_path)
    assert files_of(directory) == undisturbed
    assert names(tmp_path) == [directory.name]
    assert os.strerror(errno.EFBIG) in message
    assert str(tmp_path) in message
    assert "build again to resume" in message
