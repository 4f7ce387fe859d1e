"""The calls of the earlier code base, by their module names, on the bundled sample and on the real data."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import XLNetConfig, XLNetForQuestionAnsweringSimple, XLNetTokenizerFast

from memxlnet import model_inputs
from memxlnet.data import (
    configure_memory_tokens,
    create_dataloader,
    create_dataset_from_cache,
    process_and_cache_dataset,
)
from memxlnet.data.dataset import (
    ChunkedCacheManager,
    LazySquadLikeQADataset,
    SquadLikeQADataset,
    TimeStepMajorDataLoader,
)
from memxlnet.data.streaming import StreamingSquadProcessor
from memxlnet.sample import sample_file
from tests.load.helpers import plain_row
from tests.support import SQUAD, XLNET, need_real_data


def _train(dataset: Any, steps: int) -> None:
    """A recurrent training loop in small: states travel along the lanes, gradients along the steps."""
    torch.manual_seed(0)
    vocabulary = dataset.manifest.vocabulary_size
    config = XLNetConfig(vocab_size=vocabulary, d_model=16, n_layer=1, n_head=2, d_inner=32, mem_len=8)
    model: Any = XLNetForQuestionAnsweringSimple(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = create_dataloader(dataset, batch_size=4, shuffle=True, num_workers=1, use_time_step_major=True)
    assert isinstance(loader, TimeStepMajorDataLoader)
    before = model.qa_outputs.weight.detach().clone()
    trained = 0
    for group in loader:
        mems = None
        for step in group:
            output = model(**model_inputs(step, model), mems=mems, use_mems=True)
            mems = [state.detach() for state in output.mems]
            assert torch.isfinite(output.loss)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
            trained += 1
            if trained == steps:
                break
        if trained == steps:
            break
    assert trained == steps
    assert not torch.equal(model.qa_outputs.weight, before)


def test_the_sample_from_file_to_training(tmp_path: Path, tokenizer: Any) -> None:
    ids = configure_memory_tokens(tokenizer, 4)
    assert ids == {"mem_read_ids": [2000, 2001, 2002, 2003], "mem_write_ids": [2004, 2005, 2006, 2007]}
    settings: dict[str, Any] = {"max_seq_length": 128, "doc_stride": 32, "tokenizer": tokenizer}
    count = process_and_cache_dataset(sample_file(), "train", tmp_path, streaming_chunk_size=10, **settings)
    dataset = create_dataset_from_cache(sample_file(), "train", tmp_path, **settings)
    assert isinstance(dataset, LazySquadLikeQADataset)
    assert len(dataset) == count
    assert dataset.manifest.vocabulary_size == 2008
    _train(dataset, 6)


def test_processor_and_manager(tmp_path: Path, tokenizer: Any) -> None:
    manager = ChunkedCacheManager(str(tmp_path), chunk_size=100)
    processor = StreamingSquadProcessor(tokenizer, max_seq_length=128, doc_stride=32, streaming_chunk_size=7)
    count = processor.process_dataset_streaming(str(sample_file()), "train", max_examples=20, cache_manager=manager)
    name = sample_file().stem
    assert manager.cache_exists(name, "train")
    chunks = [manager.load_chunk(name, "train", chunk) for chunk in range(manager.get_total_chunks(name, "train"))]
    assert sum(map(len, chunks)) == count
    params = {"max_seq_length": 128, "doc_stride": 32, "max_examples": 20}
    lazy = LazySquadLikeQADataset(manager, name, "train", params)
    eager = SquadLikeQADataset("train", tokenizer, 128, 32, 20, sample_file(), None)
    assert [plain_row(item) for item in lazy[:]] == [plain_row(item) for item in eager[:]]
    assert [plain_row(item) for chunk in chunks for item in chunk] == [plain_row(item) for item in eager[:]]
    assert len(lazy.get_all_documents()) == 20


@pytest.fixture(scope="module")
def squad(tmp_path_factory: pytest.TempPathFactory) -> LazySquadLikeQADataset:
    need_real_data()

    tokenizer = XLNetTokenizerFast.from_pretrained(XLNET)
    assert configure_memory_tokens(tokenizer, 8)["mem_read_ids"] == list(range(32000, 32008))
    cache_dir = tmp_path_factory.mktemp("squad")
    settings: dict[str, Any] = {"max_seq_length": 160, "doc_stride": 64, "tokenizer": tokenizer}
    count = process_and_cache_dataset(str(SQUAD), "validation", cache_dir, **settings)
    dataset = create_dataset_from_cache(str(SQUAD), "validation", cache_dir, **settings)
    assert isinstance(dataset, LazySquadLikeQADataset)
    assert len(dataset) == count > 6078
    return dataset


@pytest.mark.real_data
class TestRealData:
    def test_counts(self, squad: LazySquadLikeQADataset) -> None:
        alignment = squad.manifest.alignment
        assert alignment["unanswerable"] == 3168
        assert alignment["exact"] + alignment["repaired"] == 2910
        assert alignment["dropped"] == 0
        assert len(squad.get_all_documents()) == 6078

    def test_feeds_training(self, squad: LazySquadLikeQADataset) -> None:
        _train(squad, 3)

    def test_lazy_equals_eager(self, squad: LazySquadLikeQADataset) -> None:
        eager = SquadLikeQADataset.open(squad.directory)
        columns = list(squad.tensors.names)
        lazy_columns, eager_columns = (dataset.gather(slice(None), columns) for dataset in (squad, eager))
        assert all(torch.equal(lazy_columns[name], eager_columns[name]) for name in columns)
        for row in range(0, len(squad), 97):
            assert plain_row(squad[row]) == plain_row(eager[row])

    def test_every_answered_segment_holds_its_answer(self, squad: LazySquadLikeQADataset) -> None:
        answered = squad.column("has_answer_in_segment")
        assert isinstance(answered, torch.Tensor)
        rows = answered.nonzero().flatten().tolist()
        assert len(rows) > 2910
        for row in rows:
            item = squad[row]
            first, last = int(item["start_positions"]), int(item["end_positions"])
            offsets = item["offset_mapping"]
            start, stop = int(offsets[first, 0]), int(offsets[last, 1])
            assert item["chosen_answer_text"] in item["context"][start:stop]
            span = item["chosen_answer_char_span"]
            assert item["context"][slice(*span)] == item["chosen_answer_text"]
            # Nothing beyond the tokens that the answer touches.
            assert int(offsets[first, 1]) > span[0]
            assert int(offsets[last, 0]) < span[1]

    def test_all_other_segments_point_to_cls(self, squad: LazySquadLikeQADataset) -> None:
        names = ["start_positions", "end_positions", "cls_index", "has_answer_in_segment"]
        columns = squad.gather(slice(None), names)
        other = columns["has_answer_in_segment"] == 0
        assert int(other.sum()) > 3168
        for name in ("start_positions", "end_positions"):
            assert (columns[name][other] == 159).all()
            assert (columns[name][~other] < 159).all()
        assert (columns["cls_index"] == 159).all()

    def test_every_document_with_an_answer_is_found_by_its_id(self, squad: LazySquadLikeQADataset) -> None:
        holders = squad.gather(slice(None), ["has_answer_in_segment"])["has_answer_in_segment"].bool()
        for name in squad.get_all_documents()[::500]:
            rows = squad.get_document_segments(name)
            assert [squad[row]["example_id"] for row in rows] == [name] * len(rows)
            if squad[rows[0]]["has_answer"]:
                assert bool(holders[rows].any())
