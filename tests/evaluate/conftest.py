import pytest

from memxlnet.load.cache_dataset import CacheDataset
from tests.evaluate.helpers import texts
from tests.load.helpers import sample_tokenizer
from tests.support import build

SHARD_ROWS = 5
"""Small enough that documents lie across the border of two shards."""

WORDS = (30, 3, 14, 1, 45)


@pytest.fixture(scope="package")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CacheDataset:
    """Documents of one to many segments that overlap; tests leave it as it is."""
    found = build(texts(WORDS), sample_tokenizer(), tmp_path_factory.mktemp("evaluate"), max_seq_length=48)
    assert max(found.documents.num_segments) > 5 > min(found.documents.num_segments)
    return found


@pytest.fixture(scope="package")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> CacheDataset:
    """The same rows in many shards."""
    root = tmp_path_factory.mktemp("sharded")
    found = build(texts(WORDS), sample_tokenizer(), root, max_seq_length=48, max_shard_rows=SHARD_ROWS)
    assert len(found.cache.features) > 3
    return found


@pytest.fixture(scope="package")
def another(tmp_path_factory: pytest.TempPathFactory) -> CacheDataset:
    """The same documents in longer rows: another cache."""
    return build(texts(WORDS), sample_tokenizer(), tmp_path_factory.mktemp("another"), max_seq_length=96)
