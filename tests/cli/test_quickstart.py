import re
from pathlib import Path
from typing import Any

import click
import pytest

from memxlnet import __version__
from memxlnet.cli import main
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.sample import sample_tokenizer_directory
from tests.load.helpers import oracle_rows, sample_tokenizer, steps_of, time_major

LINES = ["cache", "built", "size", "segments", "answers", "vocabulary", "iterated", "real tokens"]


def _lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    captured = capsys.readouterr()
    assert "error" not in captured.err
    lines = dict(line.split("\t") for line in captured.out.splitlines())
    assert list(lines) == LINES
    return lines


def _numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", line)]


def test_quickstart_prints_the_right_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", "--cache-dir", str(tmp_path)]) == 0
    lines = _lines(capsys)
    directory = Path(lines["cache"])
    assert directory.parent == tmp_path
    dataset = CacheDataset(directory)
    counts = dataset.documents.num_segments
    files = sum(path.stat().st_size for path in directory.iterdir() if path.suffix == ".arrow")
    options: dict[str, Any] = {"lanes": "refilled", "group_by_length": True, "padding": "longest"}
    steps = steps_of(time_major(dataset, 4, shuffle=True, **options))
    real = sum(int(step["attention_mask"][step["document_mask"]].sum()) for step in steps)
    most = steps_of(time_major(dataset, 4, shuffle=True))
    assert _numbers(lines["built"])[:2] == [len(dataset), 96]
    a_segment, in_all = _numbers(lines["size"])
    assert in_all >= files
    assert a_segment == round(in_all / len(dataset))
    assert _numbers(lines["segments"]) == [round(len(dataset) / 96, 1), counts.max()]
    assert lines["answers"] == "73 exact, 23 unanswerable"
    assert _numbers(lines["vocabulary"]) == [2008, 4]
    assert _numbers(lines["iterated"])[:3] == [len(dataset), len(steps), 4]
    computed = [sum(int(step["input_ids"].numel()) for step in each) for each in (steps, most)]
    assert _numbers(lines["real tokens"]) == [round(100 * real / tokens) for tokens in computed]
    assert (dataset.manifest.max_seq_length, dataset.manifest.settings["doc_stride"]) == (128, 32)


@pytest.mark.usefixtures("terminal")
def test_for_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", "--cache-dir", str(tmp_path)]) == 0
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert [line[:12] for line in lines] == [f"{name:12}" for name in LINES]
    assert all(line[12:].strip() and "\t" not in line for line in lines)


def test_a_cache_is_used_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for _ in range(2):
        assert main(["quickstart", "--cache-dir", str(tmp_path), "--memory-tokens", "0"]) == 0
        lines = _lines(capsys)
        directory = Path(lines["cache"])
        times = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in directory.iterdir()}
        untimed = {name: re.sub(r" in [\d.]+ s$", "", line) for name, line in lines.items()}
        found.append((directory, times, untimed))
    assert found[0] == found[1]


def test_all_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--max-seq-length", "100", "--doc-stride", "20", "--memory-tokens", "0", "--batch-size", "7"]
    options += ["--tokenizer", str(sample_tokenizer_directory()), "--verbose"]
    assert main(["quickstart", "--cache-dir", str(tmp_path), *options]) == 0
    lines = _lines(capsys)
    dataset = CacheDataset(Path(lines["cache"]))
    examples = [
        {"id": item["example_id"], "question": item["question"], "context": item["context"], "answers": {"text": []}}
        for item in dataset[:]
        if item["segment_index"] == 0
    ]
    assert len(dataset) == len(oracle_rows(sample_tokenizer(), examples, 100, 20))
    assert _numbers(lines["vocabulary"]) == [2000, 0]
    assert _numbers(lines["iterated"])[2] == 7


def test_without_a_directory_nothing_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", "--memory-tokens", "1"]) == 0
    assert not Path(_lines(capsys)["cache"]).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-seq-length", "5"], r"--max-seq-length:.* 13\b"),
        (["--doc-stride", "-1"], "--doc-stride:.*found -1$"),
        (["--doc-stride", "120"], r"--doc-stride:.* 117\b"),
        (["--batch-size", "0"], "--batch-size:.*found 0$"),
        (["--memory-tokens", "-2"], "--memory-tokens:.*found -2$"),
        (["--tokenizer", "no/such-tokenizer"], "--tokenizer:.*'no/such-tokenizer'"),
        (["--tokenizer", ""], "--tokenizer:.*''"),
    ],
)
def test_errors_are_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["quickstart", "--cache-dir", str(tmp_path / "cache"), *options]) == (
        4 if "--tokenizer" in options else 2
    )
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.match(f"memxlnet: error: {message}", captured.err)
    assert "Traceback" not in captured.err
    assert not (tmp_path / "cache").exists()


def test_a_cache_directory_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["quickstart", "--cache-dir", str(tmp_path / "file")]) == 7
    assert f"memxlnet: error: {tmp_path / 'file'}: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["plain", "xlnet-base"])
@pytest.mark.parametrize("content", [None, '{"version":'])
def test_a_directory_without_a_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None
) -> None:
    """transformers makes an empty vocabulary of an empty directory that is named like XLNet."""
    directory = tmp_path / name
    directory.mkdir()
    if content is not None:
        (directory / "tokenizer.json").write_text(content)
    assert main(["quickstart", "--tokenizer", str(directory)]) == 4
    captured = capsys.readouterr()
    assert captured.err.startswith("memxlnet: error: --tokenizer: ")
    assert str(directory) in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments",
    [[], ["build"], ["quickstart", "--no-such"], ["quickstart", "--batch-size", "two"], ["quickstart", "--cache-dir"]],
)
def test_a_bad_option_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "Usage: " in err or "Error: " in err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"memxlnet {__version__}\n"
