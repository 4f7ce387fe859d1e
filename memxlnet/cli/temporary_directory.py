"""Running where no directory for temporary files can be written, as in a container with a read-only root."""

import tempfile
from pathlib import Path


def choose_temporary_directory(*directories: Path) -> None:
    """Have temporary files lie where results do, or in the current directory, if the system has no place for them.

    Libraries such as dill, which torch imports, look for that place when they are imported, even if they never use it.

    Args:
        *directories: Those of the caches and of the files that a command writes, which need not exist yet.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        parents = ((directory.absolute() / "x").parents for directory in directories)
        existing = [next(place for place in each if place.exists()) for each in parents]
        places = [*existing, Path.cwd()]
        tempfile.tempdir = str(next((place for place in places if _can_be_written(place)), Path.cwd()))


def _can_be_written(directory: Path) -> bool:
    # The system's answer about access is always yes for root.
    try:
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False
