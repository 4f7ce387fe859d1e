from typing import Any

import numpy as np
import pytest

from memxlnet.errors import SettingsError
from memxlnet.evaluate.collector import AnswerCollector
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.create import create_dataloader, create_evaluation_dataloader
from memxlnet.load.segment_metadata import METADATA
from memxlnet.load.time_step_loader import TimeStepMajorDataLoader
from tests.evaluate.helpers import random_logits
from tests.load.helpers import assert_same_steps, readings, steps_of


@pytest.mark.parametrize("options", [{}, {"lanes": "refilled"}, {"num_workers": 1, "dtype": "stored"}])
def test_every_document_once_and_in_order(dataset: CacheDataset, options: dict[str, Any]) -> None:
    loader = create_evaluation_dataloader(dataset, 2, **options)
    assert isinstance(loader, TimeStepMajorDataLoader)
    assert loader.settings.evaluation
    steps = steps_of(loader)
    read = readings(steps)
    assert sorted(one.row for one in read) == sorted(dataset.documents.first_segment.tolist())
    assert all(one.whole and one.segment == 0 for one in read)
    begun = [name for step in steps for name, begins in zip(step["example_ids"], step["reset"], strict=True) if begins]
    if "lanes" not in options:
        assert begun == list(dataset.get_all_documents())
    assert sorted(begun) == sorted(dataset.get_all_documents())
    assert set(METADATA) <= set(steps[0])
    expected = create_dataloader(dataset, 2, evaluation=True, metadata=METADATA, **options)
    assert_same_steps(steps, steps_of(expected))


@pytest.mark.parametrize("workers", [0, 1])
def test_every_segment_once_and_in_order(dataset: CacheDataset, workers: int) -> None:
    loader = create_evaluation_dataloader(dataset, 4, workers, use_time_step_major=False)
    batches: list[Any] = list(loader)
    assert np.concatenate([batch["rows"] for batch in batches]).tolist() == list(range(len(dataset)))
    assert len(batches[-1]["rows"]) == len(dataset) % 4 > 0
    assert set(METADATA) <= set(batches[0])


@pytest.mark.parametrize("time_major", [False, True])
def test_metadata_can_be_chosen(dataset: CacheDataset, time_major: bool) -> None:
    found: list[set[Any]] = []
    for metadata in (["question"], False):
        options: dict[str, Any] = {"metadata": metadata, "use_time_step_major": time_major}
        loader: Any = create_evaluation_dataloader(dataset, **options)
        first = next(iter(loader))
        found.append(set(METADATA) & set(first[0] if time_major else first))
    assert found == [{"question"}, set()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shuffle": True}, "^shuffle:.*True"),
        ({"shuffle": True, "use_time_step_major": False}, "^shuffle:.*True"),
        ({"shuffle": 1}, "^shuffle:.*1$"),
        ({"evaluation": False}, "^evaluation:.*False"),
        ({"evaluation": False, "use_time_step_major": False}, "^evaluation:.*False"),
        ({"drop_last": True}, "^drop_last:"),
        ({"drop_last": True, "use_time_step_major": False}, "^drop_last:.*True"),
        ({"max_segments": 2, "window": "answer"}, "^window:.*'answer'"),
        ({"use_time_step_major": 1}, "^use_time_step_major:.*1$"),
        ({"lanes": "refilled", "use_time_step_major": False}, "^lanes:.*use_time_step_major=False"),
        ({"nothing": 1}, "^nothing:.*use_time_step_major=True"),
        ({"batch_size": 0}, "^batch_size:.*0$"),
    ],
)
def test_what_is_refused(dataset: CacheDataset, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        create_evaluation_dataloader(dataset, **options)


def test_what_says_what_is_so_anyway(dataset: CacheDataset) -> None:
    options: dict[str, Any] = {"shuffle": False, "evaluation": True, "drop_last": False}
    for time_major in (False, True):
        loader = create_evaluation_dataloader(dataset, use_time_step_major=time_major, **options)
        assert len(loader) > 0


def test_documents_that_are_cut_short_are_refused(dataset: CacheDataset) -> None:
    starts, ends = random_logits(dataset)
    collector = AnswerCollector(dataset)
    for step in steps_of(create_evaluation_dataloader(dataset, max_segments=1)):
        rows = step["rows"]
        collector.add(rows, starts[rows], ends[rows])
    assert collector.num_missing_rows == len(dataset) - 6
    with pytest.raises(SettingsError, match="create_evaluation_dataloader"):
        collector.predictions()
    assert len(list(collector.predictions(allow_missing=True))) == 6
