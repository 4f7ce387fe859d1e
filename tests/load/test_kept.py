"""Kept columns where a cache is read: rows, steps, filters, splits, figures and commands."""

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from arrow_schemas import RESERVED, documents_schema, features_schema
from memxlnet import Cache
from memxlnet.encode.examples import FIELDS
from memxlnet.errors import SettingsError
from memxlnet.evaluate.metrics import squad_metrics
from memxlnet.load.cache_dataset import BATCH_COLUMNS
from memxlnet.load.collate import Batch
from memxlnet.load.compat import ENDED
from memxlnet.load.segment_metadata import METADATA_NAMES, SEGMENT_FIELDS
from memxlnet.load.steps import Step
from tests.cli.helpers import Result, error
from tests.golden.make_golden import golden_tokenizer
from tests.support import long_examples

TITLES = ["a", "b", None, "a", "c", "a", None, "b", "c", "a", "d", "e"]


def rows() -> list[dict[str, Any]]:
    return [
        {**one, "title": title, "pages": number, "tags": ["x"] * (number % 3)}
        for number, (one, title) in enumerate(zip(long_examples(len(TITLES), words=40), TITLES, strict=True))
    ]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache.build(
        rows(),
        golden_tokenizer(),
        cache_dir=tmp_path_factory.mktemp("kept"),
        max_seq_length=32,
        doc_stride=8,
        keep="all",
        progress=False,
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    options: dict[str, Any] = {"max_seq_length": 32, "doc_stride": 8, "progress": False}
    return Cache.build(rows(), golden_tokenizer(), cache_dir=tmp_path_factory.mktemp("plain"), **options)


def expected(cache: Cache, row: int, name: str) -> Any:
    return rows()[int(cache.dataset().gather([row], ["document"])["document"])][name]


def test_rows_hold_them(cache: Cache, plain: Cache) -> None:
    dataset = cache.dataset()
    for row in (0, 5, len(dataset) - 1):
        for name in ("title", "pages", "tags"):
            assert dataset[row][name] == expected(cache, row, name)
    assert dataset.metadata([0, -1], ["title"]) == [{"title": "a"}, None]
    assert {"title", "pages", "tags"} == dataset[0].keys() - plain.dataset()[0].keys()
    assert pickle.loads(pickle.dumps(dataset))[3]["title"] == dataset[3]["title"]
    with pytest.raises(SettingsError, match=r"names: expected names of .*, pages, tags, title, found 'titel'"):
        dataset.metadata([0], ["titel"])


@pytest.mark.parametrize("lanes", ["aligned", "refilled"])
def test_steps_hold_them(cache: Cache, lanes: Any) -> None:
    loader: Any = cache.loader(3, shuffle=True, lanes=lanes, metadata=["title", "question"])
    seen: Counter[str | None] = Counter()
    for found in loader:
        for step in [found] if lanes == "refilled" else found:
            assert "pages" not in step
            for row, title in zip(step["rows"].tolist(), step["title"], strict=True):
                assert title == (None if row < 0 else expected(cache, row, "title"))
                seen[title] += row >= 0
    assert seen.keys() == set(TITLES)


def test_all_metadata_are_with_them(cache: Cache) -> None:
    step = next(iter(next(iter(cache.loader(2, metadata=True)))))
    assert {"title", "pages", "tags"} <= step.keys()


def test_batches_hold_them(cache: Cache) -> None:
    for batch in cache.segment_loader(4, metadata=["title", "pages"]):
        rows_of = batch["rows"].tolist()
        assert batch["title"] == [expected(cache, row, "title") for row in rows_of]  # type: ignore[typeddict-item]


@pytest.mark.parametrize("what", ["loader", "segment_loader", "evaluation_loader"])
def test_a_name_that_is_not_kept_is_refused_at_once(cache: Cache, plain: Cache, what: str) -> None:
    for one in (cache, plain):
        with pytest.raises(SettingsError, match=r"metadata: expected names of .*found 'titel'"):
            getattr(one, what)(2, metadata=["titel"])
    with pytest.raises(SettingsError, match="title"):
        getattr(plain, what)(2, metadata=["title"])


def documents(dataset: Any) -> list[int]:
    return [int(name.removeprefix("id-")) for name in dataset.get_all_documents()]


def test_filters_take_them(cache: Cache) -> None:
    dataset = cache.dataset()
    of_a = [number for number, title in enumerate(TITLES) if title == "a"]
    assert documents(dataset.filter(pc.field("title") == "a")) == of_a
    assert documents(dataset.filter(lambda document: document["title"] == "a")) == of_a
    both = dataset.filter((pc.field("title") == "a") & (pc.field("pages") > 3) & (pc.field("num_segments") > 1))
    assert documents(both) == [number for number in of_a if number > 3]
    assert documents(dataset.filter(pc.field("title").is_null())) == [2, 6]
    with pytest.raises(SettingsError, match="title"):
        dataset.filter(pc.field("titel") == "a")


def test_filters_take_columns_of_any_name(tmp_path: Path) -> None:
    names = ["memxlnet.place", "_", "a.b", "a\nb", "\u200b", "_" * 300]
    made = [one | dict.fromkeys(names, number) for number, one in enumerate(long_examples(5, words=10))]
    options: dict[str, Any] = {"max_seq_length": 32, "doc_stride": 8, "keep": "all", "progress": False}
    dataset = Cache.build(made, golden_tokenizer(), cache_dir=tmp_path, **options).dataset()
    for name in names:
        assert dataset.filter(pc.field(name) > 2).num_documents == 2
    assert dataset.filter(lambda document: all(document[name] > 2 for name in names)).num_documents == 2


@pytest.mark.parametrize("view", [False, True])
def test_splits_keep_values_on_one_side(cache: Cache, view: bool) -> None:
    dataset = cache.dataset().shuffle(3).take(10) if view else cache.dataset()
    all_of = sorted(documents(dataset))
    for seed in range(4):
        train, test = dataset.train_test_split(0.3, seed=seed, by="title")
        sides = [{TITLES[one] for one in documents(side)} for side in (train, test)]
        assert not sides[0] & sides[1]
        assert sorted(documents(train) + documents(test)) == all_of
    folds = dataset.folds(3, seed=0, by="title")
    assert sorted(one for fold in folds for one in documents(fold.test)) == all_of
    for fold in folds:
        assert not {TITLES[one] for one in documents(fold.test)} & {TITLES[one] for one in documents(fold.train)}


@pytest.mark.parametrize("by", ["titel", "tags", 5, ["title"]])
def test_by_takes_columns_of_single_values(cache: Cache, plain: Cache, by: Any) -> None:
    calls: list[Callable[[Cache], Any]] = [
        lambda one: one.dataset().folds(2, seed=0, by=by),
        lambda one: one.stats(by=by),
        lambda one: squad_metrics(predictions(), one, by=by),
    ]
    for call in calls:
        with pytest.raises(SettingsError, match="by: expected"):
            call(cache)
        with pytest.raises(SettingsError, match="keep="):
            call(plain)


def predictions() -> dict[str, str]:
    found = {}
    for number, row in enumerate(rows()):
        texts = row["answers"]["text"]
        found[row["id"]] = texts[0] if texts and number % 2 else "word"
    return found


def test_figures_by_value_are_those_of_the_views(cache: Cache) -> None:
    found = squad_metrics(predictions(), cache, by="title")
    assert set(found) == set(TITLES)
    for title in set(TITLES):
        chosen = cache.dataset().select([number for number, one in enumerate(TITLES) if one == title])
        assert found[title] == squad_metrics(predictions(), chosen)
    view = cache.dataset().take(5)
    assert set(squad_metrics(predictions(), view, by="title")) == set(TITLES[:5])


def test_statistics_count_values(cache: Cache) -> None:
    found = cache.stats(by="title").values
    assert found == Counter(TITLES)
    assert list(found)[:4] == ["a", "b", None, "c"]
    assert cache.stats(cache.dataset().take(3), by="title").values == {"a": 1, "b": 1, None: 1}
    assert cache.stats().values == {}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    from memxlnet.cli import main

    def call(*arguments: object) -> Result:
        code = main([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call


def test_commands_show_them(cache: Cache, plain: Cache, run: Callable[..., Result], tmp_path: Path) -> None:
    shown = run("show", cache.directory, "--id", "id-0", "--json").json
    assert shown["kept"] == {"pages": 0, "tags": [], "title": "a"}
    assert run("show", cache.directory, "--id", "id-2", "--no-tokens").fields["title"] == "null"
    counted = run("stats", cache.directory, "--by", "title", "--top", 2)
    assert counted.section("values of title")[:3] == [
        ["title", "documents", "share"],
        ["a", "4", "33.33%"],
        ["b", "2", "16.67%"],
    ]
    assert "and 4 more values" in counted.out
    found = run("stats", cache.directory, "--by", "title", "--json").json["values"]
    assert {"value": None, "documents": 2} in found
    assert "by: expected one of the kept columns pages, tags, title" in error(
        run("stats", cache.directory, "--by", "titel")
    )
    assert run("info", cache.directory, "--json").json["kept"]["title"] == "large_string"
    assert ["title", "large_string"] in run("info", cache.directory).section("kept columns")
    assert run("diff", cache.directory, plain.directory).code == 1
    assert run("verify", cache.directory, "--deep").code == 0


def test_the_command_builds_them(run: Callable[..., Result], tmp_path: Path) -> None:
    import json

    tokenizer, source = tmp_path / "tokenizer", tmp_path / "rows.jsonl"
    golden_tokenizer().save_pretrained(tokenizer)
    source.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    common: tuple[Any, ...] = (
        "build",
        source,
        "--tokenizer",
        tokenizer,
        "--cache-dir",
        tmp_path / "caches",
        "--max-seq-length",
        32,
    )
    common += ("--doc-stride", 8, "--json")
    made = run(*common, "--keep", "title", "--keep", "pages")
    assert Cache(made.json["cache"]).manifest.kept == {"pages": "int64", "title": "large_string"}
    made = run(*common, "--keep-all")
    assert set(Cache(made.json["cache"]).manifest.kept) == {"pages", "title", "tags"}
    assert run(*common, "--keep-all", "--keep", "title").code == 2


def test_no_kept_column_has_a_name_of_something_else() -> None:
    columns = {*features_schema(8).names, *documents_schema().names}
    held = {*SEGMENT_FIELDS, *METADATA_NAMES, *ENDED, *BATCH_COLUMNS, *Step.__annotations__, *Batch.__annotations__}
    # The name of the source gives way to a kept column.
    assert columns | held | set(FIELDS) <= RESERVED | {"source"}
