"""The names and the version of the tables: plain values, importable without pyarrow."""

SCHEMA_VERSION = 2
"""Version of the tables. A change that an older reader would misread raises it."""

TABLES = ("features", "documents", "contexts")
"""The published tables, in the order in which they refer to each other."""

KEPT = "kept"
"""The optional table: further fields of the examples, one row per document."""

RESERVED = frozenset(
    {
        "id",
        "question",
        "context",
        "answers",
        "answer_text",
        "answer_start",
        "answer_kind",
        "is_impossible",
        "question_token_starts",
        "question_token_stops",
        "first_segment",
        "num_segments",
        "answer_texts",
        "answer_starts",
        "chosen_answer",
        "answer_char_start",
        "answer_char_stop",
        "answer_token_start",
        "answer_token_stop",
        "num_answer_segments",
        "alignment",
        "alignment_detail",
        "contradiction",
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "start_positions",
        "end_positions",
        "document",
        "segment_index",
        "cls_index",
        "context_token_start",
        "context_token_count",
        "context_row_start",
        "question_row_start",
        "has_answer_in_segment",
        "example_id",
        "example_ids",
        "total_segments",
        "offset_mapping",
        "context_mask",
        "has_answer",
        "chosen_answer_text",
        "chosen_answer_char_span",
        "mem_read_start",
        "mem_write_start",
        "document_mask",
        "reset",
        "is_last",
        "num_active",
        "rows",
        "boundary_info",
        "segment_index_in_doc",
        "all_valid_answers",
    }
)
"""Names that no kept column may have: fields of examples, columns of the tables, and what rows and steps hold."""

DROPPED = "dropped"
"""The report that travels with each chunk: the examples that gave no document."""

ALIGNMENTS = ("exact", "repaired", "dropped", "unanswerable", "unlabelled", "yes_no", "number")
"""The values of ``documents.alignment``."""
