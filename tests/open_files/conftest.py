from pathlib import Path

import pytest

from memxlnet.load.cache_dataset import CacheDataset
from tests.open_files.caches import build_many, build_odd, build_sample


@pytest.fixture(scope="session")
def directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "sample": build_sample(tmp_path_factory.mktemp("sample")),
        "odd": build_odd(tmp_path_factory.mktemp("odd")),
        "many": build_many(tmp_path_factory.mktemp("many")),
    }


@pytest.fixture(params=["sample", "odd", "many"])
def dataset(request: pytest.FixtureRequest, directories: dict[str, Path]) -> CacheDataset:
    """A cache of several features shards, read by memxlnet."""
    return CacheDataset(directories[request.param])


@pytest.fixture
def sample(directories: dict[str, Path]) -> CacheDataset:
    """The bundled sample, with memory tokens."""
    return CacheDataset(directories["sample"])


@pytest.fixture
def odd(directories: dict[str, Path]) -> CacheDataset:
    """Hand-made rows: odd Unicode, answers of every outcome, dropped examples."""
    return CacheDataset(directories["odd"])


@pytest.fixture
def many(directories: dict[str, Path]) -> CacheDataset:
    """Documents and contexts of several record batches, which refer to each other out of order."""
    return CacheDataset(directories["many"])
