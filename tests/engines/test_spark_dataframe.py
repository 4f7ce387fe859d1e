"""Builds whose examples are a DataFrame of Spark, and whose chunks travel through a scratch store."""

from pathlib import Path
from typing import Any

import pytest

from memxlnet.builder.cache_writer import CacheWriter
from memxlnet.engines import build_dataframe
from memxlnet.engines.spark_dataframe import _Rows
from memxlnet.errors import ExampleError, SettingsError, SourceError
from tests.builder.processes import SETTINGS, content, rows
from tests.engines.test_spark import pytestmark as pytestmark
from tests.engines.test_spark import spark as spark
from tests.golden.make_golden import golden_tokenizer


@pytest.fixture
def frame(spark: Any) -> Any:
    schema = "id string, question string, context string, answers struct<text: array<string>, answer_start: array<int>>"
    kept = [{name: row[name] for name in ("id", "question", "context", "answers")} for row in rows()]
    return spark.createDataFrame(kept, schema).coalesce(1)  # in the order of the rows at every reading


def build(frame: Any, cache_dir: Path, place: Path, **changes: Any) -> None:
    build_dataframe(
        frame,
        golden_tokenizer(),
        split="test",
        cache_dir=cache_dir,
        scratch=place.as_uri(),
        **{**SETTINGS, **changes},
    )


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"streaming_chunk_size": 1, "max_tasks": 2}], ids=str)
def test_a_dataframe_changes_no_byte(
    frame: Any, tmp_path: Path, undisturbed: dict[str, bytes], changes: dict[str, Any]
) -> None:
    build(frame, tmp_path / "cache", tmp_path / "scratch", **changes)
    assert content(tmp_path / "cache") == undisturbed
    assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_builder_that_ended_is_resumed_on_another_disk(
    frame: Any,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(frame, tmp_path / "lost", tmp_path / "scratch")
    with caplog.at_level("INFO", "memxlnet"):
        build(frame, tmp_path / "cache", tmp_path / "scratch")
    assert "4 chunks of an interrupted build are there" in caplog.text
    assert content(tmp_path / "cache") == undisturbed


@pytest.mark.slow
def test_rows_are_those_of_spark_in_their_order(spark: Any) -> None:
    made = [
        (f"id-{number}", None if number % 3 else "who?", {"k": number}, [("a", [number, -1])] * (number % 2))
        for number in range(700)
    ]
    schema = "id string, question string, more map<string, long>, answers array<struct<text: string, at: array<int>>>"
    frame = spark.createDataFrame(made, schema).coalesce(2)
    assert list(_Rows(frame)) == [row.asDict(recursive=True) for row in frame.collect()]


@pytest.mark.slow
def test_any_names_of_columns(spark: Any) -> None:
    names = ["id", "a.b", "ID", "x y", "`", "0"]
    frame = spark.createDataFrame([(1, 2, 3, 4, 5, 6)], ", ".join(f"c{number} int" for number in range(6))).toDF(*names)
    assert list(_Rows(frame)) == [dict(zip(names, range(1, 7), strict=True))]
    with pytest.raises(SourceError, match=r"^examples: expected columns of different names, found \['x'\] more than"):
        list(_Rows(frame.toDF("x", "b", "x", "d", "e", "f")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        ("CAST(NULL AS string)", ExampleError, r"'question': expected text, found NoneType"),
        ("raise_error('no such question')", SourceError, r"DataFrame of Spark cannot be read: .*no such question"),
    ],
    ids=["a row that is no example", "a DataFrame that fails"],
)
def test_an_error_of_the_rows_is_shown(
    frame: Any, tmp_path: Path, column: str, error: type[Exception], message: str
) -> None:
    broken = frame.selectExpr(
        "id", f"IF(id = '{rows()[7]['id']}', {column}, question) AS question", "context", "answers"
    )
    with pytest.raises(error, match=message):
        build(broken, tmp_path / "cache", tmp_path / "scratch")


def test_a_session_that_is_stopped_meanwhile_is_an_error_of_the_rows() -> None:
    pytest.importorskip("pyspark")

    class Stopped:
        columns = ("id",)

        def toDF(self, *_: str) -> None:  # noqa: N802
            raise AttributeError("'NoneType' object has no attribute 'setCallSite'")  # what PySpark raises

    with pytest.raises(SourceError, match=r"^examples: the DataFrame of Spark cannot be read: .*setCallSite"):
        list(_Rows(Stopped()))


@pytest.mark.parametrize(
    ("examples", "scratch", "message"),
    [([], "file:///tmp/x", "examples: expected a DataFrame of Spark, found a list")],
)
def test_wrong_arguments(examples: Any, scratch: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build_dataframe(examples, None, scratch=scratch)


@pytest.mark.slow
def test_a_scratch_store_is_needed(frame: Any) -> None:
    with pytest.raises(SettingsError, match="scratch: expected the URL of a place in a store, found None"):
        build_dataframe(frame, None, scratch=None)  # type: ignore[arg-type]
