import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memxlnet.data.qa_datasets import LazySquadLikeQADataset, SquadLikeQADataset
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.load.cache_dataset import CacheDataset
from tests.load.helpers import LENGTH, MEMORY, OVERLAP, Built, sample_tokenizer, varied_examples
from tests.support import build, slow_but

SHARD_ROWS = 17
"""Small enough that documents lie across the border of two shards."""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    root = tmp_path_factory.mktemp("varied")
    examples = varied_examples()
    settings = {"max_seq_length": LENGTH, "doc_stride": OVERLAP}
    plain = build(examples, sample_tokenizer(), root / "plain", **settings)
    sharded = build(examples, sample_tokenizer(), root / "sharded", max_shard_rows=SHARD_ROWS, **settings)
    with_memory = sample_tokenizer()
    ids = configure_memory_tokens(with_memory, MEMORY)
    memory = build(examples, with_memory, root / "memory", **settings)
    return Built(examples, plain.directory, sharded.directory, memory.directory, ids)


@pytest.fixture
def lazy(built: Built) -> CacheDataset:
    return LazySquadLikeQADataset.open(built.plain)


@pytest.fixture
def sharded(built: Built) -> CacheDataset:
    dataset = LazySquadLikeQADataset.open(built.sharded)
    assert len(dataset.cache.features) > 3
    return dataset


@pytest.fixture
def refuse_private_maps(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the system refuse private writable maps from the call on, as it may under RLIMIT_DATA."""

    def refuse() -> None:
        real = mmap.mmap

        def limited(descriptor: int, length: int, *, flags: int, prot: int) -> mmap.mmap:
            if prot & mmap.PROT_WRITE:
                raise OSError(12, "Cannot allocate memory")
            return real(descriptor, length, flags=flags, prot=prot)

        monkeypatch.setattr("memxlnet.format.mapping.mmap.mmap", limited)

    return refuse


@pytest.fixture(
    params=slow_but(
        ["lazy", "copies", "eager", "sharded", "read-only", "device sharded"],
        ["lazy", "copies", "eager", "sharded", "read-only", "read-only sharded", "device", "device sharded"],
    )
)
def any_dataset(request: pytest.FixtureRequest, built: Built, refuse_private_maps: Callable[[], None]) -> CacheDataset:
    """The same rows, read in every way there is."""
    if request.param.startswith("read-only"):
        refuse_private_maps()
    openers: dict[str, tuple[Any, Path, dict[str, Any]]] = {
        "lazy": (LazySquadLikeQADataset, built.plain, {}),
        "copies": (LazySquadLikeQADataset, built.plain, {"copies": True, "dtype": "stored"}),
        "eager": (SquadLikeQADataset, built.plain, {}),
        "sharded": (LazySquadLikeQADataset, built.sharded, {}),
        "device": (SquadLikeQADataset, built.plain, {"device": "cpu"}),
        "device sharded": (SquadLikeQADataset, built.sharded, {"device": "cpu"}),
        "read-only": (LazySquadLikeQADataset, built.plain, {}),
        "read-only sharded": (LazySquadLikeQADataset, built.sharded, {}),
    }
    kind, directory, options = openers[request.param]
    dataset: CacheDataset = kind.open(directory, **options)
    writable = all(shard.writable for shard in dataset.cache.features)
    assert writable == (not request.param.startswith("read-only"))
    return dataset
