"""Run as a process of its own, in a mount namespace of its own: builds on disks that are too small.

For each disk: build until it is full, then make room and build again. One line of JSON reports what came of it.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.format.paths import BUILD_PREFIX
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.removal import remove_leftovers
from memxlnet.maintain.verify import verify
from tests.faults.processes import build, chunk_files, counted, names, outcome_of
from tests.format.content import files_of

PAGE = 4096
ROOMY = 64 * 2**20
CHUNKS = 8
CHUNKED = {"streaming_chunk_size": 5}
SHARDED = {"streaming_chunk_size": 40, "max_shard_rows": 4}
"""One chunk and thirty shards: what is published takes more than the chunk does, as the check of the space believes."""


@contextmanager
def disk(place: Path, options: str) -> Iterator[Callable[[str], None]]:
    """A disk of its own at a place; what it gives changes the disk's options."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "memxlnet-faults", place], check=True)
    try:
        yield lambda changed: mount_again(place, changed)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def mount_again(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def stage_of(cache_dir: Path, message: str) -> str:
    """How far a build came."""
    if "publishing takes about" in message:
        return "space check"
    if any(cache_dir.glob(f"{BUILD_PREFIX}*/cache")):
        return "publishing"
    if any(cache_dir.glob(f"{BUILD_PREFIX}*/build.json")) and any(cache_dir.glob(f"{BUILD_PREFIX}*/tokenizer.json")):
        return "chunks"
    return "preparing"


def report(**outcome: Any) -> None:
    sys.stdout.write(json.dumps(outcome) + "\n")
    sys.stdout.flush()


def fail_then_resume(
    case: str, cache_dir: Path, make_room: Callable[[], None], expected: dict[str, bytes], **settings: Any
) -> bool:
    """Build on a full disk, make room, build again; report both, and return whether the first one failed."""
    with counted():
        kind, message, is_ours = outcome_of(partial(build, cache_dir, **settings))
    if kind == "done":
        return False
    finished = chunk_files(cache_dir)
    visible = [name for name in names(cache_dir) if not name.startswith(".")]
    stage = stage_of(cache_dir, message)
    half = [path.name for path in cache_dir.glob(f"{BUILD_PREFIX}*/chunks/*") if path.suffix != ".chunk"]
    if settings.get("num_workers"):
        half = []  # The error of one worker ends the others within their work; the next build removes what is half.
    make_room()
    with counted() as made:
        again = outcome_of(partial(build, cache_dir, **settings))
    published = [name for name in names(cache_dir) if not name.startswith(".")]
    remove_leftovers(cache_dir)
    report(
        case=case,
        stage=stage,
        error=kind,
        message=message,
        is_ours=is_ours,
        names_directory=str(cache_dir) in message,
        visible=visible,
        half=half,
        finished=len(finished),
        made_again=sorted(set(made) & {int(name.split(".")[0]) for name in finished}),
        again=again,
        left=sorted(set(names(cache_dir)) - set(published)),
        identical=len(published) == 1 and files_of(cache_dir / published[0]) == expected,
    )
    return True


def unlimited(place: Path, **settings: Any) -> tuple[dict[str, bytes], int]:
    """The files of a build with room enough, and the pages that its directory takes."""
    cache_dir = place / "alone"
    build(cache_dir, **settings)
    (name,) = names(cache_dir)
    files = files_of(cache_dir / name)
    shutil.rmtree(cache_dir)
    return files, sum(-(-len(content) // PAGE) for content in files.values())


def sizes(place: Path, step: int) -> None:
    """Disks of more and more pages, until one is large enough; encoding here."""
    expected, pages = unlimited(place, **CHUNKED)
    for size in range(1, 10 * pages, step):
        with disk(place / "disk", f"size={size * PAGE}") as change:
            room = partial(change, f"size={ROOMY}")
            if not fail_then_resume(f"{size} pages", place / "disk/caches", room, expected, **CHUNKED):
                return


def sizes_with_workers(place: Path, step: int) -> None:
    """The same with two workers; room is made by deleting a file."""
    expected, pages = unlimited(place, **CHUNKED)
    for size in range(1, 10 * pages, step):
        with disk(place / "disk", f"size={ROOMY}"):
            ballast = place / "disk" / "ballast"
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, ROOMY - size * PAGE)
            settings = {**CHUNKED, "num_workers": 2}
            if not fail_then_resume(f"{size} pages free", place / "disk/caches", ballast.unlink, expected, **settings):
                return


def shards(place: Path, step: int) -> None:
    """Disks that hold the chunks and, as far as is known beforehand, the result, which then takes more."""
    expected, pages = unlimited(place, **SHARDED)
    for size in range(1, 10 * pages, step):
        with disk(place / "disk", f"size={size * PAGE}") as change:
            room = partial(change, f"size={ROOMY}")
            if not fail_then_resume(f"{size} pages, shards", place / "disk/caches", room, expected, **SHARDED):
                return


def fetched(place: Path, step: int) -> None:
    """Disks of more and more pages that take chunks from a scratch store."""
    expected, pages = unlimited(place, **CHUNKED)
    whole, scratch = place / "whole", place / "scratch"
    leave = CacheWriter.leave_scratch
    CacheWriter.leave_scratch = lambda *_: None  # type: ignore[method-assign]
    with ThreadPoolExecutor(2) as executor:
        build(place / "another machine", **CHUNKED, scratch=whole.as_uri(), executor=executor, num_workers=2)
    CacheWriter.leave_scratch = leave  # type: ignore[method-assign]
    settings = {**CHUNKED, "scratch": scratch.as_uri()}
    for size in range(1, 10 * pages, step):
        shutil.copytree(whole, scratch, dirs_exist_ok=True)
        with disk(place / "disk", f"size={size * PAGE}") as change:
            room = partial(change, f"size={ROOMY}")
            with counted() as made:
                is_full = fail_then_resume(f"{size} pages, fetched", place / "disk/caches", room, expected, **settings)
            assert not made
            if not is_full:
                return


def inodes(place: Path, step: int) -> None:
    """Disks that run out of names instead of bytes: at every directory and file that is made."""
    expected, _ = unlimited(place, **CHUNKED)
    for count in range(1, 200, step):
        with disk(place / "disk", f"size={ROOMY},nr_inodes={count}") as change:
            room = partial(change, f"size={ROOMY},nr_inodes=1000")
            if not fail_then_resume(f"{count} names", place / "disk/caches", room, expected, **CHUNKED):
                return


def rebuild(place: Path, step: int) -> None:
    """A rebuild on a full disk: the cache that is there stays whole, and can be read without a byte of room."""
    expected, _ = unlimited(place, **CHUNKED)
    for size in range(0, 40 * step, step):
        with disk(place / "disk", f"size={ROOMY}"):
            cache_dir, ballast = place / "disk/caches", place / "disk/ballast"
            features = build(cache_dir, **CHUNKED)
            (name,) = names(cache_dir)
            with ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, (shutil.disk_usage(cache_dir).free // PAGE - size) * PAGE)
            kind, message, is_ours = outcome_of(partial(build, cache_dir, **CHUNKED, rebuild=True))
            if kind == "done":
                return
            verify(cache_dir / name)
            PublishedCache(cache_dir / name).documents.validate()
            # With an interrupted build beside it and not a byte of room, the cache is found and handed out.
            found = outcome_of(partial(build, cache_dir, **CHUNKED))
            ballast.unlink()
            again = outcome_of(partial(build, cache_dir, **CHUNKED, rebuild=True))
            report(
                case=f"rebuild with {size} pages",
                stage="rebuild",
                error=kind,
                message=message,
                is_ours=is_ours,
                names_directory=str(cache_dir) in message,
                visible=[],
                half=[],
                finished=0,
                made_again=[],
                again=again,
                found=found[1] == str(features),
                left=sorted(set(names(cache_dir)) - {name}),
                identical=files_of(cache_dir / name) == expected,
            )


def read_only(place: Path, step: int) -> None:
    """A disk that is mounted read-only, with a cache on it or without, and with an interrupted build."""
    del step
    with disk(place / "disk", f"size={ROOMY}") as change:
        cache_dir = place / "disk/caches"
        features = build(cache_dir, **CHUNKED)
        (name,) = names(cache_dir)
        change("ro")
        verify(cache_dir / name)
        report(
            case="read-only",
            found=outcome_of(partial(build, cache_dir, **CHUNKED))[1] == str(features),
            rebuild=outcome_of(partial(build, cache_dir, **CHUNKED, rebuild=True)),
            other=outcome_of(partial(build, cache_dir, **CHUNKED, doc_stride=4)),
            below=outcome_of(partial(build, cache_dir / "more", **CHUNKED)),
            names=names(cache_dir),
        )


CASES = {call.__name__: call for call in (sizes, sizes_with_workers, shards, fetched, inodes, rebuild, read_only)}

if __name__ == "__main__":
    for wanted in sys.argv[2:]:
        name, _, step = wanted.partition(":")
        CASES[name](Path(sys.argv[1]), int(step))
