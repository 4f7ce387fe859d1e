"""The names and the version of the tables: plain values, importable without pyarrow."""

SCHEMA_VERSION = 2
"""Version of the tables. A change that an older reader would misread raises it."""

TABLES = ("features", "documents", "contexts")
"""The published tables, in the order in which they refer to each other."""

DROPPED = "dropped"
"""The report that travels with each chunk: the examples that gave no document."""

ALIGNMENTS = ("exact", "repaired", "dropped", "unanswerable", "unlabelled", "yes_no", "number")
"""The values of ``documents.alignment``."""
