"""The plots of a report: one colour per contestant, units on the axes, log scales for values that span decades."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.measure import median
from benchmarks.report.quantities import rate, rates, seconds, size
from benchmarks.report.targets import BATCHES

mpl.use("Agg")

Figures = dict[str, Any]

COLOURS = {
    "memxlnet": "#0072B2",
    "lazy": "#0072B2",
    "lazy, asking ahead": "#0072B2",
    "RAM tensors": "#000000",
    "eager": "#D55E00",
    "traditional": "#D55E00",
    "pickled chunks": "#E69F00",
    "NumPy memmap": "#009E73",
    "datasets.map": "#CC79A7",
    "datasets, torch": "#CC79A7",
    "datasets, numpy": "#56B4E9",
    "pair call": "#56B4E9",
    "Lance": "#8C564B",
    "LitData": "#7F7F7F",
    "Vortex": "#999933",
    "tensordict": "#332288",
    "ArrayRecord": "#882255",
}
"""Colours that most colour-blind readers can distinguish."""

MARKERS = "os^Dv<>pPX*hd"


def draw(parts: dict[str, Any], output: Path) -> dict[str, list[str]]:
    """Draw the plots of all measured parts.

    Returns:
        The names of the files by part.
    """
    drawn: dict[str, list[str]] = {}
    for part, plots in PLOTS.items():
        figures = parts.get(part, {}).get("figures")
        for name, plot in plots.items() if figures is not None and "not possible" not in figures else ():
            figure = plot(figures)
            figure.savefig(output / f"{name}.png", dpi=110)
            drawn.setdefault(part, []).append(f"{name}.png")
    return drawn


def _panels(number: int = 1, width: float = 8.0, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, number, squeeze=False)[0]
    for axis in axes:
        axis.grid(True, which="major", color="#dddddd", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def _describe(axis: Axes, title: str, x: str, y: str) -> None:
    """Set the title, the axis labels and the legend of a line plot."""
    axis.set_title(title)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _bars(axis: Axes, samples: dict[str, list[float]], text: Callable[[float], str], label: str) -> None:
    """Draw horizontal bars of medians with their spread on a log scale, each labelled with its value."""
    if not samples:
        axis.text(0.5, 0.5, "not measured", ha="center")
        return
    names = list(samples)[::-1]
    middles = [median(samples[name]) for name in names]
    below = [middle - min(samples[name]) for name, middle in zip(names, middles, strict=True)]
    above = [max(samples[name]) - middle for name, middle in zip(names, middles, strict=True)]
    axis.barh(names, middles, xerr=[below, above], color=[COLOURS[name] for name in names], height=0.65, ecolor="#555")
    for place, name in enumerate(names):
        axis.annotate(
            text(middles[place]), (max(samples[name]), place), (4, 0), textcoords="offset points", va="center", size=8
        )
    axis.set_xscale("log")
    axis.set_xlim(min(middles) / 3, max(map(max, samples.values())) * 6)
    axis.grid(False, axis="y")
    axis.set_xlabel(label)


def _build_speed(figures: Figures) -> Figure:
    figure, axes = _panels(len(figures), 5.0 * len(figures) if len(figures) > 1 else 8.0, 3.2)
    for axis, (kind, found) in zip(axes, figures.items(), strict=True):
        ran = {name: one for name, one in found["contestants"].items() if "seconds" in one}
        _bars(
            axis,
            {name: rates(one["seconds"], found["examples"]) for name, one in ran.items()},
            lambda value: f"{rate(value)}/s",
            "examples/s (log scale)",
        )
        axis.set_title(f"{kind}: {found['examples']:,} examples", size=10)
    figure.suptitle("Building the features")
    return figure


def _build_memory(figures: Figures) -> Figure:
    figure, (axis,) = _panels()
    for name, one in figures["repeated questions"]["contestants"].items():
        if "samples" in one:
            moments, held, _ = zip(*one["samples"], strict=True)
            axis.plot(moments, [value / 1e9 for value in held], color=COLOURS[name], label=name)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    number = figures["repeated questions"]["examples"]
    title = f"Memory of the process tree during the build of {number:,} examples"
    _describe(axis, title, "seconds since the start of the process", "anonymous memory, GB (log scale)")
    return figure


def _random_reads(figures: Figures) -> Figure:
    kinds = {"1 row": "row", **{name.removeprefix("batch of ") + " rows": name for name in BATCHES}}
    figure, (axis,) = _panels(width=8.5, height=4.6)
    for marker, name in zip(MARKERS, figures["contestants"], strict=False):
        values = {label: median(figures[kind][name]) for label, kind in kinds.items() if name in figures[kind]}
        axis.plot(list(values), list(values.values()), marker=marker, color=COLOURS[name], label=name)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))
    title = f"Random reads, warm, {figures['segments']:,} segments"
    _describe(axis, title, "random rows per read", "time per read (log scale)")
    return figure


def _epochs(figures: Figures) -> Figure:
    figure, axes = _panels(2, 10.0, 4.0)
    for axis, when in zip(axes, ("first", "second"), strict=True):
        order = f"shuffled, {when}"
        read = {name: one["epochs"] for name, one in figures["contestants"].items() if order in one["epochs"]}
        samples = {name: epochs[order] for name, epochs in read.items()}
        _bars(axis, samples, rate, "rows/s (log scale)")
        axis.set_title("first epoch, cold page cache" if when == "first" else "second epoch", size=10)
    figure.suptitle("Shuffled epochs in batches of 32")
    return figure


def _reading_memory(figures: Figures) -> Figure:
    figure, (axis,) = _panels(height=3.8)
    names = list(figures["contestants"])[::-1]
    anonymous = [median(figures["contestants"][name]["anonymous"]) / 1e6 for name in names]
    resident = [median(figures["contestants"][name]["rss"]) / 1e6 for name in names]
    file = [max(both - own, 0) for both, own in zip(resident, anonymous, strict=True)]
    axis.barh(names, anonymous, color="#D55E00", height=0.65, label="anonymous: private to the process")
    axis.barh(names, file, left=anonymous, color="#56B4E9", height=0.65, label="file-backed: reclaimable page cache")
    for place, (own, both) in enumerate(zip(anonymous, resident, strict=True)):
        axis.annotate(
            f"{own:.0f} + {max(both - own, 0):.0f}",
            (max(own, both), place),
            (4, 0),
            textcoords="offset points",
            va="center",
            size=8,
        )
    axis.set_xlim(0, max([*resident, *anonymous]) * 1.2)
    axis.grid(False, axis="y")
    axis.set_xlabel("MB added by opening and two epochs")
    axis.set_title(f"Memory, {figures['segments']:,} segments")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False)
    return figure


def _larger(figures: Figures) -> Figure:
    figure, axes = _panels(2, 10.0, 4.0)
    lazy, eager = figures["lazy, asking ahead"], figures["eager"]
    limit = figures["limit"] / 1e6
    for axis, found, title in ((axes[0], lazy, "lazy"), (axes[1], eager, "eager")):
        moments, anonymous, file = zip(*found.get("samples") or [(0, 0, 0)], strict=True)
        held = [value / 1e6 for value in anonymous], [value / 1e6 for value in file]
        axis.stackplot(moments, *held, colors=["#D55E00", "#56B4E9"], labels=["anonymous", "file-backed, mapped"])
        axis.axhline(limit, color="#000000", linestyle="--", linewidth=1, label=f"limit, {limit:,.0f} MB")
        axis.set_ylim(0, limit * 1.25)
        axis.set_xlim(0, max(moments) * 1.02 or 1)
        axis.set_xlabel("seconds")
        finished = "reads the whole epoch" if found.get("whole epoch") else "still running"
        axis.set_title(f"{title}: {'killed' if found['killed'] else finished}", size=10)
    axes[0].set_ylabel("memory, MB")
    figure.suptitle(f"{size(figures['feature bytes'])} of features with a memory limit of {limit:,.0f} MB")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _scale_reading(figures: Figures) -> Figure:
    found = {one["rows"]: one for one in figures["segments"].values() if "not possible" not in one}
    exponents = figures["exponents"]
    figure, axes = _panels(3, 11.0, 3.6)
    for axis, name, factor, label in (
        (axes[0], "open", 1e3, "opening, ms"),
        (axes[1], "batch", 1e6, "random batch of 32, us"),
        (axes[2], "anonymous", 1e-6, "anonymous memory added, MB"),
    ):
        _sizes(axis, {rows: [value * factor for value in one[name]] for rows, one in found.items()}, label)
        axis.set_xlabel("segments (log scale)")
        if f"segments: {name}" in exponents:
            axis.set_title(f"fitted exponent {exponents[f'segments: {name}']:.2f}", size=9)
    figure.suptitle("Reading by cache size")
    return figure


def _scale_build(figures: Figures) -> Figure:
    figure, axes = _panels(2, 9.0, 3.6)
    for axis, name, factor, label in (
        (axes[0], "seconds", 1.0, "build, s (log scale)"),
        (axes[1], "anonymous", 1e-6, "anonymous memory, MB"),
    ):
        possible = {int(rows): one for rows, one in figures["examples"].items() if "not possible" not in one}
        samples = {rows: [value * factor for value in one[name]] for rows, one in possible.items()}
        _sizes(axis, samples, label)
        axis.set_xlabel("examples (log scale)")
        if f"examples: {name}" in figures["exponents"]:
            axis.set_title(f"fitted exponent {figures['exponents'][f'examples: {name}']:.2f}", size=9)
    axes[0].set_ylim(auto=True)
    axes[0].set_yscale("log")
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.suptitle("Building by number of examples")
    return figure


def _sizes(axis: Axes, samples: Mapping[int, Iterable[float]], label: str) -> None:
    """Plot medians with their spread over sizes; the value axis starts at zero, so that constants look constant."""
    values = {size: list(found) for size, found in sorted(samples.items())}
    sizes = list(values)
    middles = [median(values[size]) for size in sizes]
    below = [middle - min(values[size]) for size, middle in zip(sizes, middles, strict=True)]
    above = [max(values[size]) - middle for size, middle in zip(sizes, middles, strict=True)]
    axis.errorbar(sizes, middles, yerr=[below, above], marker="o", capsize=3, color=COLOURS["memxlnet"])
    axis.set_xscale("log")
    axis.set_ylim(0, max((max(found) for found in values.values()), default=1) * 1.4)
    axis.set_ylabel(label)


def _scale_shards(figures: Figures) -> Figure:
    found = figures["shards"]
    figure, axes = _panels(2, 9.0, 3.2)
    for axis, name in zip(axes, ("batch of 32", "batch of 256"), strict=True):
        counts = list(found[name])
        middles = [median(found[name][count]) * 1e6 for count in counts]
        axis.bar(counts, middles, color=COLOURS["memxlnet"], width=0.6)
        for place, middle in enumerate(middles):
            axis.annotate(f"{middle:.0f}", (place, middle), (0, 3), textcoords="offset points", ha="center", size=8)
        axis.set_ylim(0, max(middles) * 1.2)
        axis.grid(False, axis="x")
        axis.set_xlabel("shards")
        axis.set_ylabel("us")
        axis.set_title(f"random {name}", size=10)
    figure.suptitle(f"Random batches of {found['segments']:,} segments by number of shards")
    return figure


def _training_memory(figures: Figures) -> Figure:
    figure, (axis,) = _panels(width=8.5)
    for name, one in figures["loaders"].items():
        moments, grown = zip(*one["samples"][-1], strict=True)
        axis.plot([0, *moments], [0, *(value / 1e6 for value in grown)], marker=".", color=COLOURS[name], label=name)
    title = f"Memory while training over {figures['segments']:,} segments, {figures['lanes']} lanes"
    _describe(axis, title, "seconds since opening", "anonymous memory added, MB")
    return figure


def _useful_shares(figures: Figures) -> Figure:
    found = figures["shares"]
    figure, axes = _panels(len(found), 5.0 * len(found) if len(found) > 1 else 8.0, 3.2)
    for axis, (data, one) in zip(axes, found.items(), strict=True):
        ways = {way: 100 * value for way, value in reversed(one["useful"].items())}
        _linear_bars(axis, ways, lambda value: f"{value:.1f}", "real tokens, % of the tokens computed on")
        axis.set_title(f"{data}, {figures['lanes']} lanes", size=10)
    figure.suptitle("Real tokens by kind of batching")
    return figure


def _padding_epochs(figures: Figures) -> Figure:
    found = figures["epochs"]
    figure, axes = _panels(len(found), 5.0 * len(found) if len(found) > 1 else 8.0, 2.8)
    for axis, (model, one) in zip(axes, found.items(), strict=True):
        ways = {way: median(samples) for way, samples in reversed(one["seconds"].items())}
        _linear_bars(axis, ways, seconds, "seconds")
        axis.set_title(f"{model}, {one['documents']:,} questions", size=10)
    figure.suptitle("One epoch of training on the CPU")
    return figure


def _linear_bars(axis: Axes, values: dict[str, float], text: Callable[[float], str], label: str) -> None:
    """Draw horizontal bars that start at zero, each labelled with its value."""
    axis.barh(list(values), list(values.values()), color=COLOURS["memxlnet"], height=0.65)
    for place, value in enumerate(values.values()):
        axis.annotate(text(value), (value, place), (4, 0), textcoords="offset points", va="center", size=8)
    axis.set_xlim(0, max(values.values()) * 1.2)
    axis.grid(False, axis="y")
    axis.set_xlabel(label)


PLOTS: dict[str, dict[str, Callable[[Figures], Figure]]] = {
    "build": {"build-speed": _build_speed, "build-memory": _build_memory},
    "reading": {"random-reads": _random_reads, "shuffled-epochs": _epochs, "reading-memory": _reading_memory},
    "larger-than-ram": {"larger-than-ram": _larger},
    "scale": {"scale-reading": _scale_reading, "scale-build": _scale_build, "scale-shards": _scale_shards},
    "training": {"training-memory": _training_memory},
    "padding": {"padding-shares": _useful_shares, "padding-epochs": _padding_epochs},
}
"""The plots of each part; the figures of the loaders are in tables only."""
