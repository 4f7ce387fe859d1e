"""The progress bar of a transfer."""

from typing import Any

from tqdm import tqdm


def transfer_bar(name: str, total: int, shown: bool | None) -> Any:
    """Return a bar in bytes; quiet where standard error is not a terminal, unless requested."""
    # None lets tqdm decide.
    disable = None if shown is None else not shown
    return tqdm(desc=name, total=total, unit="B", unit_scale=True, unit_divisor=1024, disable=disable)
