from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memxlnet.errors import RowIndexError, SettingsError
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.gather import MANY_VALUES
from memxlnet.load.tensors import MODEL_COLUMNS, as_rows
from tests.load.helpers import DTYPES, LENGTH, Built, bert_tokenizer, varied_examples
from tests.support import build, in_quarters, slow

COLUMNS = (*MODEL_COLUMNS, "segment_index", "document", "cls_index", "context_token_start", "has_answer_in_segment")

FORMS: dict[str, Callable[[list[int]], Any]] = {
    "list": list,
    "tuple": tuple,
    "int64 array": lambda rows: np.array(rows, np.int64),
    "int16 array": lambda rows: np.array(rows, np.int16),
    "strided array": lambda rows: np.repeat(np.array(rows), 2)[::2],
    "int64 tensor": lambda rows: torch.tensor(rows, dtype=torch.int64),
    "int32 tensor": lambda rows: torch.tensor(rows, dtype=torch.int32),
    "strided tensor": lambda rows: torch.tensor(rows, dtype=torch.int64).repeat_interleave(2)[::2],
    "numpy integers": lambda rows: [np.int64(row) for row in rows],
}


def _expected(dataset: CacheDataset, rows: list[int]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([dataset[row][name] for row in rows]) for name in MODEL_COLUMNS}


def test_gather_takes_rows_in_every_form(any_dataset: CacheDataset) -> None:
    rows = [3, 0, -1, 40, 40, 17, 16, -len(any_dataset)]
    expected = _expected(any_dataset, rows)
    for form, make in FORMS.items():
        found = any_dataset.gather(make(rows))
        assert list(found) == list(MODEL_COLUMNS), form
        for name, tensor in found.items():
            assert tensor.dtype == DTYPES[name], form
            assert tensor.is_contiguous(), form
            assert torch.equal(tensor, expected[name]), form


def test_gather_takes_ranges_and_slices(any_dataset: CacheDataset) -> None:
    for rows in (range(4, 30, 3), slice(-3, None), slice(None, None, 19), slice(50, 10, -9)):
        listed = list(rows if isinstance(rows, range) else range(len(any_dataset))[rows])
        found, expected = any_dataset.gather(rows), _expected(any_dataset, listed)
        assert all(torch.equal(found[name], expected[name]) for name in MODEL_COLUMNS)


def test_gather_of_nothing_keeps_types_and_shapes(any_dataset: CacheDataset) -> None:
    nothing: list[Any] = [[], (), np.array([]), torch.empty(0, dtype=torch.int64), range(0), slice(0, 0)]
    for rows in nothing:
        found = any_dataset.gather(rows, COLUMNS)
        assert list(found) == list(COLUMNS)
        for name, tensor in found.items():
            one = any_dataset.gather([0], [name])[name]
            assert (tensor.dtype, tensor.shape) == (one.dtype, (0, *one.shape[1:]))


def test_gather_gives_fresh_tensors(any_dataset: CacheDataset) -> None:
    before = any_dataset[2]["input_ids"].clone()
    any_dataset.gather([2])["input_ids"].zero_()
    any_dataset.gather(torch.tensor([2]))["input_ids"].zero_()
    assert torch.equal(any_dataset[2]["input_ids"], before)


def test_gather_leaves_the_rows_as_they_were(any_dataset: CacheDataset) -> None:
    rows, array = torch.tensor([-1, 3]), np.array([-1, 3])
    any_dataset.gather(rows)
    any_dataset.gather(array)
    assert rows.tolist() == array.tolist() == [-1, 3]


def _forms_of(row: int) -> list[Any]:
    return [[0, row], np.array([0, row]), torch.tensor([0, row]), range(row, row + 1)]


def test_gather_refuses_rows_out_of_range(any_dataset: CacheDataset) -> None:
    count = len(any_dataset)
    for row in (count, -count - 1, 2**40):
        for rows in _forms_of(row):
            with pytest.raises(RowIndexError, match=rf"^row {row}:.*-{count}\b.*\b{count - 1}$"):
                any_dataset.gather(rows)


def test_rows_beyond_64_bits_do_not_wrap_around(any_dataset: CacheDataset) -> None:
    wrong: list[Any] = []
    for row in (2**63, 2**64 - 1, 2**64 - 3, 2**64, 10**30):
        wrong += [[row], [0, row]]
        if row < 2**64:
            wrong += [np.array([row], np.uint64), torch.from_numpy(np.array([row], np.uint64))]
    for rows in wrong:
        with pytest.raises((RowIndexError, SettingsError), match="row"):
            any_dataset.gather(rows)


WRONG: list[Any] = [
    [0.0, 1.0],
    np.array([0.0]),
    torch.tensor([0.0]),
    torch.tensor([1j]),
    [True, False],
    np.array([True]),
    torch.tensor([True]),
    ["0"],
    "0",
    [None],
    None,
    3,
    torch.tensor(3),
    np.int64(3),
    [[0, 1]],
    np.array([[0]]),
    torch.tensor([[0, 1]]),
    [[]],
    [[0], [1, 2]],
]


def test_gather_refuses_what_is_no_row(any_dataset: CacheDataset) -> None:
    for rows in WRONG:
        with pytest.raises(SettingsError, match=r"^rows:"):
            any_dataset.gather(rows)


def test_gather_of_named_columns(any_dataset: CacheDataset, lazy: CacheDataset) -> None:
    rows = [5, 33, 18]
    found = any_dataset.gather(rows, COLUMNS)
    for name in COLUMNS:
        column = lazy.column(name)
        assert isinstance(column, torch.Tensor)
        assert found[name].dtype == column.dtype
        assert torch.equal(found[name], column[rows])


@pytest.mark.parametrize("columns", [["labels"], ["input_ids", "Input_ids"], [3]])
def test_gather_refuses_unknown_columns(lazy: CacheDataset, columns: Any) -> None:
    with pytest.raises(SettingsError, match=rf"^column:.*\binput_ids\b.*{columns[-1]!r}$"):
        lazy.gather([0], columns)


def test_columns_may_be_any_iterable_but_one_name(any_dataset: CacheDataset) -> None:
    assert list(any_dataset.gather([0], (name for name in ["cls_index"]))) == ["cls_index"]  # type: ignore[arg-type]
    for columns in ("input_ids", None, 5):
        with pytest.raises(SettingsError, match=f"^columns:.*{columns!r}$"):
            any_dataset.gather([0], columns)  # type: ignore[arg-type]


def test_columns_of_shards_are_the_column_in_pieces(any_dataset: CacheDataset, lazy: CacheDataset) -> None:
    for name in COLUMNS:
        whole, found = lazy.column(name), any_dataset.column(name)
        assert isinstance(whole, torch.Tensor)
        joined = found if isinstance(found, torch.Tensor) else torch.cat(found)
        assert joined.dtype == whole.dtype
        assert torch.equal(joined, whole)


@in_quarters
@given(data=st.data())
def test_shards_gather_like_one(built: Built, quarter: int, data: st.DataObject) -> None:
    one, many = CacheDataset(built.plain), CacheDataset(built.sharded)
    assert len(one) == len(many)
    rows = data.draw(st.lists(st.integers(-len(one), len(one) - 1), max_size=40))
    found, expected = many.gather(rows, COLUMNS), one.gather(rows, COLUMNS)
    assert all(torch.equal(found[name], expected[name]) for name in COLUMNS)


def test_strided_rows_are_gathered_without_a_word(built: Built) -> None:
    one, many = CacheDataset(built.plain), CacheDataset(built.sharded)
    rows = torch.arange(len(one))[1::2]
    found, expected = many.gather(rows), one.gather(rows)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("sharded", [False, True])
def test_rows_without_values_are_refused(built: Built, sharded: bool) -> None:
    dataset = CacheDataset(built.sharded if sharded else built.plain)
    with pytest.raises(SettingsError, match=r"^rows:.*\bmeta\b"):
        dataset.gather(torch.empty(2, dtype=torch.int64, device="meta"))
    with pytest.raises(SettingsError, match=r"^rows:.*torch\.sparse_coo"):
        dataset.gather(torch.tensor([1, 2]).to_sparse())


@given(st.integers(1, 50), st.data())
def test_as_rows_counts_like_a_list(count: int, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.integers(-count, count - 1), max_size=20))
    found = as_rows(wanted, count)
    assert found.dtype == torch.int64
    assert found.tolist() == [list(range(count))[row] for row in wanted]


def test_a_width_cuts_the_tokens_on_the_padding_side(any_dataset: CacheDataset) -> None:
    names = (*COLUMNS, "context_row_start")
    rows = torch.tensor([3, 0, 40, 40, 17, 16, len(any_dataset) - 1])
    whole = any_dataset.tensors.gather(rows, names)
    for width in (1, 7, LENGTH - 1, LENGTH, None):
        found = any_dataset.tensors.gather(rows, names, width)
        assert list(found) == list(names)
        for name, tensor in found.items():
            wanted = whole[name] if tensor.dim() == 1 or width is None else whole[name][:, LENGTH - width :]
            assert torch.equal(tensor, wanted), width
            assert tensor.is_contiguous(), width
            assert tensor.untyped_storage().nbytes() == tensor.nbytes, width
        assert [len(one) for one in any_dataset.tensors.gather(rows[:0], names, width).values()] == [0] * len(names)


POSITIONS = ("start_positions", "end_positions", "cls_index", "context_row_start", "question_row_start")


def _longest(dataset: CacheDataset, rows: Any) -> int:
    return int(dataset.gather(rows)["attention_mask"].sum(dim=1).max())


@pytest.fixture(scope="module")
def right_padded(tmp_path_factory: pytest.TempPathFactory) -> CacheDataset:
    settings = {"max_seq_length": LENGTH, "doc_stride": 12}
    return build(varied_examples(), bert_tokenizer(), tmp_path_factory.mktemp("right"), **settings)


@pytest.fixture(params=["left", "right"])
def side(request: pytest.FixtureRequest) -> CacheDataset:
    """A dataset that is padded on this side."""
    dataset: CacheDataset = request.getfixturevalue({"left": "lazy", "right": "right_padded"}[request.param])
    assert dataset.manifest.layout.pad_left == (request.param == "left")
    return dataset


@in_quarters
@given(data=st.data())
def test_cut_rows_hold_the_same_tokens_and_positions(
    built: Built, right_padded: CacheDataset, quarter: int, data: st.DataObject
) -> None:
    dataset = data.draw(st.sampled_from([CacheDataset(built.plain), CacheDataset(built.sharded), right_padded]))
    rows = data.draw(st.lists(st.integers(-len(dataset), len(dataset) - 1), min_size=1, max_size=20))
    width = data.draw(st.integers(_longest(dataset, rows), LENGTH))
    names = tuple(dict.fromkeys((*MODEL_COLUMNS, *POSITIONS, "segment_index")))
    found, whole = dataset.gather(rows, names, width), dataset.gather(rows, names)
    assert list(found) == list(names)
    lost = LENGTH - width if dataset.manifest.layout.pad_left else 0
    for name, tensor in found.items():
        if tensor.dim() == 2:
            assert torch.equal(tensor, whole[name][:, lost : lost + width])
            dropped = torch.cat([whole["attention_mask"][:, :lost], whole["attention_mask"][:, lost + width :]], 1)
            assert not dropped.any()
        else:
            assert torch.equal(tensor, whole[name] - (lost if name in POSITIONS else 0))
            assert tensor.dtype == whole[name].dtype


def test_every_width_that_holds_the_row_is_taken(side: CacheDataset) -> None:
    rows = torch.arange(len(side))
    longest = side.gather(rows)["attention_mask"].sum(dim=1)
    for row in (int(longest.argmin()), 3):
        for width in range(int(longest[row]), LENGTH + 1):
            assert int(side.gather([row], width=width)["attention_mask"].sum()) == int(longest[row])


def test_a_width_that_cuts_real_tokens_is_refused(side: CacheDataset, any_dataset: CacheDataset) -> None:
    for dataset in (side, any_dataset):
        lengths = dataset.gather(slice(None))["attention_mask"].sum(dim=1)
        row, short = int(lengths.argmax()), int(lengths.argmin())
        longest = int(lengths[row])
        message = rf"^width:.*\b{longest}\b.*\brow {row}\b.*\b{longest - 1}\b"
        for named in (row, row - len(dataset)):
            with pytest.raises(SettingsError, match=message):
                dataset.gather([short, named, short], ["segment_index"], longest - 1)


@pytest.mark.parametrize("width", [0, -1, LENGTH + 1, 8.0, "8", True])
def test_widths_that_cannot_be_are_refused(lazy: CacheDataset, width: Any) -> None:
    with pytest.raises(SettingsError, match=f"^width:.*{width!r}$"):
        lazy.gather([0], width=width)


def test_a_cut_gather_of_nothing(any_dataset: CacheDataset) -> None:
    found = any_dataset.gather([], width=3)
    assert [tuple(tensor.shape) for tensor in found.values()] == [(0, 3)] * 3 + [(0,)] * 2


@pytest.mark.parametrize("width", [None, 40])
def test_many_rows_are_gathered_like_few(
    any_dataset: CacheDataset, monkeypatch: pytest.MonkeyPatch, width: int | None
) -> None:
    names, rows = (*COLUMNS, *POSITIONS), torch.randint(0, len(any_dataset), (900,))
    assert len(rows) * LENGTH > MANY_VALUES
    assert len(rows) * 40 > MANY_VALUES
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    many = any_dataset.tensors.gather(rows, names, width)
    monkeypatch.setattr("memxlnet.load.gather.MANY_VALUES", 10**9)
    few = any_dataset.tensors.gather(rows, names, width)
    assert list(many) == list(few)
    for name, tensor in many.items():
        assert (tensor.dtype, tensor.shape) == (few[name].dtype, few[name].shape)
        assert torch.equal(tensor, few[name])


@pytest.mark.parametrize(("count", "width"), [(3, None), (900, 40), slow(3, 40), slow(900, None)])
def test_a_write_to_gathered_rows_reaches_no_map(any_dataset: CacheDataset, width: int | None, count: int) -> None:
    names, rows = (*COLUMNS, *POSITIONS), torch.arange(count) % len(any_dataset)
    before = any_dataset.tensors.gather(rows, names, width)
    for tensor in any_dataset.tensors.gather(rows, names, width).values():
        tensor.fill_(-1)
    after = any_dataset.tensors.gather(rows, names, width)
    assert all(torch.equal(after[name], before[name]) for name in names)


@pytest.mark.parametrize("count", [1, 900])
def test_one_row_out_of_range_among_many_is_refused(any_dataset: CacheDataset, count: int) -> None:
    for row in (len(any_dataset), -len(any_dataset) - 1, 2**62, -(2**63), 2**63 - 1):
        rows = torch.zeros(count + 1, dtype=torch.int64)
        rows[count] = row
        with pytest.raises(RowIndexError, match=f"^row {row}:"):
            any_dataset.gather(rows)
    rows[count] = -1
    assert torch.equal(any_dataset.gather(rows)["input_ids"][-1], any_dataset[-1]["input_ids"])
