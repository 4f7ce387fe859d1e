"""`memxlnet diff`: equal caches are quiet, others name what differs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from tests.cli.helpers import LENGTH, MEMORY, OVERLAP, Caches, Result, error
from tests.load.helpers import sample_tokenizer, varied_examples
from tests.support import build, write_json_lines

Run = Callable[..., Result]


def fields(result: Result) -> dict[str, tuple[str, str]]:
    assert result.lines[0] == ["field", "first", "second"]
    return {name: (first, second) for name, first, second in result.lines[1:]}


def test_a_cache_equals_itself_and_its_copy(run: Run, caches: Caches, tmp_path: Path) -> None:
    copied = shutil.copytree(caches.plain, tmp_path / "copy")
    assert run("diff", caches.plain, caches.plain) == run("diff", caches.plain, copied) == (0, "", "")
    assert run("diff", caches.plain, copied, "--json") == (0, "{}\n", "")


def test_where_a_source_was_found_does_not_count(run: Run, caches: Caches, tmp_path: Path) -> None:
    source = write_json_lines(tmp_path / "varied.jsonl", varied_examples())
    again = build(source, sample_tokenizer(), tmp_path / "again", max_seq_length=LENGTH, doc_stride=OVERLAP)
    assert again.manifest.provenance["path"] == str(source) != str(caches.source)
    assert run("diff", caches.plain, again.directory).code == 0


def test_the_settings_that_differ(run: Run, caches: Caches, tmp_path: Path) -> None:
    other = build(caches.source, sample_tokenizer(), tmp_path, max_seq_length=64, doc_stride=OVERLAP, max_n_segs=2)
    result = run("diff", caches.plain, other.directory)
    assert (result.code, result.err) == (1, "")
    found = fields(result)
    assert found["settings.max_seq_length"] == ("48", "64")
    assert found["settings.max_n_segs"] == ("None", "2")
    assert {name for name in found if name.startswith(("settings", "source", "tokenizer"))} == {
        "settings.max_seq_length",
        "settings.max_n_segs",
    }
    assert {"fingerprint", "rows.features", "num_bytes", "checksums.features-00000.arrow"} <= set(found)
    assert "name" not in found
    assert "rows.documents" not in found
    swapped = fields(run("diff", other.directory, caches.plain))
    assert swapped == {name: (second, first) for name, (first, second) in found.items()}


def test_memory_tokens_and_shards(run: Run, caches: Caches) -> None:
    found = fields(run("diff", caches.plain, caches.memory))
    assert found["vocabulary_size"] == ("2000", str(2000 + 2 * MEMORY))
    assert "tokenizer.sha256" in found
    found = fields(run("diff", caches.plain, caches.sharded))
    assert found["shards.features"][0] == "1"
    assert "fingerprint" not in found
    # A file that only one of them has.
    assert found["checksums.features-00001.arrow"][0] == "None"


def test_json(run: Run, caches: Caches) -> None:
    result = run("diff", caches.plain, caches.memory, "--json")
    assert (result.code, result.err) == (1, "")
    assert result.json["vocabulary_size"] == {"first": 2000, "second": 2000 + 2 * MEMORY}
    assert set(result.json) == set(fields(run("diff", caches.plain, caches.memory)))


@pytest.mark.usefixtures("terminal")
def test_for_a_person(run: Run, caches: Caches) -> None:
    shown = click.unstyle(run("diff", caches.plain, caches.memory).out)
    assert "2,000" in shown
    assert "\t" not in shown


def test_a_second_one_that_is_no_cache(run: Run, caches: Caches, tmp_path: Path) -> None:
    assert error(run("diff", caches.plain, tmp_path)).startswith(f"{tmp_path}: expected a cache, found no manifest")
    assert "name one" in error(run("diff", caches.plain, caches.directory))
