"""The caches of this folder hold what makes reading them hard."""

from collections import Counter

from memxlnet.load.cache_dataset import CacheDataset
from tests.open_files.caches import ODD_TEXTS, features_of, odd_examples, segments_of, texts_of


def test_the_sample_has_shards_and_memory_tokens(sample: CacheDataset) -> None:
    assert len(sample.cache.features) >= 5
    assert sample.manifest.layout.num_memory_tokens == 3
    assert sample.manifest.tables["documents"].rows > sample.manifest.tables["contexts"].rows > 1


def test_the_odd_rows_have_every_outcome(odd: CacheDataset) -> None:
    assert len(odd.cache.features) >= 3
    assert min(odd.manifest.alignment.values()) > 0, odd.manifest.alignment
    assert odd.manifest.dropped_examples == 2
    assert (odd.directory / "dropped.jsonl").is_file()
    assert odd.manifest.tables["documents"].rows == len(odd_examples()) - 2
    assert odd.manifest.tables["contexts"].rows == len(ODD_TEXTS)
    documents = texts_of(odd, "documents")
    without = Counter(len(document["answer_texts"]) for document in documents)[0]
    assert without == 3 * len(ODD_TEXTS)  # none, only an empty one, and unlabelled
    assert odd.manifest.contradictions == 2 * len(ODD_TEXTS)  # an empty answer, alone or beside another
    assert any(document["num_segments"] > 1 for document in documents)
    assert {segment["answer"] for segment in segments_of(odd)} > {"", *ODD_TEXTS}
    assert 0 < features_of(odd)["has_answer_in_segment"].sum() < len(odd)


def test_the_many_have_several_batches_and_contexts_out_of_order(many: CacheDataset) -> None:
    tables = many.manifest.tables
    assert [tables[name].rows for name in ("documents", "contexts")] == [1100, 130]
    assert len(tables["features"].shards) >= 3
    contexts = [document["context"] for document in texts_of(many, "documents")]
    assert contexts != sorted(contexts)
