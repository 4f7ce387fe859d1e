"""Builds whose cache goes to a store: made in a local directory, then sent, the manifest last.

The manifest is never written over another one, so that of several builders of one cache one publishes it.
"""

import contextlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from memxlnet.builder.builder import Build, build_under_lock, find_or_build, prepare_build
from memxlnet.builder.cache_writer import BuildSummary, CacheWriter
from memxlnet.builder.deliveries import Scratch
from memxlnet.builder.loss_limits import LossLimits
from memxlnet.errors import CacheDirectoryError, CacheError, CacheMismatchError, SettingsError, TransferError
from memxlnet.format.fingerprint import differing_fields
from memxlnet.format.manifest import SEND_AGAIN, FileRecord, Manifest, decode_manifest, read_manifest
from memxlnet.format.paths import MANIFEST, as_directory, is_url, make_directory
from memxlnet.maintain.directory_swap import take_away
from memxlnet.remote.pull import pull
from memxlnet.remote.push import is_right, send_cache
from memxlnet.remote.sole_sender import LostLeaseError, has_conditional_write, sole_sender
from memxlnet.remote.stores import MAX_MANIFEST_BYTES, Store, open_store
from memxlnet.settings import BuildSettings
from memxlnet.system_errors import described, hint_for

logger = logging.getLogger(__name__)

_ATTEMPTS = 5


@dataclass(frozen=True)
class StoredBuild:
    """A cache that a build found in a store, or sent there.

    Attributes:
        url: Its place, without credentials.
        summary: What it holds; its directory is that of the local copy, where there is one.
        has_copy: Whether the local copy is there.
    """

    url: str
    summary: BuildSummary
    has_copy: bool


class StoreDirectory:
    """A directory of caches in a store, and the local one in which they are built.

    Args:
        url: The directory in the store, such as ``s3://bucket/caches``.
        work_dir: Where caches are built and resume; None for a directory of this user below that of temporary files.
        storage_options: Options of the file system, such as credentials; never stored or shown.

    Attributes:
        work_dir: The local directory.

    Raises:
        SettingsError: An argument is wrong, or one cannot build into such a store.
        MissingLibraryError: The library that serves this kind of address is not installed.
        CacheDirectoryError: There is no directory of temporary files that can be used.
    """

    def __init__(
        self,
        url: str,
        work_dir: str | os.PathLike[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ):
        self._store = open_store(url, storage_options, ("cache_dir", "storage_options"))
        if url.startswith(("hf://", "http://", "https://")):
            raise SettingsError(
                f"cache_dir: expected a store that one can build into, found {self._store.url}; build into a local "
                "directory, and push the cache"
            )
        self._is_own = work_dir is None
        self.work_dir = _own_work_dir() if work_dir is None else as_directory("work_dir", work_dir)

    def find(self, job: Build) -> Manifest | None:
        """Return the manifest of the cache of these settings in the store, or None.

        Raises:
            CacheDamagedError: The manifest is damaged.
            CacheMismatchError: A cache of another fingerprint has its name.
            TransferError: The store cannot be asked.
        """
        place = self._place(job)
        raw = place.read(MANIFEST, MAX_MANIFEST_BYTES)
        if raw is None:
            return None
        try:
            found = decode_manifest(raw, f"{place.url}/{MANIFEST}", SEND_AGAIN)
        except CacheError as error:
            error.add_note(f"or remove what lies there: memxlnet rm {place.url}")
            raise
        if found.fingerprint != job.settings.fingerprint:
            differences = "; ".join(differing_fields(job.settings.fields, found.fields)[:10])
            raise CacheMismatchError(f"{place.url}: holds a cache of other settings: {differences}; remove it")
        return found

    def build(
        self,
        job: Build,
        build: BuildSettings,
        writer: CacheWriter,
        executor: Executor | None = None,
        *,
        keep_copy: bool = False,
    ) -> StoredBuild:
        """Return the cache of a build in the store; build and send it unless it is there.

        The store is asked whether it can be written before anything is encoded. Of several builders, on this machine
        or on others, one publishes its manifest, and all return that cache.

        Args:
            job: What is to be built.
            build: How the work is done.
            writer: Builds in `work_dir`.
            executor: Encodes the chunks; see `find_or_build`.
            keep_copy: Keep the local copy also in the default `work_dir`; else it is removed where this call made it.

        Raises:
            LossLimitError: More was lost than the build allows; a cache that is in the store stays.
            TransferError: The store cannot be asked or written.
            CacheDirectoryError: `work_dir` cannot be created or written.
            BuildOSError: The local copy cannot be looked for or removed.
            MemxlnetError: Any error of `build_cache`.
        """
        found = None if build.rebuild else self.find(job)
        if found is not None:
            writer.discard_leftovers(job.settings)
            return self._found(job, build, found)
        make_directory(self.work_dir, "work_dir")
        is_conditional = has_conditional_write(self._store, job.settings.directory_name)
        with writer.lock(job.settings, build.progress):
            found = None if build.rebuild else self.find(job)  # of the process that held the lock
            if found is not None:
                writer.leave_scratch(job.settings)
                return self._found(job, build, found)
            local = writer.build_directory(job.settings)
            with local.errors("read"):
                is_kept = keep_copy or not self._is_own or writer.directory(job.settings).exists()
            summary = build_under_lock(job, build, writer, executor)
            if build.rebuild:
                with self._sole_sender(job, is_conditional):
                    send_cache(self._place(job), summary.directory, progress=build.progress)
            else:
                self._publish(job, summary.directory, is_conditional, build.progress)
            # Until now another machine could have needed the chunks: this one may be lost before all is sent.
            writer.leave_scratch(job.settings)
            if not is_kept:
                with local.errors("removed"):
                    take_away(summary.directory)
        return StoredBuild(self._place(job).url, summary, is_kept)

    def _found(self, job: Build, build: BuildSettings, manifest: Manifest) -> StoredBuild:
        LossLimits.of(build).check_cache(self._place(job).url, manifest)
        logger.info("%s: found, nothing to build", self._place(job).url)
        directory = self.work_dir / job.settings.directory_name
        return StoredBuild(self._place(job).url, BuildSummary.of(directory, manifest), False)

    def _place(self, job: Build) -> Store:
        return self._store.child(job.settings.directory_name)

    def _publish(self, job: Build, directory: Path, is_conditional: bool, progress: bool | None) -> None:
        """Send a cache; where the manifest of an equal one is there by then, that one stays."""
        place = self._place(job)
        sent: set[FileRecord] = set()
        for _ in range(_ATTEMPTS):
            with self._sole_sender(job, is_conditional) as check_lease, contextlib.suppress(LostLeaseError):
                commit = partial(_commit, place, is_conditional, check_lease)
                made = send_cache(place, directory, progress=progress, commit=commit)
                sent.update(made.files)
                if made.is_committed:
                    return
                check_lease()  # one that was lost is waited for
                raw = place.read(MANIFEST, MAX_MANIFEST_BYTES)
                # None: a write at the same moment failed in the end. One of other settings: the next attempt raises.
                if raw is not None and _make_whole(place, directory, raw, sent, progress):
                    return
        raise TransferError(
            f"{place.url}/{MANIFEST}: expected it to be written or found in {_ATTEMPTS} attempts, found neither; build "
            "again"
        )

    @contextlib.contextmanager
    def _sole_sender(self, job: Build, is_conditional: bool) -> Iterator[Callable[[], None]]:
        if is_conditional:
            yield lambda: None
            return
        is_logged = False

        def wait() -> None:
            nonlocal is_logged
            if not is_logged:
                logger.warning("%s: waiting for another process that sends it", self._place(job).url)
            is_logged = True

        with sole_sender(self._store, job.settings.directory_name, wait) as check:
            yield check


def build_into_store(
    dataset_name: Any,
    split: str,
    tokenizer: Any,
    arguments: Mapping[str, Any],
    url: str,
    executor: Executor | None = None,
    scratch: Scratch | None = None,
    *,
    has_copy: bool = False,
) -> StoredBuild:
    """Do what `find_or_build` does, for a directory of caches in a store.

    Args:
        dataset_name: As in `find_or_build`, as all that follow.
        split: As there.
        tokenizer: As there.
        arguments: As there, and ``work_dir`` and ``storage_options`` of `StoreDirectory`.
        url: The directory in the store.
        executor: As in `find_or_build`.
        scratch: As in `find_or_build`.
        has_copy: Return with a copy in the local directory, fetched where the cache was in the store already.

    Raises:
        MemxlnetError: Any error of `StoreDirectory`, of its `build`, and of `pull`.
    """
    options = arguments["storage_options"]
    target = StoreDirectory(url, arguments["work_dir"], options)
    job, build, writer = prepare_build(dataset_name, split, tokenizer, arguments, target.work_dir, executor, scratch)
    made = target.build(job, build, writer, executor, keep_copy=has_copy)
    if made.has_copy or not has_copy:
        return made
    make_directory(target.work_dir, "work_dir")
    place = f"{url.rstrip('/')}/{job.settings.directory_name}"
    pull(place, target.work_dir, storage_options=options, progress=build.progress)
    return replace(made, has_copy=True)


def built_directory(
    dataset_name: Any,
    split: str,
    tokenizer: Any,
    arguments: Mapping[str, Any],
    cache_dir: str | os.PathLike[str],
    executor: Executor | None = None,
    scratch: Scratch | None = None,
) -> Path:
    """Do what `find_or_build` does, also for a directory of caches in a store; return the local directory of the cache.

    The arguments are those of `find_or_build`, and for a store those of `build_into_store`.

    Raises:
        MemxlnetError: Any error of `find_or_build` and of `build_into_store`.
    """
    if is_stored(cache_dir, arguments):
        stored = build_into_store(
            dataset_name, split, tokenizer, arguments, str(cache_dir), executor, scratch, has_copy=True
        )
        return stored.summary.directory
    return find_or_build(dataset_name, split, tokenizer, arguments, cache_dir, executor, scratch).directory


def is_stored(cache_dir: object, arguments: Mapping[str, Any]) -> bool:
    """Return whether a build goes to a store; check that nothing is given that applies only there.

    Raises:
        SettingsError: ``work_dir`` or ``storage_options`` is given with a local directory.
    """
    if isinstance(cache_dir, str) and is_url(cache_dir):
        return True
    for name in ("work_dir", "storage_options"):
        if arguments.get(name) is not None:
            raise SettingsError(f"{name}: applies to a cache_dir in a store, found a local one; leave it out")
    return False


def _commit(place: Store, is_conditional: bool, check_lease: Callable[[], None], raw: bytes) -> bool:
    """Write the manifest unless there is one; return whether it is there."""
    if is_conditional:
        if place.create(MANIFEST, raw):
            return True
    else:
        try:
            check_lease()
        except LostLeaseError as error:
            logger.warning("%s", error)
            return False
        if place.read(MANIFEST, MAX_MANIFEST_BYTES) is None:
            place.write(MANIFEST, raw)
    # A write whose answer was lost may have been made all the same.
    return place.read(MANIFEST, MAX_MANIFEST_BYTES) == raw


def _make_whole(place: Store, directory: Path, raw: bytes, sent: set[FileRecord], progress: bool | None) -> bool:
    """Make a cache whole whose builder came first, where files of this builder have overwritten its own.

    Returns:
        False where it is one of other settings.
    """
    winner = decode_manifest(raw, f"{place.url}/{MANIFEST}", SEND_AGAIN)
    if winner.fingerprint != read_manifest(directory).fingerprint:
        return False
    names = {record.file for record in sent - set(winner.all_files())}
    overwritten = [record for record in winner.all_files() if record.file in names]
    if all(is_right(place, record, {}, True) for record in overwritten):
        logger.info("%s: exists already, another builder published it", place.url)
        for name in names - {record.file for record in overwritten}:
            place.remove(name)
    else:
        logger.warning("%s: another builder with other shards sent it meanwhile; sending it again", place.url)
        send_cache(place, directory, progress=progress)
    return True


def _own_work_dir() -> Path:
    """Return the directory of this user below that of temporary files; created, and for nobody else to write."""
    try:
        path = Path(tempfile.gettempdir(), f"memxlnet-{os.getuid()}")
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        place = Path(error.filename or "") if isinstance(error.filename, str) else Path()
        raise CacheDirectoryError(
            f"work_dir: expected a directory of temporary files in which to build, found none: "
            f"{described(error, place)}; {hint_for(error)}, pass work_dir, or set TMPDIR"
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise CacheDirectoryError(
            f"{path}: expected a directory that only this user may write, found another; pass work_dir, or set TMPDIR"
        )
    return path
