"""JSON files that hold a checksum of their own content, a format and a version."""

import json
from typing import Any

from memxlnet.errors import CacheDamagedError, CacheMismatchError
from memxlnet.format.checksums import digest
from memxlnet.format.fingerprint import canonical_json


def seal(content: dict[str, Any]) -> bytes:
    """Return the bytes of a file: readable JSON with sorted keys, and the checksum of all fields."""
    sealed = {**content, "checksum": digest(canonical_json(content))}
    return json.dumps(sealed, sort_keys=True, ensure_ascii=False, indent=1).encode() + b"\n"


def unseal(raw: bytes, path: str, what: str, format_name: str, version: tuple[str, int], hint: str) -> dict[str, Any]:
    """Check the bytes of a file, and return its fields without format, version and checksum.

    Args:
        raw: The bytes.
        path: Where they were found, for messages.
        what: What the file is, for messages.
        format_name: The field ``format``.
        version: The name of the field with the version, and the one that can be read.
        hint: What to do where they are damaged, for messages.

    Raises:
        CacheMismatchError: The file has another version.
        CacheDamagedError: It is not JSON, of another format, or fails its checksum.
    """
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise CacheDamagedError(f"{path}: expected JSON, found {error}", hint=hint) from None
    if not isinstance(content, dict) or content.get("format") != format_name:
        raise CacheDamagedError(f"{path}: expected {what} of a {format_name}, found other JSON", hint=hint)
    name, expected = version
    found_version = content.get(name)
    if found_version != expected:
        is_newer = isinstance(found_version, int) and found_version > expected
        raise CacheMismatchError(
            f"{path}: expected {name} {expected}, found {found_version!r}; "
            + ("upgrade memxlnet to read it" if is_newer else "read it with the memxlnet that wrote it")
            + ", or delete it to rebuild"
        )
    checksum = content.pop("checksum", None)
    try:
        found = digest(canonical_json(content))
    except (ValueError, RecursionError) as error:
        # JSON can name half of a surrogate pair, which is not text.
        raise CacheDamagedError(f"{path}: expected JSON of Unicode text, found {error}", hint=hint) from None
    if checksum != found:
        raise CacheDamagedError(f"{path}: expected content with the checksum {checksum!r:.80}, found other", hint=hint)
    return {key: value for key, value in content.items() if key not in ("format", name)}
