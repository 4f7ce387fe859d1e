"""A Lightning module over each kind of loader, as a user writes it."""

import logging
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.carried_state import CarriedState, loss_or_zero

SIZE = 6


class Recurrent(lightning.LightningModule):
    """Reads batches of segments, steps of refilled lanes, or whole groups; notes what it was given.

    Args:
        dataset: Whose vocabulary and length.
        loader: The time-step-major loader, whose epoch it sets; None for an ordinary one, whose sampler Lightning sets.
        moves: Let Lightning move what it is given to the device, which a sequence of steps does not survive.
    """

    def __init__(self, dataset: CacheDataset, loader: Any = None, moves: bool = True):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(dataset.manifest.vocabulary_size, SIZE)
        self.cell = nn.GRUCell(SIZE, SIZE)
        self.head = nn.Linear(SIZE, dataset.manifest.max_seq_length)
        self.carried = CarriedState(torch.zeros(1, SIZE))
        self.loader = loader
        self.moves = moves
        self.seen: list[tuple[int, list[int]]] = []
        self.ids: list[list[str]] = []
        self.losses: list[float] = []

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return super().transfer_batch_to_device(batch, device, dataloader_idx) if self.moves else batch

    def on_train_epoch_start(self) -> None:
        if self.loader is not None:
            self.loader.set_epoch(self.current_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["carried"] = self.carried.state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.carried.state = checkpoint["carried"]

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        steps = [batch] if isinstance(batch, dict) else batch
        total = torch.zeros(())
        for step in steps:
            self.seen.append((self.current_epoch, step["rows"].tolist()))
            total = total + self._loss(step)
        self.carried.detach()
        self.losses.append(float(total.detach()))
        return total

    def predict_step(self, batch: Any) -> list[int]:
        rows: list[int] = batch["rows"].tolist()
        return rows

    def _loss(self, step: dict[str, Any]) -> torch.Tensor:
        recurrent = "reset" in step
        inputs = self.embed(step["input_ids"]).mean(1)
        state = self.cell(inputs, self.carried.before(step) if recurrent else torch.zeros_like(inputs))
        logits = self.head(state)
        loss = nn.functional.cross_entropy(logits, step["start_positions"], ignore_index=logits.shape[1])
        if not recurrent:
            return loss
        self.carried.after(step, state)
        return loss_or_zero(step, loss, logits)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class ReadsIds(Recurrent):
    """Reads the ids of the lanes too."""

    def predict_step(self, batch: Any) -> list[int]:
        rows: list[int] = batch["rows"].tolist()
        return rows

    def _loss(self, step: dict[str, Any]) -> torch.Tensor:
        self.ids.append(list(step["example_ids"]))
        return super()._loss(step)


def trainer(directory: Path, epochs: int) -> lightning.Trainer:
    """A quiet trainer that saves after every second batch."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    saves = ModelCheckpoint(
        directory, filename="{step}", every_n_train_steps=2, save_top_k=-1, auto_insert_metric_name=False
    )
    return lightning.Trainer(
        accelerator="cpu",
        callbacks=[saves],
        default_root_dir=directory,
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
