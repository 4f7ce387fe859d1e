"""The loaders in the hands of torch, torchdata, Accelerate, transformers and Lightning."""

import importlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import ConcatDataset, DataLoader, DistributedSampler, Subset
from torchdata.stateful_dataloader import StatefulDataLoader
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    Trainer,
    TrainingArguments,
    XLNetConfig,
    XLNetForQuestionAnsweringSimple,
)

from memxlnet.errors import SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.carried_state import loss_or_zero
from memxlnet.load.collate import Collate
from memxlnet.load.create import create_dataloader
from memxlnet.load.model_inputs import model_inputs
from memxlnet.load.option_literals import Lanes
from memxlnet.load.samplers import GroupedRows, ShuffledRows
from memxlnet.load.seeded_random import shuffled
from tests.load.helpers import assert_same_tensors
from tests.support import slow

SEED = 5

Batches = list[dict[str, Any]]

FORK_WARNS = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def regular(dataset: CacheDataset, batch_size: int = 40, **options: Any) -> Any:
    return create_dataloader(dataset, batch_size, shuffle=True, seed=SEED, use_time_step_major=False, **options)


def assert_same_batches(found: Batches, expected: Batches) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert_same_tensors(mine, theirs)


def rows_of(batches: Batches) -> list[int]:
    return [row for batch in batches for row in batch["rows"].tolist()]


def order(dataset: CacheDataset, epoch: int) -> list[int]:
    found: list[int] = shuffled(len(dataset), SEED, epoch).tolist()
    return found


class TestTorch:
    @FORK_WARNS
    @pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
    def test_persistent_workers_read_each_epoch_in_its_own_order(self, lazy: CacheDataset, method: str) -> None:
        loader = regular(lazy, num_workers=2, persistent_workers=True, multiprocessing_context=method)
        alone = regular(lazy)
        for epoch in range(2):
            found = list(loader)
            assert_same_batches(found, list(alone))
            assert rows_of(found) == order(lazy, epoch)

    def test_a_loop_that_stops_early_begins_the_epoch_again(self, lazy: CacheDataset) -> None:
        loader = regular(lazy)
        for batch, _ in zip(loader, range(2), strict=False):
            assert len(batch["rows"]) == 40
        assert rows_of(list(loader)) == order(lazy, 0)
        assert rows_of(list(loader)) == order(lazy, 1)

    @pytest.mark.parametrize("ranks", [1, 3])
    def test_a_distributed_sampler_deals_out_every_row(self, lazy: CacheDataset, ranks: int) -> None:
        dealt = []
        for rank in range(ranks):
            sampler: DistributedSampler[Any] = DistributedSampler(lazy, ranks, rank, seed=SEED)
            loader: DataLoader[Any] = DataLoader(lazy, 10, sampler=sampler, collate_fn=Collate())
            batches = list(loader)
            for batch in batches:
                expected = lazy.gather(batch["rows"])
                assert all(torch.equal(batch[name], column.long()) for name, column in expected.items())
            dealt.append(rows_of(batches))
        assert len(lazy) % ranks == 0, "else the sampler deals out some rows twice"
        assert sorted(itertools.chain.from_iterable(dealt)) == list(range(len(lazy)))


class TestAccelerate:
    def test_a_prepared_loader_gives_the_same_batches_of_the_same_epochs(self, lazy: CacheDataset) -> None:
        prepared = Accelerator(cpu=True).prepare(regular(lazy))
        assert len(prepared) == len(regular(lazy))
        alone = regular(lazy)
        for _ in range(3):
            assert_same_batches(list(prepared), list(alone))

    def test_set_epoch_reaches_the_order(self, lazy: CacheDataset) -> None:
        prepared = Accelerator(cpu=True).prepare(regular(lazy))
        for epoch in (4, 0, 4):
            torch.manual_seed(epoch)
            prepared.set_epoch(epoch)
            assert rows_of(list(prepared)) == order(lazy, epoch)

    def test_a_time_step_major_loader_is_left_as_it_is(self, lazy: CacheDataset) -> None:
        loader = create_dataloader(lazy, 4)
        assert Accelerator(cpu=True).prepare(loader) is loader

    @pytest.mark.parametrize("prepare", [False, True])
    @pytest.mark.parametrize("skipped", [0, 3])
    def test_first_batches_can_be_skipped(self, lazy: CacheDataset, prepare: bool, skipped: int) -> None:
        loader = regular(lazy)
        if prepare:
            loader = Accelerator(cpu=True).prepare(loader)
            loader.set_epoch(2)
        else:
            loader.sampler.set_epoch(2)
        found = list(skip_first_batches(loader, skipped))
        alone = regular(lazy)
        alone.sampler.set_epoch(2)
        assert_same_batches(found, list(alone)[skipped:])


class TestSkippedBatches:
    """What Accelerate makes of a time-step-major loader to resume in the middle of an epoch, as the Trainer does."""

    @pytest.mark.parametrize("workers", [0, 1])
    @pytest.mark.parametrize("skipped", [0, 1, 3, 10**6])
    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_the_rest_of_the_epoch_comes(self, lazy: CacheDataset, lanes: Lanes, skipped: int, workers: int) -> None:
        def made() -> Any:
            return create_dataloader(lazy, 4, shuffle=True, seed=SEED, lanes=lanes, num_workers=workers)

        loader, alone = made(), made()
        loader.set_epoch(2)
        alone.set_epoch(2)
        rest = skip_first_batches(loader, skipped)
        found = rest if lanes == "refilled" else itertools.chain.from_iterable(rest)
        batches = list(alone)
        expected = batches[skipped:] if lanes == "refilled" else itertools.chain.from_iterable(batches[skipped:])
        assert [step["rows"].tolist() for step in found] == [step["rows"].tolist() for step in expected]
        if skipped < len(batches):
            assert (loader.epoch, loader.state_dict()) == (3, alone.state_dict())

    def test_skipping_gathers_nothing(self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch) -> None:
        loader = create_dataloader(lazy, 4, lanes="refilled")
        steps = len(loader)
        gathered: list[torch.Tensor] = []
        real = lazy.tensors.gather

        def counted(rows: torch.Tensor, *others: Any) -> Any:
            gathered.append(rows)
            return real(rows, *others)

        monkeypatch.setattr(lazy.tensors, "gather", counted)
        (last,) = skip_first_batches(loader, steps - 1)
        assert 0 < sum(map(len, gathered)) <= 2 * 4
        assert last["rows"].shape == (4,)


def stateful(dataset: CacheDataset, **options: Any) -> Any:
    sampler = ShuffledRows(len(dataset), SEED)
    return StatefulDataLoader(dataset, 40, sampler=sampler, collate_fn=Collate(), **options)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
class TestTorchdata:
    @FORK_WARNS
    @pytest.mark.parametrize(("epochs", "taken", "workers"), [(0, 4, 0), (0, 4, 2), (1, 7, 0), slow(1, 7, 2)])
    def test_resumes_in_the_middle_of_an_epoch(self, lazy: CacheDataset, epochs: int, taken: int, workers: int) -> None:
        alone = regular(lazy)
        expected = [list(alone) for _ in range(epochs + 2)]
        loader = stateful(lazy, num_workers=workers)
        for epoch in range(epochs):
            assert_same_batches(list(loader), expected[epoch])
        first = list(itertools.islice(loader, taken))
        state = json.loads(json.dumps(loader.state_dict()))
        resumed = stateful(lazy, num_workers=workers)
        resumed.load_state_dict(state)
        assert_same_batches(first + list(resumed), expected[epochs])
        assert_same_batches(list(resumed), expected[epochs + 1])

    @FORK_WARNS
    @pytest.mark.parametrize("workers", [0, slow(2)])
    @pytest.mark.parametrize("batch_size", [40, 48])
    @pytest.mark.parametrize("drop_last", [False, True])
    def test_continues_with_the_next_epoch_after_one(
        self, lazy: CacheDataset, workers: int, batch_size: int, drop_last: bool
    ) -> None:
        assert (len(lazy) % batch_size == 0) is (batch_size == 48)

        def made() -> Any:
            options = {"num_workers": workers, "drop_last": drop_last, "collate_fn": Collate()}
            return StatefulDataLoader(lazy, batch_size, sampler=ShuffledRows(len(lazy), SEED), **options)

        loader, resumed = made(), made()
        list(loader)
        resumed.load_state_dict(loader.state_dict())
        kept = len(lazy) // batch_size * batch_size if drop_last else len(lazy)
        assert rows_of(list(resumed)) == order(lazy, 1)[:kept]
        assert rows_of(list(resumed)) == order(lazy, 2)[:kept]

    def test_continues_after_the_last_batch_with_the_next_epoch(self, lazy: CacheDataset) -> None:
        loader, resumed = stateful(lazy), stateful(lazy)
        list(itertools.islice(loader, len(loader)))
        resumed.load_state_dict(loader.state_dict())
        assert list(resumed) == []
        assert rows_of(list(resumed)) == order(lazy, 1)

    def test_a_state_before_the_first_batch(self, lazy: CacheDataset) -> None:
        loader, resumed = stateful(lazy), stateful(lazy)
        loader.sampler.set_epoch(3)
        resumed.load_state_dict(loader.state_dict())
        assert rows_of(list(resumed)) == order(lazy, 3)
        assert resumed.sampler.epoch == 4

    def test_resumes_without_batches_too(self, lazy: CacheDataset) -> None:
        def made() -> Any:
            return StatefulDataLoader(lazy, None, sampler=ShuffledRows(len(lazy), SEED), collate_fn=dict)

        loader, resumed = made(), made()
        found = list(itertools.islice(loader, 7))
        resumed.load_state_dict(loader.state_dict())
        found += resumed
        assert_same_batches(found, [lazy[row] for row in order(lazy, 0)])

    def test_a_state_of_another_order_is_refused(self) -> None:
        rows = iter(ShuffledRows(10, SEED))
        taken = list(itertools.islice(rows, 4))
        state = rows.state_dict()
        assert state == {"epoch": 0, "handed_out": 4, "seed": SEED, "num_rows": 10}
        for sampler, name in ((ShuffledRows(10, 6), "seed"), (ShuffledRows(11, SEED), "num_rows")):
            with pytest.raises(
                SettingsError, match=rf"^state: {name}:.*\b{getattr(sampler, name)}\b.*\b{state[name]}$"
            ):
                iter(sampler).load_state_dict(state)
        again = iter(ShuffledRows(10, SEED))
        for wrong in ({}, None, [1], {**state, "more": 1}):
            with pytest.raises(SettingsError, match=r"^state:.*handed_out"):
                again.load_state_dict(wrong)  # type: ignore[arg-type]
        for name, value in (("epoch", -1), ("handed_out", 11), ("handed_out", 0.5)):
            with pytest.raises(SettingsError, match=f"^state: {name}:"):
                again.load_state_dict({**state, name: value})
        again.load_state_dict(state)
        assert [*taken, *again] == shuffled(10, SEED, 0).tolist()


def grouped(dataset: CacheDataset, **options: Any) -> Any:
    return StatefulDataLoader(dataset, batch_sampler=GroupedRows(dataset, 40, SEED), collate_fn=Collate(), **options)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
class TestGroupedRows:
    @FORK_WARNS
    @pytest.mark.parametrize(("taken", "workers"), [(0, 0), (4, 0), (9, 0), (4, 2), slow(0, 2), slow(9, 2)])
    def test_torchdata_resumes_in_the_middle_of_an_epoch(self, lazy: CacheDataset, taken: int, workers: int) -> None:
        alone = regular(lazy, group_by_length=True)
        expected = [list(alone) for _ in range(3)]
        assert len(expected[0]) == 9
        loader = grouped(lazy, num_workers=workers)
        assert_same_batches(list(loader), expected[0])
        first = list(itertools.islice(loader, taken))
        state = json.loads(json.dumps(loader.state_dict()))
        resumed = grouped(lazy, num_workers=workers)
        resumed.load_state_dict(state)
        if taken == 9:
            assert list(resumed) == []
        elif taken:
            assert_same_batches(first + list(resumed), expected[1])
        assert_same_batches(list(resumed), expected[2 if taken else 1])

    def test_a_state_of_another_grouping_is_refused(self) -> None:
        lengths = list(range(1, 31))
        batches = iter(GroupedRows(lengths, 4, SEED))
        taken = list(itertools.islice(batches, 3))
        state = batches.state_dict()
        assert state == {
            "epoch": 0,
            "handed_out": 3,
            "seed": SEED,
            "num_rows": 30,
            "batch_size": 4,
            "drop_last": False,
            "shuffle": True,
        }
        for sampler, name in (
            (GroupedRows(lengths, 4, 6), "seed"),
            (GroupedRows(lengths[1:], 4, SEED), "num_rows"),
            (GroupedRows(lengths, 5, SEED), "batch_size"),
            (GroupedRows(lengths, 4, SEED, drop_last=True), "drop_last"),
            (GroupedRows(lengths, 4, SEED, shuffle=False), "shuffle"),
        ):
            with pytest.raises(SettingsError, match=f"^state: {name}:"):
                iter(sampler).load_state_dict(state)
        with pytest.raises(SettingsError, match=r"^state:.*handed_out"):
            iter(ShuffledRows(30, SEED)).load_state_dict(state)
        again = iter(GroupedRows(lengths, 4, SEED))
        again.load_state_dict(state)
        assert [*taken, *again] == list(GroupedRows(lengths, 4, SEED))

    @pytest.mark.parametrize("processes", [1, 2, 4])
    @pytest.mark.parametrize("drop_last", [False, True])
    def test_accelerate_deals_the_batches_out(self, lazy: CacheDataset, processes: int, drop_last: bool) -> None:
        own = GroupedRows(lazy, 40, SEED, drop_last)
        shards = [
            BatchSamplerShard(GroupedRows(lazy, 40, SEED, drop_last), processes, rank) for rank in range(processes)
        ]
        for _ in range(2):
            expected, dealt = list(own), [list(shard) for shard in shards]
            assert len({len(one) for one in dealt}) == 1
            together = [batch for step in zip(*dealt, strict=True) for batch in step]
            # What is left is filled up with the first rows, or dropped.
            whole = len(lazy) // 40 // processes * processes
            assert together[:whole] == expected[:whole]

    def test_accelerate_prepares_the_loader(self, lazy: CacheDataset) -> None:
        alone = regular(lazy, group_by_length=True)
        expected = [list(alone) for _ in range(2)]
        prepared = Accelerator(cpu=True).prepare(regular(lazy, group_by_length=True))
        for epoch in range(2):
            assert_same_batches(list(prepared), expected[epoch])


class Grouped(Trainer):  # type: ignore[misc]
    """Trains over batches of rows of similar length, and keeps the rows of each."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.seen: list[list[int]] = []

    def get_train_dataloader(self) -> Any:
        rows = GroupedRows(self.train_dataset, 40, SEED)
        return self.accelerator.prepare(DataLoader(self.train_dataset, batch_sampler=rows, collate_fn=Collate()))

    def compute_loss(self, model: Any, inputs: Any, *others: Any, **more: Any) -> Any:
        self.seen.append(inputs["rows"].tolist())
        return model(**model_inputs(inputs, model)).loss


@pytest.mark.slow
def test_the_trainer_resumes_over_rows_of_similar_length(lazy: CacheDataset, tmp_path: Path) -> None:
    def trainer(directory: str, model: Any) -> Grouped:
        arguments = TrainingArguments(
            output_dir=str(tmp_path / directory),
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            logging_steps=1,
            num_train_epochs=2,
            save_strategy="steps",
            save_steps=12,
        )
        return Grouped(model=model, args=arguments, train_dataset=lazy)

    torch.manual_seed(0)
    whole = trainer("whole", xlnet(lazy))
    whole.train()
    sampler = GroupedRows(lazy, 40, SEED)
    assert whole.seen == [batch for epoch in range(2) for batch in sampler.items(epoch)]
    resumed = trainer("resumed", xlnet(lazy))
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-12"))
    assert resumed.seen == whole.seen[12:]


def xlnet(dataset: CacheDataset) -> Any:
    vocabulary = dataset.manifest.vocabulary_size
    return XLNetForQuestionAnsweringSimple(
        XLNetConfig(vocab_size=vocabulary, d_model=16, n_layer=1, n_head=2, d_inner=32)
    )


def bert(dataset: CacheDataset) -> Any:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    # XLNet's layout has more segment types than BERT's.
    vocabulary = dataset.manifest.vocabulary_size
    return BertForQuestionAnswering(BertConfig(vocab_size=vocabulary, type_vocab_size=5, **sizes))


@pytest.mark.slow
@FORK_WARNS
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("remove_unused", [True, False])
@pytest.mark.parametrize("make", [xlnet, bert])
def test_the_trainer_of_transformers_trains_and_predicts(
    lazy: CacheDataset, tmp_path: Path, make: Any, remove_unused: bool, workers: int
) -> None:
    model = make(lazy)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=3,
        per_device_train_batch_size=4,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=1,
        remove_unused_columns=remove_unused,
        dataloader_num_workers=workers,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=lazy, data_collator=Collate())
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 3
    assert torch.isfinite(torch.tensor(losses)).all()
    outputs = trainer.predict(lazy)
    assert torch.equal(torch.as_tensor(outputs.label_ids[0]), lazy.gather(range(len(lazy)))["start_positions"])
    with torch.no_grad():
        expected = model.eval()(**model_inputs(Collate()(lazy.__getitems__(range(8))), model))
    assert torch.allclose(torch.as_tensor(outputs.predictions[0][:8]), expected.start_logits, atol=1e-5)


class Recurrent(Trainer):  # type: ignore[misc]
    """Trains over the steps of a time-step-major loader, and keeps the rows of each."""

    def __init__(self, lanes: Lanes, **options: Any):
        super().__init__(**options)
        self.lanes = lanes
        self.seen: list[list[int]] = []

    def get_train_dataloader(self) -> Any:
        options: Any = {"shuffle": True, "seed": SEED, "lanes": self.lanes, "max_segments": 3}
        return create_dataloader(self.train_dataset, 4, num_workers=1, **options)

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs

    def compute_loss(self, model: Any, inputs: Any, *others: Any, **more: Any) -> Any:
        steps = [inputs] if self.lanes == "refilled" else list(inputs)
        self.seen += [step["rows"].tolist() for step in steps]
        outputs = [(step, model(**model_inputs(step, model))) for step in steps]
        return sum(loss_or_zero(step, output.loss, output.start_logits) for step, output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("lanes", ["aligned", "refilled"])
@pytest.mark.parametrize("stop", [2, 5])
def test_the_trainer_resumes_over_a_time_step_major_loader(
    lazy: CacheDataset, tmp_path: Path, lanes: Lanes, stop: int
) -> None:
    def trainer(directory: str, model: Any, **options: Any) -> Recurrent:
        arguments = TrainingArguments(
            output_dir=str(tmp_path / directory),
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            logging_steps=1,
            num_train_epochs=3,
            save_strategy="steps",
            save_steps=stop,
            **options,
        )
        return Recurrent(lanes, model=model, args=arguments, train_dataset=lazy)

    torch.manual_seed(0)
    whole = trainer("whole", xlnet(lazy))
    whole.train()
    checkpoint = tmp_path / "whole" / f"checkpoint-{stop}"
    resumed = trainer("resumed", xlnet(lazy))
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert 0 < len(resumed.seen) < len(whole.seen)
    assert resumed.seen == whole.seen[-len(resumed.seen) :]
    losses = [[entry["loss"] for entry in one.state.log_history if "loss" in entry] for one in (whole, resumed)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


@FORK_WARNS
@pytest.mark.parametrize("workers", [0, 2])
def test_a_plain_loader_feeds_a_model_that_embeds_segment_ids(lazy: CacheDataset, workers: int) -> None:
    model = bert(lazy)
    for rows in (lazy, Subset(lazy, range(20))):
        batch = next(iter(DataLoader(rows, 4, num_workers=workers)))
        assert torch.isfinite(model(**model_inputs(batch, model)).loss)


@pytest.mark.parametrize("time_step_major", [True, False])
@pytest.mark.parametrize("make", [lambda rows: Subset(rows, range(4)), lambda rows: ConcatDataset([rows, rows])])
def test_datasets_without_documents_are_refused_with_what_to_use(
    lazy: CacheDataset, make: Any, time_step_major: bool
) -> None:
    with pytest.raises(SettingsError, match=r"^dataset:.*(Subset|ConcatDataset).*memxlnet\.Collate"):
        create_dataloader(make(lazy), use_time_step_major=time_step_major)


@pytest.mark.parametrize("make", [lambda rows: Subset(rows, range(9)), lambda rows: ConcatDataset([rows, rows])])
def test_what_to_use_for_datasets_without_documents_works(lazy: CacheDataset, make: Any) -> None:
    batch = next(iter(DataLoader(make(lazy), batch_size=9, collate_fn=Collate())))
    expected = lazy.gather(range(9))
    assert all(torch.equal(batch[name], expected[name].to(torch.int64)) for name in expected)


@pytest.fixture
def lightning() -> Any:
    """The modules for Lightning, which takes seconds to load."""
    pytest.importorskip("lightning")
    return importlib.import_module("tests.load.ecosystem_lightning")


def streamed(dataset: CacheDataset, lanes: Lanes) -> Any:
    size = 40 if lanes == "refilled" else 4
    return create_dataloader(dataset, size, shuffle=True, seed=SEED, lanes=lanes, max_segments=4, num_workers=1)


def steps_of(dataset: CacheDataset, lanes: Lanes, epochs: int) -> list[tuple[int, list[int]]]:
    """The rows of all steps of some epochs, and the epoch of each."""
    found = []
    loader = streamed(dataset, lanes)
    for epoch in range(epochs):
        steps = loader if lanes == "refilled" else itertools.chain.from_iterable(loader)
        found += [(epoch, step["rows"].tolist()) for step in steps]
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
class TestLightning:
    def test_reads_the_epochs_of_an_ordinary_loader(self, lazy: CacheDataset, lightning: Any, tmp_path: Path) -> None:
        module = lightning.Recurrent(lazy)
        lightning.trainer(tmp_path, 2).fit(module, regular(lazy))
        assert [row for epoch, rows in module.seen for row in rows] == [*order(lazy, 0), *order(lazy, 1)]
        assert torch.isfinite(torch.tensor(module.losses)).all()

    def test_predicts_over_an_ordinary_loader(self, lazy: CacheDataset, lightning: Any, tmp_path: Path) -> None:
        loader = create_dataloader(lazy, 16, use_time_step_major=False, device="cpu")
        found = lightning.trainer(tmp_path, 1).predict(lightning.Recurrent(lazy), loader)
        assert list(itertools.chain.from_iterable(found)) == list(range(len(lazy)))

    @pytest.mark.parametrize(("lanes", "moves"), [("refilled", True), ("refilled", False), ("aligned", False)])
    def test_reads_the_epochs_of_a_time_step_major_loader(
        self, lazy: CacheDataset, lightning: Any, tmp_path: Path, lanes: Lanes, moves: bool
    ) -> None:
        loader = streamed(lazy, lanes)
        module = lightning.Recurrent(lazy, loader, moves)
        lightning.trainer(tmp_path, 2).fit(module, loader)
        assert module.seen == steps_of(lazy, lanes, 2)
        assert torch.isfinite(torch.tensor(module.losses)).all()

    @pytest.mark.parametrize("lanes", ["refilled", "aligned"])
    def test_resumes_from_a_checkpoint_in_the_middle_of_an_epoch(
        self, lazy: CacheDataset, lightning: Any, tmp_path: Path, lanes: Lanes
    ) -> None:
        """Lightning saves the state of the loader of its own accord."""
        loader = streamed(lazy, lanes)
        whole = lightning.Recurrent(lazy, loader, moves=False)
        lightning.trainer(tmp_path, 2).fit(whole, loader)
        for batches in (2, 6):
            again = streamed(lazy, lanes)
            resumed = lightning.Recurrent(lazy, again, moves=False)
            lightning.trainer(tmp_path, 2).fit(resumed, again, ckpt_path=tmp_path / f"{batches}.ckpt")
            assert resumed.losses == whole.losses[batches:]
            assert resumed.seen == whole.seen[-len(resumed.seen) :]

    @pytest.mark.parametrize("lanes", ["refilled", "aligned"])
    def test_moves_to_the_next_epoch_by_itself(
        self, lazy: CacheDataset, lightning: Any, tmp_path: Path, lanes: Lanes
    ) -> None:
        module = lightning.Recurrent(lazy, moves=False)
        lightning.trainer(tmp_path, 2).fit(module, streamed(lazy, lanes))
        assert module.seen == steps_of(lazy, lanes, 2)

    def test_moves_a_group_to_the_device(self, lazy: CacheDataset, lightning: Any, tmp_path: Path) -> None:
        module = lightning.Recurrent(lazy)
        lightning.trainer(tmp_path, 1).fit(module, streamed(lazy, "aligned"))
        assert module.seen == steps_of(lazy, "aligned", 1)

    def test_the_ids_can_be_read_after_a_step_was_moved(
        self, lazy: CacheDataset, lightning: Any, tmp_path: Path
    ) -> None:
        module = lightning.ReadsIds(lazy)
        lightning.trainer(tmp_path, 1).fit(module, streamed(lazy, "refilled"))
        assert {name for ids in module.ids for name in ids} == {"", *lazy.get_all_documents()}


def test_the_next_iteration_begins_where_the_state_says(lazy: CacheDataset) -> None:
    loader = streamed(lazy, "refilled")
    steps = iter(loader)
    for _ in range(len(loader)):
        next(steps)
    state = loader.state_dict()
    assert (state["epoch"], state["step"]) == (1, 0)
    resumed = streamed(lazy, "refilled")
    resumed.load_state_dict(state)
    assert torch.equal(next(iter(loader))["rows"], next(iter(resumed))["rows"])
