"""Every row of the real files with the real vocabulary, against transformers."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arrow_schemas import ALIGNMENTS
from memxlnet.builder.transformers_check import COLUMNS, _offsets
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.examples import Example, parse_example
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.format.file_layout import column_values
from memxlnet.settings import EncodeSettings
from memxlnet.sources import open_source
from tests.encode.oracle import Tables, expected_rows, found_rows, pair_call
from tests.styles import STYLES
from tests.support import SQUAD, need_real_data, slow, xquad

pytestmark = pytest.mark.real_data

CHUNK = 500


def chunks(path: Path) -> Iterator[list[Example]]:
    examples = [parse_example(row, raw, "real") for row, raw in enumerate(open_source(path, "dev").rows())]
    assert len(examples) > 1000
    for start in range(0, len(examples), CHUNK):
        yield examples[start : start + CHUNK]


def equal_rows(tokenizer: Any, tables: Tables, examples: list[Example], length: int, overlap: int) -> int:
    """Compare all rows of a chunk; returns their number."""
    called = pair_call(tokenizer, STYLES["xlnet"], examples, length, overlap)
    features = tables["features"]
    assert column_values(features["document"]).tolist() == called["overflow_to_sample_mapping"]
    for name in COLUMNS:
        found = column_values(features[name]).reshape(features.num_rows, length)
        np.testing.assert_array_equal(found, np.asarray(called[name]), err_msg=name)
    np.testing.assert_array_equal(_offsets(tables, length), np.asarray(called["offset_mapping"]), err_msg="offsets")
    assert column_values(features["cls_index"]).tolist() == [length - 1] * features.num_rows
    rows: int = features.num_rows
    return rows


def consistent_answers(tables: Tables) -> Counter[str]:
    """Check every document's status against its texts; returns how often each occurs."""
    contexts = tables["contexts"].to_pylist()
    found: Counter[str] = Counter()
    for document in tables["documents"].to_pylist():
        found[document["alignment"]] += 1
        context = contexts[document["context"]]
        start, stop = document["answer_char_start"], document["answer_char_stop"]
        if document["alignment"] in ("exact", "repaired"):
            chosen = document["chosen_answer"]
            if document["alignment"] == "exact":
                assert context["text"][start:stop] == document["answer_texts"][chosen]
                assert start == document["answer_starts"][chosen]
            else:
                assert document["alignment_detail"].startswith(f"answer {chosen} found at {start}")
        else:
            assert (start, stop, document["answer_token_start"], document["num_answer_segments"]) == (-1, -1, -1, 0)
            assert bool(document["alignment_detail"]) == (document["alignment"] == "dropped")
            assert bool(document["answer_texts"]) == (document["alignment"] == "dropped")
    return found


@pytest.mark.parametrize(
    ("source", "length", "overlap"),
    [slow("squad", 384, 128), slow("en", 128, 32), slow("ar", 384, 128), ("zh", 128, 64), slow("hi", 256, 128)],
)
def test_every_row_equals_that_of_transformers(source: str, length: int, overlap: int, xlnet: Any) -> None:
    need_real_data()
    content = read_tokenizer(xlnet)
    encoder = Encoder(content.backend, content.layout, EncodeSettings(max_seq_length=length, doc_stride=overlap))
    rows, total, statuses = 0, 0, Counter[str]()
    for examples in chunks(SQUAD if source == "squad" else xquad(source)):
        tables = encoder.encode(examples)
        total += len(examples)
        rows += equal_rows(xlnet, tables, examples, length, overlap)
        statuses += consistent_answers(tables)
        unanswerable = sum(not example.answer_texts for example in examples)
        assert tables["documents"]["alignment"].to_pylist().count("unanswerable") == unanswerable
    assert rows >= total
    assert sum(statuses.values()) == total
    assert set(statuses) <= set(ALIGNMENTS)
    assert statuses["exact"] > 0


def test_memory_tokens_with_the_real_vocabulary(xlnet: Any) -> None:
    configure_memory_tokens(xlnet, 4)
    content = read_tokenizer(xlnet)
    encoder = Encoder(content.backend, content.layout, EncodeSettings(max_seq_length=128, doc_stride=32))
    examples = next(chunks(SQUAD))[:60]
    found = found_rows(encoder.encode(examples), 4)
    assert found == expected_rows(xlnet, STYLES["xlnet"], examples, 128, 32, 4)
    assert len(found) > 60
