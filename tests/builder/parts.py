"""Files of examples that are built as parts, or all at once."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from memxlnet.builder.builder import find_or_build
from memxlnet.builder.compaction import compact_parts
from memxlnet.builder.part_building import BuiltParts, build_parts
from tests.format.content import files_of
from tests.golden.make_golden import golden_tokenizer
from tests.support import example, write_json_lines

SETTINGS: dict[str, Any] = {"max_seq_length": 24, "doc_stride": 3, "num_workers": 0, "progress": False}

SHARED = "the lamp of the harbour was lit in 1898 . the keeper was a keeper of the lamp . " * 4


def rows_of(name: str, count: int = 4) -> list[dict[str, Any]]:
    """Examples of one file; every other one is on a context that all files share."""
    own = f"{name} the lamp was lit by a keeper in 1898 . " * 3
    return [
        example(
            SHARED if number % 2 else own,
            f"who lit lamp {number} of {name}",
            [("1898", (SHARED if number % 2 else own).index("1898"))] if number % 3 else [],
            id=f"{name}-{number}",
        )
        for number in range(count)
    ]


def write_files(folder: Path, files: Mapping[str, Iterable[Mapping[str, Any]]]) -> Path:
    """Write files of JSON Lines, and give the pattern that names all of them."""
    folder.mkdir(exist_ok=True)
    for name, rows in files.items():
        write_json_lines(folder / f"{name}.jsonl", rows)
    return folder / "*.jsonl"


def in_parts(source: Any, cache_dir: Path, **changes: Any) -> BuiltParts:
    """Build files as parts."""
    own = {name: changes.pop(name) for name in ("files_per_part", "on_repeated_id", "name") if name in changes}
    return build_parts(source, "test", golden_tokenizer(), {**SETTINGS, **changes}, cache_dir, **own)


def at_once(source: Any, cache_dir: Path, **changes: Any) -> dict[str, bytes]:
    """Build one cache of all files; its name and its files."""
    directory = find_or_build(source, "test", golden_tokenizer(), {**SETTINGS, **changes}, cache_dir).directory
    return {"": directory.name.encode(), **files_of(directory)}


def compacted(found: BuiltParts, cache_dir: Path, **options: Any) -> dict[str, bytes]:
    """Compact parts; the name of the cache and its files."""
    directory = compact_parts(found.directory.parent, found.parts, cache_dir, **options).directory
    return {"": directory.name.encode(), **files_of(directory)}
