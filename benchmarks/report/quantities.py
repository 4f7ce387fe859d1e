"""Formatting of quantities: medians with spread and unit."""

from collections.abc import Callable, Sequence

from benchmarks.measure import median

Text = Callable[[float], str]


def seconds(value: float) -> str:
    """Format seconds in the unit that leaves one to three digits before the decimal point."""
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if value * factor < 999.5:
            return f"{_short(value * factor)} {unit}"
    return f"{_short(value)} s"


def size(value: float) -> str:
    """Format bytes in decimal units."""
    magnitude = abs(value)
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if magnitude >= 0.9995 * factor:
            return f"{_short(value / factor)} {unit}"
    return f"{value:.0f} B"


def rate(value: float) -> str:
    """Format a rate with three significant digits."""
    return f"{float(f'{value:.3g}'):,.0f}"


def times(value: float) -> str:
    """Format a ratio."""
    return f"{_short(value)}x"


def share(value: float) -> str:
    """Format a share as a percentage."""
    return f"{_short(value * 100)} %"


def _short(value: float) -> str:
    """Format a number with at most three digits, and without decimals from a hundred."""
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def spread(samples: Sequence[float], text: Text) -> str:
    """Format the median, followed by the lowest and the highest of several samples in brackets."""
    middle = text(median(samples))
    if len(samples) < 2:
        return middle
    low, high = text(min(samples)), text(max(samples))
    return middle if low == high else f"{middle} ({low} - {high})"


def rates(samples: Sequence[float], number: float) -> list[float]:
    """Divide a number of items by each sample in seconds."""
    return [number / sample for sample in samples]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table with right-aligned numbers."""
    lines = [_line(head), _line(["---", *("---:" for _ in head[1:])])]
    return "\n".join([*lines, *map(_line, rows)]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
