"""Write the figures of committed reports into the READMEs: ``python -m benchmarks.report.readme JSON ...``.

``benchmarks/README.md`` has all of them, ``README.md`` the five most important ones.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import median, ratio
from benchmarks.report.quantities import rate, rates, seconds, share, size, spread, table, times
from benchmarks.report.targets import BATCHES, IN_RAM, batch_ratios, build_ratio

Figures = dict[str, Any]
Reports = Mapping[str, Figures]

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

_BETWEEN = re.compile(f"{BEGIN}\n.*{END}\n", re.DOTALL)

_ROOT = Path(__file__).parents[2]


def measured_block(reports: Reports) -> str:
    """Format all figures for ``benchmarks/README.md``, the two marks around them included.

    Args:
        reports: The reports by the path of their text, relative to the folder of the benchmarks.
    """
    return _between_marks("\n".join(_measured(*one) for one in reports.items()))


def five_figures_block(reports: Reports) -> str:
    """Format the figures of ``README.md`` with the commands that measure them, the marks included.

    Args:
        reports: Reports that have all parts between them; the machine is that of the first.
    """
    first = next(iter(reports.values()))
    machine, found = first["machine"], first["data"]
    figures = {name: part["figures"] for report in reports.values() for name, part in report["parts"].items()}
    head = (
        f"Medians on {machine['cores']} cores and {size(machine['ram_bytes'])} of memory, from {found['what']} "
        f"({found['examples']:,} questions, repeated). All figures and the method: "
        "[benchmarks](benchmarks/README.md).\n\n"
    )
    return _between_marks(head + table(["what", "measured", "command"], list(_five(figures))).replace("---:", "---"))


def _five(figures: Figures) -> Iterator[list[str]]:
    built = figures["build"]["repeated questions"]
    speeds = _build_speeds(built)
    yield [
        f"build of {built['examples']:,} questions, compared with `datasets.map` with one process per core",
        f"{speeds[0]} and {speeds[1]} examples/s: {times(build_ratio(built) or 0)} as fast",
        "`python -m benchmarks build`",
    ]
    against = batch_ratios(figures["reading"], "RAM tensors")
    yield [
        "random batches of 8 / 32 / 256 mapped segments, relative to `index_select` on tensors in RAM",
        " / ".join(times(1 / against[batch]) for batch in BATCHES) + " the time",
        "`python -m benchmarks reading`",
    ]
    largest = max(
        (one for one in figures["scale"]["segments"].values() if "not possible" not in one), key=lambda one: one["rows"]
    )
    yield [
        f"opening a cache of {largest['rows']:,} segments",
        seconds(median(largest["open"])),
        "`python -m benchmarks scale`",
    ]
    loaders = figures["training"]["loaders"]
    yield [
        f"memory added by training over {figures['training']['segments']:,} segments: {' / '.join(loaders)}",
        " / ".join(size(median(one["anonymous grown"])) for one in loaders.values()),
        "`python -m benchmarks training`",
    ]
    padding = figures["padding"]
    useful = padding["shares"]["questions"]["useful"]
    yield [
        f"share of real tokens in the input of a model, {padding['lanes']} lanes: by default / grouped by length and "
        "cut to the longest row",
        f"{share(useful['aligned, by default'])} / {share(useful['aligned, grouped, cut'])}",
        "`python -m benchmarks padding`",
    ]


def _between_marks(text: str) -> str:
    return f"{BEGIN}\n{text}{END}\n"


def _measured(path: str, report: Figures) -> str:
    found = report["machine"]
    versions = ", ".join(
        f"{name} {found['packages'][name]}" for name in ("pyarrow", "torch", "transformers", "datasets")
    )
    own = [f"`{part['command']}`" for part in report["parts"].values() if "command" in part]
    commands = " and ".join([f"`{report['command']}`", *own])
    head = (
        f"Measured by {commands} on a machine with {found['cores']} cores ({found['cpu']}; "
        f"{size(found['ram_bytes'])} of memory; disk: {found['disk']}), {found['system']}, Python {found['python']}, "
        f"{versions}, from {report['data']['what']} ({report['data']['examples']:,} questions, repeated), at "
        f"384 tokens a row with an overlap of 128. Medians; spreads and all samples are in "
        f"[the report]({path}).\n\n"
    )
    return head + table(["what", "measured"], list(_rows(report["parts"]))).replace("---:", "---")


BLOCKS: dict[str, Callable[[Reports], str]] = {
    "README.md": five_figures_block,
    "benchmarks/README.md": measured_block,
}
"""The functions that format the figures of a README, by its path in the repository."""


def with_figures(readme: str, block: str) -> str:
    """Return the text of a README with its block of figures replaced.

    Raises:
        ValueError: The marks are missing, or occur more than once.
    """
    if len(_BETWEEN.findall(readme)) != 1:
        raise ValueError(f"README: expected one block between {BEGIN} and {END}")
    return _BETWEEN.sub(lambda _: block, readme)


def _rows(parts: dict[str, Any]) -> Iterator[list[str]]:
    figures = {name: part["figures"] for name, part in parts.items()}
    makers: dict[tuple[str, ...], Callable[..., Iterator[list[str]]]] = {
        ("build", "scale"): _build,
        ("reading", "scale"): _reading,
        ("larger-than-ram",): _larger,
        ("training",): _training,
        ("loaders",): _loaders,
        ("padding",): _padding,
    }
    for needed, make in makers.items():
        if set(needed) <= figures.keys():
            yield from make(*(figures[name] for name in needed))


def _build(figures: Figures, scale: Figures) -> Iterator[list[str]]:
    for kind, found in figures.items():
        number = found["examples"]
        speeds = _build_speeds(found)
        yield [
            f"build of {number:,} {kind} ({found['segments']:,} segments), publishing included, compared with "
            "`datasets.map` with the usual preprocessing and one process per core",
            f"{speeds[0]} and {speeds[1]} examples/s: {times(build_ratio(found) or 0)} as fast "
            f"({seconds(median(found['contestants']['memxlnet']['seconds']))})",
        ]
    ways = figures["repeated questions"]["contestants"]
    peaks = [f"{size(max(one['anonymous']))} {name}" for name, one in ways.items() if "anonymous" in one]
    yield ["peak anonymous memory of the build of repeated questions, all processes", ", ".join(peaks)]
    by_size = scale["examples"]
    yield [
        f"peak memory of builds of {' / '.join(f'{int(number):,}' for number in by_size)} questions",
        " / ".join(size(max(one["anonymous"])) for one in by_size.values()),
    ]
    disk = ways["memxlnet"]["disk"] / figures["repeated questions"]["segments"]
    yield ["disk space, including texts, tokenizer and manifest", f"{disk:,.0f} bytes per segment"]


def _build_speeds(found: Figures) -> list[str]:
    """Format the examples per second of memxlnet and of `datasets.map`."""
    ways = found["contestants"]
    return [rate(median(rates(ways[name]["seconds"], found["examples"]))) for name in ("memxlnet", "datasets.map")]


def _reading(figures: Figures, scale: Figures) -> Iterator[list[str]]:
    against = batch_ratios(figures, "RAM tensors")
    yield [
        f"random batches of 8 / 32 / 256 of {figures['segments']:,} mapped segments, relative to `index_select` on "
        "tensors in RAM",
        " / ".join(times(1 / against[batch]) for batch in BATCHES) + " the time",
    ]
    for peer in figures["contestants"]:
        if peer not in IN_RAM:
            found = batch_ratios(figures, peer)
            ratios = [times(found[batch]) if batch in found else "not measured" for batch in BATCHES]
            yield [f"the same, {peer} relative to memxlnet", f"{' / '.join(ratios)} the time"]
    own = figures["contestants"]
    yield [
        "anonymous memory added by opening and reading epochs: memxlnet / tensors in RAM / pickled chunks",
        " / ".join(size(median(own[name]["anonymous"])) for name in ("memxlnet", "RAM tensors", "pickled chunks")),
    ]
    sizes = {one["rows"]: one for one in scale["segments"].values() if "not possible" not in one}
    yield [
        f"opening {' / '.join(f'{rows:,}' for rows in sizes)} segments of {scale['length']} tokens, first call of a "
        "process",
        " / ".join(seconds(median(one["open"])) for one in sizes.values()),
    ]
    yield [
        "random batches of 32 from these",
        " / ".join(seconds(median(one["batch"])) for one in sizes.values()),
    ]
    shards = scale["shards"]
    ratios = [times(ratio(shards[name]["4"], shards[name]["1"])) for name in ("batch of 32", "batch of 256")]
    yield ["random batches of 32 / 256 from 4 shards, relative to one shard", f"{' / '.join(ratios)} the time"]


def _larger(figures: Figures) -> Iterator[list[str]]:
    lazy, eager = figures["lazy, asking ahead"], figures["eager"]
    own = lazy["rows"] / lazy["seconds"] / median(figures["disk"]["rows"])
    yield [
        f"a shuffled epoch of {size(figures['feature bytes'])} of features in {size(figures['limit'])} of memory",
        f"{rate(lazy['rows'] / lazy['seconds'])} rows/s, {share(own)} of the throughput of the disk for the "
        f"same blocks; the eager loader is {'killed' if eager['killed'] else 'not killed'}",
    ]


def _training(figures: Figures) -> Iterator[list[str]]:
    loaders = figures["loaders"]
    yield [
        f"memory added by training over {figures['segments']:,} segments: {' / '.join(loaders)}",
        " / ".join(size(median(one["anonymous grown"])) for one in loaders.values()),
    ]
    yield [
        f"steps/s of a small XLNet, {figures['lanes']} lanes, and share of time spent waiting, with the same loaders",
        " / ".join(
            f"{median(one['steps a second']):.2f} ({share(median(one['share waited']))})" for one in loaders.values()
        ),
    ]


def _padding(figures: Figures) -> Iterator[list[str]]:
    for data, found in figures["shares"].items():
        useful = found["useful"]
        yield [
            f"share of real tokens in the input of a model, {found['segments']:,} segments ({data}), "
            f"{figures['lanes']} lanes: {'; '.join(useful)}",
            "; ".join(share(value) for value in useful.values()),
        ]
    for model, found in figures["epochs"].items():
        taken = found["seconds"]
        yield [
            f"one epoch of training a small {model} on {found['documents']:,} questions: {'; '.join(taken)}",
            "; ".join(seconds(median(samples)) for samples in taken.values()),
        ]


def _loaders(figures: Figures) -> Iterator[list[str]]:
    for data, found in figures["epochs"].items():
        kinds = [kind for kind in found if kind != "segments"]
        yield [
            f"shuffled time-step-major epochs of {found['segments']:,} segments ({data}), 32 lanes, no thread, "
            f"relative to `index_select` of the same steps in RAM: {'; '.join(kinds)}",
            "; ".join(share(ratio(one["RAM tensors"], one["loader"])) for one in (found[k]["seconds"] for k in kinds))
            + " of the speed",
        ]
    regular = figures["regular"]["seconds"]
    yield [
        "regular loader, batches of 32, no workers, relative to torch's `DataLoader` over tensors in RAM",
        f"{share(ratio(regular['RAM tensors'], regular['loader']))} of the speed",
    ]
    waited = [[one["share waited"] for one in figures[f"waiting, {state}"]] for state in ("warm", "cold")]
    yield [
        "share of time that a loop with steps of 5 ms waits for the loader, warm / cold page cache",
        " / ".join(spread(samples, share) for samples in waited),
    ]
    epochs = figures["memory of an epoch"].values()
    yield [
        f"anonymous memory added by an epoch of {' / '.join(format(one['documents'], ',') for one in epochs)} "
        f"documents (up to {' / '.join(format(one['longest document'], ',') for one in epochs)} segments)",
        " / ".join(size(one["anonymous grown"]) for one in epochs),
    ]
    resume = figures["resume"]
    yield [
        f"time from a saved state to the next step, in the middle of epoch {resume['epoch']:,}: aligned / refilled",
        " / ".join(seconds(median(resume[lanes])) for lanes in ("aligned", "refilled")),
    ]


def main() -> None:
    reports = {
        path.with_suffix(".md").resolve().relative_to(_ROOT / "benchmarks").as_posix(): json.loads(
            path.read_text(encoding="utf-8")
        )
        for path in map(Path, sys.argv[1:])
    }
    for name, block in BLOCKS.items():
        readme = _ROOT / name
        readme.write_text(with_figures(readme.read_text(encoding="utf-8"), block(reports)), encoding="utf-8")


if __name__ == "__main__":
    main()
