"""`memxlnet verify`: every byte, and the source where one is given."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.helpers import Caches, Result, copy_of, error, usage_error
from tests.load.helpers import varied_examples
from tests.support import write_json_lines

Run = Callable[..., Result]


@pytest.mark.parametrize("kind", ["plain", "memory", "sharded"])
def test_a_cache_that_is_right(run: Run, caches: Caches, kind: str) -> None:
    directory = getattr(caches, kind)
    assert run("verify", directory) == (0, f"{directory}: all bytes and values are right\n", "")
    result = run("verify", directory, "--against", caches.source)
    assert result == (0, f"{directory}: all bytes and values are right, as {caches.source} gives them\n", "")


def test_deep(run: Run, caches: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("verify", caches.plain, "--deep").code == 0
    asked = {}
    monkeypatch.setattr("memxlnet.cli.verify.verify", lambda directory, **options: asked.update(options))
    assert run("verify", caches.plain, "--deep").code == 0
    assert asked["deep"]


def test_json(run: Run, caches: Caches) -> None:
    result = run("verify", caches.plain, "--json")
    assert result.json == {"cache": str(caches.plain), "verified": True, "deep": False, "against": None}
    result = run("verify", caches.plain, "--json", "--against", caches.source)
    assert result.json["against"] == str(caches.source)


@pytest.mark.parametrize(
    ("options", "sample"), [([], 100), (["--sample", 5], 5), (["--all"], None), (["--sample", 10**20], 10**20)]
)
def test_how_many_examples_are_encoded_again(
    run: Run, caches: Caches, monkeypatch: pytest.MonkeyPatch, options: list[Any], sample: int | None
) -> None:
    asked = {}
    monkeypatch.setattr("memxlnet.cli.verify.verify", lambda directory, **options: asked.update(options))
    assert run("verify", caches.plain, "--against", caches.source, *options).code == 0
    assert {name: asked[name] for name in ("against", "sample")} == {"against": str(caches.source), "sample": sample}


def test_the_options_of_the_hub_are_handed_on(run: Run, caches: Caches, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr("memxlnet.cli.verify.verify", lambda directory, **options: asked.update(options))
    assert run("verify", caches.plain, "--against", "squad", "--config-name", "plain", "--revision", "v1").code == 0
    assert (asked["against"], asked["config_name"], asked["revision"]) == ("squad", "plain", "v1")


def test_all_and_few_examples_are_really_read(run: Run, caches: Caches) -> None:
    for options in (["--all"], ["--sample", 1], ["--sample", 999]):
        assert run("verify", caches.plain, "--against", caches.source, *options).code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--all"], "--all, --sample: apply to a source, found no --against SOURCE with them"),
        (["--sample", 3], "--all, --sample: apply to a source, found no --against SOURCE with them"),
        (["--against", "x.json", "--all", "--sample", 3], "expected --all or --sample, found both"),
    ],
)
def test_options_that_do_not_go_together(run: Run, caches: Caches, options: list[Any], message: str) -> None:
    assert usage_error(run("verify", caches.plain, *options)) == message


def test_another_source_is_refused(run: Run, caches: Caches, tmp_path: Path) -> None:
    rows = varied_examples()
    rows[3]["question"] += "?"
    other = write_json_lines(tmp_path / "varied.jsonl", rows)
    message = error(run("verify", caches.plain, "--against", other))
    assert "varied: source.sha256: " in message


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("none.json", [], r"none\.json:"),
        ("", [], "^--against:"),
        ("nothing://example.org/x", [], "^--against:.*'nothing'"),
        ("SOURCE", ["--sample", 0], "^--sample:.*found 0$"),
        ("SOURCE", ["--config-name", "x"], "--config-name:.*'x'"),
    ],
)
def test_errors_name_options(run: Run, caches: Caches, source: str, options: list[Any], message: str) -> None:
    source = str(caches.source) if source == "SOURCE" else source
    assert re.search(message, error(run("verify", caches.plain, "--against", source, *options)))


@pytest.mark.parametrize(
    "name", ["features-00000.arrow", "documents-00000.arrow", "contexts-00000.arrow", "tokenizer.json", "manifest.json"]
)
def test_a_changed_byte_names_the_file(run: Run, caches: Caches, tmp_path: Path, name: str) -> None:
    path = copy_of(caches.plain, tmp_path) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert str(path) in error(run("verify", path.parent))


def test_a_missing_file_names_it(run: Run, caches: Caches, tmp_path: Path) -> None:
    path = copy_of(caches.sharded, tmp_path) / "features-00001.arrow"
    path.unlink()
    assert str(path) in error(run("verify", path.parent))
