"""The lock of a builder: one for each cache, on a file next to the build's directory that goes when it is released."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from memxlnet.format.paths import BUILD_PREFIX, kind_and_cache, make_directory
from memxlnet.maintain.directory_swap import remove_retired, take_away
from memxlnet.system_errors import cache_error, cache_errors, described, hint_for

logger = logging.getLogger(__name__)

WAIT_SECONDS = 1.0
_POLL_SECONDS = 0.05


def lock_path(cache_dir: Path, cache: str) -> Path:
    """Return the lock file of a cache's builder."""
    return cache_dir / f"{BUILD_PREFIX}{cache}.lock"


@contextlib.contextmanager
def builder_lock(path: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold a builder lock. It is the system's: it ends with the process that holds it, however that ends.

    Args:
        path: The lock file.
        wait: Called at first and then once a second while another process holds the lock; may raise.

    Raises:
        OSError: The file cannot be created or opened.
        CacheOSError: It cannot be unlocked.
    """
    lock = filelock.FileLock(path)
    timeout = 0.0
    while not lock.is_locked:
        try:
            lock.acquire(timeout=timeout, poll_interval=_POLL_SECONDS)
        except filelock.Timeout:
            timeout = WAIT_SECONDS
            wait()
    try:
        yield
    finally:
        # Only while it is held: whoever waits for it sees that the file has no name any more, and begins again.
        with contextlib.suppress(OSError):
            path.unlink()
        with cache_errors(path, "unlocked"):
            lock.release()


@contextlib.contextmanager
def sole_builder(cache_dir: Path, cache: str, wait: Callable[[], None]) -> Iterator[None]:
    """Be the only process that builds or fetches a cache; create the cache directory where it is missing.

    What killed builders of that cache left out of sight is removed.

    Args:
        cache_dir: Directory of the caches.
        cache: Name of the cache in it.
        wait: As in `builder_lock`.

    Raises:
        CacheDirectoryError: The cache directory cannot be created or written.
        CacheOSError: The system failed.
    """
    make_directory(cache_dir)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(builder_lock(lock_path(cache_dir, cache), wait))
            remove_retired(cache_dir, cache)
        except OSError as error:
            raise cache_error(
                error,
                f"{cache_dir}: cannot be locked: {described(error, cache_dir)}; {hint_for(error)} or choose another "
                "cache_dir",
            ) from error
        yield


def clear_leftovers(cache_dir: Path, cache: str, work: Path | None, before: Callable[[], None] = lambda: None) -> None:
    """Remove what a killed builder of a published cache left; nothing while another one is running.

    Args:
        cache_dir: Directory of the caches; nothing is removed where it is not writable.
        cache: Name of the cache in it.
        work: A directory of work to remove as well.
        before: Called before that is removed, where it is there.
    """

    def refuse() -> None:
        raise BlockingIOError

    with contextlib.suppress(OSError):
        is_left = any(kind_and_cache(path) == ("retired", cache) for path in cache_dir.iterdir())
        if (is_left or (work is not None and work.exists())) and os.access(cache_dir, os.W_OK):
            with builder_lock(lock_path(cache_dir, cache), refuse):
                remove_retired(cache_dir, cache)
                if work is not None and work.exists():
                    before()
                    take_away(work)


def is_held(path: Path) -> bool:
    """Return whether a live process holds a builder lock; creates no file and needs no permission to write.

    One that cannot be opened counts as held: what it guards is skipped, with a warning.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError as error:
        logger.warning("%s: passed over, it cannot be opened: %s", path, error)
        return True
    return is_locked(descriptor)


def is_locked(descriptor: int) -> bool:
    """Return whether a live process holds the lock of a file; closes its descriptor."""
    try:
        # Shared, so that two that look at once do not take each other for the one that holds it.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        let_go(descriptor)
    return False


def let_go(descriptor: int) -> None:
    """Release the lock of a file, and close it."""
    # Closing alone leaves the lock to a process that was forked meanwhile, for as long as that lives.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
