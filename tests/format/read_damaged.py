"""Run as a process of its own: damage a cache in many ways, open and read each, and print the outcomes.

One line of JSON for each damage, written before the next one is tried, so that the damage that ends the process is
known.
"""

import json
import random
import sys
from pathlib import Path

from memxlnet.errors import CacheError
from memxlnet.format.published import PublishedCache
from memxlnet.format.text_table import TextTable
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.maintain.verify import verify
from tests.format.content import read_texts


def damage(content: bytes, source: random.Random) -> bytes:
    """Flip bits or overwrite words, most often where the structure of an Arrow file lies."""
    changed = bytearray(content)
    while bytes(changed) == content:
        for _ in range(source.choice([1, 1, 1, 2, 8])):
            place = source.choice(["head", "tail", "anywhere"])
            at = source.randrange(min(len(content), 2048) if place != "anywhere" else len(content))
            at = len(content) - 1 - at if place == "tail" else at
            if source.random() < 0.6:
                changed[at] ^= 1 << source.randrange(8)
            else:
                word = source.choice([b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x80", bytes(4), b"\1\0\0\0"])
                changed[at : at + 4] = word[: len(changed) - at]
    return bytes(changed)


def opening(directory: Path) -> str:
    """Open the cache; every error of it must be a `CacheError`."""
    try:
        PublishedCache(directory)
    except CacheError as error:
        return f"{type(error).__name__}: {error}"
    return "opened"


def reading(directory: Path) -> list[str]:
    """Read every value in every way; return the errors, of which only signals count."""
    errors = []
    try:
        cache = PublishedCache(directory)
        errors += _tried(cache.documents, "documents", cache.num_documents)
        errors += _tried(cache.contexts, "contexts", cache.manifest.tables["contexts"].rows)
        dataset = CacheDataset(directory)
        dataset.gather(range(len(dataset)))
        dataset.column("input_ids")
    except CacheError as error:
        return [*errors, type(error).__name__]
    for row in range(len(dataset)):
        try:
            dataset[row]
        except Exception as error:
            errors.append(type(error).__name__)
    try:
        [list(dataset.document_map[name]) for name in dataset.get_all_documents()]
    except Exception as error:
        errors.append(type(error).__name__)
    return errors


def _tried(table: TextTable, name: str, rows: int) -> list[str]:
    try:
        read_texts(table, name, rows)
    except CacheError as error:
        return [type(error).__name__]
    return []


def verifying(directory: Path) -> str:
    try:
        verify(directory)
    except CacheError as error:
        return type(error).__name__
    return "silent"


def main(directory: Path, seeds: range) -> None:
    paths = sorted(directory.iterdir())
    for seed in seeds:
        source = random.Random(seed)
        path = source.choice(paths)
        content = path.read_bytes()
        try:
            path.write_bytes(damage(content, source))
            outcome = {"seed": seed, "file": path.name, "opening": opening(directory)}
            sys.stdout.write(json.dumps({**outcome, "step": "opened"}) + "\n")
            sys.stdout.flush()
            outcome |= {"reading": reading(directory), "verifying": verifying(directory)}
            sys.stdout.write(json.dumps({**outcome, "step": "done"}) + "\n")
            sys.stdout.flush()
        finally:
            path.unlink()
            path.write_bytes(content)
    verify(directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3])))
