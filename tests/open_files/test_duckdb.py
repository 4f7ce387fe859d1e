"""SQL: duckdb over tables that pyarrow has mapped, and over `pyarrow.dataset`."""

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest

from memxlnet.load.cache_dataset import CacheDataset
from tests.open_files.caches import features_of, mapped, segments_of, shard_paths, texts_of

JOIN = """
    SELECT d.first_segment + f.segment_index AS row, d.id, f.segment_index, d.question, c.text AS context,
           CASE WHEN d.chosen_answer < 0 THEN ''
                ELSE substring(c.text, d.answer_char_start + 1, d.answer_char_stop - d.answer_char_start) END AS answer
    FROM features AS f
    JOIN documents AS d ON f.document = d.document
    JOIN contexts AS c ON d.context = c.context
    ORDER BY row
"""

over_both = pytest.mark.parametrize("source", ["map", "dataset"])


def numbered(table: pa.Table, name: str) -> pa.Table:
    """The row number as a column of the data, so that it holds in whatever order the rows are read."""
    return table.append_column(name, pa.array(np.arange(table.num_rows)))


def shuffled(table: pa.Table) -> pa.Table:
    return table.take(pa.array(np.random.default_rng(5).permutation(table.num_rows)))


def tables_of(dataset: CacheDataset, source: str = "map") -> dict[str, Any]:
    features = mapped(dataset, "features")
    if source == "dataset":
        features = pa.dataset.dataset(shard_paths(dataset, "features"), format="ipc")
    return {
        "features": features,
        "documents": numbered(mapped(dataset, "documents"), "document"),
        "contexts": numbered(mapped(dataset, "contexts"), "context"),
    }


def answers(tables: dict[str, Any], query: str, ordered: bool = True) -> list[dict[str, Any]]:
    # No annotation names a class of duckdb: with torch loaded, that makes it report leaks when the process ends.
    with duckdb.connect(config={"threads": 4, "preserve_insertion_order": ordered}) as database:
        for name, table in tables.items():
            database.register(name, table)
        found = database.sql(query)
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


@over_both
class TestFeatures:
    def test_have_their_types(self, dataset: CacheDataset, source: str) -> None:
        types = {
            one["column_name"]: one["column_type"] for one in answers(tables_of(dataset, source), "DESCRIBE features")
        }
        length = dataset.manifest.max_seq_length
        assert list(types) == list(features_of(dataset))
        assert types["input_ids"] == f"INTEGER[{length}]"
        assert types["attention_mask"] == f"TINYINT[{length}]"
        assert types["document"] == "BIGINT"

    def test_have_their_values(self, dataset: CacheDataset, source: str) -> None:
        expected = features_of(dataset)
        order = np.lexsort((expected["segment_index"], expected["document"]))
        found = answers(tables_of(dataset, source), "FROM features ORDER BY document, segment_index")
        for name, values in expected.items():
            assert np.array_equal(np.array([row[name] for row in found]), values[order]), name

    def test_are_filtered(self, dataset: CacheDataset, source: str) -> None:
        query = "SELECT count(*) AS count FROM features WHERE has_answer_in_segment = 1 AND segment_index < 3"
        features = features_of(dataset)
        wanted = (features["has_answer_in_segment"] == 1) & (features["segment_index"] < 3)
        assert answers(tables_of(dataset, source), query) == [{"count": wanted.sum()}]

    def test_are_grouped_by_document(self, dataset: CacheDataset, source: str) -> None:
        query = (
            "SELECT d.id, count(*) AS segments, sum(f.has_answer_in_segment) AS holding "
            "FROM features AS f JOIN documents AS d USING (document) GROUP BY d.id, document ORDER BY document"
        )
        assert answers(tables_of(dataset, source), query) == [
            {"id": one["id"], "segments": one["num_segments"], "holding": one["num_answer_segments"]}
            for one in texts_of(dataset, "documents")
        ]


class TestJoin:
    @pytest.mark.parametrize("ordered", [True, False])
    @over_both
    def test_gives_every_segment_its_texts(self, dataset: CacheDataset, source: str, ordered: bool) -> None:
        assert answers(tables_of(dataset, source), JOIN, ordered) == segments_of(dataset)

    def test_does_not_rest_on_the_order_in_which_rows_are_read(self, dataset: CacheDataset) -> None:
        tables = {name: shuffled(table) for name, table in tables_of(dataset).items()}
        assert answers(tables, JOIN) == segments_of(dataset)


@pytest.mark.parametrize("table", ["documents", "contexts"])
def test_texts_and_lists_have_their_values(dataset: CacheDataset, table: str) -> None:
    found = answers({"texts": numbered(mapped(dataset, table), "row")}, "SELECT * EXCLUDE row FROM texts ORDER BY row")
    assert found == texts_of(dataset, table)
