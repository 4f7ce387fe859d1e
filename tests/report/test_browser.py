"""The page in a browser: it loads cleanly, finds, filters, highlights, obeys the keyboard, and runs no text."""

from pathlib import Path
from typing import Any

import pytest

from memxlnet.report.page import write_report
from tests.report.helpers import HOSTILE, LONG, Page, examples, predictions
from tests.support import slow


def test_markup_in_the_data_is_shown_and_not_run(opened: Page) -> None:
    hostile = examples()[0]
    opened.page.fill("#search", "onerror=")
    assert opened.current() == hostile["id"]
    assert opened.page.locator("#detail h3").text_content() == hostile["question"]
    assert opened.texts(".context")[0] == hostile["context"]
    assert opened.marked("gold") == opened.marked("run-0") == HOSTILE
    opened.page.click("#tokens")
    assert opened.page.evaluate("window.hacked") is None
    assert opened.page.locator("#detail script, #detail img, #list b").count() == 0


def test_highlights_stand_where_the_spans_are(opened: Page) -> None:
    first, second = predictions()
    for raw in examples():
        opened.choose(raw["id"])
        assert opened.current() == raw["id"]
        assert opened.texts(".context")[0] == raw["context"]
        stands = [
            text
            for text, at in zip(*(raw["answers"] or {"text": [], "answer_start": []}).values(), strict=True)
            if raw["context"][at : at + len(text)] == text
        ]
        if raw["id"] == "repaired":
            stands = ["word5"]
        assert opened.marked("gold") == "".join(stands)
        assert opened.marked("chosen") == "".join(stands[:1])
        for number, texts in enumerate((first, second)):
            text = texts.get(raw["id"], "")
            assert opened.marked(f"run-{number}") == (text if text in raw["context"] else "")


def test_segments_are_drawn_where_they_are(opened: Page, dataset: Any) -> None:
    opened.choose("late")
    rows = [dataset[row] for row in dataset.get_document_segments("late")]
    assert opened.page.locator(".map button").count() == len(rows) > 3
    for number in (0, 1, len(rows) - 1):
        opened.page.locator(".map button").nth(number).click()
        clear = opened.page.locator(".context :is(span, mark):not(.faded):not(.start)").all_text_contents()
        title = opened.page.locator(".map button").nth(number).get_attribute("title")
        start, stop = map(int, title.split("characters ")[1].split(",")[0].split(" to "))
        assert "".join(clear) == LONG[start:stop]
        opened.page.click("#tokens")
        tokens = opened.page.locator(".tokens span").count()
        assert tokens == int(rows[number]["attention_mask"].sum())
        opened.page.click("#tokens")
        opened.page.locator(".map button").nth(number).click()
    assert opened.page.locator(".context .overlap").count() >= len(rows) - 1
    # By the keyboard, and only one of them is a stop of the tabulator.
    pressed = '.map button[aria-pressed="true"]'
    for key, number in (("ArrowRight", 0), ("ArrowRight", 1), ("ArrowLeft", 0), ("ArrowLeft", 0)):
        opened.page.keyboard.press(key)
        assert opened.page.locator(pressed).get_attribute("aria-label").startswith(f"segment {number}: ")
        assert opened.page.locator('.map button[tabindex="0"]').count() == 1


def test_a_long_document(opened: Page) -> None:
    opened.page.set_viewport_size({"width": 1000, "height": 300})
    opened.choose("late")
    inside = """() => {
        const text = document.querySelector('.context'), mark = text.querySelector('.chosen');
        const [outer, inner] = [text.getBoundingClientRect(), mark.getBoundingClientRect()];
        return outer.top <= inner.top && inner.bottom <= outer.bottom && text.scrollTop > 0;
    }"""
    assert opened.page.evaluate(inside)
    opened.page.click("#tokens")
    segments = opened.page.locator(".map button").count()
    assert segments > 8
    assert len(opened.texts(".tokens")) == 8
    assert f"The first 8 segments of {segments}; choose one above" in opened.texts("#detail")[0]


def test_search_and_filters(opened: Page) -> None:
    page = opened.page
    every = opened.shown()
    assert len(every) == len(examples())
    for wanted, ids in {
        "LATE": ["late"],
        "short context": ["unlabelled"],
        "where does it begin": ["early"],
        "not in it": ["repaired"],
        "no such text": [],
    }.items():
        page.fill("#search", wanted)
        assert opened.shown() == ids
        assert page.locator("#count").text_content() == f"{len(ids)} of {len(every)} shown"
    assert "No document fits" in page.locator("#list").text_content()
    page.keyboard.press("Escape")
    assert opened.shown() == every
    page.select_option("#label", "exact")
    assert set(opened.shown()) == {examples()[0]["id"], "late", "early"}
    page.locator(".verdict").first.select_option("wrong")
    assert opened.shown() == ["early"]
    page.keyboard.press("Escape")
    page.select_option("#change", "better")
    assert set(opened.shown()) == {"late", "early"}
    page.keyboard.press("Escape")
    page.select_option("#order", "cache")
    assert opened.shown() == [one["id"] for one in examples()]
    page.select_option("#order", "segments")
    assert page.locator("#list button").first.text_content().count("segments") == 1
    # From the tables above to the documents.
    page.click('button[data-label="unreachable"]')
    assert opened.shown() == ["unreachable"]
    page.click('button[data-verdict="missed"]')
    assert "dropped" in opened.shown()
    page.click('button[data-change="better"]')
    assert set(opened.shown()) == {"late", "early"}
    page.click('.examples button:text-is("repaired")')
    assert (opened.current(), len(opened.shown())) == ("repaired", len(every))


def test_the_keyboard(opened: Page) -> None:
    page = opened.page
    ids = opened.shown()
    assert opened.current() == ids[0]
    page.keyboard.press("j")
    assert opened.current() == ids[1]
    page.keyboard.press("ArrowDown")
    assert opened.current() == ids[2]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("k")
    page.keyboard.press("k")
    assert opened.current() == ids[0]
    page.keyboard.press("/")
    page.keyboard.type("jkt/")
    assert page.input_value("#search") == "jkt/"
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    assert page.locator("#tokens").text_content() == "Hide tokens"
    # The focus can be seen, and each control has a name.
    page.keyboard.press("j")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.locator(":is(input, select):not([aria-label])").count() == 0
    assert page.evaluate("[...document.querySelectorAll('button')].every((one) => one.textContent || one.ariaLabel)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_themes(opened: Page, written: Path, scheme: str) -> None:
    opened.open(written, scheme)
    background = "getComputedStyle(document.body).backgroundColor"
    dark, light = "rgb(20, 23, 28)", "rgb(246, 247, 249)"
    before, after = (dark, light) if scheme == "dark" else (light, dark)
    assert opened.page.evaluate(background) == before
    opened.page.click("#theme")
    assert opened.page.evaluate(background) == after
    opened.page.reload()
    assert opened.page.evaluate(background) == after


@pytest.mark.parametrize("width", [360, slow(800), 1600])
def test_nothing_is_wider_than_the_screen(opened: Page, written: Path, width: int) -> None:
    opened.open(written, width=width)
    opened.choose("late")
    opened.page.click("#tokens")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.usefixtures("no_plots")
def test_a_page_without_predictions(tab: Page, small: Any, tmp_path: Path) -> None:
    tab.open(write_report(small.cache, tmp_path / "a page #1 \u00fc.html"))
    assert tab.shown() == [f"id-{number}" for number in range(4)]
    assert tab.texts("#scores, .verdict, #change") == []
    assert tab.problems == []


@pytest.mark.usefixtures("no_plots")
def test_n_best_lists(tab: Page, small: Any, tmp_path: Path) -> None:
    hostile = [
        {"text": HOSTILE, "probability": 0.25},
        {"text": "word1", "probability": 0.5},
        {"text": "", "probability": 0},
    ]
    lists = {f"id-{number}": hostile for number in range(4)}
    tab.open(write_report(small.cache, tmp_path / "lists.html", predictions=lists), width=360)
    for example_id in ("id-0", "id-1"):
        tab.choose(example_id)
        assert tab.texts(".n-best summary") == ["3 best of predictions"]
        rows = [tab.texts(f".n-best tbody tr:nth-child({place}) td") for place in (1, 2, 3)]
        assert rows == [
            ["1", "50.0 %", "", "word1"],
            ["2", "25.0 %", "", HOSTILE],
            ["3", "0.0 %", "", "no answer"],
        ]
        assert tab.texts(".n-best .best .run-0") == ["word1"]
    tab.page.click(".n-best summary")
    tab.choose("id-2")
    assert not tab.page.locator(".n-best table").is_visible()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert tab.problems == []
