"""`memxlnet build --parts` and what the other commands make of a list of parts."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from memxlnet.evaluate.ceiling import answer_ceiling
from memxlnet.parts import Parts
from memxlnet.sample import sample_tokenizer_directory
from tests.builder.parts import rows_of, write_files
from tests.cli.helpers import Result, error, usage_error
from tests.format.content import files_of
from tests.report.helpers import data_of

Run = Callable[..., Result]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_files(tmp_path / "data", {name: rows_of(name) for name in "abc"})


def build(run: Run, source: Path, cache_dir: Path, *options: object) -> Result:
    work = ("--max-seq-length", 48, "--doc-stride", 8, "--workers", 0, "--no-progress")
    return run("build", source, "--tokenizer", sample_tokenizer_directory(), "--cache-dir", cache_dir, *work, *options)


def test_parts_are_built_listed_shown_sent_fetched_and_compacted(run: Run, tmp_path: Path, source: Path) -> None:
    first = build(run, source, tmp_path / "caches", "--parts", "--json")
    assert (first.code, first.json["caches"], first.json["built"], first.json["documents"]) == (0, 3, 3, 12)
    write_files(tmp_path / "data", {"d": rows_of("d")})
    second = build(run, source, tmp_path / "caches", "--parts")
    assert (second.fields["caches"], second.fields["built"], second.fields["hidden"]) == ("4", "1", "0")
    directory = Path(second.fields["parts"])
    listed = run("ls", tmp_path / "caches").lines
    assert listed[1][:4] == [directory.name, "train", second.fields["segments"], "16"]
    assert len(listed) == 6
    shown = run("info", directory)
    assert shown.fields["caches"] == "4"
    assert [line[1] for line in shown.section("parts")[1:]] == [f"{name}.jsonl" for name in "abcd"]
    assert [part["documents"] for part in run("info", directory, "--json").json["parts"]] == [4] * 4
    store = f"file://{tmp_path}/store"
    assert run("push", directory, store) == (0, "", "")
    assert run("pull", store, "--cache-dir", tmp_path / "other").out == f"{tmp_path}/other/{directory.name}\n"
    done = run("compact", directory, "--cache-dir", tmp_path / "one", "--json").json
    built = build(run, source, tmp_path / "two", "--json").json
    assert files_of(Path(done["cache"])) == files_of(Path(built["cache"]))
    assert Path(done["cache"]).name == Path(built["cache"]).name


def test_options_of_parts(run: Run, tmp_path: Path, source: Path) -> None:
    write_files(tmp_path / "data", {"d": rows_of("a", 2)})
    options = ("--parts", "--files-per-part", 2, "--name", "nightly")
    assert "its id is that of an example of a.jsonl" in error(build(run, source, tmp_path / "caches", *options))
    done = build(run, source, tmp_path / "caches", *options, "--on-repeated-id", "newest")
    assert (done.code, done.fields["caches"], done.fields["hidden"]) == (0, "2", "2")
    assert Path(done.fields["parts"]).name.startswith("nightly--train--")


def test_chunks_of_parts_travel_through_a_scratch_store(run: Run, tmp_path: Path, source: Path) -> None:
    place = tmp_path / "scratch"
    found = build(run, source, tmp_path / "caches", "--parts", "--scratch", place.as_uri())
    assert (found.code, found.fields["built"]) == (0, "3")
    assert [path for path in place.rglob("*") if path.is_file()] == []
    assert error(build(run, source, tmp_path / "caches", "--parts", "--scratch", "x")).startswith("--scratch: expected")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--parts", "--estimate"), "--estimate: applies to one cache, found --parts with it"),
        (("--files-per-part", 2), "--files-per-part, --name: apply to parts, found no --parts with them"),
        (("--name", "x"), "--files-per-part, --name: apply to parts, found no --parts with them"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together(
    run: Run, tmp_path: Path, source: Path, options: tuple[object, ...], message: str
) -> None:
    assert usage_error(build(run, source, tmp_path / "caches", *options)) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--parts", "--max-examples", 3), "--max-examples: expected None for parts"),
        (("--parts", "--on-repeated-id", "number"), "--on-repeated-id: expected 'error' or 'newest', found 'number'"),
        (("--on-repeated-id", "newest"), "--on-repeated-id: expected 'error' or 'number', found 'newest'"),
    ],
    ids=str,
)
def test_errors_name_the_options(
    run: Run, tmp_path: Path, source: Path, options: tuple[object, ...], message: str
) -> None:
    assert message in error(build(run, source, tmp_path / "caches", *options))


def arguments_of(folder: Path) -> dict[str, list[object]]:
    out = folder / "out.html"
    return {"show": ["0"], "report": ["-o", out], "export": ["-o", out, "--format", "jsonl"]}


@pytest.mark.parametrize("command", ["info", "compact", "push", "verify", "stats", "show", "report", "export"])
def test_a_list_that_is_missing(run: Run, tmp_path: Path, command: str) -> None:
    more = [f"file://{tmp_path}/store"] if command == "push" else arguments_of(tmp_path).get(command, [])
    assert "expected the directory of a list of parts, found none" in error(run(command, tmp_path / "x.parts", *more))


def test_a_list_is_removed_with_its_caches(run: Run, tmp_path: Path, source: Path) -> None:
    caches = tmp_path / "caches"
    directory = Path(build(run, source, caches, "--parts").fields["parts"])
    second = build(run, tmp_path / "data" / "a*.jsonl", caches, "--parts")
    other = Path(second.fields["parts"])
    (shared,) = [cache for cache in caches.iterdir() if cache.name.startswith("a--")]
    shown = run("rm", directory, "--dry-run").lines
    assert [line[0].rsplit("/", 1)[1].split("--")[0] for line in shown] == ["data", "b", "c"]
    assert directory.is_dir()
    assert run("rm", directory, "--yes").lines == shown
    assert {path.name for path in caches.iterdir() if path.is_dir() and path.name[0] != "."} == {
        shared.name,
        other.name,
    }


def test_retention_leaves_what_a_list_names(run: Run, tmp_path: Path, source: Path) -> None:
    caches = tmp_path / "caches"
    build(run, source, caches, "--parts")
    build(run, source, caches)
    for manifest in caches.glob("*/manifest.json"):
        os.utime(manifest, (0, 0))
    found = run("rm", "--older-than", "30d", "--cache-dir", caches).lines
    assert [Path(line[0]).name.split("--")[0] for line in found[1:]] == ["a-and-2-more"]


def test_caches_that_no_list_names_any_more_are_removed_on_request(run: Run, tmp_path: Path, source: Path) -> None:
    caches = tmp_path / "caches"
    directory = Path(build(run, source, caches, "--parts").fields["parts"])
    (former,) = caches.glob("b--*")
    assert run("rm", "--unlisted", directory) == (0, "", "nothing to remove\n")
    write_files(tmp_path / "data", {"b": rows_of("b", 5)})
    build(run, source, caches, "--parts")
    shown = run("rm", "--unlisted", "--dry-run", directory)
    assert [line[0] for line in shown.lines] == [str(former)]
    assert former.is_dir()
    assert run("rm", "--unlisted", "--yes", directory) == shown
    assert (former.exists(), len(list(caches.glob("*/manifest.json")))) == (False, 3)
    assert run("info", directory).fields["no longer listed"] == "0"
    for option in ("--old", "--leftovers", "--keep=3"):
        assert "--unlisted" in usage_error(run("rm", "--unlisted", option, directory))
    assert "expected the directory of a list of parts" in error(run("rm", "--unlisted", caches))
    assert "expected a local directory" in error(run("rm", "--unlisted", "s3://bucket/x.parts"))


def test_all_that_lies_in_a_directory_is_removed_at_once(run: Run, tmp_path: Path, source: Path) -> None:
    caches = tmp_path / "caches"
    build(run, source, caches, "--parts")
    build(run, tmp_path / "data" / "a*.jsonl", caches, "--parts")
    everything = sorted(path for path in caches.iterdir() if path.name[0] != ".")
    lists = [path for path in everything if path.suffix == ".parts"]
    assert sorted(line[0] for line in run("rm", "--dry-run", *lists).lines) == list(map(str, everything))
    shown = run("rm", "--yes", *everything)
    assert (shown.code, sorted(line[0] for line in shown.lines)) == (0, list(map(str, everything)))
    assert [path for path in caches.iterdir() if path.name[0] != "."] == []


def test_what_an_unfinished_first_build_left_is_no_list_and_goes(run: Run, tmp_path: Path, source: Path) -> None:
    caches = tmp_path / "caches"
    directory = Path(build(run, source, caches, "--parts").fields["parts"])
    (directory / "parts.json").unlink()
    assert directory.name not in run("ls", caches).out
    assert run("rm", "--yes", directory).code == 0
    assert not directory.exists()
    assert len(list(caches.glob("*/manifest.json"))) == 3


@pytest.fixture
def listed(run: Run, tmp_path: Path, source: Path) -> Path:
    """A list of three parts; the second repeats an id of the first, which is hidden."""
    write_files(tmp_path / "data", {"b": [*rows_of("a", 1), *rows_of("b")]})
    options = ("--parts", "--on-repeated-id", "newest")
    return Path(build(run, source, tmp_path / "caches", *options).fields["parts"])


def part_of(listed: Path, name: str) -> Path:
    (part,) = listed.parent.glob(f"{name}--*")
    return part


@pytest.mark.parametrize("options", [(), ("--deep",)], ids=str)
def test_verify_checks_and_names_every_part(run: Run, listed: Path, options: tuple[str, ...]) -> None:
    names = [str(part_of(listed, name)) for name in "abc"]
    shown = run("verify", listed, *options)
    assert (shown.code, [line.split(": ")[0] for line in shown.out.splitlines()]) == (0, [*names, str(listed)])
    assert run("verify", listed, *options, "--json").json["parts"] == [Path(name).name for name in names]
    Parts(listed).verify(deep=bool(options))


def test_stats_are_those_of_the_documents_that_a_list_shows(run: Run, listed: Path) -> None:
    shown = run("stats", listed, "--json").json
    assert (shown["documents"], shown["ceiling"]["documents"]) == (12, 12)
    found = Parts(listed).stats()
    assert (found.documents, found.segments) == (shown["documents"], shown["segments"])
    assert found.segments == len(Parts(listed).dataset())


def test_show_finds_an_example_in_its_part(run: Run, listed: Path) -> None:
    for name, example in (("b", "a-0"), ("a", "a-3"), ("c", "c-1")):
        shown = run("show", listed, "--id", example, "--json").json
        assert (shown["cache"], shown["example_id"]) == (str(part_of(listed, name)), example)
        assert run("show", shown["cache"], shown["row"], "--json").json == shown
        assert run("show", listed, "--id", example).fields["cache"] == shown["cache"]
    dataset = Parts(listed).dataset()
    for row, example in ((0, "a-1"), (len(dataset) - 1, "c-3")):
        (found,) = dataset.metadata(dataset.rows([row]), ["example_id"])
        assert run("show", listed, row, "--json").json["example_id"] == dataset[row]["example_id"] == example
        assert found == {"example_id": example}
    assert f"to {len(dataset) - 1}, found" in error(run("show", listed, len(dataset)))
    assert run("show", listed, "--contradictions", "--json").json == []


def test_a_report_is_about_the_documents_that_a_list_shows(run: Run, tmp_path: Path, listed: Path) -> None:
    page, file = tmp_path / "page.html", tmp_path / "run.json"
    ids = list(Parts(listed).dataset().get_all_documents())
    file.write_text(json.dumps(dict.fromkeys(ids, "1898")))
    assert run("report", listed, "-o", page, "--predictions", file).code == 0
    text = page.read_text(encoding="utf-8")
    found = data_of(text)["documents"]
    assert (len(found), sorted(document["id"] for document in found)) == (12, sorted(ids))
    assert listed.name in text
    assert "<strong>12</strong>" in text
    ceiling = answer_ceiling(listed)
    assert (ceiling.documents, ceiling) == (12, answer_ceiling(Parts(listed).dataset()))


def test_a_list_is_exported_without_hidden_documents(run: Run, tmp_path: Path, listed: Path) -> None:
    shown = run("export", listed, "--format", "jsonl", "-o", tmp_path / "out", "--json").json
    assert (shown["files"], len((tmp_path / "out" / "documents.jsonl").read_text().splitlines())) == (3, 12)


def test_the_page_has_the_dropped_examples_of_all_parts(run: Run, tmp_path: Path, source: Path) -> None:
    write_files(tmp_path / "data", {"b": [*rows_of("b"), {"id": "bad-1", "question": 1, "context": None}]})
    options = ("--parts", "--on-bad-example", "drop")
    directory = Path(build(run, source, tmp_path / "caches", *options).fields["parts"])
    assert run("report", directory, "-o", tmp_path / "page.html").code == 0
    assert "bad-1" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_source_is_compared_with_one_cache(run: Run, listed: Path, source: Path) -> None:
    assert "--against: applies to one cache, found the list of parts" in error(
        run("verify", listed, "--against", source)
    )


def _take_away(listed: Path) -> None:
    shutil.rmtree(part_of(listed, "b"))


def _replace(listed: Path) -> None:
    shutil.rmtree(part_of(listed, "b"))
    shutil.copytree(part_of(listed, "a"), listed.parent / Parts(listed).list.parts[1].cache)


def _damage_manifest(listed: Path) -> None:
    (part_of(listed, "b") / "manifest.json").write_bytes(b"{}")


def _damage_list(listed: Path) -> None:
    (listed / "parts.json").write_bytes(b"{}")


@pytest.mark.parametrize("command", ["verify", "stats", "show", "report", "export"])
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_take_away, "expected the cache of b.jsonl, which the list of parts"),
        (_replace, "expected the cache with the fingerprint"),
        (_damage_manifest, "manifest.json"),
        (_damage_list, "parts.json"),
    ],
    ids=["missing", "foreign", "damaged", "list"],
)
def test_what_is_wrong_with_a_list_is_an_error_everywhere(
    run: Run, tmp_path: Path, listed: Path, command: str, harm: Callable[[Path], None], message: str
) -> None:
    harm(listed)
    result = run(command, listed, *arguments_of(tmp_path).get(command, []))
    assert message in error(result)
    assert result.code == 5


def test_verify_finds_a_byte_of_a_part_and_hidden_documents_that_are_not_repeated(run: Run, listed: Path) -> None:
    parts = Parts(listed).list
    shown = replace(parts, parts=tuple(replace(part, hidden=()) for part in parts.parts))
    (listed / "parts.json").write_bytes(shown.encode())
    assert "expected document 0 ('a-0') to be hidden, found it shown" in error(run("verify", listed))
    first = replace(parts, parts=(replace(parts.parts[0], hidden=((0, 2),)), *parts.parts[1:]))
    (listed / "parts.json").write_bytes(first.encode())
    assert "expected document 1 ('a-1') to be shown, found it hidden" in error(run("verify", listed))
    (listed / "parts.json").write_bytes(parts.encode())
    with (part_of(listed, "c") / "tokenizer.json").open("ab") as file:
        file.write(b" ")
    assert str(part_of(listed, "c")) in error(run("verify", listed))
