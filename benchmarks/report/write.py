"""The report: Markdown, plots and all samples as JSON."""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.report.plots import draw
from benchmarks.report.quantities import size, table
from benchmarks.report.tables import SECTIONS
from benchmarks.report.targets import targets


def write_report(report: dict[str, Any], output: Path) -> None:
    """Write `report.md`, its plots and `report.json` into a folder.

    Args:
        report: What was measured.
        output: The folder; created.
    """
    output.mkdir(parents=True, exist_ok=True)
    plots = draw(report["parts"], output)
    (output / "report.md").write_text(markdown(report, plots), encoding="utf-8")
    (output / "report.json").write_text(_json(report), encoding="utf-8")


def _json(report: dict[str, Any]) -> str:
    """JSON with each list of numbers in a line of its own."""
    text = json.dumps(report, indent=1)
    return re.sub(r"\[[\s\d.,eE+-]*\]", lambda found: " ".join(found.group().split()), text) + "\n"


def markdown(report: dict[str, Any], plots: dict[str, list[str]]) -> str:
    """The text of a report.

    Args:
        report: What was measured.
        plots: Files of plots by part.
    """
    blocks = [_head(report), _targets(report)]
    for name, part in report["parts"].items():
        title, section = SECTIONS[name]
        blocks.append(f"## {title}\n")
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
    quick = " This was a quick run: small sizes, few rounds." if report["mode"] == "quick" else ""
    return (
        "# memxlnet, measured\n\n"
        f"Made by `{report['command']}` on {report['date']} in {report.get('seconds', 0) / 60:.1f} minutes.{quick} "
        "Figures are medians, with the lowest and the highest sample in brackets; `report.json` holds all samples. "
        "What is compared is measured in the same run, in turns. MB and GB are decimal.\n\n"
        + table(["machine", ""], rows).replace("---:", "---")
    )


def _targets(report: dict[str, Any]) -> str:
    found = targets(report["parts"])
    if not found:
        return ""
    rows = [[one.what, one.wanted, one.measured, "met" if one.met else "**missed**"] for one in found]
    return "## The figures to reach\n\n" + table(["figure", "wanted", "measured", ""], rows).replace("---:", "---")
