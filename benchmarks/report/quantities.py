"""Numbers as a reader wants them: a median with its spread and its unit."""

from collections.abc import Callable, Sequence

from benchmarks.measure import median

Text = Callable[[float], str]


def seconds(value: float) -> str:
    """Seconds, in the unit that leaves one to three digits before the point."""
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if value * factor < 999.5:
            return f"{_short(value * factor)} {unit}"
    return f"{_short(value)} s"


def size(value: float) -> str:
    """Bytes, in decimal units; below a megabyte growth is noise, and kilobytes do."""
    magnitude = abs(value)
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if magnitude >= 0.9995 * factor:
            return f"{_short(value / factor)} {unit}"
    return f"{value:.0f} B"


def rate(value: float) -> str:
    """A number a second, three digits of it."""
    return f"{float(f'{value:.3g}'):,.0f}"


def times(value: float) -> str:
    """A ratio."""
    return f"{_short(value)}x"


def share(value: float) -> str:
    """A share in percent."""
    return f"{_short(value * 100)} %"


def _short(value: float) -> str:
    """Three digits at most, none behind the point from a hundred on."""
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def spread(samples: Sequence[float], text: Text) -> str:
    """The median, and in brackets the lowest and the highest sample where there are several."""
    middle = text(median(samples))
    if len(samples) < 2:
        return middle
    low, high = text(min(samples)), text(max(samples))
    return middle if low == high else f"{middle} ({low} - {high})"


def rates(samples: Sequence[float], number: float) -> list[float]:
    """So many things over each of the samples, which are seconds."""
    return [number / sample for sample in samples]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; numbers stand at the right."""
    lines = [_line(head), _line(["---", *("---:" for _ in head[1:])])]
    return "\n".join([*lines, *map(_line, rows)]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
