"""The progress bar of everything that takes long: on a terminal, and in notebooks."""

import sys
from typing import Any

from tqdm.auto import tqdm

NOTEBOOK = "ipykernel.zmqshell"
"""The module that is loaded where a notebook runs; `tqdm.auto` looks at it as well."""


def progress_bar(name: str, shown: bool | None, unit: str, total: int | None = None) -> Any:
    """Make a bar of `tqdm`.

    Args:
        name: What it is about.
        shown: Whether it is shown; None shows it in a notebook, and where standard error is a terminal.
        unit: What it counts; ``"B"`` shows bytes in KiB, MiB and GiB.
        total: How many there are, where that is known.
    """
    scale: dict[str, Any] = {"unit_scale": True, "unit_divisor": 1024} if unit == "B" else {}
    return tqdm(desc=name, total=total, unit=unit, disable=disabled(shown), **scale)


def disabled(shown: bool | None) -> bool | None:
    """Return the argument ``disable`` of a bar of `tqdm`, for which None depends on the terminal."""
    if shown is not None:
        return not shown
    return False if NOTEBOOK in sys.modules else None
