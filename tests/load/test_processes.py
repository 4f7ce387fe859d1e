import copy
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from memxlnet.data.qa_datasets import LazySquadLikeQADataset, SquadLikeQADataset
from memxlnet.errors import CacheNotFoundError
from memxlnet.load.cache_dataset import CacheDataset
from tests.load.helpers import Built, plain_row
from tests.load.workers import read_rows
from tests.support import WAIT_SECONDS, slow


def test_pickling_carries_the_path_not_the_data(any_dataset: CacheDataset) -> None:
    any_dataset.get_document_segments("dök-4")  # an index that is held must not travel either
    before = pa.total_allocated_bytes()
    data = pickle.dumps(any_dataset)
    assert pa.total_allocated_bytes() == before
    assert len(data) < 4096
    assert str(any_dataset.directory).encode() in data
    again = pickle.loads(data)
    assert type(again) is type(any_dataset)
    assert again.directory == any_dataset.directory
    assert again.cache.in_memory == any_dataset.cache.in_memory
    assert [plain_row(item) for item in again[:]] == [plain_row(item) for item in any_dataset[:]]


def test_pickling_keeps_the_switch_for_copies(built: Built) -> None:
    for copies in (False, True):
        again = pickle.loads(pickle.dumps(LazySquadLikeQADataset.open(built.plain, copies=copies)))
        again[0]["input_ids"].zero_()
        assert bool(again[0]["input_ids"].any()) is copies


def test_a_write_does_not_travel(lazy: CacheDataset) -> None:
    old = lazy[0]["input_ids"].tolist()
    lazy[0]["input_ids"].zero_()
    assert pickle.loads(pickle.dumps(lazy))[0]["input_ids"].tolist() == old
    assert copy.deepcopy(lazy)[0]["input_ids"].tolist() == old


def test_unpickling_without_the_cache_is_an_error(built: Built, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(built.plain, tmp_path / "copy"))
    data = pickle.dumps(CacheDataset(moved))
    shutil.rmtree(moved)
    with pytest.raises(CacheNotFoundError, match="copy"):
        pickle.loads(data)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", slow("spawn"), "forkserver"])
def test_works_in_worker_processes(built: Built, method: str) -> None:
    openers: list[Callable[[Path], CacheDataset]] = [LazySquadLikeQADataset.open, SquadLikeQADataset.open]
    rows = [0, 3, 50]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        for opener in openers:
            dataset = opener(built.plain)
            kind, in_memory, items, gathered = pool.submit(read_rows, dataset, rows).result(timeout=WAIT_SECONDS)
            assert (kind, in_memory) == (type(dataset).__name__, dataset.cache.in_memory)
            assert items == [plain_row(dataset[row]) for row in rows]
            assert gathered == [item["input_ids"] for item in items]


def _child(dataset: CacheDataset, rows: list[int], out: "multiprocessing.SimpleQueue[object]") -> None:
    dataset[rows[0]]["input_ids"].zero_()
    out.put((dataset[rows[0]]["input_ids"].tolist(), read_rows(dataset, rows[1:])[3]))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_map_is_shared_and_private(lazy: CacheDataset) -> None:
    expected = lazy.gather([0, 5, 9])["input_ids"].tolist()
    context = multiprocessing.get_context("fork")
    out = context.SimpleQueue()
    process = context.Process(target=_child, args=(lazy, [0, 5, 9], out))
    process.start()
    written, read = out.get()
    process.join(WAIT_SECONDS)
    assert process.exitcode == 0
    assert written == [0] * len(expected[0])
    assert read == expected[1:]
    assert lazy.gather([0, 5, 9])["input_ids"].tolist() == expected
