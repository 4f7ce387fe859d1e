"""Benchmarks of single hot paths: plain tests, or timed by ``pytest benchmarks/micro --benchmark-enable``."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import XLNetTokenizerFast

from benchmarks.caches import MAX_SEQ_LENGTH, MEMORY_TOKENS, question_cache, random_batches, random_rows
from benchmarks.data import FILE_VARIABLE, TOKENIZER_VARIABLE, WORK_VARIABLE, rows_of, tokenizer
from memxlnet import LazySquadLikeQADataset, TimeStepMajorDataLoader, configure_memory_tokens
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import parse_example
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.load.tensors import MODEL_COLUMNS
from memxlnet.sample import sample_file, sample_tokenizer_directory
from memxlnet.sample.train_tokenizer import SPECIAL_TOKENS
from memxlnet.settings import EncodeSettings

SEGMENTS = 5000

ADDED_TOKENS, PIECES = 10_000, 32_000


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make benchmarks use the bundled sample and a temporary work folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FILE_VARIABLE, str(sample_file()))
        patch.setenv(TOKENIZER_VARIABLE, str(sample_tokenizer_directory()))
        patch.setenv(WORK_VARIABLE, str(tmp_path_factory.mktemp("work")))
        yield


@pytest.fixture(scope="module")
def directory(work: None) -> Path:
    """Return a cache of many copies of the bundled sample."""
    return question_cache(SEGMENTS)


@pytest.fixture(scope="module")
def dataset(directory: Path) -> LazySquadLikeQADataset:
    return LazySquadLikeQADataset.open(directory)


@pytest.fixture(scope="module")
def with_added_tokens() -> Any:
    """Create a tokenizer with as many pieces as XLNet's and many added tokens."""
    pieces = [*SPECIAL_TOKENS, *(f"▁piece{number}" for number in range(PIECES))]
    found = XLNetTokenizerFast(vocab=[(piece, -0.5 * number) for number, piece in enumerate(pieces)])
    found.add_tokens([f"<added {number}>" for number in range(ADDED_TOKENS)])
    return found


@pytest.mark.parametrize("size", [8, 32, 256])
def test_gather(benchmark: Any, dataset: LazySquadLikeQADataset, size: int) -> None:
    batches = itertools.cycle(random_batches(size, len(dataset)))
    rows = next(batches)
    found = dataset.gather(rows)
    for name in MODEL_COLUMNS:
        column = dataset.column(name)
        assert isinstance(column, torch.Tensor)
        assert torch.equal(found[name], column[rows])
    assert len(benchmark(lambda: dataset.gather(next(batches)))["input_ids"]) == size


@pytest.mark.parametrize("size", [8, 32, 256])
@pytest.mark.parametrize(("shards", "width"), [(1, MAX_SEQ_LENGTH // 2), (4, None)])
def test_gather_of_parts_and_of_shards(
    benchmark: Any, directory: Path, work: None, size: int, shards: int, width: int | None
) -> None:
    dataset = LazySquadLikeQADataset.open(question_cache(SEGMENTS, shards) if shards > 1 else directory)
    batches = itertools.cycle(random_batches(size, len(dataset)))
    found = benchmark(lambda: dataset.tensors.gather(next(batches), MODEL_COLUMNS, width))
    assert found["input_ids"].shape == (size, width or MAX_SEQ_LENGTH)


def test_tensors_of_an_item(benchmark: Any, dataset: LazySquadLikeQADataset) -> None:
    rows = itertools.cycle(random_rows(2000, len(dataset)).tolist())
    assert list(benchmark(lambda: dataset.model_tensors(next(rows)))) == list(MODEL_COLUMNS)


def test_item(benchmark: Any, dataset: LazySquadLikeQADataset) -> None:
    rows = itertools.cycle(random_rows(2000, len(dataset)).tolist())
    item = benchmark(lambda: dataset[next(rows)])
    assert item["input_ids"].shape == (MAX_SEQ_LENGTH,)
    assert item["offset_mapping"].shape == (MAX_SEQ_LENGTH, 2)


def test_open(benchmark: Any, directory: Path) -> None:
    assert len(benchmark(LazySquadLikeQADataset.open, directory)) >= SEGMENTS


def test_step(benchmark: Any, dataset: LazySquadLikeQADataset) -> None:
    loader = TimeStepMajorDataLoader(dataset, 32, shuffle=True, lanes="refilled", dtype="stored")
    steps = loader.endless()
    assert benchmark(lambda: next(steps))["input_ids"].shape == (32, MAX_SEQ_LENGTH)


def test_encode_chunk(benchmark: Any, directory: Path) -> None:
    with_memory = tokenizer()
    configure_memory_tokens(with_memory, MEMORY_TOKENS)
    content = read_tokenizer(with_memory)
    examples = [parse_example(number, row, "sample") for number, row in enumerate(rows_of(sample_file()))]

    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (Encoder(content.backend, content.layout, EncodeSettings()), examples), {}  # an encoder caches words

    tables = benchmark.pedantic(Encoder.encode, setup=fresh, rounds=20)
    assert tables["documents"].num_rows == len(examples)
    assert tables["features"].num_rows >= len(examples)


@pytest.mark.parametrize("method", ["read_tokenizer", "Tokenizer.from_str"])
def test_read_added_tokens(benchmark: Any, with_added_tokens: Any, method: str) -> None:
    """Read a tokenizer with many added tokens; the limit is 1.5 times the time that `tokenizers` needs for its JSON."""
    content = with_added_tokens.backend_tokenizer.to_str()
    methods = {
        "read_tokenizer": lambda: read_tokenizer(with_added_tokens).backend,
        "Tokenizer.from_str": lambda: Tokenizer.from_str(content),
    }
    read = benchmark.pedantic(methods[method], rounds=10, warmup_rounds=1)
    assert len(read.get_added_tokens_decoder()) > ADDED_TOKENS


@pytest.mark.parametrize("command", ["--help", "ls", "info"])
def test_command_line(benchmark: Any, directory: Path, command: str) -> None:
    """Time a command, start of the interpreter included; up to 0.3 s feels immediate."""
    place = {"--help": [], "ls": [str(directory.parent)], "info": [str(directory)]}[command]
    arguments = [sys.executable, "-m", "memxlnet.cli", command, *place]

    def run() -> str:
        return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout

    shown = benchmark.pedantic(run, rounds=10)
    assert "quickstart" in shown if command == "--help" else directory.name in shown
