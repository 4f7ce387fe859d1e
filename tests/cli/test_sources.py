"""Sources through the command line: forms, columns, several files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from memxlnet.sample import sample_tokenizer_directory
from tests.cli.helpers import Result
from tests.sources.test_builds import tables
from tests.sources.test_forms import FORMS
from tests.sources.test_forms import write as write_form
from tests.sources.test_places import ROWS, write
from tests.support import slow_but

Run = Callable[..., Result]


@pytest.mark.parametrize(
    "case", slow_but(["mrqa", "drop"], ["mrqa", "coqa", "natural-questions", "drop", "hotpotqa, yes"])
)
def test_the_command_line_makes_the_same_cache(case: str, run: Run, tmp_path: Path) -> None:
    name, content, _ = FORMS[case]
    path = write_form(tmp_path, content)
    rows = ("--max-seq-length", 96, "--doc-stride", 16, "--split", "test", "--workers", 0)
    result = run(
        "build", path, "--tokenizer", sample_tokenizer_directory(), *rows, "--cache-dir", tmp_path / "a", "--json"
    )
    assert result.code == 0, result
    named = run(
        "build",
        path,
        "--tokenizer",
        sample_tokenizer_directory(),
        *rows,
        "--cache-dir",
        tmp_path / "b",
        "--form",
        name,
        "--json",
    )
    assert named.code == 0, named
    assert tables(Path(result.json["cache"])) == tables(Path(named.json["cache"]))
    assert run("verify", result.json["cache"], "--against", path).code == 0


def test_the_command_line_takes_several_files_and_columns(run: Run, tmp_path: Path) -> None:
    rows = [{"key": row["id"], "q": row["question"], "doc": {"text": row["context"]}, "a": "Context"} for row in ROWS]
    paths = [write(tmp_path / f"part-{number}.jsonl", rows[number * 5 : number * 5 + 5]) for number in range(2)]
    columns = [
        "--column",
        "id=key",
        "--column",
        "question=q",
        "--column",
        "context=doc.text",
        "--column",
        "answer_text=a",
    ]
    tokenizer = ["--tokenizer", sample_tokenizer_directory(), "--cache-dir", tmp_path / "caches", "--json"]
    result = run("build", *paths, *columns, *tokenizer, "--split", "train[2:8]")
    assert result.code == 0, result
    assert (result.json["documents"], result.json["answers_exact"]) == (6, 6)
    against = [word for path in paths for word in ("--against", path)]
    assert run("verify", result.json["cache"], *against, *columns).code == 0
    assert run("verify", result.json["cache"], *against).code == 5
