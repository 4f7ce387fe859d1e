"""The report: Markdown, plots and all samples as JSON."""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.measure import median
from benchmarks.report.plots import PLOTS, draw
from benchmarks.report.quantities import seconds, size, spread, table
from benchmarks.report.tables import SECTIONS
from benchmarks.report.targets import targets


def write_report(report: dict[str, Any], output: Path) -> None:
    """Write `report.md`, its plots and `report.json` into a folder.

    Args:
        report: What was measured.
        output: The folder; created.
    """
    write_samples(report, output)
    for plots in PLOTS.values():
        for name in plots:  # of an earlier report in the same folder
            (output / f"{name}.png").unlink(missing_ok=True)
    (output / "report.md").write_text(markdown(report, draw(report["parts"], output)), encoding="utf-8")


def write_samples(report: dict[str, Any], output: Path) -> None:
    """Write `report.json` alone, each list of numbers in a line of its own."""
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1)
    text = re.sub(r"\[[\s\d.,eE+-]*\]", lambda found: " ".join(found.group().split()), text)
    (output / "report.json").write_text(f"{text}\n", encoding="utf-8")


def markdown(report: dict[str, Any], plots: dict[str, list[str]]) -> str:
    """The text of a report.

    Args:
        report: What was measured.
        plots: Files of plots by part.
    """
    blocks = [_head(report), _targets(report), _at_a_glance(report["parts"])]
    for name, part in report["parts"].items():
        title, section = SECTIONS[name]
        blocks.append(f"## {title}\n")
        if "command" in part:
            blocks.append(f"Measured in a run of its own, by `{part['command']}`.\n")
        blocks.append(f"Failed: {part['failed']}\n" if "failed" in part else section(part["figures"]))
        blocks += [f"![{Path(plot).stem.replace('-', ' ')}]({plot})\n" for plot in plots.get(name, [])]
    return "\n".join(blocks)


def _head(report: dict[str, Any]) -> str:
    found = report["machine"]
    rows = [
        ["processor", f"{found['cpu']}, {found['cores']} cores"],
        ["memory", size(found["ram_bytes"])],
        ["disk", f"{found['disk']}; {size(found['disk_free_bytes'])} free"],
        ["system", f"{found['system']}; Python {found['python']}"],
        ["packages", ", ".join(f"{name} {version}" for name, version in found["packages"].items())],
        ["data", f"{report['data']['what']}, {report['data']['examples']:,} questions"],
    ]
    quick = ""
    if report["mode"] == "quick":
        quick = (
            " This was a quick run: small sizes, few rounds, no long documents where features are built, no sequential "
            "epochs, no epoch without asking ahead in little memory. Its processes are forked from one that has the "
            "libraries loaded, whose memory counts in shares."
        )
    return (
        "# memxlnet, measured\n\n"
        f"Made by `{report['command']}` on {report['date']} in {report.get('seconds', 0) / 60:.1f} minutes.{quick} "
        "Figures are medians, with the lowest and the highest sample in brackets; `report.json` holds all samples. "
        "What is compared is measured in the same run, round by round in turns. Memory is read from `smaps_rollup` "
        "where there is one: anonymous pages are a process's own, file-backed ones are the page cache's; peaks are the "
        "highest of samples some 0.05 s apart, more for large processes. A cold page cache is one whose pages of these "
        "files Linux was asked to drop. MB and GB are decimal.\n\n"
        + table(["machine", ""], rows).replace("---:", "---")
    )


def _at_a_glance(parts: dict[str, Any]) -> str:
    """Building and training in one table: all at once, in a stream, and in a stream with lazy reading."""
    if not all("figures" in parts.get(name, {}) for name in ("build", "training")):
        return ""
    built = parts["build"]["figures"]["repeated questions"]["contestants"]
    loaders = parts["training"]["figures"]["loaders"]
    rows = []
    for way, builder, loader in (
        ("all features in RAM, one write; pickled chunks to train", "traditional", "pickled chunks"),
        ("memxlnet, streaming; columns read into RAM to train", "memxlnet", "eager"),
        ("memxlnet, streaming; mapped columns to train", "memxlnet", "lazy"),
    ):
        one, trained = built[builder], size(median(loaders[loader]["anonymous grown"]))
        if "not possible" in one:
            rows.append([way, "not possible", "", trained])
        else:
            rows.append([way, spread(one["seconds"], seconds), size(max(one["anonymous"])), trained])
    head = ["way", "time to build", "peak memory of building", "memory added by training"]
    examples = parts["build"]["figures"]["repeated questions"]["examples"]
    segments = parts["training"]["figures"]["segments"]
    told = f"Building {examples:,} questions; training over {segments:,} segments. Memory is anonymous memory.\n\n"
    return f"## At a glance\n\n{told}{table(head, rows)}"


def _targets(report: dict[str, Any]) -> str:
    found = targets(report["parts"])
    if not found:
        return ""
    rows = [[one.what, one.wanted, one.measured, one.outcome.replace("missed", "**missed**")] for one in found]
    return "## The figures to reach\n\n" + table(["figure", "wanted", "measured", ""], rows).replace("---:", "---")
