"""What goes in: tensors of every kind; what is refused, at once and without a trace; what is missing."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from memxlnet.errors import CacheDamagedError, CacheNotFoundError, RowIndexError, SettingsError
from memxlnet.evaluate.collector import AnswerCollector
from memxlnet.load.cache_dataset import CacheDataset
from tests.evaluate.helpers import Logits, assert_predicted, collected, expected_of, places, random_logits
from tests.test_architecture import loaded_after

LENGTH = 48


@pytest.fixture
def logits(dataset: CacheDataset) -> tuple[Logits, Logits]:
    return random_logits(dataset, 0)


Tensor = torch.Tensor


@pytest.mark.parametrize(
    "convert",
    [
        lambda values: values,
        lambda values: values.requires_grad_(),
        lambda values: values.requires_grad_() * 1,
        lambda values: values.float(),
        lambda values: values.half(),
        lambda values: values.bfloat16().requires_grad_(),
        lambda values: values.t().contiguous().t(),
        lambda values: values.numpy().astype(np.float16),
        lambda values: values.numpy().astype(np.longdouble),
        lambda values: values.numpy().astype(ml_dtypes.bfloat16),
        lambda values: values.tolist(),
    ],
    ids=[
        "float64",
        "grad",
        "output",
        "float32",
        "float16",
        "bfloat16",
        "strided",
        "numpy16",
        "longdouble",
        "ml_dtypes",
        "lists",
    ],
)
def test_every_kind_of_logits(dataset: CacheDataset, convert: Callable[[Tensor], Any]) -> None:
    # Multiples of a quarter below 8 are exact in every floating type here.
    exact = [(values * 4).round().clip(-31, 31) / 4 for values in random_logits(dataset, 1)]
    starts, ends = (convert(torch.from_numpy(values.copy())) for values in exact)
    collector = AnswerCollector(dataset)
    collector.add(torch.arange(len(dataset)), starts, ends)
    assert list(collector.predictions()) == list(collected(dataset, exact[0], exact[1]).predictions())


def test_double_precision_is_kept(dataset: CacheDataset) -> None:
    starts, ends = (torch.from_numpy(values + 2.0**40) for values in random_logits(dataset, 1))
    collector = AnswerCollector(dataset)
    collector.add(torch.arange(len(dataset)), starts, ends)
    expected = expected_of(places(dataset), starts.numpy(), ends.numpy(), 20, 30)
    assert_predicted(collector.predictions(), expected, 0.0)


@pytest.mark.parametrize(
    "rows",
    [[2, 0], (2, 0), np.array([2, 0], np.int32), np.array([2, 0], np.uint64), torch.tensor([2, 0]), range(2, -1, -2)],
)
def test_every_kind_of_rows(dataset: CacheDataset, logits: tuple[Logits, Logits], rows: Any) -> None:
    collector = AnswerCollector(dataset)
    collector.add(rows, logits[0][[2, 0]], logits[1][[2, 0]])
    assert np.flatnonzero(collector._seen).tolist() == [0, 2]


def test_no_lanes(dataset: CacheDataset) -> None:
    collector = AnswerCollector(dataset)
    collector.add([], np.empty((0, LENGTH)), np.empty((0, LENGTH)))
    assert collector.num_missing_rows == len(dataset)


def state(collector: AnswerCollector) -> Any:
    held = collector.__getstate__()
    return [
        held["seen"].tolist(),
        held["null_scores"].tolist(),
        [np.array(part).tolist() for block in held["best"] for part in block],
    ]


SHAPE = (2, LENGTH)


@pytest.mark.parametrize(
    ("rows", "start", "end", "kind", "message"),
    [
        ([0, 99], SHAPE, SHAPE, RowIndexError, "^row 99:"),
        ([0, -2], SHAPE, SHAPE, RowIndexError, "^row -2:"),
        (np.array([0, 2**64 - 1], np.uint64), SHAPE, SHAPE, RowIndexError, "^row 18446744073709551615:"),
        ([0.0, 1.0], SHAPE, SHAPE, SettingsError, r"^rows:.*float64 \[2\]"),
        ([True, False], SHAPE, SHAPE, SettingsError, "^rows:.*bool"),
        ([[0, 1]], SHAPE, SHAPE, SettingsError, r"^rows:.*\[1, 2\]"),
        (3, SHAPE, SHAPE, SettingsError, r"^rows:.*int64 \[\]"),
        (None, SHAPE, SHAPE, SettingsError, "^rows:.*object"),
        ([[1], [2, 3]], SHAPE, SHAPE, SettingsError, "^rows:.*list"),
        (torch.tensor([0, 1], device="meta"), SHAPE, SHAPE, SettingsError, "^rows:.*Tensor"),
        ([0, 1], (2, 47), (2, 47), SettingsError, r"^start_logits: row 0:.*\b48\b.*\b47\b"),
        ([0, 1], (2, 49), SHAPE, SettingsError, r"^start_logits:.*\[2, 49\]"),
        ([0, 1], SHAPE, (3, 48), SettingsError, r"^end_logits:.*\b2\b.*\[3, 48\]"),
        ([0, 1], SHAPE, (2, 48, 1), SettingsError, r"^end_logits:.*\[2, 48, 1\]"),
        ([-1, -1], (2, 47), SHAPE, SettingsError, r"^end_logits:.*\b47\b.*\b48$"),
        ([0, 1], np.zeros(SHAPE, np.int64), SHAPE, SettingsError, "^start_logits:.*int64"),
        ([0, 1], SHAPE, torch.zeros(SHAPE, dtype=torch.bool), SettingsError, "^end_logits:.*bool"),
        ([0, 1], SHAPE, np.zeros(SHAPE, np.complex64), SettingsError, "^end_logits:.*complex64"),
        ([0, 1], None, SHAPE, SettingsError, r"^start_logits:.*\[\]$"),
        ([0, 1], torch.zeros(SHAPE).to_sparse(), SHAPE, SettingsError, "^start_logits:.*Tensor"),
    ],
)
def test_wrong_arguments(
    dataset: CacheDataset, logits: tuple[Logits, Logits], rows: Any, start: Any, end: Any, kind: type, message: str
) -> None:
    collector = collected(dataset, *logits, order=[4, 5])
    before = state(collector)
    arrays = [np.zeros(value) if isinstance(value, tuple) else value for value in (start, end)]
    with pytest.raises(kind, match=message):
        collector.add(rows, *arrays)
    assert state(collector) == before


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e301])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("at_cls", [False, True])
def test_wrong_values(
    dataset: CacheDataset,
    logits: tuple[Logits, Logits],
    value: float,
    side: int,
    at_cls: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last of many rows, after others that are right."""
    monkeypatch.setattr("memxlnet.evaluate.scoring._CHECKED_AT_ONCE", 3 * LENGTH)
    collector = collected(dataset, *logits, order=[4, 5])
    before = state(collector)
    row = len(dataset) - 2
    place = places(dataset)[row]
    token = place.cls_index if at_cls else place.tokens[2]
    logits[side][row, token] = value
    name = ("start_logits", "end_logits")[side]
    with pytest.raises(SettingsError, match=rf"^{name}: row {row}\b.*'{place.document}'.*\b{token}:"):
        collector.add(range(len(dataset)), *logits)
    assert state(collector) == before


def test_an_overflow_of_half_precision_is_refused(dataset: CacheDataset) -> None:
    logits = torch.full((1, LENGTH), 1e9).half()
    with pytest.raises(SettingsError, match=r"^start_logits: row 0\b.*\binf\b"):
        AnswerCollector(dataset).add([0], logits, logits)


def test_logits_beside_context_and_cls_do_not_count(dataset: CacheDataset, logits: tuple[Logits, Logits]) -> None:
    before = list(collected(dataset, *logits).predictions())
    for row, place in enumerate(places(dataset)):
        beside = np.setdiff1d(np.arange(LENGTH), [*place.tokens, place.cls_index])
        assert len(beside)
        for side in logits:
            side[row, beside] = np.nan
    assert list(collected(dataset, *logits).predictions()) == before


def test_nothing_but_minus_infinity(dataset: CacheDataset) -> None:
    logits = np.full((len(dataset), LENGTH), -np.inf)
    for one in collected(dataset, logits, logits).predictions():
        assert (one.text, one.spans, one.score, one.null_score) == ("", (), -np.inf, -np.inf)
        assert (one.null_score_difference, one.null_probability) == (np.inf, 1.0)


def test_a_model_that_rules_no_answer_out(dataset: CacheDataset, logits: tuple[Logits, Logits]) -> None:
    for row, place in enumerate(places(dataset)):
        logits[0][row, place.cls_index] = -np.inf
    for one in collected(dataset, *logits, null_threshold=-1e9).predictions():
        assert (one.null_score, one.null_score_difference, one.null_probability) == (-np.inf, -np.inf, 0.0)
        assert one.text == one.spans[0].text != ""
        assert sum(span.probability for span in one.spans) == pytest.approx(1)


def test_the_threshold_is_passed_and_not_reached(dataset: CacheDataset, logits: tuple[Logits, Logits]) -> None:
    differences = [one.null_score_difference for one in collected(dataset, *logits).predictions()]
    for threshold in differences:
        found = collected(dataset, *logits, null_threshold=threshold).predictions()
        for one, difference in zip(found, differences, strict=True):
            assert one.null_score_difference == difference
            assert one.text == (one.spans[0].text if difference <= threshold else "")


@pytest.mark.parametrize(
    "settings",
    [
        {"n_best": 0},
        {"n_best": 2.0},
        {"n_best": True},
        {"max_answer_length": 0},
        {"max_answer_length": "30"},
        {"null_threshold": float("nan")},
        {"null_threshold": float("-inf")},
        {"null_threshold": "0"},
        {"null_threshold": True},
    ],
    ids=str,
)
def test_wrong_settings(dataset: CacheDataset, settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(SettingsError, match=f"^{name}:.*{re.escape(repr(value))}$"):
        AnswerCollector(dataset, **settings)


def test_wrong_caches(tmp_path: Path) -> None:
    with pytest.raises(CacheNotFoundError):
        AnswerCollector(tmp_path)
    for value in (3, None, "", object(), {"cache": 1}):
        with pytest.raises(SettingsError, match=r"^cache:"):
            AnswerCollector(value)  # type: ignore[arg-type]


def test_missing_rows_are_refused(dataset: CacheDataset, logits: tuple[Logits, Logits], tmp_path: Path) -> None:
    names = [place.document for place in places(dataset)]
    rows = list(range(len(dataset)))
    unseen = [rows[names.index("ïd-1")], *rows[-3:]]
    collector = collected(dataset, *logits, order=[row for row in rows if row not in unseen])
    count = len({names[row] for row in unseen})
    message = rf"\b{len(rows)}\b.*\b4\b.*\b{count}\b.*'ïd-1' \(row {unseen[0]}\).*allow_missing=True"
    calls: list[Callable[[], Any]] = [
        collector.predictions,
        collector.answers,
        lambda: collector.write_predictions(tmp_path / "a.json"),
        lambda: collector.write_no_answer_probabilities(tmp_path / "a.json"),
        lambda: collector.write_n_best(tmp_path / "a.json"),
    ]
    for call in calls:
        with pytest.raises(SettingsError, match=message):
            call()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SettingsError, match=r"^allow_missing:.*1$"):
        collector.predictions(allow_missing=1)  # type: ignore[arg-type]


def test_missing_rows_can_be_allowed(dataset: CacheDataset, logits: tuple[Logits, Logits]) -> None:
    found = places(dataset)
    seen = [row for row, place in enumerate(found) if place.document != "ïd-1"][::2]
    collector = collected(dataset, *logits, order=seen)
    # What was not seen is as if it were not there.
    for side in logits:
        side[np.setdiff1d(np.arange(len(dataset)), seen)] = -np.inf
    expected = expected_of(found, *logits, 20, 30)
    predictions = list(collector.predictions(allow_missing=True))
    assert [one.example_id for one in predictions] == list({found[row].document: None for row in seen})
    for one in predictions:
        assert [span.text for span in one.spans] == [span[2] for span in expected[one.example_id].spans]
        rows = [row for row in seen if found[row].document == one.example_id]
        assert one.null_score == min(
            logits[0][row, found[row].cls_index] + logits[1][row, found[row].cls_index] for row in rows
        )
    assert list(AnswerCollector(dataset).predictions(allow_missing=True)) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("document", 6),
        ("document", -1),
        ("cls_index", LENGTH),
        ("context_token_count", -1),
        ("context_token_count", LENGTH + 1),
        ("context_row_start", -3),
        ("context_token_start", -1),
        ("context_token_start", 2**30),
    ],
)
def test_a_damaged_cache_is_refused(
    dataset: CacheDataset, logits: tuple[Logits, Logits], name: str, value: int
) -> None:
    # A private map: what is written stays in this object.
    damaged = CacheDataset(dataset.directory)
    damaged.cache.features[0].columns[name][3] = value
    logits[0][3] += 100
    with pytest.raises(CacheDamagedError, match=re.escape(str(dataset.directory))):
        list(collected(damaged, *logits).predictions())


def test_cls_in_the_padding_of_a_row_is_refused_at_every_width(dataset: CacheDataset) -> None:
    """As a position of the row that is cut it would lie outside of it, or count from its end."""
    damaged = CacheDataset(dataset.directory)
    real = damaged.gather(slice(None), ["attention_mask"])["attention_mask"].sum(1)
    row, width = int(real.argmin()), int(real.min())
    damaged.cache.features[0].columns["cls_index"][row] = 0 if damaged.manifest.layout.pad_left else LENGTH - 1
    for columns in (width, LENGTH):
        collector = AnswerCollector(damaged)
        with pytest.raises(CacheDamagedError, match=f"row {row}: expected cls"):
            collector.add([row], np.zeros((1, columns)), np.zeros((1, columns)))


def test_a_damaged_context_is_refused(dataset: CacheDataset, logits: tuple[Logits, Logits]) -> None:
    damaged = CacheDataset(dataset.directory)
    real = damaged.cache.documents.number
    damaged.cache.documents.number = lambda name, row: 10**6 if name == "context" else real(name, row)  # type: ignore[method-assign]
    with pytest.raises(CacheDamagedError, match=r"\bcontexts, row 1000000:"):
        list(collected(damaged, *logits).predictions())


def test_the_representation_shows_how_much_was_seen(dataset: CacheDataset, logits: tuple[Logits, Logits]) -> None:
    shown = repr(collected(dataset, *logits, order=[1, 2]))
    assert shown.startswith("AnswerCollector(")
    assert f"n_best=20, max_answer_length=30, null_threshold=0.0; 2 of {len(dataset)} rows" in shown


def test_needs_neither_torch_nor_transformers() -> None:
    loaded = loaded_after("import memxlnet.evaluate.collector, memxlnet.evaluate.metrics, memxlnet.evaluate.ceiling")
    assert "pyarrow" in loaded
    assert loaded & {"torch", "transformers", "datasets"} == set()
