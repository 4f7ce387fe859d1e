"""`memxlnet show`: texts, answer, tokens and offsets of a segment, as the dataset gives them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from memxlnet.load.cache_dataset import CacheDataset
from tests import styles
from tests.cli.helpers import Caches, Result, copy_of, error, usage_error
from tests.load.helpers import sample_tokenizer, varied_examples
from tests.support import build, example, long_examples, slow, slow_but

Run = Callable[..., Result]

TOKEN_COLUMNS = ["position", "id", "token", "type", "start", "stop", "text", "role"]

TEXTS = (
    ("Paris is the capital. The river was born in 1990, naïve 中文 😀 e\u0301te\u0301.", "capital", "What is Paris?"),
    ("  leading blanks\tand\r\nlines\u2028of all kinds\u00a0here  ", "lines\u2028of", " \u200bWho  is \u0301it? "),
    ("[MEM_READ_0] <sep> [SEP] </s> and [[brackets]] \\[x] :smile:", "[[brackets]]", "[CLS] <cls> [x]?"),
    ("ÉÉÉ" + " the river of German Paris" * 24, "German", "who"),
    ("中 the", "中", "中 who"),
    (" \u200b😀", "😀", " \u0301 😀"),
)


def style_examples() -> list[dict[str, Any]]:
    return [
        example(context, question, [(answer, context.index(answer))], id=f"id {number}")
        for number, (context, answer, question) in enumerate(TEXTS)
    ]


def roles(dataset: CacheDataset, row: int) -> list[str]:
    """The role of each token of a row that is no padding, from its columns alone."""
    names = ["attention_mask", "context_row_start", "context_token_count", "question_row_start", "document"]
    names += ["start_positions", "end_positions", "has_answer_in_segment"]
    columns: dict[str, Any] = {name: values[0].tolist() for name, values in dataset.gather([row], names).items()}
    found = ["special"] * len(columns["attention_mask"])
    first, count, question = (columns[name] for name in names[1:4])
    found[first : first + count] = ["context"] * count
    length = len(dataset.cache.documents.numbers("question_token_starts", columns["document"]))
    found[question : question + length] = ["question"] * length
    memory = dataset.manifest.layout.num_memory_tokens
    found[question - memory : question] = ["memory read"] * memory
    found[first + count : first + count + memory] = ["memory write"] * memory
    if columns["has_answer_in_segment"]:
        answer = slice(columns["start_positions"], columns["end_positions"] + 1)
        assert set(found[answer]) == {"context"}
        found[answer] = ["answer"] * (answer.stop - answer.start)
    return [role for role, is_token in zip(found, columns["attention_mask"], strict=True) if is_token]


# --- tokens

QUICK = ["xlnet-sample", "bert-padded-left", "roberta", "llama3", "qwen2-text", "t5", "xlm-roberta", "split-special"]
"""One layout of each kind."""


@pytest.mark.parametrize("memory", [slow(0), 2])
@pytest.mark.parametrize("style", slow_but(QUICK, styles.STYLES))
def test_tokens_of_every_layout(run: Run, tmp_path: Path, style: str, memory: int) -> None:
    tokenizer = styles.make(style, memory)
    dataset = build(style_examples(), tokenizer, tmp_path, max_seq_length=72, doc_stride=8)
    assert len(dataset) > len(TEXTS)
    for row, item in enumerate(dataset):
        found = run("show", dataset.directory, row, "--json").json
        assert (found["row"], found["example_id"]) == (row, item["example_id"])
        tokens = found["tokens"]
        places = item["attention_mask"].nonzero().flatten().tolist()
        ids = item["input_ids"][places].tolist()
        assert [token["position"] for token in tokens] == places
        assert [token["id"] for token in tokens] == ids
        assert [token["type"] for token in tokens] == item["token_type_ids"][places].tolist()
        assert [token["token"] for token in tokens] == tokenizer.convert_ids_to_tokens(ids)
        assert [[token["start"], token["stop"]] for token in tokens] == item["offset_mapping"][places].tolist()
        assert [token["role"] for token in tokens] == roles(dataset, row)
        for token in tokens:
            text = {"context": item["context"], "answer": item["context"], "question": item["question"]}
            assert token["text"] == text.get(token["role"], "")[token["start"] : token["stop"]]


def test_the_columns_of_the_tokens(run: Run, caches: Caches) -> None:
    dataset = CacheDataset(caches.memory)
    for row in (0, 7, len(dataset) - 1):
        result = run("show", caches.memory, row)
        assert (result.code, result.err) == (0, "")
        table = result.section("tokens")
        assert table[0] == TOKEN_COLUMNS
        tokens = run("show", caches.memory, row, "--json").json["tokens"]
        assert [line[:2] + line[3:6] + line[7:] for line in table[1:]] == [
            [str(token[name]) for name in ("position", "id", "type", "start", "stop", "role")] for token in tokens
        ]
        without = run("show", caches.memory, row, "--no-tokens").out
        assert result.out == without + "\n# tokens\n" + "".join("\t".join(line) + "\n" for line in table)


# --- which segment


def test_rows_from_the_start_and_from_the_end(run: Run, caches: Caches) -> None:
    dataset = CacheDataset(caches.sharded)
    for row in (0, 16, 17, 40, len(dataset) - 1):
        shown = run("show", caches.sharded, row, "--json").json
        item = dataset[row]
        assert (shown["row"], shown["segment_index"]) == (row, item["segment_index"])
        assert shown["total_segments"] == item["total_segments"]
        assert run("show", caches.sharded, "--", row - len(dataset)) == run("show", caches.sharded, row)


def test_the_segment_of_an_id_with_the_whole_answer_or_the_first(run: Run, caches: Caches) -> None:
    dataset = CacheDataset(caches.plain)
    for one in varied_examples():
        rows = dataset.get_document_segments(one["id"])
        holding = [row for row in rows if dataset[row]["has_answer_in_segment"]]
        shown = run("show", caches.plain, "--id", one["id"], "--json").json
        assert shown["row"] == (holding or rows)[0]
    for segment in range(-len(rows), len(rows)):
        shown = run("show", caches.plain, "--id", one["id"], "--segment", segment, "--json").json
        assert shown["row"] == rows[segment]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected one of ROW, --id ID and --contradictions, found none of them"),
        ([1, "--id", "x"], "expected one of ROW, --id ID and --contradictions, found ROW and --id"),
        ([1, "--contradictions"], "expected one of ROW, --id ID and --contradictions, found ROW and --contradictions"),
        ([1, "--segment", 0], "--segment: applies to a document, found no --id ID with it"),
        (["one"], "'one' is not a valid integer."),
        (["-1"], "No such option '-1'."),
    ],
)
def test_wrong_usage(run: Run, caches: Caches, arguments: list[Any], message: str) -> None:
    assert usage_error(run("show", caches.plain, *arguments)).endswith(message)


def test_the_contradictions(run: Run, caches: Caches, tmp_path: Path) -> None:
    rows = [
        example("the lamp", answers=[("lamp", 4)], id="both", is_impossible=True),
        example("the lamp", answers=[("lamp", 4)], id="fine"),
        example("the lamp", id="ne\x1bither", is_impossible=False),
    ]
    directory = build(rows, sample_tokenizer(), tmp_path, on_contradiction="answers").directory
    expected = [
        {"id": "both", "contradiction": "expected no answer where 'is_impossible' is true, found 1"},
        {"id": "ne\x1bither", "contradiction": "expected an answer where 'is_impossible' is false, found none"},
    ]
    found = run("show", directory, "--contradictions", "--json").json
    assert [{name: row[name] for name in ("id", "contradiction")} for row in found] == expected
    assert [row["alignment"] for row in found] == ["exact", "unanswerable"]
    result = run("show", directory, "--contradictions")
    shown = [[*found[0].values()], ["ne\\x1bither", *list(found[1].values())[1:]]]
    assert result.lines == [["id", "contradiction", "alignment"], *shown]
    assert run("show", caches.plain, "--contradictions").lines == [["id", "contradiction", "alignment"]]
    assert run("show", directory, 0, "--json").json["contradiction"] == expected[0]["contradiction"]
    assert run("show", directory, 1).fields["contradiction"] == "none"


def test_segments_that_are_not_there(run: Run, caches: Caches) -> None:
    rows, documents = len(CacheDataset(caches.plain)), len(varied_examples())
    for row in (rows, -rows - 1, 10**30):
        assert (
            error(run("show", caches.plain, "--", row)) == f"ROW: expected one from {-rows} to {rows - 1}, found {row}"
        )
    for name in ("none", "", "\x1b[31m"):
        message = error(run("show", caches.plain, "--id", name))
        assert message == f"{caches.plain}: expected the id of one of its {documents} documents, found {name!r}"
    for segment in (99, -99):
        message = error(run("show", caches.plain, "--id", "dök-4", "--segment", segment))
        assert message.startswith("--segment: expected one of the ")
        assert message.endswith(f" of 'dök-4', found {segment}")


# --- texts


@pytest.mark.parametrize("style", ["xlnet-sample", "bert-cased", "roberta"])
def test_the_answer_stands_in_brackets(run: Run, tmp_path: Path, style: str) -> None:
    rows = long_examples(9, words=90)
    dataset = build(rows, styles.make(style), tmp_path, max_seq_length=96, doc_stride=24)
    marked = 0
    for one in rows:
        result = run("show", dataset.directory, "--id", one["id"], "--no-tokens")
        (line,) = result.section("context")
        start, stop = map(int, result.fields["context characters"].split(" to "))
        assert line[0].replace("[[", "").replace("]]", "") == one["context"][start:stop]
        if not one["answers"]["text"]:
            assert result.fields["answer"] == "none"
            assert "[[" not in line[0]
            continue
        text, begin = one["answers"]["text"][0], one["answers"]["answer_start"][0]
        assert line[0].split("[[")[1].split("]]")[0] == text
        expected = f"{text!r} (characters {begin} to {begin + len(text)}; this segment holds it whole)"
        assert result.fields["answer"] == expected
        marked += 1
    assert marked == 6


def test_all_fields(run: Run, caches: Caches) -> None:
    dataset = CacheDataset(caches.plain)
    for row in range(0, len(dataset), 17):
        item = dataset[row]
        result = run("show", caches.plain, row, "--no-tokens")
        fields = result.fields
        assert fields["row"] == str(row)
        assert fields["id"] == item["example_id"]
        assert fields["segment"] == f"{item['segment_index']} of {item['total_segments']}"
        assert fields["question"] == item["question"]
        positions = [int(item[name]) for name in ("start_positions", "end_positions", "cls_index")]
        assert fields["positions"] == "{} to {} (cls {})".format(*positions)
        if item["has_answer"]:
            holds = "whole" if item["has_answer_in_segment"] else "not, or not whole"
            assert fields["answer"].endswith(f"; this segment holds it {holds})")
            assert repr(item["chosen_answer_text"]) in fields["answer"]


def test_how_the_answer_was_found(run: Run, tokenizer: Any, tmp_path: Path) -> None:
    context = "The river was born in Paris."
    answers = {"exact": [("river", 4)], "repaired": [("river", 5)], "dropped": [("nowhere", 5)], "unanswerable": []}
    rows = [example(context, answers=pairs, id=name) for name, pairs in answers.items()]
    dataset = build(rows, tokenizer, tmp_path)
    details = []
    for row, status in enumerate(answers):
        found = run("show", dataset.directory, row, "--json").json
        detail = dataset.cache.documents.text("alignment_detail", row)
        assert (found["alignment"], found["alignment_detail"]) == (status, detail)
        result = run("show", dataset.directory, row, "--no-tokens").fields
        assert result["alignment"] == (f"{status}: {detail}" if detail else status)
        details.append(detail)
    assert list(map(bool, details)) == [False, True, True, False]


def test_the_help_names_negative_rows(run: Run) -> None:
    assert "memxlnet show CACHE -- -1" in " ".join(run("show", "--help").out.split())


def test_json_holds_what_the_dataset_holds(run: Run, caches: Caches) -> None:
    dataset = CacheDataset(caches.memory)
    for row in range(0, len(dataset), 19):
        found = run("show", caches.memory, row, "--json").json
        item = dataset[row]
        same = ("example_id", "segment_index", "total_segments", "question", "has_answer", "has_answer_in_segment")
        for name in (*same, "chosen_answer_text", "cls_index", "mem_read_start", "mem_write_start"):
            assert found[name] == item[name]
        assert tuple(found["chosen_answer_char_span"]) == item["chosen_answer_char_span"]
        assert found["start_position"] == int(item["start_positions"])
        assert found["end_position"] == int(item["end_positions"])
        start, stop = found["context_char_span"]
        assert found["context"] == item["context"][start:stop]
        assert found["cache"] == str(caches.memory)
        if item["has_answer_in_segment"]:
            begin, end = found["answer_in_context"]
            assert found["context"][begin:end] == item["chosen_answer_text"]


def test_an_answer_on_the_border_of_a_segment_is_marked_as_far_as_it_goes(
    run: Run, tokenizer: Any, tmp_path: Path
) -> None:
    context = " ".join(f"word{number}" for number in range(100))
    start, stop = context.index("word20"), context.index("word60")
    dataset = build([example(context, answers=[(context[start:stop], start)], id="x")], tokenizer, tmp_path)
    parts = []
    for row in range(len(dataset)):
        result = run("show", dataset.directory, row, "--no-tokens")
        begin, end = map(int, result.fields["context characters"].split(" to "))
        (line,) = result.section("context")
        shown = line[0]
        inside = context[max(begin, start) : min(end, stop)] if begin < stop and start < end else ""
        assert shown == (
            f"{context[begin : max(begin, start)]}[[{inside}]]{context[min(end, stop) : end]}"
            if inside
            else context[begin:end]
        )
        parts.append(inside)
        assert result.fields["answer"].endswith("this segment holds it not, or not whole)")
    assert sum(map(bool, parts)) > 2


@pytest.mark.usefixtures("terminal")
def test_a_person_sees_the_answer_reversed(run: Run, tokenizer: Any, tmp_path: Path, capsys: Any) -> None:
    dataset = build(long_examples(1, words=20), tokenizer, tmp_path, max_seq_length=256)
    result = run("show", dataset.directory, 0)
    assert result.code == 0
    # click takes the colours out again where the output is really no terminal.
    assert "word0x10" in result.out
    assert "[[" not in result.out
    assert "[MEM" not in result.out
    assert "\t" not in result.out


HOSTILE = "\x1b[31mred\x1b[0m \x9b5m \x07bell \rback \x00nul \x7fdel \u202eover"


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("style", ["xlnet-sample", "bert-cased", "roberta"])
def test_control_characters_never_reach_the_output(
    run: Run, tmp_path: Path, style: str, options: list[str], request: pytest.FixtureRequest
) -> None:
    context = f"Before it {HOSTILE} and after it\nline"
    one = example(context, f"What {HOSTILE}?", [(HOSTILE, 10)], id=f"id {HOSTILE}")
    dataset = build([one], styles.make(style), tmp_path, max_seq_length=256)
    for terminal in (False, True):
        if terminal:
            request.getfixturevalue("terminal")
        result = run("show", dataset.directory, 0, *options)
        assert result.code == 0
        allowed = {"\n"} if terminal or options else {"\n", "\t"}
        assert {character for character in result.out if not character.isprintable()} <= allowed
    assert "x1b[31mred" in result.out or "u001b[31mred" in result.out


def test_tokens_of_the_memory_are_no_markup(run: Run, caches: Caches, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("terminal")
    result = run("show", caches.memory, 0)
    assert " [MEM_READ_0] " in result.out
    assert "\\[" not in result.out


def test_a_long_context_shows_its_segment_only(run: Run, tokenizer: Any, tmp_path: Path) -> None:
    (one,) = long_examples(1, words=20_000)
    dataset = build([one], tokenizer, tmp_path)
    result = run("show", dataset.directory, 1000)
    (line,) = result.section("context")
    start, stop = map(int, result.fields["context characters"].split(" to "))
    assert line[0] == one["context"][start:stop]
    assert start > 1000
    assert len(result.out) < 5000


def test_a_damaged_tokenizer_is_named(run: Run, caches: Caches, tmp_path: Path) -> None:
    copied = copy_of(caches.plain, tmp_path)
    path = copied / "tokenizer.json"
    path.write_bytes(b"x" * path.stat().st_size)
    message = error(run("show", copied, 0))
    assert message.startswith(f"{path}: ")


def test_colours_are_those_of_click(monkeypatch: pytest.MonkeyPatch, caches: Caches) -> None:
    found: list[str] = []
    monkeypatch.setattr("memxlnet.cli.show.is_terminal", lambda: True)
    monkeypatch.setattr(click, "echo", lambda text="", **_: found.append(text))
    from memxlnet.cli.show import _print, _read

    dataset = CacheDataset(caches.plain)
    row = next(row for row, item in enumerate(dataset) if item["has_answer_in_segment"])
    _print(_read(dataset.cache, row))
    assert click.style(dataset[row]["chosen_answer_text"], reverse=True) in found[-1]
