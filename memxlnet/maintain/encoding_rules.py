"""What decides the rows of a cache besides its texts, and the small files that go with them, read as checked values."""

import hashlib
import json
from collections.abc import Iterator
from typing import NamedTuple

from memxlnet.encode.cache_settings import ALGORITHM_VERSION
from memxlnet.encode.examples import BadExample
from memxlnet.encode.tokenizer_content import TokenizerContent
from memxlnet.errors import CacheDamagedError, CacheMismatchError
from memxlnet.format.manifest import REBUILD, reading
from memxlnet.format.paths import DROPPED_REPORT, MANIFEST, TOKENIZER
from memxlnet.format.published import PublishedCache
from memxlnet.format.row_layout import RowLayout
from memxlnet.settings import EncodeSettings


class Rules(NamedTuple):
    """What decides the rows of a cache besides its texts.

    Attributes:
        encode: Its settings.
        tokenizer: Its tokenizer.
    """

    encode: EncodeSettings
    tokenizer: TokenizerContent

    @property
    def layout(self) -> RowLayout:
        """The layout of rows."""
        return self.tokenizer.layout

    @property
    def vocabulary_size(self) -> int:
        """One above the largest id."""
        return self.tokenizer.vocabulary_size


def read_rules(cache: PublishedCache) -> Rules:
    """Read the settings, the layout and the tokenizer of a cache.

    Raises:
        CacheMismatchError: Its values were made by another version of the encoder.
        CacheDamagedError: No build can have them, or they do not fit each other.
    """
    manifest = cache.manifest
    path = cache.directory / MANIFEST
    version = manifest.fields.get("algorithm_version")
    if version != ALGORITHM_VERSION:
        raise CacheMismatchError(
            f"{path}, fields.algorithm_version: expected {ALGORITHM_VERSION}, found {version!r}; its files have the "
            "right checksums, but its values can only be checked with the memxlnet that wrote it"
        )
    try:
        encode = EncodeSettings(**manifest.settings)
        layout = manifest.layout
        _check_layout(layout, manifest.vocabulary_size)
        layout.check(encode)
    except (TypeError, ValueError) as error:
        raise CacheDamagedError(
            f"{path}, fields: expected settings and a layout that a build can have, found {error}",
            hint=REBUILD,
        ) from error
    return Rules(encode, read_content(cache))


def _check_layout(layout: RowLayout, vocabulary_size: int) -> None:
    """Check that ids are in the vocabulary, and that segment ids fit their column."""
    reads, writes = layout.memory_read_ids, layout.memory_write_ids
    specials = (*layout.prefix, *layout.middle, *layout.suffix)
    types = (*layout.prefix_types, *layout.middle_types, *layout.suffix_types)
    sides = (*types, layout.first_type, layout.second_type, layout.pad_type)
    limits = ((*specials, *reads, *writes, layout.pad_id), min(vocabulary_size, 2**31)), (sides, 2**7)
    for values, stop in limits:
        for value in values:
            if type(value) is not int or not 0 <= value < stop:
                raise ValueError(f"layout: the id {value!r:.80} (expected 0 to {stop - 1})")
    for name in ("prefix", "middle", "suffix"):
        if len(getattr(layout, name)) != len(getattr(layout, f"{name}_types")):
            raise ValueError(f"layout: {name} and {name}_types of different lengths")
    if len(reads) != len(writes):
        raise ValueError(f"layout: {len(reads)} memory tokens that read and {len(writes)} that write")
    if layout.cls_id not in specials:
        raise ValueError(f"layout: cls_id {layout.cls_id!r:.80}, which is no special token of a row")
    for name in ("context_first", "pad_left", "split_special_tokens", "cls_last"):
        if not isinstance(getattr(layout, name), bool):
            raise ValueError(f"layout: {name} {getattr(layout, name)!r:.80}")


def read_content(cache: PublishedCache) -> TokenizerContent:
    """Read the tokenizer of a cache.

    Raises:
        CacheDamagedError: Its file does not fit the manifest, or is not a tokenizer.
    """
    manifest = cache.manifest
    path = cache.tokenizer_file
    with reading(path):
        raw = path.read_bytes()
    sha256, found = manifest.fields["tokenizer"].get("sha256"), hashlib.sha256(raw).hexdigest()
    if sha256 != found:
        raise CacheDamagedError(
            f"{path}: expected the sha256 {sha256!r:.80} (fingerprint), found {found}", hint=REBUILD
        )
    try:
        content = TokenizerContent(raw.decode(), manifest.layout, manifest.vocabulary_size)
        backend = content.backend
        if backend.padding is not None or backend.truncation is not None:
            raise ValueError("one that pads or truncates")
        highest = max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
    except BaseException as error:
        # A panic of the Rust side is a BaseException of its own; anything else that is not an Exception passes on.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CacheDamagedError(f"{path}: expected a tokenizer, found {error}", hint=REBUILD) from error
    if manifest.vocabulary_size != highest + 1:
        raise CacheDamagedError(
            f"{cache.directory / MANIFEST}, vocabulary_size: expected {highest + 1}, one above the largest id of "
            f"{TOKENIZER}, found {manifest.vocabulary_size}",
            hint=REBUILD,
        )
    return content


def read_dropped(cache: PublishedCache) -> Iterator[BadExample]:
    """Yield the examples that gave no document, in order of their rows, read line by line.

    Raises:
        CacheDamagedError: The report does not fit the manifest, or a line is malformed.
    """
    manifest = cache.manifest
    path = cache.directory / DROPPED_REPORT
    listed = any(record.file == DROPPED_REPORT for record in manifest.files)
    if listed != (manifest.dropped_examples > 0):
        expected = f"the report of {manifest.dropped_examples} dropped examples" if not listed else "no such report"
        raise CacheDamagedError(
            f"{path}: expected {expected} (manifest), found {'one' if listed else 'none'}",
            hint=REBUILD,
        )
    if not listed:
        return
    lines = 0
    row = -1
    total = cache.num_documents + manifest.dropped_examples
    with reading(path), path.open("rb") as file:
        for line in file:
            lines += 1
            entry = _dropped_entry(line, row + 1, total)
            if isinstance(entry, str):
                raise CacheDamagedError(f"{path}, line {lines}: expected {entry}, found {line!r:.120}", hint=REBUILD)
            row = entry.row
            yield entry
    if lines != manifest.dropped_examples:
        raise CacheDamagedError(
            f"{path}: expected {manifest.dropped_examples} lines, one for each dropped example, found {lines}",
            hint=REBUILD,
        )


def _dropped_entry(line: bytes, least: int, total: int) -> BadExample | str:
    """Return the entry of a line, or what was expected of it."""
    form = 'JSON as {"row": 0, "id": "...", "reason": "..."}'
    try:
        entry = BadExample(**json.loads(line))
        written = json.dumps(entry._asdict(), ensure_ascii=False).encode() + b"\n"
    except (ValueError, TypeError, RecursionError):
        return form
    if written != line or type(entry.row) is not int or not isinstance(entry.id, str):
        return form
    if not isinstance(entry.reason, str):
        return form
    return entry if least <= entry.row < total else f"a row from {least} to {total - 1}, in ascending order"
