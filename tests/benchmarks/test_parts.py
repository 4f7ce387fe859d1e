"""The parts of the benchmarks measure what they document; the figures themselves are not tested."""

import itertools
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import builders, kinds, measure, sources
from benchmarks.caches import MAX_SEQ_LENGTH, long_cache, question_cache
from benchmarks.data import book_file, rows_of
from benchmarks.parts import build, larger_than_ram, loaders, padding, reading, scale, training
from benchmarks.readers import open_reader, prepare
from benchmarks.recurrent_model import small_xlnet
from benchmarks.report.targets import BATCHES, targets
from memxlnet import LazySquadLikeQADataset, TimeStepMajorDataLoader
from memxlnet.encode.piece_tokenizer import splits_into_pieces
from memxlnet.load.tensors import MODEL_COLUMNS, TOKEN_COLUMNS
from tests.support import slow, slow_but


def test_calls_take_turns_and_keep_every_sample() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in ("first", "second")}
    samples = measure.in_turns(calls, rounds=4, seconds=0)
    assert {name: len(found) for name, found in samples.items()} == {"first": 4, "second": 4}
    assert order[-8:] == ["first", "second", "second", "first"] * 2


def test_a_call_that_takes_the_budget_is_measured_once() -> None:
    waited, fast = [], []

    def wait() -> None:
        waited.append(1)
        time.sleep(0.2)

    samples = measure.in_turns({"slow": wait, "fast": lambda: fast.append(1)}, rounds=5, seconds=0, budget=0.3)
    assert len(waited) == len(samples["slow"]) == 1
    assert samples["slow"][0] >= 0.2
    assert len(samples["fast"]) == 5


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_exponent_of_a_power_law_is_found(exponent: float) -> None:
    sizes = [10.0**k for k in range(4, 8)]
    assert measure.fitted_exponent(sizes, [3 * size**exponent for size in sizes]) == pytest.approx(exponent)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # datasets forks its workers beside torch's threads
def test_all_builders_make_the_same_features(sample: Path) -> None:
    found = build.equal_features([(str(sample), 100)])
    assert found["contestants"] == list(builders.BUILDERS)
    assert found["segments"] >= 100


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("column", slow_but(["input_ids"], MODEL_COLUMNS))
def test_a_builder_of_other_features_is_refused(sample: Path, monkeypatch: pytest.MonkeyPatch, column: str) -> None:
    def wrong(file: Path, folder: Path, batch: int) -> builders.Built:
        built = builders.pair_call(file, folder, batch)

        def columns() -> builders.Columns:
            found = built.columns()
            found[column].reshape(-1)[-1] += 1
            return found

        return builders.Built(built.segments, columns)

    contestants = {"memxlnet": builders.memxlnet, "wrong": wrong}
    monkeypatch.setattr(build, "BUILDERS", contestants)
    with pytest.raises(SystemExit, match=f"{column}: expected the values of memxlnet, found others with wrong"):
        build.equal_features([(str(sample), 100)])


@pytest.mark.parametrize("name", [name for name in builders.BUILDERS if name != "datasets.map"])
def test_a_build_is_timed_and_weighed(sample: Path, name: str) -> None:
    found = build.run(name, str(sample))
    assert found["segments"] >= 100
    assert found["seconds"] > 0
    assert (found["disk"] > 1000 * found["segments"]) == (name in build.WRITES)


@pytest.mark.parametrize("shuffle", [slow(False), True])
@pytest.mark.parametrize("name", slow_but(["memxlnet"], ["memxlnet", "RAM tensors", "pickled chunks"]))
def test_a_contestant_is_read_twice(sample: Path, tmp_path: Path, name: str, shuffle: bool) -> None:
    path = prepare(name, long_cache(300), tmp_path)
    found = reading.epochs(name, str(path), shuffle, seconds=60.0)
    assert found["share"] == 1.0
    assert len(found["rates"]) == 2


def test_reading_stops_at_the_deadline_and_then_at_the_same_row() -> None:
    batches = [{"input_ids": torch.zeros(10)} for _ in range(9)]
    assert reading._read(iter(batches), -1.0, 0) == 10
    assert reading._read(iter(batches), -1.0, 30) == 30
    assert reading._read(iter(batches), 60.0, 0) == 90


@pytest.mark.slow
def test_own_ways_are_timed_and_judged(sample: Path) -> None:
    one, many = str(long_cache(300)), str(long_cache(300, shards=reading.SHARDS))
    assert len(LazySquadLikeQADataset.open(many).cache.features) == reading.SHARDS
    own = reading.own_ways(one, many, rounds=3, budget=0.5)
    for batch in BATCHES:
        assert list(own[batch]) == [reading.ONE_SHARD, reading.CUT, reading.MANY_SHARDS]
    assert list(own["row"]) == [reading.ITEM, reading.TENSORS]
    memxlnet = {"memxlnet": [1.0], "RAM tensors": [1.0], "NumPy memmap": [0.5]}
    figures = {"own": own, "contestants": {}, **dict.fromkeys(BATCHES, memxlnet)}
    found = {one.what: one.outcome for one in targets({"reading": {"figures": figures}})}
    assert found["random batches, time relative to NumPy's `take` from memmaps"] == "missed"
    assert len(found) == 6


@pytest.mark.slow
def test_rows_and_batches_of_contestants_are_timed_in_one_process(sample: Path, tmp_path: Path) -> None:
    directory = long_cache(300)
    paths = {name: str(prepare(name, directory, tmp_path)) for name in ("memxlnet", "RAM tensors")}
    found = reading.in_one_process(paths, rounds=3, budget=0.5)
    for kind in ("row", "batch of 8", "batch of 32", "batch of 256"):
        assert {name: len(samples) for name, samples in found[kind].items()} == dict.fromkeys(paths, 3)


def test_the_blocks_of_the_disk_hold_the_rows(sample: Path) -> None:
    directory = question_cache(300)
    dataset = LazySquadLikeQADataset.open(directory)
    (file,) = directory.glob("features-*.arrow")
    rows = np.array([0, 7, len(dataset) - 1])
    content = file.read_bytes()
    for name, (starts, sizes) in zip(TOKEN_COLUMNS, larger_than_ram._blocks(file, rows), strict=True):
        column = dataset.column(name)
        assert isinstance(column, torch.Tensor)
        for row, start, size in zip(rows, starts, sizes, strict=True):
            assert start % larger_than_ram.PAGE == size % larger_than_ram.PAGE == 0
            assert size <= 4 * larger_than_ram.PAGE
            assert column[int(row)].numpy().tobytes() in content[start : start + size]


def test_a_lazy_epoch_reads_every_row(sample: Path) -> None:
    directory = question_cache(300)
    found = larger_than_ram.lazy(str(directory), advice=True, seconds=None)
    assert found["whole epoch"]
    assert found["rows"] == larger_than_ram.eager(str(directory))["rows"]


@pytest.mark.slow
def test_scale_reads(sample: Path) -> None:
    found = scale.read(str(long_cache(300)))
    assert found["rows"] >= 300
    assert len(found["open"]) == 1


def test_scale_fits() -> None:
    one = {"open": [1.0], "batch": [2.0], "seconds": [1.0], "anonymous": [5.0]}
    larger = {"open": [1.0], "batch": [2.0], "seconds": [10.0], "anonymous": [5.0]}
    figures = {
        "segments": {"10": {**one, "rows": 10}, "100": {**larger, "rows": 100}, "1000": {"not possible": "no room"}},
        "examples": {"10": one, "100": larger},
        "books": {"10": one, "100": larger},
    }
    assert scale._exponents(figures) == pytest.approx(
        {
            "segments: open": 0,
            "segments: batch": 0,
            "segments: anonymous": 0,
            "examples: seconds": 1,
            "examples: anonymous": 0,
            "books: seconds": 1,
        },
        abs=1e-9,
    )


def test_a_book_has_its_length_and_questions_with_wrong_offsets(sample: Path) -> None:
    file = book_file(30_000)
    rows = rows_of(file)
    assert len(rows) == 20
    (text,) = {row["context"] for row in rows}
    assert len(text) == 30_000
    assert not text.isascii()
    for row in rows:
        (answer,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
        assert answer in text
        assert not text.startswith(answer, start)
    assert build.run("memxlnet", str(file))["segments"] > 20


def test_pickled_steps_are_those_of_the_lazy_loader(sample: Path, tmp_path: Path) -> None:
    directory = long_cache(300)
    dataset = LazySquadLikeQADataset.open(directory)
    documents = dataset.documents
    reader = open_reader("pickled chunks", prepare("pickled chunks", directory, tmp_path))
    steps = training.pickled_steps(reader, documents.first_segment, documents.num_segments)
    order = np.random.default_rng(0).permutation(len(documents.num_segments))[: training.LANES]
    for index in range(int(documents.num_segments[order].max())):
        step = next(steps)
        active = documents.num_segments[order] > index
        assert step["document_mask"].tolist() == active.tolist()
        assert step["reset"].tolist() == (active & (index == 0)).tolist()
        assert step["is_last"].tolist() == (documents.num_segments[order] == index + 1).tolist()
        rows = torch.from_numpy((documents.first_segment[order] + index)[active])
        for name, values in dataset.gather(rows).items():
            assert torch.equal(step[name][step["document_mask"]], values.to(torch.int64))


@pytest.mark.slow
@pytest.mark.parametrize("loader", training.LOADERS)
def test_every_loader_trains(sample: Path, tmp_path: Path, loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "WARM_UP_STEPS", 4)
    directory = long_cache(300)
    pickled = prepare("pickled chunks", directory, tmp_path)
    found = training.run(loader, str(directory), str(pickled), seconds=1.0)
    assert found["steps"] >= 1
    assert 0 <= found["share waited"] <= 1
    assert len(found["samples"]) >= 1


def test_synthetic_steps_have_the_shapes_of_real_ones(sample: Path) -> None:
    dataset = LazySquadLikeQADataset.open(long_cache(300))
    real: Any = next(iter(TimeStepMajorDataLoader(dataset, training.LANES)))[0]
    for name, value in next(training._synthetic_steps(100)).items():
        if isinstance(value, torch.Tensor):
            assert (value.shape, value.dtype) == (real[name].shape, real[name].dtype), name


@pytest.mark.slow
def test_loaders_are_timed(sample: Path) -> None:
    directory = str(question_cache(300))
    found = loaders.epochs(directory, rounds=2)
    assert found["aligned, stored"]["padding"] >= 0
    assert len(found["refilled, int64"]["seconds"]["loader"]) == 2
    assert loaders.regular(directory, rounds=2)["segments"] >= 300
    waited = loaders.waiting(directory, "cold", 20)
    assert 0 <= waited["share waited"] < 1
    assert loaders.epoch_memory(directory)["segments"] >= 300
    assert len(loaders.resume(directory, 2)["aligned"]) == 7
    assert MAX_SEQ_LENGTH == 384


@pytest.mark.slow
def test_every_way_trains_on_the_same_segments(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(padding.MODELS, "XLNet", partial(small_xlnet, seed=0, width=8, layers=1))
    useful = padding.shares(str(sample))["useful"]
    assert list(useful) == list(padding.WAYS)
    for lanes in ("aligned", "refilled", "regular"):
        assert useful[f"{lanes}, grouped, cut"] > useful[f"{lanes}, by default"]
    found = padding.epochs(str(sample), "XLNet", documents=3)
    assert {way: len(samples) for way, samples in found["seconds"].items()} == dict.fromkeys(padding.TRAINED, 1)
    dataset = padding._dataset(str(sample), 3)
    batches = list(padding._trainer(padding._features(dataset)))
    assert found["tokens"][padding.TRAINER] == sum(batch["input_ids"].numel() for batch in batches)
    real = [batch["input_ids"][batch["attention_mask"].bool()].tolist() for batch in batches]
    columns = dataset.gather(range(len(dataset)))
    expected = columns["input_ids"][columns["attention_mask"].bool()].tolist()
    assert sorted(itertools.chain.from_iterable(real)) == sorted(expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["XLNet", *kinds.KINDS])
def test_kinds_of_tokenizers_make_as_many_rows_as_the_pair_call(
    sample: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "files", lambda: {"sample": sample})
    seconds = kinds.measure(kinds.makers()[name], sample, rounds=1)
    assert [len(samples) for samples in seconds.values()] == [1, 1, 1]
    tokenizer = kinds.makers()[name]()
    assert splits_into_pieces(tokenizer.backend_tokenizer) == (name != "XLNet")


@pytest.mark.slow
def test_every_kind_of_source_makes_the_same_rows(sample: Path) -> None:
    found = sources.kinds(sample)
    seconds = sources.measure(found, rounds=1)
    assert {name: len(samples) for name, samples in seconds.items()} == dict.fromkeys(found, 1)
    assert len(list(found["40 gzip files"].iterdir())) > 10
