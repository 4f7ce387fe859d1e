"""Everything that decides the bytes of a cache."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from arrow_schemas import SCHEMA_VERSION
from memxlnet.encode.tokenizer_content import TokenizerContent
from memxlnet.format.fingerprint import fingerprint_of
from memxlnet.format.paths import directory_name
from memxlnet.settings import EncodeSettings


def tokenizer_fields(tokenizer: TokenizerContent) -> dict[str, Any]:
    """Return a tokenizer's identity: its content and how it lays a row out, never its path or state."""
    return {"sha256": tokenizer.sha256, "layout": tokenizer.layout.to_json()}


@dataclass(frozen=True)
class CacheSettings:
    """Everything that decides the bytes of a cache.

    Attributes:
        name: Short name of the source.
        split: Split of the source.
        encode: What the rows look like.
        source: Identity of the source's content.
        tokenizer: The tokenizer's content.
        provenance: Where the source was found; recorded, but no part of the fingerprint.
        chunking: How the build cuts its chunks, for cache managers that keep finished chunks by number alone. It
            changes no byte of the result.
    """

    name: str
    split: str
    encode: EncodeSettings
    source: dict[str, Any]
    tokenizer: TokenizerContent = field(repr=False)
    provenance: dict[str, Any] = field(default_factory=dict, compare=False)
    chunking: str = field(default="", compare=False)

    @cached_property
    def fields(self) -> dict[str, Any]:
        """The fields that the fingerprint covers, as JSON values.

        The source's name is not among them: the same content under another name is the same cache.
        """
        return {
            "schema_version": SCHEMA_VERSION,
            "algorithm_version": ALGORITHM_VERSION,
            "split": self.split,
            "settings": self.encode.fields(),
            "source": self.source,
            "tokenizer": tokenizer_fields(self.tokenizer),
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over `fields`, in hexadecimal."""
        return fingerprint_of(self.fields)

    @property
    def directory_name(self) -> str:
        """Name of the cache within a cache directory."""
        return directory_name(self.name, self.split, self.fingerprint)


ALGORITHM_VERSION = 3
"""Version of what turns examples into features; a change of any value that a cache holds raises it."""
