"""Plots of the statistics of a cache."""

from dataclasses import fields
from pathlib import Path
from typing import Any

from memxlnet.errors import CacheDirectoryError, MissingLibraryError, SettingsError
from memxlnet.load.statistics import CacheStatistics, UsefulShares

_SUFFIXES = (".png", ".svg", ".pdf")


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
    if path.suffix.lower() not in _SUFFIXES:
        raise SettingsError(f"--plot: expected a file that ends in {', '.join(_SUFFIXES)}, found {str(path)!r}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingLibraryError("--plot: expected matplotlib, found none; pip install 'memxlnet[plot]'") from error
    figure = Figure(figsize=(17, 4), layout="constrained")
    left, middle, right, last = figure.subplots(1, 4)
    _draw_counts(left, statistics.segments_per_document, "segments of a document", "documents")
    _draw_counts(middle, statistics.answer_time_steps, "time step of the answer's first segment", "documents")
    for name, label in {"aligned": "aligned", "grouped": "grouped by length", "refilled": "refilled"}.items():
        shares = [100 * getattr(padding, name) for padding in statistics.padding.values()]
        right.plot(list(statistics.padding), shares, marker="o", label=label)
    right.set(xlabel="documents in a group", ylabel="padding, % of lanes", ylim=(0, None))
    for field in fields(UsefulShares):
        shares = [100 * getattr(useful, field.name) for useful in statistics.useful.values()]
        last.plot(list(statistics.useful), shares, marker="o", label=field.name.replace("_", ", "))
    last.set(xlabel="documents in a group, or segments in a batch", ylabel="real tokens, %")
    last.set_ylim(0, 100)
    for axes, sizes in ((right, list(statistics.padding)), (last, list(statistics.useful))):
        if sizes:
            axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, labels=map(str, sizes))
        axes.legend()
    figure.suptitle(title, parse_math=False)
    try:
        figure.savefig(path)
    except OSError as error:
        raise CacheDirectoryError(f"{path}: cannot be written: {error.strerror}; choose another file") from error


def _draw_counts(axes: Any, counts: dict[int, int], name: str, unit: str) -> None:
    axes.bar(list(counts), list(counts.values()), width=0.9)
    axes.set(xlabel=name, ylabel=unit)
    if max(counts.values(), default=0) > 100 * max(min(counts.values(), default=1), 1):
        axes.set_yscale("log")
    axes.xaxis.get_major_locator().set_params(integer=True)
