"""Where a command takes a directory, the URL of a store is refused, and no folder is named like one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.helpers import Caches, Result, error

Run = Callable[..., Result]

URL = "s3://bucket/caches"
REFUSED = "expected a local directory, found the URL s3://...; pull fetches a cache into one, and push sends it"


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize(
    "arguments",
    [
        ("quickstart", "--cache-dir", URL),
        ("pull", "memory://none/at/all", "--cache-dir", URL),
        ("pull", "memory://none/at/all", "--cache-dir", f"./{URL}"),
        ("rm", "-y", "--older-than", "1s", "--cache-dir", URL),
        ("rm", "-y", "--leftovers", URL),
        ("show", URL, "0"),
        ("stats", URL),
        ("verify", URL),
        ("diff", URL, URL),
        ("push", URL, "memory://none/at/all"),
        ("compact", URL),
    ],
)
def test_it_is_refused(run: Run, empty: Path, arguments: tuple[str, ...]) -> None:
    assert REFUSED in error(run(*arguments))
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("arguments", [("pull", "memory://none/at/all"), ("rm", "-y", "--keep", "1")])
def test_so_it_is_in_the_environment(
    run: Run, empty: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MEMXLNET_CACHE_DIR", URL)
    assert REFUSED in error(run(*arguments))
    assert list(empty.iterdir()) == []


def test_a_build_of_parts_refuses_it(run: Run, caches: Caches, empty: Path) -> None:
    tokenizer = Path(__file__).parents[2] / "memxlnet" / "sample" / "tokenizer"
    found = run("build", "--parts", caches.source, "--tokenizer", tokenizer, "--cache-dir", URL)
    assert REFUSED in error(found)
    assert list(empty.iterdir()) == []
