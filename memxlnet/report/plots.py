"""Plots of the statistics of a cache, as files and as SVG within a page."""

import io
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from memxlnet.errors import CacheDirectoryError, MissingLibraryError, SettingsError
from memxlnet.load.statistics import CacheStatistics, PaddingShares, UsefulShares

SUFFIXES = (".png", ".svg", ".pdf")
SEGMENTS = ("Segments per document", "segments of a document")
TOKENS = ("Length of documents", "tokens of the context")
TIME_STEPS = ("Where answers lie", "time step of the first segment with the whole answer")

_MOST_BARS = 24
_UPRIGHT_BARS = 9
_MOST_TICKS = 15
_LOG_FROM = 100
_ROOM, _ROOM_UPRIGHT = 0.12, 0.25
_MULTIPLES = (1, 2, 5)

_TEXT, _GRID, _BAR, _MEDIAN = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"
_LINES = ("#0a0b05", "#0a0b06", "#0a0b07")
_ON_PAPER = {
    _TEXT: "#24292f",
    _GRID: "#d8dee4",
    _BAR: "#4878a8",
    _MEDIAN: "#b35900",
    **dict(zip(_LINES, ("#2f6f9f", "#b35900", "#3f7f4f"), strict=True)),
}
_IN_A_PAGE = {
    _TEXT: "var(--plot-text)",
    _GRID: "var(--plot-grid)",
    _BAR: "var(--plot-bar)",
    _MEDIAN: "var(--plot-median)",
    **{color: f"var(--plot-line-{number})" for number, color in enumerate(_LINES)},
}
"""In a page each color is a variable of its style sheet, which the dark theme changes."""

Colors = Mapping[str, str]


def draw_statistics(statistics: CacheStatistics, title: str, path: Path) -> None:
    """Draw segments per document, answers by time step, and padding and real tokens by size of a group.

    Args:
        statistics: What is drawn.
        title: Title of the figure.
        path: The file, whose suffix names its kind; an existing one is replaced.

    Raises:
        SettingsError: The suffix is not that of a plot.
        MissingLibraryError: matplotlib is not installed.
        CacheDirectoryError: The file cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise SettingsError(f"plot: expected a file that ends in {', '.join(SUFFIXES)}, found {str(path)!r}")
    figure = _new_figure("plot", "plot", 13, 8.6)
    figure.set_layout_engine("constrained")
    (segments, steps), (padding, useful) = figure.subplots(2, 2)
    draw_counts(segments, statistics.segments_per_document, *SEGMENTS, _ON_PAPER)
    draw_counts(steps, statistics.answer_time_steps, *TIME_STEPS, _ON_PAPER)
    draw_padding(padding, statistics.padding, _ON_PAPER)
    draw_useful(useful, statistics.useful, _ON_PAPER)
    figure.suptitle(title, parse_math=False, color=_ON_PAPER[_TEXT], fontweight="bold")
    try:
        figure.savefig(path)
    except OSError as error:
        raise CacheDirectoryError(f"{path}: cannot be written: {error.strerror}; choose another file") from error


def page_plots(statistics: CacheStatistics, tokens: Mapping[int, int]) -> dict[str, str]:
    """Return the plots of a page by name, as SVG elements.

    Args:
        statistics: What is drawn.
        tokens: Documents by the tokens of their context.

    Raises:
        MissingLibraryError: matplotlib is not installed.
    """
    return {
        "segments": _svg(lambda axes, colors: draw_counts(axes, statistics.segments_per_document, *SEGMENTS, colors)),
        "steps": _svg(lambda axes, colors: draw_counts(axes, statistics.answer_time_steps, *TIME_STEPS, colors)),
        "tokens": _svg(lambda axes, colors: draw_counts(axes, tokens, *TOKENS, colors)),
        "useful": _svg(lambda axes, colors: draw_useful(axes, statistics.useful, colors)),
    }


def plot_f1_by_step(runs: Mapping[str, Mapping[str, tuple[float, int]]]) -> str:
    """Return a plot of F1 by the time step of the answer, as an SVG element.

    Args:
        runs: For each run the F1 in percent and the number of documents by the label of a time step.

    Raises:
        MissingLibraryError: matplotlib is not installed.
    """

    def draw(axes: Any, colors: Colors) -> None:
        labels = list(next(iter(runs.values())))
        width = 0.8 / len(runs)
        for number, (name, figures) in enumerate(runs.items()):
            places = np.arange(len(labels)) - 0.4 + width * (number + 0.5)
            values = [figures[label][0] for label in labels]
            # matplotlib leaves labels out that begin with an underscore.
            bars = axes.bar(places, values, width * 0.95, label=f" {name}", color=colors[_LINES[number]])
            axes.bar_label(bars, [f"{value:.0f}" for value in values], padding=1, fontsize=8, color=colors[_TEXT])
        counts = [next(iter(runs.values()))[label][1] for label in labels]
        shown = [f"{label}\n{count:,}" for label, count in zip(labels, counts, strict=True)]
        axes.set_xticks(range(len(labels)), labels=shown)
        # Room for the legend above bars of 100 %.
        axes.set(ylim=(0, 124 if len(runs) > 1 else 110), yticks=range(0, 101, 20))
        _finish(axes, "F1 by where the answer lies", "time step, and number of documents", "F1, %", colors)
        if len(runs) > 1:
            _legend(axes, colors, loc="upper left", ncols=2)

    return _svg(draw, bottom=0.19)


def draw_counts(axes: Any, counts: Mapping[int, int], title: str, name: str, colors: Colors) -> None:
    """Draw a histogram of documents, with its counts on the bars and the median.

    Args:
        axes: Where it is drawn.
        counts: Documents by value.
        title: Title of the plot.
        name: What the values are, with their unit.
        colors: The colors of the roles.
    """
    edges, heights = _binned(counts)
    width = edges[1] - edges[0]
    # A bar over a range reaches from its first value to its last; one over a single value stands on it.
    bars = axes.bar((edges[:-1] + edges[1:] - 1) / 2, heights, width * 0.9, color=colors[_BAR])
    axes.bar_label(
        bars,
        [f"{height:,}" if height else "" for height in heights],
        padding=3,
        fontsize=8,
        rotation=0 if len(heights) <= _UPRIGHT_BARS else 90,
        color=colors[_TEXT],
    )
    unit = "documents"
    most, least = int(heights.max()), int(heights[heights > 0].min(initial=heights.max()))
    room = _ROOM_UPRIGHT if len(heights) > _UPRIGHT_BARS else _ROOM
    if most > _LOG_FROM * least:
        axes.set_yscale("log")
        axes.set_ylim(0.5, 0.5 * (2 * most) ** (1 + room))
        unit = "documents (logarithmic)"
    else:
        axes.set_ylim(0, max(most, 1) * (1 + room))
    if counts:
        median = median_of(counts)
        # Up to the top of its bar, so that it crosses no number.
        top = heights[np.searchsorted(edges, median, side="right") - 1]
        style: Any = {"color": colors[_MEDIAN], "linestyle": "--", "linewidth": 2, "label": f"median {median:,.10g}"}
        axes.vlines(median, 0, max(top, axes.get_ylim()[1] / 20), **style)
        axes.set_xlim(edges[0] - 0.5 - width * 0.15, edges[-1] - 0.5 + width * 0.15)
        _legend(axes, colors)
    else:
        axes.text(0.5, 0.5, "no document", transform=axes.transAxes, ha="center", color=colors[_TEXT])
    if width == 1 and len(heights) <= _MOST_TICKS:
        axes.set_xticks(edges[:-1])
    else:
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.minorticks_off()
    _finish(axes, title, name if width == 1 else f"{name}, {width} to a bar", unit, colors)


def draw_padding(axes: Any, padding: Mapping[int, PaddingShares], colors: Colors) -> None:
    """Draw the share of padding by the size of a group."""
    for number, name in enumerate(("aligned", "grouped", "refilled")):
        shares = [100 * getattr(found, name) for found in padding.values()]
        label = "grouped by length" if name == "grouped" else name
        axes.plot(list(padding), shares, marker="o", label=label, color=colors[_LINES[number]])
    axes.set_ylim(0, None)
    _finish_sizes(axes, list(padding), colors)
    _finish(axes, "Lanes without a segment", "documents in a group (logarithmic)", "padding, % of lanes", colors)


def draw_useful(axes: Any, useful: Mapping[int, UsefulShares], colors: Colors) -> None:
    """Draw the share of real tokens by the size of a group or batch."""
    for number, name in enumerate(("aligned", "refilled", "regular")):
        for suffix, line in (("", "-"), ("_grouped", "--")):
            shares = [100 * getattr(found, name + suffix) for found in useful.values()]
            label = name + (", grouped by length" if suffix else "")
            style = {"linestyle": line, "marker": "o", "markersize": 4}
            axes.plot(list(useful), shares, label=label, color=colors[_LINES[number]], **style)
    axes.set_ylim(0, 103)
    _finish_sizes(axes, list(useful), colors)
    name = "documents in a group, or segments in a batch (logarithmic)"
    _finish(axes, "Useful share", name, "real tokens, %", colors)


def median_of(counts: Mapping[int, int]) -> float:
    """Return the median of values that occur as often as is given; at least one."""
    values = np.array(sorted(counts))
    until = np.cumsum([counts[value] for value in values.tolist()])
    total = int(until[-1])
    low, high = np.searchsorted(until, [(total + 1) // 2, total // 2 + 1])
    return float(values[low] + values[high]) / 2


def _binned(counts: Mapping[int, int]) -> tuple[Any, Any]:
    """Return int64[bars + 1], the first values of bars of equal width and one after the last; and int64[bars]."""
    if not counts:
        return np.array([0, 1]), np.zeros(1, np.int64)
    values = np.array(sorted(counts))
    span = int(values[-1] - values[0]) + 1
    width = _round_width(-(-span // _MOST_BARS))
    first = int(values[0]) if width == 1 else int(values[0]) // width * width
    bars = -(-(int(values[-1]) + 1 - first) // width)
    heights = np.bincount((values - first) // width, [counts[value] for value in values.tolist()], bars)
    return first + width * np.arange(bars + 1), heights.astype(np.int64)


def _round_width(least: int) -> int:
    """Return the least of 1, 2, 5, 10, 20, 50, ... that is not below a width."""
    power = 1
    while True:
        for multiple in _MULTIPLES:
            if multiple * power >= least:
                return multiple * power
        power *= 10


def _finish_sizes(axes: Any, sizes: list[int], colors: Colors) -> None:
    if sizes:
        axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, labels=map(str, sizes))
    axes.minorticks_off()
    _legend(axes, colors)


def _legend(axes: Any, colors: Colors, **options: Any) -> None:
    legend = axes.legend(frameon=False, fontsize=9, labelcolor=colors[_TEXT], **options)
    for text in legend.get_texts():
        text.set_parse_math(False)  # the name of a run is no formula


def _finish(axes: Any, title: str, name: str, unit: str, colors: Colors) -> None:
    axes.set_title(title, color=colors[_TEXT], fontsize=12)
    axes.set_xlabel(name, color=colors[_TEXT])
    axes.set_ylabel(unit, color=colors[_TEXT])
    axes.tick_params(which="both", color=colors[_GRID], labelcolor=colors[_TEXT])
    axes.grid(axis="y", color=colors[_GRID], linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(colors[_GRID])


def _new_figure(name: str, extra: str, width: float, height: float) -> Any:
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of a home that cannot be written, and needs none
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        message = f"{name}: expected matplotlib, found none; pip install 'memxlnet[{extra}]'"
        raise MissingLibraryError(message) from error
    finally:
        logger.setLevel(level)
    return Figure(figsize=(width, height))


def _svg(draw: Callable[[Any, Colors], None], bottom: float = 0.14) -> str:
    """Return one plot as an SVG element without ids of its own and whose colors are variables."""
    figure = _new_figure("report", "report", 6.4, 3.6)
    # Fixed margins: to fit them takes longer than to draw.
    axes = figure.add_axes((0.125, bottom, 0.86, 0.91 - bottom))
    draw(axes, {color: color for color in _IN_A_PAGE})
    from matplotlib import rc_context

    output = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "memxlnet", "font.family": "sans-serif"}):
        figure.savefig(output, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = output.getvalue()
    text = re.sub(r'<g id="[^"]*">', "<g>", text[text.index("<svg") :])
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The size follows the page; the view box keeps the shape.
    text = re.sub(r'^<svg ([^>]*?)(?:width|height)="[^"]*" ', r"<svg \1", text)
    for color, variable in _IN_A_PAGE.items():
        text = text.replace(color, variable)
    return text
