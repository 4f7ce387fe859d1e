"""The committed reports match their samples, and the READMEs match the reports."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import __main__ as command
from benchmarks.readers import CONTESTANTS
from benchmarks.report.plots import COLOURS, MARKERS
from benchmarks.report.quantities import rate, seconds, share, size, spread, table, times
from benchmarks.report.readme import BLOCKS, with_figures
from benchmarks.report.targets import targets
from benchmarks.report.write import markdown, write_report, write_samples
from tests.support import ROOT, slow_but

RESULTS = ROOT / "benchmarks" / "results"

FOLDERS = {"results": command.PARTS[:-1], "results/padding": ("padding",)}
"""The committed reports, and the parts of each."""


def committed(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "benchmarks" / folder / "report.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def report() -> dict[str, Any]:
    """All parts."""
    found = committed("results")
    return {**found, "parts": found["parts"] | committed("results/padding")["parts"]}


def quoted() -> dict[str, dict[str, Any]]:
    return {f"{folder}/report.md": committed(folder) for folder in FOLDERS}


@pytest.mark.parametrize(("folder", "parts"), FOLDERS.items())
def test_a_committed_report_is_of_a_full_run(folder: str, parts: tuple[str, ...]) -> None:
    report = committed(folder)
    assert report["command"] == " ".join(["python -m benchmarks", *parts])
    assert report["mode"] == "full"
    assert tuple(report["parts"]) == parts
    assert not [name for name, part in report["parts"].items() if "failed" in part]
    assert report["seconds"] < 70 * 60


def test_every_part_is_in_a_committed_report() -> None:
    assert sorted(part for parts in FOLDERS.values() for part in parts) == sorted(command.PARTS)


@pytest.mark.parametrize("folder", slow_but(["results/padding"], FOLDERS))
def test_the_committed_text_and_plots_match_the_samples(folder: str, tmp_path: Path) -> None:
    write_report(committed(folder), tmp_path)
    kept = ROOT / "benchmarks" / folder
    assert (tmp_path / "report.md").read_text() == (kept / "report.md").read_text()
    assert (tmp_path / "report.json").read_text() == (kept / "report.json").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in kept.iterdir() if path.is_file()}
    for plot in tmp_path.glob("*.png"):
        with Image.open(plot) as drawn, Image.open(kept / plot.name) as committed_plot:
            assert drawn.size == committed_plot.size
        assert f"({plot.name})" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_committed_text_matches_the_samples(folder: str, tmp_path: Path) -> None:
    kept = ROOT / "benchmarks" / folder
    write_samples(committed(folder), tmp_path)
    assert (tmp_path / "report.json").read_text() == (kept / "report.json").read_text()
    text = (kept / "report.md").read_text()
    assert without_plots(text) == without_plots(markdown(committed(folder), {}))
    assert sorted(re.findall(r"^!\[.*\]\((.*)\)$", text, re.MULTILINE)) == sorted(p.name for p in kept.glob("*.png"))


def without_plots(text: str) -> list[str]:
    """The lines of a report with content, without those that show a plot."""
    return [line for line in text.splitlines() if line and not line.startswith("![")]


def readme(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", BLOCKS)
def test_a_readme_quotes_the_committed_reports(name: str) -> None:
    block = BLOCKS[name](quoted())
    assert block in readme(name)
    assert with_figures(readme(name), block) == readme(name)


BUILD_SECONDS = ("build", "repeated questions", "contestants", "memxlnet", "seconds")


@pytest.mark.parametrize(
    ("name", "folder", "place"),
    [
        ("README.md", "results", BUILD_SECONDS),
        ("README.md", "results/padding", ("padding", "shares", "questions", "useful", "aligned, by default")),
        ("benchmarks/README.md", "results", BUILD_SECONDS),
        ("benchmarks/README.md", "results/padding", ("padding", "epochs", "XLNet", "seconds", "aligned, by default")),
    ],
)
def test_a_changed_sample_changes_the_quote(name: str, folder: str, place: tuple[str, ...]) -> None:
    changed = copy.deepcopy(quoted())
    part, *rest, last = place
    found = changed[f"{folder}/report.md"]["parts"][part]["figures"]
    for key in rest:
        found = found[key]
    samples = found[last]
    found[last] = [2 * value for value in samples] if isinstance(samples, list) else 2 * samples
    assert with_figures(readme(name), BLOCKS[name](changed)) != readme(name)


def test_a_text_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one block between"):
        with_figures("no marks", "")


def test_the_readme_has_five_figures() -> None:
    rows = [line for line in BLOCKS["README.md"](quoted()).splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 5
    assert all("`python -m benchmarks " in row for row in rows[2:])


def test_a_missed_target_is_marked(report: dict[str, Any]) -> None:
    slow = copy.deepcopy(report)
    slow["parts"]["build"]["figures"]["repeated questions"]["contestants"]["memxlnet"]["seconds"] = [1e6]
    (found,) = [one for one in targets(slow["parts"]) if one.what.startswith("build")]
    assert found.outcome == "missed"
    line = next(line for line in markdown(slow, {}).splitlines() if line.startswith("| build of"))
    assert line.endswith("| **missed** |")


def test_every_target_of_the_full_report_is_judged(report: dict[str, Any]) -> None:
    text = " ".join(one.what for one in targets(report["parts"]))
    for word in (
        "build",
        "tensors in RAM",
        "pickled chunks",
        "NumPy memmap",
        "datasets, torch",
        "memory added by training",
    ):
        assert word in text


def test_what_is_not_possible_or_fails_is_in_the_text(report: dict[str, Any]) -> None:
    changed = copy.deepcopy(report)
    changed["parts"]["larger-than-ram"]["figures"] = {"limit": 10**8, "not possible": "no groups"}
    changed["parts"]["scale"] = {"failed": "NoSpaceError: too little room", "seconds": 1.0}
    changed["parts"]["reading"]["figures"]["not installed"] = ["Lance"]
    changed["parts"]["build"]["figures"]["questions"]["contestants"]["traditional"] = {"not possible": "too large"}
    text = markdown(changed, {})
    for expected in (
        "Not possible on this machine: no groups",
        "Failed: NoSpaceError",
        "Lance: not installed",
        "too large",
    ):
        assert expected in text


@pytest.mark.parametrize("part", slow_but(["build"], command.PARTS))
def test_a_report_of_one_part_is_written(report: dict[str, Any], tmp_path: Path, part: str) -> None:
    write_report({**report, "parts": {part: report["parts"][part]}}, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert text.count("\n## ") <= 2
    assert sorted(f"({path.name})" in text for path in tmp_path.glob("*.png")) == [True] * text.count("![")


@pytest.mark.slow
def test_what_a_quick_run_leaves_out_is_not_an_error(report: dict[str, Any], tmp_path: Path) -> None:
    parts = report["parts"]
    build, reading = parts["build"]["figures"], parts["reading"]["figures"]
    for kind in ("questions", "long documents"):
        del build[kind]
    build["repeated questions"]["contestants"]["datasets.map"] = {"not possible": "killed by the system at 9 GB"}
    for batch in ("batch of 8", "batch of 32", "batch of 256"):
        reading[batch].pop("pickled chunks", None)
    for one in reading["contestants"].values():
        one["epochs"] = {"shuffled, first": one["epochs"]["shuffled, first"]}
        one["share"] = {"shuffled": 1.0}
    del parts["larger-than-ram"]["figures"]["lazy, not asking ahead"]
    for segments in list(parts["scale"]["figures"]["segments"])[1:]:
        parts["scale"]["figures"]["segments"][segments] = {"not possible": "too little room"}
    write_report(report, tmp_path)
    outcomes = {one.what: one.outcome for one in targets(parts)}
    assert [outcome for what, outcome in outcomes.items() if "pickled" in what or "build" in what] == ["not judged"] * 2
    assert "not measured: takes too long" in (tmp_path / "report.md").read_text()


def test_every_contestant_has_a_distinct_colour_and_marker() -> None:
    assert len({COLOURS[name] for name in CONTESTANTS}) == len(CONTESTANTS)
    assert len(set(MARKERS)) == len(MARKERS) >= len(CONTESTANTS)


@pytest.mark.slow
def test_plots_of_an_earlier_report_are_removed(report: dict[str, Any], tmp_path: Path) -> None:
    write_report(report, tmp_path)
    write_report({**report, "parts": {"loaders": report["parts"]["loaders"]}}, tmp_path)
    assert not list(tmp_path.glob("*.png"))


def test_quantities_have_their_units() -> None:
    assert [seconds(value) for value in (4.2e-6, 1.234e-3, 0.5, 12.34, 3600)] == [
        "4.20 us",
        "1.23 ms",
        "500 ms",
        "12.3 s",
        "3,600 s",
    ]
    assert [size(value) for value in (12, 4e6, -3.2e6, 25.3e9, 999)] == [
        "12 B",
        "4.00 MB",
        "-3.20 MB",
        "25.3 GB",
        "999 B",
    ]
    assert (rate(28_456), times(12.06), share(0.624)) == ("28,500", "12.1x", "62.4 %")
    assert spread([3.0, 1.0, 2.0], seconds) == "2.00 s (1.00 s - 3.00 s)"
    assert spread([2.0], seconds) == spread([2.0, 2.0], seconds) == "2.00 s"
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "part: expected some of build, reading"),
        (["--data", "/nowhere.json"], "--data: expected a file, found none at /nowhere.json"),
        (["--tokenizer", "/nowhere"], "--tokenizer: expected a directory with a tokenizer.json"),
    ],
)
def test_wrong_arguments_fail_at_once(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "found no JSON"),
        ("[]", "found another format"),
        ('{"data": [{}]}', "another format"),
        ('{"data": []}', "no question"),
    ],
)
def test_a_file_of_another_format_is_refused(
    content: str, message: str, tmp_path: Path, sample: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(SystemExit, match=message):
        command.main(["build", "--data", str(file), "--output", str(tmp_path / "report")])


def test_a_part_that_fails_leaves_a_report(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.parts import scale

    monkeypatch.setattr(scale, "long_cache", lambda *_: 1 / 0)
    assert command.main(["scale", "--quick", "--output", str(tmp_path)]) == 1
    assert "Failed: ZeroDivisionError" in (tmp_path / "report.md").read_text()
    again = tmp_path / "again"
    assert command.main(["--render", str(tmp_path / "report.json"), "--output", str(again)]) == 0
    assert (again / "report.md").read_text() == (tmp_path / "report.md").read_text()


def test_a_part_that_is_measured_again_is_marked(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.parts import scale

    monkeypatch.setattr(scale, "measure", lambda settings: 1 / 0)
    assert command.main(["scale", "--quick", "--output", str(tmp_path)]) == 1
    assert command.main(["scale", "--quick", "--update", "--output", str(tmp_path)]) == 1
    text = (tmp_path / "report.md").read_text()
    assert "Measured in a separate run, `python -m benchmarks scale --quick`." in text
    with pytest.raises(SystemExit, match=r"--update: .*: mode: expected 'full', found 'quick'"):
        command.main(["scale", "--update", "--output", str(tmp_path)])


def test_only_a_report_is_rendered(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"format": 99}')
    with pytest.raises(SystemExit, match="expected a report of format 1"):
        command.main(["--render", str(tmp_path / "report.json")])


@pytest.mark.slow
def test_a_quick_run_measures_everything_on_the_sample(sample: Path, tmp_path: Path) -> None:
    assert command.main(["--quick", "--output", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert tuple(report["parts"]) == command.PARTS
    assert "the file squad_sample.json" in (tmp_path / "report.md").read_text()
    assert len(list(tmp_path.glob("*.png"))) >= 9
