"""A hostile cache, predictions for it, and a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.report.page import write_report
from tests.load.helpers import sample_tokenizer
from tests.report.helpers import CHROMIUM, Page, examples, predictions
from tests.support import build, long_examples

ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of examples of every outcome, which no test changes."""
    tokenizer = sample_tokenizer()
    configure_memory_tokens(tokenizer, 2)
    return build(
        examples(), tokenizer, tmp_path_factory.mktemp("report"), max_seq_length=96, on_contradiction="unanswerable"
    )


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cache of four plain documents."""
    return build(long_examples(4, 30), sample_tokenizer(), tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def written(dataset: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the cache with two runs."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    first, second = predictions()
    return write_report(dataset.cache, path, predictions=first, against=second)


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the plots out, which take most of the time of a page."""
    names = ("segments", "steps", "tokens", "useful")
    monkeypatch.setattr("memxlnet.report.page.page_plots", lambda *_: dict.fromkeys(names, "<svg/>"))
    monkeypatch.setattr("memxlnet.report.page.plot_f1_by_step", lambda *_: "<svg/>")


@pytest.fixture(scope="session")
def tab() -> Iterator[Page]:
    """A tab of Chromium; skips where it or its driver is not installed."""
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        pytest.skip(f"needs Chromium: none of {', '.join(CHROMIUM)} is installed")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield Page(browser)
        browser.close()


@pytest.fixture
def opened(tab: Page, written: Path) -> Iterator[Page]:
    """The page with two runs, just loaded; at the end nothing was logged and no address asked for."""
    tab.open(written)
    yield tab
    assert tab.problems == []
