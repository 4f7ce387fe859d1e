"""Examples of every outcome with hostile texts, predictions for them, and a page in a browser."""

import re
from pathlib import Path
from typing import Any

import orjson

from tests.support import example

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'> </script> &amp; \u2028 ]]> 😀 <!--"
QUESTION = "What </script><b>is</b> it?"
LONG = "😀 " + " ".join(f"word{number}" for number in range(150))
UNREACHABLE = LONG[10:600]


def examples() -> list[dict[str, Any]]:
    """One example or more of each outcome; ids and texts hold markup, and characters beyond 16 bits."""
    at = LONG.index
    return [
        example(f"Before {HOSTILE} after it", QUESTION, [(HOSTILE, 7)], id=f"<b>id</b> {HOSTILE}"),
        example(LONG, "Which word?", [("word70", at("word70")), ("word71", at("word71"))], id="late"),
        example(LONG, "Where does it begin?", [("word2", at("word2"))], id="early"),
        example(LONG, "Which words?", [(UNREACHABLE, 10)], id="unreachable"),
        example(LONG, "Was it elsewhere?", [("word5", 3)], id="repaired"),
        example(LONG, "Where is it?", [("nowhere", 5)], id="dropped"),
        example(LONG, "Is there one?", id="unanswerable"),
        example(LONG, "Is it known?", id="contradiction", is_impossible=False),
        {**example("Short context.", "Who knows?", id="unlabelled"), "answers": None},
        example(LONG, "Is it so?", [("Yes", -1)], id="yes"),
        example(LONG, "How many?", [("1,024", -1)], id="number"),
        example("", "What stands in an empty context?", id="empty"),
    ]


def predictions() -> tuple[dict[str, str], dict[str, str]]:
    """Two runs: predictions of every verdict, and some that differ."""
    ids = [one["id"] for one in examples() if one["answers"] is not None]
    first = dict.fromkeys(ids, "") | {
        ids[0]: HOSTILE,
        "late": "word70 word71",
        "early": "word9",
        "unanswerable": "word149",
        "repaired": "not in it",
    }
    return first, first | {"late": "word70", "early": "word2", "dropped": "word1"}


def data_of(page: str) -> Any:
    """The data that a page embeds."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return orjson.loads(found[1])


class Page:
    """A page in a browser, and what it logged or asked for.

    Attributes:
        page: The tab.
        problems: Messages of the console, errors, and addresses that are not files.
    """

    def __init__(self, browser: Any):
        self.page = browser.new_page()
        self.page.set_default_timeout(20_000)
        self.problems: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self._check(request.url))

    def _check(self, url: str) -> None:
        if not url.startswith(("file:", "data:")):
            self.problems.append(url)

    def open(self, path: Path, scheme: str = "light", width: int = 1400) -> None:
        """Load a file."""
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.goto(path.as_uri())
        self.page.evaluate("localStorage.clear()")
        assert self.problems == []

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements that fit a selector."""
        found: list[str] = self.page.locator(selector).all_text_contents()
        return found

    def shown(self) -> list[str]:
        """The ids in the list."""
        return self.texts("#list .id")

    def current(self) -> str:
        """The id of the document that is shown."""
        return self.texts("#detail code")[0]

    def choose(self, example_id: str) -> None:
        """Show a document."""
        self.page.locator("#list button").nth(self.shown().index(example_id)).click()

    def marked(self, kind: str) -> str:
        """The text of the context that a class marks."""
        return "".join(self.texts(f".context .{kind}"))
