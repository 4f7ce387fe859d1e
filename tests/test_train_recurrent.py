"""The worked training loop: memory goes in at the READ places and comes out at the WRITE places, and it pays."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import train_recurrent
from benchmarks.data import WORK_VARIABLE
from benchmarks.recall_task import CODES, recall_dataset, recall_examples
from benchmarks.recurrent_model import RecurrentXLNet, small_xlnet
from memxlnet import TimeStepMajorDataLoader
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.sample import sample_file, sample_tokenizer_directory


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> CacheDataset:
    return recall_dataset(60, 0, tmp_path_factory.mktemp("recall"))


def made(dataset: CacheDataset, **options: Any) -> RecurrentXLNet:
    manifest = dataset.manifest
    model = small_xlnet(100, 0, width=16, layers=1)
    return RecurrentXLNet(model, manifest.vocabulary_size, manifest.layout.num_memory_tokens, **options)


def test_the_fact_and_the_answer_never_share_a_segment(task: CacheDataset) -> None:
    held = 0
    for row in range(len(task)):
        item = task[row]
        offsets = item["offset_mapping"][item["input_ids"] > 0]
        fact = item["context"].index(item["chosen_answer_text"])
        held += item["has_answer_in_segment"]
        if item["has_answer_in_segment"]:
            starts = [start for start, stop in offsets.tolist() if stop > start and stop > len(item["question"])]
            assert item["segment_index"] > 0
            assert fact < min(starts)
    assert held >= 60


def test_every_code_is_as_likely_in_every_place_of_the_list() -> None:
    examples = recall_examples(2000, 1)
    places = [one["context"].split()[-len(CODES) :].index(one["answers"]["text"][0]) for one in examples]
    for one in examples:
        (text,), (start,) = one["answers"]["text"], one["answers"]["answer_start"]
        assert one["context"][start : start + len(text)] == text
        assert start > len(one["context"]) - 40
    assert all(400 < places.count(place) < 600 for place in range(len(CODES)))


def test_memory_goes_in_at_the_read_places_and_comes_out_at_the_write_places(task: CacheDataset) -> None:
    model = made(task).eval()
    step = next(iter(TimeStepMajorDataLoader(task, 4)))[0]
    seen: list[torch.Tensor] = []
    model.model.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    states: list[torch.Tensor] = []
    model.model.transformer.register_forward_hook(lambda module, args, output: states.append(output.last_hidden_state))
    memory = torch.randn(4, 2, 16)
    output = model(step, memory)
    plain = model.model.get_input_embeddings()(step["input_ids"])
    for lane in range(4):
        read, write = int(step["mem_read_start"][lane]), int(step["mem_write_start"][lane])
        assert torch.equal(seen[0][lane, read : read + 2], memory[lane])
        assert torch.equal(seen[0][lane, :read], plain[lane, :read])
        assert torch.equal(seen[0][lane, read + 2 :], plain[lane, read + 2 :])
        assert torch.equal(output.memory[lane], states[0][lane, write : write + 2])


def test_memory_that_is_cut_changes_nothing(task: CacheDataset) -> None:
    step = next(iter(TimeStepMajorDataLoader(task, 4)))[0]
    for with_memory in (True, False):
        model = made(task, with_memory=with_memory).eval()
        one, two = (model(step, torch.full((4, 2, 16), value)).start_logits for value in (0.0, 3.0))
        assert torch.equal(one, two) is not with_memory


def test_the_gradient_of_a_late_segment_reaches_the_first(task: CacheDataset) -> None:
    model = made(task)
    first, second = next(iter(TimeStepMajorDataLoader(task, 4)))[:2]
    begun = model.initial_memory(4).detach().requires_grad_()
    late = model(second, model(first, begun).memory).loss
    (gradient,) = torch.autograd.grad(late, begun)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("lanes", ["aligned", "refilled"])
def test_the_squad_loop_trains_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lanes: str
) -> None:
    monkeypatch.setenv(WORK_VARIABLE, str(tmp_path / "work"))
    small_xlnet(77, 0, width=16, layers=1).save_pretrained(tmp_path / "model")
    figures = train_recurrent.main(
        [
            *("squad", "--file", str(sample_file()), "--tokenizer", str(sample_tokenizer_directory())),
            *("--model", str(tmp_path / "model"), "--steps", "12", "--batch-size", "4", "--max-seq-length", "96"),
            *("--lanes", lanes, "--memory-tokens", "2"),
        ]
    )
    lines = figures["lines"]
    assert lines[-1]["step"] == 12
    assert all(0 < line["loss"] < 20 and 0 <= line["loader wait"] <= 1 for line in lines)
    assert all(line["anonymous MB"] > 10 and line["steps a second"] > 0 for line in lines)
    assert capsys.readouterr().out.count('"loss"') >= len(lines)


@pytest.mark.slow
def test_the_task_is_learned_with_memory_only() -> None:
    figures = train_recurrent.main(["recall"])
    assert figures["with memory"]["found"] >= 0.9
    assert figures["memory cut"]["found"] <= figures["chance"] + 0.08
