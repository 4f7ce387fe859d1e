"""What each process does that torchrun starts: reads, trains, resumes from a state, and writes down what it saw."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.carried_state import CarriedState, loss_or_zero
from memxlnet.load.create import create_dataloader
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader

SIZE = 6


class Model(nn.Module):
    """A recurrent model with a head like that of question answering."""

    def __init__(self, vocabulary: int, length: int):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, SIZE)
        self.cell = nn.GRUCell(SIZE, SIZE)
        self.head = nn.Linear(SIZE, length)
        self.length = length

    def forward(self, input_ids: Tensor, start_positions: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        state = self.cell(self.embed(input_ids).mean(1), state)
        logits = self.head(state)
        return nn.functional.cross_entropy(logits, start_positions, ignore_index=self.length), logits, state


def made(dataset: CacheDataset, batch_size: int, **options: Any) -> TimeStepMajorDataLoader:
    loader = create_dataloader(dataset, batch_size, **options)
    assert isinstance(loader, TimeStepMajorDataLoader)
    return loader


def steps_of(loader: TimeStepMajorDataLoader) -> Iterator[dict[str, Any]]:
    for one in loader:
        yield from [one] if loader.settings.lanes == "refilled" else one


def seen(step: dict[str, Any]) -> dict[str, Any]:
    masks = {name: step[name].tolist() for name in ("rows", "reset", "is_last")}
    return {"ids": list(step["example_ids"]), "num_active": step["num_active"], **masks}


class Training:
    """One training loop, as a user writes it."""

    def __init__(self, loader: TimeStepMajorDataLoader):
        torch.manual_seed(0)
        manifest = loader.dataset.manifest
        self.loader = loader
        # In the middle of an epoch, and of documents.
        self.stop = loader.epoch_size().steps * 2 // 3
        self.model = DistributedDataParallel(Model(manifest.vocabulary_size, manifest.max_seq_length))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.carried = CarriedState(torch.zeros(1, SIZE))
        self.steps: list[dict[str, Any]] = []
        self.saved: dict[str, Any] | None = None

    def run(self) -> None:
        for step in steps_of(self.loader):
            found, logits, state = self.model(step["input_ids"], step["start_positions"], self.carried.before(step))
            self.carried.after(step, state)
            loss: Any = loss_or_zero(step, found, logits)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.carried.detach()
            self.steps.append({**seen(step), "loss": float(loss.detach())})
            if len(self.steps) == self.stop:
                self.saved = {"loader": self.loader.state_dict(), "state": self.carried.state.clone()}
                self.saved["model"] = {name: value.clone() for name, value in self.model.state_dict().items()}

    def parameters(self) -> str:
        """A digest of all parameters, to the bit."""
        values = [parameter.detach().numpy().tobytes() for parameter in self.model.parameters()]
        return hashlib.sha256(b"".join(values)).hexdigest()


def train(dataset: CacheDataset, **options: Any) -> dict[str, Any]:
    options = {"shuffle": True, "seed": 7, "num_workers": 1, **options}
    whole = Training(made(dataset, 2, **options))
    whole.run()
    assert whole.saved is not None
    resumed = Training(made(dataset, 2, **options))
    resumed.loader.load_state_dict(json.loads(json.dumps(whole.saved["loader"])))
    resumed.carried.state = whole.saved["state"]
    resumed.model.load_state_dict(whole.saved["model"])
    resumed.run()
    return {
        "stop": whole.stop,
        "ranks": list(whole.loader.ranks),
        "steps": whole.steps,
        "resumed": resumed.steps,
        "parameters": [whole.parameters(), resumed.parameters()],
        "state": whole.saved["loader"],
    }


def main(cache: str, out: str) -> None:
    torch.set_num_threads(1)
    dataset = CacheDataset(cache)
    before = made(dataset, 2)
    torch.distributed.init_process_group("gloo")
    try:
        report = {
            "before": list(before.ranks),
            "aligned": train(dataset),
            "refilled": train(dataset, lanes="refilled"),
            "cut": train(dataset, max_segments=3, window="random", group_by_length=True),
            "end": train(dataset, align="end", group_by_length=True),
            "dealt": train(dataset, lanes="refilled", group_by_length=True),
            "evaluation": {
                lanes: [seen(step) for step in steps_of(made(dataset, 3, evaluation=True, lanes=lanes))]
                for lanes in ("aligned", "refilled")
            },
        }
    finally:
        torch.distributed.destroy_process_group()
    (Path(out) / f"{before.ranks.rank}.json").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
