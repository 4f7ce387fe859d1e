"""`memxlnet stats`: what is shown is what the rows and the loaders give."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pytest

from memxlnet.cli.stats import _binned
from memxlnet.evaluate.ceiling import answer_ceiling
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.statistics import GROUP_SIZES, read_statistics
from memxlnet.sample import sample_tokenizer_directory
from tests.cli.helpers import Caches, Result, error
from tests.load.helpers import sample_tokenizer, time_major
from tests.support import build, example, long_examples, slow, write_json_lines

Run = Callable[..., Result]
KINDS = ["plain", "memory", "sharded"]
HINT = "of the documents have more than one segment: recurrent memory has almost nothing to carry here."


def bounds(label: str) -> tuple[int, int]:
    start, _, stop = label.partition("-")
    return int(start), int(stop or start)


def assert_histogram(table: list[list[str]], name: str, values: Iterable[int]) -> None:
    """The table of a histogram holds the count of each value or range of values."""
    counts = Counter(values)
    total = sum(counts.values())
    assert table[0] == [name, "documents", "share"]
    found = {bounds(label): (count, share) for label, count, share in table[1:]}
    assert list(found) == sorted(found)
    for (start, stop), (count, share) in found.items():
        inside = sum(counts[value] for value in range(start, stop + 1))
        assert (count, share) == (str(inside), f"{inside / total:.2%}")
    assert sum(int(count) for count, _ in found.values()) == total
    if max(counts) - min(counts) < 20:
        assert [start for start, _ in found] == [stop for _, stop in found] == sorted(counts)


def segments_of(dataset: CacheDataset) -> dict[str, int]:
    return Counter(item["example_id"] for item in dataset)


def first_holders(dataset: CacheDataset) -> list[int]:
    """The time step of the first segment of each document that holds its whole answer."""
    found: dict[str, int] = {}
    for item in dataset:
        if item["has_answer_in_segment"]:
            found.setdefault(item["example_id"], item["segment_index"])
    return list(found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_counts(run: Run, caches: Caches, kind: str) -> None:
    dataset = CacheDataset(getattr(caches, kind))
    result = run("stats", dataset.directory)
    assert (result.code, result.err) == (0, "")
    lengths = segments_of(dataset)
    columns = dataset.gather(slice(None), ["attention_mask", "context_token_count"])
    tokens = int(columns["attention_mask"].sum())
    first = dict(result.lines[: result.lines.index([""])])
    assert {name: first[name] for name in list(first)[:7]} == {
        "documents": str(len(lengths)),
        "segments": str(len(dataset)),
        "segments a document": f"{len(dataset) / len(lengths):.3f}",
        "documents with several": f"{sum(length > 1 for length in lengths.values()) / len(lengths):.2%}",
        "tokens an epoch": str(tokens),
        "of them contexts'": str(int(columns["context_token_count"].sum())),
        "padding within rows": f"{1 - tokens / columns['attention_mask'].numel():.1%}",
    }
    ceiling = answer_ceiling(dataset.directory)
    assert list(first.items())[7:] == [
        ("answers dropped", str(ceiling.dropped)),
        ("answers unlabelled", "0"),
        ("answers yes_no", "0"),
        ("answers number", "0"),
        ("answers in no segment", "0"),
        ("answers cut by tokens", str(ceiling.inexact)),
        ("examples dropped", "0"),
        ("best exact match", f"{ceiling.exact_match:.2f}"),
    ]
    # The cache recurs: there is no word of warning.
    assert HINT not in result.out


@pytest.mark.parametrize("kind", KINDS)
def test_where_answers_lie(run: Run, caches: Caches, kind: str) -> None:
    dataset = CacheDataset(getattr(caches, kind))
    result = run("stats", dataset.directory)
    places = first_holders(dataset)
    assert_histogram(result.section("time step of the first segment that holds the whole answer"), "time step", places)
    title = "answers past step k: what a model without memory of earlier segments, or cut there, cannot reach"
    expected = [
        [str(step), f"{sum(place > step for place in places) / len(places):.2%}"]
        for step in (0, 1, 2, 4, 8, 16, 32, 64)
        if step <= max(places)
    ]
    assert result.section(title) == [["k", "share"], *expected]


@pytest.mark.parametrize("kind", KINDS)
def test_what_padding_costs(run: Run, caches: Caches, kind: str) -> None:
    dataset = CacheDataset(getattr(caches, kind))
    expected = [["group", "aligned", "grouped by length", "refilled"]]
    options: list[dict[str, Any]] = [{}, {"group_by_length": True}, {"lanes": "refilled"}]
    for size in GROUP_SIZES:
        shares = [time_major(dataset, size, shuffle=True, **each).epoch_size(0).padding_share for each in options]
        expected.append([str(size), *(f"{share:.1%}" for share in shares)])
    title = "share of padding in the lanes of a shuffled epoch, by documents in a group"
    assert run("stats", dataset.directory).section(title) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_model_computes_on(run: Run, caches: Caches, kind: str) -> None:
    dataset = CacheDataset(getattr(caches, kind))
    result = run("stats", dataset.directory)
    useful = read_statistics(dataset.cache).useful
    title = (
        "real tokens of those that a model computes on, shuffled, padding='longest', pad_to_multiple_of=8, "
        "by documents in a group or segments in a batch"
    )
    table = result.section(title)
    assert table[0] == [
        "batch", "aligned", "aligned, grouped", "refilled", "refilled, grouped", "regular", "regular, grouped"
    ]  # fmt: skip
    shares = {size: [f"{share:.1%}" for share in asdict(found).values()] for size, found in useful.items()}
    assert {int(row[0]): row[1:] for row in table[1 : 1 + len(shares)]} == shares
    best = [max(list(asdict(useful[32]).values())[part]) for part in (slice(4), slice(4, None))]
    lines = [line for line in result.out.splitlines() if line.startswith("Best for ")]
    assert [line.rpartition("(")[2] for line in lines] == [f"{share:.1%})" for share in best]
    assert "lanes=" in lines[0]
    assert "use_time_step_major=False" in lines[1]


def test_segments_of_documents(run: Run, tokenizer: Any, tmp_path: Path) -> None:
    rows = [row for words in (5, 5, 40, 90) for row in long_examples(1, words)]
    rows = [{**row, "id": str(number)} for number, row in enumerate(rows)]
    dataset = build(rows, tokenizer, tmp_path)
    lengths = segments_of(dataset)
    assert len(set(lengths.values())) == 3
    result = run("stats", dataset.directory)
    assert_histogram(result.section("segments per document"), "segments", lengths.values())


@pytest.mark.parametrize(
    "counts",
    [
        {},
        {1: 5},
        {3: 1, 9: 2},
        dict.fromkeys(range(20), 2),
        dict.fromkeys(range(21), 1),
        {1: 10, 1000: 1},
        {7: 1, 48: 2, 113: 3, 114: 4},
    ],
)
def test_many_values_are_shown_in_ranges(counts: dict[int, int]) -> None:
    found = _binned(counts)
    assert len(found) <= 20
    assert sum(found.values()) == sum(counts.values())
    for label, count in found.items():
        start, stop = bounds(label)
        inside = [value for value in counts if start <= value <= stop]
        assert count == sum(counts[value] for value in inside) > 0
    if counts and max(counts) - min(counts) < 20:
        assert found == {str(value): count for value, count in counts.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_json(run: Run, caches: Caches, kind: str) -> None:
    directory = getattr(caches, kind)
    result = run("stats", directory, "--json")
    assert (result.code, result.err) == (0, "")
    statistics = read_statistics(CacheDataset(directory).cache)
    found = result.json
    assert found.pop("ceiling") == asdict(answer_ceiling(directory))
    assert found.pop("row_tokens") == statistics.row_tokens
    assert found.pop("recurrent_share") == statistics.recurrent_share
    assert found.pop("answers_past") == {
        str(step): statistics.answers_past(step) for step in statistics.answer_time_steps
    }
    for name, value in asdict(statistics).items():
        shown = found.pop(name)
        if isinstance(value, dict):
            shown = {int(key): each for key, each in shown.items()}
        assert shown == value
    assert found == {}


@pytest.mark.usefixtures("terminal")
def test_a_person_sees_bars(run: Run, caches: Caches) -> None:
    shown = click.unstyle(run("stats", caches.plain).out)
    places = Counter(first_holders(CacheDataset(caches.plain)))
    lines = shown.split("holds the whole answer\n")[1].split("answers past")[0].splitlines()
    bars = {line.split()[0]: line.count("#") for line in lines if line.strip()[:1].isdigit()}
    counts = {label: sum(places[value] for value in range(bounds(label)[0], bounds(label)[1] + 1)) for label in bars}
    assert bars == {label: round(40 * count / max(counts.values())) for label, count in counts.items()}
    assert sum(counts.values()) == sum(places.values())
    assert "\t" not in shown


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("columns", [38, 50, 70])
def test_bars_fit_a_narrow_terminal(run: Run, caches: Caches, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = click.unstyle(run("stats", caches.plain).out)
    lines = shown.split("\nsegments per document\n")[1].split("\nanswers past")[0].splitlines()
    bars = [line.split() for line in lines if line.strip()[:1].isdigit()]
    assert max(len(bar[3]) for bar in bars if len(bar) == 4) == columns - 36
    # Each is on one line with what it belongs to.
    assert all(len(line.rstrip()) <= columns for line in lines if "time step of" not in line)
    assert [line for line in lines if set(line.strip()) == {"#"}] == []


def test_the_same_counts_have_one_name(run: Run, tmp_path: Path) -> None:
    context = " ".join(f"word{number}" for number in range(100))
    rows = [
        example(context, answers=[(context[:300], 0)], id="longer than the overlap"),
        *(example(context, answers=[("nowhere", 5)], id=f"dropped {number}") for number in range(2)),
        *(example(context, answers=[("word5", 3)], id=f"repaired {number}") for number in range(3)),
        *(example(context, id=f"unanswerable {number}") for number in range(4)),
        *(example(context, "word " * 100, id=f"too long {number}") for number in range(5)),
        *({**example(context, id=f"unlabelled {number}"), "answers": None} for number in range(6)),
        *(example(context, answers=[("Yes", -1)], id=f"yes {number}") for number in range(7)),
        *(example(context, answers=[("1,024", -1)], id=f"number {number}") for number in range(8)),
        *(example(context, is_impossible=False, id=f"contradiction {number}") for number in range(9)),
    ]
    source = write_json_lines(tmp_path / "x.jsonl", rows)
    arguments = ["--tokenizer", sample_tokenizer_directory(), "--max-seq-length", 64, "--doc-stride", 16]
    policies = ["--on-bad-example", "drop", "--on-contradiction", "unanswerable"]
    built = run("build", source, *arguments, *policies, "--cache-dir", tmp_path / "caches")
    assert built.code == 0
    expected = {
        "answers exact": "1",
        "answers repaired": "3",
        "answers dropped": "2",
        "answers unanswerable": "13",
        "answers unlabelled": "6",
        "answers yes_no": "7",
        "answers number": "8",
        "answers in no segment": "1",
        "contradictions": "9",
        "examples dropped": "5",
    }
    counted = ("answers ", "examples ", "contradictions")
    assert {name: value for name, value in built.fields.items() if name.startswith(counted)} == expected
    assert dict(run("info", built.fields["cache"]).section("answers")) == expected
    stats = run("stats", built.fields["cache"]).fields
    found = {name: value for name, value in stats.items() if name.startswith(counted)}
    del found["answers cut by tokens"]
    assert found == {name: expected[name] for name in found}
    kinds = ("dropped", "unlabelled", "yes_no", "number", "in no segment")
    assert list(found) == [*(f"answers {kind}" for kind in kinds), "examples dropped"]


def test_a_cache_in_which_almost_nothing_recurs(run: Run, tmp_path: Path) -> None:
    rows = [example("Short.", answers=[("Short", 0)], id=str(number)) for number in range(19)]
    few = build([*rows, *long_examples(1)], sample_tokenizer(), tmp_path / "few")
    last = run("stats", few.directory).out.splitlines()[-1]
    assert last == f"Only 5.0% {HINT} Shorter rows (--max-seq-length) or longer documents change that."
    more = build([*rows[:18], *long_examples(2)], sample_tokenizer(), tmp_path / "more")
    assert HINT not in run("stats", more.directory).out


def test_a_cache_without_any_answer(run: Run, tmp_path: Path) -> None:
    rows = [example("Some context. " * 40, id=str(number)) for number in range(3)]
    result = run("stats", build(rows, sample_tokenizer(), tmp_path).directory)
    assert (result.code, result.err) == (0, "")
    assert result.fields["best exact match"] == "100.00"
    title = "time step of the first segment that holds the whole answer"
    assert result.section(title) == [["time step", "documents", "share"]]
    assert "answers past step k" not in result.out


def test_answers_that_cannot_be_reached(run: Run, tmp_path: Path) -> None:
    context = " ".join(f"word{number}" for number in range(100))
    rows = [
        example(context, answers=[(context[:300], 0)], id="longer than the overlap"),
        example(context, answers=[("nowhere", 5)], id="dropped"),
        example(context, answers=[("word5", context.index("word5"))], id="right"),
        example(context, answers=[("ord5", context.index("word5") + 1)], id="within a token"),
    ]
    result = run("stats", build(rows, sample_tokenizer(), tmp_path).directory)
    assert [result.fields[name] for name in ("answers in no segment", "answers dropped")] == ["1", "1"]
    wrong = 2 + int(result.fields["answers cut by tokens"])
    assert result.fields["best exact match"] == f"{100 * (4 - wrong) / 4:.2f}"


# --- plots


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), slow(".svg", b"<?xml"), slow(".pdf", b"%PDF"), slow(".PNG", b"\x89PNG")]
)
def test_a_plot_of_every_kind(run: Run, caches: Caches, tmp_path: Path, suffix: str, magic: bytes) -> None:
    path = tmp_path / f"plot{suffix}"
    path.write_bytes(b"an earlier one")
    result = run("stats", caches.plain, "--plot", path)
    assert result == run("stats", caches.plain)
    assert path.read_bytes().startswith(magic)
    assert list(tmp_path.iterdir()) == [path]


def test_a_plot_where_json_is_asked(run: Run, caches: Caches, tmp_path: Path) -> None:
    result = run("stats", caches.plain, "--json", "--plot", tmp_path / "plot.svg")
    assert result.json["documents"] == 13
    assert (tmp_path / "plot.svg").read_text().rstrip().endswith("</svg>")


@pytest.mark.parametrize("name", ["plot.jpg", "plot", "plot.png.txt"])
def test_another_kind_of_plot_is_refused(run: Run, caches: Caches, tmp_path: Path, name: str) -> None:
    message = error(run("stats", caches.plain, "--plot", tmp_path / name))
    assert message == f"--plot: expected a file that ends in .png, .svg, .pdf, found '{tmp_path / name}'"
    assert list(tmp_path.iterdir()) == []
