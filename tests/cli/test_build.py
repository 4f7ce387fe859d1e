"""`memxlnet build`: every option reaches the settings, the estimate comes first, errors name options."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arrow_schemas import ALIGNMENTS
from memxlnet.builder.builder import Build
from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.cli.build import command
from memxlnet.errors import SettingsError
from memxlnet.format.manifest import read_manifest
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.maintain.removal import find_leftovers
from memxlnet.sample import sample_file, sample_tokenizer_directory
from memxlnet.settings import BuildSettings, EncodeSettings
from tests.cli.helpers import Caches, Result, change_manifest, error, files_of, usage_error
from tests.load.helpers import oracle_rows, sample_tokenizer, varied_examples
from tests.support import example, long_examples, slow, write_json_lines

Run = Callable[..., Result]

TOKENIZER = ("--tokenizer", sample_tokenizer_directory())
SMALL = ("--max-seq-length", 64, "--doc-stride", 16)
SHOWN = [
    *("cache", "built", "segments", "documents", "contexts", "bytes"),
    *(f"answers {status}" for status in ALIGNMENTS),
    *("answers in no segment", "contradictions", "examples dropped", "seconds"),
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_json_lines(tmp_path / "long.jsonl", long_examples(9))


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "caches"


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def set_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """What is free to the eyes of the estimate; publishing looks again by itself."""
    monkeypatch.setattr("memxlnet.builder.estimate.free_bytes", lambda _: free)


def only_cache(cache_dir: Path) -> Path:
    (directory,) = cache_dir.glob("[!.]*")
    return directory


# --- building


def write_source(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        return write_json_lines(path, rows)
    if path.suffix == ".json":
        path.write_text(json.dumps({"data": rows}), encoding="utf-8")
        return path
    table = pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("suffix", [slow(".json"), ".jsonl", ".parquet", slow(".arrow")])
def test_a_file_of_every_kind_becomes_the_same_cache(run: Run, tmp_path: Path, cache_dir: Path, suffix: str) -> None:
    rows = varied_examples()
    source = write_source(tmp_path / f"varied{suffix}", rows)
    result = run("build", source, *TOKENIZER, *SMALL, "--cache-dir", cache_dir)
    assert result.code == 0
    assert list(result.fields) == SHOWN
    dataset = CacheDataset(Path(result.fields["cache"]))
    expected = oracle_rows(sample_tokenizer(), rows, 64, 16)
    assert [row["input_ids"].tolist() for row in dataset] == [row["input_ids"] for row in expected]
    assert dataset.directory.parent == cache_dir
    assert dataset.manifest.split == "train"
    assert [int(result.fields[name]) for name in SHOWN[2:6]] == [
        len(expected),
        len(rows),
        len({row["context"] for row in rows}),
        dataset.manifest.num_bytes,
    ]
    assert {name: int(result.fields[f"answers {name}"]) for name in dataset.manifest.alignment} == (
        dataset.manifest.alignment
    )
    assert (result.fields["answers in no segment"], result.fields["examples dropped"]) == ("0", "0")


def test_the_counts_as_json(run: Run, source: Path, cache_dir: Path) -> None:
    result = run("build", source, *TOKENIZER, *SMALL, "--cache-dir", cache_dir, "--json")
    assert (result.code, result.err) == (0, "")
    assert list(result.json) == [name.replace(" ", "_") for name in SHOWN]
    manifest = read_manifest(only_cache(cache_dir))
    assert result.json["cache"] == str(only_cache(cache_dir))
    assert result.json["built"] is True
    assert result.json["segments"] == manifest.tables["features"].rows
    assert result.json["documents"] == result.json["contexts"] == 9
    assert (result.json["answers_exact"], result.json["answers_unanswerable"]) == (6, 3)
    assert result.json["bytes"] == manifest.num_bytes
    assert isinstance(result.json["seconds"], float)


def test_what_decides_the_values_reaches_the_manifest(run: Run, source: Path, cache_dir: Path) -> None:
    options = ["--split", "dev", "--max-seq-length", 60, "--doc-stride", 10, "--max-n-segs", 3, "--max-examples", 7]
    options += ["--memory-tokens", 2, "--on-bad-example", "drop", "--max-shard-rows", 5]
    options += ["--on-contradiction", "answers"]
    assert run("build", source, *TOKENIZER, "--cache-dir", cache_dir, *options).code == 0
    manifest = read_manifest(only_cache(cache_dir))
    assert manifest.settings == {
        "max_seq_length": 60,
        "doc_stride": 10,
        "max_n_segs": 3,
        "max_examples": 7,
        "insert_memory_tokens": True,
        "on_bad_example": "drop",
        "on_contradiction": "answers",
        "on_repeated_id": "error",
    }
    assert (manifest.split, manifest.layout.num_memory_tokens) == ("dev", 2)
    assert (manifest.tables["documents"].rows, manifest.tables["features"].rows) == (7, 21)
    assert [shard.row_stop for shard in manifest.tables["features"].shards] == [5, 10, 15, 20, 21]


def test_the_defaults_are_those_of_the_library(run: Run, source: Path, cache_dir: Path) -> None:
    assert run("build", source, *TOKENIZER, "--cache-dir", cache_dir).code == 0
    manifest = read_manifest(only_cache(cache_dir))
    assert manifest.settings == EncodeSettings().fields()
    assert manifest.layout.num_memory_tokens == 0


class Asked(NamedTuple):
    """What a build was asked for."""

    source: str
    split: str
    encode: EncodeSettings
    cache_dir: Path
    options: Mapping[str, Any]
    build: BuildSettings


def asked(run: Run, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Asked:
    """The settings that the command hands on; nothing is built."""
    found: list[Any] = []

    class Stop(Build):
        def __init__(self, source: str, split: str, _: Any, encode: EncodeSettings, directory: Path, options: Any):
            found.extend([source, split, encode, directory, options])

        def find(self, _: Path) -> Path | None:
            return Path("found")

    def stop(_: Any, build: BuildSettings, __: Any) -> None:
        found.append(build)
        raise SettingsError("stopped here")

    monkeypatch.setattr("memxlnet.cli.build.Build", Stop)
    monkeypatch.setattr("memxlnet.cli.build.build_cache", stop)
    monkeypatch.setattr("memxlnet.cli.build.estimate_size", lambda *_: None)
    monkeypatch.setattr("memxlnet.cli.build._one_line", lambda _: "")
    monkeypatch.setattr("memxlnet.cli.build.load_tokenizer", lambda *_: None)
    assert "stopped here" in run("build", *arguments, "--no-space-check").err
    return Asked(*found)


OPTIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "--split": ("dev", {"split": "dev"}),
    "--max-seq-length": (99, {"max_seq_length": 99}),
    "--doc-stride": (9, {"doc_stride": 9}),
    "--max-n-segs": (3, {"max_n_segs": 3}),
    "--max-examples": (8, {"max_examples": 8}),
    "--on-bad-example": ("drop", {"on_bad_example": "drop"}),
    "--on-contradiction": ("unanswerable", {"on_contradiction": "unanswerable"}),
    "--on-repeated-id": ("number", {"on_repeated_id": "number"}),
    "--max-dropped": ("1%", {"max_dropped": 0.01}),
    "--max-lost-answers": (5, {"max_lost_answers": 5}),
    "--keep": ("title", {"keep": ("title",)}),
    "--keep-all": (None, {"keep": "all"}),
    "--workers": (2, {"num_workers": 2}),
    "--max-memory-gb": (1.5, {"max_memory_gb": 1.5}),
    "--chunk-size": (77, {"streaming_chunk_size": 77}),
    "--max-shard-rows": (1234, {"max_shard_rows": 1234}),
    "--config-name": ("plain", {"config_name": "plain"}),
    "--revision": ("v2", {"revision": "v2"}),
    "--form": ("coqa", {"form": "coqa"}),
    "--column": ("question=query", {"columns": {"question": "query"}}),
    "--locate": ("all", {"locate": "all"}),
    "--offsets": ("bytes", {"offsets": "bytes"}),
    "--rebuild": (None, {"rebuild": True}),
    "--progress": (None, {"progress": True}),
    "--no-progress": (None, {"progress": False}),
}


def values(found: Asked) -> dict[str, Any]:
    return {"split": found.split, **vars(found.encode), **vars(found.options), **vars(found.build)}


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_reaches_its_setting_and_no_other(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str
) -> None:
    value, expected = OPTIONS[option]
    base = ["x.json", "--tokenizer", "x", "--cache-dir", tmp_path]
    plain = asked(run, monkeypatch, *base)
    changed = asked(run, monkeypatch, *base, option, *([] if value is None else [value]))
    assert (changed.source, changed.cache_dir) == ("x.json", tmp_path)
    assert values(changed) == {**values(plain), **expected} != values(plain)


def test_all_options_are_tested() -> None:
    others = {"--tokenizer", "--cache-dir", "--memory-tokens", "--estimate", "--no-space-check", "--json", "--verbose"}
    others |= {"--quiet", "--log-format", "--heartbeat", "--config", "--output"}  # tests of what all commands share
    others |= {"--parts", "--files-per-part", "--name"}  # tests of parts
    others |= {"--work-dir", "--scratch"}  # tests of stores
    options = {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {option for option in options if option.startswith("--")} == {*OPTIONS, *others}


def test_the_cache_directory_comes_from_the_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch, caches: Caches
) -> None:
    monkeypatch.setenv("MEMXLNET_CACHE_DIR", str(caches.directory))
    result = run("build", caches.source, "--split", "test", *TOKENIZER, "--max-seq-length", 48, "--doc-stride", 12)
    assert result.fields["cache"] == str(caches.plain)


# --- a second time


def test_a_second_call_finds_the_cache_and_looks_at_nothing_else(
    run: Run, monkeypatch: pytest.MonkeyPatch, source: Path, cache_dir: Path
) -> None:
    arguments = ["build", source, *TOKENIZER, *SMALL, "--cache-dir", cache_dir]
    first = run(*arguments)
    before = files_of(cache_dir)
    set_free(monkeypatch, 0)
    second = run(*arguments)
    assert (second.code, second.err) == (0, "")
    assert files_of(cache_dir) == before
    assert (first.fields["built"], second.fields["built"]) == ("yes", "no, it was there")
    same = {"seconds": "", "built": ""}
    assert {**second.fields, **same} == {**first.fields, **same}
    assert run(*arguments, "--json").json["built"] is False


def test_a_rebuild_makes_new_files_with_the_same_bytes(run: Run, source: Path, cache_dir: Path) -> None:
    arguments = ["build", source, *TOKENIZER, *SMALL, "--cache-dir", cache_dir]
    assert run(*arguments).code == 0
    before, manifest = files_of(only_cache(cache_dir)), read_manifest(only_cache(cache_dir))
    result = run(*arguments, "--rebuild")
    assert (result.code, result.fields["built"]) == (0, "yes")
    assert "estimate: 9 examples" in result.err
    after = files_of(only_cache(cache_dir))
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    assert read_manifest(only_cache(cache_dir)) == manifest


def test_a_damaged_cache_is_not_taken_for_a_whole_one(run: Run, source: Path, cache_dir: Path) -> None:
    arguments = ["build", source, *TOKENIZER, *SMALL, "--cache-dir", cache_dir]
    assert run(*arguments).code == 0
    (only_cache(cache_dir) / "features-00000.arrow").write_bytes(b"short")
    message = error(run(*arguments))
    assert "features-00000.arrow" in message
    assert "--rebuild" in message
    assert run(*arguments, "--rebuild").code == 0
    CacheDataset(only_cache(cache_dir))


@pytest.mark.parametrize(
    ("damage", "message"), [("cut", "JSON"), ("altered", "checksum"), ("unreadable", os.strerror(errno.EISDIR))]
)
@pytest.mark.parametrize("options", [[], slow(["--estimate"])])
def test_a_cache_with_a_damaged_manifest_is_not_rebuilt_in_silence(
    run: Run, source: Path, cache_dir: Path, damage: str, message: str, options: list[str]
) -> None:
    arguments = ["build", source, *TOKENIZER, *SMALL, "--cache-dir", cache_dir]
    assert run(*arguments).code == 0
    manifest = only_cache(cache_dir) / "manifest.json"
    whole = read_manifest(manifest.parent)
    if damage == "altered":
        change_manifest(manifest.parent, dropped_examples=7)
    else:
        manifest.unlink()
        # Whoever runs the tests may read every file, but not a directory.
        manifest.write_text("{") if damage == "cut" else manifest.mkdir()
    before = files_of(cache_dir)
    shown = error(run(*arguments, *options))
    assert shown.startswith(f"{manifest}: ")
    assert message in shown
    assert "--rebuild" in shown
    assert files_of(cache_dir) == before
    assert run(*arguments, "--rebuild").code == 0
    assert read_manifest(only_cache(cache_dir)) == whole


def test_other_settings_make_another_cache(run: Run, source: Path, cache_dir: Path) -> None:
    for stride in (16, 17):
        assert run("build", source, *TOKENIZER, *SMALL, "--doc-stride", stride, "--cache-dir", cache_dir).code == 0
    assert len(list(cache_dir.glob("[!.]*"))) == 2


def test_an_interrupted_build_resumes_after_its_chunks(
    run: Run, monkeypatch: pytest.MonkeyPatch, source: Path, cache_dir: Path, tmp_path: Path
) -> None:
    arguments = ["build", source, *TOKENIZER, *SMALL, "--chunk-size", 2, "--workers", 0, "--cache-dir"]
    written: list[int] = []
    real = CacheWriter.write_chunk

    def write(writer: CacheWriter, index: int, tables: Any) -> Any:
        written.append(index)
        if written == [0, 1, 2]:
            raise KeyboardInterrupt
        return real(writer, index, tables)

    monkeypatch.setattr(CacheWriter, "write_chunk", write)
    result = run(*arguments, cache_dir)
    assert (result.code, result.out) == (130, "")
    assert result.err.splitlines()[1:] == ["memxlnet: interrupted"]
    assert list(cache_dir.glob("[!.]*")) == []
    assert [each.kind for each in find_leftovers(cache_dir)] == ["build"]
    assert run(*arguments, cache_dir).code == 0
    assert written == [0, 1, 2, 2, 3, 4]
    assert find_leftovers(cache_dir) == []
    assert run(*arguments, tmp_path / "at once").code == 0
    assert read_manifest(only_cache(cache_dir)) == read_manifest(only_cache(tmp_path / "at once"))


# --- the estimate


def test_the_estimate_builds_nothing(run: Run, source: Path, cache_dir: Path) -> None:
    arguments = ["build", source, *TOKENIZER, *SMALL, "--cache-dir", cache_dir]
    result = run(*arguments, "--estimate")
    assert (result.code, result.err) == (0, "")
    assert list(result.fields) == ["sampled", "examples", "features", "num_bytes", "peak_bytes", "free_bytes"]
    assert not cache_dir.exists()
    found = run(*arguments, "--estimate", "--json").json
    assert {name: str(value) for name, value in found.items() if name != "free_bytes"} == {
        name: value for name, value in result.fields.items() if name != "free_bytes"
    }
    assert 0 < found["free_bytes"] <= shutil.disk_usage(cache_dir.parent).total
    assert not cache_dir.exists()
    built = run(*arguments)
    assert built.err == (
        f"estimate: 9 examples, about {found['features']:,} segments, {found['num_bytes'] / 1000:.3g} kB "
        f"({found['peak_bytes'] / 1000:.3g} kB while it is built)\n"
    )
    assert int(built.fields["segments"]) == found["features"]
    assert int(built.fields["documents"]) == found["examples"]
    # It is shown again where the cache is there.
    assert run(*arguments, "--estimate", "--json").json["features"] == found["features"]


def test_an_estimate_from_a_part_is_marked(
    run: Run, monkeypatch: pytest.MonkeyPatch, source: Path, cache_dir: Path
) -> None:
    monkeypatch.setattr("memxlnet.builder.estimate.SAMPLE_EXAMPLES", 3)
    result = run("build", source, *TOKENIZER, *SMALL, "--cache-dir", cache_dir)
    assert result.code == 0
    assert result.err.startswith("estimate: 9 examples, about ")
    assert result.err.endswith(", estimated from the first 3\n")


def test_an_unknown_size_is_shown_and_builds_all_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch, source: Path, cache_dir: Path
) -> None:
    monkeypatch.setattr("memxlnet.builder.estimate.SAMPLE_EXAMPLES", 3)
    monkeypatch.setattr("memxlnet.sources.file_origin.Files.count", lambda _: None)
    set_free(monkeypatch, 0)
    arguments = ["build", source, *TOKENIZER, *SMALL, "--cache-dir", cache_dir]
    result = run(*arguments, "--estimate")
    assert result.fields["sampled"] == "3"
    assert {result.fields[name] for name in ("examples", "features", "num_bytes", "peak_bytes")} == {"unknown"}
    assert run(*arguments, "--estimate", "--json").json["examples"] is None
    built = run(*arguments)
    assert built.code == 0
    assert built.err.startswith("estimate: unknown size; the source does not give its length (3 examples")


def test_a_disk_without_room_is_refused_before_anything_is_written(
    run: Run, monkeypatch: pytest.MonkeyPatch, source: Path, cache_dir: Path
) -> None:
    arguments = ["build", source, *TOKENIZER, *SMALL, "--cache-dir", cache_dir]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10**12, 10**12 - 1000, 1000))
    result = run(*arguments)
    assert (result.code, result.out) == (7, "")
    estimate, message = result.err.splitlines()
    assert estimate.startswith("estimate: 9 examples")
    assert message.startswith(f"memxlnet: error: {cache_dir}: ")
    assert re.search(r"\b1,000\b.*--cache-dir.*--max-examples.*--no-space-check", message)
    assert not cache_dir.exists()
    assert run(*arguments, "--estimate").fields["free_bytes"] == "1000"


def test_without_the_space_check_it_begins(
    run: Run, monkeypatch: pytest.MonkeyPatch, source: Path, cache_dir: Path
) -> None:
    arguments = ["build", source, *TOKENIZER, *SMALL, "--cache-dir", cache_dir]
    set_free(monkeypatch, 1000)
    assert run(*arguments).code == 7
    assert not cache_dir.exists()
    assert run(*arguments, "--no-space-check").code == 0
    assert only_cache(cache_dir)


# --- progress


def test_progress_is_shown_on_a_terminal_or_on_request(run: Run, source: Path, tmp_path: Path) -> None:
    def found(*options: str) -> str:
        name = tmp_path / f"caches{len(options)}{options[-1] if options else ''}"
        return run("build", source, *TOKENIZER, *SMALL, "--cache-dir", name, *options).err

    estimate, *rest = found().splitlines()
    assert estimate.startswith("estimate: ")
    assert rest == []
    assert found("--no-progress").splitlines() == [estimate]
    assert "long/train: 100%" in found("--progress")
    assert "\r" in found("--json", "--progress")


# --- errors


def bad_files(folder: Path) -> dict[str, Path]:
    good = example("Context of it.", id="good")
    paths = {
        "empty.json": "",
        "empty.jsonl": "",
        "no examples.json": "[]",
        "cut.json": '{"data": [',
        "cut.jsonl": json.dumps(good) + '\n{"id": ',
        "no.parquet": "PAR1 nothing",
        "no.arrow": "nothing",
        "number.jsonl": json.dumps(good) + "\n" + json.dumps({**good, "id": "bad", "context": 5}),
        "question.jsonl": json.dumps({**good, "id": "bad\x1b[31m", "question": "word " * 400}),
        "good.jsonl": json.dumps(good),
    }
    for name, content in paths.items():
        (folder / name).write_text(content)
    return {name: folder / name for name in paths}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty.json", r"empty\.json, line 1, column 1:"),
        ("empty.jsonl", "^empty/train:"),
        ("no examples.json", "^no examples/train:"),
        ("cut.json", r"cut\.json, line 1\b"),
        ("cut.jsonl", r"cut\.jsonl, line 2\b"),
        ("no.parquet", r"no\.parquet:.*Parquet"),
        ("no.arrow", r"no\.arrow:.*Arrow"),
        ("number.jsonl", r"number\.jsonl, example 'bad' \(row 1\): field 'context':.*found int\b"),
        ("question.jsonl", "--max-seq-length.*--doc-stride.*--on-bad-example drop"),
        ("missing.json", r"missing\.json:"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--estimate"]])
def test_a_bad_source_is_an_error_before_anything_is_written(
    run: Run, tmp_path: Path, cache_dir: Path, name: str, message: str, options: list[str]
) -> None:
    path = bad_files(tmp_path).get(name, tmp_path / name)
    shown = error(run("build", path, *TOKENIZER, "--cache-dir", cache_dir, *options))
    assert re.search(message, shown), shown
    assert shown.isprintable()
    assert not cache_dir.exists()


def test_a_bad_example_is_dropped_on_request(run: Run, tmp_path: Path, cache_dir: Path) -> None:
    path = bad_files(tmp_path)["number.jsonl"]
    result = run("build", path, *TOKENIZER, "--cache-dir", cache_dir, "--on-bad-example", "drop")
    assert result.code == 0
    assert (result.fields["documents"], result.fields["examples dropped"]) == ("1", "1")
    assert result.err.startswith("estimate: 2 examples, about 1 segments")
    dropped = json.loads((only_cache(cache_dir) / "dropped.jsonl").read_text())
    assert dropped["id"] == "bad"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-seq-length", 0], "^--max-seq-length:.*found 0$"),
        (["--max-seq-length", 4], r"^--max-seq-length:.* 5\b"),
        (["--max-seq-length", 2**31 - 1], "--max-memory-gb 8 "),
        (["--doc-stride", -1], "^--doc-stride:.*found -1$"),
        (["--doc-stride", 400], "^--doc-stride:.* 381 .*--max-seq-length 384 "),
        (["--max-n-segs", 0], "^--max-n-segs:.*found 0$"),
        (["--max-examples", 0], "^--max-examples:.*found 0$"),
        (["--memory-tokens", -1], "^--memory-tokens:.*found -1$"),
        (["--memory-tokens", 500], r"^--max-seq-length:.* 1005\b"),
        (["--workers", -1], "^--workers:.*found -1$"),
        (["--max-memory-gb", 0], r"^--max-memory-gb:.*found 0\.0$"),
        (["--max-memory-gb", "nan"], "^--max-memory-gb:.*found nan$"),
        (["--chunk-size", 0], "^--chunk-size:.*found 0$"),
        (["--max-shard-rows", 0], "^--max-shard-rows:.*found 0$"),
        (["--split", ""], "^--split:"),
        (["--config-name", "x"], "^--config-name:.*'x'"),
        (["--revision", "x"], "^--revision:.*'x'"),
        (["--tokenizer", ""], "^--tokenizer:.*''"),
        (["--tokenizer", "./no"], r"^--tokenizer:.*'\./no'"),
        (["--tokenizer", "no/such"], "^--tokenizer:.*'no/such'"),
    ],
)
def test_errors_name_options_and_no_parameters(
    run: Run, tmp_path: Path, cache_dir: Path, options: list[Any], message: str
) -> None:
    shown = error(run("build", bad_files(tmp_path)["good.jsonl"], *TOKENIZER, "--cache-dir", cache_dir, *options))
    assert re.search(message, shown), shown
    names = {*EncodeSettings.__dataclass_fields__, *BuildSettings.__dataclass_fields__} - {"progress", "rebuild"}
    names |= {"cache_dir", "dataset_name", "config_name", "memory_num_tokens", "None"}
    assert [name for name in names if name in shown] == []
    assert not cache_dir.exists()


def test_a_column_named_twice_is_refused(run: Run, tmp_path: Path) -> None:
    options = ["--column", "question=a", "--column", "question=b"]
    message = usage_error(run("build", bad_files(tmp_path)["good.jsonl"], *TOKENIZER, *options))
    assert "['question']" in message


@pytest.mark.parametrize("name", ["max_examples", "max_examples=5", "rebuild=True", "it's max_examples"])
def test_an_id_is_no_parameter(run: Run, tmp_path: Path, cache_dir: Path, name: str) -> None:
    source = write_json_lines(tmp_path / "x.jsonl", [example("Context.", "word " * 400, id=name)])
    message = error(run("build", source, *TOKENIZER, "--cache-dir", cache_dir))
    assert f"example {name!r} " in message
    assert "--max-seq-length" in message


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "SOURCE:"),
        ("nothing://example.org/x", "SOURCE:.*'nothing'"),
        ("???", r"SOURCE:.*'\?\?\?'"),
        ("squad_v2", "squad_v2:"),
    ],
)
def test_a_source_that_does_not_exist(run: Run, cache_dir: Path, source: str, message: str) -> None:
    assert re.match(message, error(run("build", source, *TOKENIZER, "--cache-dir", cache_dir)))
    assert not cache_dir.exists()


def test_a_cache_directory_that_cannot_be_one(run: Run, tmp_path: Path) -> None:
    paths = bad_files(tmp_path)
    arguments = ["build", paths["good.jsonl"], *TOKENIZER, "--json", "--cache-dir"]
    message = error(run(*arguments, paths["empty.json"]))
    assert message.startswith(f"{paths['empty.json']}: ")
    assert "--cache-dir" in message
    assert "File name too long" in error(run(*arguments, tmp_path / ("x" * 300)))
    assert "expected a path, found an empty one" in usage_error(run(*arguments, ""))


def test_a_memory_bound_that_cannot_be_kept(run: Run, tmp_path: Path, cache_dir: Path) -> None:
    path = bad_files(tmp_path)["good.jsonl"]
    result = run("build", path, *TOKENIZER, "--cache-dir", cache_dir, "--max-memory-gb", 0.001, "--json")
    assert re.search("--max-memory-gb.*--workers", error(result))


def test_the_sample_with_memory_tokens(run: Run, cache_dir: Path) -> None:
    lengths = ["--max-seq-length", 128, "--doc-stride", 32, "--memory-tokens", 4]
    result = run("build", sample_file(), *TOKENIZER, *lengths, "--cache-dir", cache_dir, "--json")
    dataset = CacheDataset(result.json["cache"])
    assert dataset.manifest.vocabulary_size == 2008
    assert result.json["segments"] == len(dataset) > result.json["documents"] == 96
    assert (result.json["answers_exact"], result.json["answers_unanswerable"]) == (73, 23)


# --- limits on what is lost


BROKEN = [*long_examples(7), {"id": "bad", "question": 5, "context": "x", "answers": None}]
LOST = [*BROKEN, {**example("The lamp was lit .", "who", [("ship", 4)]), "id": "gone"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--max-dropped", "0"],
            "--max-dropped: expected at most 0 dropped examples, found 1 of 9 (11.11%): example 'bad'",
        ),
        (["--max-dropped", "11.1%"], "--max-dropped: expected at most 11.1% dropped examples, found 1 of 9"),
        (["--max-lost-answers", "0"], "--max-lost-answers: expected at most 0 lost answers, found 1 of "),
        (["--max-dropped", "12%", "--max-lost-answers", "1"], ""),
    ],
)
def test_limits_have_an_exit_code_of_their_own(
    run: Run, tmp_path: Path, cache_dir: Path, options: list[str], message: str
) -> None:
    source = write_json_lines(tmp_path / "lost.jsonl", LOST)
    arguments = ["build", source, *TOKENIZER, *SMALL, "--cache-dir", cache_dir, "--on-bad-example", "drop", "--json"]
    result = run(*arguments, *options)
    if not message:
        assert (result.code, result.json["examples_dropped"], result.json["answers_dropped"]) == (0, 1, 1)
        return
    assert (result.code, result.json["error"]["class"]) == (3, "LossLimitError")
    assert message in error(result)
    assert list(cache_dir.glob("[!.]*")) == []
    assert run(*arguments).code == 0
    assert run(*arguments, *options).code == 3  # what exists is held to the limits as well
    assert only_cache(cache_dir)


@pytest.mark.parametrize("value", ["-1", "1.5", "0.01", "101%", "%", "1 %", "x", "1%%", "\u0661"])
def test_a_wrong_limit_is_wrong_usage(run: Run, value: str) -> None:
    for option in ("--max-dropped", "--max-lost-answers"):
        found = usage_error(run("build", "x.json", *TOKENIZER, f"{option}={value}"))
        assert "expected a count such as 25, or a share such as 1%, found " in found
