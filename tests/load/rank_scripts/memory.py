"""What each process does that torchrun starts: trains, saves loader and memory on the way, and resumes from there."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.nn.parallel import DistributedDataParallel

from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.carried_state import CarriedState
from tests.load.rank_scripts.train import made, steps_of

GLOBAL_BATCH_SIZE = 8
SIZE = 3
OPTIONS: dict[str, dict[str, Any]] = {
    "aligned": {"shuffle": True, "seed": 1},
    "refilled": {"shuffle": True, "seed": 1, "lanes": "refilled"},
    "end": {"shuffle": True, "seed": 1, "align": "end"},
}


class Model(nn.Module):
    """A recurrent model whose state has some structure, a type of its own, and lanes in the second dimension."""

    def __init__(self, vocabulary: int, length: int):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, SIZE)
        self.cell = nn.GRUCell(SIZE, SIZE)
        self.head = nn.Linear(SIZE, length)
        self.length = length

    def forward(self, input_ids: Tensor, start_positions: Tensor, state: dict[str, Any]) -> tuple[Tensor, Any]:
        (hidden, _), seen = state["hidden"], state["seen"]
        inputs = self.embed(input_ids).mean(1) / (1 + seen[0, :, None])
        hidden = self.cell(inputs, hidden[0].to(inputs.dtype))
        logits = self.head(hidden)
        losses = nn.functional.cross_entropy(logits, start_positions, ignore_index=self.length, reduction="sum")
        return losses, {"seen": seen + 1, "hidden": (hidden.bfloat16()[None], None)}


def initial() -> dict[str, Any]:
    return {"hidden": (torch.zeros(1, 1, SIZE), None), "seen": torch.zeros(1, 1, dtype=torch.int64)}


class Training:
    """One training loop of float64, so that the order of sums is no matter. Losses are sums over all lanes."""

    def __init__(self, cache: str, kind: str, world_size: int):
        dataset = CacheDataset(cache)
        self.world_size = world_size
        self.loader = made(dataset, GLOBAL_BATCH_SIZE // world_size, **OPTIONS[kind])
        torch.manual_seed(0)
        self.model = Model(dataset.manifest.vocabulary_size, dataset.manifest.max_seq_length).double()
        self.trained = DistributedDataParallel(self.model) if world_size > 1 else self.model
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.carried = CarriedState(initial(), 1, batch_size=self.loader.batch_size)
        self.losses: list[float] = []
        self.forgets = False

    def state(self) -> dict[str, Any]:
        memory, loader = self.carried.state_dict(), self.loader.state_dict()
        return {"model": self.model.state_dict(), "memory": memory, "loader": loader}

    def resume(self, checkpoint: Path, with_memory: bool = True) -> None:
        state = self.state()
        load(state, checkpoint_id=checkpoint)
        self.model.load_state_dict(state["model"])
        if with_memory:
            self.carried.load_state_dict(state["memory"])
        self.forgets = not with_memory
        self.loader.load_state_dict(state["loader"])

    def run(self, stops: dict[int, Path]) -> None:
        """Train to the end of the epoch; the state after some steps goes into a directory."""
        for step in steps_of(self.loader):
            if self.forgets and not self.losses:
                self.carried.state = self.carried.fresh(len(step["rows"]))
            losses, state = self.trained(step["input_ids"], step["start_positions"], self.carried.before(step))
            self.carried.after(step, state)
            self.optimizer.zero_grad()
            # Gradients are averaged over the ranks, which makes this the mean over all lanes.
            (losses * self.world_size / GLOBAL_BATCH_SIZE).backward()
            self.optimizer.step()
            self.carried.detach()
            whole = losses.detach().clone()
            if self.world_size > 1:
                torch.distributed.all_reduce(whole)
            self.losses.append(float(whole))
            if len(self.losses) in stops:
                save(self.state(), checkpoint_id=stops[len(self.losses)])


def places_of_stops(cache: str, kind: str) -> list[int]:
    """Steps after which to save: in the middle of documents, of a full group and of the smaller last one."""
    loader = made(CacheDataset(cache), GLOBAL_BATCH_SIZE, rank=0, world_size=1, **OPTIONS[kind])
    found: dict[int, list[int]] = {}
    for number, step in enumerate(steps_of(loader)):
        if (step["document_mask"] & ~step["reset"]).sum() > 2:
            found.setdefault(len(step["rows"]), []).append(number)
    return [numbers[1] for numbers in found.values()]


def main(action: str, cache: str, directory: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    try:
        rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        found = run(action, cache, Path(directory), world_size)
    finally:
        torch.distributed.destroy_process_group()
    if rank == 0:
        (Path(directory) / f"{action}-{world_size}.json").write_text(json.dumps(found), encoding="utf-8")


def run(action: str, cache: str, directory: Path, world_size: int) -> dict[str, Any]:
    """The losses of each training, uninterrupted or from each checkpoint."""
    found: dict[str, Any] = {}
    for kind in OPTIONS:
        stops = {step: directory / f"{kind}-{step}" for step in places_of_stops(cache, kind)}
        if action == "save":
            training = Training(cache, kind, world_size)
            training.run(stops)
            found[kind] = training.losses
            continue
        found[kind] = {}
        for step, checkpoint in stops.items():
            for with_memory in (True, False):
                training = Training(cache, kind, world_size)
                training.resume(checkpoint, with_memory)
                training.run({})
                found[kind][f"{step}-{with_memory}"] = training.losses
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
