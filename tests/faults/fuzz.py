"""What a process of its own does: change the structure of a cache's files, and report every error of another library.

The metadata of Arrow files (flatbuffers, lengths, footers) and manifests are changed, then sealed: with sizes and
checksums, and most often the fingerprint, as a forger or a broken writer would leave them. A random bit seldom gets
past the checksums to where it could do harm. One line of JSON before each change and one after it.
"""

import copy
import json
import random
import re
import struct
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from memxlnet.data.cache_manager import find_cache
from memxlnet.errors import MemxlnetError
from memxlnet.format import published as cache_module
from memxlnet.format.checksums import digest
from memxlnet.format.fingerprint import canonical_json, differing_fields, fingerprint_of
from memxlnet.format.manifest import find_caches, known_files, read_manifest
from memxlnet.format.published import PublishedCache
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.maintain.old_caches import find_old_caches
from memxlnet.maintain.removal import find_leftovers
from memxlnet.maintain.verify import verify, verify_bytes
from tests.faults.damage import Files, replace, report
from tests.format.content import files_of, read_texts

MANIFEST = "manifest.json"

NUMBERS: tuple[int, ...] = (
    0,
    1,
    2,
    7,
    8,
    -1,
    -8,
    127,
    2**15,
    2**31 - 1,
    2**31,
    -(2**31),
    2**32 - 1,
    2**40,
    2**62,
    2**63 - 1,
    -(2**63),
)


# --- Arrow files


def _regions(content: bytes) -> list[slice]:
    """The metadata of a file: the schema's message, those of the record batches, the footer with its length."""
    (footer,) = struct.unpack("<i", content[-10:-6])
    regions = [slice(len(content) - 10 - footer, len(content))]
    for found in re.finditer(rb"\xff\xff\xff\xff(?=....[\x08-\x40]\0\0\0)", content, re.DOTALL):
        if found.start() % 8 == 0:
            (size,) = struct.unpack_from("<i", content, found.start() + 4)
            if 0 < size < len(content) - found.start():
                regions.append(slice(found.start(), found.start() + 8 + size))
    return regions


def change_arrow(source: random.Random, content: bytes) -> bytes:
    """Change words and bytes of the metadata, or where the file ends."""
    changed = bytearray(content)
    for _ in range(source.choice([1, 1, 1, 2, 3, 10])):
        region = source.choice(_regions(content))
        kind = source.choice(["bit", "byte", "half", "word", "long", "long", "copy", "near", "length", "end"])
        sizes = {"half": 2, "word": 4, "long": 8, "near": 8, "copy": 8}
        size = sizes.get(kind, 1)
        places = range(region.start - region.start % size, region.stop - size, size)
        at = source.choice(places) if len(places) else region.start
        if kind == "bit":
            changed[at] ^= 1 << source.randrange(8)
        elif kind == "byte":
            changed[at] = source.choice([0, 1, 2, 127, 128, 255, source.randrange(256)])
        elif kind in ("half", "word", "long"):
            value = source.choice(NUMBERS) % 256**size
            changed[at : at + size] = value.to_bytes(size, "little")
        elif kind == "near":
            value = int.from_bytes(changed[at : at + 8], "little") + source.choice([-8, -1, 1, 8, 64, 2**32])
            changed[at : at + 8] = (value % 2**64).to_bytes(8, "little")
        elif kind == "copy":
            other = source.choice(places) if len(places) else at
            changed[at : at + 8] = changed[other : other + 8]
        elif kind == "length":
            value = source.choice(
                [0, -1, 1, len(content), len(content) - 10, 2**31 - 1, source.randrange(len(content))]
            )
            changed[-10:-6] = struct.pack("<i", value)
        else:
            end = source.randrange(len(changed) + 1)
            changed = source.choice([changed[:end], changed + changed[end:], changed[end:], changed + bytes(8)])
            if len(changed) < 64:
                return bytes(changed)
        if len(changed) != len(content):
            break
    return bytes(changed)


# --- manifests

TEXTS = (
    "",
    "..",
    ".",
    "/",
    "../x",
    "../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "a/b",
    "a\\b",
    "a\0b",
    "CON",
    MANIFEST,
    "features-00000.arrow",
    "\ud800",
    "x" * 300,
    "x" * 100_000,
    "\n",
    "%s{0}",
    "\u202e",
    "NaN",
    "1e999",
)


def _nested(source: random.Random) -> Any:
    value: Any = source.choice([0, "x", None])
    as_list = source.random() < 0.5
    for _ in range(source.choice([3, 50, 300, 480, 700, 900, 970])):
        value = [value] if as_list else {"x": value}
    return value


def _anything(source: random.Random, old: Any) -> Any:
    """A value of another type or size."""
    kind = source.choice(
        ["number", "number", "text", "float", "bool", "none", "list", "object", "nested", "huge", "old"]
    )
    if kind == "number":
        return source.choice([*NUMBERS, 3, 10, 1000, 10**6, 2**64, -(2**64)])
    if kind == "text":
        return source.choice(TEXTS)
    if kind == "float":
        return source.choice([0.5, -0.0, 1e300, float("nan"), float("inf"), float("-inf"), 1.0])
    if kind == "bool":
        return source.random() < 0.5
    if kind == "list":
        return source.choice([[], [old], [old, old], [None] * 3, [[]], list(range(1000))])
    if kind == "object":
        return source.choice([{}, {"x": old}, {"": None}, {str(number): number for number in range(1000)}])
    if kind == "nested":
        return _nested(source)
    if kind == "huge":
        return 10 ** source.choice([20, 400, 4000])
    if kind == "old" and isinstance(old, int):
        return old + source.choice([-1, 1, 2, -old, old, 0.5, 2**32])
    return [old] if kind == "old" else None


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in list(entries):
        yield (*path, key)
        yield from _places(below, (*path, key))


def _at(content: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        content = content[key]
    return content


def _copy(value: Any) -> Any:
    """A copy, but of what is nested too deeply to be copied."""
    try:
        return copy.deepcopy(value)
    except RecursionError:
        return None


def _any_place(source: random.Random, content: Any) -> tuple[Any, Any]:
    """A place of a manifest, each of its levels as likely: the many numbers of a layout would be met most often."""
    parent, key = content, source.choice(sorted(content))
    while isinstance(parent[key], dict | list) and parent[key] and source.random() < 0.75:
        parent = parent[key]
        key = source.choice(sorted(parent)) if isinstance(parent, dict) else source.randrange(len(parent))
    return parent, key


def change_content(source: random.Random, content: dict[str, Any]) -> None:
    """Change fields of a manifest: their types, values, names, numbers."""
    for _ in range(source.choice([1, 1, 1, 2, 4])):
        parent, key = _any_place(source, content)
        kind = source.choice(["replace"] * 6 + ["remove", "duplicate", "swap", "rename", "file"])
        if kind == "replace":
            parent[key] = _anything(source, parent[key])
        elif kind == "remove":
            del parent[key]
        elif kind == "duplicate" and isinstance(parent, list):
            parent.insert(source.randrange(len(parent) + 1), _copy(parent[key]))
        elif kind == "rename" and isinstance(parent, dict):
            parent[source.choice([f"{key}x", "", "__class__", "self", str(key).upper()])] = parent.pop(key)
        elif kind == "swap":
            other = source.choice(list(_places(content)))
            parent[key] = _copy(_at(content, other))
        elif kind == "file":
            files = content.get("files")
            records = [*(files if isinstance(files, list) else ()), *_shards(content)]
            record = source.choice(records) if records else content
            if isinstance(record, dict):
                record["file"] = source.choice([*TEXTS, "tokenizer.json", "contexts-00000.arrow"])


def _shards(content: Any) -> list[Any]:
    """The records of all shards, as far as a changed manifest still has any."""
    tables = content.get("tables")
    entries = tables.values() if isinstance(tables, dict) else ()
    found = [table.get("shards") for table in entries if isinstance(table, dict)]
    return [shard for shards in found if isinstance(shards, list) for shard in shards]


def change_raw(source: random.Random, raw: bytes) -> bytes:
    """Change the text of a manifest where JSON itself is at stake."""
    kind = source.choice(["twice", "constant", "deep", "cut", "bytes", "encoding", "number", "blank"])
    text = raw.decode()
    place = source.choice([found.start() for found in re.finditer(r": ", text)]) + 2
    if kind == "twice":
        return b'{"format": "memxlnet-cache", "tables": {}, ' + raw.lstrip()[1:]
    if kind == "constant":
        return (
            text[:place] + source.choice(["NaN, ", "Infinity, ", "-Infinity, ", "nul", "tru"]) + text[place:]
        ).encode()
    if kind == "deep":
        depth = source.choice([500, 990, 5000, 200_000])
        return (text[:place] + "[" * depth + "]" * depth + ', "x": ' + text[place:]).encode()
    if kind == "cut":
        return raw[: source.randrange(len(raw))]
    if kind == "bytes":
        changed = bytearray(raw)
        for _ in range(source.choice([1, 2, 20])):
            changed[source.randrange(len(changed))] = source.randrange(256)
        return bytes(changed)
    if kind == "encoding":
        return text.encode(source.choice(["utf-16", "utf-32", "utf-8-sig", "utf-16-le"]))
    if kind == "number":
        return (text[:place] + "9" * source.choice([25, 4000, 5000, 100_000]) + text[place:]).encode()
    return raw + source.choice([b" ", b"\0", b"\n\n", b"{}", raw])


# --- sealing


def _sealed(files: Files, content: dict[str, Any], with_fingerprint: bool) -> Files:
    """The files with a manifest that fits them; a fingerprint that changes is changed in every file."""
    sealed = dict(files)
    try:
        if with_fingerprint:
            old, new = content["fingerprint"], fingerprint_of(content["fields"])
            content["fingerprint"] = new
            if isinstance(old, str) and len(old) == len(new):
                sealed = {name: raw.replace(old.encode(), new.encode()) for name, raw in files.items()}
        for record in [*content["files"], *_shards(content)]:
            raw = sealed.get(record["file"])
            if raw is not None:
                record["xxh3_128"] = digest(raw)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        pass
    try:
        unsealed = {name: value for name, value in content.items() if name != "checksum"}
        content["checksum"] = digest(canonical_json(unsealed))
        text = json.dumps(content, sort_keys=True, ensure_ascii=False, indent=1)
        sealed[MANIFEST] = text.encode() + b"\n"
    except (ValueError, TypeError, RecursionError):
        sealed[MANIFEST] = json.dumps(content).encode() if not _is_deep(content) else b"{}"
    return sealed


def _is_deep(content: Any) -> bool:
    try:
        json.dumps(content)
    except (RecursionError, ValueError):
        return True
    return False


def changed(source: random.Random, files: Files) -> tuple[str, Files]:
    """The name of the file that is changed, and all files."""
    arrow = sorted(name for name in files if name.endswith(".arrow"))
    if source.random() < 0.5:
        name = source.choice(arrow)
        altered = {**files, name: change_arrow(source, files[name])}
        content = json.loads(files[MANIFEST])
        for record in _shards(content):
            if record["file"] == name:
                record["bytes"] = len(altered[name])
        return name, _sealed(altered, content, with_fingerprint=False)
    if source.random() < 0.2:
        return MANIFEST, {**files, MANIFEST: change_raw(source, files[MANIFEST])}
    content = json.loads(files[MANIFEST])
    change_content(source, content)
    return MANIFEST, _sealed(files, content, with_fingerprint=source.random() < 0.7)


# --- what is tried


def _read_texts(directory: Path) -> None:
    cache = PublishedCache(directory)
    read_texts(cache.documents, "documents", min(cache.num_documents, 1000))
    read_texts(cache.contexts, "contexts", min(cache.manifest.tables["contexts"].rows, 1000))


def _read_rows(directory: Path, in_memory: bool) -> None:
    dataset = CacheDataset(directory, in_memory=in_memory)
    for row in range(0, len(dataset), 1 + len(dataset) // 15):
        try:
            dataset[row]
        except MemxlnetError:
            continue


def _gather(directory: Path) -> None:
    dataset = CacheDataset(directory)
    dataset.gather(range(min(len(dataset), 1000)))
    for name in dataset.tensors.names:
        dataset.column(name)


def _map(directory: Path) -> None:
    dataset = CacheDataset(directory)
    for name in list(dataset.get_all_documents())[:200]:
        dataset.get_document_segments(name)


def _compare(directory: Path, fields: dict[str, Any]) -> None:
    differing_fields(fields, read_manifest(directory).fields)


def _steps(directory: Path, original: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    cache_dir = directory.parent
    name, split, fields = original["name"], original["split"], original["fields"]
    return {
        "find_caches": lambda: list(find_caches(cache_dir)),
        "known_files": lambda: known_files(cache_dir)(str(original["provenance"].get("path"))),
        "find_cache": lambda: find_cache(cache_dir, name, split, {"max_seq_length": 32}),
        "find_leftovers": lambda: find_leftovers(cache_dir),
        "find_old_caches": lambda: find_old_caches(cache_dir),
        "differing_fields": lambda: _compare(directory, fields),
        "open": lambda: PublishedCache(directory),
        "texts": lambda: _read_texts(directory),
        "rows": lambda: _read_rows(directory, in_memory=False),
        "rows in memory": lambda: _read_rows(directory, in_memory=True),
        "gather": lambda: _gather(directory),
        "document map": lambda: _map(directory),
        "verify_bytes": lambda: verify_bytes(directory),
        "verify": lambda: verify(directory),
    }


def tried(directory: Path, original: dict[str, Any]) -> dict[str, Any]:
    """What came of every step: errors of memxlnet by step, and others in full."""
    ours: dict[str, str] = {}
    others: dict[str, str] = {}
    for step, call in _steps(directory, original).items():
        try:
            call()
        except MemxlnetError as error:
            ours[step] = type(error).__name__
        except BaseException as error:
            others[step] = f"{type(error).__name__}: {error}"[:300]
    return {"ours": ours, "others": others}


def _deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = {"x": value}
    return value


def _cases() -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Fields of a manifest and the values that are always tried: whatever once was too much is kept here."""
    for number in (2**31, 2**40, 2**63, 2**64, 10**400, 0, 1, -1, 33, True, 1.5, "32", None):
        yield ("fields", "settings", "max_seq_length"), number
    sources: list[Any] = [5, None, [], "x", {}, {"sha256": 5}, _deep(400), _deep(480), _deep(600), _deep(900)]
    for value in sources:
        yield ("fields", "source"), value
    objects: list[Any] = [5, None, [], {}, {"layout": {}}]
    for value in objects:
        yield ("fields", "tokenizer"), value
        yield ("fields",), value
    times = {"size": "x", "mtime_ns": None, "ctime_ns": "y"}
    provenances: list[Any] = [times, {**times, "ctime_ns": [1]}, _deep(480), _deep(600), [], 5, {"path": 5}]
    for value in provenances:
        yield ("provenance",), value
    for number in (0, 1, -1, 2**31, 2**63, 2**64, 10**400, True):
        for place in (("documents", "batch_rows"), ("contexts", "rows"), ("features", "rows")):
            yield ("tables", *place), number
        yield ("vocabulary_size",), number
        yield ("tables", "features", "shards", 0, "row_stop"), number
        yield ("tables", "features", "shards", 0, "bytes"), number


def _with_case(files: Files, place: tuple[Any, ...], value: Any) -> Files:
    content = json.loads(files[MANIFEST])
    if place == ("provenance",) and isinstance(value, dict):
        # Beside the place of the source, by which it is looked up.
        value = {"path": content["provenance"].get("path"), **value}
    _at(content, place[:-1])[place[-1]] = value
    return _sealed(files, content, with_fingerprint=True)


def change_structure(directory: Path, seeds: range, every: int) -> None:
    """Try each `every`-th of the fixed cases, and the changes of some seeds."""
    # A refused cache is opened once more after a while, which here would be most of the time.
    cache_module._OPEN_PAUSE = 0
    files = files_of(directory)
    original = json.loads(files[MANIFEST])
    fixed = [(-1 - number, MANIFEST, _with_case(files, *case)) for number, case in enumerate(_cases())][::every]
    for seed, name, altered in chain(fixed, ((seed, *changed(random.Random(seed), files)) for seed in seeds)):
        report({"trying": seed, "file": name})
        replace(directory, files, altered)
        outcome = tried(directory, original)
        replace(directory, altered, files)
        report({"seed": seed, "file": name, **outcome})
    verify(directory)
