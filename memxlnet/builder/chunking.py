"""Cutting a source into chunks, counted in examples and in the RAM that encoding them will take."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from memxlnet.builder.encoding_cost import CostModel
from memxlnet.builder.label_counts import LabelCounts
from memxlnet.encode.examples import BadExample, Example, bad_example, has_answers, parse_example
from memxlnet.encode.kept_values import KeptFields
from memxlnet.encode.repeated_ids import Ids
from memxlnet.errors import ExampleError, MemoryLimitError
from memxlnet.settings import BuildSettings, EncodeSettings
from memxlnet.sources import Source
from memxlnet.system_errors import read_from

logger = logging.getLogger(__name__)

CHUNK_SHARE = 0.1
"""Share of the bound that a chunk of several examples may take: a few are in progress, and the process has needs."""

MAX_CHUNK_COST = 256 * 2**20
"""Bytes that a chunk of several examples may take under any bound: work is handed out in small pieces."""

TEXT_SHARE = 0.25
"""Share of the bound that a chunk of several examples on one long text may take."""


def chunk_budget(build: BuildSettings) -> int:
    """Return the bytes that a chunk of several examples may take."""
    return min(int(build.max_memory_bytes * CHUNK_SHARE), MAX_CHUNK_COST)


def text_budget(build: BuildSettings) -> int:
    """Return the bytes that a chunk of several examples on one long text may take."""
    return int(build.max_memory_bytes * TEXT_SHARE)


def shown_cut(chunk_size: int, build: BuildSettings) -> str:
    """Return what decides where chunks are cut."""
    return f"{chunk_size} examples, {chunk_budget(build)} bytes, {text_budget(build)} on one text"


@dataclass(frozen=True)
class Chunk:
    """The unit of streaming work.

    Attributes:
        index: Number of the chunk, from 0.
        examples: Its examples in order of rows, bad ones included.
        cost: Estimated bytes that encoding it takes.
        kept: The kept fields of its good examples, one row each; None where nothing is kept.
    """

    index: int
    examples: list[Example | BadExample]
    cost: int
    kept: pa.RecordBatch | None = None

    def shown(self) -> str:
        """Return the chunk in a message: its number and the ids of its first examples."""
        ids = [repr(example.id) for example in self.examples[:3]]
        more = f" and {len(self.examples) - 3} more" if len(self.examples) > 3 else ""
        return f"chunk {self.index} (examples {', '.join(ids)}{more})"


def read_chunks(
    source: Source, encode: EncodeSettings, build: BuildSettings, chunk_size: int, labels: LabelCounts | None = None
) -> Iterator[Chunk]:
    """Cut a source into chunks; the same source and settings always give the same ones.

    Args:
        source: Where the examples come from.
        encode: ``max_examples`` ends the reading; ``on_bad_example`` and ``on_repeated_id`` decide what a malformed row
            and a repeated id do.
        build: ``max_memory_gb`` closes a chunk early.
        chunk_size: Examples in a chunk at most.
        labels: Counts the labels that are read.

    Raises:
        ExampleError: A row is malformed or its id repeats, and bad examples are errors; or a kept field changes its
            type, or has none.
        MemoryLimitError: One example alone does not fit.
        SourceError: The source cannot be read.
    """
    fields = KeptFields(source.name, source.place, encode) if encode.keep else None
    examples = read_examples(source, encode, labels, fields)
    parts = CostModel(encode).cut(examples, chunk_size, chunk_budget(build), text_budget(build))
    ids = Ids(source.place, encode)
    for index, (part, cost) in enumerate(read_from(source.name, parts)):
        if cost > build.max_memory_bytes:
            example = part[0]
            raise MemoryLimitError(
                f"{source.name}, example {example.id!r} (row {example.row}): encoding it may take "
                f"{cost / 2**30:.2f} GiB; expected at most max_memory_gb {build.max_memory_gb:g} for all of the build; "
                "raise it, or set max_n_segs"
            )
        checked = ids.check(part)
        kept = fields and fields.batch([example for example in checked if isinstance(example, Example)])
        yield Chunk(index, checked, cost, kept)
    if fields is not None:
        fields.log_missing()
    if ids.numbered:
        logger.info("%s: %d examples with a repeated id were numbered", source.name, ids.numbered)


def read_examples(
    source: Source,
    settings: EncodeSettings,
    labels: LabelCounts | None = None,
    fields: KeptFields | None = None,
) -> Iterator[Example | BadExample]:
    """Yield the examples of a source in order, as many as the settings ask for.

    Raises:
        ExampleError: A row is malformed, or has no field ``answers`` after one that has it, and bad examples are
            errors; or the first example lacks a field that is to be kept.
        SourceError: The source cannot be read.
    """
    is_labelled = False
    for row, raw in enumerate(source.rows()):
        is_labelled = is_labelled or has_answers(raw)
        try:
            example = parse_example(row, raw, source.place, settings.on_contradiction, is_labelled)
        except ExampleError as error:
            if settings.on_bad_example == "error":
                raise
            yield bad_example(row, raw, error)
        else:
            if labels is not None:
                labels.add(example, raw)
            yield example if fields is None else example._replace(kept=fields.of(example, raw))
        if row + 1 == settings.max_examples:
            return
