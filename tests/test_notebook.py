"""Notebooks: what a kernel shows of objects and bars, and that nothing of notebooks is loaded elsewhere."""

import subprocess
import sys
from typing import Any

import pytest

from memxlnet import progress
from tests.support import ROOT, WAIT_SECONDS

BUILD = """
from transformers import AutoTokenizer
from memxlnet import Cache, concatenate
from memxlnet.sample import sample_file, sample_tokenizer_directory
tokenizer = AutoTokenizer.from_pretrained(sample_tokenizer_directory())
cache = Cache.build(sample_file(), tokenizer, max_seq_length=128, doc_stride=32, cache_dir=r"{directory}")
"""

SHOWN = {
    "cache": "<strong>Cache</strong>",
    "cache.dataset()": "<strong>CacheDataset</strong>",
    "cache.dataset().take(2)": "2 (a view of ",
    "cache.dataset()[0]": "<strong>Segment</strong>",
    "loader := cache.loader(4)": "<strong>TimeStepMajorDataLoader</strong>",
    "group := next(iter(loader))": "<strong>Group</strong>",
    "group[0]": "<strong>Step</strong>",
    "cache.segment_loader(4)": "<strong>RegularDataLoader</strong>",
    "next(iter(cache.segment_loader(4)))": "<strong>Batch</strong>",
}
"""The table of each expression."""


@pytest.mark.parametrize(
    ("shown", "notebook", "expected"),
    [(None, False, None), (None, True, False), (True, False, False), (True, True, False), (False, True, True)],
)
def test_whether_a_bar_is_shown(
    monkeypatch: pytest.MonkeyPatch, shown: bool | None, notebook: bool, expected: bool | None
) -> None:
    monkeypatch.delitem(sys.modules, progress.NOTEBOOK, raising=False)
    if notebook:
        monkeypatch.setitem(sys.modules, progress.NOTEBOOK, sys)
    assert progress.disabled(shown) is expected


def test_nothing_of_notebooks_is_loaded_outside_of_them() -> None:
    script = "import memxlnet.progress, sys; print(sorted({'IPython', 'ipywidgets', 'ipykernel'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_kernel_shows_tables_and_bars(tmp_path: Any) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    sources = [BUILD.format(directory=tmp_path), *(f"({expression})" for expression in SHOWN)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbclient.NotebookClient(notebook, timeout=WAIT_SECONDS, resources={"metadata": {"path": str(ROOT)}}).execute()
    build, *cells = notebook.cells
    text = "".join(output.get("text", "") for output in build.outputs)
    assert "squad_sample" in text
    assert "example/s" in text
    for (expression, wanted), cell in zip(SHOWN.items(), cells, strict=True):
        data = cell.outputs[-1]["data"]
        assert wanted in data["text/html"], expression
        assert "object at 0x" not in data["text/plain"], expression
        assert len(data["text/plain"]) < 2000, expression
