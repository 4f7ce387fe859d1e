"""What is gathered when, by whom, and what becomes of the thread that works ahead."""

import gc
import itertools
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from memxlnet.format.padding import RowWidths
from memxlnet.load import step_stream
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.document_group import Group
from memxlnet.load.steps import BLOCK_BYTES, StepMaker
from tests.load.helpers import (
    LENGTH,
    Gathers,
    assert_same_steps,
    assert_same_tensors,
    sample_tokenizer,
    steps_of,
    time_major,
)
from tests.support import WAIT_SECONDS, build, example, long_examples
from tests.test_background import threads, wait_for_no_threads


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> CacheDataset:
    examples = [*long_examples(1, words=1200), example("short", id="short")]
    return build(examples, sample_tokenizer(), tmp_path_factory.mktemp("long"), max_seq_length=32, doc_stride=8)


def maker(dataset: CacheDataset, dtype: str) -> StepMaker:
    manifest = dataset.manifest
    return StepMaker(dataset, dtype, "ignore", RowWidths(manifest.layout, manifest.max_seq_length))


def sizes(gathers: list[list[int]]) -> list[int]:
    return [len(rows) for rows in gathers]


class TestBlocks:
    @pytest.mark.parametrize(("dtype", "itemsizes"), [("int64", 24), ("stored", 6)])
    def test_hold_so_many_rows_as_fit_in_some_bytes(self, lazy: CacheDataset, dtype: str, itemsizes: int) -> None:
        rows = maker(lazy, dtype).block_rows
        assert rows * LENGTH * itemsizes <= BLOCK_BYTES < (rows + 1) * LENGTH * itemsizes

    def test_hold_a_row_at_least(self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("memxlnet.load.steps.BLOCK_BYTES", 10)
        assert maker(lazy, "int64").block_rows == 1
        assert len(steps_of(time_major(lazy, 3))) == time_major(lazy, 3).epoch_size().steps

    @pytest.mark.parametrize("lanes", [1, 2])
    def test_a_long_document_is_gathered_in_bounded_blocks(
        self, long: CacheDataset, monkeypatch: pytest.MonkeyPatch, lanes: int
    ) -> None:
        monkeypatch.setattr(StepMaker, "block_rows", 256)
        steps = int(long.documents.num_segments.max())
        assert steps > 512
        gathers = Gathers(monkeypatch)
        groups = [list(group) for group in time_major(long, lanes)]
        assert len(groups[0]) == steps
        assert max(sizes(gathers.tokens)) == 256
        # One lane: the step of the short document follows in the last block of the long one.
        assert len(gathers.tokens) == -(-sum(map(len, groups)) * lanes // 256)

    def test_small_columns_are_gathered_for_many_blocks_at_once(
        self, long: CacheDataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(StepMaker, "block_rows", 10)
        monkeypatch.setattr(step_stream, "RUN_STEPS", 10**6)
        expected = steps_of(time_major(long, 2))
        for run_rows in (1, 10, 300, 4096):
            monkeypatch.setattr(step_stream, "RUN_ROWS", run_rows)
            gathers = Gathers(monkeypatch)
            assert_same_steps(steps_of(time_major(long, 2)), expected)
            rows = 2 * len(expected)
            assert sum(sizes(gathers.small)) == sum(sizes(gathers.tokens)) == rows
            assert len(gathers.small) == -(-rows // max(run_rows, 10))
            assert len(gathers.tokens) == -(-rows // 10)

    def test_a_run_holds_whole_blocks(self, long: CacheDataset, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(StepMaker, "block_rows", 10)
        monkeypatch.setattr(step_stream, "RUN_STEPS", 17)
        gathers = Gathers(monkeypatch)
        steps = len(steps_of(time_major(long, 2)))
        assert sizes(gathers.small)[:-1] == [30] * (-(-steps // 15) - 1)
        assert sum(sizes(gathers.small)) == 2 * steps

    def test_a_step_is_gathered_when_it_is_asked_for(self, long: CacheDataset, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(StepMaker, "block_rows", 256)
        gathers = Gathers(monkeypatch)
        group = next(iter(time_major(long, 1)))
        assert gathers.tokens == gathers.small == []
        for _ in range(3):
            _ = group[300]
            _ = group[301]
        assert sizes(gathers.tokens) == [256]
        assert len(gathers.small) == 1

    def test_padding_reads_no_row_that_its_run_does_not_read(
        self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(step_stream, "RUN_ROWS", 30)
        monkeypatch.setattr(StepMaker, "block_rows", 30)
        gathers = Gathers(monkeypatch)
        steps = steps_of(time_major(lazy, 3, drop_last=True))
        assert any(step["num_active"] < 3 for step in steps)
        rows = [
            [row for step in steps[start : start + 10] for row in step["rows"].tolist()]
            for start in range(0, len(steps), 10)
        ]
        assert [{*found} for found in gathers.tokens] == [{*run} - {-1} for run in rows]
        assert gathers.small == gathers.tokens

    @pytest.mark.parametrize("num_workers", [0, 1])
    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    def test_a_plain_iteration_gathers_each_block_once(
        self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch, lanes: str, num_workers: int
    ) -> None:
        monkeypatch.setattr(StepMaker, "block_rows", 8)
        gathers = Gathers(monkeypatch)
        steps = steps_of(time_major(lazy, 3, num_workers=num_workers, lanes=lanes))
        widths = [len(step["rows"]) for step in steps]
        # Blocks hold steps with equal lanes: two steps of 3 lanes, or eight of the one lane of the last group.
        assert widths.count(1) == (1 if lanes == "aligned" else 0)
        assert len(gathers.tokens) == -(-widths.count(3) // 2) + widths.count(1)
        assert sum(sizes(gathers.tokens)) == sum(widths)


class TestThread:
    @pytest.fixture(autouse=True)
    def _small_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """More blocks than a thread reads ahead, so that it does not end by itself."""
        monkeypatch.setattr(StepMaker, "block_rows", 4)

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    @pytest.mark.parametrize("num_workers", [1, 2])
    def test_works_ahead_by_a_bounded_number_of_blocks(
        self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch, num_workers: int, lanes: str
    ) -> None:
        gathers = Gathers(monkeypatch)
        found: Any = iter(time_major(lazy, 2, num_workers=num_workers, lanes=lanes))
        first = next(found)
        if lanes == "aligned":
            _ = first[0]
        assert len(threads()) == 1
        stop = time.monotonic() + WAIT_SECONDS
        while len(gathers.tokens) < 4 and time.monotonic() < stop:
            time.sleep(0.01)
        time.sleep(0.3)
        # One taken, two in the queue, one in the thread's hand.
        assert sizes(gathers.tokens) == [4, 4, 4, 4]
        found.close()
        assert not threads()

    @staticmethod
    def _fail_in_third(monkeypatch: pytest.MonkeyPatch) -> None:
        real, calls = StepMaker.tokens, itertools.count()

        def breaking(*arguments: Any) -> dict[str, Any]:
            if next(calls) == 2:
                raise OSError("disk gone")
            return real(*arguments)

        monkeypatch.setattr(StepMaker, "tokens", breaking)

    @pytest.mark.parametrize("lanes", ["aligned", "refilled"])
    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_an_exception_reaches_the_caller_with_its_traceback(
        self, lazy: CacheDataset, monkeypatch: pytest.MonkeyPatch, num_workers: int, lanes: str
    ) -> None:
        expected = steps_of(time_major(lazy, 4, lanes=lanes))
        loader = time_major(lazy, 4, num_workers=num_workers, lanes=lanes)
        seen: list[Any] = []

        def read() -> None:
            for found in loader:
                seen.extend(iter(found) if isinstance(found, Group) else [found])

        with monkeypatch.context() as patch:
            self._fail_in_third(patch)
            with pytest.raises(OSError, match="disk gone") as caught:
                read()
        assert "breaking" in "".join(traceback.format_tb(caught.value.__traceback__))
        assert_same_steps(seen, expected[:2])
        del caught
        gc.collect()
        wait_for_no_threads()
        # What was received counts: the epoch can be resumed after it.
        loader.load_state_dict(loader.state_dict())
        read()
        assert_same_steps(seen, expected)

    def test_leaving_the_loop_ends_the_thread(self, lazy: CacheDataset) -> None:
        for group in time_major(lazy, 2, num_workers=1):
            assert len(threads()) == 1
            _ = group[0]
            break
        gc.collect()
        assert not threads()

    def test_an_exception_in_the_loop_ends_the_thread(self, lazy: CacheDataset) -> None:
        def run() -> None:
            for group in time_major(lazy, 2, num_workers=1):
                _ = group[0]
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            run()
        gc.collect()
        wait_for_no_threads()

    def test_closing_ends_the_thread_at_once(self, lazy: CacheDataset) -> None:
        groups: Any = iter(time_major(lazy, 2, num_workers=1))
        group = next(groups)
        groups.close()
        assert not threads()
        assert group[0]["document_mask"].tolist() == [True, True]

    def test_an_iteration_that_never_began_has_no_thread(self, lazy: CacheDataset) -> None:
        groups = iter(time_major(lazy, 2, num_workers=1))
        assert not threads()
        del groups

    def test_dropping_everything_ends_the_thread(self, lazy: CacheDataset) -> None:
        groups: Iterator[Group] | None = iter(time_major(lazy, 2, num_workers=1))
        group: Group | None = next(iter(groups or ()))
        assert group is not None
        groups = group = None
        gc.collect()
        wait_for_no_threads()

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_refilled_lanes_leave_no_thread(self, lazy: CacheDataset, num_workers: int) -> None:
        loader = time_major(lazy, 2, num_workers=num_workers, lanes="refilled")
        expected = list(loader)
        assert not threads()
        for step in loader:
            assert len(threads()) == num_workers
            assert_same_tensors(step, expected[0])
            break
        gc.collect()
        assert not threads()
