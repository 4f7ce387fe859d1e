"""Steps, batches and columns on a device; stand-ins for the streams of CUDA record in which order they act."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from memxlnet.data.qa_datasets import SquadLikeQADataset, create_dataset_from_cache
from memxlnet.errors import SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader, create_evaluation_dataloader
from memxlnet.load.devices import Transfer
from tests.load.helpers import Built, assert_same_steps, assert_same_tensors, sample_tokenizer, steps_of
from tests.support import slow_but

WAYS: dict[str, dict[str, Any]] = {
    "aligned": {"shuffle": True},
    "ahead": {"shuffle": True, "num_workers": 1, "pin_memory": False},
    "end": {"align": "end", "metadata": ["context_mask", "offset_mapping"]},
    "refilled": {"lanes": "refilled", "padding": "longest", "dtype": "stored"},
    "cut": {"padding": "longest", "pad_to_multiple_of": 8, "metadata": ["context_mask"]},
    "earlier": {"compat": "memxlnet-0"},
    "regular": {"use_time_step_major": False, "shuffle": True},
    "regular-cut": {"use_time_step_major": False, "padding": "longest", "metadata": ["context_mask"]},
}


@pytest.fixture(params=slow_but(["sharded", "memory"], ["plain", "sharded", "memory"]))
def directory(request: pytest.FixtureRequest, built: Built) -> Path:
    found: Path = getattr(built, request.param)
    return found


class TestEqual:
    @pytest.mark.parametrize("way", WAYS)
    def test_steps_are_those_without_a_device(self, directory: Path, way: str) -> None:
        dataset = CacheDataset(directory)
        found, expected = (create_dataloader(dataset, 4, device=device, **WAYS[way]) for device in ("cpu", None))
        assert_same_steps(steps_of(found), steps_of(expected))

    @pytest.mark.parametrize("way", [way for way in WAYS if way != "earlier"])
    def test_steps_of_columns_on_a_device_are_those_of_the_map(self, directory: Path, way: str) -> None:
        datasets = (CacheDataset(directory, device="cpu"), CacheDataset(directory))
        found, expected = (create_dataloader(dataset, 4, **WAYS[way]) for dataset in datasets)
        assert_same_steps(steps_of(found), steps_of(expected))

    def test_evaluation_takes_it(self, built: Built) -> None:
        dataset = CacheDataset(built.plain)
        found, expected = (create_evaluation_dataloader(dataset, device=device) for device in ("cpu", None))
        assert_same_steps(steps_of(found), steps_of(expected))

    def test_columns_on_a_device_are_no_views_of_the_map(self, built: Built) -> None:
        dataset = CacheDataset(built.plain, device="cpu")
        column = dataset.column("input_ids")
        assert isinstance(column, Tensor)
        column.zero_()
        assert not dataset.gather([0, 3], width=None)["input_ids"].any()
        assert CacheDataset(built.plain).gather([0])["input_ids"].any()

    def test_the_device_crosses_to_other_processes(self, built: Built) -> None:
        dataset = pickle.loads(pickle.dumps(CacheDataset(built.plain, device="cpu")))
        assert dataset.device == torch.device("cpu")


class Streams:
    """What CUDA would be asked for, in order; copies are those of the CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.calls: list[Any] = []
        self.inside = False
        calls = self.calls

        class Stream:
            def __init__(self, device: torch.device):
                pass

            def record_event(self) -> int:
                calls.append("recorded")
                return sum(one == "recorded" for one in calls)

        class Current:
            def wait_event(self, event: int) -> None:
                calls.append(("waited", event))

        def copy(transfer: Transfer, column: Tensor) -> Tensor:
            assert self.inside, "copied on the stream of the model"
            calls.append("copied")
            return column.clone()

        @contextmanager
        def stream(_: Stream) -> Iterator[None]:
            outer, self.inside = self.inside, True
            yield
            self.inside = outer

        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(torch.cuda, "current_stream", Current)
        monkeypatch.setattr(Transfer, "_copy", copy)
        monkeypatch.setattr(Tensor, "record_stream", lambda tensor, _: calls.append(("kept", tensor.data_ptr())))

    def since(self, place: int) -> list[Any]:
        return self.calls[place:]


class TestStreams:
    @pytest.fixture
    def streams(self, monkeypatch: pytest.MonkeyPatch) -> Streams:
        return Streams(monkeypatch)

    @pytest.fixture
    def on_cuda(self, monkeypatch: pytest.MonkeyPatch, streams: Streams) -> Callable[..., Any]:
        """Makes a loader that believes its device to be on CUDA."""
        for module in ("time_step_loader", "segment_loader"):
            monkeypatch.setattr(f"memxlnet.load.{module}.check_device", lambda device: device and torch.device("cuda"))
        return lambda built, **options: create_dataloader(CacheDataset(built.plain), 4, device="cuda", **options)

    @pytest.mark.parametrize("way", ["aligned", "ahead", "refilled", "cut", "earlier"])
    def test_a_step_waits_for_its_copies_and_keeps_its_memory(
        self, built: Built, streams: Streams, on_cuda: Callable[..., Any], way: str
    ) -> None:
        expected = steps_of(create_dataloader(CacheDataset(built.plain), 4, **WAYS[way]))
        loader = on_cuda(built, **WAYS[way])
        steps = loader if loader.settings.lanes == "refilled" else chain.from_iterable(loader)
        for step, other in zip(steps, expected, strict=True):
            assert_same_tensors(step, other)
            last = max(number for number, one in enumerate(streams.calls) if one[0] == "waited")
            event = streams.calls[last][1]
            recorded = [number for number, one in enumerate(streams.calls) if one == "recorded"][event - 1]
            assert "copied" in streams.calls[:recorded]
            kept = {one[1] for one in streams.calls[last + 1 :] if one[0] == "kept"}
            assert {value.data_ptr() for value in step.values() if isinstance(value, Tensor)} <= kept

    def test_batches_are_copied_one_ahead(self, built: Built, streams: Streams, on_cuda: Callable[..., Any]) -> None:
        expected = list(create_dataloader(CacheDataset(built.plain), 4, use_time_step_major=False))
        for number, batch in enumerate(on_cuda(built, use_time_step_major=False)):
            assert_same_tensors(batch, expected[number])
            begun = streams.calls.count("recorded")
            assert begun == min(number + 2, len(expected))
            assert ("waited", number + 1) in streams.calls
        assert number + 1 == len(expected)

    def test_what_is_there_is_not_copied(self, streams: Streams) -> None:
        columns = {"a": torch.zeros(2)}
        transfer = Transfer(torch.device("cuda"))
        transfer._device = torch.device("cpu")
        assert transfer.send(columns)["a"] is columns["a"]
        assert not streams.calls


@pytest.mark.parametrize("device", [None, "cpu"])
class TestRegular:
    """What others do with the loader does not depend on a device."""

    def made(self, built: Built, device: Any) -> Any:
        options: dict[str, Any] = {"padding": "longest", "device": device}
        return create_dataloader(CacheDataset(built.plain), 4, True, use_time_step_major=False, **options)

    def test_a_loader_that_is_made_of_it_reads_the_same(self, built: Built, device: Any) -> None:
        loader = self.made(built, device)
        again = type(loader)(loader.dataset, batch_size=4, sampler=loader.sampler, collate_fn=loader.collate_fn)
        assert again.epoch_size(0) == loader.epoch_size(0)
        loader.set_epoch(0)
        assert_same_steps(list(again), list(self.made(built, device)))

    def test_an_epoch_that_is_left_ahead_of_its_end_is_read_again(self, built: Built, device: Any) -> None:
        loader = self.made(built, device)
        first = [batch["rows"].tolist() for _, batch in zip(range(len(loader) - 1), loader, strict=False)]
        assert [batch["rows"].tolist() for batch in loader][: len(first)] == first


class TestRefusals:
    @pytest.mark.parametrize(
        "device", ["", "gpu", "cuda:99", "meta", 1.5, True, 2**40, "hpu", "cpu:x", [], torch.float32]
    )
    @pytest.mark.parametrize("kind", ["loader", "regular", "dataset", "cached"])
    def test_a_device_that_is_not_there(self, built: Built, tmp_path: Path, device: Any, kind: str) -> None:
        dataset = CacheDataset(built.plain)
        calls: dict[str, Callable[[], Any]] = {
            "loader": lambda: create_dataloader(dataset, device=device),
            "regular": lambda: create_dataloader(dataset, use_time_step_major=False, device=device),
            "dataset": lambda: CacheDataset(built.plain, device=device),
            "cached": lambda: create_dataset_from_cache(
                built.examples, "train", tmp_path, tokenizer=sample_tokenizer(), use_lazy_loading=False, device=device
            ),
        }
        with pytest.raises(SettingsError, match=r"^device:"):
            calls[kind]()
        assert not any(tmp_path.iterdir())

    def test_a_lazy_dataset(self, built: Built, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="use_lazy_loading=False"):
            create_dataset_from_cache(built.examples, "train", tmp_path, tokenizer=sample_tokenizer(), device="cpu")
        assert not any(tmp_path.iterdir())

    def test_the_earlier_meaning(self, built: Built) -> None:
        with pytest.raises(SettingsError, match=r"^device:.*compat='memxlnet-0'"):
            SquadLikeQADataset.open(built.plain, device="cpu", compat="memxlnet-0")
        with pytest.raises(SettingsError, match=r"^device:.*compat='memxlnet-0'"):
            CacheDataset(built.plain, device="cpu").with_compat("memxlnet-0")
