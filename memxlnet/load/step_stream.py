"""The steps of one epoch, gathered in blocks when they are asked for, or ahead of time in a thread."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from memxlnet.background import Prefetched
from memxlnet.format.lazy_features import ExpectedShards
from memxlnet.load.devices import Arrival
from memxlnet.load.epoch_plan import EpochPlan
from memxlnet.load.page_advice import PageAdvice
from memxlnet.load.steps import Step, StepMaker, StepRun

RUN_ROWS, RUN_STEPS = 4096, 256
"""Rows and steps of which everything but the tokens is made together at most, some 0.4 MB."""

PREFETCH_BLOCKS = 2
"""Blocks that are made ahead."""


class Block(NamedTuple):
    """Steps that were made together.

    Attributes:
        steps: Which.
        made: The steps.
        arrival: When their tensors are on the device; None where they are.
    """

    steps: range
    made: list[Step]
    arrival: Arrival | None

    def step(self, step: int) -> Step:
        """Return one of the steps, as a new dictionary."""
        found = self.made[step - self.steps.start].copy()
        if self.arrival is not None:
            self.arrival.tensors(found.values())
        return found


class _Maker:
    """Makes blocks of steps, one after the other or any of them.

    Args:
        maker: Makes the tensors.
        plan: The rows of the epoch.
        first: The first step; nothing before it is read.
        advice: Asks for the pages of a run before its tokens are gathered.
        shards: The shards that are expected; those before the steps that are made are given up.
    """

    def __init__(
        self, maker: StepMaker, plan: EpochPlan, first: int, advice: PageAdvice | None, shards: ExpectedShards | None
    ):
        self._shards = shards
        self._maker = maker
        self._advice = advice
        self._plan = plan
        self._first = first
        self._run_rows = RUN_ROWS
        if shards is not None:
            # Else a run would need shards that its tokens need only later.
            self._run_rows = max(min(RUN_ROWS, maker.shard_rows // 2), maker.block_rows)
        self._planned: tuple[range, StepRun | None] = (range(0), None)

    def block(self, step: int) -> range:
        """Return the block that holds a step."""
        return self._clipped(self._plan.block(step, self._maker.block_rows))

    @torch.inference_mode(False)  # reading under inference_mode must leave no tensors that training refuses
    def make(self, block: range) -> Block:
        """Return the steps of a block."""
        if self._shards is not None:
            self._shards.reached(block.start)
        with self._maker.making():
            made = self._make(block)
            return Block(block, made, self._maker.sent())

    def _make(self, block: range) -> list[Step]:
        steps, run = self._planned
        if run is None or block.start not in steps or block[-1] not in steps:
            stop = min(self._plan.block(block.start, self._run_rows).stop, block.start + RUN_STEPS)
            last = self._plan.block(stop - 1, self._maker.block_rows)
            # Whole blocks: one that reaches beyond the run begins the next one.
            steps = range(block.start, max(stop if last.stop == stop else last.start, block.stop))
            run = self._maker.run(self._plan.step_rows(steps))
            self._planned = (steps, run)
            if self._advice is not None:
                self._advice.expect(run.rows)
        return run.steps(block.start - steps.start, block.stop - steps.start)

    def all(self) -> Iterator[Block]:
        """Yield all blocks in their order."""
        step = self._first
        while step < self._plan.num_steps:
            block = self.block(step)
            yield self.make(block)
            step = block.stop

    def _clipped(self, steps: range) -> range:
        return range(max(steps.start, self._first), steps.stop)


class StepStream:
    """The steps of an epoch from one step on.

    Steps in the order of the epoch come from the block that is held or from the thread; others are gathered again.

    Args:
        maker: Makes the tensors.
        plan: The rows of the epoch.
        first: The first step; nothing before it is read.
        ahead: Work ahead in a thread.
        advice: Asks for pages before they are read.
        shards: The shards that are expected, if the cache is lazy.
    """

    def __init__(
        self,
        maker: StepMaker,
        plan: EpochPlan,
        first: int,
        ahead: bool,
        advice: PageAdvice | None = None,
        shards: ExpectedShards | None = None,
    ):
        self._maker = _Maker(maker, plan, first, advice, None if ahead else shards)
        self._held = Block(range(0), [], None)
        self._next: Block | None = None
        self._items = Prefetched(_Maker(maker, plan, first, advice, shards).all(), PREFETCH_BLOCKS) if ahead else None

    def __getitem__(self, step: int) -> Step:
        """Return one step, a new dictionary over tensors that are shared with its block."""
        if step not in self._held.steps:
            wanted = self._maker.block(step)
            self._held = self._taken(wanted) or self._maker.make(wanted)
        return self._held.step(step)

    def _taken(self, wanted: range) -> Block | None:
        """Return the block from the thread; None where the thread is past it (an index went back) or in a parent."""
        if self._items is None or not self._items.is_here:
            return None
        while self._next is None or self._next.steps.start < wanted.start:
            try:
                self._next = next(self._items)
            except StopIteration:
                return None
        return self._next if self._next.steps == wanted else None

    def close(self) -> None:
        """End the background thread."""
        if self._items is not None:
            self._items.close()
