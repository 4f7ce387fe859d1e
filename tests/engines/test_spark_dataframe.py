"""Builds whose examples are a DataFrame of Spark, and whose chunks travel through a scratch store."""

from pathlib import Path
from typing import Any

import pytest

from memxlnet.engines import build_dataframe
from memxlnet.errors import SettingsError
from tests.builder.processes import SETTINGS, content, rows
from tests.engines.test_spark import pytestmark as pytestmark
from tests.engines.test_spark import spark as spark
from tests.golden.make_golden import golden_tokenizer


@pytest.fixture
def frame(spark: Any) -> Any:
    schema = "id string, question string, context string, answers struct<text: array<string>, answer_start: array<int>>"
    kept = [{name: row[name] for name in ("id", "question", "context", "answers")} for row in rows()]
    return spark.createDataFrame(kept, schema).coalesce(1)  # in the order of the rows at every reading


@pytest.mark.slow
@pytest.mark.parametrize("chunk_size", [None, 1])
def test_a_dataframe_changes_no_byte(
    frame: Any, tmp_path: Path, undisturbed: dict[str, bytes], chunk_size: int | None
) -> None:
    changes = {} if chunk_size is None else {"streaming_chunk_size": chunk_size, "jobs": 2}
    place = tmp_path / "scratch"
    build_dataframe(
        frame,
        golden_tokenizer(),
        split="test",
        cache_dir=tmp_path / "cache",
        scratch=place.as_uri(),
        **{**SETTINGS, **changes},
    )
    assert content(tmp_path / "cache") == undisturbed
    assert not [path for path in place.rglob("*") if path.is_file()]


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
