"""The handle on a cache: every method gives what the calls below it give, with every option."""

import inspect
import os
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import memxlnet
from memxlnet import (
    AnswerCollector,
    Cache,
    CarriedState,
    create_dataset_from_cache,
    model_inputs,
    process_and_cache_dataset,
)
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.errors import CacheNotFoundError, IndexTypeError, MemxlnetError, RowIndexError, SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.segment_loader import regular_loader
from memxlnet.load.statistics import read_statistics
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from memxlnet.maintain.verify import verify
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from tests.styles import STYLES, make
from tests.support import long_examples, slow_but

EXAMPLES = [{**example, "id": f"e{number}"} for number, example in enumerate(long_examples(12, words=60))]
SIZES: dict[str, Any] = {"max_seq_length": 32, "doc_stride": 8}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache.build(EXAMPLES, make("xlnet"), cache_dir=tmp_path_factory.mktemp("caches"), **SIZES)


def parameters(call: Callable[..., Any]) -> dict[str, Any]:
    return {
        name: (found.annotation, found.default)
        for name, found in inspect.signature(call).parameters.items()
        if name not in ("self", "cls", "directory", "cache", "dataset")
    }


@pytest.mark.parametrize(
    ("method", "call", "without"),
    [
        (Cache.loader, TimeStepMajorDataLoader, {"compat"}),
        (Cache.evaluation_loader, TimeStepMajorDataLoader, {"compat", "shuffle", "evaluation"}),
        (Cache.segment_loader, regular_loader, {"compat", "ended_label"}),
        (Cache.dataset, CacheDataset, set()),
        (Cache.collector, AnswerCollector, {"dataset"}),
        (Cache.verify, verify, set()),
        (Cache.push, push, set()),
        (Cache.pull, pull, set()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_method_has_the_options_of_the_call_below(method: Any, call: Any, without: set[str]) -> None:
    ours, theirs = parameters(method), parameters(call)
    cut = {"drop_last", "max_segments", "seed", "window"} if method is Cache.evaluation_loader else set()
    assert ours.keys() == theirs.keys() - without - cut
    for name, (annotation, default) in ours.items():
        assert annotation == theirs[name][0], name
        if theirs[name][1] is not inspect.Parameter.empty and name != "metadata":
            assert default == theirs[name][1], name


OF_JOBS = {"scratch", "scratch_options", "work_dir", "storage_options", "max_dropped", "max_lost_answers"}
"""Options of builds as jobs of their own, which a call that opens a dataset has no use for."""


@pytest.mark.parametrize("call", [process_and_cache_dataset, create_dataset_from_cache])
def test_earlier_calls_have_its_options_under_the_same_names_and_defaults(call: Any) -> None:
    ours, theirs = parameters(Cache.build), parameters(call)
    renamed = {"source": "dataset_name", "token": "hub_token" if call is create_dataset_from_cache else "token"}
    missing = {"streaming_chunk_size", *OF_JOBS} if call is create_dataset_from_cache else set()
    for name, (annotation, default) in ours.items():
        if name not in missing:
            assert annotation == theirs[renamed.get(name, name)][0], name
            if name not in ("source", "tokenizer"):
                assert default == theirs[renamed.get(name, name)][1], name


def test_every_option_has_a_type_and_a_line_of_its_own() -> None:
    for name, method in vars(Cache).items():
        call = getattr(method, "__func__", method)
        if name.startswith("_") or not inspect.isfunction(call):
            continue
        for option, found in inspect.signature(call).parameters.items():
            assert found.kind not in (found.VAR_KEYWORD, found.VAR_POSITIONAL), (name, option)
            if option not in ("self", "cls"):
                assert found.annotation is not found.empty, (name, option)
                assert f"            {option}: " in (call.__doc__ or ""), (name, option)


def test_it_is_built_once_and_then_found(cache: Cache) -> None:
    again = Cache.build(EXAMPLES, make("xlnet"), cache_dir=cache.directory.parent, **SIZES)
    assert again.directory == cache.directory
    assert (again.num_documents, again.manifest) == (12, cache.manifest)
    assert repr(again) == f"Cache({str(cache.directory)!r}, {cache.num_rows} rows, 12 documents)"


def test_another_setting_is_another_cache(cache: Cache, tmp_path: Path) -> None:
    plain = Cache.build(EXAMPLES, make("xlnet"), cache_dir=tmp_path, **SIZES)
    other = Cache.build(EXAMPLES, make("xlnet"), cache_dir=tmp_path, split="other", on_bad_example="drop", **SIZES)
    assert plain.directory != other.directory
    assert (other.manifest.split, other.manifest.settings["on_bad_example"]) == ("other", "drop")


def test_an_object_in_memory_takes_a_name(cache: Cache, tmp_path: Path) -> None:
    named = Cache.build(EXAMPLES, make("xlnet"), cache_dir=tmp_path, name="My data", **SIZES)
    assert named.manifest.name == "My data"
    assert named.directory.name.startswith("My-data--train--")
    assert named.manifest.fingerprint == cache.manifest.fingerprint
    assert create_dataset_from_cache(EXAMPLES, tokenizer=make("xlnet"), cache_dir=tmp_path, name="My data", **SIZES)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == [named.directory.name]


@pytest.mark.parametrize("named", ["f.json", "owner/name", "s3://bucket/f.json", ["f.json"]])
def test_a_source_with_a_name_takes_no_other(named: Any) -> None:
    with pytest.raises(SettingsError, match=r"^name:.*'x'"):
        Cache.build(named, make("xlnet"), name="x")


def test_bad_arguments_are_errors_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^max_seq_length:"):
        Cache.build(EXAMPLES, make("xlnet"), cache_dir=tmp_path / "none", max_seq_length=0)
    with pytest.raises(CacheNotFoundError):
        Cache.open(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_it_opens_and_travels_between_processes(cache: Cache) -> None:
    for found in (Cache.open(cache.directory), Cache(str(cache.directory)), pickle.loads(pickle.dumps(cache))):
        assert (found.directory, found.in_memory) == (cache.directory, False)
    assert pickle.loads(pickle.dumps(Cache.open(cache.directory, in_memory=True))).in_memory


def steps(loader: Any) -> list[dict[str, Any]]:
    return [step for found in loader for step in ([found] if isinstance(found, dict) else found)]


LOADERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "loader": (
        lambda cache: cache.loader(4, True, lanes="refilled", padding="longest", seed=3),
        lambda data: TimeStepMajorDataLoader(data, 4, True, lanes="refilled", padding="longest", seed=3),
    ),
    "segment_loader": (
        lambda cache: cache.segment_loader(4, True, seed=3, group_by_length=True),
        lambda data: regular_loader(data, 4, True, 0, seed=3, group_by_length=True),
    ),
    "evaluation_loader": (
        lambda cache: cache.evaluation_loader(4, metadata=False),
        lambda data: TimeStepMajorDataLoader(data, 4, evaluation=True),
    ),
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_loader_gives_the_same_steps(cache: Cache, name: str) -> None:
    ours, theirs = LOADERS[name]
    found, expected = steps(ours(cache)), steps(theirs(cache.dataset()))
    assert len(found) == len(expected) > 4
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert torch.equal(one["input_ids"], other["input_ids"])


def test_a_loader_reads_the_dataset_that_it_is_given(cache: Cache) -> None:
    dataset = cache.dataset(in_memory=True)
    assert dataset.cache.in_memory
    assert cache.loader(dataset=dataset).dataset is dataset
    assert cache.segment_loader(dataset=dataset).dataset is dataset
    assert cache.evaluation_loader(dataset=dataset).dataset is dataset


@pytest.mark.parametrize("method", ["loader", "segment_loader", "evaluation_loader"])
def test_a_loader_refuses_the_dataset_of_another_cache(cache: Cache, method: str, tmp_path: Path) -> None:
    other = Cache.build(EXAMPLES[:3], make("xlnet"), cache_dir=tmp_path, **SIZES)
    with pytest.raises(SettingsError, match=rf"^dataset:.*{cache.directory}.*{other.directory}"):
        getattr(cache, method)(dataset=other.dataset())


@pytest.mark.parametrize("value", ["False", 3, None])
def test_in_memory_is_true_or_false(cache: Cache, value: Any) -> None:
    with pytest.raises(SettingsError, match=r"^in_memory:"):
        Cache.open(cache.directory, in_memory=value)
    with pytest.raises(SettingsError, match=r"^in_memory:"):
        cache.dataset(in_memory=value)


def test_a_url_is_no_directory() -> None:
    with pytest.raises(SettingsError, match=r"^directory:.*s3://"):
        Cache.open("s3://bucket/x")
    with pytest.raises(SettingsError, match=r"^cache_dir:.*s3:/"):
        Cache.build(EXAMPLES, make("xlnet"), cache_dir=Path("s3://bucket"))


def test_answers_that_do_not_occur_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lost = [{**EXAMPLES[0], "answers": {"text": ["nowhere to be found"], "answer_start": [0]}}, EXAMPLES[1]]
    Cache.build(lost, make("xlnet"), cache_dir=tmp_path, **SIZES)
    assert "the answers of 1 of 2 documents do not occur in their context" in caplog.text


def test_a_group_is_no_step(cache: Cache) -> None:
    group = next(iter(cache.loader(2)))
    with pytest.raises(SettingsError, match=r"^step:.*Group"):
        model_inputs(group, torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"^step:.*Group"):
        CarriedState(torch.zeros(1, 1)).before(group)  # type: ignore[arg-type]


def test_the_directory_of_caches_names_them(cache: Cache, tmp_path: Path) -> None:
    parent = cache.directory.parent
    expected = rf"{parent}: expected a cache, found a directory of caches: {cache.directory.name}; name one"
    for call in (
        Cache.open,
        CacheDataset,
        verify,
        memxlnet.remove_cache,
        lambda one: push(one, f"file://{tmp_path}/x"),
    ):
        with pytest.raises(CacheNotFoundError, match=f"^{expected}$"):
            call(parent)


def test_a_cache_stands_for_its_directory(cache: Cache, tmp_path: Path) -> None:
    assert os.fspath(cache) == str(cache.directory)
    assert Cache.open(cache).manifest == CacheDataset(cache).manifest == cache.manifest
    verify(cache)
    push(cache, f"file://{tmp_path}/store", progress=False)
    memxlnet.remove_cache(Cache.pull(f"file://{tmp_path}/store", tmp_path / "caches", progress=False))
    assert [path.name for path in (tmp_path / "caches").iterdir() if not path.name.startswith(".")] == []


def shut_down() -> ThreadPoolExecutor:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    return executor


MISTAKES: dict[str, tuple[Callable[[Cache], Any], type[MemxlnetError], type[Exception], str]] = {
    "a number with a point": (
        lambda cache: cache.dataset()[1.0],  # type: ignore[call-overload]
        IndexTypeError,
        TypeError,
        r"row: expected an integer, found 1\.0 \(float\)",
    ),
    "the name of a column": (
        lambda cache: cache.dataset()["input_ids"],  # type: ignore[index]
        IndexTypeError,
        TypeError,
        r"row: expected an integer, found 'input_ids' .* dataset\.column\('input_ids'\)",
    ),
    "no row at all": (
        lambda cache: cache.dataset()[None],  # type: ignore[call-overload]
        IndexTypeError,
        TypeError,
        "row: expected an integer, found None",
    ),
    "a key of a group": (
        lambda cache: next(iter(cache.loader()))["input_ids"],  # type: ignore[call-overload]
        IndexTypeError,
        TypeError,
        "step: expected an integer, found 'input_ids'",
    ),
    "a step too far": (
        lambda cache: next(iter(cache.loader()))[99],
        RowIndexError,
        IndexError,
        "step 99: expected one",
    ),
    "a document by its id": (
        lambda cache: cache.dataset().get_all_documents()["e1"],  # type: ignore[call-overload]
        IndexTypeError,
        TypeError,
        "document: expected an integer, found 'e1'",
    ),
    "one name of metadata": (
        lambda cache: cache.loader(metadata="question"),  # type: ignore[arg-type]
        SettingsError,
        ValueError,
        "metadata: expected True, False or a sequence of names, found 'question'",
    ),
    "one name of metadata of batches": (
        lambda cache: cache.segment_loader(metadata="question"),  # type: ignore[arg-type]
        SettingsError,
        ValueError,
        "metadata: expected True, False or a sequence of names, found 'question'",
    ),
    "one name of metadata to collate": (
        lambda cache: memxlnet.Collate(dataset=cache.dataset(), metadata="question"),  # type: ignore[arg-type]
        SettingsError,
        ValueError,
        "metadata: expected True, False or a sequence of names, found 'question'",
    ),
    "a sample of nothing": (
        lambda cache: cache.verify(sample=5),
        SettingsError,
        ValueError,
        "sample: .* pass against=",
    ),
    "a source that is nothing": (
        lambda cache: Cache.build(3, make("xlnet"), cache_dir=cache.directory.parent),
        SettingsError,
        ValueError,
        "source: expected a file",
    ),
    "an executor that is shut down": (
        lambda cache: Cache.build(EXAMPLES[:2], make("xlnet"), cache_dir=cache.directory.parent, executor=shut_down()),
        MemxlnetError,
        RuntimeError,
        r"build again to resume \(with an executor that is not shut down\)",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_an_error_that_names_it(cache: Cache, mistake: str) -> None:
    call, kind, built_in, message = MISTAKES[mistake]
    with pytest.raises(kind, match=message) as caught:
        call(cache)
    assert isinstance(caught.value, built_in)


REMOVED: dict[str, Callable[[Cache], Any]] = {
    "tokenizer": lambda cache: cache.tokenizer(),
    "dataset": lambda cache: cache.dataset(),
    "loader": lambda cache: cache.loader(),
    "segment_loader": lambda cache: cache.segment_loader(),
    "evaluation_loader": lambda cache: cache.evaluation_loader(),
    "verify": lambda cache: cache.verify(),
    "push": lambda cache: cache.push(f"file://{cache.directory}-store", progress=False),
    "remove": lambda cache: cache.remove(),
    "open": lambda cache: Cache.open(cache),
    "another process": lambda cache: pickle.loads(pickle.dumps(cache)),
}


def test_a_removed_cache_is_missing_and_not_damaged(cache: Cache, tmp_path: Path) -> None:
    cache.push(f"file://{tmp_path}/store", progress=False)
    fetched = Cache.pull(f"file://{tmp_path}/store", tmp_path / "caches", progress=False)
    fetched.remove()
    for name, use in REMOVED.items():
        with pytest.raises(CacheNotFoundError, match=re.escape(str(fetched.directory))):
            pytest.fail(f"{name} gave {use(fetched)!r}")
    assert fetched.stats().documents == 12  # what is mapped keeps its values


def test_what_is_shown_of_a_loader_is_short(cache: Cache) -> None:
    name, count = cache.directory.name, len(cache.segment_loader(4))
    loader = cache.loader(4, True, lanes="refilled", max_segments=2)
    for step, _ in zip(range(3), loader, strict=False):
        assert re.fullmatch(
            rf"TimeStepMajorDataLoader\('{name}', batch_size=4, shuffle=True, lanes='refilled', max_segments=2, "
            rf"evaluation=False, rank=0, world_size=1, epoch 0, step {step + 1} of \d+\)",
            repr(loader),
        )
    assert repr(cache.segment_loader(4)) == (
        f"RegularDataLoader({name!r}, batch_size=4, shuffle=False, group_by_length=False, {count} batches)"
    )
    assert "shuffle=True, group_by_length=False" in repr(cache.segment_loader(4, True))
    assert "shuffle=False, group_by_length=True" in repr(cache.segment_loader(4, group_by_length=True))


def test_what_is_shown_of_a_state_is_short(cache: Cache) -> None:
    carried = CarriedState([torch.zeros(1, 3)] * 2, batch_size=4)
    assert repr(carried) == "CarriedState(no step yet, batch_dim=0, batch_size=4)"
    step = next(iter(cache.loader(4)))[0]
    carried.after(step, carried.before(step))
    assert repr(carried) == "CarriedState(2 tensors of 4 lanes, batch_dim=0, batch_size=4)"
    carried.load_state_dict(carried.state_dict())
    assert repr(carried) == "CarriedState(no step yet, loaded, batch_dim=0, batch_size=4)"


def test_statistics_and_collector_are_over_it(cache: Cache) -> None:
    assert cache.stats() == read_statistics(cache)
    assert cache.collector(n_best=3).cache is cache
    view = cache.dataset().take(2)
    assert cache.stats(view).documents == 2
    assert cache.collector(dataset=view).num_missing_rows == len(view)
    assert sum(len(group.example_ids) for group in cache.loader(2, dataset=view)) == 2


def test_it_is_verified(cache: Cache, tmp_path: Path) -> None:
    cache.verify()
    cache.verify(against=EXAMPLES, sample=None)


def test_it_is_pushed_pulled_and_removed(cache: Cache, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store"
    cache.push(url, progress=False)
    fetched = Cache.pull(url, tmp_path / "caches", progress=False)
    assert (fetched.manifest, fetched.directory.parent) == (cache.manifest, tmp_path / "caches")
    assert fetched.remove() > 0
    with pytest.raises(CacheNotFoundError):
        fetched.remove()


@pytest.mark.parametrize("slots", [0, 2])
@pytest.mark.parametrize("style", slow_but(["xlnet", "bert-uncased", "roberta"], STYLES))
def test_its_tokenizer_makes_the_same_cache(style: str, slots: int, tmp_path: Path) -> None:
    tokenizer = make(style, slots)
    cache = Cache.build(EXAMPLES, tokenizer, cache_dir=tmp_path, max_seq_length=48, doc_stride=8)
    found = cache.tokenizer()
    assert read_tokenizer(found).sha256 == read_tokenizer(tokenizer).sha256
    again = Cache.build(EXAMPLES, found, cache_dir=tmp_path, max_seq_length=48, doc_stride=8)
    assert again.directory == cache.directory
    pair = ("What is it?", EXAMPLES[0]["context"])
    assert found(*pair)["input_ids"] == tokenizer(*pair)["input_ids"]
