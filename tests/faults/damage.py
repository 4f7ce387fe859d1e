"""What a process of its own does: damage a cache in ways beyond single words, and report what came of each.

One line of JSON before each damage and one after it, so that one that ends the process is known.
"""

import json
import random
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from memxlnet import errors
from memxlnet.format import published as cache_module
from memxlnet.maintain.verify import verify
from tests.format.content import files_of
from tests.format.forging import seal
from tests.format.read_damaged import opening, reading, verifying

Files = dict[str, bytes]
Damaged = tuple[str, Files]
"""The name of the file that is damaged, and the files of the cache with it."""


def report(outcome: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(outcome) + "\n")
    sys.stdout.flush()


def replace(directory: Path, before: Files, after: Files) -> None:
    """Give a cache other files. None is opened for writing: one that is still mapped keeps its bytes."""
    for name in before.keys() | after.keys():
        if before.get(name) != after.get(name):
            (directory / name).unlink(missing_ok=True)
            if name in after:
                (directory / name).write_bytes(after[name])


# --- ways to damage


def _one(source: random.Random, files: Files, change: Callable[[bytearray], Any]) -> Damaged:
    name = source.choice(sorted(files))
    content = bytearray(files[name])
    change(content)
    return name, {**files, name: bytes(content)}


def _place(source: random.Random, content: bytearray, most: int) -> slice:
    size = min(source.choice([2, 3, 8, 64, 512, 4096, most]), len(content))
    start = source.randrange(len(content) - size + 1)
    return slice(start, start + size)


def flip(source: random.Random, files: Files, _: Files) -> Damaged:
    """One bit of one file, each bit of the cache as likely as any other."""
    at = source.randrange(sum(map(len, files.values())))
    for name in sorted(files):
        if at < len(files[name]):
            content = bytearray(files[name])
            content[at] ^= 1 << source.randrange(8)
            return name, {**files, name: bytes(content)}
        at -= len(files[name])
    raise AssertionError


def garbage(source: random.Random, files: Files, _: Files) -> Damaged:
    def change(content: bytearray) -> None:
        place = _place(source, content, 10_000)
        content[place] = source.randbytes(place.stop - place.start)

    return _one(source, files, change)


def zeros(source: random.Random, files: Files, _: Files) -> Damaged:
    """What a crash may leave of a file whose size was written before its content."""

    def change(content: bytearray) -> None:
        place = _place(source, content, len(content))
        content[place] = bytes(place.stop - place.start)

    return _one(source, files, change)


def appended(source: random.Random, files: Files, _: Files) -> Damaged:
    added = source.choice([b"\0", b"\n", b" ", b"ARROW1", source.randbytes(source.randrange(1, 5000))])
    return _one(source, files, lambda content: content.extend(added))


def moved(source: random.Random, files: Files, _: Files) -> Damaged:
    """A run of bytes copied over another one of the same file."""

    def change(content: bytearray) -> None:
        place = _place(source, content, 4096)
        start = source.randrange(len(content) - (place.stop - place.start) + 1)
        content[place] = content[start : start + place.stop - place.start]

    return _one(source, files, change)


def shifted(source: random.Random, files: Files, _: Files) -> Damaged:
    """Some bytes removed, as many put in somewhere else."""

    def change(content: bytearray) -> None:
        size = source.choice([1, 4, 8, 64])
        start = source.randrange(len(content) - size)
        del content[start : start + size]
        start = source.randrange(len(content))
        content[start:start] = source.choice([bytes(size), source.randbytes(size)])

    return _one(source, files, change)


def foreign(source: random.Random, files: Files, others: Files) -> Damaged:
    """A file of another cache."""
    name = source.choice(sorted(name for name in files if files[name] != others.get(name, files[name])))
    return name, {**files, name: others[name]}


def swapped(source: random.Random, files: Files, _: Files) -> Damaged:
    """Two files of the cache, each under the name of the other; most often two shards of one table."""
    shards = [name for name in sorted(files) if name.startswith("features")]
    one, two = source.sample(shards if source.random() < 0.6 else sorted(files), 2)
    return one, {**files, one: files[two], two: files[one]}


def missing(source: random.Random, files: Files, _: Files) -> Damaged:
    name = source.choice(sorted(files))
    return name, {other: content for other, content in files.items() if other != name}


WAYS = (flip, garbage, zeros, appended, moved, shifted, foreign, swapped, missing)


def damaged(way: Callable[..., Damaged], source: random.Random, files: Files, others: Files) -> Damaged:
    """Damage that changes at least a byte."""
    name, changed = way(source, files, others)
    return (name, changed) if changed != files else damaged(way, source, files, others)


# --- where files may end


def boundaries(content: bytes) -> set[int]:
    """Where the structure of an Arrow file has its joints: messages, their bodies, buffers, the footer."""
    places = {0, 6, 8, len(content) - 6, len(content) - 10}
    (footer,) = struct.unpack("<i", content[-10:-6])
    places.add(len(content) - 10 - footer)
    at = 8
    while content[at : at + 4] == b"\xff\xff\xff\xff" and (size := struct.unpack_from("<i", content, at + 4)[0]):
        message = pa.ipc.read_message(pa.py_buffer(content[at:]))
        body = at + 8 + size
        places |= {at, at + 4, at + 8, body, body + message.body.size if message.body else body}
        at = max(places - {place for place in places if place > body + (message.body.size if message.body else 0)})
    places |= {at, at + 8}
    return {place + by for place in places for by in (-1, 0, 1) if 0 <= place + by < len(content)}


def truncations(source: random.Random, files: Files, count: int) -> Iterator[tuple[str, int]]:
    """Files and the sizes to which they are cut: every joint, every page, and random places.

    Of the shards of features, which are all alike, the first and the last.
    """
    shards = sorted(name for name in files if name.startswith("features"))
    for name in sorted(files.keys() - set(shards[1:-1])):
        content = files[name]
        sizes = boundaries(content) if name.endswith(".arrow") else {0, 1, len(content) - 1, len(content) - 2}
        # A page is what a crash loses.
        sizes |= set(range(0, len(content), 4096)) | {source.randrange(len(content)) for _ in range(count)}
        yield from ((name, size) for size in sorted(sizes))


# --- what is reported


def _foreign_names(found: list[str]) -> list[str]:
    """The names of exceptions that are not of memxlnet."""
    return [name for name in found if not hasattr(errors, name)]


def truncate(directory: Path, count: int) -> None:
    """Cut files, first as they are, then with a manifest that was made for what is left of them."""
    cache_module._OPEN_PAUSE = 0
    files = files_of(directory)
    for number, (name, size) in enumerate(truncations(random.Random(count), files, count)):
        report({"trying": number, "file": name, "size": size})
        cut = {**files, name: files[name][:size]}
        replace(directory, files, cut)
        plain = opening(directory)
        outcome = {"number": number, "file": name, "size": size, "opening": plain, "verifying": verifying(directory)}
        if name != "manifest.json":
            (directory / "manifest.json").unlink()
            (directory / "manifest.json").write_bytes(files["manifest.json"])
            seal(directory)
            outcome |= {"sealed": opening(directory), "foreign": _foreign_names(reading(directory))}
            outcome["sealed_verifying"] = verifying(directory)
            cut["manifest.json"] = (directory / "manifest.json").read_bytes()
        replace(directory, cut, files)
        report(outcome)
    verify(directory)


def damage(directory: Path, other: Path, seeds: range, only_flips: bool) -> None:
    # A refused cache is opened once more after a while, which here would be most of the time.
    cache_module._OPEN_PAUSE = 0
    files, others = files_of(directory), files_of(other)
    for seed in seeds:
        source = random.Random(seed)
        way = flip if only_flips else WAYS[seed % len(WAYS)]
        name, changed = damaged(way, source, files, others)
        report({"trying": seed, "way": way.__name__, "file": name})
        replace(directory, files, changed)
        outcome = {"seed": seed, "way": way.__name__, "file": name}
        if not only_flips:
            outcome |= {"opening": opening(directory), "foreign": _foreign_names(reading(directory))}
        outcome["verifying"] = verifying(directory)
        replace(directory, changed, files)
        report(outcome)
    verify(directory)
