"""The settings of a build, checked at construction.

`EncodeSettings` holds what changes the values of a cache and therefore its fingerprint; `BuildSettings` holds how the
work is done, which never changes a byte of the result (except ``max_shard_rows``, which cuts the files elsewhere).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, get_args

from arrow_schemas import RESERVED
from memxlnet.errors import SettingsError

DEFAULT_MAX_SEQ_LENGTH = 384
"""Tokens in a row: the length of the published SQuAD recipes."""

DEFAULT_DOC_STRIDE = 128
"""Tokens that two consecutive segments share: an answer of up to this length is whole in at least one segment."""

EARLIER_DOC_STRIDE = 64
"""That of the calls of the earlier code base which had another default."""

DEFAULT_STREAMING_CHUNK_SIZE = 1000
"""Examples in a chunk: enough to keep the tokenizer's batches full, about 10 MB of features."""

DEFAULT_MAX_MEMORY_GB = 8.0
"""Bound on the RAM of a build, in GiB."""

DEFAULT_CACHE_DIR = "./memxlnet-cache"
"""Directory of the caches where none is named."""

MAX_EAGER_EXAMPLES = 1000
"""The most examples for which ``use_streaming=False`` is honoured."""

MAX_SEQ_LENGTH_LIMIT = 2**31 - 1
"""Values below one Arrow array."""

OnBadExample = Literal["error", "drop"]
OnContradiction = Literal["error", "unanswerable", "answers"]
OnRepeatedId = Literal["error", "number"]

Keep = Literal["all"] | Collection[str]
"""Further fields of the examples that a cache keeps: their names, or all."""


Word = TypeVar("Word", bound=str)


def whole_number(name: str, value: object, least: int, hint: str = "") -> int:
    """Check that a setting is an integer of at least `least` and return it as an int.

    Raises:
        SettingsError: It is not; bools are not numbers here, NumPy's integers are.
    """
    if isinstance(value, bool) or not isinstance(value, int | Integral) or int(value) < least:
        expected = f"above {least - 1}" if least == 1 else f"of at least {least}"
        raise SettingsError(f"{name}: expected an integer {expected}{hint}, found {value!r}")
    return int(value)


def positive_int(name: str, value: object, hint: str = "") -> int:
    """Check that a setting is an integer above 0 and return it as an int.

    Raises:
        SettingsError: It is not.
    """
    return whole_number(name, value, 1, hint)


def one_of(name: str, value: str, choices: Sequence[Word]) -> Word:
    """Check that a setting is one of several words and return it.

    Raises:
        SettingsError: It is not.
    """
    found = [choice for choice in choices if isinstance(value, str) and choice == value]
    if not found:
        raise SettingsError(f"{name}: expected {' or '.join(map(repr, choices))}, found {value!r}")
    return found[0]  # a plain string, where the value is of an enumeration or of NumPy


def count_or_share(name: str, value: object) -> int | float | None:
    """Check that a setting is a count, or a share from 0.0 to 1.0, or None, and return it as an int or a float.

    Raises:
        SettingsError: It is not.
    """
    if value is None:
        return None
    if isinstance(value, int | Integral) and not isinstance(value, bool) and int(value) >= 0:
        return int(value)
    if isinstance(value, Real) and not isinstance(value, int | Integral) and 0 <= float(value) <= 1:
        return float(value)
    raise SettingsError(
        f"{name}: expected a count (an integer of at least 0), a share (a float from 0.0 to 1.0) or None, found "
        f"{value!r}"
    )


def check_bool(name: str, value: object) -> bool:
    """Check that a setting is a bool and return it.

    Raises:
        SettingsError: It is not.
    """
    if not isinstance(value, bool):
        raise SettingsError(f"{name}: expected True or False, found {value!r}")
    return value


def check_text(name: str, value: object) -> str:
    """Check that a setting is text that a file name or a JSON file can hold, and return it.

    Raises:
        SettingsError: It is not a string, is empty, or holds a NUL character or half of a surrogate pair.
    """
    if not isinstance(value, str):
        raise SettingsError(f"{name}: expected a string, found {value!r}")
    if not value.strip() or "\0" in value:
        raise SettingsError(f"{name}: expected a non-empty string without NUL characters, found {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SettingsError(f"{name}: expected valid Unicode, found {value!r} (half of a surrogate pair)") from None
    return value


def check_keep(value: object) -> Literal["all"] | tuple[str, ...]:
    """Check the names of the fields that are kept, and return them sorted, or ``"all"``; None keeps none.

    Raises:
        SettingsError: They are not names, one repeats, or one is the name of something else.
    """
    if value is None:
        return ()
    if isinstance(value, str) and value == "all":
        return "all"
    if isinstance(value, str | bytes) or not isinstance(value, Collection):
        raise SettingsError(f"keep: expected a list of names of fields, or 'all', found {value!r}")
    names = [check_text("keep", name) for name in value]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SettingsError(f"keep: expected each name once, found {repeated} more than once")
    taken = sorted(RESERVED.intersection(names))
    if taken:
        raise SettingsError(
            f"keep: expected further fields of the examples, found {taken}, which every cache holds or which rows and "
            "steps have; leave them out, or rename the fields with transform="
        )
    return tuple(sorted(names))


Settings = TypeVar("Settings")


def settings_of(kind: type[Settings], arguments: Mapping[str, Any]) -> Settings:
    """Make settings of a kind from the arguments that have the names of its fields.

    Args:
        kind: A dataclass.
        arguments: All arguments of a call by name; others are left out.

    Raises:
        SettingsError: One of them is wrong.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: arguments[name] for name in names if name in arguments})


def set_field(settings: object, name: str, value: object) -> None:
    """Set a field of a frozen dataclass at its construction: a NumPy value becomes a plain one, as JSON needs it."""
    object.__setattr__(settings, name, value)


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """What changes the values of a cache.

    Attributes:
        max_seq_length: Tokens in a row, special and memory tokens and padding included.
        doc_stride: Overlap of two consecutive segments in tokens of the context (``stride`` in `tokenizers`), not
            the distance between their starts.
        max_n_segs: Keep at most this many segments of a document, the first ones; None keeps all.
        max_examples: Read at most this many examples; None reads all.
        insert_memory_tokens: Put the tokenizer's memory tokens, where it has them, into every segment.
        on_bad_example: ``"error"`` stops at the first bad example, ``"drop"`` counts it with its id and reason.
        on_contradiction: What to do with contradictory labels: ``"error"`` makes the example a bad one.
            ``"unanswerable"`` and ``"answers"`` count it and keep it: without its answers, or with them, where
            ``is_impossible`` is true with answers; as unanswerable where it is false without any, or where every
            answer is blank; without its blank answers where some are.
        on_repeated_id: ``"error"`` makes an example bad if an earlier one has its id; ``"number"`` gives it the first
            of ``ID#2``, ``ID#3``, ... that no earlier example has.
        keep: Names of further fields of the examples that the table ``kept`` holds, or ``"all"``; a sorted tuple.
    """

    max_seq_length: int = DEFAULT_MAX_SEQ_LENGTH
    doc_stride: int = DEFAULT_DOC_STRIDE
    max_n_segs: int | None = None
    max_examples: int | None = None
    insert_memory_tokens: bool = True
    on_bad_example: OnBadExample = "error"
    on_contradiction: OnContradiction = "error"
    on_repeated_id: OnRepeatedId = "error"
    keep: Keep = ()

    def __post_init__(self) -> None:
        length = positive_int("max_seq_length", self.max_seq_length)
        if length > MAX_SEQ_LENGTH_LIMIT:
            raise SettingsError(f"max_seq_length: expected at most {MAX_SEQ_LENGTH_LIMIT}, found {length}")
        set_field(self, "max_seq_length", length)
        set_field(self, "doc_stride", whole_number("doc_stride", self.doc_stride, 0))
        for name, what in (("max_n_segs", "segments"), ("max_examples", "examples")):
            if getattr(self, name) is not None:
                set_field(self, name, positive_int(name, getattr(self, name), f" (or None for all {what})"))
        check_bool("insert_memory_tokens", self.insert_memory_tokens)
        for name, words in (
            ("on_bad_example", OnBadExample),
            ("on_contradiction", OnContradiction),
            ("on_repeated_id", OnRepeatedId),
        ):
            set_field(self, name, one_of(name, getattr(self, name), get_args(words)))
        set_field(self, "keep", check_keep(self.keep))

    def fields(self) -> dict[str, Any]:
        """Return the settings by name, as JSON values; without ``keep`` where nothing is kept."""
        found = asdict(self)
        if not self.keep:
            del found["keep"]
        elif self.keep != "all":
            found["keep"] = list(self.keep)
        return found


@dataclass(frozen=True, kw_only=True)
class BuildSettings:
    """How a build does its work.

    Attributes:
        streaming_chunk_size: Examples in a chunk.
        max_memory_gb: Bound on the RAM of the process and its children while it builds, in GiB; pages of mapped
            files do not count. A chunk is closed early when its estimated cost nears its share of the bound.
        use_streaming: False encodes up to `MAX_EAGER_EXAMPLES` examples at once; above, streaming switches on.
        max_shard_rows: Rows of a features shard at most; None allows what one Arrow array may hold.
        progress: Show a progress bar; None shows it where standard error is a terminal.
        rebuild: Build again even where a cache exists.
        num_workers: Worker processes; 0 encodes in this process, None chooses by the size of the source and the cores.
            With an executor: chunks that it is given at once.
        max_dropped: Examples that may give no document (``on_bad_example="drop"``): an int is a count, a float a share
            of all examples, 0 to 1. None allows all. Where there are more, nothing is published.
        max_lost_answers: Answers that may be lost, in the same way: those that do not occur in their context
            (alignment ``"dropped"``), and those that no segment holds whole. A share is one of the documents whose
            answer is, or should be, a text of their context.
    """

    streaming_chunk_size: int = DEFAULT_STREAMING_CHUNK_SIZE
    max_memory_gb: float = DEFAULT_MAX_MEMORY_GB
    use_streaming: bool = True
    max_shard_rows: int | None = None
    progress: bool | None = None
    rebuild: bool = False
    num_workers: int | None = None
    max_dropped: int | float | None = None
    max_lost_answers: int | float | None = None

    def __post_init__(self) -> None:
        set_field(self, "streaming_chunk_size", positive_int("streaming_chunk_size", self.streaming_chunk_size))
        bound = self.max_memory_gb
        if isinstance(bound, bool) or not isinstance(bound, Real) or not 0 < bound < float("inf"):
            raise SettingsError(f"max_memory_gb: expected a number above 0 (GiB), found {bound!r}")
        if self.max_shard_rows is not None:
            rows = positive_int("max_shard_rows", self.max_shard_rows, " (or None for the limit of Arrow)")
            set_field(self, "max_shard_rows", rows)
        for name in ("use_streaming", "rebuild"):
            check_bool(name, getattr(self, name))
        if self.num_workers is not None:
            workers = whole_number("num_workers", self.num_workers, 0, " (or None to choose)")
            set_field(self, "num_workers", workers)
        if self.progress is not None and not isinstance(self.progress, bool):
            raise SettingsError(f"progress: expected True, False or None, found {self.progress!r}")
        for name in ("max_dropped", "max_lost_answers"):
            set_field(self, name, count_or_share(name, getattr(self, name)))

    @property
    def max_memory_bytes(self) -> int:
        """The bound in bytes."""
        return int(min(self.max_memory_gb, 2**40) * 2**30)
