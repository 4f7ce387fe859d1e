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
        report: The measured figures.
        output: The folder, created if missing.
    """
    write_samples(report, output)
    for plots in PLOTS.values():
        for name in plots:  # left by an earlier report
            (output / f"{name}.png").unlink(missing_ok=True)
    (output / "report.md").write_text(markdown(report, draw(report["parts"], output)), encoding="utf-8")


def write_samples(report: dict[str, Any], output: Path) -> None:
    """Write only `report.json`, each list of numbers on one line."""
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1)
    text = re.sub(r"\[[\s\d.,eE+-]*\]", lambda found: " ".join(found.group().split()), text)
    (output / "report.json").write_text(f"{text}\n", encoding="utf-8")


def markdown(report: dict[str, Any], plots: dict[str, list[str]]) -> str:
    """Format the text of a report.

    Args:
        report: The measured figures.
        plots: Names of the plot files by part.
    """
    blocks = [_head(report), _targets(report), _at_a_glance(report["parts"])]
    for name, part in report["parts"].items():
        title, section = SECTIONS[name]
        blocks.append(f"## {title}\n")
        if "command" in part:
            blocks.append(f"Measured in a separate run, `{part['command']}`.\n")
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
            " This was a quick run: small sizes, few rounds, no builds of long documents, no sequential epochs, and no "
            "epoch without asking ahead under the memory limit. Its processes are forked from one with the libraries "
            "loaded, whose memory is divided among them."
        )
    return (
        "# Benchmarks of memxlnet\n\n"
        f"Measured by `{report['command']}` on {report['date']} in {report.get('seconds', 0) / 60:.1f} minutes.{quick} "
        "Figures are medians, with the lowest and the highest sample in brackets; `report.json` has all samples. "
        "Compared figures come from the same run, with interleaved rounds. Memory is read from `smaps_rollup` if "
        "available: anonymous pages are private to a process, file-backed ones are in the page cache. Peaks are the "
        "maximum of samples about 0.05 s apart, or more for large processes. For a cold page cache, Linux is asked to "
        "drop the pages of the files. MB and GB are decimal.\n\n" + table(["machine", ""], rows).replace("---:", "---")
    )


def _at_a_glance(parts: dict[str, Any]) -> str:
    """Format a table of building and training: all in RAM, as a stream, and as a stream with lazy reading."""
    if not all("figures" in parts.get(name, {}) for name in ("build", "training")):
        return ""
    built = parts["build"]["figures"]["repeated questions"]["contestants"]
    loaders = parts["training"]["figures"]["loaders"]
    rows = []
    for way, builder, loader in (
        ("all features in RAM, one write; training from pickled chunks", "traditional", "pickled chunks"),
        ("memxlnet, streaming; training from columns in RAM", "memxlnet", "eager"),
        ("memxlnet, streaming; training from mapped columns", "memxlnet", "lazy"),
    ):
        one, trained = built[builder], size(median(loaders[loader]["anonymous grown"]))
        if "not possible" in one:
            rows.append([way, "not possible", "", trained])
        else:
            rows.append([way, spread(one["seconds"], seconds), size(max(one["anonymous"])), trained])
    head = ["method", "build time", "peak memory of the build", "memory added by training"]
    examples = parts["build"]["figures"]["repeated questions"]["examples"]
    segments = parts["training"]["figures"]["segments"]
    text = f"Building {examples:,} questions; training on {segments:,} segments. Memory is anonymous memory.\n\n"
    return f"## Summary\n\n{text}{table(head, rows)}"


def _targets(report: dict[str, Any]) -> str:
    found = targets(report["parts"])
    if not found:
        return ""
    rows = [[one.what, one.wanted, one.measured, one.outcome.replace("missed", "**missed**")] for one in found]
    return "## Targets\n\n" + table(["figure", "target", "measured", ""], rows).replace("---:", "---")
