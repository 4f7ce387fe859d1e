"""JSON files of one object with an entry for each example: streamed, whole or not at all."""

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from memxlnet.errors import SettingsError


def as_file(value: object) -> Path:
    """The path of a file to write.

    Raises:
        SettingsError: It is no path.
    """
    name = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(name, str) or not name or "\0" in name:
        raise SettingsError(f"path: expected the name of a file, found {value!r}")
    return Path(name)


def write_json_object(path: Path, entries: Iterable[tuple[str, Any]]) -> None:
    """Write a JSON object, a line for each entry, as UTF-8; a file of that name is replaced.

    Args:
        path: The file; it appears when all is written and synced.
        entries: Keys, each once, and values; no NaN and no infinity. RAM is that of one of them.

    Raises:
        OSError: The file cannot be written; what was there before stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            before = b"{\n"
            for key, value in entries:
                line = (
                    f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
                )
                file.write(before + line.encode())
                before = b",\n"
            file.write(b"\n}\n" if before == b",\n" else b"{}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
