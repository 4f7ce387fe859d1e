"""The figures to reach, each with what was measured and whether it is met; a miss is said as plainly as a hit."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks.measure import median, ratio
from benchmarks.report.quantities import size, times

BATCHES = ("batch of 8", "batch of 32", "batch of 256")

IN_RAM = ("memxlnet", "RAM tensors")
"""What is no disk-backed peer."""

Figures = dict[str, Any]


class Target(NamedTuple):
    """A figure to reach.

    Attributes:
        what: The figure.
        wanted: What it should be.
        measured: What it is.
        met: Whether it is reached.
    """

    what: str
    wanted: str
    measured: str
    met: bool


def targets(parts: dict[str, Any]) -> list[Target]:
    """The figures to reach of those parts that were measured."""
    makers: dict[str, Callable[[Figures], Iterator[Target]]] = {
        "build": _build,
        "reading": _reading,
        "larger-than-ram": _larger,
        "training": _training,
    }
    found: list[Target] = []
    for part, make in makers.items():
        figures = parts.get(part, {}).get("figures")
        if figures is not None:
            found += make(figures)
    return found


def build_ratio(figures: Figures, kind: str = "questions") -> float:
    """How many times as fast as `datasets.map` a build is."""
    contestants = figures[kind]["contestants"]
    return ratio(contestants["datasets.map"]["seconds"], contestants["memxlnet"]["seconds"])


def _build(figures: Figures) -> Iterator[Target]:
    found = build_ratio(figures)
    yield Target("build, against `datasets.map` with a process a core", "at least 12x", times(found), found >= 12)


def batch_ratios(figures: Figures, name: str) -> dict[str, float]:
    """How long random batches take with a contestant, against memxlnet, by batch."""
    return {
        batch: ratio(figures[batch][name], figures[batch]["memxlnet"]) for batch in BATCHES if name in figures[batch]
    }


def _reading(figures: Figures) -> Iterator[Target]:
    against_ram = {batch: 1 / value for batch, value in batch_ratios(figures, "RAM tensors").items()}
    told = ", ".join(f"{times(value)} ({batch})" for batch, value in against_ram.items())
    met = max(against_ram.values()) <= 1.25
    yield Target("random batches, time against tensors in RAM", "at most 1.25x", told, met)
    for peer in figures["contestants"]:
        if peer not in IN_RAM:
            found = batch_ratios(figures, peer)
            told = ", ".join(f"{times(value)} ({batch})" for batch, value in found.items())
            told = told or "not measured: takes too long for this run"
            yield Target(f"random batches, against {peer}", "at least 10x", told, min(found.values(), default=99) >= 10)


def _larger(figures: Figures) -> Iterator[Target]:
    what = f"a shuffled epoch over {size(figures.get('feature bytes', 0))} in {size(figures['limit'])} of memory"
    lazy = figures.get("lazy, asking ahead")
    if lazy is None:
        yield Target(what, "without failure", f"not possible here: {figures.get('not possible')}", False)
        return
    finished = not lazy["killed"] and (lazy["whole epoch"] or figures["quick"])
    rest = "" if lazy.get("whole epoch") else " of an epoch, which this run does not read whole"
    told = "killed" if lazy["killed"] else f"{lazy['rows']:,} rows{rest}"
    yield Target(what, "without failure", told, finished)


def _training(figures: Figures) -> Iterator[Target]:
    grown = {name: median(found["anonymous grown"]) for name, found in figures["loaders"].items()}
    told = f"{size(grown['lazy'])} lazy, {size(grown['eager'])} eager"
    yield Target("memory that training takes on", "below 30 MB", told, grown["lazy"] < 30e6)
