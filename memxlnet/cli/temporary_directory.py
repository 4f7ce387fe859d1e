"""Running where no directory for temporary files can be written, as in a container with a read-only root."""

import os
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
        places = [Path.cwd()] if cache_dir is None else [*(cache_dir.absolute() / "x").parents, Path.cwd()]
        fallback = next((place for place in places if os.access(place, os.W_OK | os.X_OK)), Path.cwd())
        tempfile.tempdir = os.fspath(fallback)
