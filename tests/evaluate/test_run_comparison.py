import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from memxlnet.errors import CacheMismatchError, SettingsError
from memxlnet.evaluate.bootstrap import Resampling
from memxlnet.evaluate.memory_report import memory_report
from memxlnet.evaluate.metrics import squad_metrics
from memxlnet.evaluate.no_answer import best_threshold
from memxlnet.evaluate.run_comparison import compare_runs, mcnemar, metric_intervals
from memxlnet.evaluate.score_tables import errors_table
from memxlnet.load.cache_dataset import CacheDataset
from tests.evaluate.helpers import balanced_logits, collected, perfectly_collected, random_logits


def brute_force(only_first: int, only_second: int) -> tuple[float, float]:
    """Both p-values by adding up the binomial distribution of outcomes at most as likely."""
    total = only_first + only_second
    likely = [Fraction(math.comb(total, number), 2**total) for number in range(total + 1)]
    own = likely[only_first]
    exact = sum((one for one in likely if one <= own), Fraction(0))
    ties = sum(one for number, one in enumerate(likely) if one == own and number in {only_first, only_second})
    return float(exact), float(exact - ties / 2)


@pytest.mark.parametrize("counts", [(0, 1), (1, 1), (3, 9), (9, 3), (10, 25), (6, 6), (0, 40), (700, 810)])
def test_mcnemar(counts: tuple[int, int]) -> None:
    assert mcnemar(*counts) == pytest.approx(brute_force(*counts), rel=1e-12)


def test_mcnemar_of_the_literature() -> None:
    """Fagerland, Lydersen and Laake, 2013, table 2: airway hyper-responsiveness, 1 and 7 discordant pairs."""
    exact, mid_p = mcnemar(1, 7)
    assert (round(exact, 4), round(mid_p, 4)) == (0.0703, 0.0391)


def test_mcnemar_of_many() -> None:
    exact, mid_p = mcnemar(20_000, 20_400)
    assert exact == pytest.approx(math.erfc(399.5 / math.sqrt(40_400) / math.sqrt(2)), rel=0.01)
    assert 0 < mid_p < exact


def test_intervals_are_those_of_resampled_documents() -> None:
    """Against documents drawn one by one."""
    random = np.random.default_rng(5)
    values = np.column_stack([random.integers(0, 2, 80), random.random(80) ** 2])
    found = Resampling(4000, 0.9, 1).intervals(values)
    drawn = values[random.integers(0, 80, (4000, 80))].mean(axis=1) * 100
    for place, interval in enumerate(found):
        assert interval.value == pytest.approx(100 * values[:, place].mean())
        assert interval[1:] == pytest.approx(np.quantile(drawn[:, place], [0.05, 0.95]), abs=1.5)


def test_blocks_of_resamples_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((50, 2))
    expected = Resampling(100).intervals(values)
    monkeypatch.setattr("memxlnet.evaluate.bootstrap._COUNTS_AT_ONCE", 170)
    assert Resampling(100).intervals(values) == expected
    assert Resampling(100, seed=1).intervals(values) != expected


def test_equal_documents_have_no_width() -> None:
    (found,) = Resampling(10).intervals(np.full((3, 1), 0.5))
    assert found == (50, 50, 50)


def test_intervals_of_a_run(dataset: CacheDataset) -> None:
    collector = collected(dataset, *balanced_logits(dataset))
    figures, found = squad_metrics(collector, dataset), metric_intervals(collector, dataset, seed=3)
    assert list(found) == [name for name in figures if not name.endswith("total")]
    for name, interval in found.items():
        assert interval.value == pytest.approx(figures[name])
        assert 0 <= interval.low <= interval.value <= interval.high <= 100
    assert found == metric_intervals(dict(collector.answers()), dataset, seed=3)
    view = dataset.filter(lambda document: bool(document["answer_texts"]))
    answers = dict(collector.answers())
    assert list(metric_intervals(answers, view, normalization="mlqa", language="de")) == ["exact", "f1"]


def test_two_runs(dataset: CacheDataset) -> None:
    random, perfect = collected(dataset, *random_logits(dataset)), perfectly_collected(dataset)
    found = compare_runs(random, perfect, dataset)
    before, after = (squad_metrics(run, dataset) for run in (random, perfect))
    assert found.documents == before["total"] == 6
    for name, both in (("exact", found.exact), ("f1", found.f1)):
        assert both == pytest.approx((before[name], after[name]))
    assert found.exact_difference.value == pytest.approx(after["exact"] - before["exact"])
    assert (found.only_first, found.only_second) == (0, round(found.exact_difference.value * 6 / 100))
    assert (found.mcnemar_exact, found.mcnemar_mid_p) == mcnemar(found.only_first, found.only_second)
    again = compare_runs(perfect, random, dataset)
    assert again.f1_difference.value == pytest.approx(-found.f1_difference.value)
    same = compare_runs(random, dict(random.answers()), dataset)
    assert same.exact_difference == same.f1_difference == (0, 0, 0)
    assert (same.mcnemar_exact, same.mcnemar_mid_p) == (1, 1)
    assert json.loads(json.dumps(found.to_dict()))["f1_difference"] == found.f1_difference._asdict()


def test_runs_of_other_documents(dataset: CacheDataset, another: CacheDataset) -> None:
    answers = {**{f"ïd-{number}": "" for number in range(5)}, "again": ""}
    some = {name: answers[name] for name in list(answers)[1:5]}
    with pytest.raises(SettingsError, match=r"^second: .*same documents as first, found 2 .*'again'"):
        compare_runs(answers, some, dataset, allow_missing=True)
    assert compare_runs(some, some, dataset, allow_missing=True).documents == 4
    with pytest.raises(CacheMismatchError, match=r"^second: expected a run over .*dict\(collector.answers\(\)\)"):
        compare_runs(answers, perfectly_collected(another), dataset)
    with pytest.raises(SettingsError, match=r"^first: .*found 1 others among 7: 'x'"):
        compare_runs(answers | {"x": ""}, answers, dataset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resamples": 0}, "^resamples: "),
        ({"confidence": 95}, "^confidence: expected a number between 0 and 1, found 95"),
        ({"confidence": True}, "^confidence: "),
        ({"seed": -1}, "^seed: "),
        ({"seed": 0.5}, "^seed: "),
    ],
)
def test_wrong_options_fail_before_any_work(options: dict[str, Any], message: str) -> None:
    for call in (
        lambda: metric_intervals({}, "nowhere", **options),
        lambda: compare_runs({}, {}, "nowhere", **options),
    ):
        with pytest.raises(SettingsError, match=message):
            call()


@pytest.mark.parametrize("option", ["normalisation", "allow_mising", "name"])
@pytest.mark.parametrize(
    "call",
    [
        lambda **options: squad_metrics({}, "nowhere", **options),
        lambda **options: errors_table({}, "nowhere", **options),
        lambda **options: metric_intervals({}, "nowhere", **options),
        lambda **options: compare_runs({}, {}, "nowhere", **options),
        lambda **options: memory_report({}, {}, "nowhere", **options),
        lambda **options: best_threshold({}, {}, "nowhere", **options),
    ],
)
def test_options_that_are_unknown(call: Any, option: str) -> None:
    with pytest.raises(TypeError, match=f"'{option}'"):
        call(**{option: "mlqa"})
