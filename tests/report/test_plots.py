"""Plots of statistics: what is drawn, and what is said where it cannot be."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memxlnet.errors import CacheDirectoryError, MissingLibraryError, SettingsError
from memxlnet.load.statistics import CacheStatistics, PaddingShares, UsefulShares
from memxlnet.report.plots import draw_statistics, median_of, plot_f1_by_step
from tests.support import slow

STATISTICS = CacheStatistics(
    documents=9,
    segments=20,
    max_seq_length=64,
    segments_per_document={1: 4, 2: 3, 7: 2},
    answer_time_steps={0: 5, 3: 1},
    without_answer_segment=1,
    padding={1: PaddingShares(0.0, 0.0, 0.0), 2: PaddingShares(0.3, 0.1, 0.05)},
    useful={1: UsefulShares(1, 1, 1, 1, 1, 1), 2: UsefulShares(0.5, 0.9, 0.6, 0.9, 0.5, 0.95)},
    tokens=900,
    context_tokens=700,
)


def test_what_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):
        draw_statistics(STATISTICS, "a $title$ of <squad>_v2", tmp_path / "plot.svg")
    drawn = set(re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "plot.svg").read_text()))
    assert "a $title$ of &lt;squad&gt;_v2" in drawn
    assert {
        "Segments per document",
        "segments of a document",
        "documents",
        "documents in a group (logarithmic)",
        "padding, % of lanes",
        "real tokens, %",
    } <= drawn
    assert {
        "aligned",
        "grouped by length",
        "refilled",
        "refilled, grouped by length",
        "regular, grouped by length",
    } <= drawn


def test_names_of_runs_are_shown_as_they_are() -> None:
    pytest.importorskip("matplotlib")
    figures = {"0": (50.0, 2), "no answer": (100.0, 1)}
    drawn = plot_f1_by_step({"_a $b": figures, r"$\none$ <script>": figures})
    assert {" _a $b", r" $\none$ &lt;script&gt;", "50", "100"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", drawn))
    assert drawn.startswith("<svg ")
    assert " id=" not in drawn.replace("<clipPath id=", "").replace("<path id=", "")
    assert "#0a0b" not in drawn


@pytest.mark.parametrize(
    ("counts", "expected"),
    [({3: 1}, 3), ({1: 1, 2: 1}, 1.5), ({1: 2, 5: 1}, 1), ({1: 2, 5: 2}, 3), ({0: 1, 7: 100, 9: 3}, 7)],
)
def test_medians(counts: dict[int, int], expected: float) -> None:
    assert median_of(counts) == expected == np.median(np.repeat(list(counts), list(counts.values())))


CHANGES: list[dict[str, Any]] = [
    {"answer_time_steps": {}},
    {"segments_per_document": {1: 100_000, 2: 3}},
    {"padding": {}, "useful": {}},
]


@pytest.mark.parametrize(
    "changes", [*map(slow, CHANGES), {name: value for change in CHANGES for name, value in change.items()}]
)
def test_statistics_of_every_kind_can_be_drawn(tmp_path: Path, changes: dict[str, Any]) -> None:
    pytest.importorskip("matplotlib")
    draw_statistics(CacheStatistics(**{**vars(STATISTICS), **changes}), "x", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingLibraryError, match=r"^plot:.*memxlnet\[plot\]"):
        draw_statistics(STATISTICS, "x", tmp_path / "plot.png")
    # What is wrong anyway is reported first.
    with pytest.raises(SettingsError, match=r"^plot:.*plot\.gif"):
        draw_statistics(STATISTICS, "x", tmp_path / "plot.gif")


@pytest.mark.parametrize("name", ["none/plot.png", slow("directory.png"), slow(f"{'x' * 300}.png")])
def test_a_place_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "directory.png").mkdir()
    with pytest.raises(CacheDirectoryError, match=f"^{tmp_path / name}:"):
        draw_statistics(STATISTICS, "x", tmp_path / name)
