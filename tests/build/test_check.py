"""Each build compares its first examples with transformers and stops where they differ."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memxlnet.build import check
from memxlnet.build.check import check_against_transformers
from memxlnet.build.process import process_and_cache_dataset
from memxlnet.encode.examples import Example
from memxlnet.encode.layout import read_tokenizer
from memxlnet.errors import TokenizerError
from memxlnet.settings import EncodeSettings
from tests.golden.make_golden import golden_tokenizer
from tests.support import example, long_examples

EXAMPLES = [Example(0, "a", "who lit the lamp", "the lamp of the harbour was lit by a keeper " * 3, (), ())]
SETTINGS = EncodeSettings(max_seq_length=20, doc_stride=4)


def run(tokenizer: Any, settings: EncodeSettings = SETTINGS, examples: list[Example] = EXAMPLES) -> None:
    check_against_transformers(tokenizer, read_tokenizer(tokenizer), settings, examples)


def test_a_tokenizer_that_can_be_taken_apart_passes_and_keeps_its_state() -> None:
    tokenizer = golden_tokenizer()
    run(tokenizer)
    assert tokenizer.backend_tokenizer.padding is None
    assert tokenizer.backend_tokenizer.truncation is None
    tokenizer(["lamp"], padding="max_length", max_length=9, truncation=True)
    padding, truncation = tokenizer.backend_tokenizer.padding, tokenizer.backend_tokenizer.truncation
    run(tokenizer)
    assert (tokenizer.backend_tokenizer.padding, tokenizer.backend_tokenizer.truncation) == (padding, truncation)


@pytest.mark.parametrize("name", ["input_ids", "attention_mask", "token_type_ids", "offset_mapping"])
def test_every_difference_is_told(name: str) -> None:
    tokenizer = golden_tokenizer()
    content = read_tokenizer(tokenizer)

    class Other:
        """The same tokenizer, but one value of what it gives is another."""

        backend_tokenizer = tokenizer.backend_tokenizer

        def __call__(self, *arguments: Any, **options: Any) -> Any:
            found = dict(tokenizer(*arguments, **options))
            found[name] = np.array(found[name])
            found[name][-1, -5] += 1
            return found

    with pytest.raises(TokenizerError, match=rf"tokenizer Other: .*found another {name} \(row \d+, position 13"):
        check_against_transformers(Other(), content, SETTINGS, EXAMPLES)


def test_a_difference_in_later_windows_is_found_at_any_length() -> None:
    """A context that fits one row is cut into windows for the check alone."""
    tokenizer = golden_tokenizer()
    content = read_tokenizer(tokenizer)
    lengths = []

    class Watched:
        backend_tokenizer = tokenizer.backend_tokenizer

        def __call__(self, *arguments: Any, **options: Any) -> Any:
            found = tokenizer(*arguments, **options)
            lengths.append((options["max_length"], len(found["input_ids"])))
            return found

    check_against_transformers(Watched(), content, EncodeSettings(max_seq_length=64, doc_stride=4), EXAMPLES)
    assert lengths[0] == (62, 1)  # less two memory tokens
    assert lengths[1][1] >= 3


def test_a_build_stops_before_a_chunk_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_offsets", lambda tables, length: np.zeros((1, 1, 2), np.int32))
    with pytest.raises(TokenizerError, match=r"found another offset_mapping \(the number of rows\)"):
        process_and_cache_dataset(
            long_examples(3), "test", tmp_path, max_seq_length=32, doc_stride=8, tokenizer=golden_tokenizer()
        )
    assert not list(tmp_path.glob(".build-*/chunks/*.chunk"))
    assert not list(tmp_path.glob("[!.]*"))


def test_nothing_to_compare_is_no_error(tmp_path: Path) -> None:
    run(golden_tokenizer(), SETTINGS, [])
    huge = Example(0, "huge", "who", "lamp " * 10_000, (), ())
    run(golden_tokenizer(), SETTINGS, [huge])
    rows = [example("lamp " * 5000, "who", id="huge")]
    made = process_and_cache_dataset(
        rows, "test", tmp_path, max_seq_length=32, doc_stride=8, tokenizer=golden_tokenizer()
    )
    assert made == 1 + -(-(5000 - 26) // (26 - 8))
