"""Lengths of rows follow from number columns; widths are the least that hold the longest row, rounded up."""

from typing import Any

import numpy as np
import pytest

from memxlnet.errors import SettingsError
from memxlnet.format.padding import CONTEXT_PLACES, RowWidths
from memxlnet.load.cache_dataset import CacheDataset


def made(dataset: CacheDataset, *options: Any) -> RowWidths:
    return RowWidths(dataset.manifest.layout, dataset.manifest.max_seq_length, *options)


def test_lengths_count_the_attention(any_dataset: CacheDataset) -> None:
    rows = range(len(any_dataset))
    places = {name: column.numpy() for name, column in any_dataset.gather(rows, CONTEXT_PLACES).items()}
    expected = any_dataset.gather(rows)["attention_mask"].sum(dim=1)
    assert made(any_dataset).lengths(places).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("options", "widths"),
    [
        (("max_length",), [64, 64, 64]),
        (("longest",), [3, 13, 64]),
        (("longest", 8), [8, 16, 64]),
        (("longest", 60), [60, 60, 64]),
        (("longest", 64), [64, 64, 64]),
    ],
)
def test_widths(lazy: CacheDataset, options: Any, widths: list[int]) -> None:
    found = RowWidths(lazy.manifest.layout, 64, *options)
    assert [found.width(longest) for longest in (1, 13, 64)] == widths
    assert found.width(np.array([1, 13, 64])).tolist() == widths


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("batch",), "^padding:.*'batch'$"),
        ((True,), "^padding:.*True$"),
        (("max_length", 8), "^pad_to_multiple_of:.*'max_length'$"),
        (("longest", 0), r"^pad_to_multiple_of:.*\b0$"),
        (("longest", 8.0), r"^pad_to_multiple_of:.*\b8\.0$"),
        (("longest", 65), r"^pad_to_multiple_of:.*\b64\b.*\b65$"),
    ],
)
def test_bad_settings(lazy: CacheDataset, options: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        RowWidths(lazy.manifest.layout, 64, *options)
