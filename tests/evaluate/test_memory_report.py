import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from memxlnet.errors import CacheMismatchError, SettingsError
from memxlnet.evaluate.memory_report import memory_report
from memxlnet.evaluate.metrics import squad_metrics
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.sample import sample_file
from tests.evaluate.helpers import perfectly_collected
from tests.load.helpers import sample_tokenizer
from tests.support import build


def steps_of(dataset: CacheDataset) -> dict[str, tuple[int | None, int]]:
    """The step of the answer and the number of segments of each document, read segment by segment."""
    found = {}
    for name in dataset.get_all_documents():
        holds = [dataset[row]["has_answer_in_segment"] for row in dataset.get_document_segments(name)]
        found[name] = (holds.index(True) if any(holds) else None, len(holds))
    return found


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> CacheDataset:
    return build(sample_file(), sample_tokenizer(), tmp_path_factory.mktemp("sample"), max_seq_length=384)


def early_and_all(dataset: CacheDataset) -> tuple[dict[str, str], dict[str, str]]:
    """A run that answers what stands in the first segment alone, and one that answers everything."""
    every = {
        batch["id"][row].as_py(): (batch["answer_texts"][row].as_py() or [""])[0]
        for batch in dataset.cache.documents.batches()
        for row in range(batch.num_rows)
    }
    steps = steps_of(dataset)
    return every, {name: text if steps[name][0] in (0, None) else "no idea" for name, text in every.items()}


def test_a_gain_at_later_steps_only(sample: CacheDataset) -> None:
    every, early = early_and_all(sample)
    found, steps = memory_report(every, early, sample), steps_of(sample)
    counts = Counter(step for step, _ in steps.values())
    without = counts.pop(None)
    assert {step: one.documents for step, one in found.by_step.items()} == dict(sorted(counts.items()))
    assert {one.documents for one in [found.without_step] if one} == {without}
    segments = Counter(number for _, number in steps.values())
    assert {number: one.documents for number, one in found.by_segments.items()} == dict(sorted(segments.items()))
    distances = Counter(number - 1 - step for step, number in steps.values() if step is not None)
    assert {number: one.documents for number, one in found.by_distance.items()} == dict(sorted(distances.items()))
    assert found.by_step[0].f1_difference == (0, 0, 0)
    assert all(one.exact_difference == (100, 100, 100) for step, one in found.by_step.items() if step)
    figures = squad_metrics(early, sample)
    assert found.overall.f1_without == pytest.approx(figures["f1"])
    assert found.overall.exact_without == pytest.approx(figures["exact"])
    assert found.overall.exact_difference.low < found.overall.exact_difference.value < 100


def test_groups_are_those_of_the_figures(sample: CacheDataset) -> None:
    every, early = early_and_all(sample)
    found = memory_report(early, every, sample)
    for by, groups in (("answer_step", found.by_step), ("segments", found.by_segments)):
        figures = squad_metrics(early, sample, by=by)
        figures.pop(None, None)
        assert {value: one["total"] for value, one in figures.items()} == {
            value: one.documents for value, one in groups.items()
        }
        for value, one in figures.items():
            assert (groups[value].exact_with, groups[value].f1_with) == pytest.approx((one["exact"], one["f1"]))


def test_many_values_are_grouped_by_doubling_widths(tmp_path: Any) -> None:
    dataset = build(sample_file(), sample_tokenizer(), tmp_path)
    every, early = early_and_all(dataset)
    found, steps = memory_report(every, early, dataset), [step for step, _ in steps_of(dataset).values()]
    assert len(set(steps)) > 16
    assert set(found.by_step) <= {0, 1, 2, 4, 8, 16, 32, 64, 128}
    for first, one in found.by_step.items():
        own = [step for step in steps if step is not None and first <= step < max(2 * first, 1)]
        assert (one.documents, one.first, one.last) == (len(own), min(own), max(own))
    assert sum(one.documents for one in found.by_step.values()) == sum(step is not None for step in steps)


def test_the_same_seed_gives_the_same_report(sample: CacheDataset) -> None:
    runs = early_and_all(sample)
    assert memory_report(*runs, sample) == memory_report(*runs, sample)
    assert memory_report(*runs, sample, seed=1) != memory_report(*runs, sample)


def test_how_it_is_shown(sample: CacheDataset) -> None:
    every, early = early_and_all(sample)
    found = memory_report(every, early, sample, confidence=0.9)
    table = found.table().to_list()
    assert [row["part"] for row in table if row["first"] is None] == ["all", "step"]
    assert sum(row["documents"] for row in table if row["part"] == "segments") == 96
    for row in table:
        assert row["f1_low"] <= row["f1_difference"] <= row["f1_high"]
        assert row["f1_difference"] == pytest.approx(row["f1_with"] - row["f1_without"])
    as_json = json.loads(json.dumps(found.to_dict()))
    assert as_json["by_step"]["0"]["documents"] == found.by_step[0].documents
    assert as_json["confidence"] == 0.9
    lines = repr(found).splitlines()
    assert len(lines) == len(table) + 2
    assert "90 % interval" in lines[0]
    assert [np.round(row["f1_with"], 2) for row in table] == [float(line.split()[3]) for line in lines[2:]]


def test_wrong_runs(dataset: CacheDataset, another: CacheDataset) -> None:
    answers = dict(perfectly_collected(dataset).answers())
    with pytest.raises(CacheMismatchError, match=r"^run_without: expected a run over"):
        memory_report(answers, perfectly_collected(another), dataset)
    with pytest.raises(SettingsError, match=r"^run_with: expected one for each of the 6 .*'ïd-0'"):
        memory_report({}, answers, dataset)
    with pytest.raises(SettingsError, match=r"^run_without: .*found list"):
        memory_report(answers, [], dataset)  # type: ignore[arg-type]
