"""Run the benchmarks on this machine and write a report: ``python -m benchmarks [part ...]``.

Run them on an idle machine. The report is `report.md` with plots; `report.json` holds all samples.
"""

import argparse
import importlib
import json
import logging
import os
import shutil
import sys
import time
import traceback
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.child import start_warm
from benchmarks.data import FILE_VARIABLE, TOKENIZER_VARIABLE, WORK_VARIABLE, DataError, data, num_examples, root, work
from benchmarks.machine import machine
from benchmarks.settings import Settings

try:
    from benchmarks.report.write import write_report, write_samples
except ModuleNotFoundError as error:
    sys.exit(f"cannot import {error.name}, which draws the plots of the report; pip install 'memxlnet[bench]'")

PARTS = ("build", "reading", "larger-than-ram", "scale", "training", "loaders", "padding")

FORMAT = 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"one of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes: under two minutes on two cores")
    parser.add_argument(
        "--data", type=Path, help="JSON file in SQuAD's format; default: SQuAD if available, else the bundled sample"
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        help="directory of a fast tokenizer; default: XLNet's if available, else the bundled one",
    )
    parser.add_argument("--work", type=Path, help="folder for intermediate files; default: build/bench (up to 30 GB)")
    parser.add_argument("--output", type=Path, help="folder for the report; default: 'report' in the work folder")
    parser.add_argument("--update", action="store_true", help="add the parts to the report in the output folder")
    parser.add_argument(
        "--clean", action="store_true", help="remove the intermediate files of this data; keeps the report"
    )
    parser.add_argument(
        "--render", type=Path, metavar="JSON", help="measure nothing; write the report from this report.json"
    )
    options = parser.parse_args(arguments)
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"part: expected some of {', '.join(PARTS)}, found {part!r}")
    for name in ("data", "render"):
        path = getattr(options, name)
        if path is not None and not path.is_file():
            parser.error(f"--{name}: expected a file, found none at {path}")
    if options.tokenizer is not None and not (options.tokenizer / "tokenizer.json").is_file():
        parser.error(f"--tokenizer: expected a directory with a tokenizer.json, found {options.tokenizer}")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    for variable, path in (
        (FILE_VARIABLE, options.data),
        (TOKENIZER_VARIABLE, options.tokenizer),
        (WORK_VARIABLE, options.work),
    ):
        if path is not None:
            os.environ[variable] = str(path.absolute())
    os.environ["HF_HUB_OFFLINE"] = "1"
    logging.getLogger("transformers").setLevel(logging.ERROR)
    if options.render is not None:
        found = json.loads(options.render.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            sys.exit(
                f"{options.render}: expected a report of format {FORMAT}, found another file; run the benchmarks again"
            )
        write_report(found, options.output or options.render.parent)
        return 0
    output = options.output or root() / "report"
    output.mkdir(parents=True, exist_ok=True)
    try:
        header = _header(options)
    except DataError as error:
        sys.exit(str(error))
    report = _to_update(output, header) if options.update else header
    settings = Settings(options.quick)
    if options.quick:
        start_warm()
    # Builds run last: the pages that they leave to be written back would slow down the other parts.
    measured: dict[str, Any] = report["parts"]
    for name in options.parts or reversed(PARTS):
        measured[name] = _measured(name, settings)
        if options.update:
            measured[name]["command"] = header["command"]
        else:
            report["seconds"] = time.monotonic() - settings.begun
        report["parts"] = {part: measured[part] for part in PARTS if part in measured}
        write_samples(report, output)  # after every part, so that --render can make the report of an interrupted run
    write_report(report, output)
    if options.clean:
        shutil.rmtree(work())
    settings.log(f"done; the report is {output / 'report.md'}")
    return int(any("failed" in part for part in report["parts"].values()))


def _header(options: argparse.Namespace) -> dict[str, Any]:
    words = ["python -m benchmarks", *options.parts, *(["--quick"] if options.quick else [])]
    if options.data is not None:
        words.append(f"--data {options.data.name}")
    if options.tokenizer is not None:
        words.append(f"--tokenizer {options.tokenizer.name}")
    return {
        "format": FORMAT,
        "command": " ".join(words),
        "mode": "quick" if options.quick else "full",
        "date": date.today().isoformat(),
        "machine": machine(work()),
        "data": {"what": data().what, "examples": num_examples()},
        "parts": {},
    }


def _to_update(output: Path, header: dict[str, Any]) -> dict[str, Any]:
    """Read the report in a folder; exit if the machine, the packages or the data differ."""
    file = output / "report.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name in ("format", "mode", "data"):
        if found.get(name) != header[name]:
            sys.exit(
                f"--update: {file}: {name}: expected {header[name]!r}, found {found.get(name)!r}; measure all again"
            )
    for name, value in header["machine"].items():
        if name != "disk_free_bytes" and found["machine"][name] != value:
            sys.exit(
                f"--update: {file}: {name}: expected {value!r}, found {found['machine'][name]!r}; measure all again"
            )
    return found


def _measured(name: str, settings: Settings) -> dict[str, Any]:
    """Measure one part; a failure is recorded in the report, and the next part runs."""
    settings.part = name
    settings.log("started")
    begun = time.monotonic()
    try:
        part = importlib.import_module(f"benchmarks.parts.{name.replace('-', '_')}")
        figures = part.measure(settings)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}", "seconds": time.monotonic() - begun}
    return {"figures": figures, "seconds": time.monotonic() - begun}


if __name__ == "__main__":
    sys.exit(main())
