"""Running where no directory for temporary files can be written, as in a container with a read-only root."""

import tempfile
from pathlib import Path


def choose_temporary_directory(cache_dir: Path | None) -> None:
    """Have temporary files lie where caches do, or in the current directory, if the system has no place for them.

    Libraries such as dill, which torch imports, look for that place when they are imported, even if they never use it.

    Args:
        cache_dir: The directory of the caches, which need not exist yet; None for commands without one.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        parents = () if cache_dir is None else (cache_dir.absolute() / "x").parents
        places = [*[place for place in parents if place.exists()][:1], Path.cwd()]
        tempfile.tempdir = str(next((place for place in places if _can_be_written(place)), Path.cwd()))


def _can_be_written(directory: Path) -> bool:
    # The system's answer about access is always yes for root.
    try:
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False
