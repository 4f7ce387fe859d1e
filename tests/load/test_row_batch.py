import copy
import pickle
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, default_collate
from transformers import DataCollatorWithPadding, default_data_collator

from memxlnet.errors import RowIndexError, SettingsError
from memxlnet.load.cache_dataset import BATCH_COLUMNS, CacheDataset
from memxlnet.load.collate import Collate
from memxlnet.load.create import create_dataloader
from memxlnet.load.model_inputs import model_inputs
from memxlnet.load.option_literals import Dtype
from memxlnet.load.row_batch import RowBatch
from memxlnet.load.seeded_random import shuffled
from tests.load.helpers import DTYPES, MODEL_KEYS, Built, assert_same_steps, sample_tokenizer

ROWS = [4, 0, 4, -1, 40]


def torch_loader(dataset: CacheDataset, batch_size: int, **options: Any) -> "DataLoader[Any]":
    loader = create_dataloader(dataset, batch_size, use_time_step_major=False, **options)
    assert isinstance(loader, DataLoader)
    return loader


class TestRowBatch:
    def test_is_a_sequence_of_row_dictionaries(self, any_dataset: CacheDataset) -> None:
        batch: RowBatch = any_dataset.__getitems__(ROWS)
        assert isinstance(batch, list)  # as some collators of transformers ask for
        assert len(batch) == len(ROWS)
        for number, (row, found) in enumerate(zip(ROWS, batch, strict=True)):
            assert list(found) == [*BATCH_COLUMNS, "rows"]
            assert found["rows"].item() == row % len(any_dataset)
            for name in (*MODEL_KEYS, "cls_index", "segment_index"):
                assert torch.equal(found[name], torch.as_tensor(any_dataset[row][name], dtype=found[name].dtype))
                assert torch.equal(batch[number][name], found[name])
            assert any_dataset.get_all_documents()[int(found["document"])] == any_dataset[row]["example_id"]
        assert all(batch.columns[name].dtype == dtype for name, dtype in DTYPES.items())

    def test_rows_come_as_they_are_stored_where_asked(self, built: Built) -> None:
        dataset = CacheDataset(built.plain, copies=True, dtype="stored")
        for row in (dataset.__getitems__(ROWS)[0], dataset[0], pickle.loads(pickle.dumps(dataset))[0]):
            assert {name: row[name].dtype for name in MODEL_KEYS} == DTYPES
        row = CacheDataset(built.plain, copies=True)[0]
        assert {row[name].dtype for name in MODEL_KEYS} == {torch.int64}

    def test_rows_come_as_every_model_takes_them_by_default(self, lazy: CacheDataset) -> None:
        assert {column.dtype for row in lazy.__getitems__(ROWS) for column in row.values()} == {torch.int64}

    @pytest.mark.parametrize("read_first", [False, True])
    def test_pickles_by_columns(self, lazy: CacheDataset, read_first: bool) -> None:
        batch = lazy.__getitems__(ROWS * 8)
        if read_first:
            list(batch)
        data = pickle.dumps(batch)
        assert len(data) < 2 * sum(column.nbytes for column in batch.columns.values()) + 4096
        assert_same_steps(list(pickle.loads(data)), list(batch))

    def test_counts_and_slices_like_a_list(self, lazy: CacheDataset) -> None:
        batch = lazy.__getitems__(list(range(10, 22)))
        rows = list(range(10, 22))
        for index in (0, -1, 11, -12):
            assert batch[index]["rows"].item() == rows[index]
        for part in (
            slice(2, 7),
            slice(None, None, 3),
            slice(None, None, -1),
            slice(8, 2, -2),
            slice(4, 4),
            slice(9, 99),
        ):
            cut = batch[part]
            assert [row["rows"].item() for row in cut] == rows[part]
            assert len(cut) == len(rows[part])
        for index in (12, -13):
            with pytest.raises(IndexError):
                batch[index]

    def test_is_a_copy(self, lazy: CacheDataset) -> None:
        old = lazy[0]["input_ids"].clone()
        lazy.__getitems__([0])[0]["input_ids"].zero_()
        assert torch.equal(lazy[0]["input_ids"], old)

    def test_rows_are_checked(self, lazy: CacheDataset) -> None:
        with pytest.raises(RowIndexError):
            lazy.__getitems__([0, len(lazy)])
        with pytest.raises(SettingsError):
            lazy.__getitems__([0.5])  # type: ignore[list-item]


class TestCollate:
    @pytest.mark.parametrize(
        "collate", [default_collate, default_data_collator, DataCollatorWithPadding(sample_tokenizer()), Collate()]
    )
    def test_all_collators_give_the_gathered_columns(self, any_dataset: CacheDataset, collate: Any) -> None:
        loader: DataLoader[Any] = DataLoader(any_dataset, len(ROWS), sampler=ROWS, collate_fn=collate)
        (batch,) = loader
        expected = any_dataset.gather(ROWS)
        for name in MODEL_KEYS:
            assert torch.equal(batch[name].long(), expected[name].long())
        assert batch["rows"].tolist() == [row % len(any_dataset) for row in ROWS]

    @pytest.mark.parametrize("dtype", ["int64", "stored"])
    def test_takes_rows_one_by_one_too(self, lazy: CacheDataset, dtype: Dtype) -> None:
        rows = CacheDataset(lazy.directory, dtype=dtype).__getitems__(ROWS)
        whole, single = Collate(dtype)(rows), Collate(dtype)(list(rows))
        assert list(whole) == list(single)
        for name, column in whole.items():
            assert column.dtype == single[name].dtype
            assert torch.equal(column, single[name])
        assert (whole["input_ids"].dtype == torch.int64) is (dtype == "int64")

    def test_int64_is_for_all_columns(self, lazy: CacheDataset) -> None:
        assert {column.dtype for column in Collate()(lazy.__getitems__(ROWS)).values()} == {torch.int64}

    def test_is_picklable(self) -> None:
        assert pickle.loads(pickle.dumps(Collate("stored"))).dtype == "stored"

    @pytest.mark.parametrize("dtype", ["int32", None, torch.int64])
    def test_refuses_other_types(self, dtype: Any) -> None:
        with pytest.raises(SettingsError, match=rf"^dtype:.*{re.escape(repr(dtype))}$"):
            Collate(dtype)


class TestTorchLoader:
    def test_reads_every_row_once_in_order(self, any_dataset: CacheDataset) -> None:
        loader = torch_loader(any_dataset, 7)
        batches = list(loader)
        assert len(batches) == len(loader) == -(-len(any_dataset) // 7)
        assert torch.cat([batch["rows"] for batch in batches]).tolist() == list(range(len(any_dataset)))
        for batch in batches:
            expected = any_dataset.gather(batch["rows"])
            for name in MODEL_KEYS:
                assert batch[name].dtype == torch.int64
                assert torch.equal(batch[name], expected[name].long())

    def test_stored_types(self, lazy: CacheDataset) -> None:
        batch = next(iter(torch_loader(lazy, 3, dtype="stored")))
        assert {name: batch[name].dtype for name in MODEL_KEYS} == DTYPES

    def test_drop_last(self, lazy: CacheDataset) -> None:
        size = 100
        assert len(lazy) % size
        assert [len(batch["rows"]) for batch in torch_loader(lazy, size, drop_last=True)] == [size] * (
            len(lazy) // size
        )

    def test_shuffle_is_a_pure_function_of_seed_and_epoch(self, lazy: CacheDataset) -> None:
        def epochs(**options: Any) -> list[list[int]]:
            loader = torch_loader(lazy, 8, shuffle=True, **options)
            return [torch.cat([batch["rows"] for batch in loader]).tolist() for _ in range(2)]

        expected = [shuffled(len(lazy), 5, epoch).tolist() for epoch in range(2)]
        assert epochs(seed=5) == expected
        torch.manual_seed(99)
        assert epochs(seed=5) == expected
        assert epochs(seed=6) != expected

    @pytest.mark.parametrize("shuffle", [True, False])
    def test_global_generators_are_left_alone(self, lazy: CacheDataset, shuffle: bool) -> None:
        before = torch.get_rng_state()
        list(torch_loader(lazy, 50, shuffle=shuffle))
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_sampler_has_an_epoch(self, lazy: CacheDataset) -> None:
        loader: Any = torch_loader(lazy, 8, shuffle=True, seed=5)
        loader.sampler.set_epoch(4)
        assert torch.cat([batch["rows"] for batch in loader]).tolist() == shuffled(len(lazy), 5, 4).tolist()
        assert loader.sampler.epoch == 5
        assert len(loader.sampler) == len(lazy)

    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
    def test_forked_worker_processes_make_no_difference(self, lazy: CacheDataset) -> None:
        """Spawned ones: see the metadata, which they carry too."""
        expected = list(torch_loader(lazy, 50, shuffle=True, seed=1))
        loader = torch_loader(lazy, 50, shuffle=True, seed=1, num_workers=2, multiprocessing_context="fork")
        assert_same_steps(loader, expected)


class _Model(torch.nn.Module):
    """A model that also has a submodule of the name that wrappers use."""

    def __init__(self) -> None:
        super().__init__()
        self.module = torch.nn.Linear(1, 1)

    def forward(self, input_ids: Any, token_type_ids: Any = None, **others: Any) -> Any:
        return input_ids


class _Parallel(torch.nn.Module):
    """Wraps as `DistributedDataParallel` does."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


class _Compiled(torch.nn.Module):
    """Wraps as `torch.compile` does."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self._orig_mod = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._orig_mod(*args, **kwargs)


STEP = {"input_ids": torch.ones(1), "token_type_ids": torch.ones(1), "rows": torch.ones(1), "example_ids": ["a"]}


class TestModelInputs:
    def test_keeps_what_forward_names(self) -> None:
        step = copy.copy(STEP)
        found = model_inputs(step, _Model())
        assert list(found) == ["input_ids", "token_type_ids"]
        assert all(found[name] is step[name] for name in found)
        assert step == STEP

    @pytest.mark.parametrize(
        "wrap",
        [
            _Parallel,
            _Compiled,
            lambda model: _Parallel(_Compiled(model)),
            lambda model: _Compiled(_Parallel(model)),
            lambda model: _Parallel(_Parallel(model)),
            lambda model: _Compiled(_Parallel(_Compiled(model))),
        ],
    )
    def test_looks_through_wrappers(self, wrap: Any) -> None:
        assert list(model_inputs(STEP, wrap(_Model()))) == ["input_ids", "token_type_ids"]

    @pytest.mark.parametrize(("kind", "types"), [("gpt2", False), ("xlm", False), ("bert", True), ("mine", True)])
    def test_leaves_out_segment_ids_that_a_model_takes_for_words(self, kind: str, types: bool) -> None:
        model: Any = _Model()
        model.config = SimpleNamespace(model_type=kind)
        for wrapped in (model, _Parallel(_Compiled(model))):
            assert list(model_inputs(STEP, wrapped)) == ["input_ids", *(["token_type_ids"] if types else [])]

    def test_names_nothing_where_forward_does_not(self) -> None:
        class Anything(torch.nn.Module):
            def forward(self, **inputs: Any) -> None: ...

        assert model_inputs(STEP, Anything()) == {}
