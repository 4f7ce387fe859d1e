"""The golden cache in the repository: a change of the format, or of a single value, fails here.

The bytes depend on the Arrow writer and on the JSON of `tokenizers`; where a new version of one writes other bytes,
this is where it shows.
"""

from pathlib import Path
from typing import Any

from arrow_schemas import ALIGNMENTS
from memxlnet.format.manifest import read_manifest
from memxlnet.format.published import PublishedCache
from memxlnet.maintain.verify import verify
from tests.format.content import files_of, read_tables, read_with_pyarrow
from tests.golden.make_golden import CACHE, build_golden

FEATURES: dict[str, list[Any]] = {
    "input_ids": [
        [7, 8, 9, 7, 10, 11, 23, 4, 22, 18, 11, 7, 8, 12, 4, 3],
        [10, 11, 12, 13, 20, 21, 23, 4, 22, 18, 11, 7, 8, 12, 4, 3],
        [20, 21, 7, 16, 11, 15, 23, 4, 22, 18, 11, 7, 8, 12, 4, 3],
        [11, 15, 16, 9, 7, 8, 23, 4, 22, 18, 11, 7, 8, 12, 4, 3],
        [5, 5, 5, 7, 8, 21, 23, 4, 22, 18, 11, 7, 8, 12, 4, 3],
        [5, 5, 5, 5, 15, 19, 0, 14, 7, 10, 23, 4, 22, 17, 4, 3],
        [7, 8, 9, 7, 10, 11, 12, 13, 20, 23, 4, 22, 14, 17, 4, 3],
        [13, 20, 21, 7, 16, 11, 15, 16, 9, 23, 4, 22, 14, 17, 4, 3],
        [5, 5, 5, 5, 16, 9, 7, 8, 21, 23, 4, 22, 14, 17, 4, 3],
        [5, 5, 5, 5, 5, 5, 5, 5, 7, 8, 23, 4, 22, 18, 4, 3],
    ],
    "attention_mask": [
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1],
    ],
    "token_type_ids": [
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2],
    ],
    "start_positions": [15, 4, 0, 15, 15, 5, 15, 15, 15, 15],
    "end_positions": [15, 4, 0, 15, 15, 5, 15, 15, 15, 15],
    "document": [0, 0, 0, 0, 0, 1, 2, 2, 2, 3],
    "segment_index": [0, 1, 2, 3, 4, 0, 0, 1, 2, 0],
    "cls_index": [15, 15, 15, 15, 15, 15, 15, 15, 15, 15],
    "context_token_start": [0, 4, 8, 12, 16, 0, 0, 7, 14, 0],
    "context_token_count": [6, 6, 6, 6, 3, 6, 9, 9, 5, 2],
    "context_row_start": [0, 0, 0, 0, 3, 4, 0, 0, 4, 8],
    "question_row_start": [9, 9, 9, 9, 9, 13, 12, 12, 12, 13],
    "has_answer_in_segment": [0, 1, 1, 0, 0, 1, 0, 0, 0, 0],
}

DOCUMENTS: dict[str, list[Any]] = {
    "id": ["exact", "repaired", "unanswerable", "doc_3"],
    "question": ["When was the lamp lit", "who", "By who", "when"],
    "question_token_starts": [[0, 5, 9, 13, 18], [0], [0, 3], [0]],
    "question_token_stops": [[4, 8, 12, 17, 21], [3], [2, 6], [4]],
    "context": [0, 1, 0, 2],
    "first_segment": [0, 5, 6, 9],
    "num_segments": [5, 1, 3, 1],
    "answer_texts": [["1898", "in 1898"], ["caf\xe9"], [], ["keeper"]],
    "answer_starts": [[35, 32], [0], [], [4]],
    "chosen_answer": [0, 0, -1, -1],
    "answer_char_start": [35, 2, -1, -1],
    "answer_char_stop": [39, 7, -1, -1],
    "answer_token_start": [8, 1, -1, -1],
    "answer_token_stop": [9, 2, -1, -1],
    "num_answer_segments": [2, 1, 0, 0],
    "alignment": ["exact", "repaired", "unanswerable", "dropped"],
    "alignment_detail": [
        "",
        "answer 0 found at 2 as its NFKD equal, given at 0",
        "",
        "no gold answer occurs in the context",
    ],
    "contradiction": ["", "", "", ""],
}

CONTEXTS: dict[str, list[Any]] = {
    "text": [
        "The lamp of the harbour was lit in 1898 . The keeper was a keeper of the lamp .",
        "A cafe\u0301 \U0001f600 by the harbour",
        "the lamp",
    ],
    "token_starts": [
        [0, 4, 9, 12, 16, 24, 28, 32, 35, 40, 42, 46, 53, 57, 59, 66, 69, 73, 78],
        [0, 2, 8, 10, 13, 17],
        [0, 4],
    ],
    "token_stops": [
        [3, 8, 11, 15, 23, 27, 31, 34, 39, 41, 45, 52, 56, 58, 65, 68, 72, 77, 79],
        [1, 6, 9, 12, 16, 24],
        [3, 8],
    ],
}


def rows(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


EXPECTED = {"features": rows(FEATURES), "documents": rows(DOCUMENTS), "contexts": rows(CONTEXTS)}


def test_every_value_is_the_one_that_was_written() -> None:
    verify(CACHE)
    cache = PublishedCache(CACHE)
    assert read_tables(cache) == EXPECTED
    assert read_with_pyarrow(cache) == EXPECTED


def test_the_manifest_has_not_changed() -> None:
    manifest = read_manifest(CACHE)
    assert manifest.fingerprint == "5f8919ae89fa5fe4153fc221682f6b8deffee07b7c5fe76625d66ad380e8f6e6"
    assert (manifest.name, manifest.split) == ("in-memory", "golden")
    assert manifest.settings == {
        "max_seq_length": 16,
        "doc_stride": 2,
        "max_n_segs": None,
        "max_examples": None,
        "insert_memory_tokens": True,
        "on_bad_example": "drop",
        "on_contradiction": "error",
        "on_repeated_id": "error",
    }
    assert manifest.fields["source"] == {"kind": "iterable", "identity": "golden 1"}
    assert (manifest.fields["schema_version"], manifest.fields["algorithm_version"]) == (2, 3)
    assert (manifest.layout.memory_read_ids, manifest.layout.memory_write_ids) == ((22,), (23,))
    assert manifest.vocabulary_size == 24
    counted = {"exact": 1, "repaired": 1, "dropped": 1, "unanswerable": 1}
    assert manifest.alignment == {**dict.fromkeys(ALIGNMENTS, 0), **counted}
    assert manifest.contradictions == 0
    assert manifest.dropped_examples == 1
    assert manifest.documents_without_answer_segment == 0
    assert manifest.provenance == {}


def test_a_fresh_build_gives_the_same_bytes(tmp_path: Path) -> None:
    directory = build_golden(tmp_path)
    assert directory.name == "in-memory--golden--5f8919ae89fa5fe4"
    assert files_of(directory) == files_of(CACHE)


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in CACHE.parent.rglob("*") if path.suffix != ".pyc") < 60_000
