"""A training loop that carries memory along documents: ``python -m benchmarks.train_recurrent recall|squad``.

``recall`` trains on a generated task that needs memory, with and without it, and reports the accuracy. ``squad`` trains
on the SQuAD file (or ``--file``) and reports loss, steps per second, the share of time spent waiting for the loader,
and RAM. ``--model`` takes a trained XLNet instead of a small random one.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from benchmarks import memory
from benchmarks.data import data, work
from benchmarks.data import tokenizer as default_tokenizer
from benchmarks.recall_task import CODES, recall_dataset
from benchmarks.recurrent_model import RecurrentXLNet, small_xlnet, trained_xlnet
from benchmarks.steps import all_steps
from memxlnet import Cache, CarriedState, TimeStepMajorDataLoader, configure_memory_tokens
from memxlnet.format.manifest import Manifest
from memxlnet.load.cache_dataset import CacheDataset

DEFAULTS: dict[str, dict[str, float]] = {
    "recall": {"steps": 500, "width": 128, "learning_rate": 1e-3},
    "squad": {"steps": 200, "width": 64, "learning_rate": 2e-3},
}


@dataclass
class Meter:
    """The steps of a loop so far, its seconds, and the seconds that it waited for the loader."""

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def timed(self, steps: Iterator[Any]) -> Iterator[Any]:
        """Yield the same steps and measure the time to get each."""
        begun = time.perf_counter()
        asked = begun
        for step in steps:
            now = time.perf_counter()
            self.waited += now - asked
            self.steps += 1
            self.seconds = now - begun
            yield step
            asked = time.perf_counter()


def train(
    model: RecurrentXLNet,
    steps: Iterator[Mapping[str, Any]],
    number: int,
    learning_rate: float,
    through_time: int,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> None:
    """Train with truncated backpropagation through time.

    Args:
        model: The model.
        steps: Steps of a loader.
        number: Number of steps.
        learning_rate: Peak of the learning rate, after a warm-up over a tenth of the steps; it then decays to zero.
        through_time: Maximum number of steps per update, through which gradients flow back. An update also ends with
            a group, when all documents have ended.
        report: Called after each update with the number of steps so far and the mean loss of the update.
    """
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate)
    warm_up = max(number // 10, 1)
    carried = CarriedState(model.initial_memory)
    losses: list[torch.Tensor] = []
    for done, step in enumerate(islice(steps, number), 1):
        output = model(step, carried.before(step))
        carried.after(step, output.memory)
        losses.append(output.loss)
        all_end = bool((step["is_last"] | ~step["document_mask"]).all())
        if not all_end and len(losses) < through_time and done < number:
            continue
        rate = min(done / warm_up, (number - done) / max(number - warm_up, 1) + 0.01)
        optimizer.param_groups[0]["lr"] = learning_rate * rate
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        carried.detach()
        report(done, float(loss.detach()))
        losses = []


@torch.no_grad()
def found_answers(model: RecurrentXLNet, dataset: CacheDataset, batch_size: int) -> float:
    """Return the share of segments with an answer whose first and last tokens are both predicted."""
    model.eval()
    carried = CarriedState(model.initial_memory)
    found = asked = 0
    for group in TimeStepMajorDataLoader(dataset, batch_size, evaluation=True):
        for step in group:
            output = model(step, carried.before(step))
            carried.after(step, output.memory)
            holds = step["document_mask"] & (step["start_positions"] != step["cls_index"])
            right = (output.start_logits.argmax(1) == step["start_positions"]) & (
                output.end_logits.argmax(1) == step["end_positions"]
            )
            asked += int(holds.sum())
            found += int((right & holds).sum())
    return found / max(asked, 1)


def recall(options: argparse.Namespace) -> dict[str, Any]:
    """Train on the generated task, with memory and without it."""
    figures: dict[str, Any] = {"chance": 1 / len(CODES)}
    with tempfile.TemporaryDirectory(prefix="memxlnet-recall-") as folder:
        training, test = (recall_dataset(count, seed, Path(folder)) for seed, count in enumerate((4096, 512)))
        for with_memory in (True, False):
            begun = time.perf_counter()
            model = _model(options, training.manifest, with_memory)
            loader = TimeStepMajorDataLoader(training, options.batch_size, shuffle=True, lanes=options.lanes)
            through_time = options.through_time or int(training.documents.num_segments.max())
            train(model, all_steps(loader), options.steps, options.learning_rate, through_time)
            name = "with memory" if with_memory else "memory cut"
            figures[name] = {
                "found": found_answers(model, test, options.batch_size),
                "seconds": time.perf_counter() - begun,
            }
    return figures


def squad(options: argparse.Namespace) -> dict[str, Any]:
    """Train on SQuAD and measure the loop."""
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer) if options.tokenizer else default_tokenizer()
    configure_memory_tokens(tokenizer, options.memory_tokens)
    cache = Cache.build(
        options.file,
        tokenizer,
        cache_dir=work() / "train-recurrent",
        max_seq_length=options.max_seq_length,
        doc_stride=options.max_seq_length // 3,
    )
    model = _model(options, cache.manifest, True)
    loader = cache.loader(
        options.batch_size, shuffle=True, num_workers=1, lanes=options.lanes, max_segments=options.max_segments
    )
    meter = Meter()
    lines: list[dict[str, float]] = []
    number = options.steps
    every = max(number // 10, 1)

    def report(step: int, loss: float) -> None:
        if step // every > len(lines) or step == number:
            line = {
                "step": step,
                "loss": loss,
                "steps a second": meter.steps / max(meter.seconds, 1e-9),
                "loader wait": meter.waited / max(meter.seconds, 1e-9),
                "anonymous MB": memory.of_self().anonymous / 1e6,
            }
            lines.append(line)
            print(json.dumps(line), flush=True)

    train(model, meter.timed(all_steps(loader)), number, options.learning_rate, options.through_time or 4, report)
    return {"segments": cache.num_rows, "epoch": loader.epoch_size()._asdict(), "lines": lines}


def _model(options: argparse.Namespace, manifest: Manifest, with_memory: bool) -> RecurrentXLNet:
    torch.manual_seed(options.seed)
    words = manifest.vocabulary_size
    model = trained_xlnet(options.model) if options.model else small_xlnet(words, options.seed, options.width)
    return RecurrentXLNet(model, words, manifest.layout.num_memory_tokens, with_memory)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["recall", "squad"])
    parser.add_argument("--model", help="directory or Hub name of an XLNet; default: a small random one")
    parser.add_argument("--tokenizer", help="squad: directory or Hub name; default: XLNet's")
    parser.add_argument("--file", type=Path, default=data().file, help="squad: examples to train on")
    parser.add_argument("--steps", type=int, help="number of steps; default: 500 for recall, 200 for squad")
    parser.add_argument("--width", type=int, help="width of the small model; default: 128 for recall, 64 for squad")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lanes", choices=["aligned", "refilled"], default="aligned")
    parser.add_argument("--max-segments", type=int, help="squad: maximum number of segments per document")
    parser.add_argument(
        "--max-seq-length", type=int, default=384, help="squad: tokens per row, a third of which overlap"
    )
    parser.add_argument("--memory-tokens", type=int, default=4, help="squad: READ tokens per row")
    parser.add_argument("--through-time", type=int, help="steps per update; default: a document, or 4 for squad")
    parser.add_argument("--learning-rate", type=float, help="default: 0.001 for recall, 0.002 for squad")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    for name, value in DEFAULTS[options.task].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    figures = (recall if options.task == "recall" else squad)(options)
    print(json.dumps({options.task: figures}, indent=1))
    return figures


if __name__ == "__main__":
    main()
