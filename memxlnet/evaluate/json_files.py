"""JSON files of one object with an entry for each example: streamed, whole or not at all."""

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from memxlnet.errors import SettingsError
from memxlnet.format.paths import as_path


def as_file(value: object) -> Path:
    """Return the path of a file to write.

    Raises:
        SettingsError: It is not a path.
    """
    path = as_path("path", value, "the name of a file")
    if path.is_dir():
        raise SettingsError(
            f"path: expected the name of a file, found the directory {str(path)!r}; put a name after it"
        )
    return Path(os.path.realpath(path))  # what a link leads to is replaced, and not the link


def write_json_object(path: Path, entries: Iterable[tuple[str, Any]]) -> None:
    """Write a JSON object, a line for each entry, as UTF-8; a file of that name is replaced.

    Args:
        path: The file; it appears when all is written and synced.
        entries: Keys, each once, and values; no NaN and no infinity. RAM is that of one of them.

    Raises:
        OSError: The file cannot be written; what was there before stays.
    """
    if path.exists() and not path.is_file():  # a pipe or a device takes what is written, and is not to be replaced
        with path.open("wb") as file:
            _write(file, entries)
        return
    temporary = path.with_name(f".memxlnet-json-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            _write(file, entries)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(file: BinaryIO, entries: Iterable[tuple[str, Any]]) -> None:
    before = b"{\n"
    for key, value in entries:
        line = f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        file.write(before + line.encode())
        before = b",\n"
    file.write(b"\n}\n" if before == b",\n" else b"{}\n")
