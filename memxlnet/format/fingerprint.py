"""What a cache was made from, and the fingerprint over it."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Return JSON with sorted keys and no spare blanks: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def fingerprint_of(fields: dict[str, Any]) -> str:
    """Return the SHA-256 over the fields of an identity, in hexadecimal."""
    return hashlib.sha256(canonical_json(fields)).hexdigest()


def differing_fields(expected: dict[str, Any], found: dict[str, Any], prefix: str = "") -> list[str]:
    """Name the fields in which two identities differ, as ``field: expected X, found Y``."""
    differences = []
    for key in sorted({*expected, *found}):
        ours, theirs = expected.get(key), found.get(key)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            differences.extend(differing_fields(ours, theirs, f"{prefix}{key}."))
        elif ours != theirs:
            differences.append(f"{prefix}{key}: expected {ours!r:.80}, found {theirs!r:.80}")
    return differences
