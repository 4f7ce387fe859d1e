"""Reading everything: a changed byte anywhere in a cache is told."""

from pathlib import Path

from memxlnet.errors import CacheDamagedError
from memxlnet.store.cache import Cache
from memxlnet.store.files import file_digest
from memxlnet.store.manifest import REBUILD
from memxlnet.store.paths import MANIFEST, as_directory


def verify(directory: str | Path) -> None:
    """Check every byte of a cache against its manifest, and its structure.

    Args:
        directory: The published directory.

    Raises:
        CacheError: The cache is missing, of another version, or damaged; the message names the file.
    """
    cache = Cache(as_directory("directory", directory))
    path = cache.directory / MANIFEST
    if path.read_bytes() != cache.manifest.encode():
        raise CacheDamagedError(f"{path}: expected the bytes that its content gives, found others; {REBUILD}")
    for record in cache.manifest.all_files():
        found = file_digest(cache.directory / record.file)
        if found != record.xxh3_128:
            raise CacheDamagedError(
                f"{cache.directory / record.file}: expected the checksum {record.xxh3_128} (manifest), found {found}; "
                f"{REBUILD}"
            )
    for table in (cache.documents, cache.contexts):
        table.validate()
