"""The calls in the form that they had earlier, beside the form that they have now."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Subset

import memxlnet
from memxlnet.data import (
    MemoryCollateConfig,
    configure_memory_tokens,
    create_dataloader,
    create_evaluation_dataloader,
    load_dataset_from_hub,
    upload_processed_dataset_to_hub,
)
from memxlnet.errors import CacheMismatchError, SettingsError, TransferError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.option_literals import Window
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from memxlnet.sample import sample_file
from tests.load.helpers import assert_same_steps, sample_tokenizer, steps_of
from tests.remote.hub_server import OWNER, running_hub
from tests.support import build, long_examples

REPO = "tester/cache"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CacheDataset:
    tokenizer = sample_tokenizer()
    configure_memory_tokens(tokenizer, 2)
    return build(long_examples(9), tokenizer, tmp_path_factory.mktemp("forms"))


class TestLoader:
    @pytest.mark.parametrize(
        ("strategy", "window"), [("first_n", "first"), ("random_continuous", "random"), ("answer_centered", "answer")]
    )
    def test_a_strategy_is_a_window(self, dataset: CacheDataset, strategy: str, window: Window) -> None:
        options: Any = {"max_segments": 2, "shuffle": True}
        named = create_dataloader(dataset, 3, segment_selection_strategy=strategy, epoch_seed=42, **options)
        expected = create_dataloader(dataset, 3, window=window, seed=42, **options)
        assert isinstance(named, TimeStepMajorDataLoader)
        assert (named.settings.window, named.settings.seed) == (window, 42)
        assert_same_steps(steps_of(named), steps_of(expected))
        for whole in (None, "absent"):
            given: Any = {} if whole else {"max_segments": None}
            every = create_dataloader(dataset, 3, segment_selection_strategy=strategy, **given)
            assert_same_steps(steps_of(every), steps_of(create_dataloader(dataset, 3)))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"segment_selection_strategy": "first_n", "window": "first"}, "^window, segment_selection_strategy:"),
            ({"epoch_seed": 1, "seed": 1}, "^seed, epoch_seed:"),
            ({"segment_selection_strategy": "first"}, "^segment_selection_strategy:"),
            ({"epoch_seed": "a"}, r"^seed:.*'a'"),
            ({"memory_collate_config": True}, r"^memory_collate_config:.*use_time_step_major"),
            (
                {"segment_selection_strategy": "first_n", "max_segments": 1, "use_time_step_major": False},
                r"^max_segments:.*use_time_step_major=False",
            ),
        ],
    )
    def test_what_cannot_be_is_refused(self, dataset: CacheDataset, options: Any, message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            create_dataloader(dataset, **options)

    def test_memory_tokens_are_compared(self, dataset: CacheDataset) -> None:
        layout = dataset.manifest.layout
        reads, writes = list(layout.memory_read_ids), list(layout.memory_write_ids)
        config = MemoryCollateConfig(True, reads, writes, 64, layout.cls_id, layout.pad_id)
        for fitting in (config, replace(config, mem_read_ids=None, mem_write_ids=None)):
            for time_step_major in (True, False):
                assert len(create_dataloader(dataset, 4, False, 0, fitting, time_step_major))
        others: dict[str, Any] = {
            "enable": False,
            "mem_read_ids": reads[:1],
            "mem_write_ids": reads,
            "max_seq_length": 32,
            "cls_token_id": -1,
            "pad_token_id": -1,
        }
        for name, value in others.items():
            other = replace(config, **{name: value})
            with pytest.raises(CacheMismatchError, match=rf"^memory_collate_config: {name}:"):
                create_dataloader(dataset, memory_collate_config=other)

    def test_rows_without_memory_tokens(self, tokenizer: Any, tmp_path: Path) -> None:
        plain = build(long_examples(1), tokenizer, tmp_path)
        layout = plain.manifest.layout
        config = MemoryCollateConfig(False, [5], None, 64, layout.cls_id, layout.pad_id)
        assert len(create_dataloader(plain, memory_collate_config=config)) == 1
        with pytest.raises(CacheMismatchError, match="enable:"):
            create_dataloader(plain, memory_collate_config=replace(config, enable=True))


class TestEvaluation:
    def test_both_forms(self, tmp_path: Path) -> None:
        tokenizer, source = sample_tokenizer(), str(sample_file())
        made, loader = create_evaluation_dataloader(source, "train", tokenizer, 128, 32, 5, 10, 3, tmp_path, True)
        settings = made.manifest.settings
        assert (
            settings.items() >= {"max_seq_length": 128, "doc_stride": 32, "max_examples": 10, "max_n_segs": 3}.items()
        )
        assert isinstance(loader, TimeStepMajorDataLoader)
        assert loader.batch_size == 5
        assert loader.dataset is made
        for other in (
            create_evaluation_dataloader(made, 5),
            create_evaluation_dataloader(dataset=made, batch_size=5),
            create_evaluation_dataloader(
                dataset_name=source,
                split="train",
                tokenizer=tokenizer,
                max_seq_length=128,
                doc_stride=32,
                batch_size=5,
                max_examples=10,
                max_n_segs=3,
                cache_dir=tmp_path,
            )[1],
        ):
            assert_same_steps(steps_of(other), steps_of(loader))
        assert len(list(tmp_path.glob("*--train--*"))) == 1

    def test_defaults(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        made, loader = create_evaluation_dataloader(long_examples(2), "train", sample_tokenizer(), 128)
        assert made.manifest.settings["doc_stride"] == 64
        assert isinstance(loader, TimeStepMajorDataLoader)
        assert loader.batch_size == 8
        assert made.directory.parent == tmp_path / "memxlnet-cache"

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"batch_size": 0}, SettingsError, "^batch_size:"),
            ({"use_time_step_major": 1}, SettingsError, "^use_time_step_major:"),
            ({"doc_stride": -1}, SettingsError, "^doc_stride:"),
            ({"shuffle": True}, TypeError, "shuffle"),
        ],
    )
    def test_wrong_arguments_fail_before_a_build(
        self, tmp_path: Path, options: Any, error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            create_evaluation_dataloader(
                str(sample_file()), "train", sample_tokenizer(), cache_dir=tmp_path / "caches", **options
            )
        assert not (tmp_path / "caches").exists()

    @pytest.mark.parametrize("form", ["subset", "nothing", "name"])
    def test_no_dataset(self, dataset: CacheDataset, form: str) -> None:
        call: Any = create_evaluation_dataloader
        arguments: Any = {"subset": (Subset(dataset, [0]), 4), "nothing": (), "name": ("squad_v2",)}[form]
        with pytest.raises((SettingsError, TypeError), match="dataset"):
            call(*arguments)


class TestHub:
    def test_there_and_back_by_position(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        tokenizer, source = sample_tokenizer(), str(sample_file())
        ours = tmp_path / "ours"
        with running_hub(monkeypatch, tmp_path / "home"):
            monkeypatch.setenv("HF_TOKEN", OWNER)
            address = upload_processed_dataset_to_hub(
                source, "train", REPO, tokenizer, 128, 32, 8, 2, ours, OWNER, True
            )
            second = upload_processed_dataset_to_hub(
                dataset_name=source,
                split="validation",
                hub_dataset_id=REPO,
                tokenizer=tokenizer,
                max_seq_length=128,
                max_examples=4,
                cache_dir=ours,
                hub_token=OWNER,
                private=True,
            )
            assert REPO in address
            assert REPO in second
            monkeypatch.chdir(tmp_path)
            train = load_dataset_from_hub(REPO, "train", OWNER)
            validation = load_dataset_from_hub(REPO, "validation", OWNER, compat="memxlnet-0")
            with pytest.raises(TransferError):
                load_dataset_from_hub(REPO, "train", "hf_wrong", cache_dir=tmp_path / "other")
        assert train.directory.parent == tmp_path / "memxlnet-cache"
        expected = {"max_seq_length": 128, "doc_stride": 32, "max_examples": 8, "max_n_segs": 2}
        assert train.manifest.settings.items() >= expected.items()
        assert validation.manifest.settings.items() >= {"doc_stride": 64, "max_examples": 4, "max_n_segs": None}.items()
        assert validation[0]["token_type_ids"].dtype == torch.int64

    @pytest.mark.parametrize(
        ("arguments", "options", "error", "message"),
        [
            (("squad", "train", REPO), {}, TypeError, "tokenizer"),
            ((), {"splits": ["train"], "tokenizer": None}, SettingsError, "^splits:"),
            (("squad", "train", "a/b/c", None), {}, SettingsError, "^hub_dataset_id:"),
            (("squad", "train", REPO, None), {"hub_token": 1}, SettingsError, "^hub_token:"),
            (("squad", "train", REPO, None), {"private": 1}, SettingsError, "^private:"),
        ],
    )
    def test_wrong_arguments_fail_before_a_build(
        self, arguments: Any, options: Any, error: type[Exception], message: str
    ) -> None:
        call: Any = upload_processed_dataset_to_hub
        with pytest.raises(error, match=message):
            call(*arguments, **options)

    def test_the_form_of_a_directory_takes_no_more_by_position(self) -> None:
        assert memxlnet.upload_processed_dataset_to_hub is upload_processed_dataset_to_hub
        with pytest.raises(TypeError, match="missing"):
            upload_processed_dataset_to_hub("./caches", "squad")  # type: ignore[call-overload]
