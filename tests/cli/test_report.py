"""`memxlnet report`: options, messages and what is written."""

import json
from collections.abc import Callable
from pathlib import Path

from memxlnet.load.cache_dataset import CacheDataset
from tests.cli.helpers import Caches, Result, error
from tests.report.helpers import data_of

Run = Callable[..., Result]


def test_a_page(run: Run, caches: Caches, tmp_path: Path) -> None:
    ids = dict.fromkeys((item["example_id"] for item in CacheDataset(caches.plain)), "")
    file, other, page = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "report.html"
    for path in (file, other):
        path.write_text(json.dumps(ids))
    result = run("report", caches.plain, "-o", page, "--predictions", file, "--against", other, "--documents", 2)
    assert (result.code, result.err, result.fields["report"]) == (0, "", str(page))
    found = data_of(page.read_text(encoding="utf-8"))
    assert (found["runs"], len(found["documents"])) == (["a", "b"], 2)
    message = error(run("report", caches.plain, "-o", page))
    assert message == f"--output: expected a file that does not exist, found '{page}'; pass --replace"
    before = page.read_bytes()
    file.write_text('{"none": ""}')
    message = error(run("report", caches.plain, "-o", page, "--replace", "--predictions", file))
    assert message.startswith("--predictions: expected predictions for the documents of ")
    assert "found 1 of 1 for other ids: 'none'; " in message
    assert error(run("report", caches.plain, "-o", page, "--replace", "--against", other)).startswith("--against: ")
    assert error(run("report", tmp_path, "-o", page)).startswith(f"{tmp_path}: ")
    assert page.read_bytes() == before
