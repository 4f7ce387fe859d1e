"""Several processes, started by torchrun as users start them, train together on documents of uneven length."""

import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.carried_state import CarriedState
from memxlnet.load.create import create_dataloader
from memxlnet.load.epoch_plan import Ranks
from memxlnet.load.option_literals import Lanes
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from tests.load.helpers import Built, assert_same_steps
from tests.load.rank_scripts import memory
from tests.load.rank_scripts.train import made, seen, steps_of
from tests.support import ROOT, WAIT_SECONDS

BATCH_SIZE = 2
"""Lanes of a rank, as the script has it."""

OPTIONS: dict[str, dict[str, Any]] = {
    "aligned": {"shuffle": True, "seed": 7},
    "refilled": {"shuffle": True, "seed": 7, "lanes": "refilled"},
    "cut": {"shuffle": True, "seed": 7, "max_segments": 3, "window": "random", "group_by_length": True},
    "end": {"shuffle": True, "seed": 7, "align": "end", "group_by_length": True},
    "dealt": {"shuffle": True, "seed": 7, "lanes": "refilled", "group_by_length": True},
}
Reports = list[dict[str, Any]]
"""What each rank wrote."""


def torchrun(script: str, processes: int, *arguments: object) -> None:
    """Run a script in a number of processes; they must end well and in time."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    with subprocess.Popen(
        [*command, "--module", f"tests.load.rank_scripts.{script}", *map(str, arguments)],
        cwd=ROOT,
        env={**environment, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            # torchrun ends its processes when it is asked to end, not when it is killed.
            process.terminate()
            output, _ = process.communicate(timeout=60)
            pytest.fail(f"{processes} processes hang:\n{output[-3000:]}")
    assert process.returncode == 0, output[-5000:]


@pytest.fixture(scope="session", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def reports(request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    out = tmp_path_factory.mktemp("ranks")
    torchrun("train", request.param, built.plain, out)
    return [json.loads((out / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(request.param)]


def lanes_of(steps_of_ranks: list[list[dict[str, Any]]]) -> Iterator[tuple[str, int, bool, bool]]:
    """Document, row, and whether it is the first and the last, of all lanes of all ranks that hold a segment."""
    for step in itertools.chain.from_iterable(steps_of_ranks):
        for one in zip(step["ids"], step["rows"], step["reset"], step["is_last"], strict=True):
            if one[1] >= 0:
                yield one


@pytest.mark.slow
class TestTogether:
    def test_ranks_find_their_place_before_and_after_the_group_is_made(self, reports: Reports) -> None:
        for rank, one in enumerate(reports):
            assert one["before"] == [rank, len(reports)]
            assert all(one[kind]["ranks"] == [rank, len(reports)] for kind in OPTIONS)

    @pytest.mark.parametrize("kind", OPTIONS)
    def test_all_ranks_have_the_same_number_of_steps_of_equal_shape(self, reports: Reports, kind: str) -> None:
        for steps in zip(*(one[kind]["steps"] for one in reports), strict=True):
            assert len({len(step["rows"]) for step in steps}) == 1
        for lanes in ("aligned", "refilled"):
            assert len({len(one["evaluation"][lanes]) for one in reports}) == 1

    @pytest.mark.parametrize("kind", OPTIONS)
    def test_documents_are_disjoint(self, reports: Reports, kind: str) -> None:
        documents = [{lane[0] for lane in lanes_of([one[kind]["steps"]])} for one in reports]
        assert sum(map(len, documents)) == len(set().union(*documents))

    @pytest.mark.parametrize("kind", ["aligned", "refilled", "end", "dealt"])
    def test_training_reads_every_segment_once(self, reports: Reports, built: Built, kind: str) -> None:
        rows = Counter(row for _, row, _, _ in lanes_of([one[kind]["steps"] for one in reports]))
        assert rows == Counter(range(len(CacheDataset(built.plain))))

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_evaluation_reads_every_document_and_segment_once(self, reports: Reports, built: Built, lanes: str) -> None:
        dataset = CacheDataset(built.plain)
        assert len(dataset.get_all_documents()) % (3 * len(reports)), "the last group must be smaller"
        found = list(lanes_of([one["evaluation"][lanes] for one in reports]))
        assert Counter(row for _, row, _, _ in found) == Counter(range(len(dataset)))
        every_document = Counter(list(dataset.get_all_documents()))
        assert Counter(name for name, _, reset, _ in found if reset) == every_document
        assert Counter(name for name, _, _, last in found if last) == every_document
        for name, row, reset, last in found:
            rows = dataset.get_document_segments(name)
            assert (row in rows, reset, last) == (True, row == rows[0], row == rows[-1])

    def test_a_rank_without_a_document_in_the_last_group_trains_along(self, reports: Reports) -> None:
        idle = reports[-1]["aligned"]["steps"][-1]
        assert set(idle["ids"]) == {""}
        assert (idle["num_active"], idle["loss"]) == (0, 0.0)
        assert reports[0]["aligned"]["steps"][-1]["num_active"] + reports[1]["aligned"]["steps"][-1]["num_active"] > 0

    @pytest.mark.parametrize("kind", OPTIONS)
    def test_all_ranks_end_with_the_same_parameters(self, reports: Reports, kind: str) -> None:
        assert len({one[kind]["parameters"][0] for one in reports}) == 1
        losses = torch.tensor([step["loss"] for one in reports for step in one[kind]["steps"]])
        assert torch.isfinite(losses).all()

    @pytest.mark.parametrize("kind", OPTIONS)
    def test_training_resumes_to_the_same_parameters(self, reports: Reports, kind: str) -> None:
        for one in reports:
            assert one[kind]["resumed"] == one[kind]["steps"][one[kind]["stop"] :]
            assert one[kind]["parameters"][0] == one[kind]["parameters"][1]


def of_all_ranks(steps: Any) -> list[list[tuple[int, bool, bool]]]:
    """The lanes with a segment of each step, rank after rank."""
    found = []
    for parts in zip(*steps, strict=True):
        lanes = [zip(part["rows"], part["reset"], part["is_last"], strict=True) for part in parts]
        found.append([lane for lane in itertools.chain.from_iterable(lanes) if lane[0] >= 0])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("kind", OPTIONS)
def test_another_number_of_ranks_continues_with_the_state(
    reports: Reports, built: Built, kind: str, world_size: int
) -> None:
    dataset = CacheDataset(built.plain)
    states = [one[kind]["state"] for one in reports]
    assert all(state == states[0] for state in states)
    assert states[0]["step"] == reports[0][kind]["stop"] > 0
    lanes = BATCH_SIZE * len(reports) // world_size
    found = []
    for rank in range(world_size):
        loader = made(dataset, lanes, rank=rank, world_size=world_size, **OPTIONS[kind])
        loader.load_state_dict(states[rank % len(states)])
        found.append([seen(step) for step in steps_of(loader)])
    whole = of_all_ranks([one[kind]["steps"] for one in reports])
    assert of_all_ranks(found) == whole[states[0]["step"] :]


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("kind", OPTIONS)
def test_loader_and_memory_resume_in_a_process_group(built: Built, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    dataset = CacheDataset(built.plain)

    def fresh() -> tuple[TimeStepMajorDataLoader, CarriedState]:
        carried = CarriedState(torch.zeros(1, 2), batch_size=BATCH_SIZE)
        return made(dataset, BATCH_SIZE, **OPTIONS[kind]), carried

    expected = list(steps_of(made(dataset, BATCH_SIZE, rank=0, world_size=1, **OPTIONS[kind])))
    loader, carried = fresh()
    assert loader.ranks == Ranks(0, 1)
    for step in itertools.islice(steps_of(loader), 5):
        carried.after(step, carried.before(step) + step["rows"][:, None])
    resumed, resumed_state = fresh()
    resumed.load_state_dict(loader.state_dict())
    resumed_state.load_state_dict(carried.state_dict())
    rest = list(steps_of(resumed))
    assert_same_steps(rest, expected[5:])
    assert torch.equal(resumed_state.before(rest[0]), carried.before(expected[5]))
    assert not torch.equal(carried.before(expected[5]), torch.zeros(BATCH_SIZE, 2))


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("epoch", [0, 1])
def test_the_stream_of_all_ranks_does_not_depend_on_their_number(built: Built, kind: str, epoch: int) -> None:
    dataset = CacheDataset(built.plain)

    def stream(world_size: int) -> list[list[tuple[int, bool, bool]]]:
        loaders = [
            made(dataset, 8 // world_size, rank=rank, world_size=world_size, **OPTIONS[kind])
            for rank in range(world_size)
        ]
        for loader in loaders:
            loader.set_epoch(epoch)
        return of_all_ranks([[seen(step) for step in steps_of(loader)] for loader in loaders])

    expected = stream(1)
    assert [stream(world_size) for world_size in (2, 4, 8)] == [expected] * 3


@pytest.mark.parametrize("lanes", ["aligned", "refilled"])
@pytest.mark.parametrize("world_size", [3, 16])
def test_more_ranks_than_documents_share_them_out(built: Built, lanes: Lanes, world_size: int) -> None:
    dataset = CacheDataset(built.plain)
    loaders = [
        create_dataloader(dataset, 1, rank=rank, world_size=world_size, lanes=lanes, evaluation=True)
        for rank in range(world_size)
    ]
    steps = []
    for loader in loaders:
        assert isinstance(loader, TimeStepMajorDataLoader)
        steps.append([seen(step) for step in steps_of(loader)])
    assert len({len(one) for one in steps}) == 1
    assert sorted(row for _, row, _, _ in lanes_of(steps)) == list(range(len(dataset)))


class Saved(NamedTuple):
    """A run over several ranks, its checkpoints, and what its processes wrote."""

    cache: Path
    directory: Path
    processes: int

    def losses(self, name: str) -> Any:
        return json.loads((self.directory / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def saved(request: pytest.FixtureRequest, built: Built, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    found = Saved(built.plain, tmp_path_factory.mktemp("memory"), request.param)
    torchrun("memory", found.processes, "save", found.cache, found.directory)
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch.distributed is:UserWarning")
@pytest.mark.parametrize(
    "world_size", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
def test_memory_continues_over_any_number_of_ranks(saved: Saved, world_size: int) -> None:
    if world_size == 1:  # without a process group
        resumed = memory.run("resume", str(saved.cache), saved.directory, 1)
    else:
        torchrun("memory", world_size, "resume", saved.cache, saved.directory)
        resumed = saved.losses(f"resume-{world_size}")
    whole = saved.losses(f"save-{saved.processes}")
    # Stops of aligned lanes lie in a full group and in the smaller last one.
    assert {kind: len(found) for kind, found in resumed.items()} == {"aligned": 2 * 2, "refilled": 2, "end": 2 * 2}
    for kind, found in resumed.items():
        for name, losses in found.items():
            stop, with_memory = name.split("-")
            expected = pytest.approx(whole[kind][int(stop) :], rel=1e-12)
            assert (losses == expected) == (with_memory == "True"), f"{kind}, {name}"
