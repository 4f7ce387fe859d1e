"""A finished directory put into its place: by renames, so that what a reader has mapped stays."""

import contextlib
import shutil
from pathlib import Path

from memxlnet.store.paths import retired_path, sync


def put_in_place(staging: Path, final: Path) -> None:
    """Rename a finished cache to its name, durably; one that stood there is unlinked.

    Both lie in the same cache directory, and the caller holds the builder lock.
    """
    retired = retired_path(final.parent, final.name)
    with contextlib.suppress(FileNotFoundError):
        final.rename(retired)
    staging.rename(final)
    sync(final.parent)
    _remove(retired)


def take_away(directory: Path) -> None:
    """Remove a directory of work, if it is there; another process may still put a file into it."""
    retired = retired_path(directory.parent, directory.name)
    with contextlib.suppress(FileNotFoundError):
        directory.rename(retired)
        _remove(retired)


def _remove(retired: Path) -> None:
    if retired.is_dir() and not retired.is_symlink():
        shutil.rmtree(retired, ignore_errors=True)
    else:  # what was in the way was no directory
        retired.unlink(missing_ok=True)
