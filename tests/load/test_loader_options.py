"""Options of the loaders: what is refused, and where the place among other processes comes from."""

import inspect
import logging
from typing import Any

import numpy as np
import pytest
import torch

from memxlnet.errors import MemxlnetError, SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader
from memxlnet.load.epoch_plan import Ranks
from memxlnet.load.loader_options import MAX_SCHEDULE, LoaderOptions, StreamSettings, metadata_names
from memxlnet.load.segment_loader import regular_loader
from memxlnet.load.segment_metadata import METADATA_NAMES
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from tests.load.helpers import assert_same_steps, steps_of, time_major

BOTH: list[tuple[dict[str, Any], str]] = [
    *(({"batch_size": value}, "batch_size") for value in (0, -1, True, 2.0, None, "8")),
    *(({"shuffle": value}, "shuffle") for value in ("yes", None, 1, np.True_)),
    *(({"num_workers": value}, "num_workers") for value in (-1, True, 1.5, None)),
    *(({"seed": value, "shuffle": shuffle}, "seed") for value in (1.5, None, "0", True) for shuffle in (True, False)),
    *(({"drop_last": value}, "drop_last") for value in (1, None, "no")),
    *(({"dtype": value}, "dtype") for value in ("float32", torch.int64, None, 64)),
    *(({"ended_label": value}, "ended_label") for value in (-100, "drop", None)),
    *(({"metadata": value}, "metadata") for value in (None, 1, "context", ["labels"], ["context", 3], [["context"]])),
    *(({"pin_memory": value}, "pin_memory") for value in (1, None, "cuda")),
    *(({"group_by_length": value}, "group_by_length") for value in (1, None, "yes")),
]
TIME_MAJOR: list[tuple[dict[str, Any], str]] = [
    *(({"lanes": value}, "lanes") for value in ("packed", None, True, ["aligned"])),
    *(({"align": value}, "align") for value in ("left", None, True, "End")),
    *(({"max_segments": value}, "max_segments") for value in (0, -2, True, 2.0, "4", b"4", {3}, [], [2, 0], [[2]])),
    ({"max_segments": [1] * (MAX_SCHEDULE + 1)}, "max_segments"),
    *(({"window": value, "max_segments": 2}, "window") for value in ("last", None, 0)),
    *(({"evaluation": value}, "evaluation") for value in (1, None, "yes")),
    # Combinations.
    ({"align": "end", "lanes": "refilled"}, "align"),
    ({"window": "random"}, "window"),
    ({"window": "answer"}, "window"),
    ({"window": "answer", "max_segments": 3, "evaluation": True}, "window"),
    ({"drop_last": True, "evaluation": True}, "drop_last"),
    ({"drop_last": True, "evaluation": True, "lanes": "refilled"}, "drop_last"),
    # The place among processes.
    ({"rank": 0}, "rank, world_size"),
    ({"world_size": 1}, "rank, world_size"),
    *(({"rank": value, "world_size": 2}, "rank") for value in (-1, 2, True, 0.0, "0")),
    *(({"rank": 0, "world_size": value}, "world_size") for value in (0, -1, True, 2.0, "2")),
]


def _options(make: Any) -> dict[str, Any]:
    """The parameters of a loader that `create_dataloader` takes as options, and their defaults."""
    fixed = {"dataset", "batch_size", "shuffle", "num_workers"}
    parameters = inspect.signature(make).parameters.values()
    return {one.name: one.default for one in parameters if one.name not in {"self", *fixed}}


def _names(cases: list[tuple[dict[str, Any], str]]) -> list[str]:
    return [str(options)[:60] for options, _ in cases]


class TestRefused:
    @pytest.mark.parametrize("time_step_major", [True, False])
    @pytest.mark.parametrize(("options", "name"), BOTH, ids=_names(BOTH))
    def test_bad_values_fail_at_once(
        self, lazy: CacheDataset, time_step_major: bool, options: dict[str, Any], name: str
    ) -> None:
        with pytest.raises(SettingsError, match=f"^{name}:"):
            create_dataloader(lazy, use_time_step_major=time_step_major, **options)

    @pytest.mark.parametrize(("options", "name"), TIME_MAJOR, ids=_names(TIME_MAJOR))
    def test_bad_values_of_time_step_major_fail_at_once(
        self, lazy: CacheDataset, options: dict[str, Any], name: str
    ) -> None:
        with pytest.raises(SettingsError, match=f"^{name}:"):
            create_dataloader(lazy, **options)

    @pytest.mark.parametrize("time_step_major", [True, False])
    @pytest.mark.parametrize("dataset", [None, [], [{"input_ids": [1]}], "squad_v2"])
    def test_a_dataset_is_over_a_cache(self, dataset: Any, time_step_major: bool) -> None:
        with pytest.raises(SettingsError, match=rf"^dataset:.*\b{type(dataset).__name__}\b"):
            create_dataloader(dataset, use_time_step_major=time_step_major, shuffle=True)

    @pytest.mark.parametrize("value", [1, None, "yes"])
    def test_the_switch_is_a_bool(self, lazy: CacheDataset, value: Any) -> None:
        with pytest.raises(SettingsError, match=rf"^use_time_step_major:.*{value!r}$"):
            create_dataloader(lazy, use_time_step_major=value)

    @pytest.mark.parametrize("epoch", [-1, 1.5, "1", None, True])
    def test_an_epoch_is_a_count(self, lazy: CacheDataset, epoch: Any) -> None:
        rows: Any = create_dataloader(lazy, shuffle=True, use_time_step_major=False)
        grouped: Any = create_dataloader(lazy, use_time_step_major=False, group_by_length=True)
        for target in (time_major(lazy), rows.sampler, grouped.batch_sampler):
            with pytest.raises(MemxlnetError, match=r"^epoch:"):
                target.set_epoch(epoch)
            assert target.epoch == 0
        if epoch is not None:
            for loader in (time_major(lazy), rows, grouped):
                with pytest.raises(SettingsError, match=r"^epoch:"):
                    loader.epoch_size(epoch)


class TestNames:
    def test_the_options_are_the_parameters_of_both_loaders(self) -> None:
        parameters = [_options(TimeStepMajorDataLoader.__init__), _options(regular_loader)]
        assert LoaderOptions.__annotations__.keys() == parameters[0].keys() | parameters[1].keys()
        assert LoaderOptions.__total__ is False
        for name in parameters[0].keys() & parameters[1].keys():
            assert parameters[0][name] == parameters[1][name], name

    def test_each_loader_refuses_the_options_of_the_other(self, lazy: CacheDataset) -> None:
        own, other = _options(TimeStepMajorDataLoader.__init__), _options(regular_loader)
        for time_step_major, known, foreign in ((True, own, other), (False, other, own)):
            assert len(foreign.keys() - known.keys()) >= 5
            for name in foreign.keys() - known.keys():
                options: Any = {name: foreign[name]}
                with pytest.raises(SettingsError, match=f"^{name}:.*={time_step_major}:") as caught:
                    create_dataloader(lazy, use_time_step_major=time_step_major, **options)
                assert all(choice in str(caught.value) for choice in known)

    @pytest.mark.parametrize("time_step_major", [True, False])
    def test_an_unknown_option_is_refused(self, lazy: CacheDataset, time_step_major: bool) -> None:
        options: Any = {"drop_lats": True}
        with pytest.raises(SettingsError, match=r"^drop_lats:.*\bdrop_last\b"):
            create_dataloader(lazy, use_time_step_major=time_step_major, **options)

    def test_defaults_given_by_name_change_nothing(self, lazy: CacheDataset) -> None:
        defaults: Any = _options(TimeStepMajorDataLoader.__init__)
        assert_same_steps(steps_of(time_major(lazy, **defaults)), steps_of(time_major(lazy)))
        regular: Any = regular_loader.__kwdefaults__
        named = create_dataloader(lazy, use_time_step_major=False, **regular)
        assert_same_steps(named, create_dataloader(lazy, use_time_step_major=False))

    def test_names_of_metadata(self) -> None:
        assert metadata_names(True) == METADATA_NAMES
        assert metadata_names(False) == metadata_names([]) == ()
        assert metadata_names(name for name in METADATA_NAMES[2:4]) == METADATA_NAMES[2:4]

    def test_integers_and_seeds_of_numpy_are_integers(self, lazy: CacheDataset) -> None:
        one = time_major(lazy, np.int32(4), shuffle=True, seed=np.int64(-1), max_segments=[np.int8(3)])
        assert one.settings == time_major(lazy, 4, shuffle=True, seed=2**64 - 1, max_segments=3).settings
        assert {type(value) for value in (one.settings.seed, *one.settings.max_segments)} == {int}

    def test_the_settings_are_those_that_were_given(self, lazy: CacheDataset) -> None:
        given: dict[str, Any] = {
            "shuffle": True,
            "seed": 5,
            "drop_last": True,
            "lanes": "aligned",
            "align": "end",
            "group_by_length": True,
            "max_segments": [2, 4],
            "window": "answer",
            "evaluation": False,
            "dtype": "stored",
            "ended_label": "cls",
        }
        loader = time_major(lazy, 3, rank=1, world_size=4, **given)
        assert loader.settings == StreamSettings(global_batch_size=12, **given)


class TestRanks:
    @pytest.fixture(autouse=True)
    def _alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name, raising=False)

    @staticmethod
    def _environment(monkeypatch: pytest.MonkeyPatch, rank: str | None, world_size: str | None) -> None:
        for name, value in (("RANK", rank), ("WORLD_SIZE", world_size)):
            if value is not None:
                monkeypatch.setenv(name, value)

    def test_without_any_word_a_process_is_alone(self, lazy: CacheDataset) -> None:
        assert time_major(lazy).ranks == Ranks(0, 1)

    def test_arguments(self, lazy: CacheDataset) -> None:
        assert time_major(lazy, rank=2, world_size=np.int64(3)).ranks == Ranks(2, 3)

    def test_the_environment_as_torchrun_sets_it(self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch) -> None:
        self._environment(monkeypatch, "1", "2")
        loader = time_major(lazy, 3)
        assert loader.ranks == Ranks(1, 2)
        assert loader.settings.global_batch_size == 6
        ids = list(lazy.get_all_documents())
        assert [list(group.example_ids) for group in loader] == [ids[3:6], ids[9:12], [""]]

    @pytest.mark.parametrize(("rank", "world_size"), [("1", None), (None, "2")])
    def test_half_an_environment_is_none(
        self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch, rank: str | None, world_size: str | None
    ) -> None:
        self._environment(monkeypatch, rank, world_size)
        assert time_major(lazy).ranks == Ranks(0, 1)

    @pytest.mark.parametrize(
        ("rank", "world_size"), [("", ""), ("", "2"), ("a", "2"), ("0", "two"), ("1.0", "2"), ("2", "2"), ("-1", "2")]
    )
    def test_garbage_in_the_environment_is_refused(
        self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch, rank: str, world_size: str
    ) -> None:
        self._environment(monkeypatch, rank, world_size)
        with pytest.raises(SettingsError, match=f"^RANK, WORLD_SIZE:.*{rank!r}.*{world_size!r}.*rank=.*world_size="):
            time_major(lazy)

    @pytest.mark.parametrize("found", [("1", "2"), ("x", "y")])
    def test_given_arguments_win(
        self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch, found: tuple[str, str]
    ) -> None:
        self._environment(monkeypatch, *found)
        assert time_major(lazy, rank=0, world_size=1).ranks == Ranks(0, 1)
        assert time_major(lazy, rank=3, world_size=5).ranks == Ranks(3, 5)

    def test_an_initialised_process_group_wins_over_the_environment(
        self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._environment(monkeypatch, "0", "8")
        monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
        monkeypatch.setattr("torch.distributed.get_rank", lambda: 2)
        monkeypatch.setattr("torch.distributed.get_world_size", lambda: 3)
        assert time_major(lazy).ranks == Ranks(2, 3)
        assert time_major(lazy, rank=0, world_size=1).ranks == Ranks(0, 1)

    def test_a_regular_loader_asks_nobody(self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch) -> None:
        self._environment(monkeypatch, "x", "y")
        assert len(list(create_dataloader(lazy, 100, use_time_step_major=False))) == 4


class TestPinnedMemory:
    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
    @pytest.mark.parametrize("time_step_major", [True, False])
    def test_without_cuda_one_warning_is_logged(
        self,
        lazy: CacheDataset,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        time_step_major: bool,
    ) -> None:
        monkeypatch.setattr("memxlnet.load.loader_options._is_pinning_logged", False)
        options: dict[str, Any] = {"use_time_step_major": time_step_major}
        expected = steps_of(create_dataloader(lazy, 30, **options))
        with caplog.at_level(logging.INFO):
            for _ in range(3):
                assert_same_steps(steps_of(create_dataloader(lazy, 30, pin_memory=True, **options)), expected)
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith("pin_memory: expected CUDA, found none")

    def test_without_the_option_nothing_is_logged(self, lazy: CacheDataset, caplog: pytest.LogCaptureFixture) -> None:
        steps_of(time_major(lazy, 3))
        assert not caplog.records

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_with_cuda_every_tensor_is_pinned(
        self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch, lanes: str
    ) -> None:
        """With a stand-in for page-locked memory where there is no CUDA."""
        pinned: set[int] = set()
        if not torch.cuda.is_available():

            def pin(tensor: torch.Tensor) -> torch.Tensor:
                copy = tensor.clone()
                pinned.add(copy.untyped_storage().data_ptr())
                return copy

            monkeypatch.setattr("torch.cuda.is_available", lambda: True)
            monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
            monkeypatch.setattr(torch.Tensor, "is_pinned", lambda one: one.untyped_storage().data_ptr() in pinned)
        options: dict[str, Any] = {"lanes": lanes, "metadata": ["context_mask", "context"]}
        steps = steps_of(time_major(lazy, 3, pin_memory=True, **options))
        for step in steps:
            assert all(value.is_pinned() for value in step.values() if isinstance(value, torch.Tensor))
        assert_same_steps(steps, steps_of(time_major(lazy, 3, **options)))
