"""A cache that is read before all of it is here gives the same batches, within its limit, whatever the store does."""

import contextlib
import gc
import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from memxlnet.background import Prefetched
from memxlnet.cache import Cache
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.errors import CacheNotFoundError, SettingsError, TransferError
from memxlnet.evaluate.context_places import PlaceReader
from memxlnet.format.published import PublishedCache
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.joining import concatenate
from memxlnet.load.segment_loader import regular_loader
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from memxlnet.maintain.local_shards import FETCHES_AT_ONCE, LocalShards
from memxlnet.maintain.lock import builder_lock, lock_path
from memxlnet.maintain.removal import find_leftovers, remove_leftovers
from memxlnet.maintain.shard_files import ShardFiles
from memxlnet.remote import lazy_pull
from memxlnet.remote.pull import pull
from memxlnet.remote.push import push
from memxlnet.remote.stores import Store
from tests.format.content import files_of
from tests.load.helpers import LENGTH, OVERLAP, bert_tokenizer, sample_tokenizer, varied_examples
from tests.remote.cutting_proxy import CuttingProxy
from tests.remote.s3 import Bucket
from tests.support import ROOT, WAIT_SECONDS, build, slow

SHARD_ROWS = 17
LIMIT, LARGEST = 90_000, 9_434
"""Of about 190 kB in 20 shards, and of the largest of them."""


@pytest.fixture(autouse=True)
def small_blocks_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gather one step at a time: with the default a block holds all of this cache."""
    monkeypatch.setattr("memxlnet.load.steps.BLOCK_BYTES", 4096)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of many small shards."""
    settings = {"max_seq_length": LENGTH, "doc_stride": OVERLAP, "max_shard_rows": SHARD_ROWS}
    return build(varied_examples(), sample_tokenizer(), tmp_path_factory.mktemp("whole"), **settings).directory


@pytest.fixture(scope="module")
def url(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"file://{tmp_path_factory.mktemp('store')}/cache"
    push(whole, url)
    return url


@pytest.fixture
def s3(whole: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket that holds it; failures are tried again at once."""
    monkeypatch.setattr(lazy_pull, "FIRST_PAUSE_SECONDS", 0.01)
    bucket.fill(whole)
    return bucket


def local_bytes(directory: Path) -> int:
    """Bytes of the shards that are here, whole or not."""
    sizes: dict[str, int] = {}  # one that gets its name meanwhile may be listed under both
    for path in directory.glob("features-*"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            sizes[path.name.removesuffix(".part")] = path.stat().st_size
    return sum(sizes.values())


def steps(dataset: CacheDataset, **options: Any) -> Iterator[dict[str, Any]]:
    """All steps of an epoch."""
    for item in TimeStepMajorDataLoader(dataset, 4, **options):
        yield from [item] if options.get("lanes") == "refilled" else item


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other[name]), name
        elif name == "offset_mapping":
            assert str(value) == str(other[name])
        else:
            assert list(value) == list(other[name]) if hasattr(value, "__len__") else value == other[name], name


@pytest.mark.parametrize("limit", [None, LIMIT])
@pytest.mark.parametrize(
    "options",
    [
        {"lanes": "aligned", "shuffle": True, "order": "shards", "num_workers": 1},
        {"lanes": "refilled", "shuffle": True, "order": "shards", "metadata": True},
        slow({"lanes": "aligned", "evaluation": True, "metadata": True, "padding": "longest"}),
        slow({"lanes": "refilled", "shuffle": True, "num_workers": 1}),
        slow({"lanes": "aligned", "shuffle": True, "max_segments": 2, "window": "random"}),
        slow({"lanes": "aligned", "order": "shards", "align": "end"}),
        {"lanes": "refilled", "shuffle": True, "group_by_length": True, "padding": "longest"},
        slow({"lanes": "aligned", "group_by_length": True, "num_workers": 1}),
    ],
    ids=str,
)
def test_batches_equal_those_of_local_files_within_the_limit(
    whole: Path, url: str, tmp_path: Path, options: dict[str, Any], limit: int | None
) -> None:
    lazy = pull(url, tmp_path, lazy=True, local_limit=limit)
    assert local_bytes(lazy.directory) == 0
    for one, other in zip(
        steps(CacheDataset.open(whole), **options), steps(CacheDataset.of(lazy), **options), strict=True
    ):
        assert_same(one, other)
        assert limit is None or local_bytes(lazy.directory) <= limit


@pytest.mark.parametrize("options", [{"group_by_length": True}, {"order": "shards"}], ids=str)
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_of_segments_equal_those_of_local_files(
    whole: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shuffle: bool, options: dict[str, Any]
) -> None:
    needed: list[list[int]] = []
    expect = LocalShards.expect

    def keep_needs(self: LocalShards, needs: Any) -> Any:
        found = [(place, list(shards)) for place, shards in needs]
        needed.append([shard for _, shards in found for shard in shards])
        return expect(self, found)

    monkeypatch.setattr(LocalShards, "expect", keep_needs)
    lazy = CacheDataset.of(pull(url, tmp_path, lazy=True)).shuffle(seed=1)
    loaders = [
        regular_loader(dataset, 8, shuffle, 0, **options)
        for dataset in (CacheDataset.open(whole).shuffle(seed=1), lazy)
    ]
    for _ in range(2):
        read: list[int] = []
        for one, other in zip(*loaders, strict=True):
            assert_same(dict(one), dict(other))
            shards = (one["rows"].numpy() // SHARD_ROWS).tolist()
            read += dict.fromkeys(shards)
        assert needed[-1] == read


@pytest.mark.parametrize("limit", [None, 20_000])
def test_rows_equal_those_of_local_files(whole: Path, url: str, tmp_path: Path, limit: int | None) -> None:
    lazy = CacheDataset.of(pull(url, tmp_path, lazy=True, local_limit=limit))
    local = CacheDataset.open(whole)
    kept = [lazy[row] for row in range(0, len(lazy), 7)]
    # The files of the first ones are gone by now; their maps stay.
    for row, item in zip(range(0, len(lazy), 7), kept, strict=True):
        assert_same(item, local[row])
    rows = torch.randperm(len(local))
    short = rows[local.gather(rows, ["attention_mask"])["attention_mask"].sum(1) < LENGTH]
    for width, wanted in ((None, rows), (LENGTH - 1, short)):
        assert len(wanted)
        one, other = local.gather(wanted, width=width), lazy.gather(wanted, width=width)
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert {name: column.shape for name, column in lazy.gather([]).items()} == {
        name: column.shape for name, column in local.gather([]).items()
    }
    assert limit is None or local_bytes(lazy.directory) <= limit


def test_segments_that_follow_each_other_take_only_the_shards_that_hold_them(
    whole: Path, url: str, tmp_path: Path
) -> None:
    lazy, local = pull(url, tmp_path, lazy=True), PublishedCache(whole)
    border = local.features[1].row_start
    for start, stop, here in ((0, 2, 1), (border - 1, border + 1, 2)):
        assert lazy.segments(start, stop).equals(local.segments(start, stop))
        assert len(list(lazy.directory.glob("features-*"))) == here


@pytest.mark.parametrize(
    "read",
    [
        lambda cache: PlaceReader(cache).read(np.arange(SHARD_ROWS + 1)),
        lambda cache: cache.segments(0, SHARD_ROWS + 1),
        lambda cache: [*cache.shards_of(0, SHARD_ROWS + 1)],
        lambda cache: CacheDataset.of(cache).gather(range(SHARD_ROWS + 1)),
    ],
    ids=["places", "segments", "shards_of", "gather"],
)
def test_reading_rows_fetches_each_shard_that_holds_them_once(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    lazy = pull(url, tmp_path, lazy=True, local_limit=LARGEST)
    asked = fetched_files(monkeypatch)
    read(lazy)
    assert asked == ["features-00000.arrow", "features-00001.arrow"]


def test_a_lazy_cache_that_exceeds_the_memory_is_not_fetched_for_advice(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memxlnet.load.page_advice.available_memory", lambda: 0)
    lazy = Cache.pull(url, tmp_path, lazy=True, local_limit=LIMIT)
    asked = fetched_files(monkeypatch)
    items = iter(lazy.loader(4, True, order="shards", lanes="refilled"))
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert 0 < len(asked) < 20


@pytest.mark.parametrize(
    ("limit", "options", "warning"),
    [
        (60_000, {"order": "shards", "shuffle": True}, "an epoch fetches shards more than once"),
        (60_000, {"order": "documents", "shuffle": True}, "use order='shards'"),
        (60_000, {"order": "shards"}, ""),
        (60_000, {"group_by_length": True}, "use order='shards'"),
        (60_000, {}, ""),
        (170_000, {"order": "shards", "shuffle": True}, ""),
        (None, {"order": "documents", "shuffle": True}, ""),
    ],
)
def test_a_limit_that_costs_further_fetches_is_warned_of(
    url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    limit: int | None,
    options: dict[str, Any],
    warning: str,
) -> None:
    lazy = Cache.pull(url, tmp_path, lazy=True, local_limit=limit)
    lazy.loader(4, **options)
    assert warning in caplog.text
    assert bool(warning) == bool(caplog.text)


def test_a_limit_holds_from_the_opening_on(url: str, tmp_path: Path) -> None:
    lazy = pull(url, tmp_path, lazy=True)
    assert len([*lazy.features]) == 20
    assert local_bytes(lazy.directory) > LIMIT
    del lazy
    gc.collect()
    assert local_bytes(pull(url, tmp_path, lazy=True, local_limit=LIMIT).directory) <= LIMIT


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda cache: cache.verify(), "pull it without"),
        (lambda cache: cache.push(f"file://{cache.directory.parent}/copy"), "pull it without"),
        (lambda cache: Cache(cache.directory), "pull it without"),
        (lambda cache: CacheDataset(cache.directory), "pull it without"),
        (lambda cache: cache.remove(), "remove_leftovers"),
    ],
    ids=["verify", "push", "open", "dataset", "remove"],
)
def test_the_directory_of_a_lazy_cache_is_no_cache(url: str, tmp_path: Path, use: Any, message: str) -> None:
    lazy = Cache.pull(url, tmp_path, lazy=True)
    assert len([*lazy.features]) == 20
    with pytest.raises(CacheNotFoundError, match=f"found one that was pulled with lazy=True.*{message}"):
        use(lazy)


def test_a_cache_that_was_replaced_in_the_store_is_named(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy_pull, "FIRST_PAUSE_SECONDS", 0.0)
    place = f"file://{tmp_path}/store"
    shutil.copytree(url.removeprefix("file://"), tmp_path / "store")
    lazy = pull(place, tmp_path / "lazy", lazy=True)
    settings = {"max_seq_length": LENGTH, "doc_stride": OVERLAP}
    push(
        build(varied_examples((5, 9)), sample_tokenizer(), tmp_path / "other", **settings).directory,
        place,
        replace=True,
    )
    with pytest.raises(TransferError, match="another one was sent to its place; pull it again"):
        lazy.features[3]


def test_no_more_of_an_epoch_is_planned_ahead_than_brings_all_shards(url: str, tmp_path: Path) -> None:
    lazy = pull(url, tmp_path, lazy=True)
    assert lazy.source is not None
    before = {*threading.enumerate()}
    planned: list[int] = []

    def needs() -> Iterator[tuple[int, list[int]]]:
        for step in range(10_000):
            planned.append(step)
            yield step + 1, [step % 20]

    ahead = lazy.source.expect(needs())
    for thread in {*threading.enumerate()} - before:
        thread.join(WAIT_SECONDS)
    ahead.close()
    assert len([*lazy.directory.glob("features-*.arrow")]) == 20
    assert len(planned) <= 20 + FETCHES_AT_ONCE


def test_a_store_that_stalls_keeps_no_loop_from_ending(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = pull(url, tmp_path, lazy=True)
    stalled, healed = threading.Event(), threading.Event()
    read = Store.blocks
    ended: list[bool] = []

    def stalling(self: Any, file: str, start: int, stop: int) -> Iterator[bytes]:
        stalled.set()
        ended.append(healed.wait(WAIT_SECONDS))
        return read(self, file, start, stop)

    monkeypatch.setattr(Store, "blocks", stalling)
    items = Prefetched((lazy.features[number] for number in range(2)), 1)
    assert stalled.wait(WAIT_SECONDS)
    items.close()
    assert not ended
    healed.set()
    assert lazy.features[0].row_start == 0


def test_a_wait_for_another_process_is_logged(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("memxlnet.maintain.local_shards._LONG_WAIT_SECONDS", 0.0)
    lazy = pull(url, tmp_path, lazy=True)
    other = ShardFiles(lazy.directory, lazy.manifest.tables["features"].shards, None)
    begun = other.begin(0)
    assert begun is not None
    thread = threading.Thread(target=lambda: lazy.features[0])
    thread.start()
    while thread.is_alive() and "waiting for another process" not in caplog.text:
        time.sleep(0.01)
    other.give_up(0, begun)
    thread.join(WAIT_SECONDS)
    assert caplog.text.count("waiting for another process that fetches it") == 1


def test_a_process_that_is_forked_after_the_cache_was_removed_raises_what_its_parent_does(
    url: str, tmp_path: Path
) -> None:
    lazy = pull(url, tmp_path, lazy=True)
    shutil.rmtree(lazy.directory)
    for _ in range(2):
        with pytest.raises(TransferError, match="No such file"):
            lazy.features[0]
        cast(LocalShards, lazy.source).after_fork()


def test_a_lazy_cache_is_no_published_one_until_all_is_here(whole: Path, url: str, tmp_path: Path) -> None:
    lazy = Cache.pull(url, tmp_path, lazy=True)
    assert lazy.directory.name == f".lazy-{whole.name}"
    with pytest.raises(CacheNotFoundError):
        PublishedCache(tmp_path / whole.name)
    for _ in steps(lazy.dataset(), num_workers=1):
        pass
    assert Cache.pull(url, tmp_path, lazy=True).directory == tmp_path / whole.name
    assert files_of(tmp_path / whole.name) == files_of(whole)
    assert torch.equal(lazy.dataset()[0]["input_ids"], Cache(whole).dataset()[0]["input_ids"])


@pytest.mark.parametrize("lazy", [True, False])
def test_what_has_arrived_is_not_fetched_again(
    whole: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lazy: bool
) -> None:
    first = CacheDataset.of(pull(url, tmp_path, lazy=True))
    first.gather(range(2 * SHARD_ROWS))
    here = {path.name for path in first.directory.glob("features-*")}
    assert len(here) == 2
    del first
    gc.collect()
    asked = fetched_files(monkeypatch)
    if lazy:
        CacheDataset.of(pull(url, tmp_path, lazy=True)).gather(range(3 * SHARD_ROWS))
        assert [file for file in asked if file.startswith("features-")] == ["features-00002.arrow"]
    else:
        assert files_of(pull(url, tmp_path)) == files_of(whole)
        assert not here & {*asked}
        assert [path.name for path in tmp_path.iterdir()] == [whole.name]


def fetched_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list to which each file is added whose bytes are read from a store."""
    asked = []
    read = Store.blocks

    def recorded(self: Any, file: str, start: int, stop: int) -> Iterator[bytes]:
        asked.append(file)
        return read(self, file, start, stop)

    monkeypatch.setattr(Store, "blocks", recorded)
    return asked


def test_an_earlier_pull_that_was_cut_is_taken_over(
    whole: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = tmp_path / f".arriving-{whole.name}"
    staging.mkdir()
    shutil.copy(whole / "features-00000.arrow", staging)
    asked = fetched_files(monkeypatch)
    CacheDataset.of(pull(url, tmp_path, lazy=True)).gather(range(2 * SHARD_ROWS))
    assert [file for file in asked if file.startswith("features")] == ["features-00001.arrow"]


def test_a_shard_that_was_damaged_here_is_fetched_again(url: str, whole: Path, tmp_path: Path) -> None:
    pull(url, tmp_path, lazy=True).features[0]
    path = tmp_path / f".lazy-{whole.name}" / "features-00000.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    again = pull(url, tmp_path, lazy=True)
    assert again.features[0].columns["input_ids"].tolist() == (
        PublishedCache(whole).features[0].columns["input_ids"].tolist()
    )
    assert path.read_bytes() == (whole / path.name).read_bytes()


def test_a_shard_that_is_damaged_in_the_store_is_never_used(s3: Bucket, tmp_path: Path) -> None:
    content = bytearray(s3.get("features-00001.arrow"))
    content[len(content) // 2] ^= 1
    s3.put("features-00001.arrow", bytes(content))
    lazy = CacheDataset.of(pull(s3.url, tmp_path, lazy=True, storage_options=s3.options()))
    with pytest.raises(TransferError, match=r"features-00001\.arrow.*6 attempts.*checksum"):
        lazy.gather(range(len(lazy)))
    assert not (lazy.directory / "features-00001.arrow").exists()


@pytest.mark.parametrize("hold", [False, slow(True)], ids=["breaks", "stalls"])
def test_a_loader_resumes_after_the_store_failed(
    whole: Path, s3: Bucket, proxy: CuttingProxy, tmp_path: Path, hold: bool
) -> None:
    patience = {"retries": {"max_attempts": 0}, "connect_timeout": 1, "read_timeout": 1}
    options = s3.options(endpoint_url=proxy.endpoint, config_kwargs=patience if hold else s3.options()["config_kwargs"])
    lazy = CacheDataset.of(pull(s3.url, tmp_path, lazy=True, local_limit=LIMIT, storage_options=options))
    arguments: dict[str, Any] = {"shuffle": True, "order": "shards", "lanes": "refilled", "num_workers": 1}
    expected = list(steps(CacheDataset.open(whole), **arguments))
    proxy.cut_after(down=130_000, hold=hold)
    loader: Any = TimeStepMajorDataLoader(lazy, 4, **arguments)
    found: list[Any] = []
    with pytest.raises(TransferError, match=r"s3://.*features-.*: cannot be fetched: 6 attempts.*state_dict"):
        append_all(found, loader)
    assert 0 < len(found) < len(expected)
    state = json.loads(json.dumps(loader.state_dict()))
    assert state["step"] == len(found)
    proxy.heal()
    again: Any = TimeStepMajorDataLoader(lazy, 4, **arguments)
    again.load_state_dict(state)
    found += again
    for one, other in zip(expected, found, strict=True):
        assert_same(one, other)


def append_all(found: list[Any], items: Any) -> None:
    """Append items to a list one by one, so that those before an error are in it."""
    for item in items:
        found.append(item)  # noqa: PERF402


def test_a_failure_that_passes_is_tried_again(s3: Bucket, whole: Path, tmp_path: Path, monkeypatch: Any) -> None:
    lazy = CacheDataset.of(pull(s3.url, tmp_path, lazy=True, storage_options=s3.options()))
    read = Store.blocks
    failures = ["first", "second"]

    def failing(self: Any, file: str, start: int, stop: int) -> Iterator[bytes]:
        if failures:
            raise TransferError(failures.pop())
        return read(self, file, start, stop)

    monkeypatch.setattr(Store, "blocks", failing)
    rows = range(3 * SHARD_ROWS)
    assert torch.equal(lazy.gather(rows)["input_ids"], CacheDataset.open(whole).gather(rows)["input_ids"])
    assert not failures


def test_ranks_read_shards_of_their_own(whole: Path, url: str, tmp_path: Path) -> None:
    read: list[set[int]] = []
    for rank in range(2):
        lazy = CacheDataset.of(pull(url, tmp_path / str(rank), lazy=True))
        options: dict[str, Any] = {"shuffle": True, "order": "shards", "rank": rank, "world_size": 2}
        local = list(steps(CacheDataset.open(whole), **options))
        rows = set()
        for one, other in zip(local, steps(lazy, **options), strict=True):
            assert_same(one, other)
            rows |= {*other["rows"].tolist()} - {-1}
        read.append({row // SHARD_ROWS for row in rows})
    # They may share the block in which the order is cut, and shards in which a document of a neighbour ends.
    assert len(read[0] & read[1]) <= 8
    assert read[0] | read[1] == set(range(20))


def read_in_process(source: bytes, shuffle: bool, results: Any) -> None:
    cache = pickle.loads(source)
    loader = cache.loader(4, shuffle=shuffle, order="shards", lanes="refilled")
    results.put([(step["rows"].tolist(), step["input_ids"].sum().item()) for step in loader])


@pytest.mark.parametrize("method", [slow("spawn"), "fork"])
def test_processes_share_the_local_shards(whole: Path, url: str, tmp_path: Path, method: Any) -> None:
    cache = Cache.pull(url, tmp_path, lazy=True, local_limit=2 * LIMIT)
    cache.features[3]
    context = multiprocessing.get_context(method)
    results: Any = context.Queue()
    source = pickle.dumps(cache)
    processes = [context.Process(target=read_in_process, args=(source, True, results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [results.get(timeout=WAIT_SECONDS) for _ in processes]
    for process in processes:
        process.join(WAIT_SECONDS)
        assert process.exitcode == 0
    expected = [
        (step["rows"].tolist(), step["input_ids"].sum().item())
        for step in Cache(whole).loader(4, shuffle=True, order="shards", lanes="refilled")
    ]
    assert found == [expected, expected]
    assert local_bytes(cache.directory) <= 2 * LIMIT


def test_a_collector_over_a_lazy_cache_is_sent_with_what_brings_its_shards(
    whole: Path, url: str, tmp_path: Path
) -> None:
    answers = []
    for cache in (Cache.pull(url, tmp_path, lazy=True, local_limit=LIMIT), Cache(whole)):
        parts = [cache.collector(), cache.collector()]
        scores = torch.rand((cache.num_rows, LENGTH), generator=torch.Generator().manual_seed(0))
        for part, rows in zip(parts, (torch.arange(200), torch.arange(200, cache.num_rows)), strict=True):
            pickle.loads(pickle.dumps(part)).add(rows, scores[rows], scores[rows].flip(1))
            part.add(rows, scores[rows], scores[rows].flip(1))
        parts[0].merge(pickle.loads(pickle.dumps(parts[1])))
        answers.append([(each.example_id, each.text) for each in parts[0].predictions()])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_worker_processes_of_torch_read_a_lazy_cache(whole: Path, url: str, tmp_path: Path, workers: int) -> None:
    lazy = Cache.pull(url, tmp_path, lazy=True, local_limit=LIMIT)
    options: dict[str, Any] = {"shuffle": True, "order": "shards", "num_workers": workers, "metadata": ["question"]}
    for one, other in zip(Cache(whole).segment_loader(16, **options), lazy.segment_loader(16, **options), strict=True):
        assert_same(dict(one), dict(other))


@pytest.mark.parametrize("most", [None, slow(2)])
@pytest.mark.parametrize("left", [True, slow(False)])
def test_the_size_of_an_epoch_needs_no_shard(tmp_path: Path, most: int | None, left: bool) -> None:
    tokenizer = sample_tokenizer() if left else bert_tokenizer()
    configure_memory_tokens(tokenizer, 2)
    settings: dict[str, Any] = {
        "max_seq_length": LENGTH,
        "doc_stride": OVERLAP,
        "max_n_segs": most,
        "max_shard_rows": SHARD_ROWS,
    }
    whole = Cache(build(varied_examples(), tokenizer, tmp_path / "whole", **settings).directory)
    assert whole.manifest.layout.pad_left == left
    lazy = Cache.pull(whole.directory.as_uri(), tmp_path / "lazy", lazy=True)
    different: list[dict[str, Any]] = [
        {},
        {"lanes": "refilled"},
        {"padding": "longest"},
        {"max_segments": 2},
        {"group_by_length": True},
    ]
    for options in different:
        sizes = [cache.loader(4, shuffle=True, **options).epoch_size(1) for cache in (whole, lazy)]
        assert sizes[0] == sizes[1]
    for group in (False, True):
        options = {"shuffle": True, "padding": "longest", "group_by_length": group}
        sizes = [cache.segment_loader(4, **options).epoch_size(1) for cache in (whole, lazy)]
        assert sizes[0] == sizes[1]
    views = [cache.loader(2, dataset=cache.dataset().select([7, 2, 11])).epoch_size() for cache in (whole, lazy)]
    assert views[0] == views[1]
    assert local_bytes(lazy.directory) == 0


def test_random_order_under_a_limit_is_warned_of(url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache.pull(url, tmp_path, lazy=True, local_limit=LIMIT)
    cache.loader(4, shuffle=True)
    (message,) = caplog.messages
    assert f"local_limit={LIMIT} holds 4" in message
    assert "use order='shards', or raise the limit to " in message


KILLED = """
import json
import sys
from memxlnet.remote.pull import pull
cache = pull(sys.argv[1], sys.argv[2], lazy=True, storage_options=json.loads(sys.argv[3]))
sys.stdout.write("open"); sys.stdout.flush()
[shard.row_start for shard in cache.features]
"""


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_fetches_leaves_what_is_resumed(
    whole: Path, s3: Bucket, proxy: CuttingProxy, tmp_path: Path
) -> None:
    small = sum(path.stat().st_size for path in whole.iterdir() if not path.name.startswith("features-"))
    proxy.cut_after(down=small + 70_000, hold=True)
    options = json.dumps(s3.options(endpoint_url=proxy.endpoint))
    with subprocess.Popen([sys.executable, "-c", KILLED, s3.url, str(tmp_path), options], cwd=ROOT) as process:
        assert proxy.reached.wait(WAIT_SECONDS)
        process.kill()
    proxy.heal()
    directory = tmp_path / f".lazy-{whole.name}"
    here = {path.name for path in directory.glob("features-*.arrow")}
    assert here
    (leftover,) = find_leftovers(tmp_path)
    assert (leftover.kind, leftover.in_use) == ("lazy", False)
    lazy = CacheDataset.of(pull(s3.url, tmp_path, lazy=True, storage_options=s3.options()))
    local = CacheDataset.open(whole)
    rows = range(len(local))
    assert torch.equal(lazy.gather(rows)["input_ids"], local.gather(rows)["input_ids"])


def test_a_lazy_cache_is_a_leftover_once_nobody_reads_it(url: str, tmp_path: Path) -> None:
    lazy = pull(url, tmp_path, lazy=True)
    lazy.features[0]
    assert [(each.kind, each.in_use) for each in find_leftovers(tmp_path)] == [("lazy", True)]
    assert remove_leftovers(tmp_path) == []
    del lazy
    gc.collect()
    assert [(each.kind, each.in_use) for each in find_leftovers(tmp_path)] == [("lazy", False)]
    assert len(remove_leftovers(tmp_path)) == 1
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("lazily", [False, True])
def test_lazy_files_of_a_published_cache_go_with_the_next_pull_after_their_readers(
    whole: Path, url: str, tmp_path: Path, lazily: bool
) -> None:
    def again() -> object:
        return pull(url, tmp_path, lazy=True) if lazily else pull(url, tmp_path)

    lazy = pull(url, tmp_path, lazy=True)
    pull(url, tmp_path)
    again()
    assert {path.name for path in tmp_path.iterdir()} == {whole.name, lazy.directory.name}
    assert len(lazy.features[0].columns["document"]) == SHARD_ROWS
    directory = lazy.directory
    del lazy
    gc.collect()
    with builder_lock(lock_path(tmp_path, whole.name), lambda: None):
        again()
    assert directory.exists()
    again()
    assert [path.name for path in tmp_path.iterdir()] == [whole.name]


def refused(**options: Any) -> Any:
    return lambda cache: TimeStepMajorDataLoader(cache.dataset(), 4, **options)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (refused(max_segments=2, window="answer"), "window"),
        (refused(shuffle=True, order="shards"), r"local_limit of at least 4[\d,]+ bytes"),
        (lambda cache: cache.dataset(in_memory=True), "in_memory"),
        (lambda cache: cache.dataset(device="cpu"), "device"),
        (lambda cache: cache.dataset().column("input_ids"), "column"),
        (lambda cache: concatenate([cache.dataset(), cache.dataset()]), "lazy=True"),
    ],
)
def test_what_needs_all_shards_is_refused(url: str, tmp_path: Path, use: Any, message: str) -> None:
    cache = Cache.pull(url, tmp_path, lazy=True, local_limit=30_000)
    with pytest.raises(SettingsError, match=message):
        use(cache)
    assert local_bytes(cache.directory) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"local_limit": 1000}, "local_limit: expected None without lazy"),
        ({"lazy": True, "local_limit": 1000}, r"at least the largest shard.*1,000"),
        ({"lazy": True, "local_limit": 0}, "local_limit"),
        ({"lazy": True, "local_limit": "1 GB"}, "local_limit"),
        ({"lazy": True, "replace": True}, "replace"),
        ({"lazy": 1}, "lazy"),
    ],
)
def test_bad_arguments_are_refused(url: str, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    for call in (pull, Cache.pull):
        with pytest.raises(SettingsError, match=message):
            call(url, tmp_path, **options)
    assert [*tmp_path.iterdir()] == []


def test_credentials_are_not_pickled(s3: Bucket, tmp_path: Path) -> None:
    cache = Cache.pull(s3.url, tmp_path, lazy=True, storage_options=s3.options())
    with pytest.raises(SettingsError, match=r"storage_options.*pickled"):
        pickle.dumps(cache)
