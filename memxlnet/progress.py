"""The progress bar of everything that takes long."""

from typing import Any

from tqdm import tqdm


def progress_bar(name: str, shown: bool | None, unit: str, total: int | None = None) -> Any:
    """Make a bar of `tqdm`.

    Args:
        name: What it is about.
        shown: Whether it is shown; None shows it where standard error is a terminal.
        unit: What it counts; ``"B"`` shows bytes in KiB, MiB and GiB.
        total: How many there are, where that is known.
    """
    scale: dict[str, Any] = {"unit_scale": True, "unit_divisor": 1024} if unit == "B" else {}
    return tqdm(desc=name, total=total, unit=unit, disable=None if shown is None else not shown, **scale)
