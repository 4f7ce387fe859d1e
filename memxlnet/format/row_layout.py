"""What stands where in a row."""

from dataclasses import asdict, dataclass
from typing import Any

from memxlnet.errors import SettingsError
from memxlnet.settings import EncodeSettings


@dataclass(frozen=True)
class RowLayout:
    """What stands where in a row: special tokens, the two texts, memory tokens, padding.

    A row is ``prefix first middle second suffix``, padded on one side. The first text is the context where padding is
    on the left (as XLNet has it), else the question. Memory tokens stand directly after the context (write) and
    directly before the question (read), with the segment ids of these sides.

    Segment ids are those of the template of a pair, in every window. transformers gives the same ids, except to the
    texts of all windows but a document's first, which have 0 and 1 there even where the template has other ids (0 and
    0 for XLM-R, CamemBERT and T5). Models of these tokenizers take no segment ids, or know 0 alone.

    Attributes:
        context_first: Whether the context is the first text.
        prefix: Ids of the special tokens before the first text.
        middle: Those between the texts.
        suffix: Those after the second text.
        prefix_types: Segment ids of the prefix.
        middle_types: Those of the middle.
        suffix_types: Those of the suffix.
        first_type: Segment id of the first text's tokens.
        second_type: Segment id of the second text's tokens.
        pad_left: Whether padding is on the left.
        pad_id: Id of the padding token.
        pad_type: Segment id of padding.
        cls_id: Id of the ``cls`` token, to which segments without an answer point.
        memory_read_ids: Ids of the memory tokens that read, in slot order; empty for none.
        memory_write_ids: Ids of those that write.
        split_special_tokens: Whether special tokens that stand in raw text are split like other text.
        cls_last: Whether the last of several special tokens with the id `cls_id` is meant, not the first.
    """

    context_first: bool
    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    prefix_types: tuple[int, ...]
    middle_types: tuple[int, ...]
    suffix_types: tuple[int, ...]
    first_type: int
    second_type: int
    pad_left: bool
    pad_id: int
    pad_type: int
    cls_id: int
    memory_read_ids: tuple[int, ...] = ()
    memory_write_ids: tuple[int, ...] = ()
    split_special_tokens: bool = False
    cls_last: bool = False

    @property
    def num_memory_tokens(self) -> int:
        """Number of memory slots."""
        return len(self.memory_read_ids)

    @property
    def overhead(self) -> int:
        """Tokens of a row that are neither context nor question nor padding."""
        return len(self.prefix) + len(self.middle) + len(self.suffix) + 2 * self.num_memory_tokens

    @property
    def empty_cls_index(self) -> int:
        """Position of ``cls`` in a row without context and question, counted from its first token."""
        between = (-1,) * self.num_memory_tokens
        row = self.prefix + between + self.middle + between + self.suffix
        return len(row) - 1 - row[::-1].index(self.cls_id) if self.cls_last else row.index(self.cls_id)

    def padded_cls_index(self, max_seq_length: int) -> int:
        """Return the position of ``cls`` in a row that holds neither context nor question."""
        return self.empty_cls_index + (max_seq_length - self.overhead if self.pad_left else 0)

    def check(self, settings: EncodeSettings) -> None:
        """Check that rows of the length that was asked for have room.

        Raises:
            SettingsError: No room for one token of context and one of question, or an overlap that is too large for
                any question.
        """
        room = settings.max_seq_length - self.overhead
        parts = f"{self.overhead} special and memory tokens"
        if room < 2:
            raise SettingsError(
                f"max_seq_length: expected at least {self.overhead + 2} (room for {parts}, one token of question and "
                f"one of context), found {settings.max_seq_length}"
            )
        if settings.doc_stride >= room:
            raise SettingsError(
                f"doc_stride: expected an overlap below {room} (max_seq_length {settings.max_seq_length} less "
                f"{parts}), found {settings.doc_stride}; doc_stride is the overlap of two segments"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the layout as JSON values; `cls_last` only where it is true, so that other layouts stay the same."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return values if self.cls_last else {name: value for name, value in values.items() if name != "cls_last"}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "RowLayout":
        """Read what `to_json` gave.

        Raises:
            TypeError: A field is missing or unknown.
        """
        fields: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in values.items()}
        return cls(**fields)
