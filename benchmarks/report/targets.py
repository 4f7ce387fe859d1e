"""The targets: wanted and measured figures, and whether each target is met."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks.measure import median, ratio
from benchmarks.report.quantities import seconds, share, size, times

BATCHES = ("batch of 8", "batch of 32", "batch of 256")

USEFUL_SHARES = {
    "questions": {
        "aligned, grouped, cut": 0.95,
        "refilled, grouped, cut": 0.95,
        "regular, grouped, cut": 0.97,
    },
    "long documents": {"aligned, grouped, cut": 0.93, "refilled, grouped, cut": 0.93},
}
"""Minimum shares of real tokens by data and way."""

IN_RAM = ("memxlnet", "RAM tensors")
"""Contestants that are not compared as files on disk."""

FEWEST_EXAMPLES = 100_000
"""Minimum number of examples for the build target, which is for files of the size of SQuAD's training set."""

Figures = dict[str, Any]


NOT_JUDGED = "not judged"
"""The outcome of a target that a run did not measure: impossible on the machine, or left out of quick runs."""


class Target(NamedTuple):
    """A target.

    Attributes:
        what: The figure.
        wanted: Its bound.
        measured: Its measured value.
        outcome: ``"met"``, ``"missed"`` or ``"not judged"``.
    """

    what: str
    wanted: str
    measured: str
    outcome: str


def targets(parts: dict[str, Any]) -> list[Target]:
    """Return the targets of the measured parts."""
    makers: dict[str, Callable[[Figures], Iterator[Target]]] = {
        "build": _build,
        "reading": _reading,
        "larger-than-ram": _larger,
        "training": _training,
        "loaders": _loaders,
        "padding": _padding,
    }
    found: list[Target] = []
    for part, make in makers.items():
        figures = parts.get(part, {}).get("figures")
        if figures is not None:
            found += make(figures)
    return found


def _outcome(met: bool) -> str:
    return "met" if met else "missed"


def build_ratio(found: Figures) -> float | None:
    """Return the speed of a build relative to `datasets.map`; None if one of the two did not run."""
    ways = found["contestants"]
    if not all("seconds" in ways.get(name, {}) for name in ("memxlnet", "datasets.map")):
        return None
    return ratio(ways["datasets.map"]["seconds"], ways["memxlnet"]["seconds"])


def _build(figures: Figures) -> Iterator[Target]:
    found = figures["repeated questions"]
    what = f"build of {found['examples']:,} questions, compared with `datasets.map` with one process per core"
    reached = build_ratio(found)
    if reached is None:
        yield Target(what, "at least 12x", "did not run", NOT_JUDGED)
    else:
        # The start of workers dominates for small files.
        outcome = _outcome(reached >= 12) if found["examples"] >= FEWEST_EXAMPLES else NOT_JUDGED
        yield Target(what, "at least 12x", times(reached), outcome)


def batch_ratios(figures: Figures, name: str) -> dict[str, float]:
    """Return the time of random batches of a contestant relative to memxlnet, by measured batch size."""
    return {
        batch: ratio(figures[batch][name], figures[batch]["memxlnet"]) for batch in BATCHES if name in figures[batch]
    }


def _reading(figures: Figures) -> Iterator[Target]:
    against_ram = {batch: 1 / value for batch, value in batch_ratios(figures, "RAM tensors").items()}
    met = max(against_ram.values()) <= 1.25
    yield Target("random batches, time relative to tensors in RAM", "at most 1.25x", _text(against_ram), _outcome(met))
    for peer in figures["contestants"]:
        if peer not in IN_RAM:
            found = batch_ratios(figures, peer)
            outcome = _outcome(min(found.values()) >= 10) if found else NOT_JUDGED
            ratios = _text(found) if found else "takes too long for this run"
            yield Target(f"random batches, time of {peer} relative to memxlnet", "at least 10x", ratios, outcome)

    if "own" in figures:
        yield from _own(figures)


def _own(figures: Figures) -> Iterator[Target]:
    own = figures["own"]
    against = {batch: 1 / value for batch, value in batch_ratios(figures, "NumPy memmap").items()}
    if against:
        what = "random batches, time relative to NumPy's `take` from memmaps"
        yield Target(what, "at most 1.05x", _text(against), _outcome(max(against.values()) <= 1.05))
    for name, most in (("one shard, half the width", 1.0), ("4 shards", 1.3)):
        found = {batch: ratio(own[batch][name], own[batch]["one shard"]) for batch in BATCHES}
        what = f"random batches, time of {name} relative to one shard"
        yield Target(what, f"at most {times(most)}", _text(found), _outcome(max(found.values()) <= most))
    for name, most in (("dataset[i]", 40e-6), ("dataset.model_tensors(i)", 10e-6)):
        taken = median(own["row"][name])
        yield Target(f"a random row by `{name}`", f"at most {seconds(most)}", seconds(taken), _outcome(taken <= most))


def _text(ratios: dict[str, float]) -> str:
    return ", ".join(f"{times(value)} ({batch})" for batch, value in ratios.items())


def _larger(figures: Figures) -> Iterator[Target]:
    what = f"a shuffled epoch of {size(figures.get('feature bytes', 0))} in {size(figures['limit'])} of memory"
    if "not possible" in figures:
        yield Target(what, "without failure", f"not possible here: {figures['not possible']}", NOT_JUDGED)
        return
    lazy = figures["lazy, asking ahead"]
    if lazy["killed"]:
        yield Target(what, "without failure", "killed", "missed")
    elif lazy["whole epoch"]:
        yield Target(what, "without failure", f"all {lazy['rows']:,} rows", "met")
    else:
        yield Target(what, "without failure", f"{lazy['rows']:,} rows, then stopped after the time limit", NOT_JUDGED)
    eager = "killed" if figures["eager"]["killed"] else "not killed"
    yield Target("the same, eager", "killed by the system", eager, _outcome(figures["eager"]["killed"]))


def _loaders(figures: Figures) -> Iterator[Target]:
    for data, found in figures["epochs"].items():
        for lanes in ("aligned", "refilled"):
            one = found[f"{lanes}, stored"]["seconds"]
            reached = ratio(one["RAM tensors"], one["loader"])
            what = f"{lanes} epochs of {data}, stored types, speed relative to the same steps from RAM"
            yield Target(what, "at least 80 %", share(reached), _outcome(reached >= 0.8))


def _padding(figures: Figures) -> Iterator[Target]:
    for data, wanted in USEFUL_SHARES.items():
        for way, least in wanted.items() if data in figures["shares"] else ():
            reached = figures["shares"][data]["useful"][way]
            what = f"share of real tokens, {data}, {way}"
            yield Target(what, f"at least {share(least)}", share(reached), _outcome(reached >= least))
    for model, found in figures["epochs"].items():
        own = found["seconds"]
        for way, against, most in (
            ("regular, grouped, cut", "Trainer's way", 1.02),
            ("refilled, grouped, cut", "aligned, by default", 0.35),
        ):
            reached = ratio(own[way], own[against])
            what = f"epoch of {model}, time of {way} relative to {against}"
            yield Target(what, f"at most {times(most)}", times(reached), _outcome(reached <= most))


def _training(figures: Figures) -> Iterator[Target]:
    grown = {name: found["anonymous grown"] for name, found in figures["loaders"].items()}
    measured = f"{size(max(grown['lazy']))} lazy (highest), {size(median(grown['eager']))} eager"
    yield Target("anonymous memory added by training", "below 30 MB", measured, _outcome(max(grown["lazy"]) < 30e6))
