"""The columns of the three tables: features, documents and contexts.

All columns are non-null. There are no bools (they are bit-packed, so no tensor can lie over them) and no dictionaries
(they cannot change between the batches of a file); flags are int8 and text is large_string.
"""

import pyarrow as pa

from arrow_schemas.names import DROPPED, TABLES


def _field(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _fixed_list(item: pa.DataType, size: int) -> pa.DataType:
    return pa.list_(_field("item", item), size)


def _list(item: pa.DataType) -> pa.DataType:
    return pa.large_list(_field("item", item))


def features_schema(max_seq_length: int) -> pa.Schema:
    """Return the features table: one row per segment, fixed-width columns only.

    Args:
        max_seq_length: Tokens in a row, padding included.

    Returns:
        The schema without metadata. ``start_positions`` and ``end_positions`` are token indices in the row, both
        inclusive; ``document`` is a row of documents; the ``context_*`` and ``question_*`` columns say which of the
        context's tokens the row holds and where context and question begin in it.
    """
    return pa.schema(
        [
            _field("input_ids", _fixed_list(pa.int32(), max_seq_length)),
            _field("attention_mask", _fixed_list(pa.int8(), max_seq_length)),
            _field("token_type_ids", _fixed_list(pa.int8(), max_seq_length)),
            _field("start_positions", pa.int64()),
            _field("end_positions", pa.int64()),
            _field("document", pa.int64()),
            _field("segment_index", pa.int32()),
            _field("cls_index", pa.int32()),
            _field("context_token_start", pa.int32()),
            _field("context_token_count", pa.int32()),
            _field("context_row_start", pa.int32()),
            _field("question_row_start", pa.int32()),
            _field("has_answer_in_segment", pa.int8()),
        ]
    )


def documents_schema() -> pa.Schema:
    """Return the documents table: one row per example, with the golds as given and the span that was chosen.

    Character and token spans are half-open and -1 where there is no span; characters are Unicode code points of the
    context as the source gave it, tokens are tokens of the context. ``alignment`` is one of `arrow_schemas.ALIGNMENTS`;
    ``contradiction`` says what contradicts itself in the labels of the source, and is empty where nothing does.
    """
    return pa.schema(
        [
            _field("id", pa.large_string()),
            _field("question", pa.large_string()),
            _field("question_token_starts", _list(pa.int32())),
            _field("question_token_stops", _list(pa.int32())),
            _field("context", pa.int64()),
            _field("first_segment", pa.int64()),
            _field("num_segments", pa.int32()),
            _field("answer_texts", _list(pa.large_string())),
            _field("answer_starts", _list(pa.int32())),
            _field("chosen_answer", pa.int32()),
            _field("answer_char_start", pa.int32()),
            _field("answer_char_stop", pa.int32()),
            _field("answer_token_start", pa.int32()),
            _field("answer_token_stop", pa.int32()),
            _field("num_answer_segments", pa.int32()),
            _field("alignment", pa.large_string()),
            _field("alignment_detail", pa.large_string()),
            _field("contradiction", pa.large_string()),
        ]
    )


def contexts_schema() -> pa.Schema:
    """Return the contexts table: one row per distinct context of the cache, in order of first use."""
    return pa.schema(
        [
            _field("text", pa.large_string()),
            _field("token_starts", _list(pa.int32())),
            _field("token_stops", _list(pa.int32())),
        ]
    )


def dropped_schema() -> pa.Schema:
    """Return the report of a chunk's dropped examples: their row in the source, their id and the reason."""
    return pa.schema([_field("row", pa.int64()), _field("id", pa.large_string()), _field("reason", pa.large_string())])


def table_schema(table: str, max_seq_length: int) -> pa.Schema:
    """Return the schema of a table by name, without metadata.

    Raises:
        ValueError: `table` is not a table of a cache.
    """
    if table == "features":
        return features_schema(max_seq_length)
    if table == "documents":
        return documents_schema()
    if table == "contexts":
        return contexts_schema()
    if table == DROPPED:
        return dropped_schema()
    raise ValueError(f"table: expected one of {', '.join((*TABLES, DROPPED))}, found {table!r}")
