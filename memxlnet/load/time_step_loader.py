"""The time-step-major loader: documents in fixed lanes, segment by segment."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Generic, Literal, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray

from memxlnet.errors import CacheMismatchError, SettingsError
from memxlnet.format.padding import Padding, RowWidths
from memxlnet.load.aligned_plan import AlignedPlan
from memxlnet.load.cache_dataset import CacheDataset
from memxlnet.load.compat import Compat, check_whole_rows
from memxlnet.load.deferred import DeferredBatches, as_it_is
from memxlnet.load.devices import Device, Transfer, check_device
from memxlnet.load.document_group import Group, Position
from memxlnet.load.document_ids import DocumentIds, DocumentMap
from memxlnet.load.epoch_plan import EpochSize
from memxlnet.load.length_grouping import Deal, Lengths, dealt, grouped
from memxlnet.load.loader_options import (
    Item,
    StreamSettings,
    TrainingOptions,
    can_pin,
    check_batch_size,
    check_dataset,
    check_fields,
    check_labelled,
    check_read_once,
    check_workers,
    find_ranks,
    metadata_names,
    schedule,
)
from memxlnet.load.option_literals import Align, Dtype, EndedLabel, Lanes, Metadata, OrderBy, Window
from memxlnet.load.page_advice import advised
from memxlnet.load.refilled_plan import RefilledPlan
from memxlnet.load.seeded_random import Ints, Order, check_seed, shuffled
from memxlnet.load.segment_windows import DocumentWindows
from memxlnet.load.shard_order import blocks_of, by_block, in_groups, in_lanes, layout_of
from memxlnet.load.shards_ahead import check_order, expected
from memxlnet.load.step_stream import StepStream
from memxlnet.load.steps import Step, StepMaker
from memxlnet.notebook import html_table
from memxlnet.settings import check_bool, whole_number

STATE_VERSION = 2


class TimeStepMajorDataLoader(Generic[Item]):
    """Feeds documents segment by segment, so that recurrent memory flows along each document.

    **Aligned** lanes: iterating yields one `Group` for each `batch_size` documents, a sequence of steps; step t is a
    dictionary of the t-th segments, or with ``align="end"`` of those that are as far from the last one. **Refilled**
    lanes: iterating yields steps; where a document ends, its lane continues with another one, and only the end of an
    epoch holds padding. With B lanes and rows of W tokens a step holds

    - ``input_ids``, ``attention_mask``, ``token_type_ids`` [B, W] and ``start_positions``, ``end_positions`` [B]:
      int64 or as stored;
    - ``document_mask`` bool[B]: False where the lane's document has ended, or has not begun, and ``num_active``, the
      number of others;
    - ``reset`` bool[B] and ``is_last`` bool[B]: the first and the last segment that is read of a document;
    - ``rows`` int64[B] rows of the cache and ``segment_index`` int64[B], both -1 in ended lanes;
    - ``cls_index`` int64[B]; ``mem_read_start`` and ``mem_write_start`` int64[B], -1 without memory tokens;
    - ``example_ids``: ids of the lanes' documents; of aligned lanes the same at every step of a group;
    - what `metadata` names, a list of B values, None in ended lanes (``context_mask``: bool[B, W]).

    W is `max_seq_length`; with ``padding="longest"`` it is the length of the step's longest row, rounded up, and every
    position of the step counts in the rows as they are cut.

    Ended lanes hold padding with attention on the ``cls`` position alone. No tensor is a view of the map; those of a
    step are views of a block of steps that were gathered together: clone what is kept for long.

    The stream of steps is a pure function of the cache, the settings and the epoch. An iteration that runs to its end
    moves on to the next epoch; `set_epoch` sets it. `state_dict` says what has been handed out, and a loader that is
    given it resumes there.

    Type checkers know the type of the items: a loader with aligned lanes is a ``TimeStepMajorDataLoader[Group]``, one
    with refilled lanes a ``TimeStepMajorDataLoader[Step]``; with `compat` the items are of any type.

    Over several ranks the documents are distributed so that all ranks have the same number of steps; each rank has
    its own lanes.

    Args:
        dataset: A dataset over a cache.
        batch_size: Lanes of this rank.
        shuffle: Permute the documents; the segments of one stay in order.
        max_segments: Read a window of at most this many segments of each document; a sequence has one entry for each
            epoch, the last one for all later ones. None reads all.
        num_workers: 0 gathers in the caller; 1 or more works ahead in one background thread.
        seed: Seed of every random choice.
        drop_last: Leave out the last group where it has fewer documents; with refilled lanes, end an epoch where the
            first lane is done.
        lanes: ``"aligned"`` or ``"refilled"``.
        align: ``"start"``: the documents of a group begin together; ``"end"``: they end together, shorter ones begin
            later. Aligned lanes only.
        order: ``"documents"``, or ``"shards"``: with `shuffle`, blocks of a few shards are permuted, and documents
            within their block, so that an epoch reads few shards at a time, as suits a cache that was pulled with
            ``lazy=True``. Each rank reads blocks of its own. States hold for the same number of ranks and for caches
            of the same shards.
        group_by_length: Documents of similar length, in segments and in tokens of the last one, form a group; lanes
            that are refilled read such documents side by side.
        window: ``"first"``, ``"random"`` (another one each epoch) or ``"answer"`` (random, but holding a segment with
            the answer).
        evaluation: Every document exactly once across ranks: refuses ``drop_last`` and windows around the answer, and
            takes unlabelled documents, which are refused otherwise. `max_segments` still cuts documents short: the rows
            that it leaves out are not read, and an `AnswerCollector` then misses them.
        dtype: ``"int64"`` for any transformers model, ``"stored"`` for the types of the file, which XLNet takes.
        ended_label: Answer positions of ended lanes: ``"ignore"`` is the width of the step, which the question
            answering heads of BERT and XLNet's Simple ignore; ``"cls"`` is the ``cls`` position.
        metadata: Names of what steps hold besides; True for all.
        padding: ``"max_length"`` keeps rows as they are stored; ``"longest"`` cuts the rows of each step, on the
            padding side, to its longest: a model then computes on tokens.
        pad_to_multiple_of: Round the width of a step up to a multiple, at most `max_seq_length`: fewer shapes.
        pin_memory: Put the tensors into page-locked memory, where there is CUDA.
        device: Where the tensors of steps are; None leaves them on the CPU, or on the device of the dataset. To CUDA
            they are copied from page-locked memory on a separate stream, and are safe to use on the current one;
            with ``num_workers=1`` the copies are ahead of the steps.
        compat: ``"memxlnet-0"`` gives steps the keys and values of the earlier code base, all metadata included; None
            those that the dataset was opened with.
        rank: Number of this process; None asks `torch.distributed`, or the environment as torchrun sets it.
        world_size: Number of processes.

    Raises:
        SettingsError: An argument is wrong, or documents are unlabelled without ``evaluation=True``.
    """

    @overload
    def __init__(
        self: "TimeStepMajorDataLoader[Group]",
        dataset: CacheDataset,
        batch_size: int = 8,
        shuffle: bool = False,
        max_segments: int | Sequence[int] | None = None,
        *,
        num_workers: int = 0,
        lanes: Literal["aligned"] = "aligned",
        compat: None = None,
        **options: Unpack[TrainingOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: "TimeStepMajorDataLoader[Step]",
        dataset: CacheDataset,
        batch_size: int = 8,
        shuffle: bool = False,
        max_segments: int | Sequence[int] | None = None,
        *,
        num_workers: int = 0,
        lanes: Literal["refilled"],
        compat: None = None,
        **options: Unpack[TrainingOptions],
    ) -> None: ...

    @overload
    def __init__(
        self: "TimeStepMajorDataLoader[Any]",
        dataset: CacheDataset,
        batch_size: int = 8,
        shuffle: bool = False,
        max_segments: int | Sequence[int] | None = None,
        *,
        num_workers: int = 0,
        lanes: Lanes = "aligned",
        compat: Compat | None = None,
        **options: Unpack[TrainingOptions],
    ) -> None: ...

    def __init__(
        self,
        dataset: CacheDataset,
        batch_size: int = 8,
        shuffle: bool = False,
        max_segments: int | Sequence[int] | None = None,
        *,
        num_workers: int = 0,
        seed: int = 0,
        drop_last: bool = False,
        lanes: Lanes = "aligned",
        align: Align = "start",
        order: OrderBy = "documents",
        group_by_length: bool = False,
        window: Window = "first",
        evaluation: bool = False,
        dtype: Dtype = "int64",
        ended_label: EndedLabel = "ignore",
        metadata: Metadata = False,
        padding: Padding = "max_length",
        pad_to_multiple_of: int | None = None,
        pin_memory: bool = False,
        device: Device = None,
        compat: Compat | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        self.dataset = check_dataset(dataset).with_compat(compat)
        if not check_bool("evaluation", evaluation):
            check_labelled(self.dataset)
        else:
            check_read_once(self.dataset)
        self.batch_size = check_batch_size(batch_size)
        self._works_ahead = check_workers(num_workers) > 0
        self.ranks = find_ranks(rank, world_size)
        manifest, by_shards = dataset.manifest, order == "shards"
        self.settings = StreamSettings(
            global_batch_size=self.batch_size * self.ranks.world_size,
            shuffle=shuffle,
            seed=check_seed(seed),
            drop_last=drop_last,
            lanes=lanes,
            align=align,
            group_by_length=group_by_length,
            max_segments=schedule(max_segments),
            window=window,
            evaluation=evaluation,
            dtype=dtype,
            ended_label=ended_label,
            order=order,
            world_size=self.ranks.world_size if by_shards else None,
            blocks=layout_of(manifest.tables["features"]) if by_shards else None,
        )
        check_order(self.dataset, order, shuffle, group_by_length, window)
        self.epoch = 0
        pinned = check_bool("pin_memory", pin_memory) and can_pin()
        self._widths = RowWidths(manifest.layout, manifest.max_seq_length, padding, pad_to_multiple_of)
        check_whole_rows(self.dataset.compat, self._widths.cuts)
        self.device = check_device(device) or dataset.device
        transfer = None if self.device is None else Transfer(self.device)
        names = metadata_names(metadata, manifest.kept)
        self._maker = StepMaker(self.dataset, dtype, ended_label, self._widths, names, pinned, transfer)
        self._plans: tuple[int, AlignedPlan | RefilledPlan] | None = None
        self._resume: Position | None = None
        self._position: Position | None = None
        # What Accelerate's skip_first_batches, and with it the Trainer of transformers, makes another loader of.
        self.sampler = self.batch_sampler = DeferredBatches(self.__len__, self._start_at, self.set_epoch)
        self.collate_fn = as_it_is
        self.prefetch_factor = None  # else that function takes torch's default, which torch then refuses

    def __repr__(self) -> str:
        words = ", ".join(f"{name}={value!r}" for name, value in self._shown_settings().items())
        return f"{type(self).__name__}({self.dataset.directory.name!r}, {words}, {self._place()})"

    def _repr_html_(self) -> str:
        rows = {"dataset": repr(self.dataset), **self._shown_settings(), "place": self._place()}
        return html_table(type(self).__name__, rows)

    def _shown_settings(self) -> dict[str, Any]:
        settings = self.settings
        shown = {"batch_size": self.batch_size, "shuffle": settings.shuffle, "lanes": settings.lanes}
        return shown | {"max_segments": self.max_segments, "evaluation": settings.evaluation, **self.ranks._asdict()}

    def _place(self) -> str:
        state = self.state_dict()
        return f"epoch {state['epoch']}, step {state['step']} of {self._plan(state['epoch']).num_steps}"

    @property
    def shuffle(self) -> bool:
        """Whether the documents are permuted."""
        return self.settings.shuffle

    @property
    def max_segments(self) -> int | None:
        """Segments of a document at most in the epoch that is read or comes next; None for all."""
        return self.settings.most_segments(self.epoch)

    @property
    def documents(self) -> DocumentIds:
        """The ids of all documents, in the order of the source."""
        return self.dataset.get_all_documents()

    @property
    def document_segments(self) -> DocumentMap:
        """From a document's id to the rows of its segments."""
        return self.dataset.document_map

    @property
    def max_doc_segments(self) -> int:
        """Segments that are read of a document at most."""
        longest, most = int(self.dataset.documents.num_segments.max()), self.max_segments
        return longest if most is None else min(longest, most)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that the next iteration reads; one that was resumed within this epoch still resumes there."""
        epoch = whole_number("epoch", epoch, 0)
        if epoch != self.epoch:
            self.epoch = epoch
            self._resume = self._position = None
        elif self._position is not None and self._position.is_done:
            self._position = None

    def __len__(self) -> int:
        """Return the number of groups, or of steps with refilled lanes, of the epoch that is read or comes next."""
        plan = self._plan(self.epoch)
        return plan.num_groups if isinstance(plan, AlignedPlan) else plan.num_steps

    def epoch_size(self, epoch: int | None = None) -> EpochSize:
        """Return what an epoch costs in rows, steps and tokens, and what is padding: from number columns alone.

        Args:
            epoch: Number of the epoch; None for the one that is read or comes next.
        """
        return self._plan(self.epoch if epoch is None else whole_number("epoch", epoch, 0)).size(self._widths)

    def __iter__(self) -> Iterator[Item]:
        """Yield the groups of an epoch, or its steps with refilled lanes."""
        if self._position is not None and self._position.is_done and self._position.epoch == self.epoch:
            self.epoch += 1  # the last iteration gave all steps, but was not asked for one more
        epoch = self.epoch
        resumed, self._resume = self._resume, None
        first = resumed.next_step if resumed is not None else 0
        plan = self._plan(epoch)
        # Groups of iterations before the newest continue to count in a position that is not read.
        position = self._position = Position(epoch, plan.num_steps, first)
        at_random = self.settings.shuffle or self.settings.group_by_length
        with (
            advised(self.dataset, at_random) as advice,
            expected(self.dataset, plan, first) as shards,
            closing(StepStream(self._maker, plan, first, self._works_ahead, advice, shards)) as stream,
        ):
            if isinstance(plan, AlignedPlan):
                groups: Iterator[Any] = self._groups(plan, stream, position)
                yield from groups
            else:
                for step in range(first, plan.num_steps):
                    found: Any = stream[step]
                    position.next_step = step + 1
                    yield found
        position.next_step = position.num_steps
        if self._position is position and self.epoch == epoch:
            self.epoch += 1

    def endless(self) -> Iterator[Item]:
        """Yield the groups of endless epochs, or the steps with refilled lanes.

        Raises:
            SettingsError: An epoch has no step.
        """
        while True:
            if not self._plan(self.epoch).num_steps:
                raise SettingsError(f"drop_last: expected an epoch with steps, found none in {self.dataset!r}")
            yield from self

    def state_dict(self) -> dict[str, Any]:
        """Return where the training loop is: the epoch, the step in it that comes next, and what both hold for.

        It counts what was handed out, not what was prefetched. At most 1 KiB as JSON.
        """
        epoch, step = self.epoch, 0
        if self._position is not None:
            epoch, step = self._position.epoch, self._position.next_step
            if self._position.is_done:
                epoch, step = epoch + 1, 0
        bound = {"version": STATE_VERSION, "fingerprint": self.dataset.fingerprint}
        return {**bound, **self.settings.state, "epoch": epoch, "step": step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where a state was taken: the next iteration begins with the step that comes next.

        The number of ranks may differ as long as all lanes together are as many.

        Args:
            state: What `state_dict` gave, on any rank.

        Raises:
            CacheMismatchError: The state is of another cache.
            SettingsError: The state is of a loader with other settings, or is not one.
        """
        own = self.state_dict()
        check_fields(state, own)
        if state["fingerprint"] != own["fingerprint"]:
            raise CacheMismatchError(
                f"state: expected the fingerprint {own['fingerprint']} of {self.dataset.directory}, found "
                f"{state['fingerprint']!r}: it was taken over another cache, view or mixture"
            )
        for name in ("version", *self.settings.state):
            if repr(state[name]) != repr(own[name]):  # 1, 1.0 and True are three things
                raise SettingsError(
                    f"state: {name}: expected {own[name]!r} as in this loader, found {state[name]!r}; make the loader "
                    "with the settings of the state, or start over"
                )
        epoch, step = (whole_number(f"state: {name}", state[name], 0) for name in ("epoch", "step"))
        steps = self._plan(epoch).num_steps
        if step > max(steps - 1, 0):
            raise SettingsError(f"state: step: expected one of {steps} in epoch {epoch}, found {step}")
        self.epoch = epoch
        self._resume = self._position = Position(epoch, steps, step) if step else None

    def _start_at(self, number: int) -> Iterator[Item]:
        """Return the groups, or steps with refilled lanes, of the epoch that comes next, from one of them on."""
        plan = self._plan(self.epoch)
        step = int(plan.group_starts[number]) if isinstance(plan, AlignedPlan) else number
        self._resume = self._position = Position(self.epoch, plan.num_steps, step)
        return iter(self)

    def _groups(self, plan: AlignedPlan, stream: StepStream, position: Position) -> Iterator[Group]:
        first = position.next_step
        for number, steps in plan.groups(plan.group_of(first)):
            start = max(steps.start, first)
            position.next_step = start
            ids = partial(self._ids, plan, number)
            yield Group(stream, range(start, steps.stop), number, start - steps.start, ids, position)

    def _ids(self, plan: AlignedPlan, group: int) -> DocumentIds:
        return self._maker.example_ids(plan.documents_of(group))

    def _plan(self, epoch: int) -> AlignedPlan | RefilledPlan:
        if self._plans is None or self._plans[0] != epoch:
            self._plans = None
            self._plans = (epoch, self._make_plan(epoch))
        return self._plans[1]

    def _make_plan(self, epoch: int) -> AlignedPlan | RefilledPlan:
        settings = self.settings
        most = settings.most_segments(epoch)
        dataset = self.dataset.at_epoch(epoch)
        windows = DocumentWindows(
            dataset.documents,
            most,
            settings.window,
            settings.seed,
            epoch,
            self._answer_flags,
            lambda: dataset.document_map.last_tokens,
            self.dataset.manifest.max_seq_length,
        )
        order = self._order(windows, epoch)
        if isinstance(order, Deal) or settings.lanes == "refilled":
            return RefilledPlan(windows, order, self.batch_size, self.ranks, settings.drop_last)
        return AlignedPlan(windows, order, self.batch_size, self.ranks, settings.drop_last, settings.align == "end")

    def _order(self, windows: DocumentWindows, epoch: int) -> Order | Deal | None:
        settings = self.settings
        if settings.group_by_length:
            lengths = Lengths(windows.counts, windows.last_tokens, windows.row_tokens)
            kind = grouped if settings.lanes == "aligned" else dealt
            return kind(lengths, settings.global_batch_size, settings.seed, epoch, settings.shuffle)
        if settings.order == "shards":
            blocks = blocks_of(self.dataset.manifest.tables["features"], windows.documents.first_segment)
            by_shards = by_block(blocks, settings.seed, epoch, settings.shuffle)
            if settings.lanes == "refilled":
                return in_lanes(by_shards, blocks, windows, self.batch_size, self.ranks)
            return in_groups(by_shards, self.batch_size, self.ranks)
        return shuffled(len(windows.counts), settings.seed, epoch) if settings.shuffle else None

    def _answer_flags(self, rows: Ints) -> NDArray[np.int8]:
        found = self.dataset.tensors.gather(torch.from_numpy(rows), ("has_answer_in_segment",))
        flags: NDArray[np.int8] = found["has_answer_in_segment"].numpy()
        return flags
