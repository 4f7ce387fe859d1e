"""`memxlnet info`, and how every command names a directory that is no cache."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from arrow_schemas import ALIGNMENTS, SCHEMA_VERSION
from memxlnet.format.manifest import read_manifest
from tests.cli.helpers import LENGTH, MEMORY, OVERLAP, Caches, Result, change_manifest, copy_of, error

Run = Callable[..., Result]

COMMANDS = [["info"], ["stats"], ["show", "--id", "x"], ["verify"], ["diff", "."], ["rm", "-y"], ["push", "file:///x"]]
"""All commands that take a cache; it goes where the dot is, or second."""


def pairs(result: Result, title: str) -> dict[str, str]:
    return {line[0]: line[1] for line in result.section(title)}


@pytest.mark.parametrize("kind", ["plain", "memory", "sharded"])
def test_it_shows_the_whole_manifest(run: Run, caches: Caches, kind: str) -> None:
    directory: Path = getattr(caches, kind)
    result = run("info", directory)
    assert (result.code, result.err) == (0, "")
    manifest = read_manifest(directory)
    first = dict(result.lines[: result.lines.index([""])])
    assert first.pop("size").endswith("B")
    assert first == {
        "cache": str(directory),
        "source": "varied",
        "split": "test",
        "fingerprint": manifest.fingerprint,
        "schema version": str(SCHEMA_VERSION),
        "vocabulary size": str(manifest.vocabulary_size),
        "memory slots": str(MEMORY if kind == "memory" else 0),
        "padding side": "left",
        "tokenizer": f"sha256 {manifest.fields['tokenizer']['sha256']}",
    }
    assert pairs(result, "settings") == {
        "doc_stride": str(OVERLAP),
        "insert_memory_tokens": "True",
        "max_examples": "None",
        "max_n_segs": "None",
        "max_seq_length": str(LENGTH),
        "on_bad_example": "error",
        "on_contradiction": "error",
        "on_repeated_id": "error",
    }
    source = pairs(result, "source")
    assert (source["kind"], source["format"], source["path"]) == ("file", "jsonl", str(caches.source))
    assert source["sha256"] == manifest.fields["source"]["sha256"]
    assert source["size"] == str(caches.source.stat().st_size)
    assert list(pairs(result, "answers").items()) == [
        *((f"answers {status}", str(manifest.alignment[status])) for status in ALIGNMENTS),
        ("answers in no segment", "0"),
        ("contradictions", "0"),
        ("examples dropped", "0"),
    ]
    tables = result.section("tables")
    assert tables[0] == ["table", "rows", "shards", "rows a batch", "size", "bytes a row"]
    assert {name: (int(rows), int(shards)) for name, rows, shards, *_ in tables[1:]} == {
        name: (table.rows, len(table.shards)) for name, table in manifest.tables.items()
    }
    files = result.section("files")
    assert [(name, digest) for name, _, _, digest in files[1:]] == [
        (record.file, record.xxh3_128) for record in manifest.all_files()
    ]
    assert len(files) == (1 + 4 if kind != "sharded" else 1 + 3 + len(manifest.tables["features"].shards))
    assert files[-1][2] == ""
    assert all(rows.startswith("0-") for name, _, rows, _ in files[1:] if name.endswith("-00000.arrow"))


def test_json_holds_the_whole_manifest(run: Run, caches: Caches) -> None:
    result = run("info", caches.sharded, "--json")
    assert (result.code, result.err) == (0, "")
    content = json.loads((caches.sharded / "manifest.json").read_bytes())
    found = result.json
    assert found["cache"] == str(caches.sharded)
    for name in ("name", "split", "fingerprint", "provenance", "alignment", "vocabulary_size", "dropped_examples"):
        assert found[name] == content[name]
    for name in ("tables", "files", "documents_without_answer_segment", "contradictions"):
        assert found[name] == content[name]
    for name, value in content["fields"].items():
        assert found[name] == value
    assert found["num_bytes"] == read_manifest(caches.sharded).num_bytes
    assert found["num_memory_tokens"] == 0


@pytest.mark.usefixtures("terminal")
def test_for_a_person(run: Run, caches: Caches) -> None:
    shown = click.unstyle(run("info", caches.memory).out)
    assert f"cache            {caches.memory}\n" in shown
    assert "memory slots     3\n" in shown
    assert "\t" not in shown
    assert "# settings" not in shown
    assert "settings\n" in shown
    assert "features-00000.arrow" in shown


def test_nothing_but_the_manifest_is_read(run: Run, caches: Caches, tmp_path: Path) -> None:
    copied = copy_of(caches.plain, tmp_path)
    for path in copied.iterdir():
        if path.name != "manifest.json":
            path.unlink()
    assert run("info", copied).code == 0


def test_texts_from_a_manifest_show_no_control_characters(run: Run, caches: Caches, tmp_path: Path) -> None:
    copied = copy_of(caches.plain, tmp_path).rename(tmp_path / "x\x1b[2Jy\nz")
    result = run("info", copied)
    assert result.lines[0] == ["cache", f"{tmp_path}/x\\x1b[2Jy\\nz"]
    assert run("info", copied, "--json").json["cache"] == str(copied)
    assert "\x1b" not in run("info", copied, "--json").out


# --- what is no cache


def call(run: Run, arguments: list[str], cache: Path) -> Result:
    name, *options = arguments
    if options == ["."]:
        return run(name, cache, cache)
    return run(name, cache, *options)


@pytest.mark.parametrize("arguments", COMMANDS, ids=[arguments[0] for arguments in COMMANDS])
def test_every_command_says_what_a_directory_is(run: Run, caches: Caches, tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    newer, damaged = copy_of(caches.plain, tmp_path), copy_of(caches.memory, tmp_path)
    change_manifest(newer, schema_version=99)
    (damaged / "manifest.json").write_text('{"format": "memxlnet-cache"')
    found = {
        tmp_path / "none": "none: expected the directory of a cache, found none",
        tmp_path / "empty": "empty: expected a cache, found no manifest.json in it",
        tmp_path / "file": "file: expected the directory of a cache, found none",
        caches.directory: f"{caches.directory}: expected a cache, found a directory of caches: {{}}, {{}}; name one",
    }
    if arguments[0] != "rm":  # which may remove them
        found |= {
            newer: f"manifest.json: expected schema_version {SCHEMA_VERSION}, found 99",
            damaged: "manifest.json: expected JSON, found ",
        }
    for directory, message in found.items():
        assert message.format(*sorted([caches.plain.name, caches.memory.name])) in error(
            call(run, arguments, directory)
        )


def test_an_older_cache_says_what_reads_it(run: Run, caches: Caches, tmp_path: Path) -> None:
    copied = copy_of(caches.plain, tmp_path)
    change_manifest(copied, schema_version=0)
    assert "found 0" in error(run("info", copied))


def test_many_caches_are_not_all_named(run: Run, caches: Caches, tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / str(number)).mkdir()
        shutil.copy(caches.plain / "manifest.json", tmp_path / str(number))
    assert error(run("info", tmp_path)).endswith("found a directory of caches: 0, 1, 2, 3, 4, and 3 more; name one")


# --- the name of a cache alone


@pytest.mark.parametrize(
    "arguments",
    [["info"], ["stats"], ["show", "0"], ["verify"], ["diff", "."], ["rm", "-y"], ["push", "file://{}/far"]],
    ids=lambda arguments: arguments[0],
)
@pytest.mark.parametrize("from_environment", [True, False])
def test_every_command_finds_a_name_in_the_usual_directory(
    run: Run,
    caches: Caches,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    from_environment: bool,
) -> None:
    usual = tmp_path / ("elsewhere" if from_environment else "memxlnet-cache")
    usual.mkdir()
    cache = copy_of(caches.plain, usual)
    monkeypatch.chdir(tmp_path)
    if from_environment:
        monkeypatch.setenv("MEMXLNET_CACHE_DIR", "elsewhere")
    arguments = [argument.format(tmp_path) for argument in arguments]
    result = call(run, arguments, Path(cache.name))
    assert (result.code, result.err) == (0, "")
    assert cache.exists() == (arguments[0] != "rm")
    # Nothing else is looked up there: no path of several parts, and no name where a directory has it.
    message = "expected the directory of a cache, found none"
    assert error(run("info", "none")) == f"{tmp_path}/none: {message}"
    path = f"{cache.name}/../{cache.name}"
    assert error(run("info", path)) == f"{tmp_path}/{path}: {message}"
    assert error(run("info", f"{tmp_path}/{cache.name}")) == f"{tmp_path}/{cache.name}: {message}"


def test_what_lies_here_comes_before_the_usual_directory(
    run: Run, caches: Caches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMXLNET_CACHE_DIR", str(caches.directory))
    monkeypatch.chdir(tmp_path)
    name = caches.plain.name
    assert run("info", name).fields["cache"] == str(caches.plain)
    assert run("info", name, "--json").json["cache"] == str(caches.plain)
    copy_of(caches.memory, tmp_path).rename(tmp_path / name)
    result = run("info", name).fields
    assert (result["cache"], result["memory slots"]) == (str(tmp_path / name), str(MEMORY))
